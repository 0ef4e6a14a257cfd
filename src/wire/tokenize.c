/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tokenize.h"
#include "wire/json.h"

static void put_model(struct jr_buf *b, struct jr_str model)
{
    if (model.n > 0) {
        jr_buf_puts(b, "\"model\":\"");
        jr_buf_json_escape(b, model.p, model.n);
        jr_buf_puts(b, "\",");
    }
}

void jr_tokenize_write_text(struct jr_buf *b, struct jr_str model, struct jr_str text)
{
    jr_buf_puts(b, "{");
    put_model(b, model);
    jr_buf_puts(b, "\"prompt\":\"");
    jr_buf_json_escape(b, text.p, text.n);
    jr_buf_puts(b, "\",\"add_special_tokens\":true}");
}

static void put_raw(struct jr_buf *b, const char *name, struct jr_openai_span s, const void *body)
{
    if (s.n > 0) {
        jr_buf_printf(b, ",\"%s\":", name);
        jr_buf_put(b, (const char *)body + s.off, s.n);
    }
}

void jr_tokenize_write_chat(struct jr_buf *b, const struct jr_openai_request *req, const void *body)
{
    jr_buf_puts(b, "{");
    put_model(b, req->model);
    jr_buf_puts(b, "\"messages\":");
    jr_buf_put(b, (const char *)body + req->messages.off, req->messages.n);
    put_raw(b, "tools", req->tools, body);
    put_raw(b, "chat_template", req->chat_template, body);
    put_raw(b, "chat_template_kwargs", req->chat_template_kwargs, body);
    put_raw(b, "add_generation_prompt", req->add_generation_prompt, body);
    put_raw(b, "continue_final_message", req->continue_final_message, body);
    put_raw(b, "mm_processor_kwargs", req->mm_processor_kwargs, body);
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
