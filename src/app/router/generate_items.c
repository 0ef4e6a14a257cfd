/* SPDX-License-Identifier: Apache-2.0 */
#include "app/router/generate_items.h"

#include <stdlib.h>
#include <string.h>

void jr_generate_items_deinit(struct jr_generate_items *g)
{
    json_decref(g->last);
    g->last = NULL;
}

static void put_json(struct jr_buf *b, const char *before, const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT);
    jr_buf_puts(b, before);
    jr_buf_puts(b, text ? text : "{}");
    jr_buf_puts(b, "\n\n");
    free(text);
}

void jr_generate_items_error(struct jr_buf *b, const char *error_type, const char *message)
{
    json_t *item = json_pack("{s:s,s:{s:s,s:s}}", "event", "error", "error", "error_type",
                             error_type, "message", message);
    put_json(b, "event: error\ndata: ", item);
    json_decref(item);
}

void jr_generate_items_end(struct jr_generate_items *g, struct jr_buf *b)
{
    if (g->last)
        put_json(b, "data: ", g->last);
    jr_generate_items_deinit(g);
}

/* ---------------------------------------------------------------- one choice */

static json_t *copy_of(const json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    return v ? json_incref(v) : json_null();
}

/* OpenAI's words that Dynamo has others for; an error is an object. */
static json_t *finish_of(const json_t *choice)
{
    const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
    if (!reason)
        return json_null();
    if (strcmp(reason, "error") == 0)
        return json_pack("{s:s}", "error", "the engine ended the request with an error");
    return json_string(strcmp(reason, "abort") == 0 ? "cancelled" : reason);
}

/* The first item says who answers; a worker that prefilled says where its blocks are. */
static json_t *params_of(struct jr_generate_items *g, const json_t *chunk)
{
    json_t *params = json_object();
    json_t *handed = json_object_get(chunk, "kv_transfer_params");
    if (handed && !json_is_null(handed))
        json_object_set(params, "kv_transfer_params", handed);
    if (!g->begun) {
        const json_int_t id = (json_int_t)g->worker_id, rank = g->dp_rank;
        json_object_set_new(params, "worker_id",
                            json_pack("{s:I,s:I,s:I,s:I}", "prefill_worker_id", id,
                                      "prefill_dp_rank", rank, "decode_worker_id", id,
                                      "decode_dp_rank", rank));
    }
    g->begun = true;
    if (json_object_size(params))
        return params;
    json_decref(params);
    return json_null();
}

static json_t *ids_of(const json_t *choice)
{
    json_t *ids = json_object_get(choice, "token_ids");
    return json_is_array(ids) ? json_incref(ids) : json_array();
}

static json_t *item_of(struct jr_generate_items *g, const json_t *chunk, const json_t *choice)
{
    const json_t *logprobs = json_object_get(choice, "logprobs");
    json_t *data = json_object();
    json_object_set_new(data, "token_ids", ids_of(choice));
    json_object_set_new(data, "tokens", copy_of(logprobs, "tokens"));
    json_object_set_new(data, "text", copy_of(choice, "text"));
    json_object_set_new(data, "cum_log_probs", json_null());
    json_object_set_new(data, "log_probs", copy_of(logprobs, "token_logprobs"));
    json_object_set_new(data, "top_logprobs", json_null()); /* the workers name no ids in theirs */
    json_object_set_new(data, "finish_reason", finish_of(choice));
    json_object_set_new(data, "stop_reason", copy_of(choice, "stop_reason"));
    json_object_set_new(data, "index", copy_of(choice, "index"));
    json_object_set_new(data, "disaggregated_params", params_of(g, chunk));
    json_object_set_new(data, "extra_args", json_null());
    json_object_set_new(data, "completion_usage", copy_of(chunk, "usage"));
    return json_pack("{s:o}", "data", data);
}

/* ---------------------------------------------------------------- one event */

static void take_choice(struct jr_generate_items *g, const json_t *chunk, const json_t *choice,
                        struct jr_buf *b)
{
    json_t *item = item_of(g, chunk, choice);
    const json_t *data = json_object_get(item, "data");
    jr_generate_items_end(g, b);
    if (json_is_null(json_object_get(data, "finish_reason"))) {
        put_json(b, "data: ", item);
        json_decref(item);
    } else {
        g->last = item;
    }
}

static void take_usage(struct jr_generate_items *g, const json_t *chunk, struct jr_buf *b)
{
    json_t *usage = json_object_get(chunk, "usage");
    if (!json_is_object(usage))
        return;
    if (!g->last)
        g->last = item_of(g, chunk, NULL);
    json_object_set(json_object_get(g->last, "data"), "completion_usage", usage);
    jr_generate_items_end(g, b);
}

static void take_chunk(struct jr_generate_items *g, const json_t *chunk, struct jr_buf *b)
{
    const json_t *error = json_object_get(chunk, "error"), *choice;
    const json_t *choices = json_object_get(chunk, "choices");
    size_t i;
    if (error && !json_is_null(error)) {
        const char *words = json_string_value(json_object_get(error, "message"));
        jr_generate_items_end(g, b);
        jr_generate_items_error(b, "Unknown",
                                words ? words : "the worker says only that it failed");
        return;
    }
    json_array_foreach(choices, i, choice) take_choice(g, chunk, choice, b);
    if (json_array_size(choices) == 0)
        take_usage(g, chunk, b);
}

void jr_generate_items_event(struct jr_generate_items *g, const struct jr_sse_event *ev,
                             struct jr_buf *b)
{
    if (ev->done) {
        jr_generate_items_end(g, b);
        jr_buf_puts(b, "data: [DONE]\n\n");
        return;
    }
    if (ev->data.n == 0)
        return;
    json_t *chunk = json_loadb(ev->data.p, ev->data.n, 0, NULL);
    if (json_is_object(chunk))
        take_chunk(g, chunk, b);
    else
        jr_generate_items_error(b, "Unknown", "the worker sent an event that is no JSON object");
    json_decref(chunk);
}
