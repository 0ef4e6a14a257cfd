/* SPDX-License-Identifier: Apache-2.0 */
/* engine_spec: what a bridge has to know of one engine, from a file of --engines-dir. Pure.
 *
 *     {"engine_url": "http://127.0.0.1:8001", "kv_events_endpoint": "tcp://127.0.0.1:5557",
 *      "kv_events_replay_endpoint": "tcp://127.0.0.1:6557", "data_parallel_size": 4}
 *
 * The fields are the options of the same names; the first two are required, what is not known is
 * refused: a name that is written wrong would be missed else. */
#ifndef JR_APP_BRIDGE_ENGINE_SPEC_H
#define JR_APP_BRIDGE_ENGINE_SPEC_H

#include "base/err.h"
#include "base/limits.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jr_engine_spec {
    char engine_url[JR_URL_MAX];
    char kv_endpoint[JR_URL_MAX];
    char replay_endpoint[JR_URL_MAX]; /* "": none */
    uint64_t worker_id;               /* this and the next numbers: 0 is not said */
    uint32_t dp_rank, dp_size;
    uint32_t block_size;
    uint32_t max_num_seqs, max_batched_tokens;
    bool kv_bind;
    bool plain_set; /* kv_events_report_mode is full */
    bool on_cpu;    /* device is cpu */
};

/* JR_EPROTO, JR_ELIMIT (over JR_ENGINE_FILE_MAX bytes) with words in e; *ret is whole or untouched. */
JR_MUST_CHECK int jr_engine_spec_parse(const void *p, size_t n, struct jr_engine_spec *ret,
                                       struct jr_errmsg *e);
bool jr_engine_spec_equal(const struct jr_engine_spec *a, const struct jr_engine_spec *b);

#endif
