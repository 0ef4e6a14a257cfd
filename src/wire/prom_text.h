/* SPDX-License-Identifier: Apache-2.0 */
/* prom_text: a strict reader of Prometheus' text exposition format 0.0.4, for engines' metrics and
 * for tests. Pure; any thread. Comment lines (HELP, TYPE) are skipped; an exposition without any
 * sample is fine: what is absent counts as 0. */
#ifndef JR_WIRE_PROM_TEXT_H
#define JR_WIRE_PROM_TEXT_H

#include "base/str.h"

#define JR_PROM_LABELS_MAX 64 /* vllm:cache_config_info has about 30 */

struct jr_prom_label {
    struct jr_str name;
    struct jr_str value; /* raw: \\ \" \n are not resolved, see jr_prom_unescape */
};

struct jr_prom_sample {
    struct jr_str name;
    struct jr_prom_label labels[JR_PROM_LABELS_MAX];
    uint32_t n_labels;
    double value;
    bool has_timestamp;
    int64_t timestamp_ms;
};

struct jr_prom_reader {
    const char *p, *end;
    uint32_t line; /* from 1, of the sample read last */
};

/* Borrows the text. */
void jr_prom_init(struct jr_prom_reader *r, const void *p, size_t n);
/* The next sample: 1; the end: 0; JR_EPROTO or JR_ELIMIT with words that name the line (e may be
 * NULL). After an error the next call goes on with the line behind. Views borrow from the text. */
JR_MUST_CHECK int jr_prom_next(struct jr_prom_reader *r, struct jr_prom_sample *ret,
                               struct jr_errmsg *e);
/* The raw value of a label; p == NULL when absent. */
struct jr_str jr_prom_label(const struct jr_prom_sample *s, const char *name);
/* Resolve escapes into dst, always terminated; false when it did not fit. */
bool jr_prom_unescape(struct jr_str raw, char *dst, size_t cap);
/* The first sample of that name, and with label=value when label is not NULL: 0 or JR_ENOTFOUND.
 * Lines that do not parse are passed over. */
JR_MUST_CHECK int jr_prom_find(const void *p, size_t n, const char *name, const char *label,
                               const char *value, struct jr_prom_sample *ret);
/* Sum over all samples of that name; 0 when there are none; *ret_n (may be NULL) their count. */
double jr_prom_sum(const void *p, size_t n, const char *name, uint32_t *ret_n);

#endif
