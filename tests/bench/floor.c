// SPDX-License-Identifier: Apache-2.0
/*
 * floor.c - what the work costs in C, as the measure for ctctl's commands.
 *
 *	floor read PIN                batch lookups, everything thrown away
 *	floor format PIN              batch lookups, the Cilium CLI's lines to stdout
 *	floor gc-batch PIN NOW        batch lookups, batch deletes of the expired
 *	floor count PIN OBJECT        for-each in the kernel, count only
 *	floor tally PIN OBJECT        for-each in the kernel, count what is expired
 *	floor gc-kernel PIN OBJECT NOW  for-each in the kernel, deletes the expired
 *	floor run RESULT COMMAND...   run any command, write its wall time and peak memory to RESULT
 *
 * All but the last: one line of JSON on stderr: entries, deleted, seconds (without process start),
 * load_seconds. "run" is here because a process starts with its parent's peak memory: only a small
 * parent can measure a small child.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <ctctl/abi.h>

#define BATCH 4096
#define OUT_SIZE (1 << 20)
#define LINE_MAX_SIZE 640

typedef struct ipv4_ct_tuple key_type;
typedef struct ct_entry value_type;

static key_type keys[BATCH];
static value_type values[BATCH];
static key_type expired_keys[BATCH];

static double now_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void die(const char *what, int error)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(1);
}

static void report(const char *what, uint64_t entries, uint64_t deleted, double seconds, double load_seconds)
{
	fprintf(stderr,
		"{\"what\": \"%s\", \"entries\": %llu, \"deleted\": %llu, \"seconds\": %.6f, \"load_seconds\": %.6f}\n",
		what, (unsigned long long)entries, (unsigned long long)deleted, seconds, load_seconds);
}

/* ---- text ---------------------------------------------------------------- */

static char out[OUT_SIZE + LINE_MAX_SIZE];
static size_t out_used;
static char pairs[200];

static void flush_out(void)
{
	size_t done = 0;

	while (done < out_used) {
		ssize_t n = write(STDOUT_FILENO, out + done, out_used - done);

		if (n < 0)
			die("write", errno);
		done += (size_t)n;
	}
	out_used = 0;
}

static char *put_text(char *at, const char *text, size_t size)
{
	memcpy(at, text, size);
	return at + size;
}

#define PUT(at, literal) put_text(at, literal, sizeof(literal) - 1)

static char *put_number(char *at, uint64_t number)
{
	char digits[20];
	int first = 20;

	while (number >= 100) {
		first -= 2;
		memcpy(digits + first, pairs + 2 * (number % 100), 2);
		number /= 100;
	}
	if (number >= 10) {
		first -= 2;
		memcpy(digits + first, pairs + 2 * number, 2);
	} else {
		digits[--first] = (char)('0' + number);
	}
	return put_text(at, digits + first, (size_t)(20 - first));
}

static char *put_hex(char *at, unsigned int number, int digits)
{
	at = PUT(at, "0x");
	while (digits--)
		*at++ = "0123456789abcdef"[number >> (4 * digits) & 15];
	return at;
}

static char *put_end(char *at, uint32_t address, uint16_t port)
{
	const uint8_t *bytes = (const uint8_t *)&address;

	for (int i = 0; i < 4; i++) {
		at = put_number(at, bytes[i]);
		*at++ = i < 3 ? '.' : ':';
	}
	return put_number(at, __builtin_bswap16(port));
}

static const struct {
	const char *text;
	size_t size;
} flag_names[16] = {
#define NAME(_bit, _text) [_bit] = { _text " ", sizeof(_text) }
	NAME(0, "RxClosing"), NAME(1, "TxClosing"), NAME(2, "Nat64"),	NAME(3, "LBLoopback"),
	NAME(4, "SeenNonSyn"), NAME(5, "NodePort"), NAME(6, "ProxyRedirect"), NAME(7, "DSRInternal"),
	NAME(8, "FromL7LB"), NAME(10, "FromTunnel"),
};

static char *put_flags(char *at, uint16_t flags)
{
	at = PUT(at, " Flags=");
	at = put_hex(at, flags, 4);
	at = PUT(at, " [ ");
	for (unsigned int left = flags & 0x5ff; left; left &= left - 1) {
		int bit = __builtin_ctz(left);

		at = put_text(at, flag_names[bit].text, flag_names[bit].size);
	}
	if (flags & 0xf800) {
		at = PUT(at, "Unknown=");
		at = put_hex(at, flags & 0xf800, 4);
		*at++ = ' ';
	}
	*at++ = ']';
	return at;
}

static char *put_protocol(char *at, uint8_t number)
{
	switch (number) {
	case 1:
		return PUT(at, "ICMP ");
	case 6:
		return PUT(at, "TCP ");
	case 17:
		return PUT(at, "UDP ");
	case 58:
		return PUT(at, "ICMPv6 ");
	case 132:
		return PUT(at, "SCTP ");
	default:
		at = put_number(at, number);
		*at++ = ' ';
		return at;
	}
}

static char *put_line(char *at, const key_type *key, const value_type *value)
{
	at = put_protocol(at, key->nexthdr);
	if (key->flags & TUPLE_SERVICE) {
		at = PUT(at, "SVC ");
		at = put_end(at, key->saddr, key->dport);
		at = PUT(at, " -> ");
		at = put_end(at, key->daddr, key->sport);
	} else {
		at = key->flags & TUPLE_IN ? PUT(at, "IN ") : PUT(at, "OUT ");
		at = put_end(at, key->daddr, key->sport);
		at = PUT(at, " -> ");
		at = put_end(at, key->saddr, key->dport);
	}
	if (key->flags & TUPLE_RELATED)
		at = PUT(at, " related");
	at = put_number(PUT(at, " expires="), value->lifetime);
	at = put_number(PUT(at, " Packets="), value->packets);
	at = put_number(PUT(at, " Bytes="), value->bytes);
	at = put_hex(PUT(at, " RxFlagsSeen="), value->rx_flags_seen, 2);
	at = put_number(PUT(at, " LastRxReport="), value->last_rx_report);
	at = put_hex(PUT(at, " TxFlagsSeen="), value->tx_flags_seen, 2);
	at = put_number(PUT(at, " LastTxReport="), value->last_tx_report);
	at = put_flags(at, value->flags);
	at = put_number(PUT(at, " RevNAT="), __builtin_bswap16(value->rev_nat_index));
	at = put_number(PUT(at, " SourceSecurityID="), value->src_sec_id);
	at = put_number(PUT(at, " IfIndex="), value->ifindex);
	at = put_number(PUT(at, " BackendID="), value->backend_id);
	return PUT(at, " \n");
}

static void format_batch(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!keys[i].nexthdr)
			continue;
		out_used = (size_t)(put_line(out + out_used, &keys[i], &values[i]) - out);
		if (out_used >= OUT_SIZE)
			flush_out();
	}
}

/* ---- batches ------------------------------------------------------------- */

static uint64_t delete_expired(int map, uint32_t count, uint32_t now)
{
	uint32_t found = 0, done = 0, gone = 0;

	for (uint32_t i = 0; i < count; i++)
		if (values[i].lifetime < now)
			expired_keys[found++] = keys[i];
	while (done < found) {
		uint32_t n = found - done;
		int error = bpf_map_delete_batch(map, expired_keys + done, &n, NULL);

		done += n;
		if (!error)
			break;
		if (error != -ENOENT)
			die("delete batch", error);
		done++;
		gone++;
	}
	return found - gone;
}

static void by_batch(const char *what, const char *pin, uint32_t now)
{
	uint64_t entries = 0, deleted = 0;
	uint32_t cursor = 0, next = 0;
	int map = bpf_obj_get(pin), error = 0, started = 0;
	double begin = now_seconds();

	if (map < 0)
		die(pin, map);
	while (error != -ENOENT) {
		uint32_t count = BATCH;

		error = bpf_map_lookup_batch(map, started ? &cursor : NULL, &next, keys, values, &count, NULL);
		if (error && error != -ENOENT)
			die("lookup batch", error);
		cursor = next;
		started = 1;
		entries += count;
		if (!strcmp(what, "format"))
			format_batch(count);
		else if (!strcmp(what, "gc-batch"))
			deleted += delete_expired(map, count, now);
	}
	if (!strcmp(what, "format")) {
		out[out_used++] = '\n';
		flush_out();
	}
	report(what, entries, deleted, now_seconds() - begin, 0);
}

/* ---- in the kernel --------------------------------------------------------- */

static void in_kernel(const char *what, const char *program, const char *pin, const char *path, uint64_t now)
{
	struct {
		uint64_t now, visited, deleted, expired;
	} request = { .now = now };
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &request, .ctx_size_in = sizeof(request));
	double begin = now_seconds(), loaded;
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	int map = bpf_obj_get(pin), error;

	if (!object)
		die(path, errno);
	if (map < 0)
		die(pin, map);
	error = bpf_map__reuse_fd(bpf_object__find_map_by_name(object, "target"), map);
	if (!error)
		error = bpf_object__load(object);
	if (error)
		die("load", error);
	loaded = now_seconds();
	error = bpf_prog_test_run_opts(bpf_program__fd(bpf_object__find_program_by_name(object, program)), &options);
	if (error)
		die("run", error);
	report(what, request.visited, request.deleted, now_seconds() - loaded, loaded - begin);
	bpf_object__close(object);
}

/* ---- any command ----------------------------------------------------------- */

static int run(const char *result, char **command)
{
	double begin = now_seconds();
	struct rusage usage;
	int status;
	FILE *file;
	pid_t child = fork();

	if (child < 0)
		die("fork", errno);
	if (!child) {
		execvp(command[0], command);
		die(command[0], errno);
	}
	while (wait4(child, &status, 0, &usage) < 0)
		if (errno != EINTR)
			die("wait", errno);
	file = fopen(result, "w");
	if (!file)
		die(result, errno);
	fprintf(file, "{\"wall_seconds\": %.6f, \"max_rss_kib\": %ld, \"cpu_seconds\": %.6f}\n", now_seconds() - begin,
		usage.ru_maxrss,
		(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6);
	fclose(file);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	for (int i = 0; i < 100; i++) {
		pairs[2 * i] = (char)('0' + i / 10);
		pairs[2 * i + 1] = (char)('0' + i % 10);
	}
	if (argc == 3 && (!strcmp(argv[1], "read") || !strcmp(argv[1], "format")))
		by_batch(argv[1], argv[2], 0);
	else if (argc == 4 && !strcmp(argv[1], "gc-batch"))
		by_batch(argv[1], argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
	else if (argc == 4 && !strcmp(argv[1], "count"))
		in_kernel("count", "count", argv[2], argv[3], 0);
	else if (argc == 4 && !strcmp(argv[1], "tally"))
		in_kernel("tally", "tally", argv[2], argv[3], 1);
	else if (argc == 5 && !strcmp(argv[1], "gc-kernel"))
		in_kernel("gc-kernel", "gc", argv[2], argv[3], strtoul(argv[4], NULL, 10));
	else if (argc > 3 && !strcmp(argv[1], "run"))
		return run(argv[2], argv + 3);
	else
		return fprintf(stderr, "floor: see the head of floor.c for usage\n"), 2;
	return 0;
}
