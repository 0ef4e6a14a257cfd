/* SPDX-License-Identifier: Apache-2.0 */
/* Seeds in processes of their own: one that fails ends its process, and leaves what it found in
 * memory that is shared with the parent. */
#include "sim_world.h"

#include "base/mem.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void add(struct sim_count *total, const struct sim_count *c)
{
    const uint64_t *from = (const uint64_t *)(const void *)c;
    uint64_t *to = (uint64_t *)(void *)total;
    for (size_t i = 0; i < sizeof *c / sizeof *to; i++)
        to[i] += from[i];
}

void sim_run(uint64_t seed, const struct sim_wish *wish, FILE *trace, struct sim_failure *failure,
             struct sim_count *total)
{
    struct sim_config c;
    sim_config_swarm(&c, seed, wish);
    struct sim *sim = sim_create(seed, &c);
    sim->trace = trace ? trace : sim->trace;
    sim->failure = failure;
    for (uint32_t i = 0; i < c.steps; i++)
        sim_step(sim);
    sim_heal(sim);
    if (total)
        add(total, &sim->n);
    sim_destroy(sim);
}

/* ---------------------------------------------------------------- many */

struct job {
    uint64_t next, end; /* of its seeds */
    struct sim_failure failure;
    struct sim_count count;
};

/* One before has failed: of those behind it nobody asks. */
static bool is_settled(const struct sim_batch *b, const struct job *jobs, uint64_t seed)
{
    for (uint32_t i = 0; i < b->jobs; i++)
        if (jobs[i].failure.text[0] && jobs[i].failure.seed < seed)
            return true;
    return false;
}

static void run_job(const struct sim_batch *b, struct job *jobs, struct job *j)
{
    for (; j->next < j->end && !is_settled(b, jobs, j->next); j->next += b->jobs)
        sim_run(j->next, &b->wish, NULL, &j->failure, &j->count);
    _exit(0);
}

static pid_t start(const struct sim_batch *b, struct job *jobs, struct job *j)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        run_job(b, jobs, j);
    return pid;
}

/* The end of a job's process: true when all its seeds held. */
static bool wait_for(pid_t pid, struct job *j, struct sim_failure *ret)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        status = -1;
    if (status == 0)
        return true;
    if (!j->failure.text[0]) { /* an assertion of the product, or a sanitizer */
        j->failure.seed = j->next;
        snprintf(j->failure.text, sizeof j->failure.text, "the process ended with status %x",
                 (unsigned)status);
    }
    if (!ret->text[0] || j->failure.seed < ret->seed)
        *ret = j->failure;
    return false;
}

bool sim_run_many(const struct sim_batch *b, struct sim_failure *ret, struct sim_count *total)
{
    size_t size = b->jobs * sizeof(struct job);
    struct job *jobs = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[64];
    *ret = (struct sim_failure){0};
    if (jobs == MAP_FAILED || b->jobs > 64) {
        snprintf(ret->text, sizeof ret->text, "no memory for %u jobs", b->jobs);
        return false;
    }
    for (uint32_t i = 0; i < b->jobs; i++)
        jobs[i] = (struct job){.next = b->first + i, .end = b->first + b->n};
    for (uint32_t i = 0; i < b->jobs; i++)
        pids[i] = start(b, jobs, &jobs[i]);
    for (uint32_t i = 0; i < b->jobs; i++) {
        (void)wait_for(pids[i], &jobs[i], ret);
        if (total)
            add(total, &jobs[i].count);
    }
    (void)munmap(jobs, size);
    return ret->text[0] == '\0';
}

uint64_t sim_force_for(enum jr_bug bug)
{
    switch (bug) {
    case JR_BUG_LEADER_NO_FENCE: /* a leader that is not one any more writes */
        return UINT64_C(1) << SIM_F_PAUSE | UINT64_C(1) << SIM_F_SNAPSHOT |
               UINT64_C(1) << SIM_F_SLOW;
    case JR_BUG_CONFIG_UNREAD: /* a leader that has not read what was said */
        return UINT64_C(1) << SIM_F_PAUSE | UINT64_C(1) << SIM_F_RESET | UINT64_C(1) << SIM_X_CAPS;
    case JR_BUG_LEAVES_UNHEARD:
        return UINT64_C(1) << SIM_F_LEAVE | UINT64_C(1) << SIM_X_EXTERNAL;
    default:
        return 0;
    }
}

/* ---------------------------------------------------------------- one that failed */

static bool fails(uint64_t seed, const struct sim_wish *wish, struct sim_failure *ret)
{
    struct sim_batch b = {.first = seed, .n = 1, .wish = *wish, .jobs = 1};
    return !sim_run_many(&b, ret, NULL);
}

/* By the same check: what else fails without a fault is another story. */
static bool is_same(const struct sim_failure *a, const struct sim_failure *b)
{
    const char *x = strrchr(a->text, '['), *y = strrchr(b->text, '[');
    return x && y && strcmp(x, y) == 0;
}

void sim_shrink(uint64_t seed, struct sim_wish *wish, struct sim_failure *ret)
{
    struct sim_config c;
    sim_config_swarm(&c, seed, wish);
    for (uint32_t f = 0; f < SIM_X_END; f++) {
        struct sim_failure other;
        struct sim_wish fewer = {wish->force, wish->without | UINT64_C(1) << f};
        if (!sim_config_has(&c, f)) {
            *wish = fewer;
        } else if (fails(seed, &fewer, &other) && is_same(&other, ret)) {
            *wish = fewer;
            *ret = other;
        }
    }
}

void sim_print_trace(uint64_t seed, const struct sim_wish *wish, uint32_t lines, FILE *out)
{
    char **tail = jr_xalloc(lines * sizeof *tail), *line = NULL;
    size_t cap = 0;
    uint64_t n = 0;
    FILE *trace = tmpfile();
    if (!trace)
        return;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct sim_failure f;
        sim_run(seed, wish, trace, &f, NULL);
        (void)fflush(trace);
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
    rewind(trace);
    while (getline(&line, &cap, trace) >= 0) {
        free(tail[n % lines]);
        tail[n++ % lines] = strdup(line);
    }
    free(line);
    (void)fclose(trace);
    for (uint64_t i = n > lines ? n - lines : 0; i < n; i++)
        (void)fputs(tail[i % lines], out);
    for (uint32_t i = 0; i < lines; i++)
        free(tail[i]);
    jr_xfree(tail);
}
