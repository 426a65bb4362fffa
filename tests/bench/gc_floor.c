// SPDX-License-Identifier: Apache-2.0
/*
 * The same garbage collection in C, as little as possible: what ctctl's engines are measured against.
 *
 *   gc_floor batch PIN NOW            batch lookup, test, batch delete
 *   gc_floor kernel PIN NOW OBJECT    in the kernel (gc_floor.bpf.o)
 *
 * Prints "alive deleted seconds cpu-seconds": from the open map to the last delete, loading of the program included.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEY = 14, VALUE = 56, LIFETIME = 32, BATCH = 4096 };

static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void batch_gc(int fd, uint32_t now, uint64_t *alive, uint64_t *deleted)
{
	static char keys[BATCH * KEY], values[BATCH * VALUE], expired[BATCH * KEY];
	uint32_t cursor = 0, *in = NULL, count, i, n;
	int err;

	do {
		count = BATCH;
		err = bpf_map_lookup_batch(fd, in, &cursor, keys, values, &count, NULL);
		if (err && errno != ENOENT)
			fail("lookup batch");
		in = &cursor;
		for (i = n = 0; i < count; i++) {
			uint32_t lifetime;

			memcpy(&lifetime, values + i * VALUE + LIFETIME, sizeof(lifetime));
			if (lifetime < now)
				memcpy(expired + n++ * KEY, keys + i * KEY, KEY);
		}
		*alive += count - n;
		*deleted += n;
		if (n && bpf_map_delete_batch(fd, expired, &n, NULL))
			fail("delete batch");
	} while (!err);
}

static void kernel_gc(int fd, uint32_t now, const char *path, uint64_t *alive, uint64_t *deleted)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_map *map;
	uint64_t counters[2];
	uint32_t zero = 0;
	size_t size;

	if (!object)
		fail("open object");
	memcpy((void *)bpf_map__initial_value(bpf_object__find_map_by_name(object, ".rodata"), &size), &now,
	       sizeof(now));
	bpf_map__reuse_fd(bpf_object__find_map_by_name(object, "floor_ct"), fd);
	if (bpf_object__load(object))
		fail("load object");
	if (bpf_prog_test_run_opts(bpf_program__fd(bpf_object__next_program(object, NULL)), &opts))
		fail("run program");
	map = bpf_object__find_map_by_name(object, ".bss");
	if (bpf_map_lookup_elem(bpf_map__fd(map), &zero, counters))
		fail("read counters");
	*alive = counters[0];
	*deleted = counters[1];
}

int main(int argc, char **argv)
{
	uint64_t alive = 0, deleted = 0;
	double start, cpu;
	int fd;

	if (argc < 4 || (fd = bpf_obj_get(argv[2])) < 0)
		fail("usage: gc_floor batch|kernel PIN NOW [OBJECT]");
	start = seconds(CLOCK_MONOTONIC);
	cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	if (!strcmp(argv[1], "batch"))
		batch_gc(fd, atol(argv[3]), &alive, &deleted);
	else
		kernel_gc(fd, atol(argv[3]), argv[4], &alive, &deleted);
	printf("%lu %lu %.6f %.6f\n", alive, deleted, seconds(CLOCK_MONOTONIC) - start,
	       seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	return 0;
}
