/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_head.h"

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

int jr_http_scan_head(struct jr_http_scan *scan, const char *p, size_t n, size_t *ret_end)
{
    while (scan->pos < n) {
        const char *lf = memchr(p + scan->pos, '\n', n - scan->pos);
        if (lf == NULL) {
            scan->pos = n;
            return 0;
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
    return 0;
}

void jr_http_fields_deinit(struct jr_http_fields *f)
{
    jr_xfree(f->v);
    *f = (struct jr_http_fields){0};
}

int jr_http_fields_name(struct jr_http_fields *f, const char *p, size_t n)
{
    if (f->n == f->cap) {
        if (f->cap == JR_HTTP_HEADERS_MAX) {
            f->overflow = true;
            return JR_ELIMIT;
        }
        f->cap = f->cap == 0 ? 16 : f->cap * 2;
        f->v = jr_xrealloc(f->v, f->cap * sizeof *f->v);
    }
    f->v[f->n++] = (struct jr_http_header){.name = jr_str_of(p, n), .value = jr_str_of(p + n, 0)};
    return 0;
}

void jr_http_fields_value(struct jr_http_fields *f, const char *p, size_t n)
{
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    if (f->n > 0)
        f->v[f->n - 1].value = jr_str_of(p, n);
}

struct jr_str jr_http_fields_find(const struct jr_http_fields *f, const char *name,
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

static void put_number(struct jr_buf *b, uint64_t v, unsigned base)
{
    char text[20];
    unsigned at = sizeof text;

    do {
        text[--at] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v > 0);
    jr_buf_put(b, text + at, sizeof text - at);
}

void jr_http_put_u64(struct jr_buf *b, uint64_t v)
{
    put_number(b, v, 10);
}

void jr_http_put_hex(struct jr_buf *b, uint64_t v)
{
    put_number(b, v, 16);
}

const char *jr_http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {529, "Overloaded"},
    };

    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Unknown";
}
