/* SPDX-License-Identifier: Apache-2.0 */
/* drr: deficit round robin between the classes of a queue, by the cost of what each would send next.
 *
 *     class   quantum   deficit          the class at the cursor is looked at first; a visit adds its
 *     gold       3         1             quantum, and its head goes when the deficit pays its cost
 *     free  ──►  1         0   cursor
 *
 * 1. The class that was served last goes on while its deficit pays (the carry).
 * 2. From the cursor, one visit each: a class without a head that may go is passed; one whose deficit
 *    does not pay gets its quantum.
 * 3. Nobody pays: all candidates get as many quanta as the first of them to pay needs, and the first
 *    from the cursor that pays goes. So the work does not depend on the quanta.
 * What went: the cursor is behind its class, and the deficit pays. A class that has become empty, in
 * whatever way, loses its deficit.
 * (Dynamo 1.3, lib/kv-router scheduling/policy_queue.)
 *
 * Pure and deterministic. The caller's thread. */
#ifndef JR_CORE_DRR_H
#define JR_CORE_DRR_H

#include "base/limits.h"

#include <stdbool.h>
#include <stdint.h>

#define JR_DRR_NONE        UINT32_MAX
#define JR_DRR_QUANTUM_MAX (UINT64_C(1) << 40)
#define JR_DRR_COST_MAX    (UINT64_C(1) << 40)

struct jr_drr {
    uint32_t n, cursor, carry; /* carry: JR_DRR_NONE or a class */
    uint64_t quantum[JR_POLICY_CLASSES_MAX];
    uint64_t deficit[JR_POLICY_CLASSES_MAX];
};

/* What a class would send next. */
struct jr_drr_head {
    bool may_go;   /* there is one, and room for it */
    uint64_t cost; /* of the head; 1 … JR_DRR_COST_MAX */
};

/* At least one class; n <= JR_POLICY_CLASSES_MAX, quanta 1 … JR_DRR_QUANTUM_MAX. */
void jr_drr_init(struct jr_drr *d, const uint64_t *quanta, uint32_t n);
/* Whose head goes, of n heads, or JR_DRR_NONE: none may. Deficits are credited, not paid. */
uint32_t jr_drr_pick(struct jr_drr *d, const struct jr_drr_head *heads);
/* The head of a picked class has gone. */
void jr_drr_took(struct jr_drr *d, uint32_t class, uint64_t cost);
/* The class has become empty. */
void jr_drr_emptied(struct jr_drr *d, uint32_t class);

#endif
