/* SPDX-License-Identifier: Apache-2.0 */
/* openai_read: simdjson's On-Demand reader with our errors: the values that a request body is made of,
 * read from a context. Included by openai_json.cc alone. */
#ifndef JR_WIRE_OPENAI_READ_HH
#define JR_WIRE_OPENAI_READ_HH

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
#include "base/cursor.h"
#include "base/limit.h"
#include "wire/json.h"
#include "wire/openai.h"
}

namespace od = simdjson::ondemand;
using simdjson::error_code;

/* Internal to the file that includes this. */
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
    return fail(c, jr_limit(JR_LIMIT_OPENAI_DEPTH), nullptr,
                "the body is nested more than %d levels deep", JR_OPENAI_DEPTH_MAX);
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

/* The end, in the buffer, of the value that was just read and is not empty. */
size_t raw_end(context &c)
{
    const char *next;
    size_t end = c.n;
    if (c.doc.current_location().get(next) == simdjson::SUCCESS) {
        end = (size_t)((const uint8_t *)next - c.buf);
    }
    while (end > 0 && strchr(" \t\r\n", c.buf[end - 1]) != nullptr) {
        end--;
    }
    return end;
}

/* The same in the body. */
size_t end_of(context &c)
{
    return place(c, raw_end(c));
}

/* The bytes from begin to the end of the value that was just read. */
struct jr_openai_span span_from(context &c, size_t begin)
{
    return {place(c, begin), end_of(c) - place(c, begin)};
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

} // namespace

#endif
