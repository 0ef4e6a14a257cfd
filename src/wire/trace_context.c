/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/trace_context.h"

#include <string.h>

#define TRACE_AT 3
#define SPAN_AT  36
#define FLAGS_AT 53

/* Lower case only, as the specification has it. -1: no digit. */
static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *p, uint8_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = digit(p[2 * i]), low = digit(p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void write_hex(char *ret, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ret[2 * i] = "0123456789abcdef"[p[i] >> 4];
        ret[2 * i + 1] = "0123456789abcdef"[p[i] & 15];
    }
}

static bool is_zero(const uint8_t *p, size_t n)
{
    uint8_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= p[i];
    return all == 0;
}

/* Of 55 bytes at least, where dashes stand and how long it may be. */
static bool shape_ok(struct jr_str t, uint8_t version)
{
    if (t.p[TRACE_AT - 1] != '-' || t.p[SPAN_AT - 1] != '-' || t.p[FLAGS_AT - 1] != '-')
        return false;
    if (version == 0)
        return t.n == JR_TRACE_CONTEXT_LEN;
    return version != 0xff && (t.n == JR_TRACE_CONTEXT_LEN || t.p[JR_TRACE_CONTEXT_LEN] == '-');
}

int jr_trace_context_parse(struct jr_str text, struct jr_trace_context *ret)
{
    struct jr_trace_context c;
    uint8_t version;
    if (text.n < JR_TRACE_CONTEXT_LEN || !read_hex(text.p, &version, 1) || !shape_ok(text, version))
        return JR_EPROTO;
    if (!read_hex(text.p + TRACE_AT, c.trace_id, sizeof c.trace_id) ||
        !read_hex(text.p + SPAN_AT, c.span_id, sizeof c.span_id) ||
        !read_hex(text.p + FLAGS_AT, &c.flags, 1))
        return JR_EPROTO;
    if (is_zero(c.trace_id, sizeof c.trace_id) || is_zero(c.span_id, sizeof c.span_id))
        return JR_EPROTO;
    c.flags &= JR_TRACE_SAMPLED | JR_TRACE_RANDOM;
    *ret = c;
    return 0;
}

void jr_trace_context_format(const struct jr_trace_context *c, char *ret)
{
    memcpy(ret, "00-", TRACE_AT);
    write_hex(ret + TRACE_AT, c->trace_id, sizeof c->trace_id);
    ret[SPAN_AT - 1] = '-';
    write_hex(ret + SPAN_AT, c->span_id, sizeof c->span_id);
    ret[FLAGS_AT - 1] = '-';
    write_hex(ret + FLAGS_AT, &c->flags, 1);
    ret[JR_TRACE_CONTEXT_LEN] = '\0';
}

bool jr_trace_context_is_picked(const uint8_t trace_id[16], double share)
{
    uint64_t v = 0;
    for (unsigned i = 8; i < 16; i++)
        v = v << 8 | trace_id[i];
    return share >= 1 || (double)v < share * 0x1p64;
}
