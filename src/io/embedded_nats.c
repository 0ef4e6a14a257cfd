/* SPDX-License-Identifier: Apache-2.0 */
#include "io/embedded_nats.h"

#include "base/mem.h"
#include "base/str.h"
#include "io/child.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBE_EVERY_MS 20
#define TERM_WAIT_MS   5000

struct jr_embedded_nats {
    struct jr_loop *loop;
    struct jr_child *child; /* NULL once it ended */
    struct jr_timer *timer; /* probes; after stop: until SIGKILL */
    struct probe *probe;    /* a connection being tried */
    uint64_t give_up_ms;
    bool told; /* ready or failed */
    bool failed;
    bool stopping;
    uint16_t port;
    char url[40];
    char last_error[200]; /* of its output */
    void (*on_ready)(void *ctx, const char *url);
    void (*on_failed)(void *ctx, const char *words);
    void *ctx;
    void (*on_stopped)(void *ctx);
    void *stopped_ctx;
};

/* Outlives the server's object when that ends first: owner is NULL then. */
struct probe {
    uv_tcp_t tcp;
    uv_connect_t connect;
    struct jr_embedded_nats *owner;
};

static void fail(struct jr_embedded_nats *n, const char *words)
{
    jr_timer_stop(n->timer);
    if (n->failed || n->stopping)
        return;
    n->told = n->failed = true;
    if (n->on_failed != NULL)
        n->on_failed(n->ctx, words);
}

/* ---- probing ---- */

static void free_probe(uv_handle_t *handle)
{
    jr_xfree(handle->data);
}

static void drop_probe(struct jr_embedded_nats *n)
{
    if (n->probe == NULL)
        return;
    n->probe->owner = NULL;
    uv_close((uv_handle_t *)&n->probe->tcp, free_probe);
    n->probe = NULL;
}

static void on_probed(uv_connect_t *req, int status)
{
    struct probe *probe = req->data;
    struct jr_embedded_nats *n = probe->owner;

    if (n == NULL)
        return;
    drop_probe(n);
    if (status != 0 || n->told)
        return;
    n->told = true;
    jr_timer_stop(n->timer);
    if (n->on_ready != NULL)
        n->on_ready(n->ctx, n->url);
}

static void loopback(uint16_t port, struct sockaddr_in *ret)
{
    memset(ret, 0, sizeof *ret);
    (void)uv_ip4_addr("127.0.0.1", port, ret);
}

static void start_probe(struct jr_embedded_nats *n)
{
    struct probe *probe = jr_xalloc(sizeof *probe);
    struct sockaddr_in addr;

    loopback(n->port, &addr);
    uv_tcp_init(jr_loop_uv(n->loop), &probe->tcp);
    probe->tcp.data = probe->connect.data = probe;
    probe->owner = n;
    n->probe = probe;
    if (uv_tcp_connect(&probe->connect, &probe->tcp, (const struct sockaddr *)&addr, on_probed) !=
        0)
        drop_probe(n);
}

static void on_timer(void *ctx)
{
    struct jr_embedded_nats *n = ctx;

    if (n->stopping) {
        if (n->child != NULL)
            jr_child_kill(n->child, SIGKILL);
        return;
    }
    if (jr_loop_now_ms(n->loop) >= n->give_up_ms) {
        fail(n, "nats-server takes no connections");
        return;
    }
    if (n->probe == NULL)
        start_probe(n);
}

/* ---- child ---- */

static void on_line(void *ctx, const char *line)
{
    struct jr_embedded_nats *n = ctx;

    /* "[pid] date time [FTL] words", or plain words when it did not get as far as its log. */
    if (strstr(line, "[INF]") != NULL || line[0] == '\0')
        return;
    const char *words = strstr(line, "[FTL] ");
    if (words == NULL)
        words = strstr(line, "[ERR] ");
    (void)jr_str_copy(n->last_error, sizeof n->last_error, words == NULL ? line : words + 6);
}

static void finish(struct jr_embedded_nats *n)
{
    void (*cb)(void *ctx) = n->on_stopped;
    void *ctx = n->stopped_ctx;

    drop_probe(n);
    jr_timer_destroy(n->timer);
    jr_xfree(n);
    if (cb != NULL)
        cb(ctx);
}

static void on_exit(void *ctx, int64_t status, int signum)
{
    struct jr_embedded_nats *n = ctx;
    char words[300];

    n->child = NULL;
    if (n->stopping) {
        finish(n);
        return;
    }
    if (signum != 0)
        snprintf(words, sizeof words, "nats-server was ended by signal %d", signum);
    else
        snprintf(words, sizeof words, "nats-server ended with status %d: %s", (int)status,
                 n->last_error[0] != '\0' ? n->last_error : "it did not say why");
    fail(n, words);
}

/* ---- start and stop ---- */

static int make_dirs(const char *dir, struct jr_errmsg *e)
{
    char *path = jr_xstrdup(dir);
    int err = 0;

    for (char *p = path + 1; err == 0; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        const char was = *p;
        *p = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            err = jr_errmsg_set(e, JR_EIO, "cannot make the folder %s: %s", path, strerror(errno));
        *p = was;
        if (was == '\0')
            break;
    }
    if (err == 0 && access(dir, W_OK | X_OK) != 0)
        err = jr_errmsg_set(e, JR_EIO, "cannot write to the folder %s: %s", dir, strerror(errno));
    jr_xfree(path);
    return err;
}

/* The port asked for, or a free one; taken for a moment, so that one in use is told in words. */
static int choose_port(uint16_t want, struct jr_errmsg *e, uint16_t *ret)
{
    const int one = 1;
    struct sockaddr_in addr;
    socklen_t size = sizeof addr;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int err = 0;

    if (fd < 0)
        return jr_errmsg_set(e, JR_EIO, "no socket: %s", strerror(errno));
    loopback(want, &addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&addr, sizeof addr) != 0 || listen(fd, 1) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &size) != 0)
        err = jr_errmsg_set(e, errno == EADDRINUSE ? JR_EADDRINUSE : JR_EIO,
                            "port %u for the embedded nats-server: %s", want, strerror(errno));
    close(fd);
    if (err == 0)
        *ret = ntohs(addr.sin_port);
    return err;
}

static int start_child(struct jr_embedded_nats *n, const char *dir, struct jr_errmsg *e)
{
    char port[8];

    snprintf(port, sizeof port, "%u", n->port);
    const char *const args[] = {"-js", "-sd", dir, "-a", "127.0.0.1", "-p", port, NULL};
    const struct jr_child_config config = {
        .name = "nats-server",
        .args = args,
        .output = JR_CHILD_LINES,
        .on_line = on_line,
        .on_exit = on_exit,
        .ctx = n,
    };
    return jr_child_start(n->loop, &config, e, &n->child);
}

int jr_embedded_nats_start(struct jr_loop *loop, const struct jr_embedded_nats_config *config,
                           struct jr_errmsg *e, struct jr_embedded_nats **ret)
{
    struct jr_embedded_nats *n;
    uint16_t port = 0;

    int err = make_dirs(config->dir, e);
    if (err == 0)
        err = choose_port(config->port, e, &port);
    if (err < 0)
        return err;
    n = jr_xalloc(sizeof *n);
    n->loop = loop;
    n->port = port;
    n->on_ready = config->on_ready;
    n->on_failed = config->on_failed;
    n->ctx = config->ctx;
    snprintf(n->url, sizeof n->url, "nats://127.0.0.1:%u", port);
    err = start_child(n, config->dir, e);
    if (err < 0) {
        jr_xfree(n);
        return err;
    }
    n->give_up_ms = jr_loop_now_ms(loop) + (config->timeout_ms > 0 ? config->timeout_ms : 10000);
    n->timer = jr_timer_create(loop, on_timer, n);
    jr_timer_start(n->timer, PROBE_EVERY_MS, PROBE_EVERY_MS);
    *ret = n;
    return 0;
}

const char *jr_embedded_nats_url(const struct jr_embedded_nats *n)
{
    return n->url;
}

void jr_embedded_nats_stop(struct jr_embedded_nats *n, void (*cb)(void *ctx), void *ctx)
{
    if (n == NULL) {
        if (cb != NULL)
            cb(ctx);
        return;
    }
    n->stopping = true;
    drop_probe(n); /* nobody is told that it is ready any more */
    n->on_stopped = cb;
    n->stopped_ctx = ctx;
    if (n->child == NULL) {
        finish(n);
        return;
    }
    jr_child_kill(n->child, SIGTERM);
    jr_timer_start(n->timer, TERM_WAIT_MS, 0);
}
