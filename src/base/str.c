/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include <string.h>

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

bool jr_str_eq(struct jr_str s, const char *text)
{
    return strlen(text) == s.n && (s.n == 0 || memcmp(s.p, text, s.n) == 0);
}

bool jr_str_ieq(struct jr_str s, const char *text)
{
    if (strlen(text) != s.n)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (lower(s.p[i]) != lower(text[i]))
            return false;
    return true;
}

/* How many bytes the character at s has; a byte that starts none counts for itself. */
static size_t character_length(const char *s)
{
    unsigned char lead = (unsigned char)s[0];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 1;

    for (size_t i = 1; i < want; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return i;
    return want;
}

/* One character of the source as Rust's to_lowercase and the slug's filter leave it: one or two
 * bytes. Two characters outside ASCII have a lower case that begins with an ASCII letter. */
static size_t slug_character(const char *s, size_t n, char ret[2])
{
    unsigned char c = lower(s[0]);

    ret[1] = '_';
    if (n == 3 && memcmp(s, "\xe2\x84\xaa", 3) == 0) { /* KELVIN SIGN */
        ret[0] = 'k';
        return 1;
    }
    if (n == 2 && memcmp(s, "\xc4\xb0", 2) == 0) { /* I WITH DOT ABOVE: i, combining dot */
        ret[0] = 'i';
        return 2;
    }
    ret[0] = '_';
    if (n == 1 && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
        ret[0] = (char)c;
    return 1;
}

int jr_str_slug(const char *src, char *dst, size_t cap)
{
    size_t n = 0;

    if (cap == 0)
        return JR_ELIMIT;
    dst[0] = '\0';
    while (*src) {
        char out[2];
        size_t len = character_length(src), made = slug_character(src, len, out);
        src += len;
        for (size_t i = 0; i < made; i++) {
            if (n == 0 && out[i] == '_')
                continue;
            if (n + 1 >= cap) {
                dst[0] = '\0';
                return JR_ELIMIT;
            }
            dst[n++] = out[i] == '_' ? '-' : out[i];
        }
    }
    dst[n] = '\0';
    return 0;
}

void jr_str_base64url(struct jr_buf *b, const void *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const uint8_t *in = p;

    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t v = (uint32_t)in[i] << 16;
        char out[4];
        if (have > 1)
            v |= (uint32_t)in[i + 1] << 8;
        if (have > 2)
            v |= in[i + 2];
        out[0] = digits[v >> 18];
        out[1] = digits[v >> 12 & 63];
        out[2] = have > 1 ? digits[v >> 6 & 63] : '=';
        out[3] = have > 2 ? digits[v & 63] : '=';
        jr_buf_put(b, out, 4);
    }
}

bool jr_str_copy(char *dst, size_t cap, const char *src)
{
    size_t n = strlen(src);

    if (cap == 0)
        return false;
    if (n < cap) {
        memcpy(dst, src, n + 1);
        return true;
    }
    memcpy(dst, src, cap - 1);
    dst[cap - 1] = '\0';
    return false;
}

#define DISTANCE_MAX 32

unsigned jr_str_distance(const char *a, const char *b)
{
    /* Levenshtein with one row: row[j] is the distance of a's first i to b's first j characters. */
    unsigned row[DISTANCE_MAX + 1];
    size_t na = strnlen(a, DISTANCE_MAX), nb = strnlen(b, DISTANCE_MAX);

    for (size_t j = 0; j <= nb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[nb];
}

void jr_str_nearer(struct jr_str_nearest *n, const char *name)
{
    size_t typed = strlen(n->typed);
    unsigned d = jr_str_distance(n->typed, name);
    bool begins = typed >= 3 && strncmp(n->typed, name, typed) == 0;
    if (!begins && (size_t)d * 3 > typed)
        return;
    if (!n->name[0] || d < n->distance) {
        (void)jr_str_copy(n->name, sizeof n->name, name);
        n->distance = d;
    }
}

struct jr_str jr_str_pack(char **at, struct jr_str s)
{
    char *p = *at;

    if (s.n > 0)
        memcpy(p, s.p, s.n);
    *at += s.n;
    return jr_str_of(p, s.n);
}
