/* SPDX-License-Identifier: Apache-2.0 */
/* loop: a libuv loop with a mailbox and timers.
 *
 * One thread runs a loop and owns everything hung on it. Other threads do one thing only: post
 * messages to its mailbox, which the loop delivers in order, in batches, under a time budget
 * (JR_LOOP_SLICE_US), so that a flood of messages never starves sockets.
 *
 *     other threads ── jr_loop_post ──► [mailbox] ── uv_async ──► deliver(msg) on the loop thread
 */
#ifndef JR_IO_LOOP_H
#define JR_IO_LOOP_H

#include "base/err.h"
#include "base/list.h"
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct jr_loop;

/* Intrusive message. deliver runs on the loop thread and takes the message (frees it). When the
 * loop is destroyed with messages waiting, drop is called instead, if set, else deliver is skipped
 * and the message leaks: set drop for anything that owns memory. */
struct jr_msg {
    struct jr_msg *next;
    void (*deliver)(struct jr_msg *msg);
    void (*drop)(struct jr_msg *msg);
};

/* The creating thread is the loop's until another one runs it. Ignores SIGPIPE for the process.
 * JR_EIO when the system gives no loop. */
JR_MUST_CHECK int jr_loop_create(struct jr_loop **ret);
/* Closes what is left: timers and idlers with their memory; other handles without a callback, so
 * close their owners before. Waiting messages are dropped. The loop must not run and nobody may
 * post any more. NULL is fine. */
void jr_loop_destroy(struct jr_loop *loop);
void jr_loop_run(struct jr_loop *loop);  /* until jr_loop_stop */
void jr_loop_stop(struct jr_loop *loop); /* loop thread */
uv_loop_t *jr_loop_uv(struct jr_loop *loop);
uint64_t jr_loop_now_ms(struct jr_loop *loop);  /* monotonic, cached for this iteration */
uint64_t jr_loop_now_ns(void);                  /* monotonic, read now; any thread */
uint64_t jr_loop_turn_ns(struct jr_loop *loop); /* monotonic, read once a turn; loop thread */
int64_t jr_unix_ns(void);                       /* wall clock; any thread */
bool jr_loop_here(const struct jr_loop *loop);  /* is this the loop's thread */

/* Tells, at the end of each turn (all between two polls), how many ms it took: of libuv's clock, whose
 * whole ms are right on the average. Before the loop runs. */
void jr_loop_watch(struct jr_loop *loop, void (*on_turn)(void *ctx, uint64_t ms), void *ctx);

/* Takes msg. Any thread. Never blocks; order per posting thread is kept. Unbounded by itself: a
 * producer that can flood bounds itself (jr_gate below). */
void jr_loop_post(struct jr_loop *loop, struct jr_msg *msg);
/* In deliver: when this turn's messages give way to sockets, by jr_loop_now_ns. A message that stands
 * for many keeps to it, so that what came before it in the turn counts, too. */
uint64_t jr_loop_slice_end_ns(const struct jr_loop *loop);
/* Loop thread: takes the waiting messages that match back out of the mailbox, in order, linked by
 * next; they are the caller's again. For an owner that goes away with messages under way. */
struct jr_msg *jr_loop_revoke(struct jr_loop *loop,
                              bool (*match)(const struct jr_msg *msg, const void *ctx),
                              const void *ctx);

/* after: what must not hold up who is being served, as waking another thread does. fn runs once for
 * each time it was asked for, or for several: when the request that arrived has been served
 * (jr_loop_settle), at the latest before the loop waits again. Loop thread only. The loop owns
 * nothing: cancel before the memory goes. */
struct jr_after {
    struct jr_list node;
    void (*fn)(void *ctx);
    void *ctx;
};
void jr_after_init(struct jr_after *after, void (*fn)(void *ctx), void *ctx);
void jr_after_ask(struct jr_after *after, struct jr_loop *loop); /* asked for already: harmless */
void jr_after_cancel(struct jr_after *after);                    /* not asked for: harmless */
void jr_loop_settle(struct jr_loop *loop); /* runs them: for who served one of many in a turn */

/* gate: bounds what one producer thread has in flight; enter waits while `max` or more are inside,
 * then lets all n in (so up to max + n - 1 are), and returns JR_ECLOSED once the gate was closed.
 * leave and close from any thread. */
struct jr_gate;
struct jr_gate *jr_gate_create(uint32_t max);
void jr_gate_destroy(struct jr_gate *gate);
JR_MUST_CHECK int jr_gate_enter(struct jr_gate *gate, uint32_t n);
void jr_gate_leave(struct jr_gate *gate, uint32_t n);
void jr_gate_close(struct jr_gate *gate);

/* timer: loop thread only. The callback may restart or destroy it. */
struct jr_timer;
typedef void jr_timer_fn(void *ctx);
struct jr_timer *jr_timer_create(struct jr_loop *loop, jr_timer_fn *fn, void *ctx);
void jr_timer_destroy(struct jr_timer *timer); /* NULL is fine */
void jr_timer_start(struct jr_timer *timer, uint64_t delay_ms, uint64_t repeat_ms);
void jr_timer_stop(struct jr_timer *timer);

/* idle work: fn runs once per loop iteration while it returns true; for sliced jobs. fn may destroy
 * the idler. Starting one that runs is harmless. */
struct jr_idler;
struct jr_idler *jr_idler_create(struct jr_loop *loop, bool (*fn)(void *ctx), void *ctx);
void jr_idler_start(struct jr_idler *idler);
void jr_idler_destroy(struct jr_idler *idler);

#endif
