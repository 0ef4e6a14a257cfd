/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cursor.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct jr_cursor jr_cursor_of(const void *p, size_t n)
{
    return (struct jr_cursor){p, n};
}

int jr_cursor_bytes(struct jr_cursor *c, size_t n, const uint8_t **ret)
{
    if (n > c->n)
        return JR_ETRUNC;
    *ret = c->p;
    if (n) {
        c->p += n;
        c->n -= n;
    }
    return 0;
}

static int read_be(struct jr_cursor *c, unsigned bytes, uint64_t *ret)
{
    const uint8_t *p;
    uint64_t v = 0;

    if (jr_cursor_bytes(c, bytes, &p) < 0)
        return JR_ETRUNC;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    *ret = v;
    return 0;
}

static int read_le(struct jr_cursor *c, unsigned bytes, uint64_t *ret)
{
    const uint8_t *p;
    uint64_t v = 0;

    if (jr_cursor_bytes(c, bytes, &p) < 0)
        return JR_ETRUNC;
    for (unsigned i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    *ret = v;
    return 0;
}

int jr_cursor_u8(struct jr_cursor *c, uint8_t *ret)
{
    uint64_t v;

    if (read_be(c, 1, &v) < 0)
        return JR_ETRUNC;
    *ret = (uint8_t)v;
    return 0;
}

int jr_cursor_be16(struct jr_cursor *c, uint16_t *ret)
{
    uint64_t v;

    if (read_be(c, 2, &v) < 0)
        return JR_ETRUNC;
    *ret = (uint16_t)v;
    return 0;
}

int jr_cursor_be32(struct jr_cursor *c, uint32_t *ret)
{
    uint64_t v;

    if (read_be(c, 4, &v) < 0)
        return JR_ETRUNC;
    *ret = (uint32_t)v;
    return 0;
}

int jr_cursor_be64(struct jr_cursor *c, uint64_t *ret)
{
    return read_be(c, 8, ret);
}

int jr_cursor_le32(struct jr_cursor *c, uint32_t *ret)
{
    uint64_t v;

    if (read_le(c, 4, &v) < 0)
        return JR_ETRUNC;
    *ret = (uint32_t)v;
    return 0;
}

int jr_cursor_le64(struct jr_cursor *c, uint64_t *ret)
{
    return read_le(c, 8, ret);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int jr_parse_u64(const char *s, size_t n, uint64_t *ret)
{
    uint64_t v = 0;

    if (n == 0)
        return JR_EINVAL;
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(s[i]))
            return JR_EINVAL;
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
            return JR_EINVAL;
    }
    *ret = v;
    return 0;
}

int jr_parse_i64(const char *s, size_t n, int64_t *ret)
{
    bool minus = n > 0 && s[0] == '-';
    uint64_t v;

    if (minus) {
        s++;
        n--;
    }
    if (jr_parse_u64(s, n, &v) < 0 || v > (uint64_t)INT64_MAX + (minus ? 1 : 0))
        return JR_EINVAL;
    /* In two steps, since -(int64_t)v overflows at INT64_MIN. */
    *ret = minus && v > 0 ? -(int64_t)(v - 1) - 1 : (int64_t)v;
    return 0;
}

int jr_parse_hex64(const char *s, size_t n, uint64_t *ret)
{
    uint64_t v = 0;

    if (n == 0 || n > 16)
        return JR_EINVAL;
    for (size_t i = 0; i < n; i++) {
        unsigned digit;
        if (is_digit(s[i]))
            digit = (unsigned)(s[i] - '0');
        else if (s[i] >= 'a' && s[i] <= 'f')
            digit = (unsigned)(s[i] - 'a') + 10;
        else if (s[i] >= 'A' && s[i] <= 'F')
            digit = (unsigned)(s[i] - 'A') + 10;
        else
            return JR_EINVAL;
        v = v << 4 | digit;
    }
    *ret = v;
    return 0;
}

static size_t skip_digits(const char *s, size_t n, size_t i)
{
    while (i < n && is_digit(s[i]))
        i++;
    return i;
}

/* -?digits[.digits][(e|E)[+-]digits]; one side of the point may be missing. strtod alone would also
 * take spaces, hex, inf and nan. */
static bool is_decimal(const char *s, size_t n)
{
    size_t i = 0, start, digits;

    if (i < n && s[i] == '-')
        i++;
    start = i;
    i = skip_digits(s, n, i);
    digits = i - start;
    if (i < n && s[i] == '.') {
        start = ++i;
        i = skip_digits(s, n, i);
        digits += i - start;
    }
    if (digits == 0)
        return false;
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        if (i < n && (s[i] == '+' || s[i] == '-'))
            i++;
        start = i;
        i = skip_digits(s, n, i);
        if (i == start)
            return false;
    }
    return i == n;
}

int jr_parse_f64(const char *s, size_t n, double *ret)
{
    char text[128];
    double v;

    if (n >= sizeof text || !is_decimal(s, n))
        return JR_EINVAL;
    memcpy(text, s, n);
    text[n] = '\0';
    v = strtod(text, NULL);
    if (!isfinite(v))
        return JR_EINVAL;
    *ret = v;
    return 0;
}
