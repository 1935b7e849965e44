/* 64-bit hashing of bytes for interning (not for trust). Same bytes, same hash, on every
 * machine. */
#ifndef KILN_BASE_HASH_H
#define KILN_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define KILN_HASH_SEED 0x9e3779b97f4a7c15u

static inline uint64_t kiln_hash_u64(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0xff51afd7ed558ccdu;
    return hash ^ (hash >> 32);
}

static inline uint64_t kiln_hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (; bytes >= 8; at += 8, bytes -= 8) {
        uint64_t word;
        __builtin_memcpy(&word, at, 8);
        hash = kiln_hash_u64(hash, word);
    }
    uint64_t tail = bytes;
    for (size_t i = 0; i < bytes; i++) tail = tail << 8 | at[i];
    return kiln_hash_u64(hash, tail);
}
#endif
