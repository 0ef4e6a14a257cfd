/* SPDX-License-Identifier: Apache-2.0 */
#include "base/failpoint.h"

#ifdef JR_FAILPOINTS
#include "base/cursor.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define POINTS_MAX   32
#define NAME_MAX_    64
#define SLEEP_MAX_MS UINT64_C(3600000)

enum action { CRASH, STOP, ERROR, SLEEP };

struct point {
    char name[NAME_MAX_];
    enum action action;
    bool counted; /* ERROR, STOP: `left` more times, else for ever */
    uint64_t left;
    unsigned sleep_ms; /* SLEEP */
};

struct table {
    struct point points[POINTS_MAX];
    unsigned n;
};

/* Test builds only, so a spin lock will do: points are hit from any thread. */
static atomic_flag lock = ATOMIC_FLAG_INIT;
static struct table active;
static _Atomic unsigned active_n; /* lets a hit pass without the lock while nothing is set */
static void (*_Atomic sleep_fn)(unsigned ms);

static void enter(void)
{
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire))
        ;
}

static void leave(void)
{
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

static struct point *find(struct table *t, const char *name, size_t n)
{
    for (unsigned i = 0; i < t->n; i++)
        if (strlen(t->points[i].name) == n && memcmp(t->points[i].name, name, n) == 0)
            return &t->points[i];
    return NULL;
}

static bool starts_with(const char *s, size_t n, const char *prefix)
{
    return n >= strlen(prefix) && memcmp(s, prefix, strlen(prefix)) == 0;
}

/* How often: nothing, which is for ever, or *N. */
static int parse_count(const char *s, size_t n, struct point *ret)
{
    if (n == 0)
        return 0;
    ret->counted = true;
    if (s[0] != '*' || jr_parse_u64(s + 1, n - 1, &ret->left) < 0 || ret->left == 0)
        return JR_EINVAL;
    return 0;
}

/* crash | stop | stop*N | error | error*N | sleep(MS) */
static int parse_action(const char *s, size_t n, struct point *ret)
{
    uint64_t v;

    if (n == 5 && starts_with(s, n, "crash")) {
        ret->action = CRASH;
        return 0;
    }
    if (starts_with(s, n, "error")) {
        ret->action = ERROR;
        return parse_count(s + 5, n - 5, ret);
    }
    if (starts_with(s, n, "stop")) {
        ret->action = STOP;
        return parse_count(s + 4, n - 4, ret);
    }
    if (starts_with(s, n, "sleep(") && s[n - 1] == ')') {
        ret->action = SLEEP;
        if (jr_parse_u64(s + 6, n - 7, &v) < 0 || v > SLEEP_MAX_MS)
            return JR_EINVAL;
        ret->sleep_ms = (unsigned)v;
        return 0;
    }
    return JR_EINVAL;
}

static int parse_point(const char *s, size_t n, struct table *t)
{
    const char *eq = memchr(s, '=', n);
    struct point made = {.name = "", .action = CRASH}, *place;
    size_t name_len;
    int rv;

    if (!eq || eq == s)
        return JR_EINVAL;
    name_len = (size_t)(eq - s);
    if (name_len >= sizeof made.name)
        return JR_EINVAL;
    memcpy(made.name, s, name_len);
    rv = parse_action(eq + 1, n - name_len - 1, &made);
    if (rv < 0)
        return rv;
    place = find(t, s, name_len);
    if (!place) {
        if (t->n == POINTS_MAX)
            return JR_EINVAL;
        place = &t->points[t->n++];
    }
    *place = made;
    return 0;
}

int jr_failpoint_set(const char *spec)
{
    struct table made;
    int rv = 0;

    enter();
    made = active;
    while (*spec && rv == 0) {
        size_t n = strcspn(spec, ";");
        if (n > 0)
            rv = parse_point(spec, n, &made);
        spec += n;
        if (*spec == ';')
            spec++;
    }
    if (rv == 0) {
        active = made;
        atomic_store(&active_n, made.n);
    }
    leave();
    return rv;
}

void jr_failpoint_clear(void)
{
    enter();
    active.n = 0;
    atomic_store(&active_n, 0);
    leave();
}

void jr_failpoint_set_sleep(void (*sleep_ms)(unsigned ms))
{
    atomic_store(&sleep_fn, sleep_ms);
}

int jr_failpoint_hit(const char *name)
{
    struct point found = {.name = "", .action = ERROR, .counted = true, .left = 0};
    struct point *p;
    void (*sleep_ms)(unsigned);

    if (atomic_load(&active_n) == 0)
        return 0;
    enter();
    p = find(&active, name, strlen(name));
    if (p) {
        found = *p;
        if (p->counted && p->left > 0)
            p->left--;
    }
    leave();

    if (found.counted && found.left == 0)
        return 0;
    switch (found.action) {
    case CRASH:
        (void)raise(SIGKILL); /* as the kernel's OOM killer would: no handler, no flush */
        return JR_EINTERNAL;
    case STOP:
        (void)raise(SIGSTOP); /* the whole process; goes on with SIGCONT */
        return 0;
    case ERROR:
        return JR_EIO;
    case SLEEP:
        sleep_ms = atomic_load(&sleep_fn);
        if (sleep_ms)
            sleep_ms(found.sleep_ms);
        return 0;
    }
    return 0;
}
#endif
