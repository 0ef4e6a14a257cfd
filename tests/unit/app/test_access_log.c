/* SPDX-License-Identifier: Apache-2.0 */
/* access_log: what a line says, hostile text in it, samples, slow requests; files that move, fill up
 * or are gone, and readers that do not read. */
#include "jr_test.h"

#include "app/frontend/access_log.h"
#include "base/limits.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS 60000

static struct jr_access_entry an_entry(void)
{
    return (struct jr_access_entry){.unix_ns = 1700000000123456789,
                                    .request_id = jr_str_of("req-1", 5),
                                    .client = jr_str_of("10.0.0.1:4000", 13),
                                    .model = jr_str_of("tiny", 4),
                                    .endpoint = "completions",
                                    .error = "",
                                    .stream = true,
                                    .has_worker = true,
                                    .has_tokens = true,
                                    .has_cached = true,
                                    .has_first = true,
                                    .status = 200,
                                    .worker_id = 9007199254740992,
                                    .dp_rank = 1,
                                    .tokens_in = 100,
                                    .tokens_out = 16,
                                    .prompt_blocks = 6,
                                    .overlap_blocks = 4,
                                    .cached_tokens = 64,
                                    .first_token_ns = 12345678,
                                    .duration_ns = 2000000000,
                                    .retries = 1,
                                    .bytes_in = 1024,
                                    .bytes_out = 2048};
}

/* ---------------------------------------------------------------- lines */

static void test_a_line(void **state)
{
    (void)state;
    struct jr_buf b;
    struct jr_access_entry e = an_entry();
    jr_buf_init(&b, 4096);
    jr_access_line_write(&b, &e);
    assert_string_equal(
        jr_buf_str(&b),
        "{\"kind\":\"access\",\"time\":\"2023-11-14T22:13:20.123Z\",\"request_id\":\"req-1\","
        "\"client\":\"10.0.0.1:4000\",\"endpoint\":\"completions\",\"model\":\"tiny\","
        "\"stream\":true,\"status\":200,\"error\":null,\"worker\":9007199254740992,\"dp_rank\":1,"
        "\"tokens_in\":100,\"tokens_out\":16,\"prompt_blocks\":6,\"overlap_blocks\":4,"
        "\"cached_tokens\":64,\"ttft_ms\":12.345,\"duration_ms\":2000.000,\"retries\":1,"
        "\"bytes_in\":1024,\"bytes_out\":2048}\n");
    jr_buf_clear(&b);
    e = (struct jr_access_entry){.endpoint = "chat_completions", .error = "cancelled"};
    jr_access_line_write(&b, &e);
    assert_string_equal(
        jr_buf_str(&b),
        "{\"kind\":\"access\",\"time\":\"1970-01-01T00:00:00.000Z\",\"request_id\":\"\","
        "\"client\":\"\",\"endpoint\":\"chat_completions\",\"model\":\"\",\"stream\":false,"
        "\"status\":null,\"error\":\"cancelled\",\"worker\":null,\"dp_rank\":null,"
        "\"tokens_in\":null,\"tokens_out\":0,\"prompt_blocks\":0,\"overlap_blocks\":null,"
        "\"cached_tokens\":null,\"ttft_ms\":null,\"duration_ms\":0.000,\"retries\":0,"
        "\"bytes_in\":0,\"bytes_out\":0}\n");
    jr_buf_deinit(&b);
}

/* A header cannot end the line, the string or the object. */
static void test_hostile_text(void **state)
{
    (void)state;
    static const char id[] = "a\",\"status\":1}\r\n{\"x\":\"\\\x01\x7f\xff\xc3\0z";
    struct jr_access_entry e = an_entry();
    struct jr_buf b;
    jr_buf_init(&b, 4096);
    e.request_id = jr_str_of(id, sizeof id - 1);
    e.model = jr_str_of("\xe2\x82", 2); /* cut in the middle */
    jr_access_line_write(&b, &e);
    assert_int_equal(b.err, 0);
    assert_int_equal(strlen(jr_buf_str(&b)), b.n);
    assert_ptr_equal(strchr(jr_buf_str(&b), '\n'), jr_buf_str(&b) + b.n - 1);
    assert_non_null(strstr(jr_buf_str(&b),
                           "\"request_id\":\"a\\\",\\\"status\\\":1}\\r\\n{\\\"x\\\":"
                           "\\\"\\\\\\u0001"));
    assert_non_null(strstr(jr_buf_str(&b), "\\u0000z\",\"client\""));
    assert_non_null(strstr(jr_buf_str(&b), "\"model\":\"\xef\xbf\xbd"));
    for (size_t i = 0; i + 1 < b.n; i++)
        assert_true(b.p[i] >= 0x20 && b.p[i] != 0xff);
    jr_buf_deinit(&b);
}

static void test_a_slow_line(void **state)
{
    (void)state;
    struct jr_access_decision *d = jr_xalloc(sizeof *d + 2 * sizeof *d->candidates);
    struct jr_access_entry e = an_entry();
    struct jr_buf b;
    jr_buf_init(&b, 4096);
    *d = (struct jr_access_decision){.waited_ms = 7, .cost = 0.25, .left_off = 3, .n = 2};
    d->candidates[0] = (struct jr_candidate){.worker_id = 5, .overlap_blocks = 4, .cost = 0.25};
    d->candidates[1] = (struct jr_candidate){.worker_id = 6, .cost = INFINITY};
    e.slow = d;
    jr_access_line_write_slow(&b, &e);
    const char *text = jr_buf_str(&b);
    assert_int_equal(strncmp(text, "{\"kind\":\"slow\",\"time\":", 22), 0);
    assert_non_null(strstr(text,
                           "\"waited_ms\":7,\"cost\":0.25,\"candidates_left_off\":3,"
                           "\"candidates\":[{\"worker\":5,\"dp_rank\":0,\"overlap_blocks\":4,"));
    assert_non_null(strstr(text, "\"load_cost\":0,\"cost\":0.25},{\"worker\":6,"));
    assert_non_null(strstr(text, "\"cost\":null}]}\n"));
    jr_buf_clear(&b);
    e.slow = NULL; /* refused: nobody was weighed */
    jr_access_line_write_slow(&b, &e);
    assert_non_null(strstr(jr_buf_str(&b), "\"waited_ms\":null,\"cost\":null,"
                                           "\"candidates_left_off\":0,\"candidates\":[]}\n"));
    jr_buf_deinit(&b);
    jr_xfree(d);
}

/* ---------------------------------------------------------------- the log */

struct rig {
    struct jr_loop *loop;
    struct jr_access_log *log;
    char *dir, *path;
    uint64_t added;
};

static void make(struct rig *r, struct jr_access_log_config config)
{
    struct jr_errmsg e = {0};
    *r = (struct rig){.dir = jr_test_temp_dir()};
    r->path = config.path ? jr_xstrdup(config.path) : jr_xprintf("%s/access.log", r->dir);
    config.path = r->path;
    config.buffer_max = config.buffer_max ? config.buffer_max : JR_ACCESS_LOG_BUFFER;
    assert_int_equal(jr_loop_create(&r->loop), 0);
    assert_int_equal(jr_access_log_create(r->loop, &config, &r->log, &e), 0);
}

static void end(struct rig *r)
{
    jr_access_log_destroy(r->log);
    jr_loop_destroy(r->loop);
    jr_test_remove_dir(r->dir);
    jr_xfree(r->dir);
    jr_xfree(r->path);
}

static void add(struct rig *r, unsigned n, uint64_t duration_ms)
{
    struct jr_access_entry e = an_entry();
    e.duration_ns = duration_ms * 1000000;
    for (unsigned i = 0; i < n; i++)
        jr_access_log_add(r->log, &e);
    r->added += n;
}

static struct jr_access_log_stats turn(struct rig *r)
{
    struct jr_access_log_stats stats;
    (void)uv_run(jr_loop_uv(r->loop), UV_RUN_NOWAIT);
    jr_access_log_stats(r->log, &stats);
    return stats;
}

static bool settled(struct rig *r)
{
    struct jr_access_log_stats stats = turn(r);
    return stats.lines + stats.dropped == r->added;
}

static unsigned lines_of(const char *path)
{
    unsigned n = 0;
    uint8_t *text = jr_test_read_file(path, NULL);
    for (const char *p = (const char *)text; (p = strchr(p, '\n')); p++)
        n++;
    jr_xfree(text);
    return n;
}

static void test_a_file_that_moves(void **state)
{
    (void)state;
    struct rig r;
    make(&r, (struct jr_access_log_config){.share = 1});
    char *old = jr_xprintf("%s.1", r.path);
    add(&r, 1000, 1);
    JR_TEST_WAIT(settled(&r), WAIT_MS);
    assert_int_equal(rename(r.path, old), 0);
    add(&r, 5, 1);
    JR_TEST_WAIT(settled(&r), WAIT_MS);
    jr_access_log_reopen(r.log);
    add(&r, 7, 1);
    JR_TEST_WAIT(settled(&r), WAIT_MS);
    assert_int_equal(lines_of(old), 1005);
    assert_int_equal(lines_of(r.path), 7);
    assert_int_equal(turn(&r).dropped, 0);
    jr_xfree(old);
    end(&r);
}

/* What waits when the log ends is written. */
static void test_the_end_writes(void **state)
{
    (void)state;
    struct rig r;
    make(&r, (struct jr_access_log_config){.share = 1, .linger_ms = 3600000});
    add(&r, 10, 1);
    jr_access_log_destroy(r.log);
    r.log = NULL;
    assert_int_equal(lines_of(r.path), 10);
    end(&r);
}

/* A batch that was handed over and had not begun is part of it. */
static void test_the_end_writes_what_is_on_its_way(void **state)
{
    (void)state;
    for (int round = 0; round < 40; round++) {
        struct rig r;
        make(&r,
             (struct jr_access_log_config){.share = 1, .linger_ms = 3600000, .buffer_max = 16384});
        add(&r, 100, 1); /* more than fills it */
        struct jr_access_log_stats stats;
        jr_access_log_stats(r.log, &stats);
        jr_access_log_destroy(r.log);
        r.log = NULL;
        assert_int_equal(lines_of(r.path), 100 - stats.dropped);
        end(&r);
    }
}

static void test_shares(void **state)
{
    (void)state;
    const double shares[] = {0, 0.25, 1};
    for (unsigned i = 0; i < 3; i++) {
        struct rig r;
        make(&r, (struct jr_access_log_config){.share = shares[i], .slow_ms = 500, .seed = 5});
        add(&r, 10000, 499);
        jr_access_log_destroy(r.log);
        r.log = NULL;
        assert_in_range(lines_of(r.path), (uintmax_t)(shares[i] * 9500),
                        (uintmax_t)(shares[i] * 10500));
        end(&r);
    }
}

static void test_slow_requests(void **state)
{
    (void)state;
    struct rig r;
    make(&r, (struct jr_access_log_config){.share = 0, .slow_ms = 500});
    assert_true(jr_access_log_wants_decisions(r.log));
    add(&r, 10, 499);
    add(&r, 3, 500);
    r.added = 3;
    JR_TEST_WAIT(settled(&r), WAIT_MS);
    assert_int_equal(lines_of(r.path), 3);
    end(&r);
}

/* A reader that does not read costs lines, not time; what it reads later is whole. */
static void test_a_reader_that_does_not_read(void **state)
{
    (void)state;
    struct rig r;
    char *dir = jr_test_temp_dir(), *fifo = jr_xprintf("%s/fifo", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    make(&r, (struct jr_access_log_config){.share = 1, .path = fifo, .buffer_max = 64 << 10});
    while (turn(&r).dropped < 1000)
        add(&r, 100, 1);
    struct jr_buf got;
    jr_buf_init(&got, 64 << 20);
    while (!settled(&r)) {
        char piece[4096];
        ssize_t n = read(reader, piece, sizeof piece);
        jr_buf_put(&got, piece, n > 0 ? (size_t)n : 0);
    }
    for (char piece[4096];;) {
        ssize_t n = read(reader, piece, sizeof piece);
        if (n <= 0)
            break;
        jr_buf_put(&got, piece, (size_t)n);
    }
    unsigned lines = 0;
    for (const char *p = jr_buf_str(&got), *eol; (eol = strchr(p, '\n')); p = eol + 1, lines++)
        assert_true(strncmp(p, "{\"kind\":", 8) == 0 && eol[-1] == '}');
    assert_int_equal(lines, turn(&r).lines);
    jr_buf_deinit(&got);
    add(&r, 10000, 1); /* more than the pipe takes: the end does not wait for ever */
    end(&r);
    (void)close(reader);
    jr_test_remove_dir(dir);
    jr_xfree(fifo);
    jr_xfree(dir);
}

static void test_no_room(void **state)
{
    (void)state;
    struct rig r;
    make(&r, (struct jr_access_log_config){.share = 1, .path = "/dev/full"});
    add(&r, 10, 1);
    JR_TEST_WAIT(settled(&r), WAIT_MS);
    assert_int_equal(turn(&r).dropped, 10);
    assert_int_equal(turn(&r).lines, 0);
    end(&r);
}

/* The folder goes and comes back: what was lost is counted, what comes then is written. */
static void test_a_folder_that_is_gone(void **state)
{
    (void)state;
    struct rig r;
    char *dir = jr_test_temp_dir(), *sub = jr_xprintf("%s/sub", dir),
         *path = jr_xprintf("%s/sub/log", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    make(&r, (struct jr_access_log_config){.share = 1, .path = path});
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(sub), 0);
    jr_access_log_reopen(r.log);
    add(&r, 4, 1);
    JR_TEST_WAIT(settled(&r), WAIT_MS);
    assert_int_equal(turn(&r).dropped, 4);
    assert_int_equal(mkdir(sub, 0700), 0);
    add(&r, 6, 1);
    JR_TEST_WAIT(settled(&r), WAIT_MS);
    assert_int_equal(turn(&r).lines, 6);
    assert_int_equal(lines_of(path), 6);
    end(&r);
    jr_test_remove_dir(dir);
    jr_xfree(path);
    jr_xfree(sub);
    jr_xfree(dir);
}

static void test_cannot_open(void **state)
{
    (void)state;
    struct jr_errmsg e = {0};
    struct jr_loop *loop;
    struct jr_access_log *log;
    assert_int_equal(jr_loop_create(&loop), 0);
    const struct jr_access_log_config config = {
        .share = 1, .path = "/nonexistent/x/log", .buffer_max = 4096};
    assert_int_equal(jr_access_log_create(loop, &config, &log, &e), JR_EIO);
    assert_non_null(strstr(e.text, "/nonexistent/x/log"));
    jr_loop_destroy(loop);
}

static void test_off(void **state)
{
    (void)state;
    struct jr_access_entry e = an_entry();
    struct jr_access_log_stats stats;
    jr_access_log_add(NULL, &e);
    jr_access_log_reopen(NULL);
    jr_access_log_stats(NULL, &stats);
    assert_int_equal(stats.lines + stats.dropped, 0);
    assert_false(jr_access_log_wants_decisions(NULL));
    jr_access_log_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line),
        cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_a_slow_line),
        cmocka_unit_test(test_a_file_that_moves),
        cmocka_unit_test(test_the_end_writes),
        cmocka_unit_test(test_the_end_writes_what_is_on_its_way),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_slow_requests),
        cmocka_unit_test(test_a_reader_that_does_not_read),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_a_folder_that_is_gone),
        cmocka_unit_test(test_cannot_open),
        cmocka_unit_test(test_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
