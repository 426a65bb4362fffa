// SPDX-License-Identifier: Apache-2.0
/* hash.h - what keys of tables are found by. ``seed`` is nothing that a file could know, where a file has the keys. */
#ifndef CTCTL_HASH_H
#define CTCTL_HASH_H

#include <stdint.h>
#include <string.h>

static inline uint64_t mixed(uint64_t number)
{
	unsigned __int128 product = (unsigned __int128)number * 0x9e3779b97f4a7c15;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t key_hash(const uint8_t *key, uint64_t size, uint64_t seed)
{
	uint64_t hash = seed, word;

	for (; size >= 8; size -= 8, key += 8) {
		memcpy(&word, key, 8);
		hash = mixed(hash ^ word);
	}
	for (; size; size--)
		hash = mixed(hash ^ *key++);
	return hash;
}

#endif
