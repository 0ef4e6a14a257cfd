/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mocker/toy_tokenizer.h"
#include "wire/json.h"

int jr_toy_push(struct jr_tokens *t, uint32_t token)
{
    int err = jr_arr_reserve(t->mem, t, 1, JR_PROMPT_TOKENS_MAX);
    if (err < 0)
        return err;
    t->v[t->n++] = token;
    return 0;
}

static bool lower(char c)
{
    return c >= 'a' && c <= 'z';
}

/* The token at the start of the text; *ret_n bytes of it. */
static uint32_t first_token(const char *p, size_t n, size_t *ret_n)
{
    size_t at = n >= 2 && p[0] == ' ' && lower(p[1]) ? 1 : 0, len = 0;
    uint32_t base = at == 1 ? JR_TOY_SPACE_WORD : JR_TOY_WORD, v = 0;
    while (len < 3 && at + len < n && lower(p[at + len]))
        v = v * 26 + (uint32_t)(p[at + len++] - 'a');
    *ret_n = at + len;
    if (len == 3)
        return base + 26 + 26 * 26 + v;
    if (len == 2)
        return base + 26 + v;
    if (len == 1)
        return base + v;
    *ret_n = 1;
    return JR_TOY_BYTE + (unsigned char)p[0];
}

int jr_toy_encode(struct jr_tokens *t, const char *text, size_t n)
{
    int err = 0;
    for (size_t at = 0, len; at < n && err == 0; at += len)
        err = jr_toy_push(t, first_token(text + at, n - at, &len));
    return err;
}

void jr_toy_decode(struct jr_buf *b, uint32_t token)
{
    static const char *const specials[] = {"<s>",           "</s>",     "<|system|>", "<|user|>",
                                           "<|assistant|>", "<|tool|>", "<|end|>"};
    if (token < sizeof specials / sizeof *specials) {
        jr_buf_puts(b, specials[token]);
    } else if (token < JR_TOY_BYTE || token >= JR_TOY_VOCABULARY) {
        jr_buf_printf(b, "<|%u|>", token);
    } else if (token < JR_TOY_WORD) {
        jr_buf_u8(b, (uint8_t)(token - JR_TOY_BYTE));
    } else {
        bool space = token >= JR_TOY_SPACE_WORD;
        uint32_t v = token - (space ? JR_TOY_SPACE_WORD : JR_TOY_WORD);
        unsigned len = v < 26 ? 1 : v < 26 + 26 * 26 ? 2 : 3;
        v -= len == 1 ? 0 : len == 2 ? 26 : 26 + 26 * 26;
        uint32_t unit = len == 1 ? 1 : len == 2 ? 26 : 26 * 26;
        if (space)
            jr_buf_u8(b, ' ');
        for (; unit > 0; v %= unit, unit /= 26)
            jr_buf_u8(b, (uint8_t)('a' + v / unit));
    }
}

/* ---- chat ------------------------------------------------------------------- */

static int encode_raw(struct jr_tokens *t, struct jr_str raw)
{
    struct jr_buf b;
    jr_buf_init(&b, raw.n + 1);
    int err = jr_json_unescape(raw, &b);
    if (err == 0)
        err = b.err != 0 ? b.err : jr_toy_encode(t, jr_buf_str(&b), b.n);
    jr_buf_deinit(&b);
    return err;
}

/* {"type": "text", "text": "…"}; other parts hold no text and are passed over. */
static int encode_part(struct jr_tokens *t, struct jr_json *j)
{
    struct jr_str key, text;
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0) {
        if (!jr_str_eq(key, "text") || jr_json_peek(j) != JR_JSON_STR) {
            rv = jr_json_skip(j);
            continue;
        }
        rv = jr_json_str(j, &text);
        if (rv == 0)
            rv = encode_raw(t, text);
    }
    return rv;
}

static int encode_content(struct jr_tokens *t, struct jr_json *j)
{
    struct jr_str text;
    int rv;
    switch (jr_json_peek(j)) {
    case JR_JSON_STR:
        rv = jr_json_str(j, &text);
        return rv < 0 ? rv : encode_raw(t, text);
    case JR_JSON_ARRAY:
        rv = jr_json_array(j);
        while (rv == 0 && (rv = jr_json_item(j)) > 0)
            rv = jr_json_peek(j) == JR_JSON_OBJECT ? encode_part(t, j) : jr_json_skip(j);
        return rv;
    default:
        return jr_json_skip(j);
    }
}

static uint32_t role_token(struct jr_str role)
{
    if (jr_str_eq(role, "system") || jr_str_eq(role, "developer"))
        return JR_TOY_SYSTEM;
    if (jr_str_eq(role, "user"))
        return JR_TOY_USER;
    return jr_str_eq(role, "assistant") ? JR_TOY_ASSISTANT : JR_TOY_TOOL;
}

/* One message; the role may stand behind the content, so it is looked for first. */
static int encode_message(struct jr_tokens *t, struct jr_json *j, struct jr_errmsg *e)
{
    struct jr_json again = *j;
    struct jr_str key, role = {NULL, 0};
    int rv = jr_json_object(j);
    while (rv == 0 && (rv = jr_json_key(j, &key)) > 0)
        rv = jr_str_eq(key, "role") ? jr_json_str(j, &role) : jr_json_skip(j);
    if (rv < 0)
        return rv;
    if (role.p == NULL)
        return jr_errmsg_set(e, JR_EINVAL, "a message has no role: give each one role and content");
    rv = jr_toy_push(t, role_token(role));
    if (rv == 0)
        rv = jr_json_object(&again);
    while (rv == 0 && (rv = jr_json_key(&again, &key)) > 0)
        rv = jr_str_eq(key, "content") ? encode_content(t, &again) : jr_json_skip(&again);
    return rv < 0 ? rv : jr_toy_push(t, JR_TOY_END);
}

int jr_toy_encode_chat(struct jr_tokens *t, struct jr_str messages, struct jr_str tools,
                       bool generation_prompt, struct jr_errmsg *e)
{
    struct jr_json j;
    int rv = jr_toy_push(t, JR_TOY_BOS);
    if (rv == 0 && tools.n > 0) {
        rv = jr_toy_push(t, JR_TOY_TOOL);
        if (rv == 0)
            rv = jr_toy_encode(t, tools.p, tools.n);
        if (rv == 0)
            rv = jr_toy_push(t, JR_TOY_END);
    }
    jr_json_init(&j, messages.p, messages.n);
    if (rv == 0)
        rv = jr_json_array(&j);
    while (rv == 0 && (rv = jr_json_item(&j)) > 0)
        rv = encode_message(t, &j, e);
    if (rv == 0 && generation_prompt)
        rv = jr_toy_push(t, JR_TOY_ASSISTANT);
    return rv;
}
