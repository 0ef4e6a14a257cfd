/* SPDX-License-Identifier: Apache-2.0 */
#include "app/table.h"
#include "base/assert.h"
#include "base/mem.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void push(struct jr_table *t, char *cell)
{
    for (char *p = cell; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->cells = jr_xrealloc(t->cells, t->cap * sizeof *t->cells);
    }
    t->cells[t->n++] = cell;
}

void jr_table_init(struct jr_table *t, const char *headings)
{
    memset(t, 0, sizeof *t);
    for (const char *p = headings;; p++) {
        size_t n = strcspn(p, "|");
        push(t, jr_xstrndup(p, n));
        t->columns++;
        p += n;
        if (*p == '\0')
            break;
    }
    JR_ASSERT(t->columns <= JR_TABLE_COLUMNS_MAX);
}

void jr_table_deinit(struct jr_table *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        jr_xfree(t->cells[i]);
    jr_xfree(t->cells);
    memset(t, 0, sizeof *t);
}

void jr_table_cell(struct jr_table *t, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    push(t, jr_xstrdup(text));
}

uint32_t jr_table_rows(const struct jr_table *t)
{
    JR_ASSERT(t->columns > 0);
    return t->n / t->columns - 1;
}

/* Characters on the screen: bytes that do not continue a UTF-8 sequence. */
static int width_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static bool is_number(const char *s)
{
    return s[strspn(s, "0123456789.-+%eKMGTi s")] == '\0' && s[strcspn(s, "0123456789-")] != '\0';
}

void jr_table_render(const struct jr_table *t, struct jr_buf *b)
{
    JR_ASSERT(t->columns > 0);
    int width[JR_TABLE_COLUMNS_MAX] = {0};
    bool right[JR_TABLE_COLUMNS_MAX];
    for (uint32_t c = 0; c < t->columns; c++)
        right[c] = jr_table_rows(t) > 0;
    for (uint32_t i = 0; i < t->n; i++) {
        uint32_t c = i % t->columns;
        int w = width_of(t->cells[i]);
        width[c] = w > width[c] ? w : width[c];
        right[c] = right[c] && (i < t->columns || is_number(t->cells[i]));
    }
    for (uint32_t i = 0; i < t->n; i++) {
        uint32_t c = i % t->columns;
        bool last = c + 1 == t->columns;
        int pad = width[c] - width_of(t->cells[i]);
        jr_buf_printf(b, "%*s%s", right[c] ? pad : 0, "", t->cells[i]);
        if (last)
            jr_buf_puts(b, "\n");
        else
            jr_buf_printf(b, "%*s  ", right[c] ? 0 : pad, "");
    }
}
