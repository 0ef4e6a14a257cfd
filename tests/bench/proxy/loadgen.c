/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loadgen - black-box HTTP/1.1 load driver for OpenAI-compatible endpoints.
 *
 * One thread, epoll, keep-alive.  Closed loop with N connections, or open loop
 * at a fixed rate over N connections (latency then counts from the scheduled
 * time).  Bounded both in count and in time.  Every reply is verified in full:
 * status 200, framing, for JSON replies "choices" present; for streams the
 * number and order of the mock's events (" w0", " w1", ...) and a last [DONE].
 * Prints one JSON line on stdout.
 *
 * With -P PID the CPU time (user+system, all threads) and memory of the given
 * process(es) over the measured part are reported too.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { S_IDLE, S_HEAD, S_CL, S_CHUNK, S_EOF };

typedef struct conn {
    int fd, state, cst, want_out, connected, fresh, close_after, done_seen, bad, idx;
    char *req;
    size_t reqlen, reqpos;
    uint64_t t0, tsent, deadline, tlast, left, csz;
    char hdr[16384];
    size_t hlen;
    char *ln;
    size_t llen, lcap;
    long events, seq, status, reads;
    size_t body;
    int has_choices, warm;
} conn;

typedef struct {
    double *v;
    size_t n, cap;
} vec;

static struct sockaddr_in T[64];
static int nt, ep, nconn = 1;
static char *body;
static size_t blen;
static char *head;
static size_t hlen0;
static char *tmpl;
static size_t tlen; /* whole request, needle at noff */
static long noff = -1;
static unsigned long mod = 0, mcount;
static int stream, seqcheck = 1, keepalive = 1;
static long want_events, abort_after;
static uint64_t count = 0, started, finished, warm_n, timeout_ns = 30000000000ull;
static uint64_t ok, errs, e_status, e_frame, e_seq, e_conn, e_timeout, events_total, bytes_total,
    aborted, reconnects, reused_closed;
static uint64_t st_hist[600];
static vec lat, ttfb, gap, dly;
static double rate;
static uint64_t t_begin, t_end_max, dur_ns;
#define WARM_MAX_NS 30000000000ull
static int measuring;
static conn *C;
static int *idle, nidle;
static uint64_t *queue;
static size_t qh, qt, qcap;
static volatile sig_atomic_t stop;
static char err1[256];

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}
static void push(vec *v, double x)
{
    if (v->n == v->cap) {
        if (v->cap >= 40000000)
            return;
        v->cap = v->cap ? v->cap * 2 : 65536;
        v->v = realloc(v->v, v->cap * sizeof *v->v);
        if (!v->v)
            exit(1);
    }
    v->v[v->n++] = x;
}
static int dcmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static double pct(vec *v, double p)
{
    return v->n ? v->v[(size_t)((double)(v->n - 1) * p)] : 0;
}

static void dial(conn *c);
static void begin(conn *c, uint64_t t0);
static void next(conn *c);

static void want(conn *c, int out)
{
    if (c->want_out == out)
        return;
    c->want_out = out;
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (out ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void drop(conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->connected = 0;
    c->want_out = 0;
}

static void done(conn *c, uint64_t *kind, const char *why)
{
    uint64_t t = now_ns();
    c->state = S_IDLE;
    finished++;
    if (kind) {
        if (!c->warm) {
            errs++;
            (*kind)++;
        }
        if (!err1[0])
            snprintf(err1, sizeof err1, "%s (status %ld, events %ld, body %zu)", why, c->status,
                     c->events, c->body);
        if (c->status == 200 || kind != &e_status)
            drop(c);
    } else if (!c->warm) {
        ok++;
        push(&lat, (double)(t - c->t0) / 1e3);
    }
    if (c->close_after || !keepalive)
        drop(c);
    next(c);
}

static void complete(conn *c)
{
    if (c->status >= 0 && c->status < 600 && !c->warm)
        st_hist[c->status]++;
    if (c->status != 200) {
        done(c, &e_status, "status");
        return;
    }
    if (stream) {
        if (!c->done_seen) {
            done(c, &e_frame, "no [DONE]");
            return;
        }
        if (want_events && c->events != want_events) {
            done(c, &e_seq, "event count");
            return;
        }
        if (c->bad) {
            done(c, &e_seq, "event order");
            return;
        }
    } else if (!c->has_choices) {
        done(c, &e_frame, "no choices");
        return;
    }
    done(c, NULL, NULL);
}

static void line(conn *c, const char *p, size_t n, uint64_t t)
{
    if (n && p[n - 1] == '\r')
        n--;
    if (n < 6 || memcmp(p, "data: ", 6))
        return;
    p += 6;
    n -= 6;
    if (n == 6 && !memcmp(p, "[DONE]", 6)) {
        c->done_seen = 1;
        return;
    }
    if (c->done_seen)
        c->bad = 1;
    c->events++;
    if (!c->warm) {
        events_total++;
        if (c->tlast)
            push(&gap, (double)(t - c->tlast) / 1e3);
        else
            push(&ttfb, (double)(t - c->t0) / 1e3);
        const char *q = memmem(p, n, "\"t\":", 4);
        if (q) {
            uint64_t s = strtoull(q + 4, NULL, 10);
            if (s && s <= t)
                push(&dly, (double)(t - s) / 1e3);
        }
    }
    c->tlast = t;
    if (seqcheck) {
        const char *q = memmem(p, n, "\" w", 3);
        if (q) {
            if (strtol(q + 3, NULL, 10) != c->seq)
                c->bad = 1;
            c->seq++;
        }
    }
}

/* Decoded body bytes. */
static void feed(conn *c, const char *p, size_t n, uint64_t t)
{
    c->body += n;
    if (!c->warm)
        bytes_total += n;
    if (!stream) {
        if (!c->has_choices) { /* looked for in the first bytes only */
            size_t k = c->llen + n > 4096 ? (c->llen < 4096 ? 4096 - c->llen : 0) : n;
            if (c->lcap < 4200)
                c->ln = realloc(c->ln, c->lcap = 8192);
            memcpy(c->ln + c->llen, p, k);
            c->llen += k;
            if (memmem(c->ln, c->llen, "\"choices\"", 9))
                c->has_choices = 1;
        }
        if (!c->tlast) {
            c->tlast = t;
            if (!c->warm)
                push(&ttfb, (double)(t - c->t0) / 1e3);
        }
        return;
    }
    while (n) {
        const char *nl = memchr(p, '\n', n);
        size_t k = nl ? (size_t)(nl - p) : n;
        if (nl && !c->llen)
            line(c, p, k, t);
        else {
            if (c->llen + k > c->lcap)
                c->ln = realloc(c->ln, c->lcap = (c->llen + k) * 2 + 256);
            memcpy(c->ln + c->llen, p, k);
            c->llen += k;
            if (nl) {
                line(c, c->ln, c->llen, t);
                c->llen = 0;
            }
        }
        if (!nl)
            break;
        p = nl + 1;
        n -= k + 1;
    }
}

static int hval(conn *c, const char *name, const char **v)
{
    size_t l = strlen(name);
    for (char *p = strstr(c->hdr, "\r\n"); p; p = strstr(p, "\r\n")) {
        p += 2;
        if (!strncasecmp(p, name, l) && p[l] == ':') {
            for (p += l + 1; *p == ' '; p++)
                ;
            *v = p;
            return 1;
        }
    }
    return 0;
}

/* Returns 1 when the reply is complete (c may already be reused), -1 on error. */
static int parse(conn *c, const char *p, size_t n, uint64_t t)
{
    while (n) {
        if (c->state == S_IDLE)
            return -1;
        if (c->state == S_HEAD) {
            size_t old = c->hlen, k = sizeof c->hdr - 1 - c->hlen;
            if (k > n)
                k = n;
            memcpy(c->hdr + c->hlen, p, k);
            c->hlen += k;
            c->hdr[c->hlen] = 0;
            char *e = strstr(c->hdr, "\r\n\r\n");
            if (!e) {
                if (c->hlen >= sizeof c->hdr - 1)
                    return -1;
                return 0;
            }
            size_t used = (size_t)(e + 4 - c->hdr) - old;
            e[2] = 0;
            p += used;
            n -= used;
            if (strncmp(c->hdr, "HTTP/1.", 7))
                return -1;
            c->status = strtol(c->hdr + 9, NULL, 10);
            if (c->status < 200) {
                c->hlen = 0;
                continue;
            }
            const char *v;
            c->close_after = hval(c, "connection", &v) && !strncasecmp(v, "close", 5);
            if (hval(c, "transfer-encoding", &v)) {
                c->state = S_CHUNK;
                c->cst = 0;
                c->csz = 0;
            } else if (hval(c, "content-length", &v)) {
                c->left = strtoull(v, NULL, 10);
                c->state = S_CL;
                if (!c->left) {
                    complete(c);
                    return 1;
                }
            } else {
                c->state = S_EOF;
                c->close_after = 1;
            }
            continue;
        }
        if (c->state == S_CL) {
            size_t k = n < c->left ? n : c->left;
            feed(c, p, k, t);
            c->left -= k;
            p += k;
            n -= k;
            if (!c->left) {
                if (n)
                    return -1;
                complete(c);
                return 1;
            }
            continue;
        }
        if (c->state == S_EOF) {
            feed(c, p, n, t);
            return 0;
        }
        switch (c->cst) { /* chunked */
        case 0:
            if (*p == '\n')
                c->cst = c->csz ? 2 : 4;
            else if (*p >= '0' && *p <= '9')
                c->csz = c->csz * 16 + (uint64_t)(*p - '0');
            else if ((*p | 32) >= 'a' && (*p | 32) <= 'f')
                c->csz = c->csz * 16 + (uint64_t)((*p | 32) - 'a' + 10);
            else if (*p == ';')
                c->cst = 1;
            else if (*p != '\r')
                return -1;
            p++;
            n--;
            break;
        case 1:
            if (*p == '\n')
                c->cst = c->csz ? 2 : 4;
            p++;
            n--;
            break;
        case 2: {
            size_t k = n < c->csz ? n : c->csz;
            feed(c, p, k, t);
            c->csz -= k;
            p += k;
            n -= k;
            if (!c->csz)
                c->cst = 3;
            break;
        }
        case 3:
            if (*p == '\n')
                c->cst = 0;
            p++;
            n--;
            break;
        case 4:
            if (*p == '\n') {
                if (n > 1)
                    return -1;
                complete(c);
                return 1;
            }
            if (*p != '\r')
                c->cst = 5;
            p++;
            n--;
            break;
        default:
            if (*p == '\n')
                c->cst = 4;
            p++;
            n--;
            break;
        }
    }
    return 0;
}

static void dial(conn *c)
{
    drop(c);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fresh = 1;
    struct sockaddr_in *sa = &T[c->idx % nt];
    if (connect(c->fd, (struct sockaddr *)sa, sizeof *sa) && errno != EINPROGRESS) {
        drop(c);
        return;
    }
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.ptr = c};
    c->want_out = 1;
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    reconnects++;
}

static void sendmore(conn *c)
{
    while (c->reqpos < c->reqlen) {
        ssize_t n = send(c->fd, c->req + c->reqpos, c->reqlen - c->reqpos, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                want(c, 1);
                return;
            }
            if (!c->fresh && c->state != S_IDLE) {
                reused_closed++;
                c->reqpos = 0;
                dial(c);
                return;
            }
            if (c->state != S_IDLE)
                done(c, &e_conn, strerror(errno));
            return;
        }
        c->reqpos += (size_t)n;
    }
    want(c, 0);
}

static void begin(conn *c, uint64_t t0)
{
    c->state = S_HEAD;
    c->hlen = 0;
    c->llen = 0;
    c->events = c->seq = 0;
    c->status = 0;
    c->body = 0;
    c->has_choices = 0;
    c->done_seen = c->bad = c->close_after = 0;
    c->tlast = 0;
    c->reads = 0;
    c->t0 = t0;
    c->deadline = now_ns() + timeout_ns;
    c->warm = !measuring;
    if (!c->req) {
        c->req = malloc(tlen);
        memcpy(c->req, tmpl, tlen);
    }
    if (noff >= 0) {
        char d[32];
        snprintf(d, sizeof d, "1%07lu", (mod ? mcount % mod : mcount) % 10000000);
        mcount++;
        memcpy(c->req + noff, d, 8);
    }
    c->reqlen = tlen;
    c->reqpos = 0;
    started++;
    if (c->fd < 0) {
        dial(c);
        if (c->fd < 0) {
            done(c, &e_conn, "connect");
        }
        return;
    }
    c->fresh = 0;
    sendmore(c);
}

static int may_start(void)
{
    return !stop && !(count && started >= count + warm_n) && now_ns() < t_end_max;
}

static uint64_t cpu0, main0, m_start, self0;
static int pids[64], npid;

/* Nanoseconds on a CPU so far, by the scheduler's own count; 0 when it cannot be read. */
static uint64_t task_ns(int pid, const char *tid)
{
    char p[320];
    unsigned long long ns = 0;
    snprintf(p, sizeof p, "/proc/%d/task/%s/schedstat", pid, tid);
    FILE *f = fopen(p, "r");
    if (!f)
        return 0;
    if (fscanf(f, "%llu", &ns) != 1)
        ns = 0;
    fclose(f);
    return ns;
}
/* All threads, those that have ended left out; *main_us that of the first one alone. */
static uint64_t pid_cpu_us(int pid, uint64_t *main_us)
{
    char p[64];
    uint64_t ns = 0;
    snprintf(p, sizeof p, "/proc/%d/task", pid);
    DIR *d = opendir(p);
    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));) {
        uint64_t t = e->d_name[0] == '.' ? 0 : task_ns(pid, e->d_name);
        ns += t;
        if (atoi(e->d_name) == pid)
            *main_us += t / 1000;
    }
    closedir(d);
    return ns / 1000;
}
static long pid_rss_kb(int pid, const char *key)
{
    char p[64], l[256];
    long kb = 0;
    snprintf(p, sizeof p, "/proc/%d/status", pid);
    FILE *f = fopen(p, "r");
    if (!f)
        return 0;
    while (fgets(l, sizeof l, f))
        if (!strncmp(l, key, strlen(key)))
            kb = strtol(l + strlen(key) + 1, NULL, 10);
    fclose(f);
    return kb;
}
static uint64_t self_us(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000ull +
           (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}
static void mark(void)
{
    measuring = 1;
    m_start = now_ns();
    t_end_max = m_start + dur_ns;
    self0 = self_us();
    cpu0 = main0 = 0;
    for (int i = 0; i < npid; i++)
        cpu0 += pid_cpu_us(pids[i], &main0);
}

static void next(conn *c)
{
    if (!measuring && finished >= warm_n)
        mark();
    if (rate > 0) {
        if (qh != qt) {
            uint64_t t = queue[qh++ % qcap];
            begin(c, t);
            return;
        }
        idle[nidle++] = c->idx;
        return;
    }
    if (may_start())
        begin(c, now_ns());
}

static void on_read(conn *c)
{
    static char buf[262144];
    for (;;) {
        ssize_t n = recv(c->fd, buf, sizeof buf, 0);
        if (n > 0) {
            uint64_t t = now_ns();
            uint64_t fin = finished;
            int r = parse(c, buf, (size_t)n, t);
            if (r < 0) {
                if (c->state == S_IDLE) {
                    drop(c);
                    return;
                }
                done(c, &e_frame, "bad framing");
                return;
            }
            if (r == 1 || finished != fin)
                return;
            if (abort_after && c->events >= abort_after) {
                aborted++;
                c->state = S_IDLE;
                finished++;
                drop(c);
                next(c);
                return;
            }
            if ((size_t)n < sizeof buf)
                return;
            continue;
        }
        if (n < 0 && errno == EAGAIN)
            return;
        if (c->state == S_IDLE) {
            drop(c);
            return;
        }
        if (c->state == S_EOF && n == 0) {
            complete(c);
            return;
        }
        if (!c->fresh && c->state == S_HEAD && !c->hlen &&
            c->reads++ == 0) { /* keep-alive race: server closed an idle connection */
            reused_closed++;
            c->reqpos = 0;
            dial(c);
            return;
        }
        done(c, &e_conn, n ? strerror(errno) : "closed early");
        return;
    }
}

static void on_sig(int s)
{
    (void)s;
    stop = 1;
}

static void usage(void)
{
    fputs("usage: loadgen [options] http://HOST:PORT[,HOST:PORT...]/PATH\n"
          " -c N        connections (1)            -n N       requests to measure (0: no bound)\n"
          " -d SEC      longest run after the warm-up, seconds (10)  -w N       warm-up requests, "
          "not counted (0)\n"
          " -b FILE     body (POST); none: GET     -s         expect a stream\n"
          " -e N        events expected a stream   -Q         do not check event order\n"
          " -m MOD      replace the literal 10000000 in the body by 1<counter mod MOD>, 7 digits "
          "(0: no mod)\n"
          " -r R        open loop, R requests/s    -t MS      request timeout (30000)\n"
          " -H 'K: V'   extra header               -k         no keep-alive\n"
          " -a K        abort each stream after K events\n"
          " -P PID      report this process's CPU and memory (may repeat)\n"
          " -L TEXT     label in the report\n",
          stderr);
    exit(2);
}

int main(int ac, char **av)
{
    int o, mut = 0;
    double dur = 10;
    const char *bf = NULL, *label = "";
    char extra[4096] = "";
    while ((o = getopt(ac, av, "c:n:d:w:b:se:Qm:r:t:H:ka:P:L:")) != -1)
        switch (o) {
        case 'c':
            nconn = atoi(optarg);
            break;
        case 'n':
            count = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            dur = atof(optarg);
            break;
        case 'w':
            warm_n = strtoull(optarg, NULL, 10);
            break;
        case 'b':
            bf = optarg;
            break;
        case 's':
            stream = 1;
            break;
        case 'e':
            want_events = atol(optarg);
            break;
        case 'Q':
            seqcheck = 0;
            break;
        case 'm':
            mut = 1;
            mod = strtoul(optarg, NULL, 10);
            break;
        case 'r':
            rate = atof(optarg);
            break;
        case 't':
            timeout_ns = strtoull(optarg, NULL, 10) * 1000000ull;
            break;
        case 'H':
            snprintf(extra + strlen(extra), sizeof extra - strlen(extra), "%s\r\n", optarg);
            break;
        case 'k':
            keepalive = 0;
            break;
        case 'a':
            abort_after = atol(optarg);
            break;
        case 'P':
            if (npid < 64)
                pids[npid++] = atoi(optarg);
            break;
        case 'L':
            label = optarg;
            break;
        default:
            usage();
        }
    if (optind + 1 != ac || strncmp(av[optind], "http://", 7) || nconn < 1 || nconn > 65536)
        usage();
    if (dur > 3600)
        dur = 3600;
    char *u = strdup(av[optind] + 7), *path = strchr(u, '/');
    if (!path)
        usage();
    char hostcopy[512];
    snprintf(hostcopy, sizeof hostcopy, "%.*s", (int)(strcspn(u, ",/")), u);
    char *pathc = strdup(path);
    *path = 0;
    for (char *s = strtok(u, ","); s && nt < 64; s = strtok(NULL, ",")) {
        char *col = strrchr(s, ':');
        int port = 80;
        if (col) {
            *col = 0;
            port = atoi(col + 1);
        }
        struct addrinfo hi = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *ai;
        if (getaddrinfo(s, NULL, &hi, &ai)) {
            fprintf(stderr, "cannot resolve %s\n", s);
            return 1;
        }
        T[nt] = *(struct sockaddr_in *)ai->ai_addr;
        T[nt++].sin_port = htons((uint16_t)port);
        freeaddrinfo(ai);
    }
    if (bf) {
        FILE *f = fopen(bf, "rb");
        if (!f) {
            perror(bf);
            return 1;
        }
        fseek(f, 0, SEEK_END);
        blen = (size_t)ftell(f);
        rewind(f);
        body = malloc(blen + 1);
        if (fread(body, 1, blen, f) != blen) {
            perror(bf);
            return 1;
        }
        body[blen] = 0;
        fclose(f);
    }
    head = malloc(8192);
    hlen0 = bf ? (size_t)snprintf(head, 8192,
                                  "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: "
                                  "application/json\r\nContent-Length: %zu\r\n%s%s\r\n",
                                  pathc, hostcopy, blen, keepalive ? "" : "Connection: close\r\n",
                                  extra)
               : (size_t)snprintf(head, 8192, "GET %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n", pathc,
                                  hostcopy, keepalive ? "" : "Connection: close\r\n", extra);
    tlen = hlen0 + blen;
    tmpl = malloc(tlen + 1);
    memcpy(tmpl, head, hlen0);
    if (blen)
        memcpy(tmpl + hlen0, body, blen);
    if (mut) {
        char *q = memmem(tmpl + hlen0, blen, "10000000", 8);
        if (!q) {
            fputs("-m: the body holds no 10000000\n", stderr);
            return 1;
        }
        noff = q - tmpl;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, on_sig);
    signal(SIGTERM, on_sig);
    ep = epoll_create1(EPOLL_CLOEXEC);
    C = calloc((size_t)nconn, sizeof *C);
    idle = malloc((size_t)nconn * sizeof *idle);
    qcap = 1u << 20;
    queue = malloc(qcap * sizeof *queue);
    for (int i = 0; i < nconn; i++) {
        C[i].fd = -1;
        C[i].idx = i;
    }
    t_begin = now_ns();
    dur_ns = (uint64_t)(dur * 1e9);
    t_end_max = t_begin + WARM_MAX_NS; /* until the warm-up is over */
    uint64_t tick = t_begin + 100000000ull, t_sched = t_begin;
    int tfd = -1;
    if (!warm_n)
        mark();
    if (rate > 0) {
        tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
        epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &e);
        for (int i = 0; i < nconn; i++)
            idle[nidle++] = i;
    } else
        for (int i = 0; i < nconn && may_start(); i++)
            begin(&C[i], now_ns());
    struct epoll_event ev[512];
    uint64_t sched_n = 0;
    for (;;) {
        uint64_t t = now_ns();
        if (rate > 0) {
            int more = !stop && !(count && sched_n >= count + warm_n) && t < t_end_max;
            while (more && t_sched <= t) {
                if (nidle) {
                    int i = idle[--nidle];
                    begin(&C[i], t_sched);
                } else if (qt - qh < qcap)
                    queue[qt++ % qcap] = t_sched;
                sched_n++;
                t_sched = t_begin + (uint64_t)((double)sched_n * 1e9 / rate);
                more = !(count && sched_n >= count + warm_n);
            }
            if (!more && nidle == nconn && qh == qt)
                break;
            struct itimerspec it = {
                .it_value = {(time_t)(t_sched / 1000000000ull), (long)(t_sched % 1000000000ull)}};
            timerfd_settime(tfd, TFD_TIMER_ABSTIME, &it, NULL);
        } else {
            int busy = started != finished;
            if (!busy && !may_start())
                break;
        }
        if (t > t_end_max + timeout_ns) {
            errs += started - finished;
            e_timeout += started - finished;
            break;
        }
        if (t > tick) {
            tick = t + 100000000ull;
            for (int i = 0; i < nconn; i++)
                if (C[i].state != S_IDLE && t > C[i].deadline)
                    done(&C[i], &e_timeout, "timeout");
        }
        int n = epoll_wait(ep, ev, 512, 100);
        for (int i = 0; i < n; i++) {
            conn *c = ev[i].data.ptr;
            if (!c) {
                uint64_t x;
                if (read(tfd, &x, 8) < 0) { /* spurious */
                }
                continue;
            }
            if (c->fd < 0)
                continue;
            if (ev[i].events & EPOLLOUT) {
                if (!c->connected) {
                    int er = 0;
                    socklen_t l = sizeof er;
                    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &er, &l);
                    if (er) {
                        if (c->state != S_IDLE)
                            done(c, &e_conn, strerror(er));
                        else
                            drop(c);
                        continue;
                    }
                    c->connected = 1;
                }
                if (c->state != S_IDLE)
                    sendmore(c);
                else
                    want(c, 0);
                if (c->fd < 0)
                    continue;
            }
            if (ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                on_read(c);
        }
    }
    uint64_t t = now_ns();
    double sec = (double)(t - m_start) / 1e9;
    uint64_t cpu = 0, cpu_main = 0, scpu = self_us() - self0;
    long rss = 0, hwm = 0;
    for (int i = 0; i < npid; i++) {
        cpu += pid_cpu_us(pids[i], &cpu_main);
        rss += pid_rss_kb(pids[i], "VmRSS");
        hwm += pid_rss_kb(pids[i], "VmHWM");
    }
    cpu -= cpu0;
    cpu_main -= main0;
    qsort(lat.v, lat.n, sizeof(double), dcmp);
    qsort(ttfb.v, ttfb.n, sizeof(double), dcmp);
    qsort(gap.v, gap.n, sizeof(double), dcmp);
    qsort(dly.v, dly.n, sizeof(double), dcmp);
    double okd = ok ? (double)ok : 1;
    printf("{\"label\":\"%s\",\"conns\":%d,\"rate\":%g,\"body\":%zu,\"sec\":%.3f,\"ok\":%llu,"
           "\"errors\":%llu,\"rps\":%.1f,"
           "\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,"
           "\"ttfb_p50_us\":%.1f,\"ttfb_p99_us\":%.1f,",
           label, nconn, rate, blen, sec, (unsigned long long)ok, (unsigned long long)errs,
           (double)ok / sec, pct(&lat, .5), pct(&lat, .9), pct(&lat, .99), pct(&lat, .999),
           pct(&lat, 1), pct(&ttfb, .5), pct(&ttfb, .99));
    if (stream)
        printf("\"events\":%llu,\"events_s\":%.0f,\"gap_p50_us\":%.1f,\"gap_p99_us\":%.1f,\"delay_"
               "p50_us\":%.1f,\"delay_p99_us\":%.1f,",
               (unsigned long long)events_total, (double)events_total / sec, pct(&gap, .5),
               pct(&gap, .99), pct(&dly, .5), pct(&dly, .99));
    if (npid)
        printf("\"cpu_us_req\":%.2f,\"cpu_us_event\":%.3f,\"cpu_main_us_req\":%.2f,"
               "\"cpu_main_us_event\":%.3f,\"cpu_pct\":%.1f,\"rss_kb\":%ld,\"hwm_kb\":%ld,",
               (double)cpu / okd, events_total ? (double)cpu / (double)events_total : 0,
               (double)cpu_main / okd, events_total ? (double)cpu_main / (double)events_total : 0,
               (double)cpu / sec / 1e4, rss, hwm);
    printf("\"driver_us_req\":%.2f,\"bytes\":%llu,\"dials\":%llu,\"reused_closed\":%llu,"
           "\"aborted\":%llu,"
           "\"err\":{\"status\":%llu,\"frame\":%llu,\"seq\":%llu,\"conn\":%llu,\"timeout\":%llu},"
           "\"status\":{",
           (double)scpu / okd, (unsigned long long)bytes_total, (unsigned long long)reconnects,
           (unsigned long long)reused_closed, (unsigned long long)aborted,
           (unsigned long long)e_status, (unsigned long long)e_frame, (unsigned long long)e_seq,
           (unsigned long long)e_conn, (unsigned long long)e_timeout);
    int first = 1;
    for (int i = 0; i < 600; i++)
        if (st_hist[i]) {
            printf("%s\"%d\":%llu", first ? "" : ",", i, (unsigned long long)st_hist[i]);
            first = 0;
        }
    printf("},\"first_error\":\"");
    for (char *q = err1; *q; q++)
        if (*q != '"' && *q != '\\' && (unsigned char)*q >= 32)
            putchar(*q);
    printf("\"}\n");
    return errs ? 1 : 0;
}
