/* SPDX-License-Identifier: Apache-2.0 */
/* What a mock worker publishes: the batches that its replay socket gives back are decoded as a
 * bridge does it, and followed by a naive replica. */
#include "app/mocker/mock_worker.h"
#include "base/map.h"
#include "zmq_fixture.h"
#include "jr_test.h"
#include "jr_test_net.h"
#include "wire/arena.h"
#include "wire/engine_kv.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 16

/* A worker on a loop of its own; the test asks it over HTTP and ZMQ only. */
struct host {
    pthread_t thread;
    struct jr_loop *loop;
    struct jr_mock_worker *worker;
    struct jr_openai_parser *parser;
    struct jr_msg stop;
    atomic_uint port; /* set when it listens */
    char replay[64];
    uint32_t blocks;
};

static void on_closed(void *ctx)
{
    struct host *h = ctx;
    jr_loop_stop(h->loop);
}

static void on_stop(struct jr_msg *msg)
{
    struct host *h = (struct host *)(void *)((char *)msg - offsetof(struct host, stop));
    jr_mock_worker_close(h->worker, on_closed, h);
}

static void *host_run(void *ctx)
{
    struct host *h = ctx;
    struct jr_errmsg e = {{0}};
    struct jr_mock_worker_config config = {
        .max_model_len = 400,
        .model = "tiny",
        .host = "127.0.0.1",
        .pub = {.endpoint = "tcp://127.0.0.1:0", .replay_endpoint = "tcp://127.0.0.1:0"},
    };
    jr_engine_config_init(&config.engine);
    jr_mock_faults_init(&config.faults);
    config.engine.block_size = BLOCK;
    config.engine.num_gpu_blocks = h->blocks + 1;
    config.engine.speedup_ratio = 0;
    int err = jr_loop_create(&h->loop);
    if (err == 0)
        err = jr_openai_parser_create(1 << 20, &h->parser);
    config.parser = h->parser;
    if (err == 0)
        err = jr_mock_worker_create(h->loop, &config, &e, &h->worker);
    if (err < 0) {
        fprintf(stderr, "no worker: %s\n", e.text);
        abort();
    }
    snprintf(h->replay, sizeof h->replay, "%s", jr_mock_worker_replay_endpoint(h->worker));
    atomic_store(&h->port, jr_mock_worker_port(h->worker));
    jr_loop_run(h->loop);
    jr_openai_parser_destroy(h->parser);
    jr_loop_destroy(h->loop);
    return NULL;
}

static void host_start(struct host *h, uint32_t blocks)
{
    memset(h, 0, sizeof *h);
    h->blocks = blocks;
    h->stop.deliver = on_stop;
    assert_int_equal(pthread_create(&h->thread, NULL, host_run, h), 0);
    JR_TEST_WAIT(atomic_load(&h->port) != 0, 60000);
}

static void host_stop(struct host *h)
{
    jr_loop_post(h->loop, &h->stop);
    pthread_join(h->thread, NULL);
}

static void post(struct host *h, const char *path, const char *body)
{
    char head[256], answer[8192];
    int fd = jr_test_connect((uint16_t)atomic_load(&h->port));
    snprintf(head, sizeof head,
             "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
             path, strlen(body));
    jr_test_puts(fd, head);
    jr_test_puts(fd, body);
    size_t n = jr_test_read_all(fd, answer, sizeof answer);
    assert_true(n > 12);
    assert_memory_equal(answer, "HTTP/1.1 200", 12);
    close(fd);
}

/* A prompt of n ids from `first` on, answered with max_tokens. */
static void complete(struct host *h, uint32_t first, uint32_t n, uint32_t max_tokens,
                     const char *salt)
{
    struct jr_buf b;
    jr_buf_init(&b, 1 << 16);
    jr_buf_printf(&b, "{\"model\":\"tiny\",\"max_tokens\":%u,\"cache_salt\":\"%s\",\"prompt\":[%u",
                  max_tokens, salt, first);
    if (salt[0] == '\0') {
        jr_buf_clear(&b);
        jr_buf_printf(&b, "{\"model\":\"tiny\",\"max_tokens\":%u,\"prompt\":[%u", max_tokens,
                      first);
    }
    for (uint32_t i = 1; i < n; i++)
        jr_buf_printf(&b, ",%u", first + i);
    jr_buf_puts(&b, "]}");
    post(h, "/v1/completions", jr_buf_str(&b));
    jr_buf_deinit(&b);
}

/* Everything published so far, decoded. */
struct heard {
    struct jr_zmq_replay replay;
    struct jr_arena arena;
    struct jr_engine_batch batches[256];
    uint32_t n;
};

static void hear(struct host *h, struct heard *r)
{
    struct jr_errmsg e = {{0}};
    memset(r, 0, sizeof *r);
    jr_arena_init(&r->arena, 16 << 20);
    assert_int_equal(ask_replay(h->replay, 0, 60000, 60000, 16 << 20, &r->replay), 0);
    assert_true(r->replay.complete);
    assert_true(r->replay.n <= 256);
    for (uint32_t i = 0; i < r->replay.n; i++) {
        const struct jr_zmq_replay_msg *m = &r->replay.msgs[i];
        assert_int_equal(m->seq, i);
        assert_int_equal(
            jr_engine_batch_decode(m->payload, m->n, &r->arena, &r->batches[r->n++], &e), 0);
        assert_int_equal(r->batches[i].bad_events + r->batches[i].ignored_events, 0);
        assert_true(r->batches[i].has_rank && r->batches[i].dp_rank == 0);
        assert_true(r->batches[i].ts > 1e9);
    }
}

static void heard_deinit(struct heard *r)
{
    jr_zmq_replay_deinit(&r->replay);
    jr_arena_deinit(&r->arena);
}

static void stores_resets_and_salts(void **state)
{
    (void)state;
    static struct heard r;
    struct host h;
    host_start(&h, 200);
    complete(&h, 1000, 40, 1, "");   /* 0: two blocks */
    complete(&h, 1000, 40, 1, "");   /* nothing new */
    complete(&h, 1000, 60, 1, "");   /* 1: one more */
    complete(&h, 5000, 30, 4, "");   /* 2, 3: a block of the prompt, one that decoding filled */
    complete(&h, 1000, 20, 1, "me"); /* 4: the same tokens under a salt */
    post(&h, "/reset_prefix_cache", "");
    complete(&h, 1000, 20, 1, ""); /* 6, behind the clear */
    hear(&h, &r);
    assert_int_equal(r.n, 7);
    const struct jr_engine_event *first = &r.batches[0].events[0];
    assert_int_equal(r.batches[0].n_events, 1);
    assert_int_equal(first->type, JR_ENGINE_STORED);
    assert_int_equal(first->n_hashes, 2);
    assert_int_equal(first->block_size, BLOCK);
    assert_int_equal(first->n_tokens, 2 * BLOCK);
    assert_int_equal(first->tokens[31], 1031);
    assert_false(first->has_parent);
    assert_int_equal(first->medium, JR_MEDIUM_GPU);
    struct jr_engine_group group = {0};
    assert_true(jr_engine_event_is_main(first, &group));
    const struct jr_engine_event *more = &r.batches[1].events[0];
    assert_true(more->has_parent);
    assert_int_equal(more->parent, first->hashes[1]);
    assert_int_equal(more->tokens[0], 1032);
    assert_int_equal(r.batches[3].events[0].parent, r.batches[2].events[0].hashes[0]);
    const struct jr_engine_event *salted = &r.batches[4].events[0];
    assert_true(jr_str_eq(salted->cache_salt, "me"));
    assert_true(salted->hashes[0] != first->hashes[0]);
    assert_int_equal(r.batches[5].events[0].type, JR_ENGINE_CLEARED);
    assert_int_equal(r.batches[6].events[0].hashes[0], first->hashes[0]);
    heard_deinit(&r);
    host_stop(&h);
}

/* A cache of 40 blocks under many prompts: removals name what is held, and no more than 40 are. */
static void evictions(void **state)
{
    (void)state;
    static struct heard r;
    struct host h;
    struct jr_mem mem;
    struct jr_map held;
    jr_mem_init(&mem);
    jr_map_init(&held, &mem);
    host_start(&h, 40);
    for (uint32_t i = 0; i < 30; i++)
        complete(&h, i % 7 * 1000, 100 + i, 20, "");
    hear(&h, &r);
    uint64_t copies = 0, removed = 0, n;
    for (uint32_t i = 0; i < r.n; i++)
        for (uint32_t k = 0; k < r.batches[i].n_events; k++) {
            const struct jr_engine_event *ev = &r.batches[i].events[k];
            for (uint32_t j = 0; j < ev->n_hashes; j++) {
                if (!jr_map_get(&held, ev->hashes[j], &n))
                    n = 0;
                bool stored = ev->type == JR_ENGINE_STORED;
                assert_true(stored || n > 0);
                removed += !stored;
                copies += stored ? 1 : UINT64_MAX;
                assert_int_equal(jr_map_put(&held, ev->hashes[j], stored ? n + 1 : n - 1), 0);
            }
        }
    assert_true(removed > 0);
    assert_true(copies <= 40);
    heard_deinit(&r);
    host_stop(&h);
    jr_map_deinit(&held);
    jr_mem_deinit(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_resets_and_salts),
        cmocka_unit_test(evictions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
