/* SPDX-License-Identifier: Apache-2.0 */
#include "base/retold.h"

#include "base/str.h"
#include <string.h>

bool jr_retold_say(struct jr_retold *r, const char *words, uint64_t now_ms)
{
    struct jr_errmsg now;
    (void)jr_str_copy(now.text, sizeof now.text, words[0] ? words : "unknown");
    bool same = strcmp(now.text, r->words.text) == 0;
    if (same && now_ms - r->said_ms < JR_RETOLD_EVERY_MS)
        return false;
    r->words = now;
    r->said_ms = now_ms;
    return true;
}

void jr_retold_over(struct jr_retold *r)
{
    *r = (struct jr_retold){0};
}
