/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mocker/mock_fault.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SLOW_MAX 1e6

static const struct fault {
    const char *name;
    size_t offset;
    double max; /* 0: a switch */
    bool above_zero;
} faults[] = {
    {"refuse", offsetof(struct jr_mock_faults, refuse), 0, false},
    {"hang", offsetof(struct jr_mock_faults, hang), 0, false},
    {"slow", offsetof(struct jr_mock_faults, slow), SLOW_MAX, true},
    {"drop_events", offsetof(struct jr_mock_faults, drop_events), 1, false},
};
#define FAULTS (sizeof faults / sizeof *faults)

void jr_mock_faults_init(struct jr_mock_faults *f)
{
    *f = (struct jr_mock_faults){.slow = 1};
}

static int set_switch(bool *ret, struct jr_str value)
{
    bool on = jr_str_eq(value, "true") || jr_str_eq(value, "1");
    if (!on && !jr_str_eq(value, "false") && !jr_str_eq(value, "0"))
        return JR_EINVAL;
    *ret = on;
    return 0;
}

static int set_number(const struct fault *fault, double *ret, struct jr_str value)
{
    char text[32], *end;
    if (value.n == 0 || value.n >= sizeof text)
        return JR_EINVAL;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    double v = strtod(text, &end);
    if (*end != '\0' || !(v >= 0) || v > fault->max || (fault->above_zero && v == 0))
        return JR_EINVAL;
    *ret = v;
    return 0;
}

int jr_mock_faults_set(struct jr_mock_faults *f, struct jr_str text, struct jr_errmsg *e)
{
    const char *equals = text.n > 0 ? memchr(text.p, '=', text.n) : NULL;
    struct jr_str name = jr_str_of(text.p, equals ? (size_t)(equals - text.p) : text.n);
    int err = JR_EINVAL;
    for (size_t i = 0; equals && i < FAULTS; i++) {
        if (!jr_str_eq(name, faults[i].name))
            continue;
        struct jr_str value = jr_str_of(equals + 1, text.n - name.n - 1);
        void *at = (char *)f + faults[i].offset;
        err = faults[i].max > 0 ? set_number(&faults[i], at, value) : set_switch(at, value);
    }
    return err == 0 ? 0
                    : jr_errmsg_set(e, err,
                                    "%.*s: refuse=true|false, hang=true|false, slow=FACTOR or "
                                    "drop_events=0..1 are faults",
                                    (int)(text.n < 80 ? text.n : 80), text.p);
}

void jr_mock_faults_json(const struct jr_mock_faults *f, struct jr_buf *b)
{
    for (size_t i = 0; i < FAULTS; i++) {
        const void *at = (const char *)f + faults[i].offset;
        jr_buf_printf(b, "%s\"%s\":", i > 0 ? "," : "", faults[i].name);
        if (faults[i].max > 0)
            jr_buf_printf(b, "%.9g", *(const double *)at);
        else
            jr_buf_puts(b, *(const bool *)at ? "true" : "false");
    }
}
