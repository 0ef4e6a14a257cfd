/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/openai_reply.h"
#include "wire/json.h"
#include "wire/sse.h"

/* Is there something in this value: a text, list or object that is not empty. Reads it. */
static int read_filled(struct jr_json *j, bool *ret)
{
    struct jr_str s;
    enum jr_json_type type = jr_json_peek(j);
    if (type == JR_JSON_STR) {
        int rv = jr_json_str(j, &s);
        *ret = rv == 0 && s.n > 0;
        return rv;
    }
    if (type != JR_JSON_ARRAY && type != JR_JSON_OBJECT) {
        *ret = false;
        return jr_json_skip(j);
    }
    size_t at = jr_json_at(j);
    int rv = jr_json_skip(j);
    /* Longer than "[]" or "{}" with a space or two between; a list of ids is never that short. */
    size_t n = jr_json_at(j) - at;
    *ret = false;
    for (size_t i = 1; rv == 0 && i + 1 < n; i++) {
        *ret = *ret || (unsigned char)j->start[at + i] > ' ';
    }
    return rv;
}

/* delta (of a stream) or message (of a whole reply). */
static int read_delta(struct jr_json *j, bool *content)
{
    struct jr_str key;
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0) {
        bool filled = false;
        bool counts = jr_str_eq(key, "content") || jr_str_eq(key, "reasoning_content") ||
                      jr_str_eq(key, "reasoning") || jr_str_eq(key, "tool_calls") ||
                      jr_str_eq(key, "refusal") || jr_str_eq(key, "function_call");
        rv = counts ? read_filled(j, &filled) : jr_json_skip(j);
        *content = *content || filled;
    }
    return rv;
}

/* How many elements; null and others are 0. */
static int read_length(struct jr_json *j, uint32_t *ret)
{
    *ret = 0;
    if (jr_json_peek(j) != JR_JSON_ARRAY) {
        return jr_json_skip(j);
    }
    int rv = jr_json_array(j);
    while (rv == 0 && (rv = jr_json_item(j)) > 0) {
        rv = jr_json_skip(j);
        (*ret)++;
    }
    return rv;
}

static int read_ids(struct jr_json *j, struct jr_openai_reply *r, uint32_t *ret_n)
{
    (void)jr_json_peek(j); /* to its first byte */
    const char *from = j->p;
    int rv = read_length(j, ret_n);
    r->n_token_ids += *ret_n;
    if (*ret_n > 0) {
        r->token_ids = jr_str_of(from, (size_t)(j->p - from));
    }
    return rv;
}

static int read_finish(struct jr_json *j, struct jr_openai_reply *r)
{
    if (jr_json_peek(j) != JR_JSON_STR) {
        return jr_json_skip(j);
    }
    int rv = jr_json_str(j, &r->finish_reason);
    r->n_finished += rv == 0 && r->finish_reason.n > 0;
    return rv;
}

static int read_choice(struct jr_json *j, struct jr_openai_reply *r)
{
    struct jr_str key;
    bool content = false;
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0) {
        bool filled = false;
        uint32_t n = 0;
        if (jr_str_eq(key, "text")) {
            rv = read_filled(j, &filled);
            r->has_text = r->has_text || filled;
        } else if ((jr_str_eq(key, "delta") || jr_str_eq(key, "message")) &&
                   jr_json_peek(j) == JR_JSON_OBJECT) {
            rv = read_delta(j, &filled);
        } else if (jr_str_eq(key, "token_ids")) {
            rv = read_ids(j, r, &n);
            filled = n > 0;
        } else if (jr_str_eq(key, "finish_reason")) {
            rv = read_finish(j, r);
        } else {
            rv = jr_json_skip(j);
        }
        content = content || filled;
    }
    r->n_choices++;
    r->n_content += content ? 1 : 0;
    return rv;
}

static int read_choices(struct jr_json *j, struct jr_openai_reply *r)
{
    if (jr_json_peek(j) != JR_JSON_ARRAY) {
        return jr_json_skip(j);
    }
    int rv = jr_json_array(j);
    while (rv == 0 && (rv = jr_json_item(j)) > 0) {
        rv = read_choice(j, r);
    }
    return rv;
}

static int read_count(struct jr_json *j, uint64_t *ret, bool *ret_has)
{
    if (jr_json_peek(j) != JR_JSON_NUMBER) {
        return jr_json_skip(j);
    }
    int rv = jr_json_u64(j, ret);
    *ret_has = *ret_has || rv == 0;
    return rv;
}

static int read_details(struct jr_json *j, struct jr_openai_reply *r)
{
    struct jr_str key;
    if (jr_json_peek(j) != JR_JSON_OBJECT) {
        return jr_json_skip(j);
    }
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0) {
        rv = jr_str_eq(key, "cached_tokens") ? read_count(j, &r->cached_tokens, &r->has_cached)
                                             : jr_json_skip(j);
    }
    return rv;
}

static int read_usage(struct jr_json *j, struct jr_openai_reply *r)
{
    struct jr_str key;
    if (jr_json_peek(j) != JR_JSON_OBJECT) {
        return jr_json_skip(j);
    }
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0) {
        if (jr_str_eq(key, "prompt_tokens")) {
            rv = read_count(j, &r->prompt_tokens, &r->has_usage);
        } else if (jr_str_eq(key, "completion_tokens")) {
            rv = read_count(j, &r->completion_tokens, &r->has_usage);
        } else if (jr_str_eq(key, "prompt_tokens_details")) {
            rv = read_details(j, r);
        } else {
            rv = jr_json_skip(j);
        }
    }
    return rv;
}

static int read_error(struct jr_json *j, struct jr_openai_reply *r)
{
    struct jr_str key;
    r->is_error = jr_json_peek(j) != JR_JSON_NULL;
    if (jr_json_peek(j) == JR_JSON_STR) {
        return jr_json_str(j, &r->error_message);
    }
    if (jr_json_peek(j) != JR_JSON_OBJECT) {
        return jr_json_skip(j);
    }
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0) {
        bool words = jr_str_eq(key, "message") && jr_json_peek(j) == JR_JSON_STR;
        rv = words ? jr_json_str(j, &r->error_message) : jr_json_skip(j);
    }
    return rv;
}

static int read_field(struct jr_json *j, struct jr_str key, struct jr_openai_reply *r)
{
    if (jr_str_eq(key, "choices")) {
        return read_choices(j, r);
    }
    if (jr_str_eq(key, "usage")) {
        return read_usage(j, r);
    }
    if (jr_str_eq(key, "error")) {
        return read_error(j, r);
    }
    if (jr_str_eq(key, "id") && jr_json_peek(j) == JR_JSON_STR) {
        return jr_json_str(j, &r->id);
    }
    return jr_json_skip(j);
}

int jr_openai_reply_parse(const void *p, size_t n, struct jr_openai_reply *ret)
{
    struct jr_json j;
    struct jr_str key;
    struct jr_openai_reply r = {.n_choices = 0};
    jr_json_init(&j, p, n);
    int rv = jr_json_object(&j);
    while (rv == 0 && (rv = jr_json_key(&j, &key)) > 0) {
        rv = read_field(&j, key, &r);
    }
    if (rv == 0) {
        rv = jr_json_end(&j);
    }
    if (rv == 0) {
        *ret = r;
    }
    return rv;
}

static bool take_reply(struct jr_openai_progress *pr, const struct jr_openai_reply *r)
{
    bool first = !pr->first_token && r->n_content > 0;
    pr->first_token = pr->first_token || r->n_content > 0;
    pr->n_content += r->n_token_ids > r->n_content ? r->n_token_ids : r->n_content;
    pr->finished = pr->finished || r->n_finished > 0;
    pr->failed = pr->failed || r->is_error;
    pr->token_ids = r->token_ids;
    pr->n_token_ids = r->n_token_ids;
    pr->has_text = r->has_text;
    if (r->has_usage) {
        pr->has_usage = true;
        pr->prompt_tokens = r->prompt_tokens;
        pr->completion_tokens = r->completion_tokens;
        pr->has_cached = r->has_cached;
        pr->cached_tokens = r->cached_tokens;
    }
    return first;
}

bool jr_openai_progress_event(struct jr_openai_progress *pr, const struct jr_sse_event *ev)
{
    pr->n_token_ids = 0;
    if (ev->done) {
        pr->done = true;
        return false;
    }
    if (jr_str_eq(ev->event, "error")) {
        pr->failed = true; /* Dynamo's: the words are in a comment, and no data */
    }
    return ev->data.n > 0 && jr_openai_progress_body(pr, ev->data.p, ev->data.n);
}

bool jr_openai_progress_body(struct jr_openai_progress *pr, const void *p, size_t n)
{
    struct jr_openai_reply r;
    if (jr_openai_reply_parse(p, n, &r) != 0) {
        pr->bad_chunks++;
        return false;
    }
    return take_reply(pr, &r);
}

static const struct status_row {
    int status;
    const char *reason;
    const char *type; /* what OpenAI calls it */
} statuses[] = {
    {400, "Bad Request", "invalid_request_error"},
    {401, "Unauthorized", "authentication_error"},
    {403, "Forbidden", "permission_error"},
    {404, "Not Found", "not_found_error"},
    {405, "Method Not Allowed", "invalid_request_error"},
    {408, "Request Timeout", "timeout_error"},
    {409, "Conflict", "invalid_request_error"},
    {411, "Length Required", "invalid_request_error"},
    {413, "Payload Too Large", "invalid_request_error"},
    {414, "URI Too Long", "invalid_request_error"},
    {415, "Unsupported Media Type", "invalid_request_error"},
    {422, "Unprocessable Entity", "invalid_request_error"},
    {429, "Too Many Requests", "rate_limit_error"},
    {431, "Request Header Fields Too Large", "invalid_request_error"},
    {499, "Client Closed Request", "api_error"},
    {500, "Internal Server Error", "api_error"},
    {501, "Not Implemented", "api_error"},
    {502, "Bad Gateway", "api_error"},
    {503, "Service Unavailable", "service_unavailable_error"},
    {504, "Gateway Timeout", "timeout_error"},
    {529, "Overloaded", "overloaded_error"},
};

static const struct status_row *status_row_of(int status)
{
    static const struct status_row other = {0, "Error", "api_error"};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        if (statuses[i].status == status) {
            return &statuses[i];
        }
    }
    return &other;
}

const char *jr_openai_error_type(int status)
{
    return status_row_of(status)->type;
}

const char *jr_openai_reason(int status)
{
    return status_row_of(status)->reason;
}

static void put_details(struct jr_buf *b, const struct jr_openai_failure *f)
{
    if (!f->details)
        return;
    jr_buf_puts(b, ",\"details\":");
    jr_buf_puts(b, f->details);
}

void jr_openai_error_write(struct jr_buf *b, const struct jr_openai_failure *f)
{
    const struct status_row *row = status_row_of(f->status);
    jr_buf_puts(b, "{\"message\":");
    jr_buf_json_str(b, f->message);
    jr_buf_puts(b, ",\"type\":");
    jr_buf_json_str(b, row->reason);
    jr_buf_printf(b, ",\"code\":%d", f->status);
    put_details(b, f);
    jr_buf_puts(b, ",\"error\":{\"message\":");
    jr_buf_json_str(b, f->message);
    jr_buf_puts(b, ",\"type\":");
    jr_buf_json_str(b, f->type != NULL ? f->type : row->type);
    jr_buf_puts(b, ",\"param\":");
    jr_buf_json_str(b, f->param);
    jr_buf_puts(b, ",\"code\":");
    jr_buf_json_str(b, f->code);
    put_details(b, f);
    jr_buf_puts(b, "}}");
}
