/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's lease: written once the engine is healthy, its blocks are of the pool's size and the
 * begin of each rank was acknowledged; renewed at a third of its life; given back at the end. */
#include "app/bridge/bridge_internal.h"

#include "base/log.h"
#include "wire/lease_json.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- writing */

struct lease_job {
    struct jr_job job;
    struct jr_bridge *b;
    struct jr_worker_lease lease;
    uint64_t revision; /* 0: to be created */
    bool claimed;      /* this life held it before */
    bool lost;         /* it expired, or is another's: a new incarnation is due */
    uint64_t written_at_ms;
    struct jr_errmsg e;
};

static int write_lease(struct lease_job *l)
{
    struct jr_js_kv *kv = l->b->hub->leases;
    struct jr_buf value;
    jr_buf_init(&value, JR_LEASE_BYTES_MAX);
    int err = jr_lease_encode_worker(&l->lease, &value);
    l->written_at_ms = jr_bridge_now_ms();
    if (err == 0 && l->revision)
        err = jr_js_kv_update(kv, l->b->lease_key, value.p, value.n, l->revision, &l->revision,
                              &l->e);
    else if (err == 0)
        err = jr_js_kv_create(kv, l->b->lease_key, value.p, value.n, &l->revision, &l->e);
    jr_buf_deinit(&value);
    return err;
}

/* Written by this life: it names the present incarnation, or the one the lease had before. */
static bool is_ours(const struct lease_job *l, const struct jr_js_kv_entry *entry)
{
    struct jr_worker_lease there;
    if (jr_lease_decode_worker(entry->value, entry->n, &there, NULL) < 0 || there.n_ranks == 0)
        return false;
    uint64_t incarnation = there.ranks[0].incarnation;
    return incarnation == l->lease.ranks[0].incarnation ||
           (l->claimed && incarnation == l->b->sources[0]->leased_incarnation);
}

/* After a conflict. An own write whose answer was lost went through: go on from its revision. A
 * lease that this life held and that is gone or another's is lost. What an earlier life left is
 * taken over. */
static int resolve(struct lease_job *l)
{
    struct jr_js_kv_entry entry = {0};
    int err = jr_js_kv_get(l->b->hub->leases, l->b->lease_key, &entry, &l->e);
    if (err < 0 && err != JR_ENOTFOUND)
        return err;
    bool ours = err == 0 && is_ours(l, &entry);
    l->lost = l->revision != 0 && !ours;
    l->revision = err == 0 ? entry.revision : 0;
    jr_js_kv_entry_deinit(&entry);
    if (l->lost)
        return 0;
    return write_lease(l);
}

static void run_lease(struct jr_job *job)
{
    struct lease_job *l = (struct lease_job *)(void *)job;
    job->err = write_lease(l);
    if (job->err == JR_ECONFLICT)
        job->err = resolve(l);
}

static void on_lease_written(struct jr_bridge *b, const struct lease_job *l)
{
    bool current = true;
    if (b->lease_revision == 0)
        jr_log(JR_LOG_INFO, "bridge.registered",
               "worker=%llu url=%s model=\"%s\" block_size=%u kv_blocks=%llu ranks=%u key=%s",
               (unsigned long long)b->worker_id, l->lease.url, l->lease.model, l->lease.block_size,
               (unsigned long long)l->lease.total_kv_blocks, l->lease.n_ranks, b->lease_key);
    for (uint32_t i = 0; i < l->lease.n_ranks; i++) {
        struct jr_bridge_source *s = b->sources[i];
        uint64_t incarnation = l->lease.ranks[i].incarnation;
        if (s->leased_incarnation != incarnation)
            s->leased_at_ms = jr_bridge_now_ms();
        s->leased_incarnation = incarnation;
        current = current && s->rank.announced == incarnation;
    }
    b->lease_revision = l->revision;
    b->lease_until_ms = l->written_at_ms + b->hub->ttl_ms;
    b->lease_claimed = true;
    b->lease_at_ms = current ? l->written_at_ms + b->hub->ttl_ms / 3 : 0;
}

static void on_lease_lost(struct jr_bridge *b)
{
    b->lease_losses++;
    b->lease_revision = 0;
    b->lease_claimed = false;
    b->lease_at_ms = 0;
    jr_log(JR_LOG_WARN, "bridge.lease_lost",
           "worker=%llu hint=\"renewed too late, or another bridge has the same worker id\"",
           (unsigned long long)b->worker_id);
    jr_bridge_begin(b, JR_BEGIN_LEASE);
}

static void done_lease(struct jr_job *job)
{
    struct lease_job *l = (struct lease_job *)(void *)job;
    struct jr_bridge *b = l->b;
    b->leasing = false;
    if (job->err == 0 && !l->lost)
        b->hub->leases_renewed++;
    else
        b->hub->leases_not_renewed++;
    if (jr_bridge_job_done(b)) {
        b->lease_at_ms = jr_bridge_now_ms() + JR_BRIDGE_RETRY_MS;
        if (job->err == 0 && l->lost)
            on_lease_lost(b);
        else if (job->err == 0)
            on_lease_written(b, l);
        else
            jr_bridge_hub_missing(b->hub, job->err);
        if (job->err < 0)
            jr_log(JR_LOG_WARN, "bridge.lease_failed", "key=%s error=%s words=\"%s\"", b->lease_key,
                   jr_err_name(job->err), l->e.text);
    }
    jr_xfree(l);
    jr_bridge_maybe_closed(b);
}

static void begin_lease(struct jr_bridge *b)
{
    struct lease_job *l = jr_xalloc(sizeof *l);
    *l = (struct lease_job){.job = {.run = run_lease, .done = done_lease},
                            .b = b,
                            .lease = b->about,
                            .revision = b->lease_revision,
                            .claimed = b->lease_claimed};
    l->lease.n_ranks = b->n_ranks;
    for (uint32_t i = 0; i < b->n_ranks; i++)
        jr_bridge_rank_lease(&b->sources[i]->rank, &l->lease.ranks[i]);
    b->leasing = jr_bridge_submit(b, b->hub->nats_lane, &l->job);
    if (!b->leasing)
        jr_xfree(l);
}

/* ---------------------------------------------------------------- may it be a worker */

bool jr_bridge_registered(const struct jr_bridge *b)
{
    return b->lease_revision && jr_bridge_now_ms() < b->lease_until_ms;
}

/* One that is registered does not leave for another's sake: two that came at once would both. */
uint32_t jr_bridge_size_wanted(const struct jr_bridge *b)
{
    return b->pool_block_size || b->lease_claimed ? b->pool_block_size : b->peer_block_size;
}

/* While the engine is asked again, after an outage, its size is not known. */
bool jr_bridge_refused(const struct jr_bridge *b)
{
    uint32_t wanted = jr_bridge_size_wanted(b);
    return b->discovered && wanted && b->about.block_size && b->about.block_size != wanted;
}

/* Routers would find none of its blocks, and leave the worker out. */
static void refuse(struct jr_bridge *b)
{
    uint32_t ours = b->about.block_size, pools = jr_bridge_size_wanted(b);
    if (b->lease_revision && !b->releasing)
        b->releasing = jr_bridge_release(b);
    if (b->told_sizes[0] == ours && b->told_sizes[1] == pools)
        return;
    b->told_sizes[0] = ours;
    b->told_sizes[1] = pools;
    jr_log(
        JR_LOG_ERROR, "bridge.block_size_refused",
        "worker=%llu url=%s block_size=%u pool_block_size=%u hint=\"start the engine with blocks "
        "of %u tokens, or give this bridge another --component\"",
        (unsigned long long)b->worker_id, b->config.engine_url, ours, pools, pools);
}

/* A new worker, or one whose lease was lost, only with its begins acknowledged, and when it is known
 * what the pool is. */
static bool may_lease(const struct jr_bridge *b)
{
    if (!b->discovered || !b->healthy || !b->asked_pool || b->releasing)
        return false;
    for (uint32_t i = 0; i < b->n_ranks; i++) {
        const struct jr_bridge_rank *r = &b->sources[i]->rank;
        if (r->announced == 0 || (b->lease_revision == 0 && jr_bridge_rank_beginning(r)))
            return false;
    }
    return true;
}

void jr_bridge_lease_tick(struct jr_bridge *b, uint64_t now)
{
    if (!jr_bridge_hub_ready(b->hub))
        return;
    if (jr_bridge_refused(b))
        refuse(b);
    else if (!b->leasing && now >= b->lease_at_ms && may_lease(b))
        begin_lease(b);
}

/* ---------------------------------------------------------------- giving back */

struct release_job {
    struct jr_job job;
    struct jr_bridge *b;
    uint64_t incarnations[2]; /* that this life may have written */
};

/* By the revision that is read now: a renewal may just have gone through. */
static void run_release(struct jr_job *job)
{
    struct release_job *r = (struct release_job *)(void *)job;
    struct jr_bridge *b = r->b;
    struct jr_js_kv_entry entry = {0};
    struct jr_worker_lease there;
    job->err = jr_js_kv_get(b->hub->leases, b->lease_key, &entry, NULL);
    if (job->err < 0)
        return;
    bool ours = jr_lease_decode_worker(entry.value, entry.n, &there, NULL) == 0 &&
                there.n_ranks > 0 &&
                (there.ranks[0].incarnation == r->incarnations[0] ||
                 there.ranks[0].incarnation == r->incarnations[1]);
    if (ours)
        job->err = jr_js_kv_delete(b->hub->leases, b->lease_key, entry.revision, NULL);
    jr_js_kv_entry_deinit(&entry);
}

static void done_release(struct jr_job *job)
{
    struct jr_bridge *b = ((struct release_job *)(void *)job)->b;
    if (jr_bridge_job_done(b))
        jr_bridge_released(b);
    jr_log(JR_LOG_INFO, "bridge.deregistered", "worker=%llu result=%s",
           (unsigned long long)b->worker_id, job->err ? jr_err_name(job->err) : "ok");
    jr_xfree(job);
    jr_bridge_maybe_closed(b);
}

bool jr_bridge_release(struct jr_bridge *b)
{
    if (!b->lease_claimed || !b->hub->opened || !jr_nats_connected(b->hub->config.nats))
        return false;
    struct release_job *r = jr_xalloc(sizeof *r);
    *r = (struct release_job){
        .job = {.run = run_release, .done = done_release},
        .b = b,
        .incarnations = {b->sources[0]->leased_incarnation, b->sources[0]->rank.announced}};
    if (jr_bridge_submit(b, b->hub->nats_lane, &r->job))
        return true;
    jr_xfree(r);
    return false;
}
