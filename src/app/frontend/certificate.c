/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/certificate.h"

#include "app/frontend/front_threads.h"
#include "base/limits.h"
#include "base/log.h"
#include "io/tls.h"

bool jr_certificate_wanted(const struct jr_frontend *f)
{
    return jr_config_is_set(f->cfg, JR_CFG_TLS_CERT_PATH);
}

/* A context and its sessions are one thread's: each loop gets its own. */
static int read_all(const struct jr_frontend *f, struct jr_tls_context **ret, uint32_t n,
                    struct jr_errmsg *e)
{
    const char *cert = jr_config_str(f->cfg, JR_CFG_TLS_CERT_PATH);
    const char *key = jr_config_str(f->cfg, JR_CFG_TLS_KEY_PATH);

    for (uint32_t i = 0; i < n; i++) {
        const int err = jr_tls_server_context(cert, key, e, &ret[i]);
        if (err == 0)
            continue;
        while (i > 0)
            jr_tls_context_destroy(ret[--i]);
        return jr_errmsg_wrap(e, err, "--tls-cert-path, --tls-key-path");
    }
    return 0;
}

int jr_certificate_load(struct jr_frontend *f, struct jr_errmsg *e)
{
    struct jr_tls_context *ctxs[JR_HTTP_THREADS_MAX + 1] = {NULL};
    const uint32_t n = f->n_others + 1; /* and one for the port of administration */

    if (!jr_certificate_wanted(f))
        return 0;
    const int err = read_all(f, ctxs, n + (f->admin != NULL), e);
    if (err < 0)
        return err;
    const int64_t not_after = jr_tls_context_not_after(ctxs[0]), now = jr_unix_ns() / 1000000000;
    jr_http_server_set_tls(f->server, ctxs[0]);
    jr_front_threads_set_tls(f, ctxs + 1);
    if (f->admin)
        jr_http_server_set_tls(f->admin, ctxs[n]);
    jr_metric_set(f->metrics, JR_METRIC_TLS_CERTIFICATE_EXPIRY, JR_NO_LABELS, (double)not_after);
    jr_log(not_after > now ? JR_LOG_INFO : JR_LOG_WARN, "tls.certificate",
           "file=%s not_after=%lld days_left=%lld", jr_config_str(f->cfg, JR_CFG_TLS_CERT_PATH),
           (long long)not_after, (long long)((not_after - now) / 86400));
    return 0;
}

void jr_certificate_reload(struct jr_frontend *f)
{
    struct jr_errmsg e = {""};
    const int err = jr_certificate_load(f, &e);

    if (err < 0)
        jr_log(JR_LOG_ERROR, "tls.not_reloaded", "words=\"%s\" hint=\"%s\"", e.text,
               "the certificate from before stays; correct the files and send SIGHUP again");
    jr_metric_add(f->metrics, JR_METRIC_TLS_RELOADS_TOTAL, JR_LABELS(err < 0 ? "failed" : "ok"), 1);
}
