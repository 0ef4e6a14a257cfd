/* SPDX-License-Identifier: Apache-2.0 */
/* retold: the words of what fails again and again, said once, and again each minute while they last.
 *
 * For what is tried again for ever: other words, or the same after jr_retold_over, are said at once.
 * Zero-initialised is "nothing has failed". The clock is the caller's; one thread. */
#ifndef JR_BASE_RETOLD_H
#define JR_BASE_RETOLD_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

#define JR_RETOLD_EVERY_MS UINT64_C(60000)

struct jr_retold {
    struct jr_errmsg words; /* of the last failure; "" when it is over */
    uint64_t said_ms;       /* when they were last said */
};

/* Copies words; true: say them now. No words read as "unknown". */
bool jr_retold_say(struct jr_retold *r, const char *words, uint64_t now_ms);
void jr_retold_over(struct jr_retold *r);

#endif
