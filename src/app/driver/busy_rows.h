/* SPDX-License-Identifier: Apache-2.0 */
/* busy_rows: what a replica knows of the busy thresholds that were set at run time, a row a model.
 * Deletions are remembered, too (ADR 23), as long as there is place. Main thread. */
#ifndef JR_APP_BUSY_ROWS_H
#define JR_APP_BUSY_ROWS_H

#include "base/busy.h"

#include <stdbool.h>
#include <stdint.h>

struct jr_busy_row {
    uint64_t model;
    uint64_t revision; /* of its key, in the bucket that is watched; 0: not seen there */
    struct jr_busy_record rec;
    int64_t stamp_ns; /* jr_busy_stamp_ns */
    bool there;       /* the bucket says what this does, as far as we know */
};

struct jr_busy_rows { /* zeros: none */
    uint32_t n;
    struct jr_busy_row v[JR_BUSY_MODELS_MAX];
};

/* Borrowed, until the next jr_busy_rows_place. NULL: there is none. */
struct jr_busy_row *jr_busy_rows_find(struct jr_busy_rows *rows, uint64_t model);
/* It has a row, or gets one. */
bool jr_busy_rows_has_place(struct jr_busy_rows *rows, uint64_t model);
/* Its row, or a new one: when all are taken that of the oldest deletion, which is forgotten. Borrowed
 * as above. NULL: all are of models that have thresholds. */
struct jr_busy_row *jr_busy_rows_place(struct jr_busy_rows *rows, uint64_t model);

#endif
