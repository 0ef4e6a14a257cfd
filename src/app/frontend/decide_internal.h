/* SPDX-License-Identifier: Apache-2.0 */
/* decide_internal: tickets and their messages, between decide.c (the loops' side) and decide_main.c
 * (the main loop's). */
#ifndef JR_APP_FRONTEND_DECIDE_INTERNAL_H
#define JR_APP_FRONTEND_DECIDE_INTERNAL_H

#include "app/frontend/access_log.h"
#include "app/frontend/proxy_internal.h"

struct jr_ticket {
    struct jr_front_loop *l;
    struct jr_proxied *x; /* its loop's; NULL: it has left */
    /* Written by its loop, read by the main loop when the message arrives. */
    struct jr_msg progress;
    atomic_bool progress_out, first_token;
    atomic_uint output, ttft_us;
    struct jr_msg leave, closed; /* each is sent once */
    /* The main loop's. */
    struct jr_driver *driver;
    uint32_t pool;
    uint64_t id; /* of the booking; 0: none */
    uint64_t worker_id;
    uint32_t dp_rank, tokens; /* of the prompt */
    bool query_only, left_out;
    struct jr_token_waiter waiter;
};

/* What a pool is asked, on the main loop. */
struct jr_decide_question {
    uint32_t pool;
    const char *model;
    const uint64_t *exclude;
    uint32_t n_exclude;
    uint64_t hash_ns; /* that its hashes took; 0: they were known */
    bool with_aside;
    struct jr_route route;
};
/* As jr_driver_route; *ret_id and *ret_left_out are set before fn is called. A route without an id gets
 * a fresh one. */
JR_MUST_CHECK int jr_decide_ask(struct jr_frontend *f, struct jr_decide_question *q,
                                uint64_t *ret_id, bool *ret_left_out, jr_driver_decided_fn *fn,
                                void *ctx);

/* The pool that serves the model now. Main loop. */
enum jr_placed jr_decide_find(struct jr_frontend *f, const char *model, struct jr_place *ret);
/* What the access log wants to know of a decision; returns owned, or NULL: nothing. Main loop. */
struct jr_access_decision *jr_decide_record(struct jr_frontend *f, uint32_t pool,
                                            const struct jr_decision *d, bool query_only);

/* Orders: to the main loop, which takes them. */
struct jr_order_place {
    struct jr_msg msg;
    struct jr_ticket *t;
    char model[JR_MODEL_MAX];
};
struct jr_order_route {
    struct jr_msg msg;
    struct jr_ticket *t;
    struct jr_decide_question q; /* its pointers: into what follows */
    bool check;                  /* whether the model's place is still that */
    bool named;                  /* what its place said */
    uint32_t block_size;
    char model[JR_MODEL_MAX];
    uint64_t exclude[JR_PROXY_EXCLUDE_MAX];
    uint64_t prefix[];
};
struct jr_order_tokens {
    struct jr_msg msg;
    struct jr_ticket *t;
    enum jr_openai_kind kind;
    uint32_t pool;
    bool exact;
    uint32_t time_left_ms;
    char model[JR_MODEL_MAX];
    size_t n;
    uint8_t body[];
};
struct jr_order_note {
    struct jr_msg msg;
    struct jr_front_loop *l;
    enum jr_note note;
    uint32_t pool;
    uint64_t worker_id;
    const char *why;
};
struct jr_order_finish {
    struct jr_msg msg;
    struct jr_ticket *t;
    double itl_s; /* between its last tokens; 0: not known */
};
void jr_decide_on_place(struct jr_msg *msg);
void jr_decide_on_route(struct jr_msg *msg);
void jr_decide_on_tokens(struct jr_msg *msg);
void jr_decide_on_note(struct jr_msg *msg);
void jr_decide_on_progress(struct jr_msg *msg);
void jr_decide_on_finish(struct jr_msg *msg);
void jr_decide_on_leave(struct jr_msg *msg);

/* Answers: to the ticket's loop, which takes them. */
struct jr_answer_place {
    struct jr_msg msg;
    struct jr_ticket *t;
    enum jr_placed placed;
    struct jr_place place;
    char model[JR_MODEL_MAX];
};
struct jr_answer_route {
    struct jr_msg msg;
    struct jr_ticket *t;
    bool refused;
    struct jr_decision d;
    int err;
    struct jr_queue_refusal limit;
    bool left_out;
    struct jr_access_decision *record;
    char url[JR_URL_MAX];
    char model[JR_MODEL_MAX];
    char why[256];
};
struct jr_answer_tokens {
    struct jr_msg msg;
    struct jr_ticket *t;
    struct jr_decide_tokens a; /* its pointers: owned */
};
void jr_decide_placed(struct jr_msg *msg);
void jr_decide_routed(struct jr_msg *msg);
void jr_decide_tokenized(struct jr_msg *msg);
void jr_decide_closed(struct jr_msg *msg);

#endif
