/* SPDX-License-Identifier: Apache-2.0 */
/* openai_splice: makes one stream of a completion that began on one worker and goes on at another:
 * the request for the rest, and the rest's chunks in the words of the first. What is not said here
 * to change stays as it is, byte for byte. Pure; any thread.
 *
 *     body  … "prompt":[1,2],"max_tokens":9 …   ──► … "prompt":[1,2,7,8],"max_tokens":7 …
 *     chunk {"id":"b","created":5,…}            ──► {"id":"a","created":4,…}
 */
#ifndef JR_WIRE_OPENAI_SPLICE_H
#define JR_WIRE_OPENAI_SPLICE_H

#include "base/str.h"

/* The request for what is still to come. ids: what was produced, as JSON numbers with commas between
 * them; n_ids how many. Appends to out.
 * JR_EUNSUPPORTED: the request has a field whose meaning depends on where the prompt ends, or whose
 * meaning is not known here; or no max_tokens, whose default is the engine's, or all of them were
 * produced. Other errors: the body is no JSON, or the buffer's. */
JR_MUST_CHECK int jr_openai_splice_body(struct jr_str body, struct jr_str ids, uint64_t n_ids,
                                        struct jr_buf *out);

/* What all chunks of a stream say alike: raw JSON values, n == 0 when absent. */
struct jr_openai_chunk_head {
    struct jr_str id, created, model;
};

/* Views borrow from the chunk. JR_EPROTO, JR_ETRUNC, JR_ELIMIT: no JSON object. */
JR_MUST_CHECK int jr_openai_chunk_head(struct jr_str chunk, struct jr_openai_chunk_head *ret);

struct jr_openai_splice {
    struct jr_openai_chunk_head head; /* of the first chunk of all; borrowed */
    uint64_t prompt_tokens;           /* of the prompt as the client sent it */
    uint64_t produced;                /* tokens before this part of the stream */
};

/* Appends the chunk of a later part as a chunk of the whole: its head, no prompt ids a second time,
 * its usage with what was produced before. Errors as above, and the buffer's. */
JR_MUST_CHECK int jr_openai_splice_chunk(struct jr_str chunk, const struct jr_openai_splice *s,
                                         struct jr_buf *out);

#endif
