/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/prom_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct jr_prom_reader r;
    struct jr_prom_sample s;
    struct jr_errmsg e;
    char word[32];
    int rv;
    jr_prom_init(&r, p, n);
    while ((rv = jr_prom_next(&r, &s, &e)) != 0) {
        for (uint32_t i = 0; rv > 0 && i < s.n_labels; i++) {
            (void)jr_prom_unescape(s.labels[i].value, word, sizeof word);
        }
    }
    (void)jr_prom_sum(p, n, "a", NULL);
    return 0;
}
