/* SPDX-License-Identifier: Apache-2.0 */
/* report: what a replay counts, as numbers, as text, as JSON, and beside another one.
 *
 *     jr_tally_ok, jr_tally_error ──► jr_report_of ──► jr_report_text, _json, _table (A/B)
 *                                          ▲
 *              an earlier --json ──► jr_report_parse
 *
 * Pure; one thread at a time. */
#ifndef JR_APP_REPLAY_REPORT_H
#define JR_APP_REPLAY_REPORT_H

#include "base/buf.h"
#include "base/hist.h"
#include "base/limits.h"

struct jr_tally_worker {
    char name[JR_NAME_MAX];
    uint64_t requests, prompt_tokens, cached_tokens;
};

struct jr_tally_reason {
    char text[160];
    uint64_t n;
};

/* One run while it goes on. */
struct jr_tally {
    uint64_t requests, errors; /* ended, of them not whole */
    uint64_t late;             /* sent later than due: JR_REPLAY_IN_FLIGHT_MAX were under way */
    uint64_t prompt_tokens, cached_tokens, completion_tokens; /* of whole answers */
    uint64_t no_cached;                                       /* whole answers that say no cached */
    struct jr_tally_prediction {
        uint64_t answers;           /* with both, a prediction and the truth */
        uint64_t predicted, cached; /* tokens of them */
        uint64_t too_many, too_few; /* tokens predicted and not cached, and the other way round */
    } prediction;
    struct jr_hist ttft_us, total_us;
    struct jr_tally_worker *workers; /* in order of first appearance; none when answers name none */
    uint32_t n_workers;
    struct jr_tally_reason reasons[JR_REPLAY_REASONS_MAX];
    uint32_t n_reasons;
};

struct jr_tally_answer {
    const char *worker; /* "": not named */
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    uint64_t predicted_tokens;
    bool has_cached, has_predicted;
    uint64_t ttft_us, total_us;
};

void jr_tally_init(struct jr_tally *t);
void jr_tally_deinit(struct jr_tally *t);
void jr_tally_ok(struct jr_tally *t, const struct jr_tally_answer *answer);
void jr_tally_error(struct jr_tally *t, const char *reason); /* copies */

struct jr_report_times {
    double p50, p90, p99, mean, max; /* ms; 0 when nothing was measured */
};

struct jr_report {
    char label[JR_NAME_MAX], url[JR_URL_MAX], model[JR_MODEL_MAX], trace[256];
    double speed, duration_s;
    uint64_t requests, errors, late, prompt_tokens, cached_tokens, completion_tokens, no_cached;
    struct jr_tally_prediction prediction;
    double cached_share; /* cached / prompt tokens, 0..1 */
    double spread;       /* prompt tokens of the busiest worker / mean of the workers; 0: unknown */
    struct jr_report_times ttft_ms, total_ms;
    struct jr_tally_worker *workers; /* sorted by name */
    uint32_t n_workers;
    struct jr_tally_reason reasons[JR_REPLAY_REASONS_MAX];
    uint32_t n_reasons;
};

/* Fills in the numbers; label, url, model, trace, speed and duration_s are left as they are (zero the
 * report before). Takes the tally's workers. */
void jr_report_of(struct jr_tally *t, struct jr_report *ret);
void jr_report_deinit(struct jr_report *r);

void jr_report_text(const struct jr_report *r, struct jr_buf *b);
void jr_report_json(const struct jr_report *r, struct jr_buf *b); /* one object, no line end */
/* What jr_report_json wrote, of this or an older version. JR_EINVAL with words in e; *ret is then
 * empty, else the caller's to deinit. */
JR_MUST_CHECK int jr_report_parse(const char *text, size_t n, struct jr_report *ret,
                                  struct jr_errmsg *e);
/* Both beside each other, with B's change against A. */
void jr_report_table(const struct jr_report *a, const struct jr_report *b, struct jr_buf *out);

#endif
