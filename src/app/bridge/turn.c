/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/turn.h"

/* The golden section of 2^32: each multiple falls into one of the longest gaps that those before left. */
#define STEP UINT32_C(2654435769)

uint64_t jr_turn_phase(uint32_t turn, uint64_t period_ms)
{
    return (uint64_t)(uint32_t)(turn * STEP) * period_ms >> 32;
}

bool jr_turn_is_due(uint32_t turn, uint64_t period_ms, uint64_t last_ms, uint64_t now_ms)
{
    const uint64_t shift = period_ms - jr_turn_phase(turn, period_ms);
    return (now_ms + shift) / period_ms > (last_ms + shift) / period_ms;
}
