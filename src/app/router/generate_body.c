/* SPDX-License-Identifier: Apache-2.0 */
#include "app/router/generate_body.h"

#include <string.h>

/* Of an object of the request, NULL: of the request itself; under which name the workers know it, NULL:
 * the same. */
static const struct field {
    const char *object, *key, *name;
} fields[] = {
    {"stop_conditions", "max_tokens", NULL},
    {"stop_conditions", "min_tokens", NULL},
    {"stop_conditions", "stop", NULL},
    {"stop_conditions", "ignore_eos", NULL},
    {"sampling_options", "n", NULL},
    {"sampling_options", "best_of", NULL},
    {"sampling_options", "presence_penalty", NULL},
    {"sampling_options", "frequency_penalty", NULL},
    {"sampling_options", "repetition_penalty", NULL},
    {"sampling_options", "temperature", NULL},
    {"sampling_options", "top_p", NULL},
    {"sampling_options", "top_k", NULL},
    {"sampling_options", "min_p", NULL},
    {"sampling_options", "use_beam_search", NULL},
    {"sampling_options", "length_penalty", NULL},
    {"sampling_options", "seed", NULL},
    {"sampling_options", "include_stop_str_in_output", NULL},
    {"sampling_options", "guided_decoding", "structured_outputs"},
    {"output_options", "logprobs", NULL},
    {"output_options", "prompt_logprobs", NULL},
    {"output_options", "skip_special_tokens", NULL},
    {"routing", "priority", NULL},
    {"bootstrap_info", "bootstrap_host", NULL},
    {"bootstrap_info", "bootstrap_port", NULL},
    {"bootstrap_info", "bootstrap_room", NULL},
    {NULL, "cache_salt", NULL},
    {NULL, "extra_args", NULL},
};

/* Left out silently, the answer would not be what was asked for. */
static const struct field refused[] = {
    {"stop_conditions", "max_thinking_tokens", NULL},
    {NULL, "multi_modal_data", NULL},
    {NULL, "prompt_embeds", NULL},
};

static const json_t *value_of(const json_t *root, const struct field *f)
{
    const json_t *o = f->object ? json_object_get(root, f->object) : root;
    const json_t *v = json_object_get(o, f->key);
    return json_is_null(v) ? NULL : v;
}

static int refuse(struct jr_route_error *e, const char *param, const char *words)
{
    e->param = param;
    return jr_errmsg_set(&e->msg, JR_EINVAL, "%s", words);
}

static int check(const json_t *root, struct jr_route_error *e)
{
    static const char *const objects[] = {"stop_conditions", "sampling_options", "output_options",
                                          "prefill_result", "bootstrap_info"};
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
        const json_t *o = json_object_get(root, objects[i]);
        if (o && !json_is_null(o) && !json_is_object(o))
            return refuse(e, objects[i], "this field must be an object");
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (value_of(root, &refused[i]))
            return refuse(e, refused[i].key, "the workers' API has no word for this field");
    return 0;
}

static void put_value(struct jr_buf *b, const char *name, const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    jr_buf_printf(b, ",\"%s\":", name);
    jr_buf_puts(b, text ? text : "null");
    free(text);
}

/* A whole number within an object; has: it is there. */
static int read_number(const json_t *root, const struct field *f, uint32_t most, bool *ret_has,
                       uint32_t *ret, struct jr_route_error *e)
{
    const json_t *v = value_of(root, f);
    *ret_has = v != NULL;
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > most)
        return refuse(e, f->key, "this field must be a whole number that is not negative");
    *ret = (uint32_t)json_integer_value(v);
    return 0;
}

static void put_list(struct jr_buf *b, const json_t *list, bool *first)
{
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v)
    {
        jr_buf_printf(b, "%s%" JSON_INTEGER_FORMAT, *first ? ",\"stop_token_ids\":[" : ",",
                      json_integer_value(v));
        *first = false;
    }
}

/* Ids that end it: those that are hidden, and the model's own, unless these do not count. */
static void put_stop_ids(struct jr_buf *b, const json_t *root)
{
    const json_t *stop = json_object_get(root, "stop_conditions");
    bool first = true;
    put_list(b, json_object_get(stop, "stop_token_ids_hidden"), &first);
    if (!json_is_true(json_object_get(stop, "ignore_eos")))
        put_list(b, json_object_get(root, "eos_token_ids"), &first);
    jr_buf_puts(b, first ? "" : "]");
}

/* What a prefill worker handed over to the one that decodes. */
static void put_handed_over(struct jr_buf *b, const json_t *root)
{
    const json_t *result = json_object_get(root, "prefill_result");
    const json_t *params =
        json_object_get(json_object_get(result, "disaggregated_params"), "kv_transfer_params");
    if (params && !json_is_null(params))
        put_value(b, "kv_transfer_params", params);
}

static void put_body(struct jr_buf *b, const json_t *root, const struct jr_route_fields *r,
                     const struct jr_tokens *ids)
{
    const char *model = r->lora[0] ? r->lora : r->model; /* an adapter is a model by its name */
    jr_buf_puts(b, "{");
    if (model[0]) {
        jr_buf_puts(b, JR_GENERATE_MODEL);
        jr_buf_json_str(b, model);
        jr_buf_puts(b, ",");
    }
    jr_buf_puts(b, "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                   "\"return_token_ids\":true");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const json_t *v = value_of(root, &fields[i]);
        if (v)
            put_value(b, fields[i].name ? fields[i].name : fields[i].key, v);
    }
    put_stop_ids(b, root);
    put_handed_over(b, root);
    jr_buf_puts(b, ",\"prompt\":");
    jr_tokens_write(b, ids->v, ids->n);
    jr_buf_puts(b, "}");
}

/* Of the annotations, the one that is for the router. */
static void read_annotations(const json_t *root, struct jr_openai_nvext *ret)
{
    size_t i;
    const json_t *v;
    json_array_foreach(json_object_get(root, "annotations"), i,
                       v) if (json_is_string(v) &&
                              strncmp(json_string_value(v), "query_instance_id:", 18) == 0)
        ret->annotations[0] = jr_str_of(json_string_value(v), json_string_length(v));
    ret->n_annotations = ret->annotations[0].n > 0;
}

int jr_generate_body(const json_t *root, const struct jr_route_fields *r,
                     const struct jr_tokens *ids, struct jr_buf *out, struct jr_openai_request *ret,
                     struct jr_route_error *e)
{
    static const struct field max_tokens = {"stop_conditions", "max_tokens", NULL};
    static const struct field choices = {"sampling_options", "n", NULL};
    *ret = (struct jr_openai_request){
        .kind = JR_OPENAI_COMPLETION,
        .model = jr_str_of(r->model, strlen(r->model)),
        .prompt = JR_PROMPT_TOKENS,
        .n_prompts = 1,
        .tokens_told = ids->n,
        .stream = true,
        .include_usage = true,
        .return_token_ids = true,
        .n = 1,
        .cache_salt = jr_str_of(r->cache_salt, strlen(r->cache_salt)),
        .lora_name = jr_str_of(r->lora, strlen(r->lora)),
    };
    bool has_n;
    int err = check(root, e);
    if (err == 0)
        err = read_number(root, &max_tokens, UINT32_MAX, &ret->has_max_tokens, &ret->max_tokens, e);
    if (err == 0)
        err = read_number(root, &choices, 128, &has_n, &ret->n, e);
    if (err < 0)
        return err;
    read_annotations(root, &ret->nvext);
    put_body(out, root, r, ids);
    return out->err;
}
