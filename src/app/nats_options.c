/* SPDX-License-Identifier: Apache-2.0 */
#include "app/nats_options.h"

void jr_nats_options(const struct jr_config *cfg, const char *name, struct jr_nats_config *ret)
{
    *ret = (struct jr_nats_config){
        .servers = jr_config_str(cfg, JR_CFG_NATS_SERVER),
        .name = name,
        .user = jr_config_str(cfg, JR_CFG_NATS_AUTH_USERNAME),
        .password = jr_config_str(cfg, JR_CFG_NATS_AUTH_PASSWORD),
        .token = jr_config_str(cfg, JR_CFG_NATS_AUTH_TOKEN),
        .nkey_seed = jr_config_str(cfg, JR_CFG_NATS_AUTH_NKEY),
        .creds_file = jr_config_str(cfg, JR_CFG_NATS_AUTH_CREDENTIALS_FILE),
        .tls_ca = jr_config_str(cfg, JR_CFG_NATS_TLS_CA),
        .tls_cert = jr_config_str(cfg, JR_CFG_NATS_TLS_CERT),
        .tls_key = jr_config_str(cfg, JR_CFG_NATS_TLS_KEY),
        .tls_hostname = jr_config_str(cfg, JR_CFG_NATS_TLS_HOSTNAME),
    };
}
