/* SPDX-License-Identifier: Apache-2.0 */
#include "app/log_sink.h"
#include "base/assert.h"
#include "base/log.h"
#include "io/loop.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LINES_PER_EVENT_MAX 50 /* in 10 s */

/* A log that cannot be written is not a reason to stop. */
static void to_stderr(const char *line, size_t n)
{
    while (n > 0) {
        ssize_t k = write(STDERR_FILENO, line, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return;
        line += k;
        n -= (size_t)k;
    }
}

static void assertion(const char *text)
{
    char line[512];
    size_t n = strnlen(text, sizeof line - 1);
    memcpy(line, text, n);
    if (n == 0 || line[n - 1] != '\n')
        line[n++] = '\n';
    to_stderr(line, n);
}

static uint64_t now_ms(void)
{
    return (uint64_t)(jr_unix_ns() / 1000000);
}

void jr_log_sink_configure(const struct jr_config *cfg)
{
    struct jr_log_config log = {
        .json = strcmp(jr_config_str(cfg, JR_CFG_LOG_FORMAT), "json") == 0,
        .per_event_max = LINES_PER_EVENT_MAX,
        .now_ms = now_ms,
        .write = to_stderr,
    };
    if (jr_log_level_parse(jr_config_str(cfg, JR_CFG_LOG_LEVEL), &log.level) < 0)
        JR_IMPOSSIBLE("the choices of --log-level are the log's levels");
    if (log.level == JR_LOG_DEBUG)
        log.per_event_max = 0;
    jr_assert_set_sink(assertion);
    jr_log_configure(&log);
}
