/* SHA-256 (FIPS 180-4): what names and guards entries of the cache. Uses the CPU's instructions for
 * it where there are some; the digest is the same. */
#ifndef KILN_CODEGEN_SHA256_H
#define KILN_CODEGEN_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define KILN_SHA256_BYTES 32

typedef struct kiln_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    unsigned char block[64]; /* the last bytes % 64 of them */
} kiln_sha256;

void kiln_sha256_init(kiln_sha256 *sha);
void kiln_sha256_add(kiln_sha256 *sha, const void *data, size_t bytes);
void kiln_sha256_finish(kiln_sha256 *sha, unsigned char out_digest[KILN_SHA256_BYTES]);

/* The digest of one piece. */
void kiln_sha256_of(const void *data, size_t bytes, unsigned char out_digest[KILN_SHA256_BYTES]);
/* The same without special instructions, for tests. */
void kiln_sha256_blocks_plain(uint32_t state[8], const unsigned char *data, size_t n_blocks);
void kiln_sha256_blocks(uint32_t state[8], const unsigned char *data, size_t n_blocks);
#endif
