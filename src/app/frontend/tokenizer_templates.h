/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_templates: chat templates that render earlier turns otherwise once others follow, and until
 * when they are not trusted. A bounded number is remembered: the one that ends first makes room. Pure;
 * any thread. */
#ifndef JR_APP_FRONTEND_TOKENIZER_TEMPLATES_H
#define JR_APP_FRONTEND_TOKENIZER_TEMPLATES_H

#include "base/limits.h"
#include "core/token_cache.h"

/* Zero-initialised: all are trusted. */
struct jr_token_templates {
    struct {
        struct jr_token_key key;
        uint64_t until_ms;
    } v[JR_TOKEN_TEMPLATES_MAX];
};

/* key: of all that makes the template. */
void jr_token_templates_distrust(struct jr_token_templates *t, struct jr_token_key key,
                                 uint64_t until_ms);
bool jr_token_templates_trusted(const struct jr_token_templates *t, struct jr_token_key key,
                                uint64_t now_ms);

#endif
