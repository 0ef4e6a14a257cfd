/* SPDX-License-Identifier: Apache-2.0 */
/* jr_test: what all C tests share: seeds, waiting for a condition, fixtures, ports, folders and
 * child processes. A helper that cannot do its work prints why and ends the test with abort(). */
#ifndef JR_TEST_H
#define JR_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"

/* JR_SEED of the environment or a new one; printed, so that a failure can be repeated. */
uint64_t jr_test_seed(void);
/* How many seeds a random test runs, from the first on: JR_SEEDS, or so many. */
uint64_t jr_test_seeds(uint64_t by_default);

uint64_t jr_test_now_ms(void); /* monotonic */
void jr_test_sleep_ms(unsigned ms);

/* For what must come, though the machine stands still meanwhile. */
#define JR_TEST_PATIENCE_MS 60000

/* Poll until cond says yes (true) or timeout_ms are over (false). */
bool jr_test_wait_for(bool (*cond)(void *ctx), void *ctx, unsigned timeout_ms);
/* The same for an expression, as a statement; fails the test when it does not come true. */
#define JR_TEST_WAIT(expr, timeout_ms)                                                             \
    do {                                                                                           \
        uint64_t jr_until_ = jr_test_now_ms() + (timeout_ms);                                      \
        while (!(expr)) {                                                                          \
            if (jr_test_now_ms() > jr_until_)                                                      \
                fail_msg("not within %u ms: %s", (unsigned)(timeout_ms), #expr);                   \
            jr_test_sleep_ms(2);                                                                   \
        }                                                                                          \
    } while (0)

/* The whole file, with a NUL behind it that *ret_n does not count; returns owned (free with
 * jr_xfree). ret_n may be NULL. */
uint8_t *jr_test_read_file(const char *path, size_t *ret_n);
#ifdef JR_FIXTURES
/* A file below tests/fixtures. */
static inline uint8_t *jr_test_fixture(const char *path, size_t *ret_n)
{
    char *full = jr_xprintf("%s/%s", JR_FIXTURES, path);
    uint8_t *text = jr_test_read_file(full, ret_n);
    jr_xfree(full);
    return text;
}
#endif

/* A TCP port of 127.0.0.1 on which nobody listens now, below the range that outgoing connections use:
 * this process's until it ends. Another test gets others, also before anybody listens. */
uint16_t jr_test_free_port(void);
uint16_t jr_test_free_ports(unsigned n); /* the first of n that follow each other */
/* Does somebody accept connections there? */
bool jr_test_port_open(uint16_t port);

/* A new empty folder; returns owned (jr_xfree), removed with jr_test_remove_dir. */
char *jr_test_temp_dir(void);
void jr_test_remove_dir(const char *path);

/* Run fn in a forked child; true if it ended by abort(), as a failed JR_ASSERT does. */
bool jr_test_aborts(void (*fn)(void *ctx), void *ctx);

/* Start argv[0] (a path) with output to log_path ("/dev/null" if NULL). It dies with this process.
 * The pid, or -1. */
pid_t jr_test_spawn(char *const argv[], const char *log_path);
/* Send the signal and wait for the end; SIGKILL after 10 s. Returns waitpid's status. */
int jr_test_stop(pid_t pid, int signal_number);

/* Run `run` with the first, then the second, … allocation failing, until one run meets no failure.
 * A failed run must return JR_ENOMEM; each run must give back all its memory; the last must return
 * 0. Returns the number of allocations of the good run. */
unsigned jr_test_oom_sweep(int (*run)(struct jr_mem *mem, void *ctx), void *ctx);

#endif
