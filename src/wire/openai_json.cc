/* SPDX-License-Identifier: Apache-2.0 */
/* openai_json: wire/openai.h over simdjson's On-Demand reader. No exceptions, no C++ types outside.
 *
 * On-Demand checks only what is read, so every value is read: known fields by their getter, the
 * rest by walk(), and a body that is accepted here is JSON to the last byte. The ids of a long
 * prompt are read by wire/digits, which takes a third of the time (see cut). */
#include "wire/openai_read.hh"

#define CUT_LEAST 256 /* bytes of a body in which a list of ids is looked for */

struct jr_openai_parser {
    od::parser od_parser;
    uint8_t *buf = nullptr; /* the body with simdjson's padding behind it */
    size_t cap = 0, max_body = 0;
};

namespace
{

int bad_token(context &c, const char *name, uint32_t i)
{
    return fail(c, JR_EINVAL, name,
                "'%s': element %u must be a token id, a whole number from 0 to 4294967295", name,
                i);
}

int put_token(context &c, struct jr_tokens *t, const char *name, uint32_t v)
{
    if (t->n == t->cap) {
        int rv = jr_arr_reserve(t->mem, t, 1, JR_PROMPT_TOKENS_MAX);
        if (rv == JR_ELIMIT) {
            return fail(c, jr_limit(JR_LIMIT_PROMPT_TOKENS), name, "'%s' has more than %d tokens",
                        name, JR_PROMPT_TOKENS_MAX);
        }
        if (rv < 0) {
            return fail(c, rv, name, "out of memory for the tokens of '%s'", name);
        }
    }
    t->v[t->n++] = v;
    return 0;
}

/* One id into t (NULL: only checked). */
int get_token(context &c, od::value &v, const char *name, uint32_t i, struct jr_tokens *t)
{
    uint64_t id;
    if (v.get_uint64().get(id) || id > UINT32_MAX) {
        return bad_token(c, name, i);
    }
    return t == nullptr ? 0 : put_token(c, t, name, (uint32_t)id);
}

int get_token_list(context &c, od::value &v, const char *name, struct jr_tokens *t, uint64_t *ret_n)
{
    od::array a;
    if (v.get_array().get(a)) {
        return fail(c, JR_EINVAL, name, "'%s' must be a list of token ids", name);
    }
    uint32_t i = 0;
    for (auto item : a) {
        od::value x;
        error_code ec = std::move(item).get(x);
        if (ec) {
            return fail_json(c, ec);
        }
        int rv = get_token(c, x, name, i++, t);
        if (rv < 0) {
            return rv;
        }
    }
    *ret_n += i;
    return i > 0 ? 0 : fail(c, JR_EINVAL, name, "'%s' has an empty list of tokens", name);
}

int bad_prompt(context &c)
{
    return fail(c, JR_EINVAL, "prompt",
                "'prompt' must be a text, a list of token ids, or a list of one of these");
}

int empty_prompt(context &c)
{
    return fail(c, JR_EINVAL, "prompt",
                "'prompt' is empty: give a text of at least one character or one token id");
}

enum jr_openai_prompt prompt_kind_of(od::json_type first)
{
    return first == od::json_type::string   ? JR_PROMPT_TEXT_LIST
           : first == od::json_type::number ? JR_PROMPT_TOKENS
           : first == od::json_type::array  ? JR_PROMPT_TOKEN_LISTS
                                            : JR_PROMPT_NONE;
}

/* Element i of the prompt's array. */
int prompt_item(context &c, od::value &v, uint32_t i)
{
    struct jr_openai_request *r = c.req;
    od::json_type t;
    error_code ec = v.type().get(t);
    if (ec) {
        return fail_json(c, ec);
    }
    enum jr_openai_prompt kind = prompt_kind_of(t);
    if (i == 0) {
        r->prompt = kind;
    }
    if (kind == JR_PROMPT_NONE || kind != r->prompt) {
        return r->prompt == JR_PROMPT_TOKENS ? bad_token(c, "prompt", i) : bad_prompt(c);
    }
    if (kind == JR_PROMPT_TOKENS) {
        r->tokens_told++;
        return get_token(c, v, "prompt", i, c.tokens);
    }
    if (kind == JR_PROMPT_TOKEN_LISTS) {
        return get_token_list(c, v, "prompt", i == 0 ? c.tokens : nullptr, &r->tokens_told);
    }
    struct jr_str s = {nullptr, 0};
    int rv = get_text(c, v, "prompt", &s);
    if (rv == 0 && s.n == 0) {
        return empty_prompt(c);
    }
    if (i == 0) {
        r->text = s;
    }
    r->text_bytes += s.n;
    return rv;
}

int prompt_list(context &c, od::value &v)
{
    od::array a;
    error_code ec = v.get_array().get(a);
    if (ec) {
        return fail_json(c, ec);
    }
    uint32_t n = 0;
    for (auto item : a) {
        od::value x;
        if ((ec = std::move(item).get(x))) {
            return fail_json(c, ec);
        }
        int rv = prompt_item(c, x, n++);
        if (rv < 0) {
            return rv;
        }
    }
    c.req->n_prompts = c.req->prompt == JR_PROMPT_TOKENS ? 1 : n;
    return n > 0 ? 0 : empty_prompt(c);
}

int read_prompt(context &c, od::value &v, const char *)
{
    if (c.req->kind != JR_OPENAI_COMPLETION) {
        return walk(c, v, 1);
    }
    if (c.cut.n > 0) {
        c.req->prompt = JR_PROMPT_TOKENS;
        c.req->n_prompts = 1;
        c.req->prompt_span = {c.cut.at, c.cut.n};
        c.req->tokens_told = c.tokens->n;
        return walk(c, v, 1);
    }
    od::json_type t;
    size_t begin = begin_of(c, v);
    error_code ec = v.type().get(t);
    int rv;
    if (ec) {
        return fail_json(c, ec);
    }
    if (t == od::json_type::array) {
        rv = prompt_list(c, v);
    } else if (t == od::json_type::string) {
        c.req->prompt = JR_PROMPT_TEXT;
        c.req->n_prompts = 1;
        rv = get_text(c, v, "prompt", &c.req->text);
        c.req->text_bytes = c.req->text.n;
        if (rv == 0 && c.req->text.n == 0) {
            rv = empty_prompt(c);
        }
    } else if (is_null(v)) {
        return 0;
    } else {
        rv = bad_prompt(c);
    }
    if (rv == 0) {
        c.req->prompt_span = span_from(c, begin);
    }
    return rv;
}

/* From the ring in which they were noted. */
void put_ends(struct jr_openai_request *r, const size_t *ring)
{
    uint32_t n = r->n_messages;
    r->n_ends = n < JR_OPENAI_ENDS_MAX ? n : JR_OPENAI_ENDS_MAX;
    for (uint32_t i = 0; i < r->n_ends; i++) {
        r->ends[i] = ring[(n - r->n_ends + i) % JR_OPENAI_ENDS_MAX];
    }
}

int read_messages(context &c, od::value &v, const char *)
{
    if (c.req->kind != JR_OPENAI_CHAT) {
        return walk(c, v, 1);
    }
    od::array a;
    size_t ends[JR_OPENAI_ENDS_MAX];
    size_t begin = begin_of(c, v);
    if (is_null(v)) {
        return 0;
    }
    if (v.get_array().get(a)) {
        return fail(c, JR_EINVAL, "messages", "'messages' must be a list of objects");
    }
    for (auto item : a) {
        od::value x;
        od::json_type t;
        error_code ec = std::move(item).get(x);
        if (ec || (ec = x.type().get(t))) {
            return fail_json(c, ec);
        }
        if (t != od::json_type::object) {
            return fail(c, JR_EINVAL, "messages", "'messages': element %u must be an object",
                        c.req->n_messages);
        }
        int rv = walk(c, x, 2);
        if (rv < 0) {
            return rv;
        }
        ends[c.req->n_messages++ % JR_OPENAI_ENDS_MAX] = end_of(c);
    }
    c.req->messages = span_from(c, begin);
    put_ends(c.req, ends);
    return c.req->n_messages > 0
               ? 0
               : fail(c, JR_EINVAL, "messages",
                      "'messages' is empty: give at least one message with role and content");
}

int read_model(context &c, od::value &v, const char *)
{
    size_t begin = begin_of(c, v);
    int rv = get_text(c, v, "model", &c.req->model);
    if (rv == 0) {
        c.req->model_span = span_from(c, begin);
    }
    return rv;
}

/* Call fn(key, value) for every field of an object; null is an empty object. */
template <typename Fn> int each_field(context &c, od::value &v, const char *name, Fn fn)
{
    od::object o;
    if (is_null(v)) {
        return 0;
    }
    if (v.get_object().get(o)) {
        return fail(c, JR_EINVAL, name, "'%s' must be an object", name);
    }
    for (auto item : o) {
        od::field f;
        std::string_view key;
        error_code ec = std::move(item).get(f);
        if (ec || (ec = f.unescaped_key().get(key))) {
            return fail_json(c, ec);
        }
        int rv = fn(key, f.value());
        if (rv < 0) {
            return rv;
        }
    }
    return 0;
}

int read_stream_options(context &c, od::value &v, const char *)
{
    return each_field(c, v, "stream_options", [&c](std::string_view key, od::value &x) {
        return key == "include_usage" ? get_flag(c, x, "include_usage", &c.req->include_usage)
                                      : walk(c, x, 2);
    });
}

/* A list of strings, each handed to fn; null is empty. */
template <typename Fn> int each_text(context &c, od::value &v, const char *name, Fn fn)
{
    od::array a;
    if (is_null(v)) {
        return 0;
    }
    if (v.get_array().get(a)) {
        return fail(c, JR_EINVAL, name, "'%s' must be a list of strings", name);
    }
    for (auto item : a) {
        od::value x;
        struct jr_str s = {nullptr, 0};
        error_code ec = std::move(item).get(x);
        if (ec) {
            return fail_json(c, ec);
        }
        int rv = get_text(c, x, name, &s);
        if (rv == 0) {
            rv = fn(s);
        }
        if (rv < 0) {
            return rv;
        }
    }
    return 0;
}

#define HINT(field, lowest)                                                                        \
    if (key == #field) {                                                                           \
        return get_int(c, f, "nvext.agent_hints." #field, lowest, &x->has_##field, &x->field);     \
    }
int read_hints(context &c, od::value &v)
{
    return each_field(c, v, "nvext.agent_hints", [&c](std::string_view key, od::value &f) {
        struct jr_openai_nvext *x = &c.req->nvext;
        HINT(osl, 0u);
        HINT(priority, INT32_MIN);
        HINT(strict_priority, 0u);
        if (key != "latency_sensitivity" || is_null(f)) {
            return key == "latency_sensitivity" ? 0 : walk(c, f, 3);
        }
        x->has_latency_sensitivity = true;
        return f.get_double().get(x->latency_sensitivity)
                   ? fail(c, JR_EINVAL, "nvext.agent_hints.latency_sensitivity",
                          "'nvext.agent_hints.latency_sensitivity' must be a number of seconds")
                   : 0;
    });
}

/* "5m", "1h", "600" or "600s"; 0: none of these. */
uint64_t seconds_of(struct jr_str s)
{
    uint64_t n = 0, unit = 1;
    if (s.n > 0 && (s.p[s.n - 1] < '0' || s.p[s.n - 1] > '9')) {
        const char last = s.p[--s.n];
        unit = last == 's' ? 1 : last == 'm' ? 60 : last == 'h' ? 3600 : 0;
    }
    return s.n <= 9 && jr_parse_u64(s.p, s.n, &n) == 0 ? n * unit : 0;
}

/* What it is for is a wish, never a reason to refuse a request: a kind that is not known is none. */
int cache_control_field(context &c, std::string_view key, od::value &v, int depth)
{
    struct jr_openai_cache_control *x = &c.req->cache_control;
    od::json_type t;
    struct jr_str s = {nullptr, 0};
    error_code ec = v.type().get(t);
    if (ec) {
        return fail_json(c, ec);
    }
    if ((key != "type" && key != "ttl") || t != od::json_type::string) {
        return walk(c, v, depth);
    }
    int rv = get_text(c, v, "cache_control", &s);
    if (key == "type") {
        x->ephemeral = jr_str_eq(s, "ephemeral");
        return rv;
    }
    const uint64_t secs = seconds_of(s);
    x->ttl_s = secs < JR_OPENAI_CACHE_TTL_MIN_S   ? JR_OPENAI_CACHE_TTL_MIN_S
               : secs > JR_OPENAI_CACHE_TTL_MAX_S ? JR_OPENAI_CACHE_TTL_MAX_S
                                                  : (uint32_t)secs;
    return rv;
}

int read_cache_control_at(context &c, od::value &v, int depth)
{
    od::json_type t;
    error_code ec = v.type().get(t);
    if (ec) {
        return fail_json(c, ec);
    }
    if (t != od::json_type::object) {
        return walk(c, v, depth);
    }
    c.req->cache_control = {false, JR_OPENAI_CACHE_TTL_MIN_S};
    return each_field(c, v, "cache_control", [&c, depth](std::string_view key, od::value &f) {
        return cache_control_field(c, key, f, depth + 1);
    });
}

int read_cache_control(context &c, od::value &v, const char *)
{
    return read_cache_control_at(c, v, 1);
}

int read_token_data(context &c, od::value &v)
{
    size_t begin = begin_of(c, v);
    if (is_null(v)) {
        return 0;
    }
    uint64_t n = 0;
    int rv = get_token_list(c, v, "nvext.token_data", nullptr, &n);
    if (rv == 0) {
        c.req->nvext.token_data = span_from(c, begin);
    }
    return rv;
}

int add_annotation(context &c, struct jr_str s)
{
    struct jr_openai_nvext *x = &c.req->nvext;
    if (x->n_annotations == JR_OPENAI_ANNOTATIONS_MAX) {
        return fail(c, JR_EINVAL, "nvext.annotations",
                    "'nvext.annotations' has more than %d entries", JR_OPENAI_ANNOTATIONS_MAX);
    }
    x->annotations[x->n_annotations++] = s;
    return 0;
}

int nvext_field(context &c, std::string_view key, od::value &v)
{
    struct jr_openai_nvext *x = &c.req->nvext;
    const struct {
        const char *name;
        bool *has;
        uint64_t *id;
    } ids[] = {
        {"nvext.backend_instance_id", &x->has_backend_instance_id, &x->backend_instance_id},
        {"nvext.decode_worker_id", &x->has_decode_worker_id, &x->decode_worker_id},
        {"nvext.prefill_worker_id", &x->has_prefill_worker_id, &x->prefill_worker_id},
    };
    for (const auto &row : ids) {
        if (key == row.name + strlen("nvext.")) {
            return get_int<uint64_t>(c, v, row.name, 0, row.has, row.id);
        }
    }
    if (key == "annotations") {
        return each_text(c, v, "nvext.annotations",
                         [&c](struct jr_str s) { return add_annotation(c, s); });
    }
    if (key == "extra_fields") {
        return each_text(c, v, "nvext.extra_fields", [x](struct jr_str s) {
            x->want_worker_id = x->want_worker_id || jr_str_eq(s, "worker_id");
            x->want_timing = x->want_timing || jr_str_eq(s, "timing");
            return 0;
        });
    }
    if (key == "agent_hints") {
        return read_hints(c, v);
    }
    if (key == "token_data") {
        return read_token_data(c, v);
    }
    if (key == "cache_control") {
        return read_cache_control_at(c, v, 2);
    }
    if (key == "cache_salt" && c.req->cache_salt.n == 0) {
        return get_text(c, v, "nvext.cache_salt", &c.req->cache_salt);
    }
    return walk(c, v, 2);
}

int read_nvext(context &c, od::value &v, const char *)
{
    return each_field(c, v, "nvext",
                      [&c](std::string_view key, od::value &x) { return nvext_field(c, key, x); });
}

int read_max_tokens(context &c, od::value &v, const char *)
{
    uint32_t n = 0;
    bool has = false;
    int rv = get_int(c, v, "max_tokens", 1u, &has, &n);
    if (has && !c.req->has_max_tokens) { /* max_completion_tokens wins */
        c.req->max_tokens = n;
        c.req->has_max_tokens = true;
    }
    return rv;
}

int read_max_completion_tokens(context &c, od::value &v, const char *)
{
    return get_int(c, v, "max_completion_tokens", 1u, &c.req->has_max_tokens, &c.req->max_tokens);
}

/* Readers of plain members. */
using request = struct jr_openai_request;

template <struct jr_str request::*M> int text_at(context &c, od::value &v, const char *name)
{
    return get_text(c, v, name, &(c.req->*M));
}

template <bool request::*M> int flag_at(context &c, od::value &v, const char *name)
{
    return get_flag(c, v, name, &(c.req->*M));
}

template <struct jr_openai_span request::*M> int span_at(context &c, od::value &v, const char *)
{
    return get_span(c, v, &(c.req->*M));
}

template <uint32_t request::*M, uint32_t Min>
int count_at(context &c, od::value &v, const char *name)
{
    bool has;
    return get_int(c, v, name, Min, &has, &(c.req->*M));
}

/* Anything but null and false. */
int read_text_bound(context &c, od::value &v, const char *name)
{
    od::json_type t;
    bool flag = true;
    if (is_null(v)) {
        return 0;
    }
    error_code ec = v.type().get(t);
    if (ec) {
        return fail_json(c, ec);
    }
    int rv = t == od::json_type::boolean ? get_flag(c, v, name, &flag) : walk(c, v, 1);
    c.req->text_bound = c.req->text_bound || flag;
    return rv;
}

int read_echo(context &c, od::value &v, const char *name)
{
    int rv = get_flag(c, v, name, &c.req->echo);
    c.req->text_bound = c.req->text_bound || c.req->echo;
    return rv;
}

int read_priority(context &c, od::value &v, const char *name)
{
    return get_int(c, v, name, INT32_MIN, &c.req->has_priority, &c.req->priority);
}

/* The fields that are read, each at most once in a body. */
constexpr struct known_field {
    std::string_view name; /* of a literal: a NUL follows */
    int (*read)(context &c, od::value &v, const char *name);
} known_fields[] = {
    {"model", read_model},
    {"prompt", read_prompt},
    {"messages", read_messages},
    {"stream", flag_at<&request::stream>},
    {"stream_options", read_stream_options},
    {"max_tokens", read_max_tokens},
    {"max_completion_tokens", read_max_completion_tokens},
    {"min_tokens", count_at<&request::min_tokens, 0>},
    {"n", count_at<&request::n, 1>},
    {"user", text_at<&request::user>},
    {"cache_salt", text_at<&request::cache_salt>}, /* wins over nvext's */
    {"lora_name", text_at<&request::lora_name>},
    {"request_id", text_at<&request::request_id>},
    {"priority", read_priority},
    {"ignore_eos", flag_at<&request::ignore_eos>},
    {"return_token_ids", flag_at<&request::return_token_ids>},
    {"echo", read_echo},
    {"suffix", read_text_bound},
    {"logprobs", read_text_bound},
    {"prompt_logprobs", read_text_bound},
    {"truncate_prompt_tokens", read_text_bound},
    {"prompt_embeds", read_text_bound},
    {"add_special_tokens", span_at<&request::add_special_tokens>},
    {"tools", span_at<&request::tools>},
    {"chat_template", span_at<&request::chat_template>},
    {"chat_template_kwargs", span_at<&request::chat_template_kwargs>},
    {"add_generation_prompt", span_at<&request::add_generation_prompt>},
    {"continue_final_message", span_at<&request::continue_final_message>},
    {"mm_processor_kwargs", span_at<&request::mm_processor_kwargs>},
    {"cache_control", read_cache_control},
    {"nvext", read_nvext},
};
constexpr size_t n_known_fields = sizeof known_fields / sizeof *known_fields;
static_assert(n_known_fields <= 64, "context.seen has a bit for each");

int top_field(context &c, std::string_view key, od::value &v)
{
    for (size_t i = 0; i < n_known_fields; i++) {
        if (key != known_fields[i].name) {
            continue;
        }
        const char *name = known_fields[i].name.data();
        if ((c.seen >> i & 1) != 0) {
            return fail(c, JR_EINVAL, name, "'%s' is given twice: remove one", name);
        }
        c.seen |= UINT64_C(1) << i;
        return known_fields[i].read(c, v, name);
    }
    return walk(c, v, 1);
}

int check_required(context &c)
{
    const struct jr_openai_request *r = c.req;
    if (r->model.n == 0) {
        return fail(c, JR_EINVAL, "model",
                    "'model' is missing: name the model to use (GET /v1/models lists them)");
    }
    if (r->kind == JR_OPENAI_COMPLETION && r->prompt == JR_PROMPT_NONE) {
        return fail(c, JR_EINVAL, "prompt", "'prompt' is missing: give a text or token ids");
    }
    if (r->kind == JR_OPENAI_CHAT && r->n_messages == 0) {
        return fail(c, JR_EINVAL, "messages",
                    "'messages' is missing: give at least one message with role and content");
    }
    return 0;
}

int parse_body(context &c)
{
    od::object o;
    error_code ec = c.doc.get_object().get(o);
    if (ec == simdjson::INCORRECT_TYPE) {
        return fail(c, JR_EINVAL, nullptr, "the body must be a JSON object");
    }
    if (ec) {
        return fail_json(c, ec);
    }
    for (auto item : o) {
        od::field f;
        std::string_view key;
        if ((ec = std::move(item).get(f)) || (ec = f.unescaped_key().get(key))) {
            return fail_json(c, ec);
        }
        int rv = top_field(c, key, f.value());
        if (rv < 0) {
            return rv;
        }
    }
    const char *more;
    if (c.doc.current_location().get(more) == simdjson::SUCCESS) {
        return fail_json(c, simdjson::TAPE_ERROR);
    }
    return check_required(c);
}

/* The body with padding behind it, and a 0 for what was cut out. Returns its length. */
size_t copy_body(struct jr_openai_parser *p, const uint8_t *body, size_t n, const struct cut *cut)
{
    size_t kept = cut->n > 0 ? n - cut->n + 1 : n;
    size_t need = kept + simdjson::SIMDJSON_PADDING;
    if (need > p->cap) {
        size_t cap = p->cap == 0 ? 16384 : p->cap;
        while (cap < need) {
            cap *= 2;
        }
        p->buf = static_cast<uint8_t *>(jr_xrealloc(p->buf, cap));
        p->cap = cap;
    }
    if (cut->n > 0) {
        memcpy(p->buf, body, cut->at);
        p->buf[cut->at] = '0';
        memcpy(p->buf + cut->at + 1, body + cut->at + cut->n, n - cut->at - cut->n);
    } else {
        memcpy(p->buf, body, n);
    }
    memset(p->buf + kept, ' ', simdjson::SIMDJSON_PADDING);
    return kept;
}

/* One reading of the body. */
int read_body(struct jr_openai_parser *p, const uint8_t *body, size_t n, context &c)
{
    memset(c.req, 0, sizeof *c.req);
    c.req->kind = c.kind;
    c.req->n = 1;
    c.seen = 0;
    c.err->param = nullptr;
    c.err->msg.text[0] = '\0';
    c.n = copy_body(p, body, n, &c.cut);
    c.buf = p->buf;
    error_code ec = p->od_parser.iterate(p->buf, c.n, p->cap).get(c.doc);
    return ec ? fail_json(c, ec) : parse_body(c);
}

} // namespace

extern "C" int jr_openai_parser_create(size_t max_body, struct jr_openai_parser **ret)
{
    struct jr_openai_parser *p = new (std::nothrow) jr_openai_parser;
    if (p == nullptr) {
        return JR_ENOMEM;
    }
    p->max_body = max_body;
    *ret = p;
    return 0;
}

extern "C" void jr_openai_parser_destroy(struct jr_openai_parser *p)
{
    if (p != nullptr) {
        jr_xfree(p->buf);
        delete p;
    }
}

extern "C" int jr_openai_parse(struct jr_openai_parser *p, enum jr_openai_kind kind,
                               const void *body, size_t n, struct jr_tokens *tokens,
                               struct jr_openai_request *ret, struct jr_openai_error *err)
{
    struct jr_openai_request req;
    err->param = nullptr;
    err->msg.text[0] = '\0';
    if (n > p->max_body) {
        return jr_errmsg_set(&err->msg, JR_ELIMIT, "the body has %zu bytes, at most %zu are taken",
                             n, p->max_body);
    }
    if (n == 0) {
        return jr_errmsg_set(&err->msg, JR_EPROTO, "the body is empty: send a JSON object");
    }
    context c{};
    c.tokens = tokens;
    c.req = &req;
    c.err = err;
    c.kind = kind;
    if (tokens != nullptr) {
        tokens->n = 0;
    }
    if (tokens != nullptr && kind == JR_OPENAI_COMPLETION && n >= CUT_LEAST) {
        c.cut.n = jr_tokens_find(body, n, "prompt", tokens, &c.cut.at);
    }
    int rv = read_body(p, static_cast<const uint8_t *>(body), n, c);
    if (rv < 0 && c.cut.n > 0) { /* once more, for an error that speaks of the body as it came */
        c.cut = {0, 0};
        tokens->n = 0;
        rv = read_body(p, static_cast<const uint8_t *>(body), n, c);
    }
    if (rv == 0) {
        *ret = req;
    }
    return rv;
}
