/* SPDX-License-Identifier: Apache-2.0 */
/* buf: a growable byte buffer with a maximum, for writing.
 *
 * The first failure sticks (err) and later writes do nothing, so that a writer checks once at the
 * end. Always NUL-terminated behind n once anything was written, so text may be used as a C
 * string. */
#ifndef JR_BASE_BUF_H
#define JR_BASE_BUF_H

#include "base/err.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

struct jr_buf {
    uint8_t *p;
    size_t n;
    size_t cap;
    size_t max; /* most bytes it may hold */
    int err;    /* 0, JR_ELIMIT or JR_ENOMEM */
};

/* Decimal digits of v, without a NUL, to ret, which has room for JR_DIGITS_MAX; their number. */
#define JR_DIGITS_MAX 20
size_t jr_digits(uint64_t v, char *ret);

void jr_buf_init(struct jr_buf *b, size_t max);
void jr_buf_deinit(struct jr_buf *b);
void jr_buf_clear(struct jr_buf *b);             /* keeps the memory, clears err */
void jr_buf_consume(struct jr_buf *b, size_t n); /* drops the first n bytes */
/* Room for n more bytes, so that what is written piece by piece need not grow piece by piece. */
void jr_buf_reserve(struct jr_buf *b, size_t n);
void jr_buf_put(struct jr_buf *b, const void *p, size_t n);
void jr_buf_puts(struct jr_buf *b, const char *s);
void jr_buf_u8(struct jr_buf *b, uint8_t v);
void jr_buf_be16(struct jr_buf *b, uint16_t v);
void jr_buf_be32(struct jr_buf *b, uint32_t v);
void jr_buf_be64(struct jr_buf *b, uint64_t v);
void jr_buf_digits(struct jr_buf *b, uint64_t v); /* decimal; where printf would be felt */
void jr_buf_printf(struct jr_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void jr_buf_vprintf(struct jr_buf *b, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
/* s as the inside of a JSON string, without the quotes; bad UTF-8 becomes U+FFFD. */
void jr_buf_json_escape(struct jr_buf *b, const char *s, size_t n);
/* s as valid UTF-8: what is none becomes U+FFFD. */
void jr_buf_utf8(struct jr_buf *b, const char *s, size_t n);
/* "…" with the quotes; NULL writes null. */
void jr_buf_json_str(struct jr_buf *b, const char *s);
/* The bytes as jr_xalloc'ed memory (returns owned) and the buffer empty; *ret_n their count. */
uint8_t *jr_buf_take(struct jr_buf *b, size_t *ret_n);
const char *jr_buf_str(const struct jr_buf *b); /* "" when empty */

#endif
