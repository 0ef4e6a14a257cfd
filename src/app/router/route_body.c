/* SPDX-License-Identifier: Apache-2.0 */
#include "app/router/route_body.h"

#include "base/cursor.h"
#include "wire/json.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static int refuse(struct jr_route_error *e, int err, const char *param, const char *words)
{
    e->param = param;
    return jr_errmsg_set(&e->msg, err, "%s", words);
}

/* ---------------------------------------------------------------- the ids, and the rest */

static int read_ids(struct jr_json *j, struct jr_tokens *tokens, struct jr_route_error *e)
{
    tokens->n = 0;
    int err = jr_json_peek(j) == JR_JSON_ARRAY ? jr_tokens_read(j, tokens) : JR_EPROTO;
    if (err == JR_ELIMIT || err == JR_ENOMEM)
        return refuse(e, err, "token_ids", "too many token ids");
    if (err < 0)
        return refuse(e, JR_EINVAL, "token_ids",
                      "'token_ids' must be a list of token ids, whole numbers of 32 bits");
    return 0;
}

/* Copies the object with null in the ids' place. */
static int split(struct jr_str body, struct jr_json *j, struct jr_tokens *tokens,
                 struct jr_buf *rest, struct jr_route_error *e)
{
    struct jr_str key;
    size_t copied = 0;
    bool found = false;
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0) {
        if (!jr_str_eq(key, "token_ids")) {
            rv = jr_json_skip(j);
            continue;
        }
        (void)jr_json_peek(j); /* goes to its first byte */
        size_t at = jr_json_at(j);
        jr_buf_put(rest, body.p + copied, at - copied);
        jr_buf_puts(rest, "null");
        rv = read_ids(j, tokens, e);
        if (rv < 0)
            return rv;
        copied = jr_json_at(j);
        found = true;
    }
    if (rv == 0)
        rv = jr_json_end(j);
    if (rv < 0)
        return refuse(e, JR_EPROTO, NULL, "the body is not one whole JSON object");
    if (!found)
        return refuse(e, JR_EINVAL, "token_ids", "'token_ids' is missing: give the prompt's ids");
    jr_buf_put(rest, body.p + copied, body.n - copied);
    return rest->err;
}

static int load_rest(struct jr_str body, struct jr_json *j, struct jr_tokens *tokens, json_t **ret,
                     struct jr_route_error *e)
{
    struct jr_buf rest;
    json_error_t why;
    jr_buf_init(&rest, body.n + 64);
    int err = split(body, j, tokens, &rest, e);
    if (err == 0) {
        *ret = json_loadb((const char *)rest.p, rest.n, JSON_REJECT_DUPLICATES, &why);
        if (!*ret)
            err = refuse(e, JR_EPROTO, NULL, why.text);
    }
    jr_buf_deinit(&rest);
    return err;
}

int jr_route_body_load(struct jr_str body, struct jr_tokens *tokens, json_t **ret,
                       struct jr_route_error *e)
{
    struct jr_json j;
    int err;
    *ret = NULL;
    e->param = NULL;
    jr_json_init(&j, body.p, body.n);
    if (jr_json_peek(&j) == JR_JSON_ARRAY) {
        err = read_ids(&j, tokens, e);
        if (err == 0 && jr_json_end(&j) < 0)
            err = refuse(e, JR_EPROTO, NULL, "there is something behind the list of token ids");
        if (err == 0)
            *ret = json_object();
    } else {
        err = load_rest(body, &j, tokens, ret, e);
    }
    if (err == 0 && tokens->n == 0)
        err = refuse(e, JR_EINVAL, "token_ids", "'token_ids' is empty: give the prompt's ids");
    if (err < 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    return err;
}

/* ---------------------------------------------------------------- fields */

/* NULL: missing or null. */
static const json_t *field(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

static int read_text(const json_t *o, const char *key, char *ret, size_t cap,
                     struct jr_route_error *e)
{
    const json_t *v = field(o, key);
    if (v && (!json_is_string(v) || !jr_str_copy(ret, cap, json_string_value(v))))
        return refuse(e, JR_EINVAL, key, "this field must be a text, and not a long one");
    return 0;
}

/* Numbers, or their decimal text where they may pass 2^53. */
static int read_whole(const json_t *o, const char *key, uint64_t max, bool *ret_has, uint64_t *ret,
                      struct jr_route_error *e)
{
    const json_t *v = field(o, key);
    uint64_t n = 0;
    bool fits = json_is_integer(v) && json_integer_value(v) >= 0;
    if (fits)
        n = (uint64_t)json_integer_value(v);
    else if (json_is_string(v))
        fits = jr_parse_u64(json_string_value(v), json_string_length(v), &n) == 0;
    if (v && !(fits && n <= max))
        return refuse(e, JR_EINVAL, key, "this field must be a whole number that is not negative");
    *ret_has = v != NULL;
    *ret = n;
    return 0;
}

static int read_u32(const json_t *o, const char *key, bool *ret_has, uint32_t *ret,
                    struct jr_route_error *e)
{
    uint64_t n;
    bool has;
    int err = read_whole(o, key, UINT32_MAX, &has, &n, e);
    if (err == 0 && has) {
        *ret = (uint32_t)n;
        if (ret_has)
            *ret_has = true;
    }
    return err;
}

static int read_object(const json_t *root, const char *key, const json_t **ret,
                       struct jr_route_error *e)
{
    *ret = field(root, key);
    return *ret && !json_is_object(*ret) ? refuse(e, JR_EINVAL, key, "this field must be an object")
                                         : 0;
}

static const struct {
    const char *key;
    size_t has, value;
    bool is_bool;
} overrides[] = {
#define ROW(key, name, is_bool)                                                                    \
    {                                                                                              \
        key, offsetof(struct jr_route_override, has_##name),                                       \
            offsetof(struct jr_route_override, name), is_bool                                      \
    }
    ROW("overlap_score_weight", overlap_weight, false),
    ROW("overlap_score_credit", credit, false),
    ROW("prefill_load_scale", scale, false),
    ROW("router_temperature", temperature, false),
    ROW("assume_kv_reuse", assume_kv_reuse, true),
    ROW("track_prefill_tokens", track_prefill_tokens, true),
#undef ROW
};

static int read_override(const json_t *root, struct jr_route_override *ret,
                         struct jr_route_error *e)
{
    const json_t *o;
    int err = read_object(root, "router_config_override", &o, e);
    for (size_t i = 0; err == 0 && i < sizeof overrides / sizeof *overrides; i++) {
        const json_t *v = field(o, overrides[i].key);
        char *at = (char *)ret;
        if (!v)
            continue;
        double x = json_number_value(v);
        if (overrides[i].is_bool && !json_is_boolean(v))
            return refuse(e, JR_EINVAL, overrides[i].key, "this override must be true or false");
        if (!overrides[i].is_bool && !(json_is_number(v) && isfinite(x) && x >= 0))
            return refuse(e, JR_EINVAL, overrides[i].key,
                          "this override must be a finite number that is not negative");
        *(bool *)(void *)(at + overrides[i].has) = true;
        if (overrides[i].is_bool)
            *(bool *)(void *)(at + overrides[i].value) = json_is_true(v);
        else
            *(double *)(void *)(at + overrides[i].value) = x;
    }
    return err;
}

/* The pool's workers do prefill and decode: what names a worker of one phase alone names nobody. */
static int read_routing(const json_t *root, struct jr_route_fields *ret, struct jr_route_error *e)
{
    const json_t *r, *jump;
    int err = read_object(root, "routing", &r, e);
    if (err == 0)
        err = read_whole(r, "backend_instance_id", UINT64_MAX, &ret->has_pin, &ret->pin, e);
    if (err == 0) /* the older place first */
        err = read_u32(root, "dp_rank", &ret->has_pin_rank, &ret->pin_rank, e);
    if (err == 0)
        err = read_u32(r, "dp_rank", &ret->has_pin_rank, &ret->pin_rank, e);
    if (err == 0)
        err = read_u32(r, "expected_output_tokens", NULL, &ret->expected_output_tokens, e);
    if (err == 0)
        err = read_text(r, "lora_name", ret->lora, sizeof ret->lora, e);
    if (err < 0)
        return err;
    jump = field(r, "priority_jump");
    if (jump && !json_is_number(jump))
        return refuse(e, JR_EINVAL, "priority_jump", "this field must be a number of seconds");
    ret->priority_jump_s = json_number_value(jump);
    if (json_array_size(field(r, "allowed_worker_ids")) > 0)
        return refuse(e, JR_EINVAL, "allowed_worker_ids",
                      "a request names one worker (backend_instance_id) or none");
    ret->has_pin_rank = ret->has_pin_rank && ret->has_pin; /* of the worker that is named */
    return 0;
}

int jr_route_body_fields(const json_t *root, struct jr_route_fields *ret, struct jr_route_error *e)
{
    *ret = (struct jr_route_fields){.has_pin = false};
    e->param = NULL;
    int err = read_text(root, "model", ret->model, sizeof ret->model, e);
    if (strcmp(ret->model, "unknown") == 0)
        ret->model[0] = '\0';
    if (err == 0)
        err = read_text(root, "request_id", ret->request_id, sizeof ret->request_id, e);
    if (err == 0)
        err = read_text(root, "lora_name", ret->lora, sizeof ret->lora, e);
    if (err == 0)
        err = read_text(root, "cache_salt", ret->cache_salt, sizeof ret->cache_salt, e);
    if (err == 0)
        err = read_routing(root, ret, e);
    return err < 0 ? err : read_override(root, &ret->override, e);
}
