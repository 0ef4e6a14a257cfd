/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/certificate.h"

#include "base/log.h"
#include "io/tls.h"

bool jr_certificate_wanted(const struct jr_frontend *f)
{
    return jr_config_is_set(f->cfg, JR_CFG_TLS_CERT_PATH);
}

int jr_certificate_load(struct jr_frontend *f, struct jr_errmsg *e)
{
    struct jr_tls_context *ctx;
    const char *cert = jr_config_str(f->cfg, JR_CFG_TLS_CERT_PATH);

    if (!jr_certificate_wanted(f))
        return 0;
    const int err =
        jr_tls_server_context(cert, jr_config_str(f->cfg, JR_CFG_TLS_KEY_PATH), e, &ctx);
    if (err < 0)
        return jr_errmsg_wrap(e, err, "--tls-cert-path, --tls-key-path");
    const int64_t not_after = jr_tls_context_not_after(ctx), now = jr_unix_ns() / 1000000000;
    jr_http_server_set_tls(f->server, ctx);
    jr_metric_set(f->metrics, JR_METRIC_TLS_CERTIFICATE_EXPIRY, JR_NO_LABELS, (double)not_after);
    jr_log(not_after > now ? JR_LOG_INFO : JR_LOG_WARN, "tls.certificate",
           "file=%s not_after=%lld days_left=%lld", cert, (long long)not_after,
           (long long)((not_after - now) / 86400));
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
