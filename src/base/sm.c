/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sm.h"
#include "base/assert.h"
#include <stddef.h>
#include <stdio.h>

void jr_sm_init(struct jr_sm *sm, const struct jr_sm_table *table, const void *owner,
                const struct jr_trace *trace, int initial)
{
    JR_ASSERT(table->n > 0 && table->n <= 32);
    JR_ASSERT(initial >= 0 && (uint32_t)initial < table->n);
    JR_ASSERT(table->rows[initial].flags & JR_SM_INITIAL);
    *sm = (struct jr_sm){.table = table, .trace = trace, .owner = owner, .state = initial};
}

bool jr_sm_may(const struct jr_sm *sm, int to)
{
    if (to < 0 || (uint32_t)to >= sm->table->n)
        return false;
    return (sm->table->rows[sm->state].allowed & JR_SM_TO(to)) != 0;
}

void jr_sm_move(struct jr_sm *sm, int to, const char *why)
{
    const struct jr_sm_table *table = sm->table;
    char event[64];
    int from = sm->state;

    JR_ASSERT(jr_sm_may(sm, to));
    sm->state = to;
    sm->moves++;
    if (sm->trace) {
        (void)snprintf(event, sizeof event, "%s.move", table->name);
        jr_trace_emit(sm->trace, JR_TRACE_DEBUG, event, "from=%s to=%s why=\"%s\"",
                      table->rows[from].name, table->rows[to].name, why ? why : "");
    }
    JR_ASSERT(!table->invariant || table->invariant(sm->owner, to));
}

const char *jr_sm_name(const struct jr_sm *sm)
{
    return sm->table->rows[sm->state].name;
}
