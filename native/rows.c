// SPDX-License-Identifier: Apache-2.0
/*
 * rows.c - lines of text from tables of bytes.
 *
 * A table of a million entries is a million lines in whatever format was asked for. This is the one
 * loop they all share: a *row program*, a short list of operations built by ctctl/out/rowtext.py, is
 * run once a row over matrices of bytes as the kernel gave them. It knows no format and no entry.
 *
 * An operation reads a field: so many bytes at a place of one of the matrices, or one of the *numbers*
 * of the row, which other operations made before. Nothing outside is read or written: ``checked`` holds
 * every operation to the width of its matrix before the first row; before a row is begun there is room
 * for the longest it can be (``row_limit``), so that nothing is checked within it; short texts are copied
 * 16 bytes at a time, over their end, for which literals and texts have 16 bytes of slack behind them.
 */
#include <stdint.h>
#include <string.h>

#include "hash.h"

enum rows_op_kind {
	ROWS_NOTHING,	/* only the literal before it */
	ROWS_DECIMAL,	/* an unsigned number */
	ROWS_SIGNED,	/* an int64 */
	ROWS_HEX,	/* an unsigned number, ``count`` digits at the least */
	ROWS_BYTES,	/* the field's bytes as hex */
	ROWS_IPV4,	/* four bytes in network order */
	ROWS_IPV6,	/* sixteen; with ROWS_MAPPED ::ffff:a.b.c.d is a.b.c.d, with ROWS_DOTTED it keeps its prefix */
	ROWS_TEXT,	/* the number'th of the texts: ``places`` has (start, length) pairs, ``limit`` of them */
	ROWS_DURATION,	/* an int64 of seconds, without its sign: ``1d2h``, its ``count`` largest units */
	ROWS_COPY,	/* the field's bytes as they lie: for keys of groups */
	ROWS_NUMBER,	/* an unsigned number as eight bytes in network order: the same */
	ROWS_LITTLE,	/* an unsigned number as ``count`` bytes, 8 at most, the lowest first */
	ROWS_CELL,	/* what follows up to ROWS_END is a cell of ``count`` characters */
	ROWS_END,	/* pad the cell with spaces: after it, or before it with ROWS_RIGHT */
	ROWS_UNLESS,	/* skip the next ``count`` operations unless (number & mask) == want; ROWS_NOT: if */

	/* What makes the row's number ``to``, which is 0 at its beginning. */
	ROWS_TEST,	/* bit ``count`` of it: (number & mask) == want; ROWS_NOT: !=; ROWS_BELOW: < want */
	ROWS_TAKE,	/* more of its bits: (number & mask) << count */
	ROWS_GREATEST,	/* the greater of it and the number */
	ROWS_SECONDS,	/* the number in seconds (units of 256/mask where mask is not 0) - want; ROWS_NOT: want - it */
	ROWS_FIND,	/* which of ``limit`` - 1 or fewer keys of ``width`` bytes in ``texts`` the field is, from 1 */
};

enum rows_op_flags {
	ROWS_BIG = 1 << 0,	/* the number is in network order */
	ROWS_NOT = 1 << 1,
	ROWS_RIGHT = 1 << 2,
	ROWS_MAPPED = 1 << 3,
	ROWS_DOTTED = 1 << 4,
	ROWS_BELOW = 1 << 5,
};

#define ROWS_MATRICES 4	/* of bytes; the matrix behind them is the row's numbers */
#define ROWS_NUMBERS 32

struct rows_op {
	uint32_t kind;
	uint32_t flags;
	uint32_t matrix;	/* where the field is */
	uint32_t at[2];		/* its first byte: usually, and in rows that the chooser picks */
	uint32_t width;		/* its bytes; of a number 1, 2, 4 or 8 */
	uint32_t count;		/* digits, units, characters, operations, bits; of a text the longest length */
	uint32_t to;
	uint64_t mask;
	uint64_t want;
	uint64_t limit;		/* of ROWS_FIND the slots of the hash table ``places``, a power of two */
	const uint8_t *texts;
	const uint32_t *places;
	const uint8_t *before;	/* a literal that stands before what the operation writes */
	uint64_t before_size;
};

struct rows_matrix {
	const uint8_t *base;
	uint64_t stride;	/* bytes of a row */
};

struct rows_run {
	const struct rows_op *ops;
	uint64_t op_count;
	struct rows_matrix matrices[ROWS_MATRICES];
	uint64_t matrix_rows;	/* of each matrix */
	uint64_t chooser;	/* the byte of the first matrix that picks, with its mask; no mask: no row is picked */
	uint64_t chooser_mask;
	const int64_t *order;	/* which rows, in which order; NULL: all, as they lie */
	uint64_t rows;
	uint64_t row;		/* in and out: the next one */
	uint8_t *out;
	uint64_t out_size;
	uint64_t out_used;	/* out */
	uint64_t missing;	/* out: the number whose text is missing */
	int64_t missing_op;	/* out: of which operation, -1: none */
	uint64_t *ends;		/* out: where each row's text ends, by place in the order; NULL: not wanted */
};

#define ROWS_SUMS 4	/* of a group: how many rows, and the first three numbers of each added up */

/* Rows that have the same key, which is what the program writes: nothing, and a row is in no group. */
struct rows_groups {
	uint8_t *keys;		/* ``key_size`` bytes each */
	uint64_t *sums;		/* ROWS_SUMS each; those of groups to come are 0 */
	uint32_t *slots;	/* a hash table: a group's place from 1, 0: free; more than twice as many as there are groups */
	uint64_t key_size;
	uint64_t slot_count;	/* a power of two */
	uint64_t room;
	uint64_t used;
};

/* The enums, structures and functions of this library as a number: whoever loads it asks whether they know them so. */
const uint32_t ctctl_interface = INTERFACE;

#define ABSENT UINT32_MAX
#define NUMBER_SIZE 20
#define IPV6_SIZE 46
#define DURATION_SIZE 32
#define SLACK 16

static const char hex_digits[] = "0123456789abcdef";
static char pairs[200];
static uint8_t octet_size[256];
static char octets[256][4];

__attribute__((constructor)) static void make_tables(void)
{
	for (int i = 0; i < 100; i++) {
		pairs[2 * i] = (char)('0' + i / 10);
		pairs[2 * i + 1] = (char)('0' + i % 10);
	}
	for (int i = 0; i < 256; i++) {
		int size = 0;

		if (i >= 100)
			octets[i][size++] = (char)('0' + i / 100);
		if (i >= 10)
			octets[i][size++] = (char)('0' + i / 10 % 10);
		octets[i][size++] = (char)('0' + i % 10);
		octet_size[i] = (uint8_t)size;
	}
}

static inline uint64_t load(const uint8_t *at, uint32_t width, int big)
{
	uint64_t number = 0;
	uint32_t word;
	uint16_t half;

	switch (width) {
	case 1:
		return *at;
	case 2:
		memcpy(&half, at, 2);
		return big ? __builtin_bswap16(half) : half;
	case 4:
		memcpy(&word, at, 4);
		return big ? __builtin_bswap32(word) : word;
	default:
		memcpy(&number, at, 8);
		return big ? __builtin_bswap64(number) : number;
	}
}

static inline uint8_t *put_text(uint8_t *at, const uint8_t *text, uint64_t size)
{
	uint64_t done = 0;

	do
		memcpy(at + done, text + done, SLACK);
	while ((done += SLACK) < size);
	return at + size;
}

/* Below 10,000. */
static inline uint8_t *put_short(uint8_t *at, uint32_t number)
{
	if (number >= 100) {
		uint32_t high = number / 100;

		if (high >= 10) {
			memcpy(at, pairs + 2 * high, 2);
			at += 2;
		} else {
			*at++ = (uint8_t)('0' + high);
		}
		memcpy(at, pairs + 2 * (number % 100), 2);
		return at + 2;
	}
	if (number >= 10) {
		memcpy(at, pairs + 2 * number, 2);
		return at + 2;
	}
	*at = (uint8_t)('0' + number);
	return at + 1;
}

static inline uint8_t *put_four(uint8_t *at, uint32_t number)
{
	memcpy(at, pairs + 2 * (number / 100), 2);
	memcpy(at + 2, pairs + 2 * (number % 100), 2);
	return at + 4;
}

static uint8_t *put_long(uint8_t *at, uint64_t number)
{
	uint64_t high = number / 100000000;
	uint32_t low = (uint32_t)(number % 100000000);

	if (high) {
		at = high < 10000 ? put_short(at, (uint32_t)high) : put_long(at, high);
		at = put_four(at, low / 10000);
	} else {
		at = put_short(at, low / 10000);
	}
	return put_four(at, low % 10000);
}

static inline uint8_t *put_decimal(uint8_t *at, uint64_t number)
{
	return number < 10000 ? put_short(at, (uint32_t)number) : put_long(at, number);
}

/* The ``units`` largest units of a number of seconds that are not 0. */
static uint8_t *put_duration(uint8_t *at, uint64_t seconds, uint32_t units)
{
	static const uint32_t sizes[] = {86400, 3600, 60};
	const uint8_t *start = at;

	for (int i = 0; i < 3 && units; i++) {
		if (seconds < sizes[i])
			continue;
		at = put_decimal(at, seconds / sizes[i]);
		*at++ = (uint8_t)"dhm"[i];
		seconds %= sizes[i];
		units--;
	}
	if ((seconds && units) || at == start) {
		at = put_short(at, (uint32_t)seconds);
		*at++ = 's';
	}
	return at;
}

static inline uint8_t *put_hex(uint8_t *at, uint64_t number, uint32_t digits)
{
	while (digits < 16 && number >> (4 * digits))
		digits++;
	while (digits--)
		*at++ = (uint8_t)hex_digits[number >> (4 * digits) & 15];
	return at;
}

static inline uint8_t *put_ipv4(uint8_t *at, const uint8_t *address)
{
	for (int i = 0; i < 4; i++) {
		memcpy(at, octets[address[i]], 4);
		at += octet_size[address[i]];
		*at++ = '.';
	}
	return at - 1;
}

/* RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups as "::". */
static uint8_t *put_ipv6(uint8_t *at, const uint8_t *address, uint32_t flags)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
	int best = -1, best_size = 1;

	if ((flags & (ROWS_MAPPED | ROWS_DOTTED)) && !memcmp(address, prefix, sizeof(prefix))) {
		if (flags & ROWS_DOTTED) {
			memcpy(at, "::ffff:", 7);
			at += 7;
		}
		return put_ipv4(at, address + 12);
	}
	for (int i = 0; i < 8;) {
		int end = i;

		while (end < 8 && !address[2 * end] && !address[2 * end + 1])
			end++;
		if (end - i > best_size) {
			best = i;
			best_size = end - i;
		}
		i = end > i ? end : i + 1;
	}
	for (int i = 0; i < 8; i++) {
		if (i == best) {
			*at++ = ':';
			if (!i)
				*at++ = ':';
			i += best_size - 1;
			continue;
		}
		at = put_hex(at, (uint64_t)address[2 * i] << 8 | address[2 * i + 1], 1);
		if (i < 7)
			*at++ = ':';
	}
	return at;
}

/* Characters of UTF-8 text: bytes that do not continue another. Reads to the end of the last eight bytes. */
static inline uint64_t characters(const uint8_t *from, const uint8_t *to)
{
	uint64_t count = (uint64_t)(to - from), word;

	for (; from < to; from += 8) {
		memcpy(&word, from, 8);
		if (to - from < 8)
			word &= ((uint64_t)1 << (8 * (to - from))) - 1;
		word &= 0x8080808080808080;
		if (word) {
			uint64_t second;

			memcpy(&second, from, 8);
			count -= (uint64_t)__builtin_popcountll(word & ~(second << 1));
		}
	}
	return count;
}

/* ``count`` spaces, and up to a slack more. */
static inline void put_spaces(uint8_t *at, uint64_t count)
{
	uint64_t done = 0;

	do
		memset(at + done, ' ', SLACK);
	while ((done += SLACK) < count);
}

/* ctctl/out/rowtables.py has the same, for filling ``places``. */
static inline uint64_t hash_of(const uint8_t *key, uint32_t width)
{
	uint64_t number = load(key, width < 8 ? width : 8, 0);

	if (width == 16)
		number = number * 31 + load(key + 8, 8, 0);
	number *= 0x9e3779b97f4a7c15;
	return number >> 32;
}

static inline int64_t find(const struct rows_op *op, const uint8_t *key)
{
	uint64_t slot = hash_of(key, op->width);

	for (uint64_t tries = 0; tries < op->limit; tries++, slot++) {
		uint32_t place = op->places[slot & (op->limit - 1)];

		if (!place)
			return 0;
		if (!memcmp(op->texts + (uint64_t)(place - 1) * op->width, key, op->width))
			return place;
	}
	return 0;
}

static inline int64_t seconds_of(uint64_t time, const struct rows_op *op)
{
	uint64_t seconds = time;

	if (op->mask)
		seconds = time >> 56 ? (uint64_t)(((unsigned __int128)time << 8) / op->mask) : (time << 8) / op->mask;

	return (int64_t)(op->flags & ROWS_NOT ? op->want - seconds : seconds - op->want);
}

/* Whether every operation stays within what it is given. */
static int checked(const struct rows_run *run)
{
	if (run->chooser_mask && run->chooser >= run->matrices[0].stride)
		return 0;
	for (uint64_t i = 0; i < run->op_count; i++) {
		const struct rows_op *op = &run->ops[i];
		uint64_t stride = op->matrix == ROWS_MATRICES ? 8 * ROWS_NUMBERS : 0;

		if (op->matrix > ROWS_MATRICES || op->to >= ROWS_NUMBERS)
			return 0;
		if (op->matrix < ROWS_MATRICES)
			stride = run->matrices[op->matrix].stride;
		if ((uint64_t)op->at[0] + op->width > stride || (uint64_t)op->at[1] + op->width > stride)
			return 0;
		switch (op->kind) {
		case ROWS_NOTHING:
		case ROWS_CELL:
		case ROWS_END:
		case ROWS_BYTES:
		case ROWS_COPY:
			break;
		case ROWS_UNLESS:
			if (op->count >= run->op_count - i)
				return 0;
			__attribute__((fallthrough));
		case ROWS_DECIMAL:
		case ROWS_HEX:
		case ROWS_TEXT:
		case ROWS_NUMBER:
		case ROWS_LITTLE:
		case ROWS_TEST:
		case ROWS_TAKE:
		case ROWS_GREATEST:
		case ROWS_SECONDS:
			if ((op->width != 1 && op->width != 2 && op->width != 4 && op->width != 8) || op->count >> 31)
				return 0;
			break;
		case ROWS_SIGNED:
		case ROWS_DURATION:
			if (op->width != 8)
				return 0;
			break;
		case ROWS_IPV4:
			if (op->width != 4)
				return 0;
			break;
		case ROWS_IPV6:
			if (op->width != 16)
				return 0;
			break;
		case ROWS_FIND:
			if ((op->width != 2 && op->width != 4 && op->width != 8 && op->width != 16) ||
			    (op->limit & (op->limit - 1)))
				return 0;
			break;
		default:
			return 0;
		}
		if ((op->kind == ROWS_TEST || op->kind == ROWS_TAKE) && op->count > 63)
			return 0;
		if (op->kind == ROWS_LITTLE && op->count > 8)
			return 0;
	}
	return 1;
}

/* The longest a row can be, with what copies write over its end. */
static uint64_t row_limit(const struct rows_run *run)
{
	uint64_t limit = 3 * SLACK;

	for (uint64_t i = 0; i < run->op_count; i++) {
		const struct rows_op *op = &run->ops[i];

		limit += op->before_size;
		switch (op->kind) {
		case ROWS_DECIMAL:
		case ROWS_SIGNED:
			limit += NUMBER_SIZE + 1;
			break;
		case ROWS_HEX:
			limit += op->count > 16 ? op->count : 16;
			break;
		case ROWS_BYTES:
		case ROWS_COPY:
		case ROWS_NUMBER:
			limit += 2 * (uint64_t)op->width + 8;
			break;
		case ROWS_IPV4:
		case ROWS_IPV6:
			limit += IPV6_SIZE;
			break;
		case ROWS_DURATION:
			limit += DURATION_SIZE;
			break;
		case ROWS_LITTLE:
			limit += 8;
			break;
		case ROWS_TEXT:
		case ROWS_CELL:
			limit += op->count;
			break;
		}
	}
	return limit;
}

/* One row. False where a text is missing, which ``run`` then names. */
static inline int put_row(struct rows_run *run, uint64_t row, uint8_t **out, int64_t *numbers)
{
	const uint8_t *starts[ROWS_MATRICES + 1];
	uint8_t *at = *out, *cell = at;
	uint64_t width = 0, number, shown, pad;
	int picked;

	memset(numbers, 0, ROWS_NUMBERS * sizeof(*numbers));
	for (int i = 0; i < ROWS_MATRICES; i++)
		starts[i] = run->matrices[i].base + row * run->matrices[i].stride;
	starts[ROWS_MATRICES] = (const uint8_t *)numbers;
	picked = run->chooser_mask && (starts[0][run->chooser] & run->chooser_mask);

	for (const struct rows_op *op = run->ops, *end = op + run->op_count; op < end; op++) {
		const uint8_t *from = starts[op->matrix] + op->at[picked];

		if (op->before_size)
			at = put_text(at, op->before, op->before_size);
		switch (op->kind) {
		case ROWS_DECIMAL:
			at = put_decimal(at, load(from, op->width, op->flags & ROWS_BIG));
			break;
		case ROWS_SIGNED:
			number = load(from, 8, 0);
			if (number >> 63) {
				*at++ = '-';
				number = -number;
			}
			at = put_decimal(at, number);
			break;
		case ROWS_HEX:
			at = put_hex(at, load(from, op->width, op->flags & ROWS_BIG), op->count);
			break;
		case ROWS_BYTES:
			for (uint32_t byte = 0; byte < op->width; byte++)
				at = put_hex(at, from[byte], 2);
			break;
		case ROWS_IPV4:
			at = put_ipv4(at, from);
			break;
		case ROWS_IPV6:
			at = put_ipv6(at, from, op->flags);
			break;
		case ROWS_TEXT:
			number = load(from, op->width, op->flags & ROWS_BIG);
			if (number >= op->limit || op->places[2 * number] == ABSENT) {
				run->missing = number;
				run->missing_op = op - run->ops;
				return 0;
			}
			at = put_text(at, op->texts + op->places[2 * number], op->places[2 * number + 1]);
			break;
		case ROWS_DURATION:
			number = load(from, 8, 0);
			at = put_duration(at, number >> 63 ? -number : number, op->count);
			break;
		case ROWS_COPY:
			memcpy(at, from, op->width);
			at += op->width;
			break;
		case ROWS_NUMBER:
			number = __builtin_bswap64(load(from, op->width, op->flags & ROWS_BIG));
			memcpy(at, &number, 8);
			at += 8;
			break;
		case ROWS_LITTLE:
			number = load(from, op->width, op->flags & ROWS_BIG);
			memcpy(at, &number, 8);
			at += op->count;
			break;
		case ROWS_CELL:
			cell = at;
			width = op->count;
			break;
		case ROWS_END:
			shown = characters(cell, at);
			if (shown >= width)
				break;
			pad = width - shown;
			if (op->flags & ROWS_RIGHT) {
				memmove(cell + pad, cell, (size_t)(at - cell));
				memset(cell, ' ', pad);
			} else {
				put_spaces(at, pad);
			}
			at += pad;
			break;
		case ROWS_UNLESS:
			number = load(from, op->width, op->flags & ROWS_BIG);
			if (((number & op->mask) == op->want) == !!(op->flags & ROWS_NOT))
				op += op->count;
			break;
		case ROWS_TEST:
			number = load(from, op->width, op->flags & ROWS_BIG);
			shown = op->flags & ROWS_BELOW ? number < op->want : (number & op->mask) == op->want;
			numbers[op->to] |= (int64_t)((shown ^ !!(op->flags & ROWS_NOT)) << op->count);
			break;
		case ROWS_TAKE:
			number = load(from, op->width, op->flags & ROWS_BIG) & op->mask;
			numbers[op->to] |= (int64_t)(number << op->count);
			break;
		case ROWS_GREATEST:
			number = load(from, op->width, op->flags & ROWS_BIG);
			if (number > (uint64_t)numbers[op->to])
				numbers[op->to] = (int64_t)number;
			break;
		case ROWS_SECONDS:
			numbers[op->to] = seconds_of(load(from, op->width, op->flags & ROWS_BIG), op);
			break;
		case ROWS_FIND:
			numbers[op->to] = find(op, from);
			break;
		default:
			break;
		}
	}
	*out = at;
	return 1;
}

/*
 * Write rows from ``run->row`` on until all are done, the buffer is full, or a text is missing. Returns 0, or
 * -1 with nothing more written where an operation or the order goes beyond the matrices.
 */
int ctctl_rows(struct rows_run *run)
{
	uint8_t *at = run->out, *end = run->out + run->out_size;
	uint64_t limit = row_limit(run);
	int64_t numbers[ROWS_NUMBERS];
	int result = 0;

	run->missing_op = -1;
	run->out_used = 0;
	if (!checked(run))
		return -1;
	for (; run->row < run->rows && (uint64_t)(end - at) >= limit; run->row++) {
		uint64_t row = run->order ? (uint64_t)run->order[run->row] : run->row;

		if (row >= run->matrix_rows) {
			result = -1;
			break;
		}
		if (!put_row(run, row, &at, numbers))
			break;
		if (run->ends)
			run->ends[run->row] = (uint64_t)(at - run->out);
	}
	run->out_used = (uint64_t)(at - run->out);
	return result;
}

/* The slot of a key: where its group's place is, or where it would be. */
static inline uint32_t *group_slot(const struct rows_groups *groups, const uint8_t *key, uint64_t slot)
{
	for (;; slot++) {
		uint32_t *found = &groups->slots[slot & (groups->slot_count - 1)];

		if (!*found || !memcmp(groups->keys + (*found - 1) * groups->key_size, key, groups->key_size))
			return found;
	}
}

/* Find the places of all groups anew, in empty slots. */
void ctctl_groups_place(struct rows_groups *groups)
{
	for (uint64_t i = 0; i < groups->used; i++) {
		const uint8_t *key = groups->keys + i * groups->key_size;

		*group_slot(groups, key, key_hash(key, groups->key_size, 0)) = (uint32_t)i + 1;
	}
}

/* Rows whose slots are asked for from memory before the first of them is looked at. */
#define AHEAD 32

struct keyed {
	uint64_t hash;
	uint64_t row;		/* in the run */
	uint64_t more[ROWS_SUMS - 1];
};

/*
 * The keys of up to AHEAD rows from ``run->row`` on, beside each other in ``run->out``. Returns how many, 0 when
 * all rows are done, and -1 for a key of another size.
 */
static int key_rows(struct rows_run *run, const struct rows_groups *groups, struct keyed *rows)
{
	int64_t numbers[ROWS_NUMBERS];
	uint8_t *key = run->out;
	int count = 0;

	for (uint64_t row = run->row; row < run->rows && count < AHEAD; row++) {
		uint8_t *at = key;

		if (!put_row(run, row, &at, numbers))
			return -1;
		run->row = row + 1;
		if (at == key)
			continue;
		if ((uint64_t)(at - key) != groups->key_size)
			return -1;
		rows[count].hash = key_hash(key, groups->key_size, 0);
		rows[count].row = row;
		memcpy(rows[count].more, numbers, sizeof(rows[count].more));
		__builtin_prefetch(&groups->slots[rows[count].hash & (groups->slot_count - 1)]);
		key = at;
		count++;
	}
	return count;
}

/* Whether the operations stay within the matrices, and there is room for the keys of AHEAD rows. */
static int keys_fit(struct rows_run *run, const struct rows_groups *groups)
{
	run->missing_op = -1;
	return checked(run) && run->out_size >= AHEAD * groups->key_size + row_limit(run);
}

/*
 * Add rows to their groups from ``run->row`` on, until all are done or there is no room for another group.
 * ``run->out`` is where keys are written. Returns as ctctl_rows, and -1 for a key of another size.
 */
int ctctl_groups(struct rows_run *run, struct rows_groups *groups)
{
	struct keyed rows[AHEAD];
	int count;

	if (!keys_fit(run, groups))
		return -1;
	while ((count = key_rows(run, groups, rows)) > 0) {
		for (int i = 0; i < count; i++) {
			const uint8_t *key = run->out + (uint64_t)i * groups->key_size;
			uint32_t *slot = group_slot(groups, key, rows[i].hash);
			uint64_t *sums;

			if (!*slot) {
				if (groups->used == groups->room) {
					run->row = rows[i].row;
					return 0;
				}
				memcpy(groups->keys + groups->used * groups->key_size, key, groups->key_size);
				*slot = (uint32_t)++groups->used;
			}
			sums = groups->sums + (uint64_t)(*slot - 1) * ROWS_SUMS;
			sums[0]++;
			for (int which = 1; which < ROWS_SUMS; which++)
				sums[which] += rows[i].more[which - 1];
		}
	}
	return count;
}

/*
 * Which group each row from ``run->row`` on is in, without making any: its place from 1, 0: none. Returns as
 * ctctl_rows, and -1 for a key of another size.
 */
int ctctl_groups_find(struct rows_run *run, const struct rows_groups *groups, uint32_t *places)
{
	struct keyed rows[AHEAD];
	int count;

	if (!keys_fit(run, groups))
		return -1;
	while ((count = key_rows(run, groups, rows)) > 0)
		for (int i = 0; i < count; i++)
			places[rows[i].row] = *group_slot(groups, run->out + (uint64_t)i * groups->key_size, rows[i].hash);
	return count;
}

/* Whether group ``a`` comes before ``b``: it has more rows, or as many and the lower key. */
static int before(const struct rows_groups *groups, uint32_t a, uint32_t b)
{
	uint64_t rows_a = groups->sums[(uint64_t)a * ROWS_SUMS], rows_b = groups->sums[(uint64_t)b * ROWS_SUMS];

	if (rows_a != rows_b)
		return rows_a > rows_b;
	return memcmp(groups->keys + a * groups->key_size, groups->keys + b * groups->key_size, groups->key_size) < 0;
}

static void sift_down(const struct rows_groups *groups, uint32_t *heap, uint64_t size, uint64_t at)
{
	for (;;) {
		uint64_t child = 2 * at + 1;
		uint32_t held = heap[at];

		if (child >= size)
			return;
		if (child + 1 < size && before(groups, heap[child], heap[child + 1]))
			child++;
		if (before(groups, heap[child], held))
			return;
		heap[at] = heap[child];
		heap[child] = held;
		at = child;
	}
}

/* The first ``limit`` (``used`` or fewer) groups in order, by their numbers from 0. A heap whose root is the last of them. */
void ctctl_groups_first(const struct rows_groups *groups, uint32_t *first, uint64_t limit)
{
	for (uint64_t i = 0; i < limit; i++)
		first[i] = (uint32_t)i;
	for (uint64_t i = limit / 2; i-- > 0;)
		sift_down(groups, first, limit, i);
	for (uint64_t i = limit; limit && i < groups->used; i++) {
		if (before(groups, (uint32_t)i, first[0])) {
			first[0] = (uint32_t)i;
			sift_down(groups, first, limit, 0);
		}
	}
	for (uint64_t size = limit; size > 1; size--) {
		uint32_t last = first[0];

		first[0] = first[size - 1];
		first[size - 1] = last;
		sift_down(groups, first, size - 1, 0);
	}
}
