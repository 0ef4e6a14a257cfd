/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/engine_spec.h"

#include "app/config.h"
#include "wire/jfield.h"

#include <string.h>

#define ID_MAX ((UINT64_C(1) << 53) - 1)

static const char *const names[] = {
    "engine_url",   "kv_events_endpoint",     "kv_events_replay_endpoint", "kv_events_bind",
    "worker_id",    "data_parallel_rank",     "data_parallel_size",        "block_size",
    "max_num_seqs", "max_num_batched_tokens", "kv_events_report_mode",     "device",
};

static void refuse_unknown(struct jr_jreader *r, json_t *root)
{
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            known = known || strcmp(key, names[i]) == 0;
        if (!known)
            jr_jfield_complain(r, key, "is not known");
    }
}

static void read_url(struct jr_jreader *r, const json_t *root, const char *key, char *ret,
                     int (*canon)(const char *text, char *ret, size_t cap), const char *expects,
                     enum jr_jfield_need need)
{
    char text[JR_URL_MAX] = "";
    jr_jfield_str(r, root, key, text, sizeof text, need);
    if (r->err < 0 || (text[0] == '\0' && need == JR_JFIELD_OPTIONAL))
        return;
    if (canon(text, ret, JR_URL_MAX) < 0)
        jr_jfield_complain(r, key, expects);
}

static void read_mode(struct jr_jreader *r, const json_t *root, bool *ret)
{
    char mode[8] = "new";
    jr_jfield_str(r, root, "kv_events_report_mode", mode, sizeof mode, JR_JFIELD_OPTIONAL);
    *ret = strcmp(mode, "full") == 0;
    if (r->err == 0 && !*ret && strcmp(mode, "new") != 0)
        jr_jfield_complain(r, "kv_events_report_mode", "is neither new nor full");
}

static void read_device(struct jr_jreader *r, const json_t *root, bool *ret_on_cpu)
{
    char device[8] = "gpu";
    jr_jfield_str(r, root, "device", device, sizeof device, JR_JFIELD_OPTIONAL);
    *ret_on_cpu = strcmp(device, "cpu") == 0;
    if (r->err == 0 && !*ret_on_cpu && strcmp(device, "gpu") != 0)
        jr_jfield_complain(r, "device", "is neither gpu nor cpu");
}

static void read_spec(struct jr_jreader *r, json_t *root, struct jr_engine_spec *s)
{
    const char *tcp = "is no tcp://HOST:PORT or ipc://PATH";
    read_url(r, root, "engine_url", s->engine_url, jr_config_canon_http_url,
             "is no http://HOST:PORT or https://HOST:PORT", JR_JFIELD_REQUIRED);
    read_url(r, root, "kv_events_endpoint", s->kv_endpoint, jr_config_canon_zmq_url, tcp,
             JR_JFIELD_REQUIRED);
    read_url(r, root, "kv_events_replay_endpoint", s->replay_endpoint, jr_config_canon_zmq_url, tcp,
             JR_JFIELD_OPTIONAL);
    jr_jfield_bool(r, root, "kv_events_bind", &s->kv_bind);
    jr_jfield_u64(r, root, "worker_id", ID_MAX, &s->worker_id, JR_JFIELD_OPTIONAL);
    jr_jfield_u32(r, root, "data_parallel_rank", JR_RANKS_MAX - 1, &s->dp_rank, JR_JFIELD_OPTIONAL);
    jr_jfield_u32(r, root, "data_parallel_size", JR_RANKS_INLINE, &s->dp_size, JR_JFIELD_OPTIONAL);
    jr_jfield_u32(r, root, "block_size", JR_BLOCK_SIZE_MAX, &s->block_size, JR_JFIELD_OPTIONAL);
    jr_jfield_u32(r, root, "max_num_seqs", UINT32_MAX, &s->max_num_seqs, JR_JFIELD_OPTIONAL);
    jr_jfield_u32(r, root, "max_num_batched_tokens", UINT32_MAX, &s->max_batched_tokens,
                  JR_JFIELD_OPTIONAL);
    read_mode(r, root, &s->plain_set);
    read_device(r, root, &s->on_cpu);
    refuse_unknown(r, root);
}

int jr_engine_spec_parse(const void *p, size_t n, struct jr_engine_spec *ret, struct jr_errmsg *e)
{
    struct jr_engine_spec spec = {0};
    struct jr_jreader r = {.e = e};
    json_t *root;
    int err = jr_jfield_load(p, n, JR_ENGINE_FILE_MAX, &root, e);
    if (err < 0)
        return err;
    read_spec(&r, root, &spec);
    json_decref(root);
    if (r.err < 0)
        return r.err;
    *ret = spec;
    return 0;
}

bool jr_engine_spec_equal(const struct jr_engine_spec *a, const struct jr_engine_spec *b)
{
    return strcmp(a->engine_url, b->engine_url) == 0 &&
           strcmp(a->kv_endpoint, b->kv_endpoint) == 0 &&
           strcmp(a->replay_endpoint, b->replay_endpoint) == 0 && a->worker_id == b->worker_id &&
           a->dp_rank == b->dp_rank && a->dp_size == b->dp_size && a->block_size == b->block_size &&
           a->max_num_seqs == b->max_num_seqs && a->max_batched_tokens == b->max_batched_tokens &&
           a->kv_bind == b->kv_bind && a->plain_set == b->plain_set && a->on_cpu == b->on_cpu;
}
