/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper.h"
#include "base/buf.h"
#include "io/js_kv.h"
#include "io/loop.h"
#include "io/nats_priv.h"
#include "wire/lease_json.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LEASE_EVERY_MS 1000
#define FLOOR_BYTES    (BLOCKS * 8 + 60)

static void put_leases(struct jr_js_kv *kv)
{
    struct jr_errmsg e = {""};
    for (uint64_t id = 1; id <= WORKERS; id++) {
        struct jr_worker_lease w = {.worker_id = id, .block_size = 64, .n_ranks = 1};
        struct jr_buf b;
        char key[32];
        (void)snprintf(w.url, sizeof w.url, "http://127.0.0.1:1");
        (void)snprintf(w.model, sizeof w.model, "m");
        w.ranks[0].incarnation = 1;
        (void)snprintf(key, sizeof key, "worker.%u", (unsigned)id);
        jr_buf_init(&b, JR_LEASE_BYTES_MAX);
        if (jr_lease_encode_worker(&w, &b) < 0 || jr_js_kv_put(kv, key, b.p, b.n, NULL, &e) < 0)
            sync_bench_die("lease", e.text);
        jr_buf_deinit(&b);
    }
}

static void on_floor(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct floor *floor = closure;
    uint32_t n = atomic_load(&floor->n);
    uint64_t sent;
    (void)nc;
    (void)sub;
    memcpy(&sent, natsMsg_GetData(msg), sizeof sent);
    natsMsg_Destroy(msg);
    if (n == FLOOR_MAX)
        return;
    floor->sent_ns[n] = sent;
    floor->took_ns[n] = jr_loop_now_ns() - sent;
    atomic_store(&floor->n, n + 1);
}

static natsSubscription *subscribe(struct jr_nats *nats, const char *stream, struct floor *floor)
{
    natsSubscription *sub = NULL;
    struct jr_stream_config config;
    struct jr_errmsg e = {""};
    jsSubOptions so;
    jr_stream_config_sync(&config, stream, 10000, 1);
    if (jr_stream_open(nats, &config, NULL, &e) < 0)
        sync_bench_die("floor", e.text);
    char subject[64];
    (void)snprintf(subject, sizeof subject, "%s.*", stream);
    jsSubOptions_Init(&so);
    so.Ordered = true;
    so.Stream = stream;
    natsStatus s = js_Subscribe(&sub, jr_nats_js(nats), subject, on_floor, floor, NULL, &so, NULL);
    if (s != NATS_OK)
        sync_bench_die("floor", natsStatus_GetText(s));
    return sub;
}

void keeper_main(struct fleet *fleet, struct floor *floor)
{
    struct jr_nats_config config = {.servers = fleet->url, .request_timeout_ms = 10000};
    struct jr_js_kv_config bucket = {.ttl_ms = 5000, .replicas = 1};
    char name[JR_STREAM_NAME_MAX], subject[64];
    unsigned char payload[FLOOR_BYTES] = {0};
    struct jr_errmsg e = {""};
    struct jr_nats *nats;
    struct jr_js_kv *kv;
    if (jr_nats_connect(&config, &nats, &e) < 0 ||
        jr_stream_name(JR_STREAM_LEASES, "bench", fleet->component, name) < 0)
        sync_bench_die("keeper", e.text);
    bucket.bucket = name;
    if (jr_js_kv_open(nats, &bucket, &kv, NULL, &e) < 0)
        sync_bench_die("keeper", e.text);
    (void)snprintf(subject, sizeof subject, "floor-%s.a", fleet->component);
    subject[strlen(subject) - 2] = '\0';
    natsSubscription *sub = subscribe(nats, subject, floor);
    subject[strlen(subject)] = '.';
    for (uint32_t i = 0; atomic_load(&fleet->phase) != STOP; i++) {
        if (i % (LEASE_EVERY_MS / FLOOR_EVERY_MS) == 0)
            put_leases(kv);
        uint64_t now = jr_loop_now_ns();
        memcpy(payload, &now, sizeof now);
        if (jr_nats_publish(nats, subject, payload, sizeof payload) < 0)
            sync_bench_die("floor", "not published");
        (void)usleep(FLOOR_EVERY_MS * 1000);
    }
    natsSubscription_Unsubscribe(sub);
    natsSubscription_Destroy(sub);
    jr_js_kv_destroy(kv);
    jr_nats_close(nats);
}
