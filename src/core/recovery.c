/* SPDX-License-Identifier: Apache-2.0 */
#include "core/recovery.h"

#include <stddef.h>

#define TO(s) JR_SM_TO(JR_REC_##s)

static const struct jr_sm_row rows[JR_REC_COUNT] = {
    [JR_REC_COLD] = {"cold", TO(LEASE) | TO(DEGRADED) | TO(READY), JR_SM_INITIAL},
    [JR_REC_LEASE] = {"lease", TO(LOAD_SNAPSHOT) | TO(CATCH_UP) | TO(DEGRADED), 0},
    [JR_REC_LOAD_SNAPSHOT] = {"load_snapshot", TO(VERIFY) | TO(REBUILD) | TO(DEGRADED), 0},
    [JR_REC_VERIFY] = {"verify",
                       TO(REPLAY) | TO(LOAD_SNAPSHOT) | TO(REBUILD) | TO(ADOPT) | TO(DEGRADED), 0},
    [JR_REC_REPLAY] = {"replay", TO(CATCH_UP) | TO(VERIFY) | TO(LOAD_SNAPSHOT) | TO(DEGRADED), 0},
    [JR_REC_CATCH_UP] = {"catch_up", TO(READY) | TO(VERIFY) | TO(LOAD_SNAPSHOT) | TO(DEGRADED), 0},
    [JR_REC_READY] = {"ready", TO(VERIFY) | TO(LOAD_SNAPSHOT) | TO(DEGRADED), 0},
    [JR_REC_REBUILD] = {"rebuild", TO(CATCH_UP) | TO(VERIFY) | TO(LOAD_SNAPSHOT) | TO(DEGRADED), 0},
    [JR_REC_ADOPT] = {"adopt", TO(REPLAY) | TO(LOAD_SNAPSHOT) | TO(DEGRADED), 0},
    [JR_REC_DEGRADED] = {"degraded", TO(VERIFY) | TO(LEASE), 0},
};

const struct jr_sm_table jr_recovery_table = {"recovery", rows, JR_REC_COUNT, NULL};
