/* SPDX-License-Identifier: Apache-2.0 */
/* bug: named mistakes that a test may make the program make, to see that the simulator finds them.
 * Like failpoints they are compiled to nothing unless JR_FAILPOINTS is defined, so that no release
 * has them. `./dev sim --bugs` makes each; chaos/README.md has the table of what found it.
 *
 * One process has one of them at most, set before anything runs. */
#ifndef JR_BASE_BUG_H
#define JR_BASE_BUG_H

#include <stdbool.h>

enum jr_bug {
    JR_BUG_NONE,
    JR_BUG_PURGE_UNVERIFIED,  /* the floor is that of a snapshot which nobody verified yet */
    JR_BUG_LATER_BATCH_FIRST, /* a refused batch is repeated behind the next one */
    JR_BUG_BOOKING_NO_OWNER,  /* a peer's bookings count whoever's lease is over */
    JR_BUG_SNAPSHOT_NO_TABLE, /* its rows know no incarnation and no event id */
    JR_BUG_LEADER_NO_FENCE,   /* an object is written whatever its revision */
    JR_BUG_BASE_NO_NUMBER,    /* a base does not say which batches it includes */
    JR_BUG_READY_EARLY,       /* without what the stream held at start */
    JR_BUG_READER_NO_CHECK,   /* a consumer made anew reads on, whatever the history */
    JR_BUG_CAP_OF_REPLICA,    /* each replica refuses stores by its own --index-max-entries */
    JR_BUG_RESET_ANY_EPOCH,   /* a Reset counts in whatever epoch */
    JR_BUG_LOWER_OF_BEFORE,   /* rows of lower media count whatever their incarnation */
    JR_BUG_SESSION_TOLD_ONCE, /* where a session is bound is told when it is, and not when it is used */
    JR_BUG_SESSION_OWN_WINS, /* a word of the stream moves no session that is known */
    JR_BUG_SESSION_NOT_KEPT, /* what the session stream has lost is not told again */
    JR_BUG_ADOPTED_TWICE,    /* of two that adopted a booking none gives it up */
    JR_BUG_ENDED_IS_ADOPTED, /* what is said to be over is an orphan all the same */
    JR_BUG_LOAD_STAYS_ASIDE, /* a peer's load does not count again when its lease is back */
    JR_BUG_BLIND_IS_DOWN,    /* who is cut off takes the workers for gone */
    JR_BUG_NATS_UNREADY,     /* who is cut off is not ready */
    JR_BUG_NOT_RESUMED,      /* connected again, it begins with a snapshot */
    JR_BUG_GONE_UNASKED,     /* no lease is enough for WorkerGone, whether /health answers or not */
    JR_BUG_RESET_EACH_START, /* a token that acted acts again */
    JR_BUG_LEAVES_UNHEARD,   /* who ends says no word of what it was told just before */
    JR_BUG_MUTE_UNSEEN,      /* who is ready takes a consumer that delivers nothing for idle */
    JR_BUG_VERSION_OF_WRITER, /* a batch is of the newest version that its writer knows */
    JR_BUG_CONFIG_UNREAD,     /* parameters are said whatever control message was not read */
    JR_BUG_BELIEFS_STAY,      /* what is believed of a rank outlives its incarnation */
    JR_BUG_BELIEFS_ALONE,     /* what a peer admits is not believed to be cached */
    JR_BUGS,
};

#ifdef JR_FAILPOINTS
extern enum jr_bug jr_bug_seeded;
const char *jr_bug_name(enum jr_bug bug);
#define JR_BUG(name) (jr_bug_seeded == JR_BUG_##name)
#else
#define JR_BUG(name) (false)
#endif

#endif
