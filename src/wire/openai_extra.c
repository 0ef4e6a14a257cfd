/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/openai_extra.h"

#include <string.h>

void jr_openai_extra_init(struct jr_openai_extra *e, bool is_stream, size_t held_max)
{
    *e = (struct jr_openai_extra){.is_stream = is_stream};
    jr_buf_init(&e->held, held_max);
}

void jr_openai_extra_deinit(struct jr_openai_extra *e)
{
    jr_buf_deinit(&e->held);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Without the space around it. */
static struct jr_str trim(struct jr_str s)
{
    while (s.n > 0 && is_space(s.p[0]))
        s = jr_str_of(s.p + 1, s.n - 1);
    while (s.n > 0 && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* text with members in the object that it is, or as it is. */
static void put(struct jr_str text, struct jr_str object, jr_openai_extra_fn *fn, void *ctx,
                struct jr_buf *out)
{
    if (object.n < 2 || object.p[0] != '{' || object.p[object.n - 1] != '}') {
        jr_buf_put(out, text.p, text.n);
        return;
    }
    const char *end = object.p + object.n - 1;
    bool is_empty = trim(jr_str_of(object.p + 1, object.n - 2)).n == 0;
    jr_buf_put(out, text.p, (size_t)(end - text.p));
    size_t before = out->n;
    jr_buf_puts(out, is_empty ? "" : ",");
    size_t members = out->n;
    fn(ctx, object, out);
    if (out->n == members)
        out->n = before;
    jr_buf_put(out, end, text.n - (size_t)(end - text.p));
}

static void put_line(struct jr_str line, jr_openai_extra_fn *fn, void *ctx, struct jr_buf *out)
{
    if (line.n > 5 && memcmp(line.p, "data:", 5) == 0)
        put(line, trim(jr_str_of(line.p + 5, line.n - 5)), fn, ctx, out);
    else
        jr_buf_put(out, line.p, line.n);
}

static struct jr_str held_text(const struct jr_openai_extra *e)
{
    return jr_str_of((const char *)e->held.p, e->held.n);
}

/* Room for it in what is held, or nothing is held from now on. */
static void hold(struct jr_openai_extra *e, struct jr_str s, struct jr_buf *out)
{
    if (!e->passing && e->held.n + s.n < e->held.max)
        jr_buf_put(&e->held, s.p, s.n);
    else
        e->passing = true;
    if (!e->passing)
        return;
    jr_buf_put(out, e->held.p, e->held.n);
    jr_buf_put(out, s.p, s.n);
    jr_buf_clear(&e->held);
}

/* The end of a line. */
static void end_line(struct jr_openai_extra *e, struct jr_str rest, jr_openai_extra_fn *fn,
                     void *ctx, struct jr_buf *out)
{
    if (e->held.n == 0 && !e->passing) {
        put_line(rest, fn, ctx, out);
        return;
    }
    hold(e, rest, out);
    if (!e->passing)
        put_line(held_text(e), fn, ctx, out);
    jr_buf_clear(&e->held);
    e->passing = false;
}

void jr_openai_extra_feed(struct jr_openai_extra *e, const void *p, size_t n,
                          jr_openai_extra_fn *fn, void *ctx, struct jr_buf *out)
{
    struct jr_str s = jr_str_of(p, n);
    const char *lf;
    while (e->is_stream && s.n > 0 && (lf = memchr(s.p, '\n', s.n)) != NULL) {
        size_t line = (size_t)(lf - s.p) + 1;
        end_line(e, jr_str_of(s.p, line), fn, ctx, out);
        s = jr_str_of(s.p + line, s.n - line);
    }
    if (s.n > 0)
        hold(e, s, out);
}

void jr_openai_extra_end(struct jr_openai_extra *e, jr_openai_extra_fn *fn, void *ctx,
                         struct jr_buf *out)
{
    struct jr_str s = held_text(e);
    if (s.n == 0)
        return;
    if (e->is_stream)
        put_line(s, fn, ctx, out);
    else
        put(s, trim(s), fn, ctx, out);
    jr_buf_clear(&e->held);
}
