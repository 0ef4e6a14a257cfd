/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: an answer that says "not I, not now" (--retry-statuses) is kept while another worker is
 * asked. When nobody else answers it is the client's: it says more than we could. */
#include "app/frontend/proxy_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>

#define BODY_MAX ((size_t)64 << 10) /* of one that is kept; a longer one is relayed at once */
#define WHOLE_MS 2000 /* for one that is kept; then it is as none, and another is asked */

struct jr_proxy_refused {
    int status;
    int64_t content_length;
    char *lines;
    struct jr_buf body;
    bool whole;
};

void jr_proxy_refused_free(struct jr_proxied *x)
{
    struct jr_proxy_refused *r = x->refused;
    if (!r)
        return;
    jr_xfree(r->lines);
    jr_buf_deinit(&r->body);
    jr_xfree(r);
    x->refused = NULL;
}

static bool is_named(const struct jr_config *cfg, int status)
{
    uint32_t n;
    const char *const *v = jr_config_list(cfg, JR_CFG_RETRY_STATUSES, &n);
    for (uint32_t i = 0; i < n; i++)
        if (strtol(v[i], NULL, 10) == status) /* "none" is 0 */
            return true;
    return false;
}

/* Nothing was relayed, and another one may get it. */
static bool may_ask_another(const struct jr_proxied *x, int status)
{
    return status >= 400 && !x->status && !x->has_pin && x->attempts <= x->f->migration_limit &&
           is_named(x->f->cfg, status) && jr_proxy_time_left_ms(x) > 0;
}

bool jr_proxy_refused_keep(struct jr_proxied *x, const struct jr_http_reply *reply)
{
    const char *lines = may_ask_another(x, reply->status) ? jr_proxy_reply_lines(x, reply) : NULL;
    if (!lines)
        return false;
    jr_proxy_refused_free(x);
    struct jr_proxy_refused *r = x->refused = jr_xalloc(sizeof *r);
    r->status = reply->status;
    r->content_length = reply->content_length;
    r->lines = jr_xstrdup(lines);
    jr_buf_init(&r->body, BODY_MAX);
    jr_http_exchange_hurry(x->exchange, WHOLE_MS);
    return true;
}

/* Too much to keep: the client gets it as it comes. */
static void relay_on(struct jr_proxied *x, const void *p, size_t n)
{
    struct jr_proxy_refused *r = x->refused;
    jr_sm_move(&x->sm, JR_PROXY_RELAY, "long");
    jr_http_exchange_hurry(x->exchange, 0);
    x->status = r->status;
    jr_http_respond_start(x->req, r->status, NULL, r->lines, r->content_length);
    int err = jr_proxy_write_raw(x, r->body.p, r->body.n);
    if (err != JR_ECLOSED)
        err = jr_proxy_write_raw(x, p, n);
    if (err == JR_EAGAIN)
        jr_http_exchange_pause(x->exchange);
    jr_proxy_refused_free(x);
}

void jr_proxy_refused_data(struct jr_proxied *x, const void *p, size_t n)
{
    struct jr_proxy_refused *r = x->refused;
    if (r->body.n + n > BODY_MAX)
        relay_on(x, p, n);
    else
        jr_buf_put(&r->body, p, n);
}

bool jr_proxy_refused_end(struct jr_proxied *x, int err)
{
    struct jr_proxy_refused *r = x->refused;
    if (!r || r->whole)
        return false;
    if (err < 0) {
        jr_proxy_refused_free(x);
        return false;
    }
    r->whole = true;
    if (r->status < 500)
        jr_decide_note(x, JR_NOTE_WELL, NULL);
    jr_log(JR_LOG_INFO, "proxy.refused", "worker=%llu status=%d", (unsigned long long)x->worker_id,
           r->status);
    return true;
}

bool jr_proxy_refused_relay(struct jr_proxied *x)
{
    const struct jr_proxy_refused *r = x->refused;
    if (!r || !r->whole || x->status)
        return false;
    jr_decide_finish(x);
    x->status = r->status;
    x->bytes_out += r->body.n;
    jr_proxy_count_end(x, "error", "validation");
    jr_http_respond(x->req, r->status, NULL, r->lines, r->body.p, r->body.n);
    jr_proxy_free(x);
    return true;
}
