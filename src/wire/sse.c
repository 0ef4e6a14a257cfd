/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/sse.h"
#include <string.h>

void jr_sse_init(struct jr_sse *s, size_t event_max)
{
    *s = (struct jr_sse){.err = 0};
    jr_buf_init(&s->line, event_max);
    jr_buf_init(&s->data, event_max);
    jr_buf_init(&s->event, event_max);
    jr_buf_init(&s->comment, event_max);
}

void jr_sse_deinit(struct jr_sse *s)
{
    jr_buf_deinit(&s->line);
    jr_buf_deinit(&s->data);
    jr_buf_deinit(&s->event);
    jr_buf_deinit(&s->comment);
}

bool jr_sse_is_clean(const struct jr_sse *s)
{
    return s->err == 0 && s->line.n == 0 && !s->has_data && !s->has_event && !s->has_comment;
}

/* The event of the piece at hand. Fields are views into the piece as long as they can be, and are
 * kept in the buffers of jr_sse when the piece ends before the event does. */
struct views {
    struct jr_str data, event, comment;
};

static struct jr_str view_of(const struct jr_buf *b)
{
    return jr_str_of(jr_buf_str(b), b->n);
}

static void keep(struct jr_buf *b, struct jr_str s)
{
    jr_buf_clear(b);
    jr_buf_put(b, s.p, s.n);
}

/* A field of the event: "data: …", "event: …", ": …"; others (id, retry) mean nothing to us. */
static void take_line(struct jr_sse *s, struct views *v, struct jr_str line)
{
    const char *colon = memchr(line.p, ':', line.n);
    size_t n_name = colon == NULL ? line.n : (size_t)(colon - line.p);
    struct jr_str name = jr_str_of(line.p, n_name);
    struct jr_str value = jr_str_of("", 0);
    if (colon != NULL) {
        size_t skip = n_name + 1;
        skip += skip < line.n && line.p[skip] == ' ' ? 1 : 0;
        value = jr_str_of(line.p + skip, line.n - skip);
    }
    if (jr_str_eq(name, "data")) {
        if (s->has_data) { /* a further line: join them in the buffer */
            if (v->data.p != jr_buf_str(&s->data)) {
                keep(&s->data, v->data);
            }
            jr_buf_u8(&s->data, '\n');
            jr_buf_put(&s->data, value.p, value.n);
            v->data = view_of(&s->data);
        } else {
            v->data = value;
        }
        s->has_data = true;
    } else if (jr_str_eq(name, "event")) {
        v->event = value;
        s->has_event = true;
    } else if (n_name == 0) {
        v->comment = value;
        s->has_comment = true;
    }
}

static int dispatch(struct jr_sse *s, struct views *v, jr_sse_fn *fn, void *ctx)
{
    int rv = 0;
    if (s->has_data || s->has_event || s->has_comment) {
        struct jr_sse_event ev = {
            .event = v->event,
            .data = v->data,
            .comment = v->comment,
            .done = s->has_data && jr_str_eq(v->data, "[DONE]"),
        };
        s->events++;
        rv = fn(ctx, &ev);
    }
    s->has_data = s->has_event = s->has_comment = false;
    jr_buf_clear(&s->data);
    jr_buf_clear(&s->event);
    jr_buf_clear(&s->comment);
    v->data = v->event = v->comment = jr_str_of("", 0);
    return rv;
}

/* The line may lie in s->line, which the next line overwrites: keep what points into it. */
static void keep_from_line(struct jr_sse *s, struct views *v, const char *from)
{
    const char *end = from + s->line.n;
    struct jr_str *fields[] = {&v->data, &v->event, &v->comment};
    struct jr_buf *bufs[] = {&s->data, &s->event, &s->comment};
    for (int i = 0; i < 3; i++) {
        if (fields[i]->n > 0 && fields[i]->p >= from && fields[i]->p < end) {
            keep(bufs[i], *fields[i]);
            *fields[i] = view_of(bufs[i]);
        }
    }
}

/* Views into the piece become buffers before it goes away. */
static void keep_views(struct jr_sse *s, struct views *v)
{
    struct jr_str *fields[] = {&v->data, &v->event, &v->comment};
    struct jr_buf *bufs[] = {&s->data, &s->event, &s->comment};
    for (int i = 0; i < 3; i++) {
        if (fields[i]->p != jr_buf_str(bufs[i])) {
            keep(bufs[i], *fields[i]); /* an empty one too: it may stand for an earlier value */
        }
    }
}

static int check(struct jr_sse *s)
{
    const struct jr_buf *bufs[] = {&s->line, &s->data, &s->event, &s->comment};
    for (int i = 0; i < 4 && s->err == 0; i++) {
        s->err = bufs[i]->err;
    }
    return s->err;
}

static int end_line(struct jr_sse *s, struct views *v, struct jr_str piece, jr_sse_fn *fn,
                    void *ctx)
{
    struct jr_str line = piece;
    bool buffered = s->line.n > 0;
    if (buffered) {
        jr_buf_put(&s->line, piece.p, piece.n);
        line = view_of(&s->line);
    }
    if (check(s) < 0) {
        return s->err;
    }
    if (!s->started) {
        s->started = true;
        if (line.n >= 3 && memcmp(line.p, "\xef\xbb\xbf", 3) == 0) {
            line = jr_str_of(line.p + 3, line.n - 3);
        }
    }
    if (line.n == 0) {
        int rv = dispatch(s, v, fn, ctx);
        jr_buf_clear(&s->line);
        return rv;
    }
    take_line(s, v, line);
    if (buffered) {
        keep_from_line(s, v, jr_buf_str(&s->line));
        jr_buf_clear(&s->line);
    }
    return check(s);
}

int jr_sse_feed(struct jr_sse *s, const void *p, size_t n, jr_sse_fn *fn, void *ctx)
{
    const char *at = p;
    const char *end = n > 0 ? at + n : at;
    struct views v = {view_of(&s->data), view_of(&s->event), view_of(&s->comment)};
    if (s->err < 0) {
        return s->err;
    }
    if (s->skip_lf && n > 0) {
        at += *at == '\n' ? 1 : 0;
        s->skip_lf = false;
    }
    while (at < end) {
        size_t left = (size_t)(end - at);
        const char *lf = memchr(at, '\n', left);
        const char *cr = memchr(at, '\r', lf != NULL ? (size_t)(lf - at) : left);
        const char *stop = cr != NULL ? cr : lf;
        if (stop == NULL) {
            jr_buf_put(&s->line, at, left);
            break;
        }
        int rv = end_line(s, &v, jr_str_of(at, (size_t)(stop - at)), fn, ctx);
        if (rv != 0) {
            return rv;
        }
        at = stop + 1;
        if (cr != NULL && at < end) {
            at += *at == '\n' ? 1 : 0;
        } else if (cr != NULL) {
            s->skip_lf = true;
        }
    }
    keep_views(s, &v);
    return check(s);
}
