/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"

#ifdef JR_FAILPOINTS
enum jr_bug jr_bug_seeded;

const char *jr_bug_name(enum jr_bug bug)
{
    static const char *const names[JR_BUGS] = {
        "none",
        "purge before verify",
        "a later batch before a refused one",
        "missing owner on a booking",
        "snapshot without its worker table",
        "leader without the CAS fence",
        "base without the batch number it includes",
        "ready before replay",
        "consumer re-created without the history check",
        "a cap of the replica that refuses stores",
        "reset applied without its epoch check",
        "lower media of another incarnation counted",
        "a session told only when it is bound",
        "a known session that no word moves",
        "a lost session stream not told again",
        "a booking adopted twice",
        "a booking adopted that is over",
        "load of a lease that is back not counted",
        "workers given up by who is cut off",
        "not ready without NATS",
        "a snapshot loaded at every connection",
        "a worker ended that answers",
        "a reset at every start with one token",
        "an end not passed on by who leaves",
        "a mute consumer taken for idle",
        "a batch of the newest version that its writer knows",
        "parameters said by who has not read the log",
        "beliefs that outlive their rank",
        "beliefs of a peer's admissions left out",
    };
    return names[bug];
}
#endif
