/* SPDX-License-Identifier: Apache-2.0 */
/* policy_file: --router-policy-config, a YAML file, to the classes of core/policy.h.
 *
 *     default_policy_family: standard
 *     uncached_isl_buckets:                       # ascending, the first from 0
 *       - {min_tokens: 0, bucket: short}
 *       - {min_tokens: 4096, bucket: long}
 *     policy_classes:
 *       - {name: std-short, policy_family: standard, cache_bucket: short,
 *          queue_policy: fcfs, quantum: 4096, prefill_busy_threshold_frac: 1.0}
 *       - …                                       # one for each family and bucket
 *       - {name: batch, queue_policy: wspt, quantum: 1024, …}   # neither: by its name alone
 *     models:
 *       org/model: {…}                            # the three again, in place of the above
 *
 * A class may have prefill_busy_threshold (tokens) and prefill_busy_threshold_frac (of the prefill
 * capacity), and request_, raw_isl_token_ and cached_token_queue_limit_per_worker. Unknown fields are
 * refused. Loop thread or start of the process. */
#ifndef JR_APP_POLICY_FILE_H
#define JR_APP_POLICY_FILE_H

#include "app/config.h"
#include "core/policy.h"

/* Returns owned: jr_policy_file_destroy. JR_ECONFIG: e names the file, the line and the key. */
JR_MUST_CHECK int jr_policy_file_load(const char *path, struct jr_policy **ret,
                                      struct jr_errmsg *e);
/* That of --router-policy-config; *ret is NULL where the option is not set, or not the command's. */
JR_MUST_CHECK int jr_policy_file_from(const struct jr_config *cfg, struct jr_policy **ret,
                                      struct jr_errmsg *e);
void jr_policy_file_destroy(struct jr_policy *policy); /* NULL is fine */

#endif
