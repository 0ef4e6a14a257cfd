/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/http1_pass.h"

#include <string.h>
#include <strings.h>

#define NAME(text)                                                                                 \
    {                                                                                              \
        (text), sizeof(text) - 1                                                                   \
    }

static const struct jr_str hop_by_hop[] = {
    NAME("Host"),   NAME("Connection"), NAME("Content-Length"),
    NAME("Expect"), NAME("Keep-Alive"), NAME("Transfer-Encoding"),
    NAME("TE"),     NAME("Trailer"),    NAME("Upgrade"),
};

static bool same(struct jr_str a, struct jr_str b)
{
    return a.n == b.n && strncasecmp(a.p, b.p, a.n) == 0;
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
    if (name.n >= sizeof proxy - 1 && strncasecmp(name.p, proxy, sizeof proxy - 1) == 0)
        return true;
    return is_one_of(name, hop_by_hop, sizeof hop_by_hop / sizeof *hop_by_hop);
}

static void put_field(struct jr_buf *b, const struct jr_http_header *h)
{
    jr_buf_put(b, h->name.p, h->name.n);
    jr_buf_put(b, ": ", 2);
    jr_buf_put(b, h->value.p, h->value.n);
    jr_buf_put(b, "\r\n", 2);
}

void jr_http1_pass(struct jr_buf *b, const struct jr_http_header *v, uint32_t n,
                   const struct jr_str *but, uint32_t n_but)
{
    bool nominations = has_nominations(v, n);
    for (uint32_t i = 0; i < n; i++) {
        struct jr_str name = v[i].name;
        if (!is_dropped(name) && !is_one_of(name, but, n_but) &&
            !(nominations && is_nominated(name, v, n)))
            put_field(b, &v[i]);
    }
}
