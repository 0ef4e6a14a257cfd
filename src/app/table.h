/* SPDX-License-Identifier: Apache-2.0 */
/* table: aligned columns for people. Columns in which every cell is a number are set to the right.
 * Control characters in cells become '?': what a peer sent must not drive the terminal. */
#ifndef JR_APP_TABLE_H
#define JR_APP_TABLE_H

#include "base/buf.h"

#define JR_TABLE_COLUMNS_MAX 16

struct jr_table {
    char **cells; /* owned, row by row, the headings first */
    uint32_t n, cap;
    uint32_t columns;
};

/* headings: names separated by '|'. */
void jr_table_init(struct jr_table *t, const char *headings);
void jr_table_deinit(struct jr_table *t);
/* The next cell, row by row; copies. */
void jr_table_cell(struct jr_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint32_t jr_table_rows(const struct jr_table *t); /* without the headings */
void jr_table_render(const struct jr_table *t, struct jr_buf *b);

#endif
