/* SPDX-License-Identifier: Apache-2.0 */
/* A block of 64 bytes becomes words with a bit for each byte:
 *
 *     bytes   1 5 0 2 , _ 7 , _ 4 4 1 ,
 *     digit   1 1 1 1 0 0 1 0 0 1 1 1 0
 *     begin   1 0 0 0 0 0 1 0 0 1 0 0 0
 *     end     0 0 0 0 1 0 0 1 0 0 0 0 1
 *
 * Whether the block is plain is then a few operations on words, and the places of its numbers come
 * by taking the lowest bit off: no number waits for the one before it. */
#include "wire/digits.h"

#include <stdbool.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK      64
#define WORD       8              /* digits that one load takes */
#define LEFT_LEAST (BLOCK + WORD) /* a load may begin at a block's last byte */
#define AT_ONCE    2              /* numbers between two looks at how many are left */
#define ROOM_LEAST (BLOCK / 2)    /* numbers of one block, rounded up to AT_ONCE */
#define TOP        (UINT64_C(1) << 63)

struct masks {
    uint64_t digit, zero, comma, space;
};

#ifdef __SSE2__
static uint64_t bits(__m128i x, size_t at)
{
    return (uint64_t)(uint32_t)_mm_movemask_epi8(x) << at;
}

static struct masks masks_of(const char *p)
{
    struct masks m = {0};
    for (size_t at = 0; at < BLOCK; at += sizeof(__m128i)) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(p + at));
        const __m128i v = _mm_sub_epi8(x, _mm_set1_epi8('0'));
        m.digit |= bits(_mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(9)), v), at);
        m.zero |= bits(_mm_cmpeq_epi8(x, _mm_set1_epi8('0')), at);
        m.comma |= bits(_mm_cmpeq_epi8(x, _mm_set1_epi8(',')), at);
        m.space |= bits(_mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8(' ')),
                                     _mm_cmpeq_epi8(x, _mm_set1_epi8('\n'))),
                        at);
    }
    return m;
}
#else
static struct masks masks_of(const char *p)
{
    struct masks m = {0};
    for (int i = 0; i < BLOCK; i++) {
        m.digit |= (uint64_t)((unsigned char)(p[i] - '0') <= 9) << i;
        m.zero |= (uint64_t)(p[i] == '0') << i;
        m.comma |= (uint64_t)(p[i] == ',') << i;
        m.space |= (uint64_t)(p[i] == ' ' || p[i] == '\n') << i;
    }
    return m;
}
#endif

/* The number of the first n (1 to 8) bytes at p, which are digits: pairs, then fours, then all. */
static inline uint32_t number_at(const char *p, unsigned n)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w = __builtin_bswap64(w);
#endif
    w = (w << ((64 - 8 * n) & 63)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    w = (w * 2561) >> 8 & UINT64_C(0x00ff00ff00ff00ff);
    w = (w * 6553601) >> 16 & UINT64_C(0x0000ffff0000ffff);
    return (uint32_t)((w * UINT64_C(42949672960001)) >> 32);
}

/* Behind each number a comma, all else white space; no number with a leading zero or too long. */
static bool is_plain(const struct masks *m, uint64_t begins, uint64_t ends)
{
    uint64_t long_run = m->digit & m->digit >> 1;
    long_run &= long_run >> 2;
    long_run &= long_run >> 4;
    long_run &= m->digit >> WORD;
    const uint64_t leading = m->zero & begins & m->digit >> 1;
    const uint64_t odd = (ends & ~m->comma) | (~m->digit & ~ends & ~m->space);
    return (m->digit & 1) != 0 && (long_run | leading | odd) == 0;
}

/* The numbers of one block behind which another begins. Returns where the last one begins, which is
 * not read. Writes AT_ONCE numbers at a time, some perhaps in vain. */
static unsigned read_block(const char *p, uint32_t *dst, uint32_t *ret_n)
{
    const struct masks m = masks_of(p);
    uint64_t begins = m.digit & ~(m.digit << 1), ends = ~m.digit & m.digit << 1;
    if (!is_plain(&m, begins, ends)) {
        return 0;
    }
    const uint32_t n = (uint32_t)__builtin_popcountll(begins) - 1;
    const unsigned last = 63 - (unsigned)__builtin_clzll(begins);
    for (uint32_t i = 0; i < n; i += AT_ONCE) {
        for (uint32_t k = i; k < i + AT_ONCE; k++) {
            const unsigned begin = (unsigned)__builtin_ctzll(begins | TOP);
            dst[k] = number_at(p + begin, (unsigned)__builtin_ctzll(ends | TOP) - begin);
            begins &= begins - 1;
            ends &= ends - 1;
        }
    }
    *ret_n = n;
    return last;
}

size_t jr_digits_u32s(const char *p, size_t n, uint32_t max, uint32_t *dst, uint32_t *ret_n)
{
    size_t at = 0;
    uint32_t got = 0, more = 0;
    unsigned read = 1;
    while (read > 0 && n - at >= LEFT_LEAST && max - got >= ROOM_LEAST) {
        read = read_block(p + at, dst + got, &more);
        got += read > 0 ? more : 0;
        at += read;
    }
    *ret_n = got;
    return at;
}
