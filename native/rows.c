// SPDX-License-Identifier: Apache-2.0
/*
 * rows.c - lines of text from columns of bytes.
 *
 * A table of a million entries is a million lines in whatever format was asked for. This is the one
 * loop they all share: a *row program*, a short list of operations built by ctctl/out/rowtext.py, is
 * run once a row over columns that lie in memory as numpy has them. It knows no format and no entry.
 *
 * Before a row is begun there is room for the longest it can be (``row_limit``), so that nothing is
 * checked within it; short texts are copied 16 bytes at a time, over their end, for which literals and
 * texts have 16 bytes of slack behind them.
 */
#include <stdint.h>
#include <string.h>

enum rows_op_kind {
	ROWS_NOTHING,	/* only the literal before it */
	ROWS_DECIMAL,	/* an unsigned number */
	ROWS_SIGNED,	/* an int64 */
	ROWS_HEX,	/* an unsigned number, ``count`` digits at the least */
	ROWS_BYTES,	/* ``count`` bytes as hex */
	ROWS_IPV4,	/* four bytes in network order */
	ROWS_IPV6,	/* sixteen; with ROWS_MAPPED ::ffff:a.b.c.d is a.b.c.d, with ROWS_DOTTED it keeps its prefix */
	ROWS_TEXT,	/* the number'th of the texts: ``places`` has (start, length) pairs, ``limit`` of them */
	ROWS_CELL,	/* what follows up to ROWS_END is a cell of ``count`` characters */
	ROWS_END,	/* pad the cell with spaces: after it, or before it with ROWS_RIGHT */
	ROWS_UNLESS,	/* skip the next ``count`` operations unless (number & mask) == want */
};

enum rows_op_flags {
	ROWS_BIG = 1 << 0,	/* the number is in network order */
	ROWS_SWAPPED = 1 << 1,	/* from ``alt`` in rows whose chooser has a bit of the mask */
	ROWS_RIGHT = 1 << 2,
	ROWS_MAPPED = 1 << 3,
	ROWS_DOTTED = 1 << 4,
};

struct rows_op {
	uint32_t kind;
	uint32_t flags;
	uint32_t width;		/* bytes of a number: 1, 2, 4 or 8 */
	uint32_t count;		/* digits, bytes, characters, operations; of a text the longest length */
	uint64_t stride;	/* bytes from one row's to the next's */
	uint64_t mask;
	uint64_t want;
	uint64_t limit;
	const uint8_t *base;
	const uint8_t *alt;
	const uint8_t *texts;
	const uint32_t *places;
	const uint8_t *before;	/* a literal that stands before what the operation writes */
	uint64_t before_size;
};

struct rows_run {
	const struct rows_op *ops;
	uint64_t op_count;
	const uint8_t *chooser;	/* a byte a row, ``chooser_stride`` apart; NULL: no operation is swapped */
	uint64_t chooser_stride;
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

#define ABSENT UINT32_MAX
#define NUMBER_SIZE 20
#define IPV6_SIZE 46
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

static inline uint8_t *put_decimal(uint8_t *at, uint64_t number)
{
	uint8_t digits[NUMBER_SIZE + SLACK];
	int first = NUMBER_SIZE;

	if (number < 10) {
		*at = (uint8_t)('0' + number);
		return at + 1;
	}
	while (number >= 100) {
		first -= 2;
		memcpy(digits + first, pairs + 2 * (number % 100), 2);
		number /= 100;
	}
	if (number >= 10) {
		first -= 2;
		memcpy(digits + first, pairs + 2 * number, 2);
	} else {
		digits[--first] = (uint8_t)('0' + number);
	}
	memcpy(at, digits + first, SLACK);
	if (first < NUMBER_SIZE - SLACK)
		memcpy(at + SLACK, digits + first + SLACK, 4);
	return at + NUMBER_SIZE - first;
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

/* Characters of UTF-8 text: bytes that do not continue another. */
static inline uint64_t characters(const uint8_t *from, const uint8_t *to)
{
	uint64_t count = (uint64_t)(to - from);

	for (; from < to; from++)
		count -= (*from & 0xc0) == 0x80;
	return count;
}

/* The longest a row can be, with what copies write over its end. */
static uint64_t row_limit(const struct rows_run *run)
{
	uint64_t limit = 2 * SLACK;

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
			limit += 2 * (uint64_t)op->count;
			break;
		case ROWS_IPV4:
		case ROWS_IPV6:
			limit += IPV6_SIZE;
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
static inline int put_row(struct rows_run *run, uint64_t row, uint8_t **out)
{
	uint8_t *at = *out, *cell = at;
	int swapped = run->chooser && (run->chooser[row * run->chooser_stride] & run->chooser_mask);
	uint64_t width = 0, number, shown, pad;

	for (uint64_t i = 0; i < run->op_count; i++) {
		const struct rows_op *op = &run->ops[i];
		const uint8_t *from = (swapped && (op->flags & ROWS_SWAPPED) ? op->alt : op->base) + row * op->stride;

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
			for (uint32_t byte = 0; byte < op->count; byte++)
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
				run->missing_op = (int64_t)i;
				return 0;
			}
			at = put_text(at, op->texts + op->places[2 * number], op->places[2 * number + 1]);
			break;
		case ROWS_CELL:
			cell = at;
			width = op->count;
			break;
		case ROWS_END:
			shown = characters(cell, at);
			pad = shown < width ? width - shown : 0;
			if (op->flags & ROWS_RIGHT) {
				memmove(cell + pad, cell, (size_t)(at - cell));
				memset(cell, ' ', pad);
			} else {
				memset(at, ' ', pad);
			}
			at += pad;
			break;
		case ROWS_UNLESS:
			if ((load(from, op->width, op->flags & ROWS_BIG) & op->mask) != op->want)
				i += op->count;
			break;
		default:
			break;
		}
	}
	*out = at;
	return 1;
}

/* Write rows from ``run->row`` on until all are done, the buffer is full, or a text is missing. */
void ctctl_rows(struct rows_run *run)
{
	uint8_t *at = run->out, *end = run->out + run->out_size;
	uint64_t limit = row_limit(run);

	run->missing_op = -1;
	for (; run->row < run->rows && (uint64_t)(end - at) >= limit; run->row++) {
		uint64_t row = run->order ? (uint64_t)run->order[run->row] : run->row;

		if (!put_row(run, row, &at))
			break;
		if (run->ends)
			run->ends[run->row] = (uint64_t)(at - run->out);
	}
	run->out_used = (uint64_t)(at - run->out);
}
