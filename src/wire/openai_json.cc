/* SPDX-License-Identifier: Apache-2.0 */
/* openai_json: wire/openai.h over simdjson's On-Demand reader. No exceptions, no C++ types outside.
 *
 * On-Demand checks only what is read, so every value is read: known fields by their getter, the
 * rest by walk(), and a body that is accepted here is JSON to the last byte. The ids of a long
 * prompt are read by wire/digits, which takes a third of the time (see cut). */
#define SIMDJSON_EXCEPTIONS         0
#define SIMDJSON_DEVELOPMENT_CHECKS 0 /* input never asserts, in debug builds neither */
#ifndef NDEBUG
#define NDEBUG
#endif
#include <limits>
#include <new>
#include <simdjson.h>
#include <string.h>
#include <type_traits>
#include <utility>

#pragma GCC diagnostic ignored "-Wpedantic" /* compound literals in our C headers */
extern "C" {
#include "wire/json.h"
#include "wire/openai.h"
}

#define CUT_LEAST 256 /* bytes of a body in which a list of ids is looked for */

namespace od = simdjson::ondemand;
using simdjson::error_code;

struct jr_openai_parser {
    od::parser od_parser;
    uint8_t *buf = nullptr; /* the body with simdjson's padding behind it */
    size_t cap = 0, max_body = 0;
};

namespace
{

/* A long list of token ids is read before, much faster, and the JSON reader finds a 0 in its place.
 * n == 0: none. */
struct cut {
    size_t at, n;
};

struct context {
    od::document doc;
    const uint8_t *buf;
    size_t n;
    struct cut cut;
    struct jr_tokens *tokens;
    struct jr_openai_request *req;
    struct jr_openai_error *err;
    enum jr_openai_kind kind;
    uint64_t seen; /* bit per known top-level field */
};

/* simdjson's older and newer forms of the same call. */
[[maybe_unused]] bool truth(bool b)
{
    return b;
}

[[maybe_unused]] bool truth(simdjson::simdjson_result<bool> r)
{
    bool b = false;
    return std::move(r).get(b) == simdjson::SUCCESS && b;
}

/* A macro, so that the compiler checks the format. */
#define fail(c, rv, name, ...)                                                                     \
    ((c).err->param = (name), jr_errmsg_set(&(c).err->msg, (rv), __VA_ARGS__))

/* Not JSON: say where. simdjson's own position is lost after most errors, so look again. */
int fail_json(context &c, error_code ec)
{
    struct jr_json j;
    jr_json_init(&j, c.buf, c.n);
    int rv = jr_json_skip(&j);
    if (rv == 0) {
        rv = jr_json_end(&j);
    }
    if (ec == simdjson::MEMALLOC) {
        return fail(c, JR_ENOMEM, nullptr, "out of memory for a body of %zu bytes", c.n);
    }
    if (ec == simdjson::CAPACITY) {
        return fail(c, JR_ELIMIT, nullptr, "the body of %zu bytes is too long", c.n);
    }
    if (rv < 0 && jr_json_at(&j) >= c.n) {
        return fail(c, JR_EPROTO, nullptr, "the body is not JSON: it breaks off at byte %zu", c.n);
    }
    if (rv < 0) {
        return fail(c, JR_EPROTO, nullptr, "the body is not JSON: error at byte %zu",
                    jr_json_at(&j));
    }
    return fail(c, JR_EPROTO, nullptr, "the body is not JSON: %s", simdjson::error_message(ec));
}

int too_deep(context &c)
{
    return fail(c, JR_ELIMIT, nullptr, "the body is nested more than %d levels deep",
                JR_OPENAI_DEPTH_MAX);
}

bool is_null(od::value &v)
{
    od::json_type t;
    return v.type().get(t) == simdjson::SUCCESS && t == od::json_type::null && truth(v.is_null());
}

/* Read a value of no interest, all of it. */
int walk(context &c, od::value &v, int depth)
{
    od::json_type t;
    error_code ec = v.type().get(t);
    if (ec) {
        return fail_json(c, ec);
    }
    if (depth > JR_OPENAI_DEPTH_MAX) {
        return too_deep(c);
    }
    std::string_view text;
    double number;
    bool flag;
    switch (t) {
    case od::json_type::array: {
        od::array a;
        ec = v.get_array().get(a);
        for (auto item : a) {
            od::value x;
            if (ec || (ec = std::move(item).get(x))) {
                break;
            }
            int rv = walk(c, x, depth + 1);
            if (rv < 0) {
                return rv;
            }
        }
        break;
    }
    case od::json_type::object: {
        od::object o;
        ec = v.get_object().get(o);
        for (auto item : o) {
            od::field f;
            if (ec || (ec = std::move(item).get(f)) || (ec = f.unescaped_key().get(text))) {
                break;
            }
            int rv = walk(c, f.value(), depth + 1);
            if (rv < 0) {
                return rv;
            }
        }
        break;
    }
    case od::json_type::string:
        ec = v.get_string().get(text);
        break;
    case od::json_type::number:
        ec = v.get_double().get(number);
        break;
    case od::json_type::boolean:
        ec = v.get_bool().get(flag);
        break;
    default:
        ec = is_null(v) ? simdjson::SUCCESS : simdjson::N_ATOM_ERROR;
    }
    return ec ? fail_json(c, ec) : 0;
}

/* Of a place in the buffer, the place in the body. */
size_t place(const context &c, size_t off)
{
    return c.cut.n > 0 && off > c.cut.at ? off + c.cut.n - 1 : off;
}

/* Where the value that is about to be read begins. */
size_t begin_of(context &c, od::value &v)
{
    return (size_t)((const uint8_t *)v.raw_json_token().data() - c.buf);
}

/* The bytes from begin to the end of the value that was just read. */
struct jr_openai_span span_from(context &c, size_t begin)
{
    const char *next;
    size_t end = c.n;
    if (c.doc.current_location().get(next) == simdjson::SUCCESS) {
        end = (size_t)((const uint8_t *)next - c.buf);
    }
    while (end > begin && strchr(" \t\r\n", c.buf[end - 1]) != nullptr) {
        end--;
    }
    return {place(c, begin), place(c, end) - place(c, begin)};
}

int get_text(context &c, od::value &v, const char *name, struct jr_str *ret)
{
    std::string_view s;
    if (is_null(v)) {
        return 0;
    }
    error_code ec = v.get_string().get(s);
    if (ec == simdjson::INCORRECT_TYPE) {
        return fail(c, JR_EINVAL, name, "'%s' must be a string", name);
    }
    if (ec) {
        return fail_json(c, ec);
    }
    *ret = {s.data(), s.size()};
    return 0;
}

int get_flag(context &c, od::value &v, const char *name, bool *ret)
{
    if (is_null(v)) {
        return 0;
    }
    error_code ec = v.get_bool().get(*ret);
    return ec ? fail(c, JR_EINVAL, name, "'%s' must be true or false", name) : 0;
}

template <typename T>
int get_int(context &c, od::value &v, const char *name, T min, bool *has, T *ret)
{
    std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t> x;
    constexpr T max = std::numeric_limits<T>::max();
    if (is_null(v)) {
        return 0;
    }
    if (v.get(x) || x < min || x > max) {
        return fail(c, JR_EINVAL, name, "'%s' must be a whole number from %lld to %llu", name,
                    static_cast<long long>(min), static_cast<unsigned long long>(max));
    }
    *has = true;
    *ret = static_cast<T>(x);
    return 0;
}

int get_span(context &c, od::value &v, struct jr_openai_span *ret)
{
    size_t begin = begin_of(c, v);
    bool absent = is_null(v);
    int rv = absent ? 0 : walk(c, v, 1);
    if (rv == 0 && !absent) {
        *ret = span_from(c, begin);
    }
    return rv;
}

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
            return fail(c, rv, name, "'%s' has more than %d tokens", name, JR_PROMPT_TOKENS_MAX);
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

int get_token_list(context &c, od::value &v, const char *name, struct jr_tokens *t)
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
        return get_token(c, v, "prompt", i, c.tokens);
    }
    if (kind == JR_PROMPT_TOKEN_LISTS) {
        return get_token_list(c, v, "prompt", i == 0 ? c.tokens : nullptr);
    }
    struct jr_str s = {nullptr, 0};
    int rv = get_text(c, v, "prompt", &s);
    if (rv == 0 && s.n == 0) {
        return empty_prompt(c);
    }
    if (i == 0) {
        r->text = s;
    }
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

int read_messages(context &c, od::value &v, const char *)
{
    if (c.req->kind != JR_OPENAI_CHAT) {
        return walk(c, v, 1);
    }
    od::array a;
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
        c.req->n_messages++;
    }
    c.req->messages = span_from(c, begin);
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

int read_token_data(context &c, od::value &v)
{
    size_t begin = begin_of(c, v);
    if (is_null(v)) {
        return 0;
    }
    int rv = get_token_list(c, v, "nvext.token_data", nullptr);
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

int read_priority(context &c, od::value &v, const char *name)
{
    return get_int(c, v, name, INT32_MIN, &c.req->has_priority, &c.req->priority);
}

/* The fields that are read, each at most once in a body. */
const struct known_field {
    const char *name;
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
    {"echo", flag_at<&request::echo>},
    {"tools", span_at<&request::tools>},
    {"chat_template", span_at<&request::chat_template>},
    {"chat_template_kwargs", span_at<&request::chat_template_kwargs>},
    {"add_generation_prompt", span_at<&request::add_generation_prompt>},
    {"continue_final_message", span_at<&request::continue_final_message>},
    {"mm_processor_kwargs", span_at<&request::mm_processor_kwargs>},
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
        if ((c.seen >> i & 1) != 0) {
            return fail(c, JR_EINVAL, known_fields[i].name, "'%s' is given twice: remove one",
                        known_fields[i].name);
        }
        c.seen |= UINT64_C(1) << i;
        return known_fields[i].read(c, v, known_fields[i].name);
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

/* Goes to the value that is next and says whether it is a list of numbers, by its first. */
bool at_number_list(struct jr_json *j)
{
    bool is_list = jr_json_peek(j) == JR_JSON_ARRAY;
    struct jr_json inside = *j;
    return is_list && jr_json_array(&inside) == 0 && jr_json_item(&inside) == 1 &&
           jr_json_peek(&inside) == JR_JSON_NUMBER;
}

/* Looks for the prompt's ids and reads them. Whatever is unusual, and every error, is left to the
 * JSON reader, which has the words for it. */
struct cut cut_ids(const uint8_t *body, size_t n, struct jr_tokens *tokens)
{
    struct jr_json j;
    struct jr_str key;
    jr_json_init(&j, body, n);
    int rv = jr_json_object(&j);
    while (rv == 0 && (rv = jr_json_key(&j, &key)) > 0) {
        if (!jr_str_eq(key, "prompt")) {
            rv = jr_json_skip(&j);
            continue;
        }
        if (!at_number_list(&j)) {
            break;
        }
        size_t at = jr_json_at(&j);
        rv = jr_tokens_read(&j, tokens);
        if (rv == 0) {
            return {at, jr_json_at(&j) - at};
        }
        tokens->n = 0;
    }
    return {0, 0};
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
        c.cut = cut_ids(static_cast<const uint8_t *>(body), n, tokens);
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
