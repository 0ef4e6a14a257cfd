/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
    const char *hint;
    int exit_code;
} rows[JR_ERR_COUNT] = {{"OK", "success", "nothing to do", 0},
#define X(name, exit_code, text, hint) {#name, text, hint, exit_code},
                        JR_ERR_TABLE(X)
#undef X
};

static size_t row_of(int err)
{
    if (err > 0 || err <= -(int)JR_ERR_COUNT)
        return JR_ERR_INDEX_EINTERNAL;
    return (size_t)-err;
}

const char *jr_err_name(int err)
{
    return rows[row_of(err)].name;
}

const char *jr_err_text(int err)
{
    return rows[row_of(err)].text;
}

const char *jr_err_hint(int err)
{
    return rows[row_of(err)].hint;
}

int jr_err_exit_code(int err)
{
    return rows[row_of(err)].exit_code;
}

/* A message cut inside a UTF-8 sequence would make a log line or JSON answer invalid. */
static void cut_at_character(struct jr_errmsg *e)
{
    size_t n = strlen(e->text), i = n;
    if (n + 1 < sizeof e->text)
        return;
    while (i > 0 && ((unsigned char)e->text[i - 1] & 0xc0) == 0x80)
        i--;
    if (i == 0)
        return;
    unsigned char lead = (unsigned char)e->text[i - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (want > 1 && n - (i - 1) < want)
        e->text[i - 1] = '\0';
}

int(jr_errmsg_set)(struct jr_errmsg *e, int err, const char *fmt, ...)
{
    /* Formatted aside, since the old text may be one of the arguments. */
    struct jr_errmsg made;
    va_list ap;

    if (!e)
        return err;
    va_start(ap, fmt);
    (void)vsnprintf(made.text, sizeof made.text, fmt, ap);
    va_end(ap);
    cut_at_character(&made);
    *e = made;
    return err;
}

int(jr_errmsg_wrap)(struct jr_errmsg *e, int err, const char *fmt, ...)
{
    struct jr_errmsg made;
    const char *inner;
    size_t n;
    va_list ap;

    if (!e)
        return err;
    inner = e->text[0] ? e->text : jr_err_text(err);
    va_start(ap, fmt);
    (void)vsnprintf(made.text, sizeof made.text, fmt, ap);
    va_end(ap);
    n = strlen(made.text);
    for (const char *part = ": "; part; part = part == inner ? NULL : inner) {
        size_t room = sizeof made.text - 1 - n, len = strnlen(part, room);
        memcpy(made.text + n, part, len);
        n += len;
    }
    made.text[n] = '\0';
    cut_at_character(&made);
    *e = made;
    return err;
}
