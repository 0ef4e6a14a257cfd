/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/openai_model.h"

#include "wire/json.h"

static int read_model(struct jr_json *j, struct jr_openai_span *ret)
{
    struct jr_str s;
    if (jr_json_peek(j) != JR_JSON_STR)
        return jr_json_skip(j);
    size_t from = jr_json_at(j); /* peek went to its first byte */
    int rv = jr_json_str(j, &s);
    if (rv == 0)
        *ret = (struct jr_openai_span){from, jr_json_at(j) - from};
    return rv;
}

static int read_stream(struct jr_json *j, bool *ret)
{
    return jr_json_peek(j) == JR_JSON_BOOL ? jr_json_bool(j, ret) : jr_json_skip(j);
}

int jr_openai_outline(struct jr_str body, struct jr_openai_outline *ret)
{
    struct jr_json j;
    struct jr_str key;
    *ret = (struct jr_openai_outline){.stream = false};
    jr_json_init(&j, body.p, body.n);
    int rv = jr_json_object(&j);
    while (rv == 0 && (rv = jr_json_key(&j, &key)) > 0) {
        if (jr_str_eq(key, "model"))
            rv = read_model(&j, &ret->model);
        else if (jr_str_eq(key, "stream"))
            rv = read_stream(&j, &ret->stream);
        else
            rv = jr_json_skip(&j);
    }
    return rv == 0 ? jr_json_end(&j) : rv;
}

void jr_openai_put_model(struct jr_str body, struct jr_openai_span span, const char *model,
                         struct jr_buf *out)
{
    size_t end = span.off + span.n;
    jr_buf_put(out, body.p, span.off);
    jr_buf_json_str(out, model);
    jr_buf_put(out, body.p + end, body.n - end);
}
