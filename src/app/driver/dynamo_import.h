/* SPDX-License-Identifier: Apache-2.0 */
/* dynamo_import: Dynamo's `radix-state` as a snapshot image of ours. docs/protocol.md §3. */
#ifndef JR_APP_DRIVER_DYNAMO_IMPORT_H
#define JR_APP_DRIVER_DYNAMO_IMPORT_H

#include "base/err.h"
#include "base/image.h"

/* The object's events, applied to an empty state: its image at sequence `seq` of the stream that was
 * created at created_ns (the one before the stream's first message). Any thread; *ret is returned
 * owned. Errors of jr_dynamo_snapshot_read, JR_ECORRUPT (a block whose parent is not there),
 * JR_ENOMEM; words in e. */
JR_MUST_CHECK int jr_dynamo_import(const void *p, size_t n, int64_t created_ns, uint64_t seq,
                                   struct jr_image **ret, struct jr_errmsg *e);

#endif
