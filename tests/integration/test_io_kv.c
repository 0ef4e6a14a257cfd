/* SPDX-License-Identifier: Apache-2.0 */
/* The key-value bucket against a real server: compare-and-set, expiry, lists, watch. */
#include "io/js_kv.h"
#include "io_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct jr_test_nats server;
static struct jr_loop *loop;
static struct jr_nats *nats;
static struct jr_js_kv *kv;

static int setup(void **state)
{
    struct jr_nats_config config = {0};
    struct jr_js_kv_config bucket = {.bucket = "b-leases"};

    (void)state;
    assert_int_equal(jr_loop_create(&loop), 0);
    jr_test_nats_start(&server, NULL);
    config.servers = server.url;
    assert_int_equal(jr_nats_connect(&config, &nats, NULL), 0);
    assert_int_equal(jr_js_kv_open(nats, &bucket, &kv, NULL, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    jr_js_kv_destroy(kv);
    jr_nats_close(nats);
    jr_loop_destroy(loop);
    jr_test_nats_end(&server);
    return 0;
}

static void test_open_checks(void **state)
{
    struct jr_js_kv_config c = {.bucket = "bad.name"};
    struct jr_js_kv *other = NULL;
    int64_t ttl = -1;

    (void)state;
    assert_int_equal(jr_js_kv_open(nats, &c, &other, NULL, NULL), JR_EINVAL);
    c = (struct jr_js_kv_config){.bucket = "short", .ttl_ms = 99};
    assert_int_equal(jr_js_kv_open(nats, &c, &other, NULL, NULL), JR_EINVAL);
    c.ttl_ms = 5000;
    assert_int_equal(jr_js_kv_open(nats, &c, &other, &ttl, NULL), 0);
    assert_int_equal(ttl, 5000);
    jr_js_kv_destroy(other);
    c.ttl_ms = 9000; /* an existing bucket is taken as it is, and says so */
    assert_int_equal(jr_js_kv_open(nats, &c, &other, &ttl, NULL), 0);
    assert_int_equal(ttl, 5000);
    jr_js_kv_destroy(other);
    assert_int_equal(jr_js_kv_put(kv, "a b", "x", 1, NULL, NULL), JR_EINVAL);
    assert_int_equal(jr_js_kv_put(kv, ".a", "x", 1, NULL, NULL), JR_EINVAL);
    assert_int_equal(jr_js_kv_put(kv, "a.>", "x", 1, NULL, NULL), JR_EINVAL);
    assert_int_equal(jr_js_kv_put(kv, "", "x", 1, NULL, NULL), JR_EINVAL);
}

static void test_compare_and_set(void **state)
{
    struct jr_js_kv_entry entry;
    uint64_t rev = 0, rev2 = 0;

    (void)state;
    assert_int_equal(jr_js_kv_get(kv, "leader", &entry, NULL), JR_ENOTFOUND);
    assert_false(entry.deleted);
    assert_int_equal(jr_js_kv_create(kv, "leader", "r1", 2, &rev, NULL), 0);
    assert_int_equal(jr_js_kv_create(kv, "leader", "r2", 2, NULL, NULL), JR_ECONFLICT);
    assert_int_equal(jr_js_kv_update(kv, "leader", "r1b", 3, rev, &rev2, NULL), 0);
    assert_true(rev2 > rev);
    assert_int_equal(jr_js_kv_update(kv, "leader", "r2", 2, rev, NULL, NULL), JR_ECONFLICT);
    assert_int_equal(jr_js_kv_get(kv, "leader", &entry, NULL), 0);
    assert_string_equal((char *)entry.value, "r1b");
    assert_int_equal(entry.revision, rev2);
    assert_true(entry.time_ns > 0);
    jr_js_kv_entry_deinit(&entry);
    assert_int_equal(jr_js_kv_delete(kv, "leader", rev, NULL), JR_ECONFLICT);
    assert_int_equal(jr_js_kv_delete(kv, "leader", rev2, NULL), 0);
    assert_int_equal(jr_js_kv_get(kv, "leader", &entry, NULL), JR_ENOTFOUND);
    assert_true(entry.deleted); /* on purpose */
    assert_true(entry.revision > rev2);
    assert_int_equal(jr_js_kv_create(kv, "leader", "r3", 2, &rev, NULL), 0); /* over the marker */
    assert_int_equal(jr_js_kv_create(kv, "leader", "r4", 2, NULL, NULL), JR_ECONFLICT);
}

static void test_values_expire_unless_renewed(void **state)
{
    struct jr_js_kv_config c = {.bucket = "t", .ttl_ms = 3000};
    struct jr_js_kv_entry entry;
    struct jr_js_kv *t = NULL;
    uint64_t dead = 0, alive = 0;
    uint64_t until;

    (void)state;
    assert_int_equal(jr_js_kv_open(nats, &c, &t, NULL, NULL), 0);
    assert_int_equal(jr_js_kv_create(t, "dead", "x", 1, &dead, NULL), 0);
    assert_int_equal(jr_js_kv_create(t, "alive", "x", 1, &alive, NULL), 0);
    until = jr_test_now_ms() + JR_TEST_PATIENCE_MS;
    for (;;) {
        int rv = jr_js_kv_get(t, "dead", &entry, NULL);
        jr_js_kv_entry_deinit(&entry);
        if (rv == JR_ENOTFOUND)
            break;
        assert_int_equal(rv, 0);
        assert_true(jr_test_now_ms() < until);
        assert_int_equal(jr_js_kv_update(t, "alive", "x", 1, alive, &alive, NULL), 0);
        jr_test_sleep_ms(100);
    }
    assert_int_equal(jr_js_kv_get(t, "alive", &entry, NULL), 0);
    jr_js_kv_entry_deinit(&entry);
    /* By revision only: an expired lease cannot be renewed. */
    assert_int_equal(jr_js_kv_update(t, "dead", "x", 1, dead, NULL, NULL), JR_ECONFLICT);
    assert_int_equal(jr_js_kv_create(t, "dead", "x", 1, NULL, NULL), 0);
    jr_js_kv_destroy(t);
}

static void test_list(void **state)
{
    struct jr_js_kv_list list;
    char key[32];
    uint32_t deleted = 0;

    (void)state;
    assert_int_equal(jr_js_kv_list(kv, &list, NULL), 0);
    assert_int_equal(list.n, 0);
    jr_js_kv_list_deinit(&list);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "worker.%u", i % 50);
        assert_int_equal(jr_js_kv_put(kv, key, key, strlen(key), NULL, NULL), 0);
    }
    assert_int_equal(jr_js_kv_delete(kv, "worker.7", 0, NULL), 0);
    assert_int_equal(jr_js_kv_list(kv, &list, NULL), 0);
    assert_int_equal(list.n, 50);
    for (uint32_t i = 0; i < list.n; i++) {
        deleted += list.entries[i].deleted;
        assert_true(list.entries[i].revision > 0);
        if (!list.entries[i].deleted)
            assert_string_equal((char *)list.entries[i].value, list.entries[i].key);
    }
    assert_int_equal(deleted, 1);
    jr_js_kv_list_deinit(&list);
}

static atomic_bool renewing;

static void *renew(void *arg)
{
    char key[32];

    for (unsigned i = 0; atomic_load(&renewing); i++) {
        snprintf(key, sizeof key, "worker.%u", i % 4);
        assert_int_equal(jr_js_kv_put(kv, key, "x", 1, NULL, NULL), 0);
    }
    return arg;
}

/* A key that is written while a list is read is in it all the same. */
static void test_list_while_written(void **state)
{
    pthread_t thread;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        char key[32];
        snprintf(key, sizeof key, "worker.%u", i);
        assert_int_equal(jr_js_kv_put(kv, key, "x", 1, NULL, NULL), 0);
    }
    atomic_store(&renewing, true);
    assert_int_equal(pthread_create(&thread, NULL, renew, NULL), 0);
    uint32_t least = 4;
    for (int i = 0; i < 200; i++) {
        struct jr_js_kv_list list;
        assert_int_equal(jr_js_kv_list(kv, &list, NULL), 0);
        least = list.n < least ? list.n : least;
        jr_js_kv_list_deinit(&list);
    }
    atomic_store(&renewing, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(least, 4);
}

struct seen {
    unsigned relists, listed, lost, puts, deletes;
    char last_key[32];
};

static void on_watch(void *ctx, enum jr_js_kv_watch_event event, const struct jr_js_kv_entry *entry)
{
    struct seen *s = ctx;

    s->relists += event == JR_JS_KV_RELIST;
    s->listed += event == JR_JS_KV_LISTED;
    s->lost += event == JR_JS_KV_LOST;
    s->puts += event == JR_JS_KV_PUT;
    s->deletes += event == JR_JS_KV_DELETE;
    assert_true((entry != NULL) == (event == JR_JS_KV_PUT || event == JR_JS_KV_DELETE));
    if (entry != NULL)
        snprintf(s->last_key, sizeof s->last_key, "%s", entry->key);
}

static void test_watch(void **state)
{
    struct jr_js_kv_watch *w = NULL;
    struct seen s = {0};
    bool done = false;

    (void)state;
    assert_int_equal(jr_js_kv_watch_create(kv, loop, on_watch, &s, &w), 0);
    PUMP_WAIT(loop, s.listed == 1, JR_TEST_PATIENCE_MS); /* empty */
    assert_int_equal(s.relists, 1);
    assert_int_equal(jr_js_kv_put(kv, "worker.1", "x", 1, NULL, NULL), 0);
    assert_int_equal(jr_js_kv_put(kv, "worker.2", "x", 1, NULL, NULL), 0);
    assert_int_equal(jr_js_kv_delete(kv, "worker.1", 0, NULL), 0);
    PUMP_WAIT(loop, s.puts == 2 && s.deletes == 1, JR_TEST_PATIENCE_MS);
    assert_string_equal(s.last_key, "worker.1");
    jr_test_nats_restart(&server);
    PUMP_WAIT(loop, s.listed == 2, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.relists, 2);
    assert_true(s.lost >= 1);
    assert_int_equal(s.puts, 3); /* worker.2 again */
    jr_js_kv_watch_close(w, mark_done, &done);
    PUMP_WAIT(loop, done, JR_TEST_PATIENCE_MS);
}

/* ---- a bucket that another client is just having made ---- */

#define RACERS 6
#define RACES  150

static pthread_barrier_t start_line;
static atomic_uint race_errors;

static void *racer(void *arg)
{
    struct jr_nats_config config = {.servers = server.url};
    struct jr_nats *own = NULL;

    (void)arg;
    if (jr_nats_connect(&config, &own, NULL) != 0)
        atomic_fetch_add(&race_errors, 1);
    for (unsigned i = 0; i < RACES; i++) {
        char name[32];
        struct jr_js_kv_config c = {.bucket = name};
        struct jr_js_kv_entry entry;
        struct jr_js_kv *b = NULL;

        snprintf(name, sizeof name, "race-%u", i);
        pthread_barrier_wait(&start_line);
        if (!own || jr_js_kv_open(own, &c, &b, NULL, NULL) != 0) {
            atomic_fetch_add(&race_errors, 1);
            continue;
        }
        if (jr_js_kv_get(b, "nothing", &entry, NULL) != JR_ENOTFOUND)
            atomic_fetch_add(&race_errors, 1);
        jr_js_kv_destroy(b);
    }
    jr_nats_close(own);
    return NULL;
}

/* Servers list a stream before its store is there, and nats-server 2.9.10 ends with a nil pointer
 * when it is asked for a message of such a stream: a bucket is open when its store is. */
static void test_open_while_another_makes_it(void **state)
{
    pthread_t threads[RACERS];
    uint64_t rev;

    (void)state;
    pthread_barrier_init(&start_line, NULL, RACERS);
    atomic_store(&race_errors, 0);
    for (unsigned i = 0; i < RACERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, racer, NULL), 0);
    for (unsigned i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start_line);
    assert_int_equal(atomic_load(&race_errors), 0);
    assert_int_equal(jr_js_kv_put(kv, "alive", "x", 1, &rev, NULL), 0);
}

/* ---- the same, of who had it open before the server lost its data ---- */

#define HOLDERS 4
#define HELD    30

static struct jr_js_kv *before[HOLDERS][HELD];
static struct jr_nats *holders[HOLDERS];

static void *hold(void *arg)
{
    const size_t me = (size_t)(uintptr_t)arg;

    for (unsigned i = 0; i < HELD; i++) {
        struct jr_js_kv_entry entry;
        pthread_barrier_wait(&start_line);
        /* Before, while and after the other makes it. */
        for (unsigned k = 0; k < 20; k++)
            if (jr_js_kv_get(before[me][i], "nothing", &entry, NULL) != JR_ENOTFOUND)
                atomic_fetch_add(&race_errors, 1);
    }
    return NULL;
}

static void open_all(struct jr_nats *own, struct jr_js_kv **ret, bool at_once)
{
    for (unsigned i = 0; i < HELD; i++) {
        char name[32];
        struct jr_js_kv_config c = {.bucket = name};
        snprintf(name, sizeof name, "held-%u", i);
        if (!at_once)
            pthread_barrier_wait(&start_line);
        if (jr_js_kv_open(own, &c, &ret[i], NULL, NULL) != 0)
            atomic_fetch_add(&race_errors, 1);
    }
}

static void test_get_while_another_makes_it_again(void **state)
{
    static struct jr_js_kv *again[HELD];
    struct jr_nats_config config = {.servers = server.url};
    pthread_t threads[HOLDERS];
    uint64_t rev;

    (void)state;
    atomic_store(&race_errors, 0);
    for (unsigned i = 0; i < HOLDERS; i++) {
        assert_int_equal(jr_nats_connect(&config, &holders[i], NULL), 0);
        open_all(holders[i], before[i], true);
    }
    jr_test_nats_stop(&server);
    jr_test_nats_wipe(&server);
    jr_test_nats_restart(&server);
    JR_TEST_WAIT(jr_nats_generation(nats) == 2, JR_TEST_PATIENCE_MS);
    pthread_barrier_init(&start_line, NULL, HOLDERS + 1);
    for (unsigned i = 0; i < HOLDERS; i++) {
        JR_TEST_WAIT(jr_nats_generation(holders[i]) == 2, JR_TEST_PATIENCE_MS);
        assert_int_equal(pthread_create(&threads[i], NULL, hold, (void *)(uintptr_t)i), 0);
    }
    open_all(nats, again, false);
    for (unsigned i = 0; i < HOLDERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start_line);
    assert_int_equal(atomic_load(&race_errors), 0);
    assert_int_equal(jr_js_kv_put(again[0], "alive", "x", 1, &rev, NULL), 0);
    for (unsigned r = 0; r < HELD; r++) {
        jr_js_kv_destroy(again[r]);
        for (unsigned i = 0; i < HOLDERS; i++)
            jr_js_kv_destroy(before[i][r]);
    }
    for (unsigned i = 0; i < HOLDERS; i++)
        jr_nats_close(holders[i]);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_open_checks),
        T(test_compare_and_set),
        T(test_values_expire_unless_renewed),
        T(test_list),
        T(test_list_while_written),
        T(test_watch),
        T(test_open_while_another_makes_it),
        T(test_get_while_another_makes_it_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
