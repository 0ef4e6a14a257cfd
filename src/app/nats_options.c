/* SPDX-License-Identifier: Apache-2.0 */
#include "app/nats_options.h"

#include <string.h>

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

/* "", ":PORT", and "/" behind either. */
static bool is_port_part(const char *s, size_t n)
{
    char port[8], ret[8];
    n -= n > 0 && s[n - 1] == '/';
    if (n == 0)
        return true;
    if (s[0] != ':' || n > sizeof port)
        return false;
    memcpy(port, s + 1, n - 1);
    port[n - 1] = '\0';
    return jr_config_canon_port(port, ret, sizeof ret) == 0;
}

/* A name, an IPv4 address, or [IPv6 address]. */
static size_t host_length(const char *s, size_t n)
{
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
    static const char name[] = LETTERS, v6[] = LETTERS ":%"; /* with the name of an interface */
#undef LETTERS
    size_t k = strspn(s, name);
    if (n > 0 && s[0] == '[') {
        k = 1 + strspn(s + 1, v6);
        k = k < n && s[k] == ']' && k > 2 ? k + 1 : 0;
    }
    return k < n ? k : n;
}

static bool is_server(const char *s, size_t n)
{
    bool scheme = n > 7 && strncmp(s, "nats://", 7) == 0;
    size_t skip = scheme ? 7 : n > 6 && strncmp(s, "tls://", 6) == 0 ? 6 : 0;
    for (size_t i = skip; i < n; i++) /* passwords may hold '@' */
        if (s[i] == '@')
            skip = i + 1;
    size_t host = host_length(s + skip, n - skip);
    return host > 0 && is_port_part(s + skip + host, n - skip - host);
}

bool jr_nats_options_are_servers(const char *text)
{
    static const char between[] = ", ";
    bool any = false;
    for (const char *p = text + strspn(text, between); *p; p += strspn(p, between)) {
        size_t n = strcspn(p, between);
        if (!is_server(p, n))
            return false;
        any = true;
        p += n;
    }
    return any;
}
