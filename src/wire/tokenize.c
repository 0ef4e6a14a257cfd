/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tokenize.h"
#include "wire/json.h"

#include <stddef.h>

static const struct field {
    const char *name;
    size_t offset; /* of its span in a request */
} chat_fields[] = {
    {"tools", offsetof(struct jr_openai_request, tools)},
    {"chat_template", offsetof(struct jr_openai_request, chat_template)},
    {"chat_template_kwargs", offsetof(struct jr_openai_request, chat_template_kwargs)},
    {"add_generation_prompt", offsetof(struct jr_openai_request, add_generation_prompt)},
    {"continue_final_message", offsetof(struct jr_openai_request, continue_final_message)},
    {"mm_processor_kwargs", offsetof(struct jr_openai_request, mm_processor_kwargs)},
    {"add_special_tokens", offsetof(struct jr_openai_request, add_special_tokens)},
};
#define N_CHAT_FIELDS (sizeof chat_fields / sizeof *chat_fields)
_Static_assert(N_CHAT_FIELDS + 2 == JR_TOKENIZE_FIELDS, "the model, the kind, and these");

static struct jr_str raw(const struct jr_openai_request *req, const void *body, size_t offset)
{
    const struct jr_openai_span *s = (const void *)((const char *)req + offset);
    return jr_str_of((const char *)body + s->off, s->n);
}

void jr_tokenize_fields(const struct jr_openai_request *req, const void *body,
                        struct jr_str ret[JR_TOKENIZE_FIELDS])
{
    bool is_chat = req->kind == JR_OPENAI_CHAT;
    ret[0] = is_chat ? jr_str_of("messages", 8) : jr_str_of("prompt", 6);
    ret[1] = req->model;
    for (size_t i = 0; i < N_CHAT_FIELDS; i++)
        ret[2 + i] = raw(req, body, chat_fields[i].offset);
}

static void put_model(struct jr_buf *b, struct jr_str model)
{
    if (model.n > 0) {
        jr_buf_puts(b, "\"model\":\"");
        jr_buf_json_escape(b, model.p, model.n);
        jr_buf_puts(b, "\",");
    }
}

static void put_raw(struct jr_buf *b, const char *name, struct jr_str value)
{
    if (value.n > 0) {
        jr_buf_printf(b, ",\"%s\":", name);
        jr_buf_put(b, value.p, value.n);
    }
}

/* A text that is the whole prompt goes on as it came; one of a list was read without its quotes. */
static void put_text(struct jr_buf *b, const struct jr_openai_request *req, const void *body)
{
    jr_buf_puts(b, "\"prompt\":");
    if (req->prompt == JR_PROMPT_TEXT) {
        jr_buf_put(b, (const char *)body + req->prompt_span.off, req->prompt_span.n);
    } else {
        jr_buf_puts(b, "\"");
        jr_buf_json_escape(b, req->text.p, req->text.n);
        jr_buf_puts(b, "\"");
    }
    const struct jr_openai_span *s = &req->add_special_tokens;
    put_raw(b, "add_special_tokens",
            s->n ? jr_str_of((const char *)body + s->off, s->n) : jr_str_of("true", 4));
}

static void put_chat(struct jr_buf *b, const struct jr_openai_request *req, const void *body)
{
    jr_buf_puts(b, "\"messages\":");
    jr_buf_put(b, (const char *)body + req->messages.off, req->messages.n);
    for (size_t i = 0; i < N_CHAT_FIELDS; i++)
        put_raw(b, chat_fields[i].name, raw(req, body, chat_fields[i].offset));
}

void jr_tokenize_write(struct jr_buf *b, const struct jr_openai_request *req, const void *body)
{
    jr_buf_puts(b, "{");
    put_model(b, req->model);
    if (req->kind == JR_OPENAI_CHAT)
        put_chat(b, req, body);
    else
        put_text(b, req, body);
    jr_buf_puts(b, "}");
}

int jr_openai_tokens_of(const void *json, size_t n, struct jr_tokens *tokens)
{
    struct jr_json j;
    jr_json_init(&j, json, n);
    tokens->n = 0;
    int rv = jr_tokens_read(&j, tokens);
    if (rv == 0) {
        rv = jr_json_end(&j);
    }
    return rv == JR_EPROTO || rv == JR_ETRUNC ? JR_EINVAL : rv;
}

int jr_tokenize_reply_parse(const void *p, size_t n, struct jr_tokens *tokens,
                            struct jr_tokenize_reply *ret, struct jr_errmsg *e)
{
    struct jr_json j;
    struct jr_str key;
    struct jr_tokenize_reply r = {.count = 0};
    bool has_tokens = false, has_count = false;
    jr_json_init(&j, p, n);
    tokens->n = 0;
    int rv = jr_json_object(&j);
    while (rv == 0 && (rv = jr_json_key(&j, &key)) > 0) {
        if (jr_str_eq(key, "tokens") && !has_tokens) {
            has_tokens = true;
            rv = jr_tokens_read(&j, tokens);
        } else if (jr_str_eq(key, "count")) {
            has_count = true;
            rv = jr_json_u64(&j, &r.count);
        } else if (jr_str_eq(key, "max_model_len") && jr_json_peek(&j) == JR_JSON_NUMBER) {
            rv = jr_json_u64(&j, &r.max_model_len);
        } else {
            rv = jr_json_skip(&j);
        }
    }
    if (rv == 0) {
        rv = jr_json_end(&j);
    }
    if (rv == JR_ENOMEM || rv == JR_ELIMIT) {
        return jr_errmsg_set(e, rv, "tokenizer's reply: %s", jr_err_text(rv));
    }
    if (rv < 0) {
        return jr_errmsg_set(e, JR_EPROTO, "tokenizer's reply: malformed at byte %zu",
                             jr_json_at(&j));
    }
    if (!has_tokens || (has_count && r.count != tokens->n)) {
        return jr_errmsg_set(e, JR_EPROTO, "tokenizer's reply: %s",
                             has_tokens ? "count and tokens disagree" : "no tokens in it");
    }
    r.count = tokens->n;
    *ret = r;
    return 0;
}
