/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/json.h"
#include "base/cursor.h"
#include "wire/digits.h"
#include <string.h>

void jr_json_init(struct jr_json *j, const void *p, size_t n)
{
    *j = (struct jr_json){.p = n > 0 ? p : "", .first = 0, .depth = 0};
    j->start = j->p;
    j->end = j->p + n;
}

static void skip_space(struct jr_json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\r' || *j->p == '\t')) {
        j->p++;
    }
}

/* Why the text does not go on as it should at p. */
static int broken(const struct jr_json *j)
{
    return j->p >= j->end ? JR_ETRUNC : JR_EPROTO;
}

enum jr_json_type jr_json_peek(struct jr_json *j)
{
    skip_space(j);
    if (j->p >= j->end) {
        return JR_JSON_BAD;
    }
    switch (*j->p) {
    case '{':
        return JR_JSON_OBJECT;
    case '[':
        return JR_JSON_ARRAY;
    case '"':
        return JR_JSON_STR;
    case 't':
    case 'f':
        return JR_JSON_BOOL;
    case 'n':
        return JR_JSON_NULL;
    default:
        return *j->p == '-' || (*j->p >= '0' && *j->p <= '9') ? JR_JSON_NUMBER : JR_JSON_BAD;
    }
}

static int open_level(struct jr_json *j, char c)
{
    skip_space(j);
    if (j->p >= j->end || *j->p != c) {
        return broken(j);
    }
    if (j->depth == JR_JSON_DEPTH_MAX) {
        return JR_ELIMIT;
    }
    j->p++;
    j->first |= UINT64_C(1) << j->depth++;
    return 0;
}

int jr_json_object(struct jr_json *j)
{
    return open_level(j, '{');
}

int jr_json_array(struct jr_json *j)
{
    return open_level(j, '[');
}

/* To the next element of the innermost level: 1, or 0 behind its end, which is `close`. */
static int next_element(struct jr_json *j, char close)
{
    skip_space(j);
    if (j->p >= j->end || j->depth == 0) {
        return broken(j);
    }
    uint64_t bit = UINT64_C(1) << (j->depth - 1);
    if (*j->p == close) {
        j->p++;
        j->depth--;
        j->first &= ~bit;
        return 0;
    }
    if ((j->first & bit) != 0) {
        j->first &= ~bit;
        return 1;
    }
    if (*j->p != ',') {
        return JR_EPROTO;
    }
    j->p++;
    skip_space(j);
    return 1;
}

int jr_json_item(struct jr_json *j)
{
    return next_element(j, ']');
}

int jr_json_key(struct jr_json *j, struct jr_str *ret)
{
    int rv = next_element(j, '}');
    if (rv <= 0) {
        return rv;
    }
    rv = jr_json_str(j, ret);
    if (rv < 0) {
        return rv;
    }
    skip_space(j);
    if (j->p >= j->end || *j->p != ':') {
        return broken(j);
    }
    j->p++;
    return 1;
}

/* How many of the eight bytes at p come before the first control character, quote or backslash. The
 * lowest bit that is set is exact; a borrow may set others above it. */
static unsigned plain_of_8(const char *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t w;
    memcpy(&w, p, sizeof w);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w = __builtin_bswap64(w);
#endif
    const uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\';
    const uint64_t special =
        (((w - ones * 0x20) & ~w) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) &
        ones << 7;
    return special == 0 ? 8 : (unsigned)__builtin_ctzll(special) / 8;
}

/* To the first control character, quote or backslash at p or behind it, or to the end. */
static const char *find_special(const char *p, const char *end)
{
    while (end - p >= 8) {
        const unsigned n = plain_of_8(p);
        p += n;
        if (n < 8) {
            return p;
        }
    }
    while (p < end && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\') {
        p++;
    }
    return p;
}

int jr_json_str(struct jr_json *j, struct jr_str *ret)
{
    skip_space(j);
    if (j->p >= j->end || *j->p != '"') {
        return broken(j);
    }
    const char *from = j->p + 1;
    for (const char *p = find_special(from, j->end); p < j->end; p = find_special(p, j->end)) {
        if (*p == '"') {
            *ret = jr_str_of(from, (size_t)(p - from));
            j->p = p + 1;
            return 0;
        }
        if (*p != '\\') {
            return JR_EPROTO;
        }
        if (j->end - p < 2) {
            break;
        }
        p += 2;
    }
    return JR_ETRUNC;
}

static int literal(struct jr_json *j, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(j->end - j->p) < n) {
        return JR_ETRUNC;
    }
    if (memcmp(j->p, word, n) != 0) {
        return JR_EPROTO;
    }
    j->p += n;
    return 0;
}

int jr_json_bool(struct jr_json *j, bool *ret)
{
    if (jr_json_peek(j) != JR_JSON_BOOL) {
        return broken(j);
    }
    bool v = *j->p == 't';
    int rv = literal(j, v ? "true" : "false");
    if (rv == 0) {
        *ret = v;
    }
    return rv;
}

/* The bytes of a number, its grammar unchecked but for the characters. */
static int number_span(struct jr_json *j, struct jr_str *ret)
{
    if (jr_json_peek(j) != JR_JSON_NUMBER) {
        return broken(j);
    }
    const char *p = j->p;
    while (p < j->end && ((*p >= '0' && *p <= '9') || *p == '-' || *p == '+' || *p == '.' ||
                          *p == 'e' || *p == 'E')) {
        p++;
    }
    *ret = jr_str_of(j->p, (size_t)(p - j->p));
    j->p = p;
    return 0;
}

int jr_json_u64(struct jr_json *j, uint64_t *ret)
{
    struct jr_str s;
    int rv = number_span(j, &s);
    if (rv < 0) {
        return rv;
    }
    if (s.n > 1 && s.p[0] == '0') {
        return JR_EPROTO;
    }
    return jr_parse_u64(s.p, s.n, ret) < 0 ? JR_EPROTO : 0;
}

int jr_json_f64(struct jr_json *j, double *ret)
{
    struct jr_str s;
    int rv = number_span(j, &s);
    if (rv < 0) {
        return rv;
    }
    return jr_parse_f64(s.p, s.n, ret) < 0 ? JR_EPROTO : 0;
}

/* One scalar value. */
static int skip_scalar(struct jr_json *j)
{
    struct jr_str s;
    switch (jr_json_peek(j)) {
    case JR_JSON_STR:
        return jr_json_str(j, &s);
    case JR_JSON_NUMBER:
        return number_span(j, &s);
    case JR_JSON_BOOL:
        return literal(j, *j->p == 't' ? "true" : "false");
    case JR_JSON_NULL:
        return literal(j, "null");
    default:
        return broken(j);
    }
}

int jr_json_skip(struct jr_json *j)
{
    uint64_t is_object = 0; /* bit per level opened here */
    unsigned base = j->depth;
    for (;;) {
        enum jr_json_type type = jr_json_peek(j);
        int rv;
        if (type == JR_JSON_OBJECT || type == JR_JSON_ARRAY) {
            rv = open_level(j, *j->p);
            if (rv == 0) {
                uint64_t bit = UINT64_C(1) << (j->depth - 1);
                is_object = type == JR_JSON_OBJECT ? is_object | bit : is_object & ~bit;
            }
        } else {
            rv = skip_scalar(j);
        }
        /* Close every level that ends here, until one goes on. */
        int more = 0;
        while (rv == 0 && more == 0 && j->depth > base) {
            struct jr_str key;
            bool object = (is_object >> (j->depth - 1) & 1) != 0;
            more = object ? jr_json_key(j, &key) : jr_json_item(j);
            rv = more < 0 ? more : 0;
        }
        if (rv < 0 || j->depth == base) {
            return rv;
        }
    }
}

/* One whole number of 32 bits at the reader's place. */
static int read_u32(struct jr_json *j, uint32_t *ret)
{
    const char *p = j->p;
    uint64_t v = 0;
    while (p < j->end && (unsigned char)(*p - '0') <= 9 && p - j->p < 11) {
        v = v * 10 + (uint64_t)(*p++ - '0');
    }
    if (p == j->end) {
        return JR_ETRUNC;
    }
    if (p == j->p || v > UINT32_MAX || (*j->p == '0' && p - j->p > 1)) {
        return JR_EPROTO;
    }
    j->p = p;
    *ret = (uint32_t)v;
    return 0;
}

int jr_json_u32s(struct jr_json *j, uint32_t max, uint32_t *dst, uint32_t *ret_n)
{
    *ret_n = 0;
    while (*ret_n < max) {
        uint32_t n;
        int rv = jr_json_item(j);
        if (rv <= 0) {
            return rv;
        }
        skip_space(j);
        /* The last place is left to what follows: an element has begun. */
        j->p += jr_digits_u32s(j->p, (size_t)(j->end - j->p), max - *ret_n - 1, dst + *ret_n, &n);
        *ret_n += n;
        rv = read_u32(j, &dst[*ret_n]);
        if (rv < 0) {
            return rv;
        }
        (*ret_n)++;
    }
    return 1;
}

int jr_json_end(struct jr_json *j)
{
    skip_space(j);
    return j->p == j->end && j->depth == 0 ? 0 : JR_EPROTO;
}

size_t jr_json_at(const struct jr_json *j)
{
    return (size_t)(j->p - j->start);
}

/* Four hex digits at s, or -1. */
static int32_t hex4(const char *s, const char *end)
{
    int32_t v = 0;
    if (end - s < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        if (c >= '0' && c <= '9') {
            v = v * 16 + (c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            v = v * 16 + ((c | 0x20) - 'a' + 10);
        } else {
            return -1;
        }
    }
    return v;
}

static void put_utf8(struct jr_buf *out, uint32_t c)
{
    if (c < 0x80) {
        jr_buf_u8(out, (uint8_t)c);
        return;
    }
    if (c < 0x800) {
        jr_buf_u8(out, (uint8_t)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            jr_buf_u8(out, (uint8_t)(0xe0 | c >> 12));
        } else {
            jr_buf_u8(out, (uint8_t)(0xf0 | c >> 18));
            jr_buf_u8(out, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        }
        jr_buf_u8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
    }
    jr_buf_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
}

/* \uXXXX at *p, which points behind the u; a lone surrogate becomes U+FFFD. */
static int put_unicode(struct jr_buf *out, const char **p, const char *end)
{
    int32_t hi = hex4(*p, end);
    if (hi < 0) {
        return JR_EPROTO;
    }
    *p += 4;
    uint32_t c = (uint32_t)hi;
    if (c >= 0xd800 && c < 0xe000) {
        int32_t lo = -1;
        if (c < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
            lo = hex4(*p + 2, end);
        }
        if (lo >= 0xdc00 && lo < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)lo - 0xdc00);
            *p += 6;
        } else {
            c = 0xfffd;
        }
    }
    put_utf8(out, c);
    return 0;
}

int jr_json_unescape(struct jr_str raw, struct jr_buf *out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    const char *p = raw.p;
    const char *end = raw.p + raw.n;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        if (slash == NULL) {
            break;
        }
        jr_buf_put(out, p, (size_t)(slash - p));
        p = slash + 1;
        if (p == end) {
            return JR_EPROTO;
        }
        if (*p == 'u') {
            p++;
            if (put_unicode(out, &p, end) < 0) {
                return JR_EPROTO;
            }
            continue;
        }
        const char *found = memchr(from, *p++, sizeof from - 1);
        if (found == NULL) {
            return JR_EPROTO;
        }
        jr_buf_u8(out, (uint8_t)to[found - from]);
    }
    if (p < end) {
        jr_buf_put(out, p, (size_t)(end - p));
    }
    return out->err;
}
