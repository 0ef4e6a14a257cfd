/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/http1_head.h"

#include "base/limit.h"
#include "base/limits.h"
#include "base/mem.h"

#include <string.h>
#include <strings.h>

/* One line, with its LF, is fine when it ends in CRLF, holds no other CR, is no continuation of the
 * line before and names its field. */
static bool line_ok(const char *line, size_t n, bool first)
{
    if (n < 2 || line[n - 2] != '\r')
        return false;
    if (memchr(line, '\r', n - 2) != NULL)
        return false;
    return first || (line[0] != ' ' && line[0] != '\t' && line[0] != ':');
}

int jr_http1_scan_head(struct jr_http1_scan *scan, const char *p, size_t n, size_t *ret_end)
{
    const size_t look = n < JR_HTTP_HEADER_BYTES_MAX ? n : JR_HTTP_HEADER_BYTES_MAX;

    while (scan->pos < look) {
        const char *lf = memchr(p + scan->pos, '\n', look - scan->pos);
        if (lf == NULL) {
            scan->pos = look;
            break;
        }
        const size_t end = (size_t)(lf - p) + 1;
        const size_t line_n = end - scan->line;
        if (!line_ok(p + scan->line, line_n, scan->line == 0))
            return JR_EPROTO;
        scan->line = scan->pos = end;
        if (line_n == 2) {
            *ret_end = end;
            return 1;
        }
    }
    return look < n ? jr_limit(JR_LIMIT_HTTP_HEADER_BYTES) : 0;
}

void jr_http1_fields_deinit(struct jr_http1_fields *f)
{
    jr_xfree(f->v);
    *f = (struct jr_http1_fields){0};
}

int jr_http1_fields_name(struct jr_http1_fields *f, const char *p, size_t n)
{
    if (f->n == f->cap) {
        if (f->cap == JR_HTTP_HEADERS_MAX)
            return jr_limit(JR_LIMIT_HTTP_HEADERS);
        f->cap = f->cap == 0 ? 16 : f->cap * 2;
        f->v = jr_xrealloc(f->v, f->cap * sizeof *f->v);
    }
    f->v[f->n++] = (struct jr_http_header){.name = jr_str_of(p, n), .value = jr_str_of(p + n, 0)};
    return 0;
}

void jr_http1_fields_value(struct jr_http1_fields *f, const char *p, size_t n)
{
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    if (f->n > 0)
        f->v[f->n - 1].value = jr_str_of(p, n);
}

struct jr_str jr_http1_fields_find(const struct jr_http1_fields *f, const char *name,
                                   uint32_t *ret_count)
{
    const size_t n = strlen(name);
    struct jr_str found = {NULL, 0};
    uint32_t count = 0;

    for (uint32_t i = 0; i < f->n; i++) {
        if (f->v[i].name.n != n || strncasecmp(f->v[i].name.p, name, n) != 0)
            continue;
        if (count++ == 0)
            found = f->v[i].value;
        if (ret_count == NULL)
            break;
    }
    if (ret_count != NULL)
        *ret_count = count;
    return found;
}
