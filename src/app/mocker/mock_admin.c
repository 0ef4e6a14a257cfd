/* SPDX-License-Identifier: Apache-2.0 */
/* The paths under /mock, which no real engine has: what a test wants to see of a mock engine and to
 * do to it.
 *
 *     GET  /mock/cache      the blocks it holds: [block hash, prefix hash] of each; how many it was
 *                           asked to keep (POST /cache_control)
 *     GET  /mock/faults     what is wrong with it on purpose
 *     POST /mock/faults     ?NAME=VALUE&…  changes that
 *     POST /mock/restart    its cache, requests and event sequence are gone; ports stay
 *     POST /mock/crash      the process ends at once, with all its engines */
#include "app/mocker/mock_worker_internal.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Strings, since JSON readers lose digits of large numbers; a block with several copies once. */
static void put_blocks(struct jr_buf *b, const struct jr_paged_cache *c)
{
    uint64_t hash;
    bool first = true;
    for (uint32_t i = 1; i <= jr_paged_cache_total(c); i++) {
        if (!jr_paged_cache_hash_of(c, i, &hash) || jr_paged_cache_find(c, hash) != i)
            continue;
        jr_buf_printf(b, "%s[\"%" PRIu64 "\",\"%" PRIu64 "\"]", first ? "" : ",", hash,
                      jr_paged_cache_prefix_of(c, i));
        first = false;
    }
}

static void get_cache(struct jr_mock_worker *w, struct jr_http_request *http)
{
    jr_mock_worker_pump(w);
    jr_buf_clear(&w->out);
    jr_buf_puts(&w->out, "{\"ranks\":[");
    for (uint32_t i = 0; i < w->n_ranks; i++) {
        jr_buf_printf(&w->out, "%s{\"dp_rank\":%u,\"blocks\":[", i > 0 ? "," : "", i);
        put_blocks(&w->out, jr_engine_cache(w->ranks[i].engine));
        struct jr_engine_stats stats;
        jr_engine_stats(w->ranks[i].engine, &stats);
        jr_buf_printf(&w->out, "],\"kept\":%u}", stats.blocks_kept);
    }
    jr_buf_puts(&w->out, "]}");
    jr_mock_respond_out(w, http, 200);
}

static void get_faults(struct jr_mock_worker *w, struct jr_http_request *http)
{
    jr_buf_clear(&w->out);
    jr_buf_puts(&w->out, "{");
    jr_mock_faults_json(&w->faults, &w->out);
    jr_buf_printf(&w->out, ",\"batches\":%" PRIu64 ",\"batches_dropped\":%" PRIu64 "}", w->batches,
                  w->batches_dropped);
    jr_mock_respond_out(w, http, 200);
}

/* All of them or none. */
static int read_faults(struct jr_mock_faults *f, struct jr_str query, struct jr_errmsg *e)
{
    int err = 0;
    while (err == 0 && query.n > 0) {
        const char *end = memchr(query.p, '&', query.n);
        size_t n = end ? (size_t)(end - query.p) : query.n;
        err = jr_mock_faults_set(f, jr_str_of(query.p, n), e);
        n += end != NULL;
        query = jr_str_of(query.p + n, query.n - n);
    }
    return err;
}

static void post_faults(struct jr_mock_worker *w, struct jr_http_request *http)
{
    struct jr_errmsg e = {{0}};
    struct jr_mock_faults f = w->faults;
    int err = read_faults(&f, jr_http_request_query(http), &e);
    if (err == 0) {
        jr_mock_worker_set_faults(w, &f);
        get_faults(w, http);
    } else {
        jr_mock_respond_error(w, http, 400, NULL, e.text);
    }
}

static void post_restart(struct jr_mock_worker *w, struct jr_http_request *http)
{
    struct jr_errmsg e = {{0}};
    if (jr_mock_worker_restart(w, &e) < 0) {
        jr_mock_respond_error(w, http, 500, NULL, e.text);
        return;
    }
    jr_buf_clear(&w->out);
    jr_buf_puts(&w->out, "{\"restarted\":true}");
    jr_mock_respond_out(w, http, 200);
}

static void post_crash(struct jr_mock_worker *w, struct jr_http_request *http)
{
    (void)http;
    jr_log(JR_LOG_WARN, "mocker.crash", "port=%u words=\"as asked for\"", jr_mock_worker_port(w));
    _exit(EXIT_FAILURE);
}

static const struct route {
    const char *path, *method;
    void (*fn)(struct jr_mock_worker *w, struct jr_http_request *http);
} routes[] = {
    {"/mock/cache", "GET", get_cache},     {"/mock/faults", "GET", get_faults},
    {"/mock/faults", "POST", post_faults}, {"/mock/restart", "POST", post_restart},
    {"/mock/crash", "POST", post_crash},
};

bool jr_mock_admin_request(struct jr_mock_worker *w, struct jr_http_request *http)
{
    struct jr_str path = jr_http_request_path(http), method = jr_http_request_method(http);
    if (path.n < 6 || memcmp(path.p, "/mock/", 6) != 0)
        return false;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (jr_str_eq(path, routes[i].path) && jr_str_eq(method, routes[i].method)) {
            routes[i].fn(w, http);
            return true;
        }
    }
    return false;
}
