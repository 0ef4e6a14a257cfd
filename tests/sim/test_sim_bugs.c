/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulator is worth: each of the known mistakes, made on purpose, is found, and by the check
 * that is there for it. ./dev sim --bugs prints the table. */
#include "jr_test.h"
#include "sim_world.h"

#include <string.h>

#ifdef JR_FAILPOINTS
#define SEEDS 2000 /* each is found within fewer; which seed it is moves with every decision */

static const char *const found_by[JR_BUGS] = {
    [JR_BUG_PURGE_UNVERIFIED] = "NothingForgotten",
    [JR_BUG_LATER_BATCH_FIRST] = "NoGap",
    [JR_BUG_BOOKING_NO_OWNER] = "LoadDiesWithItsOwner",
    [JR_BUG_SNAPSHOT_NO_TABLE] = "OneOrder",
    [JR_BUG_LEADER_NO_FENCE] = "LeaderIsFenced",
    [JR_BUG_BASE_NO_NUMBER] = "LoadIsShared",
    [JR_BUG_READY_EARLY] = "ReadyMeansCaughtUp",
    [JR_BUG_READER_NO_CHECK] = "OneOrder",
    [JR_BUG_CAP_OF_REPLICA] = "OneOrder",
    [JR_BUG_RESET_ANY_EPOCH] = "OneOrder",
    [JR_BUG_LOWER_OF_BEFORE] = "LowerIsOfItsRank",
    [JR_BUG_SESSION_TOLD_ONCE] = "SessionsAreShared",
    [JR_BUG_SESSION_OWN_WINS] = "SessionIsKept",
    [JR_BUG_SESSION_NOT_KEPT] = "SessionsAreShared",
    [JR_BUG_ADOPTED_TWICE] = "BookedOnce",
    [JR_BUG_ENDED_IS_ADOPTED] = "FreedOnce",
    [JR_BUG_LOAD_STAYS_ASIDE] = "LoadIsCounted",
    [JR_BUG_BLIND_IS_DOWN] = "RoutingOutlivesNats",
    [JR_BUG_NATS_UNREADY] = "RoutingOutlivesNats",
    [JR_BUG_NOT_RESUMED] = "RoutingOutlivesNats",
    [JR_BUG_GONE_UNASKED] = "GoneIsGone",
    [JR_BUG_RESET_EACH_START] = "ResetOnce",
    [JR_BUG_LEAVES_UNHEARD] = "FreedOnce",
    [JR_BUG_MUTE_UNSEEN] = "Converges",
    [JR_BUG_VERSION_OF_WRITER] = "LoadIsShared",
    [JR_BUG_CONFIG_UNREAD] = "SaidOnce",
    [JR_BUG_BELIEFS_STAY] = "BeliefsEnd",
    [JR_BUG_BELIEFS_ALONE] = "BeliefsAreShared",
};

static void test_each_is_found(void **state)
{
    (void)state;
    for (int bug = 1; bug < JR_BUGS; bug++) {
        struct sim_failure f;
        struct sim_batch b = {.first = 1, .n = SEEDS, .jobs = 2};
        b.wish.force = sim_force_for((enum jr_bug)bug);
        jr_bug_seeded = (enum jr_bug)bug;
        bool held = sim_run_many(&b, &f, NULL);
        jr_bug_seeded = JR_BUG_NONE;
        if (held)
            fail_msg("%s: nothing finds it in %d seeds", jr_bug_name((enum jr_bug)bug), SEEDS);
        if (strncmp(f.text, found_by[bug], strlen(found_by[bug])) != 0)
            fail_msg("%s: found by %s (seed %llu)", jr_bug_name((enum jr_bug)bug), f.text,
                     (unsigned long long)f.seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_is_found)};
    return cmocka_run_group_tests_name("sim_bugs", tests, NULL, NULL);
}
#else
/* Nothing of them is in this build; tests/arch/test_release_hooks.sh shows it of a release. */
int main(void)
{
    return 0;
}
#endif
