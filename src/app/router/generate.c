/* SPDX-License-Identifier: Apache-2.0 */
#include "app/router/generate.h"

#include "app/frontend/proxy_internal.h"
#include "app/router/generate_body.h"
#include "app/router/generate_items.h"

#include <string.h>

#define EVENT_MAX ((size_t)1 << 20)
#define OUT_MAX   ((size_t)8 << 20) /* what one piece of a stream becomes */
#define BODY_MORE ((size_t)1 << 20) /* beside the request's own */

struct spoken {
    struct jr_sse sse;
    struct jr_generate_items items;
    struct jr_buf out;
    bool broken; /* an event was too long to be read: nothing more comes of it */
};

static struct spoken *spoken_of(struct jr_proxied *x)
{
    struct spoken *s = x->spoken;
    if (!s) {
        x->spoken = s = jr_xalloc(sizeof *s);
        jr_sse_init(&s->sse, EVENT_MAX);
        jr_buf_init(&s->out, OUT_MAX);
    }
    return s;
}

static void free_spoken(struct jr_proxied *x)
{
    struct spoken *s = x->spoken;
    x->spoken = NULL;
    if (!s)
        return;
    jr_sse_deinit(&s->sse);
    jr_generate_items_deinit(&s->items);
    jr_buf_deinit(&s->out);
    jr_xfree(s);
}

/* ---------------------------------------------------------------- the answer */

static int on_event(void *ctx, const struct jr_sse_event *ev)
{
    struct spoken *s = ctx;
    jr_generate_items_event(&s->items, ev, &s->out);
    return s->out.err;
}

static int write_items(struct jr_proxied *x, const void *p, size_t n)
{
    struct spoken *s = spoken_of(x);
    s->items.worker_id = x->worker_id;
    s->items.dp_rank = x->dp_rank;
    jr_buf_clear(&s->out);
    if (!s->broken && jr_sse_feed(&s->sse, p, n, on_event, s) < 0) {
        s->broken = true;
        jr_generate_items_error(&s->out, "Unknown", "the worker sent an event that is too long");
    }
    return s->out.n ? jr_proxy_write_raw(x, s->out.p, s->out.n) : 0;
}

static void end_items(struct jr_proxied *x)
{
    struct spoken *s = spoken_of(x);
    jr_buf_clear(&s->out);
    jr_generate_items_end(&s->items, &s->out);
    if (s->out.n)
        (void)!jr_proxy_write_raw(x, s->out.p, s->out.n);
}

static void cut_items(struct jr_proxied *x, enum jr_error error, const char *message,
                      struct jr_buf *b)
{
    jr_generate_items_end(&spoken_of(x)->items, b);
    jr_generate_items_error(b, error == JR_ERROR_TIMEOUT ? "ConnectionTimeout" : "Disconnected",
                            message);
}

/* One item without tokens, which says where it would go. */
static void put_query(struct jr_proxied *x, const struct jr_decision *d, struct jr_buf *b)
{
    struct jr_generate_items items = {.worker_id = d->worker_id, .dp_rank = d->dp_rank};
    const char chunk[] = "{\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}";
    (void)x;
    jr_generate_items_event(&items, &(struct jr_sse_event){.data = jr_str_of(chunk, strlen(chunk))},
                            b);
    jr_generate_items_event(&items, &(struct jr_sse_event){.done = true}, b);
    jr_generate_items_deinit(&items);
}

/* ---------------------------------------------------------------- the request */

/* Who named no model gets the one that the worker serves. */
static void name_model(struct jr_proxied *x, const struct jr_decision *d)
{
    static const char named[] = "{" JR_GENERATE_MODEL;
    if (strncmp(x->asked.p, named, sizeof named - 1) == 0 || !d->model[0])
        return;
    struct jr_buf *b = &x->own_body;
    jr_buf_deinit(b);
    jr_buf_init(b, x->asked.n + JR_ALIAS_MORE);
    jr_buf_puts(b, named);
    jr_buf_json_str(b, d->model);
    jr_buf_puts(b, ",");
    jr_buf_put(b, x->asked.p + 1, x->asked.n - 1);
    if (!b->err)
        x->body = jr_str_of((const char *)b->p, b->n);
}

static const struct jr_proxy_dialect dialect = {
    .endpoint = "generate",
    .worker_path = "/v1/completions",
    .again = jr_generate,
    .decided = name_model,
    .query = put_query,
    .write = write_items,
    .end = end_items,
    .cut = cut_items,
    .free = free_spoken,
};

static void apply(struct jr_proxied *x, const struct jr_route_fields *r)
{
    if (r->has_pin) {
        x->has_pin = true;
        x->pin = r->pin;
        x->has_pin_rank = r->has_pin_rank;
        x->pin_rank = r->pin_rank;
    }
    if (r->expected_output_tokens)
        x->expected_output_tokens = r->expected_output_tokens;
    if (r->priority_jump_s > 0)
        x->priority_jump_s = r->priority_jump_s;
    x->override = r->override;
}

static int read_request(struct jr_front_loop *l, struct jr_http_request *req, json_t **ret_root,
                        struct jr_route_fields *fields, struct jr_buf *own,
                        struct jr_openai_request *r, struct jr_route_error *bad)
{
    struct jr_str body = jr_http_request_body(req);
    int err = jr_route_body_load(body, &l->tokens, ret_root, bad);
    if (err == 0)
        err = jr_route_body_fields(*ret_root, fields, bad);
    jr_buf_init(own, 2 * body.n + BODY_MORE);
    return err < 0 ? err : jr_generate_body(*ret_root, fields, &l->tokens, own, r, bad);
}

void jr_generate(struct jr_front_loop *l, struct jr_http_request *req)
{
    struct jr_route_error bad = {.param = NULL};
    struct jr_route_fields fields = {.has_pin = false};
    struct jr_openai_request r = {.stream = true};
    struct jr_buf own;
    json_t *root = NULL;
    int err = read_request(l, req, &root, &fields, &own, &r, &bad);
    if (err < 0) {
        jr_buf_deinit(&own);
        jr_proxy_refuse(l, req, JR_OPENAI_COMPLETION, err,
                        &(struct jr_openai_error){.msg = bad.msg, .param = bad.param});
    } else {
        struct jr_proxied *x = jr_proxy_begin(l, req, &r, &own, false, &dialect);
        if (x) {
            apply(x, &fields);
            jr_proxy_tokenize(x, &r);
        }
    }
    json_decref(root);
}
