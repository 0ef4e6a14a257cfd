/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/access_log.h"

#include "base/limit.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define POLL_MS  100
#define GRACE_NS UINT64_C(1000000000) /* at the end, for a reader that does not read */
#define FULL_PCT 50                   /* of the buffer: written without lingering */

/* What the thread has. */
struct batch {
    struct jr_job job;
    struct jr_access_log *log;
    struct jr_buf lines;
    bool reopen;
    uint64_t n_written, n_lost; /* lines */
    int sys_err;                /* errno of the first failure */
};

struct jr_access_log {
    struct jr_access_log_config config;
    char *path; /* owned; NULL: stdout */
    struct jr_rng rng;
    struct jr_lane *lane;
    struct jr_timer *timer;
    struct jr_buf waiting;
    bool busy;   /* a batch is with the thread */
    bool reopen; /* with the next one */
    bool failing;
    struct jr_access_log_stats stats;
    struct batch batch;
    /* The thread's. */
    int fd;
    bool is_file;                /* never waits for a reader */
    bool torn;                   /* the last line of an earlier batch was cut */
    atomic_uint_fast64_t end_ns; /* we end: a reader has until then. 0: not yet */
};

/* ---------------------------------------------------------------- thread */

static int open_target(struct jr_access_log *log)
{
    struct stat st;
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK; /* it may be a FIFO */
    int fd = log->path ? open(log->path, flags, 0640) : STDOUT_FILENO;
    if (fd < 0)
        return errno;
    if (log->path && log->fd >= 0)
        (void)close(log->fd);
    log->fd = fd;
    log->is_file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    log->torn = false;
    return 0;
}

/* False: its reader does not read, and we end. */
static bool wait_room(struct jr_access_log *log)
{
    for (;;) {
        struct pollfd p = {.fd = log->fd, .events = POLLOUT};
        uint64_t end_ns = atomic_load(&log->end_ns);
        if (end_ns && jr_loop_now_ns() > end_ns)
            return false;
        if (poll(&p, 1, POLL_MS) != 0)
            return true; /* an error shows in the write */
    }
}

/* A pipe that has room takes PIPE_BUF bytes without waiting. Returns what was written; *ret_errno is
 * set when that is not all. */
static size_t write_all(struct jr_access_log *log, const uint8_t *p, size_t n, int *ret_errno)
{
    size_t done = 0;
    while (done < n) {
        size_t piece = n - done;
        if (!log->is_file && !wait_room(log)) {
            *ret_errno = ETIMEDOUT;
            return done;
        }
        if (!log->is_file && piece > PIPE_BUF)
            piece = PIPE_BUF;
        ssize_t k = write(log->fd, p + done, piece);
        if (k > 0) {
            done += (size_t)k;
        } else if (k == 0 || (errno != EINTR && errno != EAGAIN)) {
            *ret_errno = k == 0 ? EIO : errno;
            return done;
        }
    }
    return done;
}

static uint64_t count_lines(const uint8_t *p, size_t n)
{
    uint64_t lines = 0;
    for (const uint8_t *end = p + n; (p = memchr(p, '\n', (size_t)(end - p))); p++)
        lines++;
    return lines;
}

static void run_batch(struct jr_job *job)
{
    struct batch *b = (struct batch *)(void *)job;
    struct jr_access_log *log = b->log;
    size_t done = 0;
    if (b->reopen)
        b->sys_err = open_target(log);
    if (b->sys_err == 0 && log->torn) /* what was cut stays a line of its own */
        log->torn = write_all(log, (const uint8_t *)"\n", 1, &b->sys_err) == 0;
    if (b->sys_err == 0)
        done = write_all(log, b->lines.p, b->lines.n, &b->sys_err);
    if (done > 0)
        log->torn = b->lines.p[done - 1] != '\n';
    b->n_written = count_lines(b->lines.p, done);
    b->n_lost = count_lines(b->lines.p + done, b->lines.n - done);
}

/* ---------------------------------------------------------------- loop */

static void done_batch(struct jr_job *job)
{
    struct batch *b = (struct batch *)(void *)job;
    struct jr_access_log *log = b->log;
    log->busy = false;
    if (job->err < 0 && atomic_load(&log->end_ns)) { /* the lane has ended before: it is our turn */
        run_batch(job);
    } else if (job->err < 0) {
        b->n_lost = count_lines(b->lines.p, b->lines.n);
        b->n_written = 0;
    }
    log->stats.lines += b->n_written;
    log->stats.dropped += b->n_lost;
    bool failed = b->sys_err != 0;
    if (failed && !log->failing)
        jr_log(JR_LOG_WARN, "access_log.failed", "path=%s error=\"%s\"",
               log->path ? log->path : "-", strerror(b->sys_err));
    log->failing = failed;
    log->reopen = log->reopen || (failed && log->path);
    if (log->waiting.n > 0 && atomic_load(&log->end_ns) == 0)
        jr_timer_start(log->timer, log->config.linger_ms, 0);
}

static void kick(struct jr_access_log *log)
{
    struct batch *b = &log->batch;
    if (log->busy || log->waiting.n == 0)
        return;
    struct jr_buf lines = b->lines;
    b->lines = log->waiting;
    log->waiting = lines;
    jr_buf_clear(&log->waiting);
    b->reopen = log->reopen;
    b->sys_err = 0;
    b->n_written = b->n_lost = 0;
    log->reopen = false;
    log->busy = true;
    if (jr_lane_submit(log->lane, &b->job) < 0) {
        b->job.err = JR_ECLOSED;
        done_batch(&b->job);
    }
}

static void on_timer(void *ctx)
{
    kick(ctx);
}

/* A line that does not fit leaves no trace but in the count. */
static void append(struct jr_access_log *log, const struct jr_access_entry *entry,
                   void (*write_line)(struct jr_buf *, const struct jr_access_entry *))
{
    size_t before = log->waiting.n;
    write_line(&log->waiting, entry);
    if (log->waiting.err) {
        log->waiting.err = 0;
        log->waiting.n = before;
        log->stats.dropped++;
        jr_limit_reached(JR_LIMIT_ACCESS_LOG_BUFFER);
    }
    if (log->waiting.n > log->config.buffer_max / 100 * FULL_PCT)
        kick(log);
    else if (before == 0 && !log->busy)
        jr_timer_start(log->timer, log->config.linger_ms, 0);
}

void jr_access_log_add(struct jr_access_log *log, const struct jr_access_entry *entry)
{
    if (!log)
        return;
    double share = log->config.share;
    if (share >= 1 || (share > 0 && jr_rng_unit(&log->rng) < share))
        append(log, entry, jr_access_line_write);
    if (log->config.slow_ms && entry->duration_ns >= log->config.slow_ms * UINT64_C(1000000))
        append(log, entry, jr_access_line_write_slow);
}

bool jr_access_log_reopens(const struct jr_access_log *log)
{
    return log && log->path;
}

void jr_access_log_reopen(struct jr_access_log *log)
{
    if (jr_access_log_reopens(log))
        log->reopen = true;
}

void jr_access_log_stats(const struct jr_access_log *log, struct jr_access_log_stats *ret)
{
    *ret = log ? log->stats : (struct jr_access_log_stats){0};
}

/* ---------------------------------------------------------------- life */

int jr_access_log_create(struct jr_loop *loop, const struct jr_access_log_config *config,
                         struct jr_access_log **ret, struct jr_errmsg *e)
{
    struct jr_access_log *log = jr_xalloc(sizeof *log);
    log->config = *config;
    log->fd = -1;
    if (config->path && config->path[0] && strcmp(config->path, "-") != 0)
        log->path = jr_xstrdup(config->path);
    log->config.path = NULL;
    atomic_init(&log->end_ns, 0);
    jr_rng_init(&log->rng, config->seed, 0);
    jr_buf_init(&log->waiting, config->buffer_max);
    jr_buf_init(&log->batch.lines, config->buffer_max);
    log->batch.log = log;
    log->batch.job.run = run_batch;
    log->batch.job.done = done_batch;
    log->timer = jr_timer_create(loop, on_timer, log);
    int sys_err = open_target(log);
    int err = sys_err ? jr_errmsg_set(e, JR_EIO, "--access-log-file: cannot open %s: %s",
                                      log->path ? log->path : "-", strerror(sys_err))
                      : jr_lane_create(loop, "access-log", 1, &log->lane);
    if (err < 0) {
        jr_access_log_destroy(log);
        return err;
    }
    *ret = log;
    return 0;
}

void jr_access_log_destroy(struct jr_access_log *log)
{
    if (!log)
        return;
    atomic_store(&log->end_ns, jr_loop_now_ns() + GRACE_NS);
    jr_timer_destroy(log->timer);
    jr_lane_destroy(log->lane); /* waits for the batch that is being written */
    if (log->waiting.n > 0) {
        int sys_err = log->reopen ? open_target(log) : 0;
        if (sys_err == 0)
            (void)write_all(log, log->waiting.p, log->waiting.n, &sys_err);
    }
    if (log->path && log->fd >= 0)
        (void)close(log->fd);
    jr_buf_deinit(&log->waiting);
    jr_buf_deinit(&log->batch.lines);
    jr_xfree(log->path);
    jr_xfree(log);
}

/* ---------------------------------------------------------------- decisions */

bool jr_access_log_wants_decisions(const struct jr_access_log *log)
{
    return log && log->config.slow_ms > 0;
}

struct jr_access_decision *jr_access_decision_copy(const struct jr_pool *pool,
                                                   const struct jr_decision *d)
{
    const struct jr_candidate *candidates = jr_pool_record(pool, d);
    uint32_t n = candidates ? d->n_record : 0;
    uint32_t kept = n < JR_ACCESS_CANDIDATES_MAX ? n : JR_ACCESS_CANDIDATES_MAX;
    struct jr_access_decision *copy = jr_xalloc(sizeof *copy + kept * sizeof *candidates);
    copy->waited_ms = d->waited_ms;
    copy->cost = d->cost;
    copy->n = kept;
    copy->left_off = n - kept;
    if (kept > 0)
        memcpy(copy->candidates, candidates, kept * sizeof *candidates);
    return copy;
}
