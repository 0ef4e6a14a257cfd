/* SPDX-License-Identifier: Apache-2.0 */
/* decide: all that a request asks of the pools, or tells them, whichever loop it is on. Pools, the
 * tokenizer and what is known of failing workers belong to the main loop. A request there calls them
 * within these functions; one on another loop has a ticket, and sends messages by it:
 *
 *     its loop                               main loop
 *     place, route, tokens ── order ──►      asks the pool, the tokenizer
 *              ◄── answer ──────────────     worker, ids, or why not
 *     first_token, output, note ─────►      tells
 *     finish ────────────────────────►      the booking ends
 *     leave ─────────────────────────►      the booking ends, nobody waits; the ticket goes
 *              ◄── closed ──────────────     back, behind whatever was under way to it: freed
 *
 * So a client that goes away at any moment leaves no booking: leave comes after its order, and the
 * answer finds nobody. A request has one order that is answered at a time, progress that has not
 * been read is one message however much of it there is, and a loop has a bounded number of tickets
 * (JR_FRONT_TICKETS_MAX): so the mailboxes are bounded. A request's own loop only. */
#ifndef JR_APP_FRONTEND_DECIDE_H
#define JR_APP_FRONTEND_DECIDE_H

#include "core/pool.h"

struct jr_access_decision;
struct jr_front_loop;
struct jr_openai_request;
struct jr_proxied;
struct jr_ticket;

/* What of a pool a request is read by. */
struct jr_place {
    uint32_t pool;         /* its place among the drivers */
    const char *component; /* its; lives as long as the process */
    uint32_t block_size;   /* as last heard of */
    bool named;            /* some worker says that it serves the model */
};

#define JR_FRONT_PLACES 64 /* models whose pool a loop remembers */

/* A loop's memory of where models are; the main loop checks it with each request. Zero-initialised:
 * empty. */
struct jr_places {
    struct {
        char model[JR_MODEL_MAX];
        struct jr_place place;
    } v[JR_FRONT_PLACES];
    uint32_t n, next;
};

enum jr_placed {
    JR_PLACED,
    JR_PLACED_UNKNOWN,   /* nobody serves this model, but others */
    JR_PLACED_NO_WORKER, /* there is none at all */
    JR_PLACED_LATER,     /* jr_proxy_again or jr_proxy_not_placed will be called */
    JR_PLACED_NO_ROOM,   /* too many requests under way */
};
/* The pool of x->model: x->place. */
enum jr_placed jr_decide_place(struct jr_proxied *x);
uint32_t jr_decide_block_size(const struct jr_proxied *x);

/* What a decision came to; all borrowed for the call but the record, which is taken. */
struct jr_decided {
    const struct jr_decision *d; /* NULL: refused */
    int err;
    const char *why;
    const struct jr_queue_refusal *limit; /* refused by it; NULL: by none */
    struct jr_access_decision *record;    /* owned; NULL: none was wanted */
};
/* Asks for a worker: jr_proxy_decided is called once, perhaps within, unless x leaves before.
 * JR_E…: it will not be called. */
JR_MUST_CHECK int jr_decide_route(struct jr_proxied *x);
/* The booking has the prompt's hashes, too: once it is decided, those of a long prompt may be kept there
 * alone, and are had back before the booking ends. */
void jr_decide_lend_prefix(struct jr_proxied *x);
void jr_decide_regain_prefix(struct jr_proxied *x);
void jr_decide_first_token(struct jr_proxied *x);
void jr_decide_output(struct jr_proxied *x, uint32_t output_tokens);
void jr_decide_finish(struct jr_proxied *x); /* of x->id, which is 0 afterwards */

/* What became of the request at its worker: core/outlier.h. */
enum jr_note { JR_NOTE_SENT, JR_NOTE_FAILED, JR_NOTE_ANSWERED, JR_NOTE_WELL, JR_NOTE_UNKNOWN };
void jr_decide_note(struct jr_proxied *x, enum jr_note note, const char *why); /* why: static */

/* Ids of a text or chat, for a loop that has no tokenizer. */
struct jr_decide_tokens {
    int err;
    const uint32_t *ids;
    uint32_t n;
    bool exact;
    uint32_t n_whole;
    const uint64_t *prefix; /* hashes of them; NULL: not at hand */
    uint32_t n_prefix;
};
bool jr_decide_is_remote(const struct jr_proxied *x);
/* Remote: jr_proxy_tokenized will be called. */
void jr_decide_ask_tokens(struct jr_proxied *x, bool exact, uint32_t time_left_ms);

/* x is being freed. */
void jr_decide_leave(struct jr_proxied *x);

#endif
