/* SPDX-License-Identifier: Apache-2.0 */
#include "app/driver/busy_rows.h"

#include <stddef.h>

struct jr_busy_row *jr_busy_rows_find(struct jr_busy_rows *rows, uint64_t model)
{
    for (uint32_t i = 0; i < rows->n; i++)
        if (rows->v[i].model == model)
            return &rows->v[i];
    return NULL;
}

static struct jr_busy_row *oldest_deletion(struct jr_busy_rows *rows)
{
    struct jr_busy_row *oldest = NULL;
    for (uint32_t i = 0; i < rows->n; i++) {
        struct jr_busy_row *row = &rows->v[i];
        if (row->rec.deleted && (!oldest || row->stamp_ns < oldest->stamp_ns))
            oldest = row;
    }
    return oldest;
}

bool jr_busy_rows_has_place(struct jr_busy_rows *rows, uint64_t model)
{
    return jr_busy_rows_find(rows, model) || rows->n < JR_BUSY_MODELS_MAX || oldest_deletion(rows);
}

struct jr_busy_row *jr_busy_rows_place(struct jr_busy_rows *rows, uint64_t model)
{
    struct jr_busy_row *row = jr_busy_rows_find(rows, model);
    if (row)
        return row;
    row = rows->n < JR_BUSY_MODELS_MAX ? &rows->v[rows->n++] : oldest_deletion(rows);
    if (row)
        *row = (struct jr_busy_row){.model = model};
    return row;
}
