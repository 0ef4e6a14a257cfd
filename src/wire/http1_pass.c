/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/http1_pass.h"

#include "base/assert.h"

#define NAME(text)                                                                                 \
    {                                                                                              \
        (text), sizeof(text) - 1                                                                   \
    }

static const struct jr_str hop_by_hop[] = {
    NAME("Host"),   NAME("Connection"), NAME("Content-Length"),
    NAME("Expect"), NAME("Keep-Alive"), NAME("Transfer-Encoding"),
    NAME("TE"),     NAME("Trailer"),    NAME("Upgrade"),
};

static bool same_char(char a, char b)
{
    char low = (char)(a | 0x20);
    return a == b || ((a ^ b) == 0x20 && low >= 'a' && low <= 'z');
}

static bool same_chars(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!same_char(a[i], b[i]))
            return false;
    return true;
}

static bool same(struct jr_str a, struct jr_str b)
{
    return a.n == b.n && same_chars(a.p, b.p, a.n);
}

static bool is_one_of(struct jr_str name, const struct jr_str *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (same(name, v[i]))
            return true;
    return false;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

/* The next element of a list as Connection has it; n == 0 at its end. */
static struct jr_str next_element(struct jr_str *rest)
{
    const char *p = rest->p, *end = p + rest->n;
    while (p < end && is_blank(*p))
        p++;
    const char *from = p;
    while (p < end && *p != ',')
        p++;
    *rest = jr_str_of(p, (size_t)(end - p));
    while (p > from && is_blank(p[-1]))
        p--;
    return jr_str_of(from, (size_t)(p - from));
}

static bool names(struct jr_str connection, struct jr_str name)
{
    for (struct jr_str e; (e = next_element(&connection)).n > 0;)
        if (same(e, name))
            return true;
    return false;
}

/* Connection fields that name more than the two everyone sends. */
static bool has_nominations(const struct jr_http_header *v, uint32_t n)
{
    static const struct jr_str connection = NAME("Connection"), keep = NAME("keep-alive"),
                               close = NAME("close");
    for (uint32_t i = 0; i < n; i++)
        if (same(v[i].name, connection) && !same(v[i].value, keep) && !same(v[i].value, close))
            return true;
    return false;
}

static bool is_nominated(struct jr_str name, const struct jr_http_header *v, uint32_t n)
{
    static const struct jr_str connection = NAME("Connection");
    for (uint32_t i = 0; i < n; i++)
        if (same(v[i].name, connection) && names(v[i].value, name))
            return true;
    return false;
}

static bool is_dropped(struct jr_str name)
{
    static const char proxy[] = "Proxy-";
    if (name.n >= sizeof proxy - 1 && same_chars(name.p, proxy, sizeof proxy - 1))
        return true;
    return is_one_of(name, hop_by_hop, sizeof hop_by_hop / sizeof *hop_by_hop);
}

/* Fields from..to-1 go on: as the lines they lie in. The line's end behind the last field of all is
 * written here, for its view ends with the value; an empty value may lie anywhere. */
static void put_run(struct jr_buf *b, const struct jr_http_header *v, uint32_t n, uint32_t from,
                    uint32_t to)
{
    const struct jr_http_header *last = &v[to - 1];
    const char *begin = v[from].name.p;
    const char *end = to < n          ? v[to].name.p
                      : last->value.n ? last->value.p + last->value.n
                                      : last->name.p + last->name.n;
    JR_ASSERT(end > begin);
    jr_buf_put(b, begin, (size_t)(end - begin));
    if (to == n)
        jr_buf_puts(b, last->value.n ? "\r\n" : ":\r\n");
}

void jr_http1_pass(struct jr_buf *b, const struct jr_http_header *v, uint32_t n,
                   const struct jr_str *but, uint32_t n_but)
{
    bool nominations = has_nominations(v, n);
    uint32_t from = 0; /* of the run that goes on, up to i */
    for (uint32_t i = 0; i < n; i++) {
        struct jr_str name = v[i].name;
        if (!is_dropped(name) && !is_one_of(name, but, n_but) &&
            !(nominations && is_nominated(name, v, n)))
            continue;
        if (from < i)
            put_run(b, v, n, from, i);
        from = i + 1;
    }
    if (from < n)
        put_run(b, v, n, from, n);
}
