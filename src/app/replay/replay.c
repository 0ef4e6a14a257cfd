/* SPDX-License-Identifier: Apache-2.0 */
#include "app/replay/replay.h"
#include "app/replay/report.h"
#include "app/replay/run.h"
#include "app/replay/trace.h"
#include "base/mem.h"
#include "base/str.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REPORT_BYTES_MAX ((size_t)16 << 20)

enum { EXIT_WRONG_ANSWERS = 1, EXIT_INTERRUPTED = 130 };

struct replay {
    const struct jr_config *cfg;
    struct jr_errmsg *e;
    struct jr_trace trace;
    struct jr_report reports[2]; /* A, B */
    uint32_t n;
    bool interrupted;
};

/* ---------------------------------------------------------------- files */

static int read_file(const char *path, size_t max, struct jr_buf *b, struct jr_errmsg *e)
{
    char piece[16384];
    size_t n;
    FILE *f = fopen(path, "r");
    if (!f)
        return jr_errmsg_set(e, errno == ENOENT ? JR_ENOTFOUND : JR_EIO, "cannot read %.160s: %s",
                             path, strerror(errno));
    jr_buf_init(b, max);
    while ((n = fread(piece, 1, sizeof piece, f)) > 0 && b->err == 0)
        jr_buf_put(b, piece, n);
    int why = ferror(f) ? errno : 0;
    (void)fclose(f);
    if (why == 0 && b->err == 0)
        return 0;
    int rv = why ? jr_errmsg_set(e, JR_EIO, "cannot read %.160s: %s", path, strerror(why))
                 : jr_errmsg_set(e, b->err, "%.160s is too large", path);
    jr_buf_deinit(b);
    return rv;
}

static int load_trace(struct replay *r)
{
    const char *path = jr_config_str(r->cfg, JR_CFG_TRACE);
    struct jr_buf text;
    if (!path)
        return jr_errmsg_set(r->e, JR_EUSAGE, "--trace is required");
    int rv = read_file(path, JR_TRACE_BYTES_MAX, &text, r->e);
    if (rv < 0)
        return rv;
    rv = jr_trace_parse(jr_buf_str(&text), text.n, jr_config_u64(r->cfg, JR_CFG_LIMIT), &r->trace,
                        r->e);
    jr_buf_deinit(&text);
    if (rv == 0 && r->trace.n == 0)
        rv = jr_errmsg_set(r->e, JR_EINVAL, "there is no request in it");
    return rv < 0 ? jr_errmsg_wrap(r->e, rv, "%.120s", path) : 0;
}

/* The label of a run that has none: its file's name without folder and ending. */
static void label_by_file(struct jr_report *report, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (report->label[0] != '\0')
        return;
    (void)jr_str_copy(report->label, sizeof report->label, slash ? slash + 1 : path);
    char *dot = strrchr(report->label, '.');
    if (dot && dot != report->label)
        *dot = '\0';
}

static int load_report(struct replay *r, const char *path)
{
    struct jr_buf text;
    struct jr_report *report = &r->reports[r->n];
    int rv = read_file(path, REPORT_BYTES_MAX, &text, r->e);
    if (rv < 0)
        return jr_errmsg_wrap(r->e, rv, "--compare");
    rv = jr_report_parse(jr_buf_str(&text), text.n, report, r->e);
    jr_buf_deinit(&text);
    if (rv < 0)
        return jr_errmsg_wrap(r->e, rv, "--compare %.120s", path);
    label_by_file(report, path);
    r->n++;
    return 0;
}

/* ---------------------------------------------------------------- runs */

static int run(struct replay *r, const char *url, const char *label)
{
    struct jr_report *report = &r->reports[r->n];
    struct jr_replay_plan plan = {.trace = &r->trace,
                                  .cfg = r->cfg,
                                  .url = url,
                                  .model = jr_config_str(r->cfg, JR_CFG_REPLAY_MODEL),
                                  .speed = jr_config_f64(r->cfg, JR_CFG_SPEED),
                                  .progress = isatty(STDERR_FILENO) == 1};
    (void)jr_str_copy(report->label, sizeof report->label, label);
    (void)jr_str_copy(report->trace, sizeof report->trace, jr_config_str(r->cfg, JR_CFG_TRACE));
    int rv = jr_replay_run(&plan, report, r->e);
    if (rv < 0 && rv != JR_ECANCELED)
        return rv;
    r->interrupted = rv == JR_ECANCELED;
    r->n++;
    return 0;
}

static int run_all(struct replay *r)
{
    uint32_t n_urls, n_labels;
    const char *const *urls = jr_config_list(r->cfg, JR_CFG_URL, &n_urls);
    const char *const *labels = jr_config_list(r->cfg, JR_CFG_LABEL, &n_labels);
    int rv = r->n + n_urls > 2
                 ? jr_errmsg_set(r->e, JR_EUSAGE,
                                 "at most two runs are compared: --url and --compare, or two --url")
                 : load_trace(r);
    for (uint32_t i = 0; i < n_urls && rv == 0 && !r->interrupted; i++)
        rv = run(r, urls[i], i < n_labels ? labels[i] : "");
    return rv;
}

/* ---------------------------------------------------------------- output */

static void render(const struct replay *r, struct jr_buf *b)
{
    if (jr_config_bool(r->cfg, JR_CFG_JSON)) {
        jr_buf_puts(b, r->n == 2 ? "{\"a\":" : "");
        jr_report_json(&r->reports[0], b);
        if (r->n == 2) {
            jr_buf_puts(b, ",\"b\":");
            jr_report_json(&r->reports[1], b);
            jr_buf_puts(b, "}");
        }
        jr_buf_puts(b, "\n");
    } else if (r->n == 2) {
        jr_report_table(&r->reports[0], &r->reports[1], b);
    } else {
        jr_report_text(&r->reports[0], b);
    }
}

static int print(struct replay *r)
{
    struct jr_buf b;
    jr_buf_init(&b, REPORT_BYTES_MAX);
    render(r, &b);
    int rv = b.err;
    if (rv == 0 && (fwrite(jr_buf_str(&b), 1, b.n, stdout) != b.n || fflush(stdout) != 0))
        rv = jr_errmsg_set(r->e, JR_EIO, "cannot write to stdout: %s", strerror(errno));
    jr_buf_deinit(&b);
    return rv;
}

/* Errors of a comparison are told too: its table has only their number. */
static void tell_errors(const struct replay *r)
{
    for (uint32_t i = 0; i < r->n && r->n == 2; i++)
        for (uint32_t k = 0; k < r->reports[i].n_reasons; k++)
            (void)fprintf(stderr, "jetrouter replay: %s: %llu x %s\n", i ? "B" : "A",
                          (unsigned long long)r->reports[i].reasons[k].n,
                          r->reports[i].reasons[k].text);
}

int jr_replay_main(const struct jr_config *cfg, struct jr_errmsg *e)
{
    struct replay r = {.cfg = cfg, .e = e};
    uint32_t n;
    const char *const *compare = jr_config_list(cfg, JR_CFG_COMPARE, &n);
    int rv = 0;
    if (n > 2)
        rv = jr_errmsg_set(e, JR_EUSAGE, "--compare: at most two runs are compared");
    for (uint32_t i = 0; i < n && rv == 0; i++)
        rv = load_report(&r, compare[i]);
    if (rv == 0 && n < 2)
        rv = run_all(&r);
    if (rv == 0)
        rv = print(&r);
    if (rv == 0) {
        tell_errors(&r);
        rv = r.interrupted                                   ? EXIT_INTERRUPTED
             : r.reports[0].errors + r.reports[1].errors > 0 ? EXIT_WRONG_ANSWERS
                                                             : 0;
    }
    for (uint32_t i = 0; i < 2; i++)
        jr_report_deinit(&r.reports[i]);
    jr_trace_deinit(&r.trace);
    return rv;
}
