/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies and chunks that are written anew: what comes out of JSON is JSON, and says what was put in. */
#include <stdlib.h>
#include "wire/json.h"
#include "wire/openai_model.h"
#include "wire/openai_splice.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must_be_json(const struct jr_buf *b)
{
    struct jr_json j;
    jr_json_init(&j, b->p, b->n);
    if (jr_json_skip(&j) < 0 || jr_json_end(&j) < 0) {
        abort();
    }
}

static void body(struct jr_str text)
{
    struct jr_buf out, again;
    jr_buf_init(&out, text.n + 100);
    jr_buf_init(&again, text.n + 200);
    if (jr_openai_splice_body(text, jr_str_of("7,8", 3), 2, &out) == 0) {
        must_be_json(&out);
        /* For a third worker; perhaps nothing is left of max_tokens. */
        int rv =
            jr_openai_splice_body(jr_str_of(jr_buf_str(&out), out.n), jr_str_of("9", 1), 1, &again);
        if (rv != 0 && rv != JR_EUNSUPPORTED) {
            abort();
        }
    }
    jr_buf_deinit(&out);
    jr_buf_deinit(&again);
}

static void chunk(struct jr_str text)
{
    struct jr_openai_splice s = {.prompt_tokens = 5, .produced = 2};
    struct jr_buf out;
    (void)!jr_openai_chunk_head(text, &s.head);
    jr_buf_init(&out, 4 * text.n + 1000);
    if (jr_openai_splice_chunk(text, &s, &out) == 0) {
        must_be_json(&out);
    }
    jr_buf_deinit(&out);
}

static void model(struct jr_str text)
{
    struct jr_openai_outline o;
    struct jr_buf out;
    if (jr_openai_outline(text, &o) < 0 || o.model.n == 0) {
        return;
    }
    jr_buf_init(&out, text.n + 100);
    jr_openai_put_model(text, o.model, "an\"other", &out);
    must_be_json(&out);
    if (jr_openai_outline(jr_str_of(jr_buf_str(&out), out.n), &o) < 0 ||
        !jr_str_eq(jr_str_of((const char *)out.p + o.model.off, o.model.n), "\"an\\\"other\"")) {
        abort();
    }
    jr_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct jr_str text = jr_str_of((const char *)p, n);
    body(text);
    chunk(text);
    model(text);
    return 0;
}
