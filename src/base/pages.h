/* SPDX-License-Identifier: Apache-2.0 */
/* pages: memory for large tables in huge pages that another thread touches before they are needed.
 *
 *     owner's thread                         warmer's thread (io/warmer.h, or an embedder's)
 *     reserves a region ──── post(job) ────► jr_pages_job_run: first touch, 2 MiB by 2 MiB
 *     polls until it is ready                (gives it back itself, if nobody wants it any more)
 *
 * Tables that do not fit caches wait for address translation more than for data, and huge pages take
 * a third off that. But the first touch of one is 0.2 ms of the kernel's, and 7 ms in a virtual machine
 * whose memory was never used: too long for the owner's thread, so only what is warm is used.
 *
 *   arena (2..8 MiB)  | table | segment | seg…  free  |    requests below 2 MiB, in units of 16 KiB
 *   region of its own | a table of 2 MiB or more   |       mapped to the page, so nothing is rounded up
 *
 * One arena more than is in use, of an eighth of them at most, is warmed ahead. A request that finds
 * no warm memory is the caller's to serve otherwise (base/mem.h: small pages). Freed units are used
 * again, zeroed; an arena goes back to the kernel when it is empty. Owner's thread, but for
 * jr_pages_job_run. */
#ifndef JR_BASE_PAGES_H
#define JR_BASE_PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define JR_PAGES_HUGE ((size_t)2 << 20)

/* A region to touch. Its next link is the warmer's, all else is not. */
struct jr_pages_job {
    struct jr_pages_job *next;
    char *at;
    size_t bytes;
    atomic_int state;
};

/* post takes the job: it is run once, soon, on another thread. */
struct jr_pages_warmer {
    void (*post)(void *ctx, struct jr_pages_job *job);
    void *ctx;
};

/* Any thread. Takes the job. */
void jr_pages_job_run(struct jr_pages_job *job);

struct jr_pages;

/* Copies warmer. Returns owned; NULL without memory. */
struct jr_pages *jr_pages_create(const struct jr_pages_warmer *warmer);
/* Everything was given back. Regions that are still being touched go when the warmer is done with
 * them. NULL is fine. */
void jr_pages_destroy(struct jr_pages *p);
/* Warm memory for a request, or memory that gets warm: jr_pages_ready tells. Its content is undefined
 * until it was made ready. NULL: there is none at hand. */
void *jr_pages_take(struct jr_pages *p, bool lasts, size_t size);
/* May it be worth asking again soon? */
bool jr_pages_is_coming(const struct jr_pages *p, size_t size);
/* The memory from `from` on is made ready for use, zeroed: about `piece` bytes of it. Returns the
 * offset up to which it is; `from` when the warmer is not there yet. */
size_t jr_pages_ready(struct jr_pages *p, void *ptr, size_t size, size_t from, size_t piece);
/* The same for all of it at once, without looking at what the warmer has done. */
void jr_pages_zero(struct jr_pages *p, void *ptr, size_t size, size_t from);
/* Is it a region that the warmer has still? Its first touch would be in huge pages, by the user. */
bool jr_pages_is_cold(const struct jr_pages *p, const void *ptr);
/* Is it of these pages? */
bool jr_pages_has(const struct jr_pages *p, const void *ptr);
/* Gives back all but the first `left` bytes. */
void jr_pages_give(struct jr_pages *p, void *ptr, size_t size, size_t left);
/* Held from the kernel and not in use: free units and the arena that was warmed ahead. */
size_t jr_pages_slack(const struct jr_pages *p);

#endif
