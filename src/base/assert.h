/* SPDX-License-Identifier: Apache-2.0 */
/* assert: three tiers. JR_ASSERT stays on in release and is for programmer errors, never for
 * outside input; JR_DASSERT is for costly checks in test builds; JR_COUNT_IF counts what is odd but
 * survivable. */
#ifndef JR_BASE_ASSERT_H
#define JR_BASE_ASSERT_H

__attribute__((noreturn)) void jr_assert_fail(const char *expr, const char *file, int line,
                                              const char *func);
/* Where the text of a failed assertion goes before abort(); io sets a writer to stderr. */
void jr_assert_set_sink(void (*sink)(const char *text));

#define JR_ASSERT(e) ((e) ? (void)0 : jr_assert_fail(#e, __FILE__, __LINE__, __func__))
#ifdef JR_FAILPOINTS
#define JR_DASSERT(e) JR_ASSERT(e)
#else
#define JR_DASSERT(e) ((void)0)
#endif
#define JR_IMPOSSIBLE(why)         jr_assert_fail("impossible: " why, __FILE__, __LINE__, __func__)
#define JR_COUNT_IF(cond, counter) ((cond) ? (void)(counter)++ : (void)0)

#endif
