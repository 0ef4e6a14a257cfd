/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/fleet.h"

#include "app/bridge/bridge.h"
#include "app/bridge/engine_spec.h"
#include "base/limit.h"
#include "base/log.h"
#include "io/lane.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS 1000

/* A file as it was last seen. */
struct entry {
    struct jr_bridge_fleet *fleet;
    char *name;
    char *text; /* NULL: to be taken anew */
    size_t n;
    bool there; /* in the last look */
    bool good;  /* spec is of a file that could be read, once */
    struct jr_engine_spec spec;
    struct jr_bridge *bridge; /* NULL: none runs */
    bool closing;
    bool told; /* why there is no bridge */
};

struct jr_bridge_fleet {
    struct jr_loop *loop;
    struct jr_bridge_hub *hub;
    char *dir;
    struct jr_lane *lane;
    struct jr_timer *timer;
    struct entry *entries[JR_BRIDGES_MAX];
    uint32_t n;
    bool looking, again, stopped;
    bool told; /* that the directory cannot be read */
};

/* ---------------------------------------------------------------- reading */

struct file {
    char *name, *text;
    size_t n;
};

struct look_job {
    struct jr_job job;
    struct jr_bridge_fleet *f;
    struct file *files;
    uint32_t n;
    bool full; /* there are more than JR_BRIDGES_MAX */
    int error; /* errno of the directory */
};

static bool is_engine(const char *name)
{
    size_t n = strlen(name);
    return name[0] != '.' && n > 5 && strcmp(name + n - 5, ".json") == 0;
}

/* One byte over the maximum is read, so that what is too long is seen as that. What cannot be read,
 * reads as empty. */
static void read_file(const char *dir, const char *name, struct file *ret)
{
    char *path = jr_xprintf("%s/%s", dir, name);
    FILE *in = fopen(path, "re");
    ret->name = jr_xstrdup(name);
    ret->text = jr_xalloc(JR_ENGINE_FILE_MAX + 1);
    ret->n = in ? fread(ret->text, 1, JR_ENGINE_FILE_MAX + 1, in) : 0;
    if (ret->n > JR_ENGINE_FILE_MAX)
        jr_limit_reached(JR_LIMIT_ENGINE_FILE);
    if (in)
        (void)fclose(in);
    jr_xfree(path);
}

static void run_look(struct jr_job *job)
{
    struct look_job *l = (struct look_job *)(void *)job;
    DIR *dir = opendir(l->f->dir);
    const struct dirent *at;
    l->error = dir ? 0 : errno;
    l->files = jr_xalloc(JR_BRIDGES_MAX * sizeof *l->files);
    while (dir && (at = readdir(dir))) {
        if (!is_engine(at->d_name))
            continue;
        l->full = l->n == JR_BRIDGES_MAX;
        if (l->full) {
            jr_limit_reached(JR_LIMIT_BRIDGES);
            break;
        }
        read_file(l->f->dir, at->d_name, &l->files[l->n++]);
    }
    if (dir)
        (void)closedir(dir);
}

static void free_look(struct look_job *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        jr_xfree(l->files[i].name);
        jr_xfree(l->files[i].text);
    }
    jr_xfree(l->files);
    jr_xfree(l);
}

/* ---------------------------------------------------------------- bridges */

static void free_entry(struct entry *en)
{
    jr_xfree(en->name);
    jr_xfree(en->text);
    jr_xfree(en);
}

static void remove_entry(struct jr_bridge_fleet *f, struct entry *en)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (f->entries[i] == en) {
            f->entries[i] = f->entries[--f->n];
            break;
        }
    free_entry(en);
}

/* Two files of one engine, or with one number, would take each other's lease. */
static const struct entry *clash(const struct entry *en)
{
    uint64_t id =
        en->spec.worker_id ? en->spec.worker_id : jr_bridge_derive_worker_id(en->spec.engine_url);
    struct jr_bridge_status s;
    for (uint32_t i = 0; i < en->fleet->n; i++) {
        const struct entry *other = en->fleet->entries[i];
        if (!other->bridge)
            continue;
        jr_bridge_status(other->bridge, &s);
        if (s.worker_id == id)
            return other;
    }
    return NULL;
}

static void tell(struct entry *en, const char *why)
{
    if (!en->told)
        jr_log(JR_LOG_ERROR, "bridge.engine_file", "file=%s/%s words=\"%s\"%s", en->fleet->dir,
               en->name, why, en->bridge ? " hint=\"the engine of before goes on\"" : "");
    en->told = true;
}

static void start(struct entry *en)
{
    const struct jr_engine_spec *s = &en->spec;
    struct jr_errmsg e = {0};
    struct jr_bridge_config config = {
        .engine_url = s->engine_url,
        .kv_endpoint = s->kv_endpoint,
        .replay_endpoint = s->replay_endpoint[0] ? s->replay_endpoint : NULL,
        .kv_bind = s->kv_bind,
        .worker_id = s->worker_id,
        .dp_rank = s->dp_rank,
        .dp_size = s->dp_size,
        .block_size = s->block_size,
        .max_num_seqs = s->max_num_seqs,
        .max_batched_tokens = s->max_batched_tokens,
        .plain_set = s->plain_set,
        .on_cpu = s->on_cpu,
    };
    const struct entry *other = clash(en);
    if (other && other->closing)
        return; /* renamed: when that has left */
    if (other)
        (void)jr_errmsg_set(&e, JR_EINVAL, "%.100s is of the same worker", other->name);
    else if (jr_bridge_create(en->fleet->hub, &config, &en->bridge, &e) < 0)
        en->bridge = NULL;
    if (!en->bridge) {
        tell(en, e.text);
        return;
    }
    en->told = false;
    jr_log(JR_LOG_INFO, "bridge.engine_added", "file=%s/%s url=%s", en->fleet->dir, en->name,
           s->engine_url);
}

static void on_closed(void *ctx)
{
    struct entry *en = ctx;
    en->bridge = NULL;
    en->closing = false;
    if (en->fleet->stopped)
        return;
    if (en->there)
        start(en);
    else
        remove_entry(en->fleet, en);
}

static void stop(struct entry *en)
{
    if (!en->bridge || en->closing)
        return;
    jr_log(JR_LOG_INFO, "bridge.engine_removed", "file=%s/%s url=%s", en->fleet->dir, en->name,
           en->spec.engine_url);
    en->closing = true;
    jr_bridge_close(en->bridge, on_closed, en);
}

/* ---------------------------------------------------------------- what a look found */

static struct entry *entry_of(struct jr_bridge_fleet *f, const char *name)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (strcmp(f->entries[i]->name, name) == 0)
            return f->entries[i];
    if (f->n == JR_BRIDGES_MAX)
        return NULL; /* some are still closing: the next look */
    struct entry *en = jr_xalloc(sizeof *en);
    en->fleet = f;
    en->name = jr_xstrdup(name);
    f->entries[f->n++] = en;
    return en;
}

static bool is_same(const struct entry *en, const struct file *file)
{
    return en->text && en->n == file->n && memcmp(en->text, file->text, file->n) == 0;
}

/* A file that was not there, or says something else now. */
static void take(struct entry *en, struct file *file)
{
    struct jr_engine_spec spec;
    struct jr_errmsg e = {0};
    jr_xfree(en->text);
    en->text = file->text;
    en->n = file->n;
    file->text = NULL;
    en->told = false;
    if (jr_engine_spec_parse(en->text, en->n, &spec, &e) < 0) {
        tell(en, e.text);
        return;
    }
    bool other = !en->good || !jr_engine_spec_equal(&spec, &en->spec);
    if (other)
        stop(en); /* by its old name */
    en->spec = spec;
    en->good = true;
}

/* Who did not see all files knows of none that is gone. */
static void take_files(struct jr_bridge_fleet *f, struct look_job *l)
{
    for (uint32_t i = 0; i < f->n; i++)
        f->entries[i]->there = f->entries[i]->there && l->full;
    for (uint32_t i = 0; i < l->n; i++) {
        struct entry *en = entry_of(f, l->files[i].name);
        if (!en)
            continue;
        en->there = true;
        if (!is_same(en, &l->files[i]))
            take(en, &l->files[i]);
    }
}

/* Leaving comes first: what comes may be of the same worker. */
static void settle(struct jr_bridge_fleet *f)
{
    for (uint32_t i = f->n; i-- > 0;) {
        struct entry *en = f->entries[i];
        if (en->there)
            continue;
        if (en->bridge)
            stop(en);
        else
            remove_entry(f, en);
    }
    for (uint32_t i = 0; i < f->n; i++)
        if (f->entries[i]->there && f->entries[i]->good && !f->entries[i]->bridge)
            start(f->entries[i]);
}

/* Who cannot read the directory knows of no engine that left. */
static void on_looked(struct jr_bridge_fleet *f, struct look_job *l)
{
    bool bad = l->error || l->full;
    if (bad && !f->told)
        jr_log(JR_LOG_ERROR, "bridge.engines_dir", "dir=%s words=\"%s\"", f->dir,
               l->full ? "too many files" : strerror(l->error));
    f->told = bad;
    if (l->error)
        return;
    take_files(f, l);
    settle(f);
}

static void look(void *ctx);

static void done_look(struct jr_job *job)
{
    struct look_job *l = (struct look_job *)(void *)job;
    struct jr_bridge_fleet *f = l->f;
    bool again = f->again;
    f->looking = f->again = false;
    if (!f->stopped && job->err == 0)
        on_looked(f, l);
    free_look(l);
    if (again && !f->stopped)
        look(f);
}

static void look(void *ctx)
{
    struct jr_bridge_fleet *f = ctx;
    if (f->looking)
        return;
    struct look_job *l = jr_xalloc(sizeof *l);
    *l = (struct look_job){.job = {.run = run_look, .done = done_look}, .f = f};
    f->looking = jr_lane_submit(f->lane, &l->job) == 0;
    if (!f->looking)
        free_look(l);
}

void jr_bridge_fleet_look(struct jr_bridge_fleet *f)
{
    if (f->stopped)
        return;
    for (uint32_t i = 0; i < f->n; i++) {
        jr_xfree(f->entries[i]->text);
        f->entries[i]->text = NULL;
    }
    f->again = f->looking;
    look(f);
}

/* ---------------------------------------------------------------- life */

int jr_bridge_fleet_create(struct jr_loop *loop, struct jr_bridge_hub *hub, const char *dir,
                           struct jr_bridge_fleet **ret, struct jr_errmsg *e)
{
    struct jr_bridge_fleet *f = jr_xalloc(sizeof *f);
    f->loop = loop;
    f->hub = hub;
    int err = jr_lane_create(loop, "jr-bridge-dir", 1, &f->lane);
    if (err < 0) {
        jr_xfree(f);
        return jr_errmsg_set(e, err, "--engines-dir: %s", jr_err_text(err));
    }
    f->dir = jr_xstrdup(dir);
    f->timer = jr_timer_create(loop, look, f);
    jr_timer_start(f->timer, 0, LOOK_MS);
    *ret = f;
    return 0;
}

void jr_bridge_fleet_stop(struct jr_bridge_fleet *f)
{
    f->stopped = true;
    jr_timer_stop(f->timer);
    jr_lane_destroy(f->lane);
    f->lane = NULL;
}

void jr_bridge_fleet_destroy(struct jr_bridge_fleet *f)
{
    if (!f)
        return;
    for (uint32_t i = 0; i < f->n; i++)
        free_entry(f->entries[i]);
    jr_timer_destroy(f->timer);
    jr_xfree(f->dir);
    jr_xfree(f);
}
