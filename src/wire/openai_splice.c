/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/openai_splice.h"

#include "wire/json.h"

#include <string.h>

/* A text being read, and copied but for some of its values. */
struct edit {
    struct jr_json j;
    const char *copied; /* up to here */
    struct jr_buf *out;
};

static void edit_init(struct edit *e, struct jr_str text, struct jr_buf *out)
{
    jr_json_init(&e->j, text.p, text.n);
    e->copied = text.p;
    e->out = out;
}

static void copy_up_to(struct edit *e, const char *p)
{
    jr_buf_put(e->out, e->copied, (size_t)(p - e->copied));
    e->copied = p;
}

/* The next value, unread: *ret is its text. */
static int read_raw(struct jr_json *j, struct jr_str *ret)
{
    (void)jr_json_peek(j); /* to its first byte */
    const char *from = j->p;
    int rv = jr_json_skip(j);
    *ret = jr_str_of(from, rv == 0 ? (size_t)(j->p - from) : 0);
    return rv;
}

static int replace(struct edit *e, struct jr_str with)
{
    struct jr_str old;
    int rv = read_raw(&e->j, &old);
    if (rv < 0)
        return rv;
    copy_up_to(e, old.p);
    jr_buf_put(e->out, with.p, with.n);
    e->copied = old.p + old.n;
    return 0;
}

static int replace_number(struct edit *e, uint64_t v)
{
    int rv = replace(e, jr_str_of(NULL, 0));
    jr_buf_digits(e->out, v);
    return rv;
}

static int finish(struct edit *e)
{
    int rv = jr_json_end(&e->j);
    if (rv == 0)
        copy_up_to(e, e->j.end);
    return rv < 0 ? rv : e->out->err;
}

/* The number that comes next, without reading it. */
static int look_u64(const struct edit *e, uint64_t *ret)
{
    struct jr_json ahead = e->j;
    return jr_json_peek(&ahead) == JR_JSON_NUMBER ? jr_json_u64(&ahead, ret) : JR_EPROTO;
}

/* ---------------------------------------------------------------- the request */

/* Values with which a field has no say in how the rest goes on. */
enum harmless { ANY, FALSE_ONLY, ONE, ZERO };

static const struct {
    const char *name;
    enum harmless when;
} fields[] = {
    {"model", ANY},
    {"stream", ANY},
    {"stream_options", ANY},
    {"temperature", ANY},
    {"top_p", ANY},
    {"top_k", ANY},
    {"min_p", ANY},
    {"seed", ANY},
    {"user", ANY},
    {"ignore_eos", ANY},
    {"return_token_ids", ANY},
    {"nvext", ANY},
    {"priority", ANY},
    {"cache_salt", ANY},
    {"request_id", ANY},
    {"lora_name", ANY},
    {"skip_special_tokens", ANY},
    {"spaces_between_special_tokens", ANY},
    {"add_special_tokens", ANY}, /* of texts only */
    {"stop_token_ids", ANY},
    {"logit_bias", ANY},
    {"allowed_token_ids", ANY},
    {"repetition_penalty", ANY}, /* counts the prompt and the answer alike */
    {"frequency_penalty", ZERO}, /* these count the answer only */
    {"presence_penalty", ZERO},
    {"echo", FALSE_ONLY},
    {"n", ONE},
    {"best_of", ONE},
};

static bool is_number(struct jr_str raw, uint64_t v)
{
    struct jr_json j;
    double is;
    jr_json_init(&j, raw.p, raw.n);
    return jr_json_peek(&j) == JR_JSON_NUMBER && jr_json_f64(&j, &is) == 0 && is == (double)v;
}

static bool is_harmless(struct jr_str raw, enum harmless when)
{
    switch (when) {
    case ANY:
        return true;
    case FALSE_ONLY:
        return jr_str_eq(raw, "false");
    case ONE:
        return is_number(raw, 1);
    case ZERO:
        return is_number(raw, 0);
    }
    return false;
}

static int check_field(struct edit *e, struct jr_str key)
{
    struct jr_str raw;
    int rv = read_raw(&e->j, &raw);
    if (rv < 0 || jr_str_eq(raw, "null"))
        return rv;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (jr_str_eq(key, fields[i].name))
            return is_harmless(raw, fields[i].when) ? 0 : JR_EUNSUPPORTED;
    return JR_EUNSUPPORTED;
}

static bool is_empty(struct jr_str array)
{
    struct jr_json j;
    jr_json_init(&j, array.p, array.n);
    return jr_json_array(&j) < 0 || jr_json_item(&j) <= 0;
}

/* [1,2] and 7,8 make [1,2,7,8]. */
static int lengthen(struct edit *e, struct jr_str ids)
{
    struct jr_str raw;
    if (jr_json_peek(&e->j) != JR_JSON_ARRAY)
        return JR_EUNSUPPORTED;
    int rv = read_raw(&e->j, &raw);
    if (rv < 0)
        return rv;
    if (is_empty(raw))
        return JR_EUNSUPPORTED;
    copy_up_to(e, raw.p + raw.n - 1);
    jr_buf_put(e->out, ",", 1);
    jr_buf_put(e->out, ids.p, ids.n);
    return 0;
}

static int less_max_tokens(struct edit *e, uint64_t produced)
{
    uint64_t v;
    if (look_u64(e, &v) < 0 || v <= produced)
        return JR_EUNSUPPORTED;
    return replace_number(e, v - produced);
}

static int less_min_tokens(struct edit *e, uint64_t produced)
{
    uint64_t v;
    if (jr_json_peek(&e->j) == JR_JSON_NULL)
        return jr_json_skip(&e->j);
    if (look_u64(e, &v) < 0)
        return JR_EUNSUPPORTED;
    return replace_number(e, v > produced ? v - produced : 0);
}

int jr_openai_splice_body(struct jr_str body, struct jr_str ids, uint64_t n_ids, struct jr_buf *out)
{
    struct edit e;
    struct jr_str key;
    bool has_max = false, has_prompt = false;
    edit_init(&e, body, out);
    int rv = jr_json_object(&e.j);
    while (rv == 0 && (rv = jr_json_key(&e.j, &key)) > 0) {
        if (jr_str_eq(key, "prompt")) {
            has_prompt = true;
            rv = lengthen(&e, ids);
        } else if (jr_str_eq(key, "max_tokens")) {
            has_max = true;
            rv = less_max_tokens(&e, n_ids);
        } else if (jr_str_eq(key, "min_tokens")) {
            rv = less_min_tokens(&e, n_ids);
        } else {
            rv = check_field(&e, key);
        }
    }
    if (rv == 0)
        rv = finish(&e);
    return rv == 0 && (!has_max || !has_prompt) ? JR_EUNSUPPORTED : rv;
}

/* ---------------------------------------------------------------- the chunks */

int jr_openai_chunk_head(struct jr_str chunk, struct jr_openai_chunk_head *ret)
{
    struct jr_json j;
    struct jr_str key, raw;
    *ret = (struct jr_openai_chunk_head){.id = {NULL, 0}};
    jr_json_init(&j, chunk.p, chunk.n);
    int rv = jr_json_object(&j);
    while (rv == 0 && (rv = jr_json_key(&j, &key)) > 0) {
        rv = read_raw(&j, &raw);
        if (jr_str_eq(key, "id"))
            ret->id = raw;
        else if (jr_str_eq(key, "created"))
            ret->created = raw;
        else if (jr_str_eq(key, "model"))
            ret->model = raw;
    }
    return rv == 0 ? jr_json_end(&j) : rv;
}

static int splice_choice(struct edit *e)
{
    struct jr_str key;
    int rv = jr_json_object(&e->j);
    while (rv == 0 && (rv = jr_json_key(&e->j, &key)) > 0)
        rv = jr_str_eq(key, "prompt_token_ids") ? replace(e, jr_str_of("null", 4))
                                                : jr_json_skip(&e->j);
    return rv;
}

static int splice_choices(struct edit *e)
{
    if (jr_json_peek(&e->j) != JR_JSON_ARRAY)
        return jr_json_skip(&e->j);
    int rv = jr_json_array(&e->j);
    while (rv == 0 && (rv = jr_json_item(&e->j)) > 0)
        rv = splice_choice(e);
    return rv;
}

/* What the second worker had cached may be of the first one's answer: that was no prompt. */
static int splice_details(struct edit *e, const struct jr_openai_splice *s)
{
    struct jr_str key;
    uint64_t v;
    if (jr_json_peek(&e->j) != JR_JSON_OBJECT)
        return jr_json_skip(&e->j);
    int rv = jr_json_object(&e->j);
    while (rv == 0 && (rv = jr_json_key(&e->j, &key)) > 0) {
        if (jr_str_eq(key, "cached_tokens") && look_u64(e, &v) == 0 && v > s->prompt_tokens)
            rv = replace_number(e, s->prompt_tokens);
        else
            rv = jr_json_skip(&e->j);
    }
    return rv;
}

static int splice_usage(struct edit *e, const struct jr_openai_splice *s)
{
    struct jr_str key;
    uint64_t v;
    if (jr_json_peek(&e->j) != JR_JSON_OBJECT)
        return jr_json_skip(&e->j);
    int rv = jr_json_object(&e->j);
    while (rv == 0 && (rv = jr_json_key(&e->j, &key)) > 0) {
        if (jr_str_eq(key, "prompt_tokens"))
            rv = replace_number(e, s->prompt_tokens);
        else if (jr_str_eq(key, "completion_tokens") && look_u64(e, &v) == 0)
            rv = replace_number(e, v + s->produced);
        else if (jr_str_eq(key, "prompt_tokens_details"))
            rv = splice_details(e, s);
        else
            rv = jr_json_skip(&e->j); /* the total is the same */
    }
    return rv;
}

static int splice_field(struct edit *e, struct jr_str key, const struct jr_openai_splice *s)
{
    if (jr_str_eq(key, "id") && s->head.id.n)
        return replace(e, s->head.id);
    if (jr_str_eq(key, "created") && s->head.created.n)
        return replace(e, s->head.created);
    if (jr_str_eq(key, "model") && s->head.model.n)
        return replace(e, s->head.model);
    if (jr_str_eq(key, "choices"))
        return splice_choices(e);
    if (jr_str_eq(key, "usage"))
        return splice_usage(e, s);
    return jr_json_skip(&e->j);
}

int jr_openai_splice_chunk(struct jr_str chunk, const struct jr_openai_splice *s,
                           struct jr_buf *out)
{
    struct edit e;
    struct jr_str key;
    edit_init(&e, chunk, out);
    int rv = jr_json_object(&e.j);
    while (rv == 0 && (rv = jr_json_key(&e.j, &key)) > 0)
        rv = splice_field(&e, key, s);
    return rv == 0 ? finish(&e) : rv;
}
