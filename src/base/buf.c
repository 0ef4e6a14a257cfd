/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/assert.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

void jr_buf_init(struct jr_buf *b, size_t max)
{
    *b = (struct jr_buf){.max = max};
}

void jr_buf_deinit(struct jr_buf *b)
{
    if (!b)
        return;
    jr_xfree(b->p);
    *b = (struct jr_buf){.max = b->max};
}

void jr_buf_clear(struct jr_buf *b)
{
    b->n = 0;
    b->err = 0;
    if (b->p)
        b->p[0] = '\0';
}

void jr_buf_consume(struct jr_buf *b, size_t n)
{
    JR_ASSERT(n <= b->n);
    if (n == 0)
        return;
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
    b->p[b->n] = '\0';
}

/* Room for `more` bytes and the NUL; false with err set when it does not fit. */
static bool reserve(struct jr_buf *b, size_t more)
{
    size_t need, cap;

    if (b->err)
        return false;
    if (b->n > b->max || more > b->max - b->n || b->max == SIZE_MAX) {
        b->err = JR_ELIMIT;
        return false;
    }
    need = b->n + more + 1;
    if (need <= b->cap)
        return true;
    cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap > b->max + 1)
        cap = b->max + 1;
    b->p = jr_xrealloc(b->p, cap);
    b->cap = cap;
    return true;
}

void jr_buf_reserve(struct jr_buf *b, size_t n)
{
    (void)reserve(b, n);
}

void jr_buf_put(struct jr_buf *b, const void *p, size_t n)
{
    if (!reserve(b, n))
        return;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void jr_buf_puts(struct jr_buf *b, const char *s)
{
    jr_buf_put(b, s, strlen(s));
}

void jr_buf_u8(struct jr_buf *b, uint8_t v)
{
    jr_buf_put(b, &v, 1);
}

static void put_be(struct jr_buf *b, uint64_t v, unsigned bytes)
{
    uint8_t raw[8];

    for (unsigned i = 0; i < bytes; i++)
        raw[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
    jr_buf_put(b, raw, bytes);
}

void jr_buf_be16(struct jr_buf *b, uint16_t v)
{
    put_be(b, v, 2);
}

void jr_buf_be32(struct jr_buf *b, uint32_t v)
{
    put_be(b, v, 4);
}

void jr_buf_be64(struct jr_buf *b, uint64_t v)
{
    put_be(b, v, 8);
}

size_t jr_digits(uint64_t v, char *ret)
{
    char text[JR_DIGITS_MAX];
    size_t at = sizeof text;

    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    memcpy(ret, text + at, sizeof text - at);
    return sizeof text - at;
}

void jr_buf_digits(struct jr_buf *b, uint64_t v)
{
    char text[JR_DIGITS_MAX];

    jr_buf_put(b, text, jr_digits(v, text));
}

void jr_buf_printf(struct jr_buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    jr_buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void jr_buf_vprintf(struct jr_buf *b, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    if (b->err)
        return;
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    JR_ASSERT(n >= 0);
    if (reserve(b, (size_t)n)) {
        (void)vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

/* Length of the UTF-8 sequence at s (RFC 3629: no overlong forms, no surrogates, at most
 * U+10FFFF), or 0 and in *ret_bad how many bytes one U+FFFD stands for: the longest prefix that
 * could have become a character (Unicode 15 §3.9, "maximal subpart"). */
static size_t utf8_length(const uint8_t *s, size_t n, size_t *ret_bad)
{
    uint8_t lead = s[0], low = 0x80, high = 0xbf;
    size_t want;

    *ret_bad = 1;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        want = 2;
    else if (lead >= 0xe0 && lead <= 0xef)
        want = 3;
    else if (lead >= 0xf0 && lead <= 0xf4)
        want = 4;
    else
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < want; i++) {
        if (i >= n || s[i] < low || s[i] > high) {
            *ret_bad = i;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return want;
}

static void escape_ascii(struct jr_buf *b, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    char seq[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    char brief = 0;

    switch (c) {
    case '"':
    case '\\':
        brief = (char)c;
        break;
    case '\b':
        brief = 'b';
        break;
    case '\f':
        brief = 'f';
        break;
    case '\n':
        brief = 'n';
        break;
    case '\r':
        brief = 'r';
        break;
    case '\t':
        brief = 't';
        break;
    default:
        break;
    }
    seq[1] = brief ? brief : 'u';
    jr_buf_put(b, seq, brief ? 2 : 6);
}

void jr_buf_json_escape(struct jr_buf *b, const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    size_t run = 0, i = 0, bad = 0;

    /* [run, i) is what can be copied as it is. DEL need not be escaped, but terminals thank us. */
    while (i < n) {
        uint8_t c = p[i];
        size_t len = utf8_length(p + i, n - i, &bad);
        if (len > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += len;
            continue;
        }
        jr_buf_put(b, p + run, i - run);
        if (len == 0) {
            jr_buf_put(b, "\xef\xbf\xbd", 3);
            i += bad;
        } else {
            escape_ascii(b, c);
            i++;
        }
        run = i;
    }
    if (i > run)
        jr_buf_put(b, p + run, i - run);
}

void jr_buf_utf8(struct jr_buf *b, const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    size_t run = 0, i = 0, bad = 0;

    while (i < n) {
        size_t len = utf8_length(p + i, n - i, &bad);
        if (len > 0) {
            i += len;
            continue;
        }
        jr_buf_put(b, p + run, i - run);
        jr_buf_put(b, "\xef\xbf\xbd", 3);
        i += bad;
        run = i;
    }
    if (i > run)
        jr_buf_put(b, p + run, i - run);
}

void jr_buf_json_str(struct jr_buf *b, const char *s)
{
    if (!s) {
        jr_buf_puts(b, "null");
        return;
    }
    jr_buf_u8(b, '"');
    jr_buf_json_escape(b, s, strlen(s));
    jr_buf_u8(b, '"');
}

uint8_t *jr_buf_take(struct jr_buf *b, size_t *ret_n)
{
    uint8_t *p = b->p ? b->p : jr_xalloc(1);

    *ret_n = b->n;
    *b = (struct jr_buf){.max = b->max};
    return p;
}

const char *jr_buf_str(const struct jr_buf *b)
{
    return b->p ? (const char *)b->p : "";
}
