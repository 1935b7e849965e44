/* SHA-256: bytes to digest, block by block of 64. One round function in plain C and one with the
 * SHA extensions of x86-64, which do four rounds in two instructions. */
#include "codegen/sha256.h"

#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

/* The first 32 bits of the fractions of the cube roots of the first 64 primes. */
static const uint32_t round_words[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static uint32_t read_word(const unsigned char *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return __builtin_bswap32(word);
}

void kiln_sha256_blocks_plain(uint32_t state[8], const unsigned char *data, size_t n_blocks)
{
    for (; n_blocks; n_blocks--, data += 64) {
        uint32_t w[64], s[8];
        for (int i = 0; i < 16; i++) w[i] = read_word(data + 4 * i);
        for (int i = 16; i < 64; i++) {
            uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
                   (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
        }
        memcpy(s, state, sizeof s);
        for (int i = 0; i < 64; i++) {
            uint32_t e = s[4], a = s[0];
            uint32_t choice = (e & s[5]) ^ (~e & s[6]);
            uint32_t majority = (a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]);
            uint32_t one = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choice +
                           round_words[i] + w[i];
            uint32_t two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority;
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += one;
            s[0] = one + two;
        }
        for (int i = 0; i < 8; i++) state[i] += s[i];
    }
}

/* The instructions keep the state as (a b e f) and (c d g h), highest lane first. */
__attribute__((target("sha,sse4.1,ssse3"))) static void
blocks_fast(uint32_t state[8], const unsigned char *data, size_t n_blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);
    for (; n_blocks; n_blocks--, data += 64) {
        __m128i w[4], abef_before = abef, cdgh_before = cdgh;
        for (int i = 0; i < 4; i++) {
            __m128i raw = _mm_loadu_si128((const __m128i *)(data + 16 * i));
            w[i] = _mm_shuffle_epi8(raw, swap);
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i words = w[i & 3];
            __m128i keyed =
                _mm_add_epi32(words, _mm_loadu_si128((const __m128i *)(round_words + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, keyed);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(keyed, 0x0e));
            if (i >= 12) continue;
            __m128i last = w[(i + 3) & 3];
            __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(words, w[(i + 1) & 3]),
                                        _mm_alignr_epi8(last, w[(i + 2) & 3], 4));
            w[i & 3] = _mm_sha256msg2_epu32(sum, last);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    low = _mm_shuffle_epi32(abef, 0x1b);
    high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

/* cpuid is slow in a virtual machine: asked once a call, and calls bring many blocks. */
static bool has_instructions(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSE4_1) || !(c & bit_SSSE3)) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 29);
}

void kiln_sha256_blocks(uint32_t state[8], const unsigned char *data, size_t n_blocks)
{
    if (has_instructions()) {
        blocks_fast(state, data, n_blocks);
    } else {
        kiln_sha256_blocks_plain(state, data, n_blocks);
    }
}

void kiln_sha256_init(kiln_sha256 *sha)
{
    *sha = (kiln_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                   0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void kiln_sha256_add(kiln_sha256 *sha, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    size_t held = sha->bytes % 64;
    sha->bytes += bytes;
    if (held && held + bytes >= 64) {
        memcpy(sha->block + held, at, 64 - held);
        kiln_sha256_blocks(sha->state, sha->block, 1);
        at += 64 - held;
        bytes -= 64 - held;
        held = 0;
    }
    if (bytes >= 64) {
        kiln_sha256_blocks(sha->state, at, bytes / 64);
        at += bytes / 64 * 64;
        bytes %= 64;
    }
    if (bytes) memcpy(sha->block + held, at, bytes);
}

void kiln_sha256_finish(kiln_sha256 *sha, unsigned char out_digest[KILN_SHA256_BYTES])
{
    static const unsigned char padding[64] = {0x80};
    uint64_t bits = __builtin_bswap64(sha->bytes * 8);
    size_t held = sha->bytes % 64;
    kiln_sha256_add(sha, padding, held < 56 ? 56 - held : 120 - held);
    kiln_sha256_add(sha, &bits, 8);
    for (int i = 0; i < 8; i++) {
        uint32_t word = __builtin_bswap32(sha->state[i]);
        memcpy(out_digest + 4 * i, &word, 4);
    }
}

void kiln_sha256_of(const void *data, size_t bytes, unsigned char out_digest[KILN_SHA256_BYTES])
{
    kiln_sha256 sha;
    kiln_sha256_init(&sha);
    kiln_sha256_add(&sha, data, bytes);
    kiln_sha256_finish(&sha, out_digest);
}
