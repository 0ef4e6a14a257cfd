/* SPDX-License-Identifier: Apache-2.0 */
/* ctl skip: a message that crashes every replica that reads it is passed by order. Written to the
 * state bucket directly, since no replica is up to be asked. docs/operations.md. */
#include "app/ctl/ctl.h"
#include "app/nats_options.h"
#include "io/js_kv.h"
#include "io/js_stream.h"

#include <inttypes.h>
#include <stdio.h>

struct place {
    char stream[JR_STREAM_NAME_MAX], bucket[JR_STREAM_NAME_MAX];
};

static int name_place(const struct jr_config *cfg, struct place *ret, struct jr_errmsg *e)
{
    uint32_t n;
    const char *ns = jr_config_str(cfg, JR_CFG_NAMESPACE);
    const char *const *components = jr_config_list(cfg, JR_CFG_COMPONENT, &n);
    if (n != 1)
        return jr_errmsg_set(e, JR_EUSAGE, "--component: skip is for one pool");
    int err = jr_stream_name(JR_STREAM_EVENTS, ns, components[0], ret->stream);
    if (err == 0)
        err = jr_stream_name(JR_STREAM_STATE, ns, components[0], ret->bucket);
    return err < 0 ? jr_errmsg_set(e, err, "the pool has no name for a stream") : 0;
}

static int write_skip(struct jr_nats *nats, const struct place *at, uint64_t seq,
                      struct jr_errmsg *e)
{
    struct jr_stream_info info;
    int err = jr_stream_info(nats, at->stream, &info, e);
    if (err < 0)
        return err;
    if (seq < info.first_seq || seq > info.last_seq)
        return jr_errmsg_set(e, JR_EINVAL, "--seq: the stream has %" PRIu64 " to %" PRIu64,
                             info.first_seq, info.last_seq);
    struct jr_js_kv *kv;
    struct jr_js_kv_config config = {.bucket = at->bucket, .replicas = 1};
    err = jr_js_kv_open(nats, &config, &kv, NULL, e);
    if (err < 0)
        return err;
    char key[32], value[32];
    int n = snprintf(value, sizeof value, "%" PRId64, info.created_ns);
    (void)snprintf(key, sizeof key, "skip.%" PRIu64, seq);
    err = jr_js_kv_put(kv, key, value, (size_t)n, NULL, e);
    jr_js_kv_destroy(kv);
    return err;
}

int jr_ctl_skip(const struct jr_config *cfg, struct jr_errmsg *e)
{
    if (!jr_config_is_set(cfg, JR_CFG_SEQ))
        return jr_errmsg_set(e, JR_EUSAGE, "skip: --seq names the message");
    struct place at;
    int err = name_place(cfg, &at, e);
    if (err < 0)
        return err;
    struct jr_nats_config config;
    struct jr_nats *nats;
    jr_nats_options(cfg, "jetrouter-ctl", &config);
    config.background = false;
    err = jr_nats_connect(&config, &nats, e);
    if (err < 0)
        return err;
    uint64_t seq = jr_config_u64(cfg, JR_CFG_SEQ);
    err = write_skip(nats, &at, seq, e);
    jr_nats_close(nats);
    if (err < 0)
        return err;
    if (jr_config_bool(cfg, JR_CFG_JSON))
        (void)printf("{\"skip\":%" PRIu64 "}\n", seq);
    else
        (void)printf("message %" PRIu64 " is passed by every replica that starts from now on\n",
                     seq);
    return 0;
}
