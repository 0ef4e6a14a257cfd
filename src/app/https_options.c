/* SPDX-License-Identifier: Apache-2.0 */
#include "app/https_options.h"

#include "base/log.h"
#include "io/tls.h"

static void on_failed(void *ctx, const char *peer, const char *words)
{
    (void)ctx;
    jr_log(JR_LOG_WARN, "tls.peer_failed", "peer=%s words=\"%s\" hint=\"%s\"", peer, words,
           "its certificate must be for the host of the URL, and vouched for by --https-ca");
}

int jr_https_options(const struct jr_config *cfg, struct jr_http_client_config *ret,
                     struct jr_errmsg *e)
{
    struct jr_tls_context *ctx;

    ret->tls_ca = jr_config_str(cfg, JR_CFG_HTTPS_CA);
    ret->tls_insecure = jr_config_bool(cfg, JR_CFG_HTTPS_INSECURE);
    ret->on_tls_failed = on_failed;
    if (ret->tls_insecure)
        jr_log(JR_LOG_WARN, "tls.insecure", "words=\"the peers of https:// URLs are not checked\"");
    if (ret->tls_ca == NULL)
        return 0;
    const int err = jr_tls_client_context(ret->tls_ca, ret->tls_insecure, e, &ctx);
    if (err < 0)
        return jr_errmsg_wrap(e, err, "--https-ca");
    jr_tls_context_destroy(ctx);
    return 0;
}
