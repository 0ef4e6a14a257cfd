/* SPDX-License-Identifier: Apache-2.0 */
/* log: one line a record, as key=value text or JSON, with a level and a rate limit per event id.
 *
 * Only io and app log. Lines never hold prompt text, token ids or credentials. The clock and the
 * writer are injected, since base has neither. Safe from any thread: a line is formatted on the
 * stack and written with one call. */
#ifndef JR_BASE_LOG_H
#define JR_BASE_LOG_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum jr_log_level { JR_LOG_DEBUG, JR_LOG_INFO, JR_LOG_WARN, JR_LOG_ERROR, JR_LOG_OFF };

struct jr_log_config {
    enum jr_log_level level;
    bool json;
    uint32_t per_event_max;   /* lines of one event id in 10 s; more are counted; 0: no limit */
    uint64_t (*now_ms)(void); /* Unix time in milliseconds */
    void (*write)(const char *line, size_t n); /* one whole line with '\n' */
};

/* Process-wide, set once at start before other threads; until then nothing is logged. */
void jr_log_configure(const struct jr_log_config *config);
JR_MUST_CHECK int jr_log_level_parse(const char *s,
                                     enum jr_log_level *ret); /* debug info warn error off */
bool jr_log_enabled(enum jr_log_level level);

/* A value that may hold spaces: jr_log(JR_LOG_WARN, "kv.put", "key=%s err=" JR_LOG_Q, key, text). */
#define JR_LOG_Q "\"%s\""

/* jr_log(JR_LOG_WARN, "nats.lost", "server=%s reconnects=%u", …): fmt yields space separated
 * key=value pairs; a value with spaces is written as key="…" by the caller (JR_LOG_Q). In JSON all
 * values are strings unless they are numbers. */
void jr_log(enum jr_log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
