/* SPDX-License-Identifier: Apache-2.0 */
/* warmer: the thread that touches memory before the owner of a large table needs it (base/pages.h).
 * It does nothing else and waits for nothing but work. Created and destroyed by the thread that owns
 * the tables. */
#ifndef JR_IO_WARMER_H
#define JR_IO_WARMER_H

#include "base/err.h"
#include "base/pages.h"

struct jr_warmer;

/* JR_ELIMIT: no thread. Returns owned. */
JR_MUST_CHECK int jr_warmer_create(struct jr_warmer **ret);
/* After every memory that it serves is gone; does what was posted first. NULL is fine. */
void jr_warmer_destroy(struct jr_warmer *w);
/* For jr_mem_warm; good as long as the warmer. */
struct jr_pages_warmer jr_warmer_pages(struct jr_warmer *w);

#endif
