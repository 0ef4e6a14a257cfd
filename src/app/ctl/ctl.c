/* SPDX-License-Identifier: Apache-2.0 */
#include "app/ctl/ctl.h"
#include "app/ctl/ctl_follow.h"
#include "app/ctl/ctl_view.h"
#include "app/https_options.h"
#include "app/token_file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/http_client.h"
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATE_BYTES_MAX    ((size_t)256 << 20) /* 16 Ki ranks in each of 64 pools fit */
#define LINE_BYTES_MAX     ((size_t)4 << 20)   /* one line of tail */
#define CONNECT_TIMEOUT_MS 5000
#define ANSWER_TIMEOUT_MS  30000
#define FOLLOW_EVERY_MS    100
#define FOLLOW_STILL_MS    60000 /* nothing of a snapshot that was asked for moves */

static const struct action {
    const char *name, *method, *path;
    bool state; /* its answer is a part of /state */
} actions[] = {
    {"live", "GET", "/live", false},
    {"ready", "GET", "/ready", false},
    {"state", "GET", "/state", true},
    {"workers", "GET", "/state", true},
    {"replicas", "GET", "/state", true},
    {"digest", "GET", "/state", true},
    {"snapshot", "POST", "/admin/snapshot", false},
    {"reset", "POST", "/admin/reset", false},
    {"drain", "POST", "/admin/drain", false},
    {"tail", "GET", "/admin/tail", false},
    {"skip", "", "", false}, /* over NATS */
};
#define ACTIONS (sizeof actions / sizeof actions[0])

const char *jr_ctl_action_name(unsigned i)
{
    return i < ACTIONS ? actions[i].name : NULL;
}

struct ctl {
    struct jr_loop *loop;
    struct jr_http_client *client;
    const struct action *action;
    const char *url; /* borrows from the options */
    bool json;
    char header[600]; /* Authorization, or "" */
    char *body;       /* owned: what is posted */
    struct jr_errmsg *e;
    int rv;
    int status;             /* tail */
    struct jr_buf partial;  /* tail: an unfinished line, or an error's text */
    struct jr_timer *timer; /* snapshot: until the next look */
    struct jr_ctl_follow follow;
    uint64_t moved_ns; /* since when nothing moved */
    bool wait;
    enum { PLAIN, BEFORE, ASKED, FOLLOW } phase;
};

static int fetch(struct ctl *ctl, const char *method, const char *path);

/* ---------------------------------------------------------------- output */

/* A reader that went away (| head) ends ctl without a complaint. */
static bool print(struct ctl *ctl, const struct jr_buf *b)
{
    if (b->err != 0) {
        ctl->rv = jr_errmsg_set(ctl->e, b->err, "the answer of %s is too large", ctl->url);
        return false;
    }
    if (fwrite(jr_buf_str(b), 1, b->n, stdout) == b->n && fflush(stdout) == 0)
        return true;
    if (errno != EPIPE)
        ctl->rv = jr_errmsg_set(ctl->e, JR_EIO, "cannot write to stdout: %s", strerror(errno));
    return false;
}

static int not_reached(struct ctl *ctl, int err)
{
    if (err == JR_ETIMEOUT)
        return jr_errmsg_set(ctl->e, JR_ECONN, "no answer from %.160s in time", ctl->url);
    return jr_errmsg_set(ctl->e, err == JR_EPROTO || err == JR_ELIMIT ? err : JR_ECONN,
                         "cannot reach %.160s (%s)", ctl->url, jr_err_text(err));
}

/* An answer that is not 2xx. */
static int refused(struct ctl *ctl, int status, const char *body, size_t n)
{
    char says[160];
    jr_ctl_view_error(body, n, says, sizeof says);
    int err = status == 401 || status == 403 ? JR_ECONFIG
              : status == 404                ? JR_EUNSUPPORTED
              : status == 409                ? JR_ECONFLICT
              : status >= 500                ? JR_EAGAIN
                                             : JR_EPROTO;
    const char *more = err == JR_ECONFIG ? "; --admin-token-file names the token's file" : "";
    return jr_errmsg_set(ctl->e, err, "%s: %s answered %d%s%.120s%s", ctl->action->name, ctl->url,
                         status, says[0] ? ": " : "", says, more);
}

/* ---------------------------------------------------------------- one answer */

static void on_plain(struct ctl *ctl, struct jr_str body)
{
    struct jr_buf b;
    jr_buf_init(&b, STATE_BYTES_MAX);
    if (!ctl->action->state) {
        jr_ctl_view_action(ctl->json, body.p, body.n, &b);
    } else {
        ctl->rv = jr_ctl_view_state(ctl->action->name, ctl->json, body.p, body.n, &b, ctl->e);
        if (ctl->rv < 0)
            (void)jr_errmsg_wrap(ctl->e, ctl->rv, "%.100s", ctl->url);
    }
    if (ctl->rv == 0)
        (void)print(ctl, &b);
    jr_buf_deinit(&b);
}

/* A look at a snapshot under way: what is new is printed. JSON has only the end, as of /state. */
static int follow(struct ctl *ctl, struct jr_str body)
{
    struct jr_buf b;
    jr_buf_init(&b, STATE_BYTES_MAX);
    int rv = jr_ctl_follow_look(&ctl->follow, body.p, body.n, &b, ctl->e);
    if (b.n > 0)
        ctl->moved_ns = jr_loop_now_ns();
    if (ctl->json)
        jr_buf_clear(&b);
    if (ctl->json && rv == 0)
        rv = jr_ctl_view_state("snapshot", true, body.p, body.n, &b, ctl->e);
    if (b.n > 0)
        (void)print(ctl, &b);
    jr_buf_deinit(&b);
    if (rv == JR_EAGAIN && jr_loop_now_ns() - ctl->moved_ns > FOLLOW_STILL_MS * UINT64_C(1000000))
        return jr_errmsg_set(ctl->e, JR_ETIMEOUT, "%s: no snapshot comes: see its /state and log",
                             ctl->url);
    if (rv == JR_EAGAIN && ctl->rv == 0)
        jr_timer_start(ctl->timer, FOLLOW_EVERY_MS, 0);
    return rv;
}

/* JR_EAGAIN: another answer is waited for. */
static int take_answer(struct ctl *ctl, struct jr_str body)
{
    int rv = 0;
    switch (ctl->phase) {
    case PLAIN:
        on_plain(ctl, body);
        return ctl->rv;
    case BEFORE:
        rv = jr_ctl_follow_begin(&ctl->follow, body.p, body.n, ctl->e);
        ctl->phase = ASKED;
        if (rv == 0)
            rv = fetch(ctl, ctl->action->method, ctl->action->path);
        return rv < 0 ? rv : JR_EAGAIN;
    case ASKED:
        if (!ctl->wait) {
            on_plain(ctl, body);
            return ctl->rv;
        }
        ctl->phase = FOLLOW;
        ctl->moved_ns = jr_loop_now_ns();
        rv = fetch(ctl, "GET", "/state");
        return rv < 0 ? rv : JR_EAGAIN;
    case FOLLOW:
        rv = follow(ctl, body);
        return ctl->rv < 0 ? ctl->rv : rv;
    }
    return JR_EINTERNAL;
}

static void on_answer(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct ctl *ctl = ctx;
    if (err != 0)
        ctl->rv = not_reached(ctl, err);
    else if (reply->status / 100 != 2)
        ctl->rv = refused(ctl, reply->status, body.p, body.n);
    else
        err = take_answer(ctl, body);
    if (err == JR_EAGAIN && ctl->rv == 0)
        return;
    if (ctl->rv == 0)
        ctl->rv = err;
    jr_loop_stop(ctl->loop);
}

static void on_timer(void *ctx)
{
    struct ctl *ctl = ctx;
    ctl->rv = fetch(ctl, "GET", "/state");
    if (ctl->rv < 0)
        jr_loop_stop(ctl->loop);
}

/* ---------------------------------------------------------------- tail */

static void on_tail_head(void *ctx, const struct jr_http_reply *reply)
{
    struct ctl *ctl = ctx;
    ctl->status = reply->status;
}

static void on_tail_data(void *ctx, const void *p, size_t n)
{
    struct ctl *ctl = ctx;
    struct jr_buf b;
    jr_buf_put(&ctl->partial, p, n);
    if (ctl->status / 100 != 2 || ctl->rv < 0)
        return;
    jr_buf_init(&b, STATE_BYTES_MAX);
    const char *text = jr_buf_str(&ctl->partial), *end;
    size_t done = 0;
    while ((end = memchr(text + done, '\n', ctl->partial.n - done))) {
        size_t len = (size_t)(end - text) - done;
        if (len > 0)
            jr_ctl_view_line(ctl->json, text + done, len, &b);
        done += len + 1;
    }
    jr_buf_consume(&ctl->partial, done);
    bool go_on = b.n == 0 || print(ctl, &b);
    jr_buf_deinit(&b);
    if (ctl->partial.err != 0) {
        ctl->rv = jr_errmsg_set(ctl->e, JR_ELIMIT, "a line of %s is too long", ctl->url);
        go_on = false;
    }
    if (!go_on)
        jr_loop_stop(ctl->loop);
}

static void on_tail_end(void *ctx, int err)
{
    struct ctl *ctl = ctx;
    if (ctl->status != 0 && ctl->status / 100 != 2)
        ctl->rv = refused(ctl, ctl->status, jr_buf_str(&ctl->partial), ctl->partial.n);
    else if (err != 0 && ctl->status != 0)
        ctl->rv = jr_errmsg_set(ctl->e, JR_ECONN, "%.160s closed the connection", ctl->url);
    else if (err != 0)
        ctl->rv = not_reached(ctl, err);
    jr_loop_stop(ctl->loop);
}

/* ---------------------------------------------------------------- set-up */

static int find_action(const struct jr_config *cfg, const struct action **ret, struct jr_errmsg *e)
{
    uint32_t n;
    const char *const *args = jr_config_args(cfg, &n);
    if (n == 0)
        return jr_errmsg_set(e, JR_EUSAGE,
                             "an action is missing: live, ready, state, workers, replicas, "
                             "digest, snapshot, reset, drain, tail, skip");
    struct jr_str_nearest nearest = {.typed = args[0]};
    for (unsigned i = 0; i < ACTIONS; i++) {
        if (strcmp(args[0], actions[i].name) == 0) {
            *ret = &actions[i];
            return 0;
        }
        jr_str_nearer(&nearest, actions[i].name);
    }
    if (!nearest.name[0])
        return jr_errmsg_set(e, JR_EUSAGE, "unknown action '%.64s'", args[0]);
    return jr_errmsg_set(e, JR_EUSAGE, "unknown action '%.64s', the nearest is '%s'", args[0],
                         nearest.name);
}

/* The token as a header; none without its file. */
static int read_token(const struct jr_config *cfg, char *header, size_t cap, struct jr_errmsg *e)
{
    const char *path = jr_config_str(cfg, JR_CFG_ADMIN_TOKEN_FILE);
    header[0] = '\0';
    if (!path)
        return 0;
    char token[JR_TOKEN_MAX + 1];
    const int err = jr_token_file_read(path, token, e);
    if (err < 0)
        return err;
    (void)snprintf(header, cap, "Authorization: Bearer %s\r\n", token);
    return 0;
}

/* {"token": …} of a reset that has one, else an empty object. Owned by the caller (free). */
static char *body_of(const struct jr_config *cfg, const struct action *action)
{
    const char *token = jr_config_str(cfg, JR_CFG_RESET_TOKEN);
    json_t *root = json_object();
    if (token && strcmp(action->name, "reset") == 0)
        json_object_set_new(root, "token", json_string(token));
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

static int fetch(struct ctl *ctl, const char *method, const char *path)
{
    char url[JR_URL_MAX + 32];
    (void)snprintf(url, sizeof url, "%s%s", ctl->url, path);
    bool tail = strcmp(ctl->action->name, "tail") == 0, post = strcmp(method, "POST") == 0;
    struct jr_http_fetch fetch = {
        .url = url,
        .method = method,
        .content_type = post ? "application/json" : NULL,
        .extra_headers = ctl->header[0] ? ctl->header : NULL,
        .body = ctl->body,
        .n_body = post ? strlen(ctl->body) : 0,
        .first_byte_timeout_ms = ANSWER_TIMEOUT_MS,
        .total_timeout_ms = tail ? 0 : ANSWER_TIMEOUT_MS,
        .on_head = on_tail_head,
        .on_data = on_tail_data,
        .on_end = on_tail_end,
        .ctx = ctl,
    };
    struct jr_http_exchange *exchange;
    int rv = tail ? jr_http_client_fetch(ctl->client, &fetch, &exchange)
                  : jr_http_client_whole(ctl->client, &fetch, STATE_BYTES_MAX, on_answer, ctl);
    if (rv < 0)
        return jr_errmsg_set(ctl->e, rv, "--url: cannot use %.160s", ctl->url);
    return 0;
}

static int ask(struct ctl *ctl)
{
    if (ctl->phase == BEFORE)
        return fetch(ctl, "GET", "/state");
    return fetch(ctl, ctl->action->method, ctl->action->path);
}

static void on_closed(void *ctx)
{
    struct ctl *ctl = ctx;
    jr_loop_stop(ctl->loop);
}

int jr_ctl_main(const struct jr_config *cfg, struct jr_errmsg *e)
{
    struct jr_http_client_config http = {
        .connect_timeout_ms = CONNECT_TIMEOUT_MS, .idle_timeout_ms = 1000, .idle_per_host_max = 1};
    uint32_t n;
    struct ctl ctl = {.json = jr_config_bool(cfg, JR_CFG_JSON), .e = e};
    ctl.url = jr_config_list(cfg, JR_CFG_URL, &n)[0];
    int rv = find_action(cfg, &ctl.action, e);
    if (rv == 0 && strcmp(ctl.action->name, "skip") == 0)
        return jr_ctl_skip(cfg, e);
    if (rv == 0)
        rv = read_token(cfg, ctl.header, sizeof ctl.header, e);
    if (rv == 0)
        rv = jr_https_options(cfg, &http, e);
    if (rv < 0)
        return rv;
    ctl.body = body_of(cfg, ctl.action);
    jr_buf_init(&ctl.partial, LINE_BYTES_MAX);
    rv = jr_loop_create(&ctl.loop);
    if (rv < 0)
        goto err_buf;
    rv = jr_http_client_create(ctl.loop, &http, &ctl.client);
    if (rv < 0)
        goto err_loop;
    ctl.wait = jr_config_bool(cfg, JR_CFG_WAIT);
    if (strcmp(ctl.action->name, "snapshot") == 0)
        ctl.phase = BEFORE;
    ctl.timer = jr_timer_create(ctl.loop, on_timer, &ctl);
    rv = ask(&ctl);
    if (rv == 0) {
        jr_loop_run(ctl.loop);
        rv = ctl.rv;
    }
    jr_http_client_close(ctl.client, on_closed, &ctl);
    jr_loop_run(ctl.loop);
    jr_timer_destroy(ctl.timer);
err_loop:
    jr_loop_destroy(ctl.loop);
err_buf:
    jr_buf_deinit(&ctl.partial);
    free(ctl.body);
    return rv;
}
