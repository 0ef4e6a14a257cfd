/* SPDX-License-Identifier: Apache-2.0 */
#include "jr_test.h"
#include "base/cursor.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT_FIRST 11000 /* below the range of outgoing connections (32768 on) */
#define PORT_SPAN  20000
#define PORT_TRIES 2000

#if defined(__SANITIZE_THREAD__)
/* libzmq is not instrumented and passes messages between its threads with its own atomics; libcrypto
 * counts references with its own. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:libzmq.so\nrace:libcrypto.so\nrace:libssl.so\n";
}
#endif

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* A test that allocates without end is to fail, not to take the machine with it. The sanitizers map
 * far more than they use. */
#define TEST_MEMORY_MAX ((rlim_t)6 << 30)
__attribute__((constructor)) static void limit_memory(void)
{
    struct rlimit limit = {TEST_MEMORY_MAX, TEST_MEMORY_MAX};

    (void)setrlimit(RLIMIT_DATA, &limit);
}
#endif

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "\n");
    abort();
}

uint64_t jr_test_seed(void)
{
    const char *text = getenv("JR_SEED");
    struct timespec now;
    uint64_t seed;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    seed = (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec + (uint64_t)getpid();
    if (text && jr_parse_u64(text, strlen(text), &seed) < 0)
        give_up("JR_SEED=%s is not a number", text);
    (void)fprintf(stderr, "seed: JR_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

uint64_t jr_test_seeds(uint64_t by_default)
{
    const char *text = getenv("JR_SEEDS");
    uint64_t n = by_default;

    if (text && (jr_parse_u64(text, strlen(text), &n) < 0 || n == 0))
        give_up("JR_SEEDS=%s is not a number of seeds", text);
    return n;
}

uint64_t jr_test_now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void jr_test_sleep_ms(unsigned ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

bool jr_test_wait_for(bool (*cond)(void *ctx), void *ctx, unsigned timeout_ms)
{
    uint64_t until = jr_test_now_ms() + timeout_ms;

    while (!cond(ctx)) {
        if (jr_test_now_ms() > until)
            return false;
        jr_test_sleep_ms(2);
    }
    return true;
}

uint8_t *jr_test_read_file(const char *path, size_t *ret_n)
{
    FILE *f = fopen(path, "rb");
    size_t n = 0, cap = 4096, got;
    uint8_t *text = jr_xalloc(cap + 1);

    if (!f)
        give_up("%s: %s", path, strerror(errno));
    while ((got = fread(text + n, 1, cap - n, f)) > 0) {
        n += got;
        if (n == cap) {
            cap *= 2;
            text = jr_xrealloc(text, cap + 1);
        }
    }
    if (ferror(f))
        give_up("%s: cannot be read", path);
    (void)fclose(f);
    text[n] = 0;
    if (ret_n)
        *ret_n = n;
    return text;
}

static struct sockaddr_in local_address(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

/* The name of an abstract socket is one process's, and free again when that has ended: the descriptor
 * stays open for that. Python's tests claim by the same name (jr_procs.py). */
static bool claim_port(uint16_t port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int n = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "jetrouter-test-port-%u", port);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    bool mine = fd >= 0 && bind(fd, (struct sockaddr *)(void *)&name, len) == 0;

    if (!mine && fd >= 0)
        (void)close(fd);
    return mine;
}

static bool is_free(uint16_t port)
{
    struct sockaddr_in a = local_address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    bool is = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
              bind(fd, (struct sockaddr *)(void *)&a, sizeof a) == 0;

    if (fd >= 0)
        (void)close(fd);
    return is;
}

uint16_t jr_test_free_ports(unsigned n)
{
    uint32_t from;

    if (getrandom(&from, sizeof from, 0) != sizeof from)
        give_up("no random number: %s", strerror(errno));
    for (uint32_t i = 0; i < PORT_TRIES; i++) {
        uint16_t port = (uint16_t)(PORT_FIRST + (from % PORT_SPAN + i * 17) % PORT_SPAN);
        unsigned got = 0;
        while (got < n && is_free((uint16_t)(port + got)) && claim_port((uint16_t)(port + got)))
            got++;
        if (got == n)
            return port;
    }
    give_up("no %u free ports", n);
}

uint16_t jr_test_free_port(void)
{
    return jr_test_free_ports(1);
}

bool jr_test_port_open(uint16_t port)
{
    struct sockaddr_in a = local_address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool open = fd >= 0 && connect(fd, (struct sockaddr *)(void *)&a, sizeof a) == 0;

    if (fd >= 0)
        (void)close(fd);
    return open;
}

char *jr_test_temp_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *path = jr_xprintf("%s/jr-test-XXXXXX", base && base[0] ? base : "/tmp");

    if (!mkdtemp(path))
        give_up("%s: %s", path, strerror(errno));
    return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    (void)remove(path);
    return 0;
}

void jr_test_remove_dir(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

bool jr_test_aborts(void (*fn)(void *ctx), void *ctx)
{
    struct rlimit no_core = {0, 0};
    int status = 0;
    pid_t pid = fork();

    if (pid < 0)
        give_up("fork: %s", strerror(errno));
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL);
        fn(ctx);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void run_child(char *const argv[], const char *log_path, pid_t parent)
{
    int fd = open(log_path ? log_path : "/dev/null", O_WRONLY | O_CREAT | O_APPEND, 0600);

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* it ended before the line above */
    if (fd >= 0) {
        (void)dup2(fd, 1);
        (void)dup2(fd, 2);
        (void)close(fd);
    }
    (void)execv(argv[0], argv);
    _exit(127);
}

pid_t jr_test_spawn(char *const argv[], const char *log_path)
{
    pid_t parent = getpid(), pid = fork();

    if (pid == 0)
        run_child(argv, log_path, parent);
    return pid;
}

int jr_test_stop(pid_t pid, int signal_number)
{
    uint64_t until = jr_test_now_ms() + 10000;
    int status = 0;

    if (pid <= 0)
        return 0;
    (void)kill(pid, signal_number);
    (void)kill(pid, SIGCONT); /* it may have been paused */
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            return status;
        if (jr_test_now_ms() > until)
            (void)kill(pid, SIGKILL);
        jr_test_sleep_ms(2);
    }
}

unsigned jr_test_oom_sweep(int (*run)(struct jr_mem *mem, void *ctx), void *ctx)
{
    for (unsigned i = 0;; i++) {
        struct jr_mem mem;
        bool failed;
        int rv;

        jr_mem_init(&mem);
        mem.fail_after = i;
        rv = run(&mem, ctx);
        failed = mem.fail_after < 0;
        if (rv != (failed ? JR_ENOMEM : 0))
            fail_msg("allocation %u %s, but the answer is %s", i,
                     failed ? "failed" : "was not reached", jr_err_name(rv));
        if (mem.bytes != 0)
            fail_msg("%zu bytes leak when allocation %u fails", mem.bytes, i);
        if (!failed)
            return (unsigned)mem.allocs;
    }
}
