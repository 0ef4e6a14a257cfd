/* SPDX-License-Identifier: Apache-2.0 */
/* front_threads: the HTTP loops beside the main one (--http-threads), each on its own thread. They serve
 * clients and relay bytes; what concerns pools is asked of the main loop (decide.h), and paths that
 * are not the workers' are answered there (io/http_away). Main loop only, by messages to the others:
 *
 *     make ─► start ─► [ retire ─► drain ] ─► stop: requests end, server and client close, every
 *                                             booking is given back ─► thread ends ─► done */
#ifndef JR_APP_FRONTEND_FRONT_THREADS_H
#define JR_APP_FRONTEND_FRONT_THREADS_H

#include "app/frontend/front_loop.h"

struct jr_tls_context;

/* As many as --http-threads says, less one, listening on `port`; they do not run yet. */
JR_MUST_CHECK int jr_front_threads_make(struct jr_frontend *f, uint16_t port, struct jr_errmsg *e);
JR_MUST_CHECK int jr_front_threads_start(struct jr_frontend *f, struct jr_errmsg *e);
/* As jr_http_server_retire and _drain, of their servers. */
void jr_front_threads_retire(struct jr_frontend *f);
void jr_front_threads_drain(struct jr_frontend *f);
/* After drain: nothing of theirs is under way any more. */
bool jr_front_threads_idle(const struct jr_frontend *f);
/* Takes ctxs, f->n_others of them. */
void jr_front_threads_set_tls(struct jr_frontend *f, struct jr_tls_context **ctxs);
/* done is called once, within when there are none; none is left then. */
void jr_front_threads_stop(struct jr_frontend *f, void (*done)(struct jr_frontend *f));

#endif
