/* SPDX-License-Identifier: Apache-2.0 */
/* /busy_threshold, as Dynamo's frontend has it: the busy thresholds of a model, read and changed
 * while the process runs, on all replicas (app/driver has how).
 *
 *   GET                                  {"thresholds":[{"model":…, …}]}
 *   POST {"model":…}                     read; null where none is set
 *   POST {"model":…, "active_…":…}       set those given; 404 for an unknown model, 400 out of range,
 *                                        422 for what is no such object, 503 when the other replicas
 *                                        cannot be told */
#include "app/frontend/frontend_internal.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define DECODE_BLOCKS "active_decode_blocks_threshold"
#define TOKENS        "active_prefill_tokens_threshold"
#define TOKENS_FRAC   "active_prefill_tokens_threshold_frac"

static void answer(struct jr_http_request *req, int status, json_t *root)
{
    char *text = json_dumps(root, JSON_COMPACT);
    jr_http_respond(req, status, "application/json", NULL, text ? text : "{}",
                    text ? strlen(text) : 2);
    free(text);
    json_decref(root);
}

static void refuse(struct jr_http_request *req, int status, const char *words)
{
    answer(req, status, json_pack("{s:s}", "error", words));
}

static json_t *number(bool has, double v)
{
    return has ? json_real(v) : json_null();
}

static json_t *row_of(const char *model, const struct jr_busy_limits *b)
{
    return json_pack("{s:s,s:o,s:o,s:o}", "model", model, DECODE_BLOCKS,
                     number(b->has_decode_blocks, b->decode_blocks), TOKENS,
                     b->has_prefill_tokens ? json_integer((json_int_t)b->prefill_tokens)
                                           : json_null(),
                     TOKENS_FRAC, number(b->has_prefill_frac, b->prefill_frac));
}

static bool is_listed(const json_t *list, const char *model)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "model")), model) == 0)
            return true;
    }
    return false;
}

void jr_busy_get(struct jr_frontend *f, struct jr_http_request *req)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        struct jr_pool *pool = jr_driver_pool(f->drivers[i]);
        struct jr_busy_limits limits;
        struct jr_worker_view w;
        for (uint32_t pos = 0; jr_pool_next_worker(pool, &pos, &w);) {
            if (!w.model[0] || is_listed(list, w.model))
                continue;
            jr_pool_busy_limits(pool, jr_pool_model_id(w.model), &limits);
            json_array_append_new(list, row_of(w.model, &limits));
        }
    }
    answer(req, 200, json_pack("{s:o}", "thresholds", list));
}

/* Of the pools that have the model the first: requests go there, too. */
static struct jr_driver *driver_of(struct jr_frontend *f, const char *model)
{
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        struct jr_worker_view w;
        struct jr_pool *pool = jr_driver_pool(f->drivers[i]);
        for (uint32_t pos = 0; jr_pool_next_worker(pool, &pos, &w);)
            if (strcmp(w.model, model) == 0)
                return f->drivers[i];
    }
    return NULL;
}

/* One threshold of the body: absent and null leave it. 0, or the status to refuse with. */
static int take(const json_t *root, const char *key, bool whole, double max, bool *has, double *v,
                const char **ret_words)
{
    const json_t *given = json_object_get(root, key);
    if (!given || json_is_null(given))
        return 0;
    double x = json_number_value(given);
    if (!json_is_number(given) || (whole && (!json_is_integer(given) || x < 0))) {
        *ret_words = whole ? "a threshold of tokens must be an integer that is not negative"
                           : "a threshold must be a number";
        return 422;
    }
    if (!(x >= 0 && x <= max)) {
        *ret_words = max > 1 ? "the threshold must be finite and not negative"
                             : "the threshold must be between 0 and 1";
        return 400;
    }
    *has = true;
    *v = x;
    return 0;
}

static int take_all(const json_t *root, struct jr_busy_limits *b, const char **ret_words)
{
    int status =
        take(root, TOKENS, true, 1e15, &b->has_prefill_tokens, &b->prefill_tokens, ret_words);
    if (status == 0)
        status = take(root, DECODE_BLOCKS, false, 1, &b->has_decode_blocks, &b->decode_blocks,
                      ret_words);
    if (status == 0)
        status =
            take(root, TOKENS_FRAC, false, 1e9, &b->has_prefill_frac, &b->prefill_frac, ret_words);
    return status;
}

/* A change that is under way: the other replicas are told first. */
struct change {
    struct jr_http_request *req; /* NULL: its client has gone */
    char model[JR_MODEL_MAX];
};

static void on_gone(void *ctx)
{
    struct change *c = ctx;
    jr_http_respond_end(c->req, true);
    c->req = NULL;
}

static const char *why_not(int err)
{
    switch (err) {
    case JR_ELIMIT:
        return "too many models have thresholds of their own";
    case JR_ECLOSED:
        return "nothing was changed: NATS, where all replicas read thresholds, is not connected; "
               "retry later";
    case JR_ETIMEOUT:
        return "NATS did not say in time whether the thresholds were stored: read them, or set "
               "them again";
    default:
        return "nothing was changed: the thresholds could not be stored; retry later";
    }
}

static void on_set(void *ctx, int err, const struct jr_busy_limits *limits)
{
    struct change *c = ctx;
    if (c->req) {
        jr_http_request_watch(c->req, NULL, NULL, NULL);
        if (err < 0)
            refuse(c->req, 503, why_not(err));
        else
            answer(c->req, 200, row_of(c->model, limits));
    }
    jr_xfree(c);
}

static void set(struct jr_driver *d, struct jr_http_request *req,
                const struct jr_busy_record *given)
{
    struct change *c = jr_xalloc(sizeof *c);
    c->req = req;
    memcpy(c->model, given->model, sizeof c->model);
    jr_http_request_watch(req, on_gone, NULL, c);
    jr_driver_busy_set(d, given, on_set, c);
}

static void refuse_model(struct jr_http_request *req, const char *model)
{
    char text[JR_MODEL_MAX + 96];
    snprintf(text, sizeof text,
             "Model '%.*s' not found. Thresholds can only be set for discovered models.",
             JR_MODEL_MAX, model);
    refuse(req, 404, text);
}

static void read_or_set(struct jr_frontend *f, struct jr_http_request *req, const json_t *root,
                        const char *model)
{
    struct jr_busy_record given = {0};
    struct jr_busy_limits limits = {0};
    const char *words = "";
    int status = take_all(root, &given.limits, &words);
    struct jr_driver *d = driver_of(f, model);
    if (status) {
        refuse(req, status, words);
    } else if (!jr_busy_any(&given.limits)) {
        if (d)
            jr_pool_busy_limits(jr_driver_pool(d), jr_pool_model_id(model), &limits);
        answer(req, 200, row_of(model, &limits));
    } else if (d && jr_str_copy(given.model, sizeof given.model, model)) {
        set(d, req, &given);
    } else {
        refuse_model(req, model);
    }
}

void jr_busy_post(struct jr_frontend *f, struct jr_http_request *req)
{
    struct jr_str body = jr_http_request_body(req);
    json_t *root = json_loadb(body.p ? body.p : "", body.n, JSON_REJECT_DUPLICATES, NULL);
    const char *model = json_string_value(json_object_get(root, "model"));
    if (!root)
        refuse(req, 400, "the body is not JSON");
    else if (!model)
        refuse(req, 422, "the body must be an object with \"model\", a string");
    else
        read_or_set(f, req, root, model);
    json_decref(root);
}
