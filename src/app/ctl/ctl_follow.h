/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_follow: what became of a snapshot that was asked for, by what /state says of it, before and
 * since. Pure: no sockets, no output, no clock. */
#ifndef JR_APP_CTL_CTL_FOLLOW_H
#define JR_APP_CTL_CTL_FOLLOW_H

#include "base/buf.h"
#include "base/limits.h"
#include <jansson.h>
#include <stdbool.h>

struct jr_ctl_follow {
    struct jr_ctl_follow_pool {
        char component[JR_NAME_MAX];
        bool leads; /* when it was asked: who does not, writes none */
        bool done;
        uint64_t applied, failures; /* when it was asked */
        char stage[32];             /* said last */
    } pools[JR_POOLS_MAX];
    uint32_t n;
};

/* body: /state before the snapshot is asked for. JR_EPROTO; JR_ECONFLICT: it leads no pool. Words in
 * e. */
JR_MUST_CHECK int jr_ctl_follow_begin(struct jr_ctl_follow *f, const char *body, size_t n,
                                      struct jr_errmsg *e);
/* body: /state now. Appends to b a line for each pool and stage that is new. 0: each pool that it
 * leads has a verified snapshot at or past the sequence that it was at; JR_EAGAIN: not yet; else an
 * attempt failed, or the lead is lost: words in e. */
JR_MUST_CHECK int jr_ctl_follow_look(struct jr_ctl_follow *f, const char *body, size_t n,
                                     struct jr_buf *b, struct jr_errmsg *e);

#endif
