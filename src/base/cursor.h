/* SPDX-License-Identifier: Apache-2.0 */
/* cursor: reading hostile bytes. A pointer and what is left; every read checks, none goes past.
 * On failure nothing is consumed. Borrows the bytes. */
#ifndef JR_BASE_CURSOR_H
#define JR_BASE_CURSOR_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct jr_cursor {
    const uint8_t *p;
    size_t n;
};

struct jr_cursor jr_cursor_of(const void *p, size_t n);
JR_MUST_CHECK int jr_cursor_u8(struct jr_cursor *c, uint8_t *ret);
JR_MUST_CHECK int jr_cursor_be16(struct jr_cursor *c, uint16_t *ret);
JR_MUST_CHECK int jr_cursor_be32(struct jr_cursor *c, uint32_t *ret);
JR_MUST_CHECK int jr_cursor_be64(struct jr_cursor *c, uint64_t *ret);
JR_MUST_CHECK int jr_cursor_le32(struct jr_cursor *c, uint32_t *ret);
JR_MUST_CHECK int jr_cursor_le64(struct jr_cursor *c, uint64_t *ret);
/* *ret borrows n bytes of the input. */
JR_MUST_CHECK int jr_cursor_bytes(struct jr_cursor *c, size_t n, const uint8_t **ret);

/* Strict decimal or hex text to number, the whole of it: JR_EINVAL on anything else. */
JR_MUST_CHECK int jr_parse_u64(const char *s, size_t n, uint64_t *ret);
JR_MUST_CHECK int jr_parse_i64(const char *s, size_t n, int64_t *ret);
JR_MUST_CHECK int jr_parse_hex64(const char *s, size_t n, uint64_t *ret);
JR_MUST_CHECK int jr_parse_f64(const char *s, size_t n, double *ret);

#endif
