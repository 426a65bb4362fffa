// SPDX-License-Identifier: Apache-2.0
/*
 * lines.c - tables of bytes from text.
 *
 * The other way round of rows.c: a *form*, a short list of operations built by ctctl/tables/sources/regular.py, is run
 * once a record over text as a program wrote it, and fills a row of fixed size. It knows no listing. Text that is
 * not of the form ends the run in front of that record: a careful reader looks at it, and the run goes on behind it.
 *
 * Nothing outside is read or written: ``checked`` holds every operation to the row before the first one, and every
 * operation looks for the end of the text before it looks at a byte.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include "hash.h"

enum lines_op_kind {
	LINES_LITERAL,	/* ``text`` */
	LINES_BLANKS,	/* spaces and tabs, ``count`` at the least */
	LINES_DECIMAL,	/* up to ``count`` digits, no more than ``limit``; LINES_MINUS: also below 0, as an int64 */
	LINES_HEX,	/* the same in hex digits, of either case */
	LINES_BYTES,	/* ``width`` bytes of two hex digits each */
	LINES_ADDRESS,	/* sixteen bytes in network order, IPv4 in the first four, and the family behind them */
	LINES_WORD,	/* one of the ``count`` words of ``text`` (size, number, letters): its number, a byte */
	LINES_NAMES,	/* ``count`` or fewer words of up to 20 letters, a blank behind each */
	LINES_TEXT,	/* up to ``width`` - 1 printable characters before the one that ``limit`` is (0: a blank or the line's end); their number comes first */
	LINES_VALUE,	/* any value of JSON without an escape in it, of a few levels */
	LINES_TOKEN,	/* letters, digits, points, lines and strokes, the first of them a letter or a digit */
	LINES_ITEMS,	/* any number of lines of ``text`` and a token */
	LINES_NEXT,	/* ``text`` follows; it is left where it is */
	LINES_MAYBE,	/* the ``count`` operations that follow, or none of them; a byte says which. If so, ``limit`` more are left out */
	LINES_CHECK,	/* the byte is ``limit``; LINES_NOT: it is not */
	LINES_SAME,	/* the byte is the one at ``limit`` */
	LINES_END,	/* blanks, and the line's end */
};

enum lines_op_flags {
	LINES_BIG = 1 << 0,	/* stored in network order */
	LINES_MINUS = 1 << 1,
	LINES_NOT = 1 << 2,
	LINES_STRICT = 1 << 4,	/* a number has no zero in front of other digits, as in JSON */
	LINES_PORT = 1 << 3,	/* an address has a colon and a port behind it, two bytes in host order behind the family */
};

struct lines_op {
	uint32_t kind;
	uint32_t flags;
	uint32_t at;		/* where in the row it is stored */
	uint32_t width;		/* in how many bytes */
	uint32_t count;
	uint32_t unused;
	uint64_t limit;
	const uint8_t *text;
	uint64_t size;
};

struct lines_run {
	const struct lines_op *ops;
	uint64_t op_count;
	const uint8_t *data;
	uint64_t size;
	uint64_t at;		/* in and out: where the next record starts */
	uint8_t *rows;
	uint64_t row_size;
	uint64_t room;
	uint64_t used;		/* in and out: how many rows there are */
	uint64_t other_length;	/* a line of this length is left to the careful reader; 0: none is */
	uint64_t work;		/* out: the sixteenths of each record's bytes, added up */
	uint64_t padded;	/* out: how many lines had blanks at their end */
	uint64_t blanks;	/* out: how many the last one had */
};

#define ADDRESS_SIZE 17
#define MAX_ADDRESS 45
#define MAX_NAME 20
#define MAX_LEVELS 8

/* A place in the text. */
struct place {
	const uint8_t *at;
	const uint8_t *end;
	const uint8_t *start;	/* of the record */
	uint64_t blanks;	/* at the line's end */
};

static int is_blank(uint8_t byte)
{
	return byte == ' ' || byte == '\t';
}

static int is_letter(uint8_t byte)
{
	return (uint8_t)((byte | 0x20) - 'a') < 26;
}

static int hex_digit(uint8_t byte)
{
	if ((uint8_t)(byte - '0') < 10)
		return byte - '0';
	byte |= 0x20;
	return (uint8_t)(byte - 'a') < 6 ? byte - 'a' + 10 : -1;
}

static void store(uint8_t *to, uint64_t number, uint32_t width, int big)
{
	for (uint32_t i = 0; i < width; i++)
		to[big ? width - 1 - i : i] = (uint8_t)(number >> 8 * i);
}

/* Digits of a number. 0: there are none, too many, or it is beyond the limit. */
static int read_number(struct place *in, const struct lines_op *op, uint64_t base, uint64_t *number)
{
	const uint8_t *first = in->at;
	uint64_t found = 0;

	for (; in->at < in->end; in->at++) {
		int digit = hex_digit(*in->at);

		if (digit < 0 || (uint64_t)digit >= base)
			break;
		if (__builtin_mul_overflow(found, base, &found) || __builtin_add_overflow(found, (uint64_t)digit, &found))
			return 0;
	}
	*number = found;
	if (op->flags & LINES_STRICT && in->at - first > 1 && *first == '0')
		return 0;
	return in->at > first && in->at - first <= (int64_t)op->count && found <= op->limit;
}

static int take_number(struct place *in, const struct lines_op *op, uint8_t *row, uint64_t base)
{
	int minus = op->flags & LINES_MINUS && in->at < in->end && *in->at == '-';
	uint64_t number;

	in->at += minus;
	if (!read_number(in, op, base, &number))
		return 0;
	store(row + op->at, minus ? 0 - number : number, op->width, op->flags & LINES_BIG);
	return 1;
}

static int take_bytes(struct place *in, const struct lines_op *op, uint8_t *row)
{
	if ((uint64_t)(in->end - in->at) < 2 * (uint64_t)op->width)
		return 0;
	for (uint32_t i = 0; i < op->width; i++, in->at += 2) {
		int high = hex_digit(in->at[0]), low = hex_digit(in->at[1]);

		if (high < 0 || low < 0)
			return 0;
		row[op->at + i] = (uint8_t)(high << 4 | low);
	}
	return 1;
}

/* Four numbers of up to 255 without zeros in front, as inet_pton takes them. */
static int take_ipv4(const uint8_t *text, const uint8_t *end, uint8_t *to)
{
	for (int i = 0; i < 4; i++) {
		const uint8_t *first = text;
		unsigned int number = 0;

		for (; text < end && (uint8_t)(*text - '0') < 10 && text - first < 3; text++)
			number = 10 * number + (*text - '0');
		if (text == first || number > 255 || (*first == '0' && text - first > 1))
			return 0;
		to[i] = (uint8_t)number;
		if (i < 3 && (text == end || *text++ != '.'))
			return 0;
	}
	return text == end;
}

static int take_address(struct place *in, const struct lines_op *op, uint8_t *row)
{
	const uint8_t *first = in->at, *colon = NULL, *end;
	char text[MAX_ADDRESS + 1];
	uint8_t *to = row + op->at;
	int colons = 0;

	for (; in->at < in->end; in->at++) {
		if (*in->at == ':') {
			colon = in->at;
			colons++;
		} else if (*in->at != '.' && *in->at != '[' && *in->at != ']' && hex_digit(*in->at) < 0) {
			break;
		}
	}
	end = in->at;
	if (op->flags & LINES_PORT) {
		const struct lines_op port = {.count = 5, .limit = UINT16_MAX};
		struct place behind = {.at = colon ? colon + 1 : end, .end = end};
		uint64_t number;

		if (!read_number(&behind, &port, 10, &number) || behind.at != end)
			return 0;
		store(to + ADDRESS_SIZE, number, 2, 0);
		end = colon;
		colons--;
	}
	if (end - first > 2 && *first == '[' && end[-1] == ']' && colons) {
		first++;
		end--;
	}
	if (end <= first || end - first > MAX_ADDRESS)
		return 0;
	to[16] = colons ? 6 : 4;
	if (!colons)
		return take_ipv4(first, end, to);
	memcpy(text, first, (size_t)(end - first));
	text[end - first] = 0;
	return inet_pton(AF_INET6, text, to) == 1;
}

static int take_word(struct place *in, const struct lines_op *op, uint8_t *row)
{
	const uint8_t *word = op->text, *end = in->at;
	uint64_t size;

	while (end < in->end && (is_letter(*end) || (uint8_t)(*end - '0') < 10))
		end++;
	size = (uint64_t)(end - in->at);
	for (uint32_t i = 0; i < op->count; i++, word += 2 + word[0]) {
		if (word[0] == size && !memcmp(word + 2, in->at, size)) {
			row[op->at] = word[1];
			in->at = end;
			return 1;
		}
	}
	return 0;
}

static int take_names(struct place *in, const struct lines_op *op)
{
	for (uint32_t i = 0; i < op->count; i++) {
		const uint8_t *at = in->at;

		while (at < in->end && at - in->at <= MAX_NAME && is_letter(*at))
			at++;
		if (at == in->at || at - in->at > MAX_NAME || at == in->end || *at != ' ')
			return 1;
		in->at = at + 1;
	}
	return 1;
}

static int take_text(struct place *in, const struct lines_op *op, uint8_t *row)
{
	uint8_t *to = row + op->at;
	uint32_t size = 0;

	for (; in->at < in->end && *in->at != op->limit; in->at++) {
		if (!op->limit && (is_blank(*in->at) || *in->at == '\r' || *in->at == '\n'))
			break;
		if (*in->at < ' ' || *in->at > '~' || size + 1 >= op->width)
			return 0;
		/* In JSON the one ends a string, and the other is not what it looks like. */
		if (op->flags & LINES_STRICT && (*in->at == '"' || *in->at == '\\'))
			return 0;
		to[++size] = *in->at;
	}
	to[0] = (uint8_t)size;
	return in->at < in->end;
}

/* Up to the end of a string without an escape, behind its first mark. */
static int past_string(struct place *in)
{
	for (; in->at < in->end && *in->at >= ' ' && *in->at <= '~' && *in->at != '\\'; in->at++)
		if (*in->at == '"') {
			in->at++;
			return 1;
		}
	return 0;
}

/* One scalar: a string, a number as JSON has it, true, false, null. */
static int past_scalar(struct place *in)
{
	static const char *const words[] = {"true", "false", "null"};
	const uint8_t *first = in->at;
	uint64_t left = (uint64_t)(in->end - in->at);

	if (!left)
		return 0;
	if (*in->at == '"') {
		in->at++;
		return past_string(in);
	}
	for (int i = 0; i < 3; i++) {
		uint64_t size = strlen(words[i]);

		if (left >= size && !memcmp(in->at, words[i], size)) {
			in->at += size;
			return 1;
		}
	}
	in->at += *in->at == '-';
	first = in->at;
	while (in->at < in->end && (uint8_t)(*in->at - '0') < 10)
		in->at++;
	if (in->at == first || in->at - first > 20 || (*first == '0' && in->at - first > 1))
		return 0;
	return in->at < in->end && *in->at != '.' && (*in->at | 0x20) != 'e';
}

static int take_value(struct place *in);

/* The inside of a list, or of an object, behind its bracket. */
static int past_members(struct place *in, uint8_t close, int level)
{
	for (int first = 1;; first = 0) {
		while (in->at < in->end && (is_blank(*in->at) || *in->at == '\n'))
			in->at++;
		if (in->at == in->end)
			return 0;
		if (*in->at == close && first) {
			in->at++;
			return 1;
		}
		if (close == '}') {
			if (*in->at++ != '"' || !past_string(in) || in->at == in->end || *in->at++ != ':')
				return 0;
			while (in->at < in->end && is_blank(*in->at))
				in->at++;
		}
		if (in->at == in->end)
			return 0;
		if (*in->at == '[' || *in->at == '{') {
			uint8_t bracket = *in->at++;

			if (level == MAX_LEVELS || !past_members(in, bracket == '[' ? ']' : '}', level + 1))
				return 0;
		} else if (!past_scalar(in)) {
			return 0;
		}
		while (in->at < in->end && (is_blank(*in->at) || *in->at == '\n'))
			in->at++;
		if (in->at == in->end)
			return 0;
		if (*in->at == close) {
			in->at++;
			return 1;
		}
		if (*in->at++ != ',')
			return 0;
	}
}

static int take_value(struct place *in)
{
	if (in->at < in->end && (*in->at == '[' || *in->at == '{')) {
		uint8_t bracket = *in->at++;

		return past_members(in, bracket == '[' ? ']' : '}', 1);
	}
	return past_scalar(in);
}

static int take_token(struct place *in)
{
	const uint8_t *first = in->at;

	for (; in->at < in->end; in->at++) {
		uint8_t byte = *in->at;

		if (!is_letter(byte) && (uint8_t)(byte - '0') >= 10 &&
		    (in->at == first || (byte != '.' && byte != '_' && byte != '-')))
			break;
	}
	return in->at > first;
}

static int take_items(struct place *in, const struct lines_op *op)
{
	while (op->size && (uint64_t)(in->end - in->at) >= op->size && !memcmp(in->at, op->text, op->size)) {
		struct place next = *in;

		next.at += op->size;
		if (!take_token(&next) || next.at == next.end || *next.at != '\n')
			return 0;
		in->at = next.at + 1;
	}
	return 1;
}

static int take_end(struct place *in)
{
	const uint8_t *first = in->at;

	while (in->at < in->end && is_blank(*in->at))
		in->at++;
	in->blanks = (uint64_t)(in->at - first);
	if (in->end - in->at >= 2 && in->at[0] == '\r' && in->at[1] == '\n')
		in->at++;
	return in->at < in->end && *in->at++ == '\n';
}

static int take(const struct lines_op *op, struct place *in, uint8_t *row)
{
	const uint8_t *first = in->at;

	switch (op->kind) {
	case LINES_LITERAL:
		if ((uint64_t)(in->end - in->at) < op->size || (op->size && memcmp(in->at, op->text, op->size)))
			return 0;
		in->at += op->size;
		return 1;
	case LINES_BLANKS:
		/* LINES_STRICT: a string of JSON has no tab in it. */
		while (in->at < in->end && (*in->at == ' ' || (*in->at == '\t' && !(op->flags & LINES_STRICT))))
			in->at++;
		return in->at - first >= (int64_t)op->count;
	case LINES_DECIMAL:
		return take_number(in, op, row, 10);
	case LINES_HEX:
		return take_number(in, op, row, 16);
	case LINES_BYTES:
		return take_bytes(in, op, row);
	case LINES_ADDRESS:
		return take_address(in, op, row);
	case LINES_WORD:
		return take_word(in, op, row);
	case LINES_NAMES:
		return take_names(in, op);
	case LINES_TEXT:
		return take_text(in, op, row);
	case LINES_VALUE:
		return take_value(in);
	case LINES_NEXT:
		return (uint64_t)(in->end - in->at) >= op->size && !memcmp(in->at, op->text, op->size);
	case LINES_TOKEN:
		return take_token(in);
	case LINES_ITEMS:
		return take_items(in, op);
	case LINES_CHECK:
		return (row[op->at] == op->limit) ^ !!(op->flags & LINES_NOT);
	case LINES_SAME:
		return row[op->at] == row[op->limit];
	case LINES_END:
		return take_end(in);
	default:
		return 0;
	}
}

/* One record from ``in`` on; 0: the text is not of the form. */
static int take_record(const struct lines_run *run, struct place *in, uint8_t *row)
{
	const struct lines_op *end = run->ops + run->op_count;

	for (const struct lines_op *op = run->ops; op < end; op++) {
		if (op->kind == LINES_MAYBE) {
			const struct lines_op *after = op + 1 + op->count, *part = op + 1;
			struct place here = *in;

			while (part < after && take(part, in, row))
				part++;
			row[op->at] = part == after;
			if (part < after)
				*in = here;
			op = part < after ? after - 1 : after - 1 + op->limit;
		} else if (!take(op, in, row)) {
			return 0;
		}
	}
	return 1;
}

/* How many bytes of the row an operation stores. */
static uint64_t stored(const struct lines_op *op)
{
	switch (op->kind) {
	case LINES_DECIMAL:
	case LINES_HEX:
		return op->width <= 8 ? op->width : UINT32_MAX;
	case LINES_BYTES:
	case LINES_TEXT:
		return op->width;
	case LINES_ADDRESS:
		return ADDRESS_SIZE + (op->flags & LINES_PORT ? 2 : 0);
	case LINES_WORD:
	case LINES_MAYBE:
	case LINES_CHECK:
	case LINES_SAME:
		return 1;
	default:
		return 0;
	}
}

static int words_fit(const struct lines_op *op)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < op->count; i++) {
		if (op->size - at < 2 || op->size - at - 2 < op->text[at])
			return 0;
		at += 2 + op->text[at];
	}
	return 1;
}

/* Whether every operation stays within the row, and there are no parts within parts. */
static int checked(const struct lines_run *run)
{
	for (uint64_t i = 0; i < run->op_count; i++) {
		const struct lines_op *op = &run->ops[i];

		if (op->kind > LINES_END || (uint64_t)op->at + stored(op) > run->row_size)
			return 0;
		if (op->kind == LINES_TEXT && (!op->width || op->width > 256))
			return 0;
		if (op->kind == LINES_SAME && op->limit >= run->row_size)
			return 0;
		if (op->kind == LINES_WORD && !words_fit(op))
			return 0;
		if (op->kind != LINES_MAYBE)
			continue;
		if (op->limit > run->op_count || i + op->count + op->limit >= run->op_count)
			return 0;
		for (uint32_t part = 1; part <= op->count; part++)
			if (run->ops[i + part].kind == LINES_MAYBE)
				return 0;
	}
	return run->at <= run->size && run->used <= run->room;
}

/*
 * Fill rows from the text at ``run->at`` until there is no room, or text that is not of the form, which may be as
 * it has no end yet. Returns 0, or -1 where an operation goes beyond the row.
 */
int ctctl_lines_read(struct lines_run *run)
{
	struct place in = {.at = run->data + run->at, .end = run->data + run->size};

	run->work = run->padded = 0;
	if (!checked(run))
		return -1;
	while (run->used < run->room) {
		uint8_t *row = run->rows + run->used * run->row_size;
		struct place next = in;

		memset(row, 0, run->row_size);
		next.start = in.at;
		next.blanks = 0;
		if (!take_record(run, &next, row))
			break;
		if (run->other_length) {
			const uint8_t *end = next.at - 1;

			end -= end > next.start && end[-1] == '\r';
			if ((uint64_t)(end - next.start) == run->other_length)
				break;
		}
		run->work += (uint64_t)(next.at - 1 - next.start) >> 4;
		run->padded += next.blanks > 0;
		run->blanks = next.blanks;
		run->used++;
		in = next;
	}
	run->at = (uint64_t)(in.at - run->data);
	return 0;
}

struct lines_keys {
	const uint8_t *keys;	/* ``count`` of ``size`` bytes each */
	uint64_t size;
	uint64_t count;		/* below 2^32 */
	uint32_t *slots;	/* 0 before */
	uint64_t slot_count;	/* a power of two above ``count`` */
	uint64_t seed;
	uint8_t *keep;		/* out: a byte for each key, whether it is the one that stays */
	uint32_t *like;		/* out: for each key the number of the one like it that stays; NULL: not wanted */
};

/* Of each key the first one stays, or with ``last`` the last one. Returns how many are there. */
uint64_t ctctl_lines_keep(const struct lines_keys *all, int last)
{
	uint64_t kept = 0;

	for (uint64_t i = 0; i < all->count; i++) {
		uint64_t which = last ? all->count - 1 - i : i;
		const uint8_t *key = all->keys + which * all->size;
		uint64_t slot = key_hash(key, all->size, all->seed);
		uint32_t *found;

		for (;; slot++) {
			found = &all->slots[slot & (all->slot_count - 1)];
			if (!*found || !memcmp(all->keys + (uint64_t)(*found - 1) * all->size, key, all->size))
				break;
		}
		all->keep[which] = !*found;
		kept += !*found;
		if (!*found)
			*found = (uint32_t)which + 1;
		if (all->like)
			all->like[which] = *found - 1;
	}
	return kept;
}
