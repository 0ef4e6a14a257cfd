/* SPDX-License-Identifier: Apache-2.0 */
/* digits: runs of small decimal numbers between commas, as in long arrays of token ids, read many at
 * a time. Only the plain middle of an array: whatever is not plain, its ends too, is left to the
 * reader that calls (wire/json). Pure; any thread. */
#ifndef JR_WIRE_DIGITS_H
#define JR_WIRE_DIGITS_H

#include <stddef.h>
#include <stdint.h>

/* p is where an element begins. Reads elements of 1 to 8 digits, without leading zeros, with a comma
 * and then perhaps white space behind them, while 72 bytes of text and 32 of max are left; dst has room
 * for max, and what is behind *ret_n of it is undefined. Returns how many bytes were read: behind them
 * begins an element. 0 read is an ordinary answer. */
size_t jr_digits_u32s(const char *p, size_t n, uint32_t max, uint32_t *dst, uint32_t *ret_n);

#endif
