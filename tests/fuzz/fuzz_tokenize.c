/* SPDX-License-Identifier: Apache-2.0 */
/* A tokenizer's reply, and the same bytes as any JSON. */
#include <stdlib.h>
#include "wire/json.h"
#include "wire/tokenize.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct jr_mem mem;
    struct jr_tokens tokens;
    struct jr_tokenize_reply r;
    struct jr_errmsg e;
    struct jr_json j;
    struct jr_buf b;
    jr_mem_init(&mem);
    jr_tokens_init(&tokens, &mem);
    if (jr_tokenize_reply_parse(p, n, &tokens, &r, &e) == 0) {
        jr_json_init(&j, p, n);
        if (r.count != tokens.n || jr_json_skip(&j) < 0 || jr_json_end(&j) < 0) {
            abort();
        }
    }
    jr_buf_init(&b, 1 << 20);
    (void)!jr_json_unescape(jr_str_of((const char *)p, n), &b);
    jr_buf_deinit(&b);
    jr_tokens_deinit(&tokens);
    jr_mem_deinit(&mem);
    return 0;
}
