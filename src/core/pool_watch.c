/* SPDX-License-Identifier: Apache-2.0 */
/* What every replica looks at, leader or not: whether its state is that of the others, which
 * versions all of them know, and whether the stream keeps what it promises. */
#include "core/pool_internal.h"

#include <string.h>

#define RELOAD_FIRST_MS UINT64_C(30000)
#define RELOAD_SHIFT    7 /* doubles up to an hour */

/* ---------------------------------------------------------------- digests */

/* The peer's digests where it was when it wrote its lease, against ours at the same sequence. */
static enum jr_agreement compare_peer(const struct jr_pool *p, const struct jr_peer *peer)
{
    if (!peer->has_lease || !peer->lease.ready ||
        peer->lease.stream_created_ns != (uint64_t)p->stream_created_ns)
        return JR_AGREE_NOBODY;
    const struct jr_digest_point *theirs = &peer->lease.point;
    const struct jr_digest_point *ours = jr_state_point(p->state, theirs->seq);
    if (!theirs->seq || !ours)
        return JR_AGREE_WAIT;
    return ours->blocks == theirs->blocks && ours->table == theirs->table ? JR_AGREE_YES
                                                                          : JR_AGREE_NO;
}

enum jr_agreement jr_pool_ask_peers(const struct jr_pool *p, uint64_t seq)
{
    enum jr_agreement ret = JR_AGREE_NOBODY;
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        enum jr_agreement a = compare_peer(p, p->replicas.v[i]);
        if (a == JR_AGREE_NO)
            return JR_AGREE_NO;
        if (a == JR_AGREE_YES && p->replicas.v[i]->lease.point.seq >= seq)
            ret = JR_AGREE_YES;
        else if (a != JR_AGREE_NOBODY && ret == JR_AGREE_NOBODY)
            ret = JR_AGREE_WAIT;
    }
    return ret;
}

/* Who is not of a majority, itself counted, cannot be told to be right: of two that disagree both
 * are in doubt. Peers that cannot be compared yet may side with it: they are waited for, a lease's
 * time. Meanwhile nothing is recorded or purged; jr_pool_ask_peers sees the one that disagrees. */
static void judge_digest(struct jr_pool *p)
{
    uint32_t with = 1, against = 0, open = 0;
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        enum jr_agreement a = compare_peer(p, p->replicas.v[i]);
        with += a == JR_AGREE_YES;
        against += a == JR_AGREE_NO;
        open += a == JR_AGREE_WAIT;
    }
    if (against < with)
        p->doubt_since_ms = 0;
    else if (!p->doubt_since_ms)
        p->doubt_since_ms = p->now_ms;
    bool waits = against < with + open && p->now_ms - p->doubt_since_ms < p->config.lease_ttl_ms;
    bool mismatch = against >= with && (p->digest_mismatch || !waits);
    if (mismatch && !p->digest_mismatch) {
        p->mismatch_since_ms = p->now_ms;
        jr_trace_emit(&p->trace, JR_TRACE_ERROR, "digest.mismatch",
                      "agree=%u disagree=%u seq=%llu hint=\"not leading; the newest verified "
                      "snapshot is loaded and replayed\"",
                      with - 1, against, (unsigned long long)p->state->seq);
    }
    p->digest_mismatch = mismatch;
    if (with > 1 && !mismatch)
        p->reloads = 0;
}

/* What we hold is in doubt: it answers on, marked, until the newest verified snapshot and the log
 * behind it have taken its place. Should that differ again, the alarm stays and the next time is
 * later. docs/adr/0008-which-replica-reloads.md */
static void reload(struct jr_pool *p)
{
    if (!p->digest_mismatch || p->now_ms < p->reload_at_ms ||
        p->now_ms - p->mismatch_since_ms < p->config.lease_ttl_ms)
        return;
    uint32_t shift = p->reloads < RELOAD_SHIFT ? p->reloads : RELOAD_SHIFT;
    p->reloads++;
    p->n.reloads++;
    p->reload_at_ms = p->now_ms + (RELOAD_FIRST_MS << shift);
    p->untrusted = true;
    jr_trace_emit(&p->trace, JR_TRACE_ERROR, "digest.reload", "times=%u", p->reloads);
    jr_pool_act(p, JR_ACT_STOP_READER);
    jr_pool_go_load(p, "its digest is not that of the others");
}

/* ---------------------------------------------------------------- versions */

uint32_t jr_pool_rules_max(const struct jr_pool *p)
{
    return p->config.rules_max ? p->config.rules_max : JR_RULES_VERSION;
}

uint32_t jr_pool_rules_known(const struct jr_pool *p)
{
    uint32_t least = jr_pool_rules_max(p);
    if (p->replicas.truncated)
        return 0;
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        if (peer->has_lease && peer->lease.rules_max < least)
            least = peer->lease.rules_max;
    }
    return least;
}

uint32_t jr_pool_format_known(const struct jr_pool *p)
{
    uint32_t least = JR_IMAGE_FORMAT;
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        if (peer->has_lease && peer->lease.format_max && peer->lease.format_max < least)
            least = peer->lease.format_max;
    }
    return least;
}

/* ---------------------------------------------------------------- the stream's promise */

const char *jr_pool_may_forget(const struct jr_pool *p)
{
    if (p->facts.foreign)
        return "another router consumes the stream, and purges it";
    if (p->facts.max_age_ms)
        return "the stream has a max age";
    if (p->facts.discard_old)
        return "the stream discards old messages at its cap";
    return "";
}

static void watch_promise(struct jr_pool *p)
{
    const char *why = jr_pool_may_forget(p), *said = p->may_forget ? p->may_forget : "";
    if (strcmp(why, said) == 0)
        return;
    if (why[0])
        jr_trace_emit(&p->trace, JR_TRACE_WARN, "stream.may_forget",
                      "why=\"%s\" foreign=%u ack_floor=%llu hint=\"messages may leave before a "
                      "snapshot covers them\"",
                      why, p->facts.foreign, (unsigned long long)p->facts.foreign_ack_floor);
    else
        jr_trace_emit(&p->trace, JR_TRACE_INFO, "stream.keeps", "hint=\"nothing is forgotten\"");
    p->may_forget = why;
}

/* ---------------------------------------------------------------- the parameters in the log */

/* They count. Who was given others by options does not get them, and should know. */
static void watch_params(struct jr_pool *p)
{
    const struct jr_pool_params *log = &p->state->params;
    uint32_t size = p->config.block_size ? p->config.block_size : log->block_size;
    bool differ = log->block_size && (size != log->block_size ||
                                      p->config.index_entries_max != log->index_entries_max);
    if (differ && !p->params_said)
        jr_trace_emit(&p->trace, JR_TRACE_WARN, "options.overruled",
                      "block_size=%u index_entries_max=%llu pool_block_size=%u "
                      "pool_index_entries_max=%llu hint=\"the pool's count until its next reset; "
                      "give all replicas the same\"",
                      size, (unsigned long long)p->config.index_entries_max, log->block_size,
                      (unsigned long long)log->index_entries_max);
    p->params_said = differ;
}

void jr_pool_watch(struct jr_pool *p)
{
    watch_promise(p);
    watch_params(p);
    if (!p->has_position || !p->connected || jr_pool_recovery(p) != JR_REC_READY)
        return;
    judge_digest(p);
    reload(p);
}
