/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in classes under random traffic against a naive model: who waits, who is refused with
 * which numbers, and the exact order in which the others go. */
#include "base/rng.h"
#include "core_pool.h"

#define WORKERS  3
#define CAPACITY 100
#define CLASSES  5 /* two families of two buckets, and one that is named */
#define BUCKET   40

struct req {
    bool waiting, prefilling;
    struct jr_route r;
    uint32_t class;
    double score;
    uint64_t worker;
};

static struct fix fx;
static struct {
    struct jr_policy_profile profile;
    struct jr_policy policy;
    struct req q[IDS];
    uint64_t next, tokens[WORKERS + 1];
    bool down[WORKERS + 1];
    /* deficit round robin, credited round by round */
    uint64_t deficit[CLASSES];
    uint32_t cursor;
    int carry;
} md;

/* ---------------------------------------------------------------- a policy */

static void make_class(struct jr_rng *rng, uint32_t i)
{
    struct jr_policy_class *c = &md.profile.classes[i];
    *c = (struct jr_policy_class){.is_explicit = i == 4,
                                  .family = i / 2,
                                  .bucket = i % 2,
                                  .queue_policy = (enum jr_queue_policy)jr_rng_below(rng, 2),
                                  .quantum = 1 + jr_rng_below(rng, 60)};
    if (c->is_explicit)
        c->family = c->bucket = 0;
    (void)snprintf(c->name, sizeof c->name, "class-%u", i);
    switch (jr_rng_below(rng, 4)) {
    case 0: /* nobody of this class waits */
        break;
    case 1:
        c->room = (struct jr_policy_room){.has_tokens = true, .tokens = jr_rng_below(rng, 80)};
        break;
    default:
        c->room = (struct jr_policy_room){.has_frac = true, .frac = 0.25 * jr_rng_below(rng, 5)};
    }
    for (int k = 0; k < 2; k++) {
        c->has_limit[k] = jr_rng_below(rng, 2);
        c->limit[k] = k ? jr_rng_below(rng, 200) : jr_rng_below(rng, 6);
    }
}

static void make_policy(struct jr_rng *rng)
{
    struct jr_policy_profile *p = &md.profile;
    struct jr_errmsg e;
    uint32_t at;
    p->n_families = p->n_buckets = 2;
    p->n_classes = CLASSES;
    p->default_family = jr_rng_below(rng, 2);
    (void)snprintf(p->families[0], JR_POLICY_NAME_MAX, "family-0");
    (void)snprintf(p->families[1], JR_POLICY_NAME_MAX, "family-1");
    p->buckets[0] = (struct jr_policy_bucket){.name = "short"};
    p->buckets[1] = (struct jr_policy_bucket){.name = "long", .min_tokens = BUCKET};
    for (uint32_t i = 0; i < CLASSES; i++)
        make_class(rng, i);
    assert_int_equal(jr_policy_check(p, &at, &e), 0);
    md.policy = (struct jr_policy){.n = 1, .profiles = p};
}

/* ---------------------------------------------------------------- the model */

static const struct jr_policy_class *class_of(const struct req *q)
{
    return &md.profile.classes[q->class];
}

static bool has_threshold(const struct req *q)
{
    return class_of(q)->room.has_tokens || class_of(q)->room.has_frac;
}

static bool may(const struct req *q, uint64_t w)
{
    return !md.down[w] && (!q->r.has_pin || q->r.pin_worker == w);
}

static void look(const struct req *q, uint32_t *eligible, uint32_t *room)
{
    const struct jr_policy_room *c = &class_of(q)->room;
    *eligible = *room = 0;
    for (uint64_t w = 1; w <= WORKERS; w++) {
        double tokens = (double)md.tokens[w];
        bool full =
            (c->has_tokens && tokens > c->tokens) || (c->has_frac && tokens > c->frac * CAPACITY);
        *eligible += may(q, w);
        *room += may(q, w) && !full;
    }
}

static bool same_lane(const struct req *a, const struct req *b)
{
    return a->class == b->class && a->r.has_pin == b->r.has_pin &&
           a->r.pin_worker == b->r.pin_worker;
}

static bool goes_first(const struct req *a, const struct req *b)
{
    if (a->r.strict_priority != b->r.strict_priority)
        return a->r.strict_priority > b->r.strict_priority;
    if (fabs(a->score - b->score) > 1e-12)
        return a->score > b->score;
    return a->r.id < b->r.id;
}

/* The first of a class that finds room, or NULL. */
static struct req *head_of(uint32_t class)
{
    struct req *best = NULL;
    for (uint64_t id = 1; id < md.next; id++) {
        struct req *q = &md.q[id];
        uint32_t eligible, room;
        if (!q->waiting || q->class != class)
            continue;
        look(q, &eligible, &room);
        if (room && (!best || goes_first(q, best)))
            best = q;
    }
    return best;
}

static uint64_t waiting_of(uint32_t class, bool in_tokens)
{
    uint64_t n = 0;
    for (uint64_t id = 1; id < md.next; id++)
        if (md.q[id].waiting && md.q[id].class == class)
            n += in_tokens ? md.q[id].r.tokens : 1;
    return n;
}

static bool pays(struct req *const *heads, uint32_t c)
{
    return heads[c] && md.deficit[c] >= heads[c]->r.tokens;
}

static int turn(struct req *const *heads)
{
    bool any = false;
    if (md.carry >= 0 && pays(heads, (uint32_t)md.carry))
        return md.carry;
    for (uint32_t i = 0; i < CLASSES; i++) {
        uint32_t c = (md.cursor + i) % CLASSES;
        any = any || heads[c];
        if (heads[c] && !pays(heads, c))
            md.deficit[c] += md.profile.classes[c].quantum;
        if (pays(heads, c))
            return (int)c;
    }
    while (any) {
        for (uint32_t c = 0; c < CLASSES; c++)
            md.deficit[c] += heads[c] ? md.profile.classes[c].quantum : 0;
        for (uint32_t i = 0; i < CLASSES; i++)
            if (pays(heads, (md.cursor + i) % CLASSES))
                return (int)((md.cursor + i) % CLASSES);
    }
    return -1;
}

/* Who goes next, or NULL. */
static struct req *next_to_go(void)
{
    struct req *heads[CLASSES];
    for (uint32_t c = 0; c < CLASSES; c++)
        heads[c] = head_of(c);
    int class = turn(heads);
    return class < 0 ? NULL : heads[class];
}

/* It waits no more; an empty class has no deficit. */
static void leave(struct req *q)
{
    bool waited = q->waiting;
    q->waiting = false;
    if (!waited || waiting_of(q->class, false))
        return;
    md.deficit[q->class] = 0;
    md.carry = md.carry == (int)q->class ? -1 : md.carry;
}

static void went(const struct req *q)
{
    uint32_t c = q->class;
    md.cursor = (c + 1) % CLASSES;
    md.deficit[c] -= waiting_of(c, false) ? q->r.tokens : 0; /* else it is 0 */
    md.carry = md.deficit[c] ? (int)c : -1;
}

/* ---------------------------------------------------------------- what the pool did */

static void book(struct req *q, const struct jr_decision *d)
{
    assert_true(may(q, d->worker_id));
    q->prefilling = true;
    q->worker = d->worker_id;
    md.tokens[q->worker] += q->r.tokens;
}

/* Of those that waited: each that went was the one whose turn it was; who is refused had nobody left. */
static void check_left(const struct jr_action *a)
{
    uint32_t eligible, room;
    if (a->type == JR_ACT_REJECT) {
        struct req *q = &md.q[a->u.reject.id];
        look(q, &eligible, &room);
        assert_true(q->waiting && eligible == 0 && !a->u.reject.limit.policy_class);
        leave(q);
        return;
    }
    struct req *q = next_to_go();
    assert_non_null(q);
    assert_int_equal(q->r.id, a->u.decide.id);
    assert_true(a->u.decide.waited);
    leave(q);
    went(q);
    book(q, &a->u.decide);
}

static void check_rest(uint32_t from)
{
    for (uint32_t i = from; i < fx.acts.n; i++)
        if (fx.acts.v[i].type == JR_ACT_DECIDE || fx.acts.v[i].type == JR_ACT_REJECT)
            check_left(&fx.acts.v[i]);
    uint64_t waiting = 0;
    for (uint64_t id = 1; id < md.next; id++) {
        uint32_t eligible, room;
        look(&md.q[id], &eligible, &room);
        assert_true(!md.q[id].waiting || (eligible > 0 && room == 0));
        waiting += md.q[id].waiting;
    }
    assert_int_equal(view(&fx).queue.waiting, waiting);
    struct jr_class_view v;
    for (uint32_t pos = 0; jr_pool_next_class(fx.pool, &pos, &v);) {
        uint32_t c = (uint32_t)(v.name[strlen("class-")] - '0');
        assert_int_equal(v.requests, waiting_of(c, false));
        assert_int_equal(v.isl_tokens, waiting_of(c, true));
        assert_string_equal(v.model, "m");
    }
}

static uint32_t n_up(void)
{
    uint32_t n = 0;
    for (uint64_t w = 1; w <= WORKERS; w++)
        n += !md.down[w];
    return n;
}

/* The limit that a new one of the class comes up against, or -1. */
static int limited(const struct jr_policy_class *c, uint32_t class)
{
    for (int k = 0; k < 2; k++)
        if (c->has_limit[k] && waiting_of(class, k == 1) >= c->limit[k] * n_up())
            return k;
    return -1;
}

static bool must_wait(const struct req *q)
{
    uint32_t eligible, room;
    look(q, &eligible, &room);
    bool behind = false;
    for (uint64_t id = 1; id < q->r.id; id++)
        behind = behind || (md.q[id].waiting && same_lane(&md.q[id], q));
    return has_threshold(q) && eligible && (behind || !room);
}

static void check_refused(const struct req *q, int kind, const struct jr_action *a)
{
    const struct jr_queue_refusal *l = &a->u.reject.limit;
    assert_int_equal(a->type, JR_ACT_REJECT);
    assert_int_equal(a->u.reject.err, JR_EBUSY);
    assert_string_equal(l->policy_class, class_of(q)->name);
    assert_int_equal(l->kind, kind);
    assert_int_equal(l->current, waiting_of(q->class, kind == 1));
    assert_int_equal(l->limit, class_of(q)->limit[kind] * n_up());
}

static void arrive(struct jr_rng *rng)
{
    static const char *const names[] = {"", "family-0", "family-1", "class-4", "class-0", "other"};
    struct req *q = &md.q[md.next];
    const char *name = names[jr_rng_below(rng, 6)];
    struct jr_route *r = &q->r;
    *q = (struct req){.r = {.id = md.next++,
                            .model = jr_pool_model_id("m"),
                            .tokens = 1 + jr_rng_below(rng, 80),
                            .strict_priority = jr_rng_below(rng, 5) == 0,
                            .policy_class = jr_policy_name_id(jr_str_of(name, strlen(name)))}};
    r->has_pin = jr_rng_below(rng, 4) == 0;
    r->pin_worker = r->has_pin ? 1 + jr_rng_below(rng, WORKERS) : 0;
    uint32_t family = name[0] == 'f' ? (uint32_t)(name[7] - '0') : md.profile.default_family;
    q->class = strcmp(name, "class-4") == 0 ? 4 : 2 * family + (r->tokens >= BUCKET);
    q->score =
        jr_queue_score(class_of(q)->queue_policy, 0, (double)(fx.now_ms + 1) / 1000, r->tokens);
    bool waits_now = must_wait(q);
    int kind = waits_now ? limited(class_of(q), q->class) : -1;
    struct jr_event ev = {.type = JR_EV_ROUTE, .u.route = *r};
    step(&fx, &ev);
    if (waits_now && kind < 0) {
        assert_int_equal(fx.acts.n, 0);
        q->waiting = true;
        check_rest(0);
        return;
    }
    assert_true(fx.acts.n > 0);
    const struct jr_action *a = &fx.acts.v[0];
    if (kind >= 0)
        check_refused(q, kind, a);
    else if (a->type == JR_ACT_DECIDE)
        book(q, &a->u.decide);
    check_rest(1);
}

static void end(uint64_t id, bool finish)
{
    struct req *q = &md.q[id];
    if (q->prefilling)
        md.tokens[q->worker] -= q->r.tokens;
    q->prefilling = false;
    if (finish)
        leave(q);
    request(&fx, finish ? JR_EV_FINISH : JR_EV_FIRST_TOKEN, id, 0);
    check_rest(0);
}

static void something(struct jr_rng *rng)
{
    uint32_t what = jr_rng_below(rng, 100);
    uint64_t recent = md.next > 60 ? md.next - 60 : 1;
    uint64_t id = recent + jr_rng_below(rng, (uint32_t)(md.next - recent) + 1);
    uint64_t w = 1 + jr_rng_below(rng, WORKERS);
    if (what < 55 || md.next == 1) {
        arrive(rng);
    } else if (what < 96) {
        if (id < md.next)
            end(id, what < 80);
    } else {
        md.down[w] = !md.down[w];
        probed(&fx, w, !md.down[w]);
        check_rest(0);
    }
}

static void run(uint64_t seed)
{
    struct jr_rng rng;
    jr_rng_init(&rng, seed, 1);
    memset(&md, 0, sizeof md);
    md.next = 1;
    md.carry = -1;
    make_policy(&rng);
    struct jr_pool_config c = base_config();
    c.policy = &md.policy;
    open_pool(&fx, &c);
    for (uint64_t w = 1; w <= WORKERS; w++)
        add_worker_of(&fx, "m", w, 1, CAPACITY, 0);
    for (int i = 0; i < 500; i++)
        something(&rng);
    for (uint64_t id = 1; id < md.next; id++)
        end(id, true);
    for (uint64_t w = 1; w <= WORKERS; w++)
        assert_int_equal(load_of(&fx, w, NULL), 0);
    close_pool(&fx);
}

static void test_model(void **state)
{
    (void)state;
    uint64_t seed = jr_test_seed(), seeds = jr_test_seeds(40);
    for (uint64_t i = 0; i < seeds; i++)
        run(seed + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
