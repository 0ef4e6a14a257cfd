/* SPDX-License-Identifier: Apache-2.0 */
#include "app/replay/answer.h"
#include "base/limits.h"
#include "wire/json.h"
#include <string.h>

void jr_answer_init(struct jr_answer *a)
{
    memset(a, 0, sizeof *a);
    jr_sse_init(&a->sse, JR_REPLAY_EVENT_MAX);
}

void jr_answer_deinit(struct jr_answer *a)
{
    jr_sse_deinit(&a->sse);
}

/* A number, or null for none. */
static int read_count(struct jr_json *j, bool *has, uint64_t *ret)
{
    *has = jr_json_peek(j) != JR_JSON_NULL;
    return *has ? jr_json_u64(j, ret) : jr_json_skip(j);
}

static int read_details(struct jr_json *j, struct jr_answer *a)
{
    struct jr_str key;
    if (jr_json_peek(j) == JR_JSON_NULL)
        return jr_json_skip(j);
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0)
        rv = jr_str_eq(key, "cached_tokens") ? read_count(j, &a->has_cached, &a->cached_tokens)
                                             : jr_json_skip(j);
    return rv;
}

static int read_usage(struct jr_json *j, struct jr_answer *a)
{
    struct jr_str key;
    bool has;
    if (jr_json_peek(j) == JR_JSON_NULL)
        return jr_json_skip(j);
    a->has_usage = true;
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0) {
        if (jr_str_eq(key, "prompt_tokens"))
            rv = read_count(j, &has, &a->prompt_tokens);
        else if (jr_str_eq(key, "completion_tokens"))
            rv = read_count(j, &has, &a->completion_tokens);
        else if (jr_str_eq(key, "prompt_tokens_details"))
            rv = read_details(j, a);
        else
            rv = jr_json_skip(j);
    }
    return rv;
}

static int read_choice(struct jr_json *j, struct jr_answer *a)
{
    struct jr_str key;
    int rv = jr_json_object(j);
    a->started = true;
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0) {
        if (jr_str_eq(key, "finish_reason") && jr_json_peek(j) != JR_JSON_NULL)
            a->finished = true;
        rv = jr_json_skip(j);
    }
    return rv;
}

static int read_choices(struct jr_json *j, struct jr_answer *a)
{
    int rv = jr_json_array(j);
    while (rv == 0 && (rv = jr_json_item(j)) > 0)
        rv = read_choice(j, a);
    return rv;
}

static int read_event(struct jr_answer *a, struct jr_str data)
{
    struct jr_json j;
    struct jr_str key;
    jr_json_init(&j, data.p, data.n);
    int rv = jr_json_object(&j);
    while (rv == 0 && (rv = jr_json_key(&j, &key)) > 0) {
        if (jr_str_eq(key, "choices"))
            rv = read_choices(&j, a);
        else if (jr_str_eq(key, "usage"))
            rv = read_usage(&j, a);
        else {
            if (jr_str_eq(key, "error") && jr_json_peek(&j) != JR_JSON_NULL)
                a->fault = "an error inside the stream";
            rv = jr_json_skip(&j);
        }
    }
    return rv < 0 ? rv : jr_json_end(&j);
}

static int on_event(void *ctx, const struct jr_sse_event *ev)
{
    struct jr_answer *a = ctx;
    if (jr_str_eq(ev->event, "error"))
        a->fault = "an error inside the stream";
    else if (ev->data.n == 0)
        return 0; /* a comment that keeps the connection alive */
    else if (a->done)
        a->fault = "data behind [DONE]";
    else if (ev->done)
        a->done = true;
    else if (read_event(a, ev->data) < 0)
        a->fault = "an event that is not a completion";
    return a->fault ? JR_EPROTO : 0;
}

void jr_answer_feed(struct jr_answer *a, const void *p, size_t n)
{
    if (!a->fault && jr_sse_feed(&a->sse, p, n, on_event, a) < 0 && !a->fault)
        a->fault = "an event that is too long";
}

const char *jr_answer_check(const struct jr_answer *a, uint32_t prompt_tokens,
                            uint32_t completion_tokens)
{
    if (a->fault)
        return a->fault;
    if (!a->done)
        return "no [DONE] at the end";
    if (!jr_sse_is_clean(&a->sse))
        return "it ends inside an event";
    if (!a->finished)
        return "no finish_reason";
    if (!a->has_usage)
        return "no usage";
    if (a->completion_tokens != completion_tokens)
        return "not as many completion tokens as asked for";
    if (a->prompt_tokens != prompt_tokens)
        return "prompt_tokens is not the prompt's length";
    if (a->cached_tokens > a->prompt_tokens)
        return "more cached tokens than the prompt has";
    return NULL;
}
