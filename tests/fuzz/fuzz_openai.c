/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte chooses the kind, the rest is a request body; tokenizer calls made from it, and
 * spans within it. */
#include <stdlib.h>
#include "wire/openai.h"
#include "wire/tokenize.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_request(const struct jr_openai_request *r, const uint8_t *body, size_t n)
{
    struct jr_buf b;
    jr_buf_init(&b, 1 << 24);
    if (r->model_span.off + r->model_span.n > n || r->messages.off + r->messages.n > n) {
        abort();
    }
    for (uint32_t i = 0; i < r->n_ends; i++) {
        size_t from = i > 0 ? r->ends[i - 1] : r->messages.off;
        if (r->ends[i] <= from || r->ends[i] >= r->messages.off + r->messages.n) {
            abort();
        }
    }
    jr_tokenize_write(&b, r, body);
    jr_buf_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static struct jr_openai_parser *parser;
    struct jr_mem mem;
    struct jr_tokens tokens;
    struct jr_openai_request r;
    struct jr_openai_error e;
    if (n == 0 || (parser == NULL && jr_openai_parser_create(1 << 20, &parser) < 0)) {
        return 0;
    }
    jr_mem_init(&mem);
    jr_tokens_init(&tokens, &mem);
    enum jr_openai_kind kind = p[0] == 'c' ? JR_OPENAI_CHAT : JR_OPENAI_COMPLETION;
    if (jr_openai_parse(parser, kind, p + 1, n - 1, &tokens, &r, &e) == 0) {
        check_request(&r, p + 1, n - 1);
    } else if (e.msg.text[0] == '\0') {
        abort();
    }
    jr_tokens_deinit(&tokens);
    jr_mem_deinit(&mem);
    return 0;
}
