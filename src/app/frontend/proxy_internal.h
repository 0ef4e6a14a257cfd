/* SPDX-License-Identifier: Apache-2.0 */
/* proxy_internal: one request under way, shared by proxy.c (its life: understood, routed, ended),
 * proxy_tokens.c (the prompt's tokens and hashes), proxy_headers.c (heads, either way),
 * proxy_extra.c (what an answer has beside the worker's words), proxy_hold.c (cache_control), proxy_refused.c (answers that another
 * worker may better), proxy_relay.c (to the worker, and the answer back), proxy_log.c (what the access
 * log is told) and proxy_spans.c (what OpenTelemetry is told). Loop thread only.
 *
 *   TOKENIZE ──ids──► ROUTE ──worker──► UPSTREAM ──head──► RELAY ──end──► (freed)
 *      │ none            │ refused         │ failed           │ failed
 *      └──► ROUTE        └──► error        ├──► ROUTE again   ├──► ROUTE again, for the rest
 *                                          └──► error         └──► SSE error, connection cut
 *                                                             (worker left out, up to the limit)
 *
 * The client going away ends it from any state: the upstream is cancelled at once, the booking
 * freed. One that only asks where it would go is answered in ROUTE. */
#ifndef JR_APP_FRONTEND_PROXY_INTERNAL_H
#define JR_APP_FRONTEND_PROXY_INTERNAL_H

#include "app/frontend/pools.h"

#include "base/sm.h"
#include "core/hash.h"
#include "wire/openai_reply.h"
#include "wire/sse.h"

enum jr_proxy_state {
    JR_PROXY_START,
    JR_PROXY_TOKENIZE,
    JR_PROXY_ROUTE,
    JR_PROXY_UPSTREAM,
    JR_PROXY_RELAY,
    JR_PROXY_STATES,
};

struct jr_proxied {
    struct jr_list node;
    struct jr_front_loop *l;
    struct jr_frontend *f; /* of l */
    struct jr_http_request *req;
    struct jr_sm sm;
    bool placed;
    struct jr_place place;            /* its pool, once it is placed */
    struct jr_model_metrics *counted; /* borrows: of its model, or of none until it is placed */
    struct jr_ticket *ticket;         /* on a loop other than the main one */
    unsigned tries;                   /* that it was read anew, because its place had changed */
    enum jr_openai_kind kind;
    bool passed;                            /* of another /v1 path: relayed, not read */
    const struct jr_proxy_dialect *dialect; /* of the client; NULL: the workers' own */
    void *spoken;                           /* owned: the dialect's */
    bool stream, query_only;
    bool explain; /* the client asks which worker answers */
    char model[JR_MODEL_MAX];
    struct jr_str request_id; /* of the request's head, or own_id */
    char own_id[36];
    uint64_t started_ns, sent_ns, first_token_ns;
    uint64_t token_ns; /* when the last tokens came; 0: none yet */
    double itl_s;      /* time between tokens then; 0: not known */
    uint64_t hash_ns;  /* that hashing the prompt took; 0: its hashes were known, or it is told */
    int64_t began_unix_ns;
    char client[JR_HTTP_CLIENT_MAX]; /* "" without an access log */

    char *lora, *cache_salt;    /* owned; kept while a tokenizer is waited for */
    struct jr_openai_span text; /* of the body; should no tokenizer answer */
    struct jr_openai_span
        splice;         /* of the body: where ids take the text's place; n == 0: nowhere */
    double first_share; /* of the first prompt's tokens in those of all prompts */
    struct jr_token_waiter waiter;
    uint32_t *query_ids; /* owned; of the whole first prompt, when the client asks for them alone */
    uint32_t n_query_ids;
    bool by_text;      /* prefix is of runs of the text's bytes */
    uint32_t n_tokens; /* of all prompts */
    bool input_due;    /* they are known, and not counted yet */
    uint64_t *prefix;  /* owned; NULL beside n_prefix: lent to its booking */
    uint32_t n_prefix;
    uint64_t session; /* 0: of none */
    bool has_pin, has_pin_rank;
    uint64_t pin;
    uint32_t pin_rank;
    double priority_jump_s;
    uint32_t strict_priority, expected_output_tokens;
    uint64_t policy_class;                /* that it names; 0: none */
    const struct jr_queue_refusal *limit; /* while it is refused for one */
    struct jr_route_override override;    /* of a dialect */

    uint64_t id; /* of the booking; 0: none */
    uint64_t worker_id;
    uint32_t dp_rank, overlap_blocks;
    uint64_t exclude[JR_PROXY_EXCLUDE_MAX];
    uint32_t n_exclude, attempts;
    bool left_out;                     /* somebody who is put aside */
    bool with_aside;                   /* nobody else would take it */
    struct jr_http_exchange *exchange; /* with the worker */
    struct jr_str asked;               /* the body that was read: the request's, or alias_body */
    struct jr_str body;                /* that a worker gets: asked, or own_body */
    struct jr_buf alias_body;          /* owned; with the model that an alias stands for */
    struct jr_buf own_body;            /* owned; when something else of it was changed */

    struct jr_access_decision *decision; /* owned; NULL: no slow-request log */
    struct jr_proxy_spans *spans;        /* owned; NULL: tracing is off */

    int status; /* of the answer; 0: none yet */
    uint64_t bytes_out;
    bool is_sse;
    bool opaque; /* the answer is compressed: relayed, not read */
    struct jr_sse sse;
    bool sse_broken;
    uint8_t last[2]; /* bytes relayed */
    struct jr_buf kept;
    struct jr_openai_progress progress;
    uint32_t output_told;
    struct jr_proxy_hold *hold; /* owned; its worker is to keep the prompt; or NULL */
    struct jr_proxy_extra
        *extra; /* owned; what the answer has beside the worker's words; or NULL */
    struct jr_proxy_refused
        *refused;                   /* owned; a worker's "not I", while another is asked; or NULL */
    bool may_resume;                /* should its worker die within the stream */
    bool may_resume_ids;            /* the same once ids have taken the text's place */
    struct jr_proxy_resume *resume; /* owned; NULL until the stream has named an id */
};

/* How clients of a path speak whose requests become completions, and whose answers are made of the
 * workers' streams. */
struct jr_proxy_dialect {
    const char *endpoint;    /* of the metrics */
    const char *worker_path; /* that the workers are asked at */
    /* The request is to be read anew: takes it. */
    void (*again)(struct jr_front_loop *l, struct jr_http_request *req);
    /* A worker was chosen, and is asked next: the last word about x->body. */
    void (*decided)(struct jr_proxied *x, const struct jr_decision *d);
    /* The answer to a request that only asks where it would go. Appends. */
    void (*query)(struct jr_proxied *x, const struct jr_decision *d, struct jr_buf *b);
    /* A piece of a stream of the worker's, and its end: as jr_http_respond_write. */
    int (*write)(struct jr_proxied *x, const void *p, size_t n);
    void (*end)(struct jr_proxied *x);
    /* The last event of a stream that is cut. Appends. */
    void (*cut)(struct jr_proxied *x, enum jr_error error, const char *message, struct jr_buf *b);
    void (*free)(struct jr_proxied *x); /* of x->spoken */
};

/* proxy.c */
/* A request that was read as r: with a pool, or NULL and it was answered. own (taken) is the body for
 * the workers; empty: the request's. dialect: NULL for the workers' own. */
struct jr_proxied *jr_proxy_begin(struct jr_front_loop *l, struct jr_http_request *req,
                                  const struct jr_openai_request *r, struct jr_buf *own,
                                  bool passed, const struct jr_proxy_dialect *dialect);
/* The body could not be read. Takes the request. */
void jr_proxy_refuse(struct jr_front_loop *l, struct jr_http_request *req, enum jr_openai_kind kind,
                     int err, const struct jr_openai_error *bad);
void jr_proxy_route(struct jr_proxied *x);
/* Answers to what decide.h asked. Each takes x. */
void jr_proxy_decided(struct jr_proxied *x, const struct jr_decided *decided);
void jr_proxy_not_placed(struct jr_proxied *x, enum jr_placed placed);
/* Its place is known now, or another one: it is read anew. */
void jr_proxy_again(struct jr_proxied *x);
void jr_proxy_free(struct jr_proxied *x);
/* In the metrics: status "success" or "error", and of which type. */
void jr_proxy_count_end(struct jr_proxied *x, const char *status, const char *error_type);
/* An error of ours: the answer, or the last event of what was relayed so far. message: NULL for the
 * table's. Takes x. */
void jr_proxy_end_error(struct jr_proxied *x, enum jr_error error, const char *message);

/* Of the metrics and the access log. */
const char *jr_proxy_endpoint(const struct jr_proxied *x);

/* proxy_pass.c */
const char *jr_proxy_passed_endpoint(struct jr_str path);

/* proxy_log.c: the access log, when there is one */
void jr_proxy_log_begin(struct jr_proxied *x);
/* Takes the record. */
void jr_proxy_log_decided(struct jr_proxied *x, struct jr_access_decision *record);
void jr_proxy_log_end(struct jr_proxied *x, const char *error_type);
/* A body that could not be read. */
void jr_proxy_log_refused(struct jr_front_loop *l, const struct jr_http_request *req,
                          enum jr_openai_kind kind, int status);

/* proxy_tokens.c */
/* The ids of the whole prompt are in l->tokens: hashes them. */
void jr_proxy_take_tokens(struct jr_proxied *x, const struct jr_hash_salt *salt);
/* Answer to what decide.h asked. Takes x. */
void jr_proxy_tokenized(struct jr_proxied *x, const struct jr_decide_tokens *a);
/* The prompt's ids, of the body, known or asked of a worker; then routes. l->tokens holds what the
 * body told. */
void jr_proxy_tokenize(struct jr_proxied *x, const struct jr_openai_request *r);

/* proxy_headers.c */
/* The request's id, and what the client wants told. user: of the body, or n == 0. */
void jr_proxy_read_headers(struct jr_proxied *x, struct jr_str user);
/* Lines of the head for the worker, of the answer's head for the client, and of an answer of ours.
 * They live until the next call of any of the three; NULL: too long. */
const char *jr_proxy_request_lines(struct jr_proxied *x);
const char *jr_proxy_reply_lines(struct jr_proxied *x, const struct jr_http_reply *reply);
const char *jr_proxy_own_lines(struct jr_proxied *x);

/* proxy_extra.c: x->extra is NULL unless the request asks for something */
void jr_proxy_extra_read(struct jr_proxied *x, const struct jr_openai_request *r);
void jr_proxy_extra_free(struct jr_proxied *x);
bool jr_proxy_extra_wants_ids(const struct jr_proxied *x);
void jr_proxy_extra_ids(struct jr_proxied *x, const uint32_t *ids, uint32_t n);
/* Whether an answer of this status and kind gets longer on its way. */
bool jr_proxy_extra_applies(struct jr_proxied *x);
/* After its head; each of its pieces; before its end, when it is whole. As jr_http_respond_write. */
JR_MUST_CHECK int jr_proxy_extra_begin(struct jr_proxied *x);
JR_MUST_CHECK int jr_proxy_extra_write(struct jr_proxied *x, const void *p, size_t n);
void jr_proxy_extra_end(struct jr_proxied *x);

/* proxy_hold.c: x->hold is NULL unless the request has cache_control, and that is heeded */
void jr_proxy_hold_read(struct jr_proxied *x, const struct jr_openai_request *r);
void jr_proxy_hold_free(struct jr_proxied *x);
/* The prompt's ids, all of them. */
void jr_proxy_hold_ids(struct jr_proxied *x, const uint32_t *ids, uint32_t n);
/* It goes to that worker. */
void jr_proxy_hold_sent(struct jr_proxied *x, const char *worker_url);
/* It was answered: asks the worker, and waits for nothing. */
void jr_proxy_hold_ask(struct jr_proxied *x);
/* The loop ends, its client is closed. */
void jr_proxy_holds_drop(struct jr_front_loop *l);

/* proxy_resume.c */
/* An event of the answer passed by, and is taken into account in x->progress. JR_E… only in a later
 * part, which is written from here: it cannot be gone on with. */
JR_MUST_CHECK int jr_proxy_resume_event(struct jr_proxied *x, const struct jr_sse_event *ev);
/* Whether this is a later part of a stream: written event by event, not as bytes. */
bool jr_proxy_resumes(const struct jr_proxied *x);
/* Relays p of a stream that may be gone on with: whole events only. As jr_http_respond_write. */
JR_MUST_CHECK int jr_proxy_resume_relay(struct jr_proxied *x, const void *p, size_t n);
/* The first part has ended: what was held back, an event without its empty line, goes too. */
void jr_proxy_resume_rest(struct jr_proxied *x);
/* The worker died within the stream. True: another one gets the rest, x is taken; false: it cannot
 * be, and nothing was done. */
bool jr_proxy_resume(struct jr_proxied *x);
/* Tokens that workers before the present one produced. */
uint64_t jr_proxy_resume_produced(const struct jr_proxied *x);
void jr_proxy_resume_free(struct jr_proxied *x);

/* proxy_refused.c */
/* The head of an answer: true: another worker may be asked instead, and the answer is kept. */
bool jr_proxy_refused_keep(struct jr_proxied *x, const struct jr_http_reply *reply);
/* Further bytes of one that is kept. */
void jr_proxy_refused_data(struct jr_proxied *x, const void *p, size_t n);
/* The exchange has ended: true: with an answer that is kept, and whole; another one is to be asked. */
bool jr_proxy_refused_end(struct jr_proxied *x, int err);
/* Nobody else answers: the client gets what was kept. True: x is taken; false: nothing was. */
bool jr_proxy_refused_relay(struct jr_proxied *x);
void jr_proxy_refused_free(struct jr_proxied *x);

/* proxy_relay.c */
/* To the worker that was chosen. 0, or the exchange never began. */
JR_MUST_CHECK int jr_proxy_send(struct jr_proxied *x, const char *worker_url);
/* Dead before the first byte, or (0) it refused: another worker gets it, or the client an error.
 * Takes x. */
void jr_proxy_retry(struct jr_proxied *x, int err);
/* What an exchange with the present worker that failed says of it: a failure, or nothing. */
void jr_proxy_judge_worker(struct jr_proxied *x, int err);
/* Something was relayed already: an event that says why there is no more, and the end. message: NULL
 * for the table's. Takes x. */
void jr_proxy_end_cut(struct jr_proxied *x, enum jr_error error, const char *message);
/* The present worker gets this request no more. */
void jr_proxy_leave_out(struct jr_proxied *x);
/* Tokens of the prompt that the index says the worker has; at least the last one is computed always. */
uint64_t jr_proxy_predicted_tokens(const struct jr_proxied *x);
/* jr_http_respond_write, minding how what was relayed ends. */
JR_MUST_CHECK int jr_proxy_write(struct jr_proxied *x, const void *p, size_t n);
/* Without what proxy_extra.c adds. */
JR_MUST_CHECK int jr_proxy_write_raw(struct jr_proxied *x, const void *p, size_t n);
/* --request-timeout-secs is for the whole request, however many workers had it. UINT32_MAX: no end. */
uint64_t jr_proxy_time_left_ms(const struct jr_proxied *x);
void jr_proxy_on_writable(void *ctx);

#endif
