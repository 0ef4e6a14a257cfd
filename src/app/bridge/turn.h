/* SPDX-License-Identifier: Apache-2.0 */
/* turn: when each of many is asked, of what all are asked once a period: evenly over the period,
 * however many there are, so that a thousand engines are no burst. Each has a number, its turn, from 0
 * on as they come. Pure. */
#ifndef JR_APP_BRIDGE_TURN_H
#define JR_APP_BRIDGE_TURN_H

#include <stdbool.h>
#include <stdint.h>

/* Its place in a period, below period_ms; of turn 0 at the beginning. */
uint64_t jr_turn_phase(uint32_t turn, uint64_t period_ms);
/* It was asked last at last_ms: is it its turn again? Once within each period; what was missed is not
 * made up for. */
bool jr_turn_is_due(uint32_t turn, uint64_t period_ms, uint64_t last_ms, uint64_t now_ms);

#endif
