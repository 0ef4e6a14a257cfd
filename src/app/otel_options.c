/* SPDX-License-Identifier: Apache-2.0 */
#include "app/otel_options.h"

#include "base/str.h"
#include "io/http_client.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define TRACES_PATH "/v1/traces"

int jr_otel_url(const struct jr_config *cfg, char *ret)
{
    const char *whole = jr_config_str(cfg, JR_CFG_OTLP_TRACES_ENDPOINT);
    const char *base = jr_config_str(cfg, JR_CFG_OTLP_ENDPOINT);
    size_t n = whole ? strlen(whole) : strlen(base);
    while (!whole && n > 0 && base[n - 1] == '/')
        n--;
    int len =
        snprintf(ret, JR_URL_MAX, "%.*s%s", (int)n, whole ? whole : base, whole ? "" : TRACES_PATH);
    struct jr_errmsg e;
    return len < 0 || len >= JR_URL_MAX ? JR_EINVAL : jr_http_url_check(ret, &e);
}

/* ---------------------------------------------------------------- pairs */

/* A token of RFC 9110, which names of headers and of baggage are. */
static bool is_token(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s))
            return false;
    return true;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place. */
static bool decode(char *s)
{
    char *to = s;
    for (; *s; s++) {
        int c = (unsigned char)*s;
        if (c == '%') {
            int high = hex(s[1]), low = high < 0 ? -1 : hex(s[2]);
            if (low < 0)
                return false;
            c = high << 4 | low;
            s += 2;
        }
        if (c < 0x20 || c == 0x7f) /* would end a line of a head */
            return false;
        *to++ = (char)c;
    }
    *to = '\0';
    return true;
}

static char *trimmed(char *s)
{
    char *end = s + strlen(s);
    while (*s == ' ' || *s == '\t')
        s++;
    while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = '\0';
    return s;
}

static int take_pair(char *pair, jr_otel_pair_fn *fn, void *ctx)
{
    char *value = strchr(pair, '=');
    if (!value)
        return JR_EINVAL;
    *value++ = '\0';
    char *name = trimmed(pair);
    value = trimmed(value);
    if (!is_token(name) || !decode(value))
        return JR_EINVAL;
    if (fn)
        fn(ctx, name, value);
    return 0;
}

int jr_otel_pairs(const char *text, jr_otel_pair_fn *fn, void *ctx)
{
    char copy[JR_CONFIG_VALUE_MAX + 1];
    int err = jr_str_copy(copy, sizeof copy, text) ? 0 : JR_EINVAL;
    for (char *at = copy, *next = NULL; err == 0 && at; at = next) {
        next = strchr(at, ',');
        if (next)
            *next++ = '\0';
        at = trimmed(at);
        if (*at)
            err = take_pair(at, fn, ctx);
    }
    return err;
}

/* ---------------------------------------------------------------- sampler */

struct jr_otel_sampler jr_otel_sampler(const struct jr_config *cfg)
{
    const char *name = jr_config_str(cfg, JR_CFG_OTEL_TRACES_SAMPLER);
    struct jr_otel_sampler s = {.parent_based = strncmp(name, "parentbased", 11) == 0};
    if (strstr(name, "always-on"))
        s.share = 1;
    else if (strstr(name, "traceidratio"))
        s.share = jr_config_f64(cfg, JR_CFG_OTEL_TRACES_SAMPLER_ARG);
    return s;
}
