/* SPDX-License-Identifier: Apache-2.0 */
/* sm: state machines as tables. A row names a state, the states it may move to and what must hold
 * in it; a move that the table does not list is a programmer error and ends the process. */
#ifndef JR_BASE_SM_H
#define JR_BASE_SM_H

#include "base/trace.h"
#include <stdbool.h>
#include <stdint.h>

#define JR_SM_TO(state) (UINT32_C(1) << (state))

enum { JR_SM_INITIAL = 1, JR_SM_FINAL = 2 };

struct jr_sm_row {
    const char *name;
    uint32_t allowed; /* JR_SM_TO(a) | JR_SM_TO(b) */
    uint32_t flags;
};

struct jr_sm_table {
    const char *name; /* of the machine, for traces */
    const struct jr_sm_row *rows;
    uint32_t n;                                      /* at most 32 */
    bool (*invariant)(const void *owner, int state); /* may be NULL */
};

struct jr_sm {
    const struct jr_sm_table *table;
    const struct jr_trace *trace; /* borrows; may be NULL */
    const void *owner;            /* handed to invariant */
    int state;
    uint64_t moves;
};

void jr_sm_init(struct jr_sm *sm, const struct jr_sm_table *table, const void *owner,
                const struct jr_trace *trace, int initial);
/* Asserts that the move is allowed; traces "<machine>.move from=… to=… why=…"; then asserts the
 * invariant. A move to the present state is allowed only if the table says so. */
void jr_sm_move(struct jr_sm *sm, int to, const char *why);
bool jr_sm_may(const struct jr_sm *sm, int to);
const char *jr_sm_name(const struct jr_sm *sm);

#endif
