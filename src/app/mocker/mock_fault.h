/* SPDX-License-Identifier: Apache-2.0 */
/* mock_fault: what is wrong with a mock engine on purpose. Pure; one thread at a time.
 *
 *     refuse=true        everything is answered 503, /health too
 *     hang=true          what comes is taken and never answered, /health too
 *     slow=X             steps take X times as long (at --speedup-ratio 0 they take no time anyway)
 *     drop_events=P      that share of the event batches is not sent; the replay socket has them
 *
 * The paths under /mock, by which this is set and looked at, go on working. */
#ifndef JR_APP_MOCKER_MOCK_FAULT_H
#define JR_APP_MOCKER_MOCK_FAULT_H

#include "base/buf.h"
#include "base/str.h"
#include <stdbool.h>

struct jr_mock_faults {
    bool refuse, hang;
    double slow;        /* above 0; 1: as fast as ever */
    double drop_events; /* 0..1 */
};

void jr_mock_faults_init(struct jr_mock_faults *f); /* nothing is wrong */
/* One NAME=VALUE. JR_EINVAL with words in e, and nothing changed. */
JR_MUST_CHECK int jr_mock_faults_set(struct jr_mock_faults *f, struct jr_str text,
                                     struct jr_errmsg *e);
/* Its fields as members of a JSON object, without the braces; check b->err. */
void jr_mock_faults_json(const struct jr_mock_faults *f, struct jr_buf *b);

#endif
