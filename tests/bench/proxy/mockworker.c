/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mockworker - a cheap stand-in for an OpenAI-compatible inference engine.
 *
 * One thread, epoll, HTTP/1.1 keep-alive, one or more listening ports (each
 * port is one "worker" with its own counters and settings).
 *
 *   POST /v1/completions, /v1/chat/completions, /generate
 *        honours "stream", "max_tokens" (or "max_completion_tokens") and
 *        stream_options.include_usage.  A stream is max_tokens events " w<i>",
 *        each its own write(), then an optional usage event, then [DONE].
 *        Every event carries "t": CLOCK_MONOTONIC ns at the time of writing.
 *   POST /tokenize            one made-up token per 4 bytes of "prompt"
 *   GET  /v1/models /health /version /metrics and a few engine info pages
 *   GET  /_mock/stats         counters of this port (JSON)
 *   GET  /_mock/reset         zero them
 *   GET  /_mock/set?k=v&...   ttft_us itl_us status close closemid stall hdrs
 *
 * Faults (per port, 0 = off):  status=N answer generations with status N;
 * close=1 read the request, then close without a reply; closemid=K close after
 * K stream events; stall=1 never reply; health=N status of /health.
 * nth=N applies the fault to every Nth generation only (0/1: to each).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAXW    64
#define MAXBODY (256u << 20)

typedef struct worker {
    int fd, port;
    long ttft_us, itl_us, status, closef, closemid, stall, health, nth;
    uint64_t accepted, conns, requests, generations, completed, aborted, chunks, faults;
    uint64_t active, max_active, bytes_in, chunked_in, last_abort_ns, last_abort_sent, last_req_ns;
} worker;

enum { R_HEAD, R_BODY, R_CHUNK, R_BUSY };

typedef struct conn {
    int fd, state, keep, chat, usage, closing, want_out, nostart;
    worker *w;
    char *in;
    size_t inlen, incap, hdrlen, need; /* need: body bytes wanted            */
    size_t rp, wp;                     /* chunked request: raw and decoded   */
    int cst;
    uint64_t csz;
    char *out;
    size_t outlen, outpos, outcap;
    int streaming, gen;
    long sent, total, ptoks;
    uint64_t due;
    int hi; /* timer heap index, -1: not in it    */
    struct conn *nextdead;
} conn;

static worker W[MAXW];
static int nw, ep, tfd;
static const char *model = "mock";
static conn **heap;
static int hn, hc;
static conn *dead;
static volatile sig_atomic_t stop;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void *xrealloc(void *p, size_t n)
{
    p = realloc(p, n);
    if (!p) {
        perror("realloc");
        exit(1);
    }
    return p;
}

/* ---- timer heap ---- */
static void hset(int i, conn *c)
{
    heap[i] = c;
    c->hi = i;
}
static void hup(int i)
{
    conn *c = heap[i];
    while (i && heap[(i - 1) / 2]->due > c->due) {
        hset(i, heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    hset(i, c);
}
static void hdown(int i)
{
    conn *c = heap[i];
    for (;;) {
        int k = 2 * i + 1;
        if (k >= hn)
            break;
        if (k + 1 < hn && heap[k + 1]->due < heap[k]->due)
            k++;
        if (heap[k]->due >= c->due)
            break;
        hset(i, heap[k]);
        i = k;
    }
    hset(i, c);
}
static void hdel(conn *c)
{
    int i = c->hi;
    if (i < 0)
        return;
    c->hi = -1;
    if (i == --hn)
        return;
    conn *l = heap[hn];
    hset(i, l);
    hup(i);
    hdown(l->hi);
}
static void hadd(conn *c, uint64_t due)
{
    hdel(c);
    c->due = due;
    if (hn == hc) {
        hc = hc ? hc * 2 : 256;
        heap = xrealloc(heap, (size_t)hc * sizeof *heap);
    }
    hset(hn, c);
    hn++;
    hup(hn - 1);
}
static void arm(void)
{
    static uint64_t armed;
    uint64_t d = hn ? heap[0]->due : 0;
    if (d == armed)
        return;
    armed = d;
    struct itimerspec it = {.it_value = {(time_t)(d / 1000000000ull), (long)(d % 1000000000ull)}};
    timerfd_settime(tfd, TFD_TIMER_ABSTIME, &it, NULL);
}

/* ---- connection plumbing ---- */
static void cclose(conn *c)
{
    if (c->fd < 0)
        return;
    if (c->gen) {
        c->w->active--;
        if (!c->closing) {
            c->w->aborted++;
            c->w->last_abort_ns = now_ns();
            c->w->last_abort_sent = (uint64_t)c->sent;
        }
        c->gen = 0;
    }
    hdel(c);
    close(c->fd);
    c->fd = -1;
    c->w->conns--;
    c->nextdead = dead;
    dead = c;
}

static void want(conn *c, int out)
{
    if (out == c->want_out)
        return;
    c->want_out = out;
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (out ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static int flush(conn *c) /* -1 closed, 0 pending, 1 all sent */
{
    while (c->outpos < c->outlen) {
        ssize_t n = send(c->fd, c->out + c->outpos, c->outlen - c->outpos, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                want(c, 1);
                return 0;
            }
            cclose(c);
            return -1;
        }
        c->outpos += (size_t)n;
    }
    c->outpos = c->outlen = 0;
    want(c, 0);
    return 1;
}

static char *room(conn *c, size_t n)
{
    if (c->outlen + n > c->outcap) {
        c->outcap = (c->outlen + n) * 2;
        c->out = xrealloc(c->out, c->outcap);
    }
    return c->out + c->outlen;
}

static const char *reason(int s)
{
    switch (s) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 413:
        return "Payload Too Large";
    case 429:
        return "Too Many Requests";
    case 500:
        return "Internal Server Error";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    default:
        return "Status";
    }
}

static void reply(conn *c, int st, const char *ct, const char *body, size_t n)
{
    char *p = room(c, n + 256);
    int h = sprintf(
        p, "HTTP/1.1 %d %s\r\nserver: mock\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%s\r\n",
        st, reason(st), ct, n, c->keep ? "" : "connection: close\r\n");
    memcpy(p + h, body, n);
    c->outlen += (size_t)h + n;
}

static void finish(conn *c);
static void process(conn *c);

static size_t put_event(char *b, conn *c, long i) /* one SSE event, no framing */
{
    uint64_t t = now_ns();
    const char *fin = i == c->total - 1 ? "\"length\"" : "null";
    if (c->chat)
        return (size_t)sprintf(
            b,
            "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1,"
            "\"model\":\"%s\",\"t\":%llu,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" "
            "w%ld\"},"
            "\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
            model, (unsigned long long)t, i, fin);
    return (size_t)sprintf(
        b,
        "data: {\"id\":\"cmpl-mock\",\"object\":\"text_completion\",\"created\":1,"
        "\"model\":\"%s\",\"t\":%llu,\"choices\":[{\"index\":0,\"text\":\" w%ld\","
        "\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
        model, (unsigned long long)t, i, fin);
}

static void put_chunk(conn *c, const char *b, size_t n)
{
    char *p = room(c, n + 32);
    int h = sprintf(p, "%zx\r\n", n);
    memcpy(p + h, b, n);
    memcpy(p + h + n, "\r\n", 2);
    c->outlen += (size_t)h + n + 2;
}

static int fault_now(conn *c)
{
    worker *w = c->w;
    if (!w->status && !w->closef && !w->closemid && !w->stall)
        return 0;
    return w->nth <= 1 || w->generations % (uint64_t)w->nth == 0;
}

/* Send the next event(s) of a stream; called with out empty. */
static void pump(conn *c)
{
    char b[1024];
    for (;;) {
        if (c->sent == c->total) {
            if (c->usage) {
                size_t n = (size_t)sprintf(
                    b,
                    "data: {\"id\":\"cmpl-mock\",\"object\":\"%s\",\"created\":1,\"model\":\"%s\","
                    "\"choices\":[],\"usage\":{\"prompt_tokens\":%ld,\"completion_tokens\":%ld,"
                    "\"total_tokens\":%ld}}\n\n",
                    c->chat ? "chat.completion.chunk" : "text_completion", model, c->ptoks,
                    c->total, c->ptoks + c->total);
                put_chunk(c, b, n);
            }
            put_chunk(c, "data: [DONE]\n\n", 14);
            memcpy(room(c, 8), "0\r\n\r\n", 5);
            c->outlen += 5;
            c->streaming = 0;
            finish(c);
            return;
        }
        if (c->w->closemid && c->sent >= c->w->closemid && fault_now(c)) {
            c->w->faults++;
            c->closing = 1;
            cclose(c);
            return;
        }
        put_chunk(c, b, put_event(b, c, c->sent));
        c->sent++;
        c->w->chunks++;
        int r = flush(c);
        if (r < 0)
            return;
        if (c->w->itl_us && c->sent < c->total) {
            hadd(c, c->due + (uint64_t)c->w->itl_us * 1000);
            return;
        }
        if (r == 0)
            return; /* EPOLLOUT resumes */
    }
}

static void whole(conn *c) /* non-stream generation reply */
{
    size_t cap = (size_t)c->total * 9 + 1024;
    char *b = malloc(cap), *p = b;
    p += sprintf(p,
                 c->chat ? "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1,"
                           "\"model\":\"%s\",\"choices\":"
                           "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\""
                         : "{\"id\":\"cmpl-mock\",\"object\":\"text_completion\",\"created\":1,"
                           "\"model\":\"%s\",\"choices\":[{\"index\":0,\"text\":\"",
                 model);
    for (long i = 0; i < c->total; i++)
        p += sprintf(p, " w%ld", i);
    p += sprintf(p,
                 "%s,\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":"
                 "%ld,\"completion_tokens\":%ld,\"total_tokens\":%ld}}",
                 c->chat ? "\"}" : "\"", c->ptoks, c->total, c->ptoks + c->total);
    reply(c, 200, "application/json", b, (size_t)(p - b));
    free(b);
    finish(c);
}

static void finish(conn *c) /* reply is in out; get ready for the next request */
{
    if (c->gen) {
        c->gen = 0;
        c->w->active--;
        c->w->completed++;
    }
    int r = flush(c);
    if (r < 0)
        return;
    if (!c->keep) {
        c->closing = 1;
        if (r == 1)
            cclose(c);
        return;
    }
    size_t used = c->need; /* raw bytes of the request */
    memmove(c->in, c->in + used, c->inlen - used);
    c->inlen -= used;
    c->state = R_HEAD;
    c->hdrlen = 0;
    c->nostart = 0;
}

static const char *find(const char *b, size_t n, const char *key) /* value after "key": */
{
    size_t k = strlen(key);
    const char *p = b, *e = b + n;
    while ((p = memmem(p, (size_t)(e - p), key, k))) {
        const char *q = p + k;
        if (p == b || p[-1] != '\\') {
            while (q < e && (*q == ' ' || *q == '\n' || *q == '\t' || *q == '\r'))
                q++;
            if (q < e && *q == ':') {
                for (q++; q < e && (*q == ' ' || *q == '\n' || *q == '\t' || *q == '\r'); q++)
                    ;
                return q < e ? q : NULL;
            }
        }
        p += k;
    }
    return NULL;
}

static void start_gen(conn *c, const char *body, size_t n, int chat)
{
    worker *w = c->w;
    c->gen = 1;
    c->chat = chat;
    c->sent = 0;
    c->closing = 0;
    w->generations++;
    w->active++;
    w->last_req_ns = now_ns();
    if (w->active > w->max_active)
        w->max_active = w->active;
    const char *v = find(body, n, "\"max_tokens\"");
    if (!v)
        v = find(body, n, "\"max_completion_tokens\"");
    if (!v)
        v = find(body, n, "\"max_new_tokens\"");
    c->total = v ? strtol(v, NULL, 10) : 16;
    if (c->total < 1)
        c->total = 1;
    if (c->total > 1000000)
        c->total = 1000000;
    v = find(body, n, "\"stream\"");
    c->streaming = v && *v == 't';
    v = find(body, n, "\"include_usage\"");
    c->usage = v && *v == 't';
    c->ptoks = (long)(n / 4);
    if (fault_now(c)) {
        if (w->status) {
            static const char m[] =
                "{\"error\":{\"message\":\"mock fault\",\"type\":\"server_error\",\"code\":500}}";
            w->faults++;
            c->streaming = 0;
            reply(c, (int)w->status, "application/json", m, sizeof m - 1);
            finish(c);
            return;
        }
        if (w->closef) {
            w->faults++;
            c->closing = 1;
            cclose(c);
            return;
        }
        if (w->stall) {
            w->faults++;
            return;
        }
    }
    uint64_t t = now_ns();
    if (c->streaming) {
        char *p = room(c, 256);
        c->outlen += (size_t)sprintf(
            p,
            "HTTP/1.1 200 OK\r\nserver: mock\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            "transfer-encoding: chunked\r\n%s\r\n",
            c->keep ? "" : "connection: close\r\n");
        if (w->ttft_us) {
            if (flush(c) < 0)
                return;
            hadd(c, t + (uint64_t)w->ttft_us * 1000);
            return;
        }
        c->due = t;
        pump(c);
        return;
    }
    uint64_t d = (uint64_t)w->ttft_us + (uint64_t)w->itl_us * (uint64_t)(c->total - 1);
    if (d) {
        hadd(c, t + d * 1000);
        return;
    }
    whole(c);
}

static void tokenize(conn *c, const char *body, size_t n)
{
    const char *v = find(body, n, "\"prompt\"");
    size_t len = 0;
    if (v && *v == '"')
        for (v++; v + len < body + n && v[len] != '"'; len++)
            if (v[len] == '\\')
                len++;
    size_t k = (len + 3) / 4;
    char *b = malloc(k * 12 + 128), *p = b;
    p += sprintf(p, "{\"count\":%zu,\"max_model_len\":1048576,\"tokens\":[", k);
    for (size_t i = 0; i < k; i++) {
        uint32_t h = 2166136261u;
        for (size_t j = i * 4; j < i * 4 + 4 && j < len; j++)
            h = (h ^ (unsigned char)v[j]) * 16777619u;
        p += sprintf(p, i ? ",%u" : "%u", h % 128000u);
    }
    p += sprintf(p, "]}");
    reply(c, 200, "application/json", b, (size_t)(p - b));
    free(b);
}

static void setk(worker *w, const char *q)
{
    static const struct {
        const char *k;
        size_t off;
    } K[] = {{"ttft_us", offsetof(worker, ttft_us)},   {"itl_us", offsetof(worker, itl_us)},
             {"status", offsetof(worker, status)},     {"close", offsetof(worker, closef)},
             {"closemid", offsetof(worker, closemid)}, {"stall", offsetof(worker, stall)},
             {"health", offsetof(worker, health)},     {"nth", offsetof(worker, nth)}};
    while (q && *q) {
        for (size_t i = 0; i < sizeof K / sizeof *K; i++) {
            size_t l = strlen(K[i].k);
            if (!strncmp(q, K[i].k, l) && q[l] == '=')
                *(long *)((char *)w + K[i].off) = strtol(q + l + 1, NULL, 10);
        }
        q = strchr(q, '&');
        if (q)
            q++;
    }
}

static void handle(conn *c, const char *body, size_t n)
{
    worker *w = c->w;
    char buf[2048];
    int k;
    w->requests++;
    w->bytes_in += n;
    char *eol = memchr(c->in, '\n', c->hdrlen);
    char *path = memchr(c->in, ' ', (size_t)(eol - c->in)),
         *e = path ? memchr(path + 1, ' ', (size_t)(eol - path - 1)) : NULL;
    if (!e || strncmp(e, " HTTP/1.", 8)) { /* an HTTP/2 preface, or noise */
        c->keep = 0;
        reply(c, 400, "text/plain", "bad request\n", 12);
        finish(c);
        return;
    }
    *path++ = 0;
    *e = 0;
    int post = !strcmp(c->in, "POST");
    if (post && !strcmp(path, "/v1/completions")) {
        start_gen(c, body, n, 0);
        return;
    }
    if (post && !strcmp(path, "/v1/chat/completions")) {
        start_gen(c, body, n, 1);
        return;
    }
    if (post && !strcmp(path, "/generate")) {
        start_gen(c, body, n, 0);
        return;
    }
    if (post && !strcmp(path, "/tokenize"))
        tokenize(c, body, n);
    else if (!strcmp(path, "/health") || !strcmp(path, "/health_generate") ||
             !strcmp(path, "/ping"))
        reply(c, w->health ? (int)w->health : 200, "application/json", "{}", 2);
    else if (!strcmp(path, "/v1/models")) {
        k = sprintf(
            buf,
            "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1,"
            "\"owned_by\":\"vllm\",\"root\":\"%s\",\"max_model_len\":1048576}]}",
            model, model);
        reply(c, 200, "application/json", buf, (size_t)k);
    } else if (!strcmp(path, "/version"))
        reply(c, 200, "application/json", "{\"version\":\"0.12.0\"}", 20);
    else if (!strcmp(path, "/get_server_info") || !strcmp(path, "/server_info") ||
             !strcmp(path, "/get_model_info") || !strcmp(path, "/model_info")) {
        k = sprintf(buf,
                    "{\"model_path\":\"%s\",\"served_model_name\":\"%s\",\"tokenizer_path\":\"\","
                    "\"is_generation\":true,\"version\":\"0.5.0\",\"dp_size\":1,\"tp_size\":1,"
                    "\"max_total_num_tokens\":1000000}",
                    model, model);
        reply(c, 200, "application/json", buf, (size_t)k);
    } else if (!strcmp(path, "/metrics")) {
        k = sprintf(buf,
                    "vllm:num_requests_running{model_name=\"%s\"} "
                    "%llu\nvllm:num_requests_waiting{model_name=\"%s\"} 0\n",
                    model, (unsigned long long)w->active, model);
        reply(c, 200, "text/plain", buf, (size_t)k);
    } else if (!strcmp(path, "/_mock/stats")) {
        k = sprintf(buf,
                    "{\"port\":%d,\"now_ns\":%llu,\"accepted\":%llu,\"conns\":%llu,\"requests\":%"
                    "llu,\"generations\":%llu,\"completed\":%llu,\"aborted\":%llu,"
                    "\"active\":%llu,\"max_active\":%llu,\"chunks\":%llu,\"faults\":%llu,\"bytes_"
                    "in\":%llu,\"chunked_in\":%llu,\"last_abort_ns\":%llu,\"last_abort_sent\":%llu,"
                    "\"last_req_ns\":%llu}",
                    w->port, (unsigned long long)now_ns(), (unsigned long long)w->accepted,
                    (unsigned long long)w->conns, (unsigned long long)w->requests,
                    (unsigned long long)w->generations, (unsigned long long)w->completed,
                    (unsigned long long)w->aborted, (unsigned long long)w->active,
                    (unsigned long long)w->max_active, (unsigned long long)w->chunks,
                    (unsigned long long)w->faults, (unsigned long long)w->bytes_in,
                    (unsigned long long)w->chunked_in, (unsigned long long)w->last_abort_ns,
                    (unsigned long long)w->last_abort_sent, (unsigned long long)w->last_req_ns);
        reply(c, 200, "application/json", buf, (size_t)k);
    } else if (!strcmp(path, "/_mock/reset")) {
        w->accepted = w->requests = w->generations = w->completed = w->aborted = w->chunks =
            w->faults = w->bytes_in = w->chunked_in = 0;
        w->max_active = w->active;
        w->last_abort_ns = w->last_abort_sent = w->last_req_ns = 0;
        reply(c, 200, "application/json", "{}", 2);
    } else if (!strncmp(path, "/_mock/set", 10)) {
        setk(w, strchr(path, '?') ? strchr(path, '?') + 1 : NULL);
        reply(c, 200, "application/json", "{}", 2);
    } else
        reply(c, 404, "application/json", "{\"error\":\"not found\"}", 21);
    finish(c);
}

static int head_value(const char *h, const char *end, const char *name, const char **v)
{
    size_t l = strlen(name);
    for (const char *p = h; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl)
            break;
        if ((size_t)(nl - p) > l && !strncasecmp(p, name, l) && p[l] == ':') {
            for (p += l + 1; *p == ' ' || *p == '\t'; p++)
                ;
            *v = p;
            return 1;
        }
        p = nl + 1;
    }
    return 0;
}

/* In-place decode of a chunked request body; 1 done, 0 more, -1 bad. */
static int dechunk(conn *c)
{
    while (c->rp < c->inlen) {
        char *in = c->in, ch;
        switch (c->cst) {
        case 0: /* size */
            ch = in[c->rp];
            if (ch == '\n') {
                c->rp++;
                c->cst = c->csz ? 2 : 4;
                break;
            }
            if (ch >= '0' && ch <= '9')
                c->csz = c->csz * 16 + (uint64_t)(ch - '0');
            else if ((ch | 32) >= 'a' && (ch | 32) <= 'f')
                c->csz = c->csz * 16 + (uint64_t)((ch | 32) - 'a' + 10);
            else if (ch == ';')
                c->cst = 1;
            else if (ch != '\r')
                return -1;
            if (c->csz > MAXBODY)
                return -1;
            c->rp++;
            break;
        case 1:
            if (in[c->rp] == '\n')
                c->cst = c->csz ? 2 : 4;
            c->rp++;
            break;
        case 2: {
            size_t n = c->inlen - c->rp;
            if (n > c->csz)
                n = c->csz;
            memmove(in + c->wp, in + c->rp, n);
            c->wp += n;
            c->rp += n;
            c->csz -= n;
            if (!c->csz)
                c->cst = 3;
            break;
        }
        case 3:
            if (in[c->rp++] == '\n')
                c->cst = 0;
            break;
        case 4: /* trailers: an empty line ends */
            ch = in[c->rp++];
            if (ch == '\n')
                return 1;
            if (ch != '\r')
                c->cst = 5;
            break;
        default:
            if (in[c->rp++] == '\n')
                c->cst = 4;
            break;
        }
    }
    return 0;
}

static void process(conn *c)
{
    while (c->fd >= 0 && c->state != R_BUSY) {
        if (c->state == R_HEAD) {
            char *e = c->inlen >= 4 ? memmem(c->in, c->inlen, "\r\n\r\n", 4) : NULL;
            if (!e) {
                if (c->inlen > 65536) {
                    c->closing = 1;
                    cclose(c);
                }
                return;
            }
            c->hdrlen = (size_t)(e - c->in) + 4;
            const char *v;
            c->keep = !(head_value(c->in, e + 2, "connection", &v) && !strncasecmp(v, "close", 5));
            if (memmem(c->in, (size_t)((char *)memchr(c->in, '\n', c->hdrlen) - c->in), "HTTP/1.0",
                       8))
                c->keep =
                    head_value(c->in, e + 2, "connection", &v) && !strncasecmp(v, "keep-alive", 10);
            if (head_value(c->in, e + 2, "expect", &v)) {
                static const char k[] = "HTTP/1.1 100 Continue\r\n\r\n";
                memcpy(room(c, sizeof k), k, sizeof k - 1);
                c->outlen += sizeof k - 1;
                if (flush(c) < 0)
                    return;
            }
            if (head_value(c->in, e + 2, "transfer-encoding", &v)) {
                c->state = R_CHUNK;
                c->rp = c->wp = c->hdrlen;
                c->cst = 0;
                c->csz = 0;
                c->w->chunked_in++;
            } else {
                size_t cl =
                    head_value(c->in, e + 2, "content-length", &v) ? strtoull(v, NULL, 10) : 0;
                if (cl > MAXBODY) {
                    c->closing = 1;
                    cclose(c);
                    return;
                }
                c->need = c->hdrlen + cl;
                c->state = R_BODY;
            }
        }
        size_t bend;
        if (c->state == R_CHUNK) {
            int r = dechunk(c);
            if (r < 0) {
                c->closing = 1;
                cclose(c);
                return;
            }
            if (!r) { /* drop the raw bytes already decoded */
                c->inlen = c->rp = c->wp;
                return;
            }
            bend = c->wp;
            c->need = c->rp;
        } else {
            if (c->inlen < c->need) {
                if (c->incap < c->need + 1) {
                    c->incap = c->need + 4096;
                    c->in = xrealloc(c->in, c->incap);
                }
                return;
            }
            bend = c->need;
        }
        c->state = R_BUSY;
        handle(c, c->in + c->hdrlen, bend - c->hdrlen);
    }
}

static void readable(conn *c)
{
    for (;;) {
        if (c->incap - c->inlen < 4096) {
            c->incap = c->incap * 2 + 8192;
            c->in = xrealloc(c->in, c->incap);
        }
        ssize_t n = recv(c->fd, c->in + c->inlen, c->incap - c->inlen - 1, 0);
        if (n == 0) {
            cclose(c);
            return;
        }
        if (n < 0) {
            if (errno != EAGAIN)
                cclose(c);
            return;
        }
        int full = (size_t)n == c->incap - c->inlen - 1;
        c->inlen += (size_t)n;
        c->in[c->inlen] = 0;
        if (c->state != R_BUSY)
            process(c);
        if (c->fd < 0 || !full)
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
    fputs("usage: mockworker [-H host] -p port[-port][,port...] [-m model] [-t ttft_us] [-i "
          "itl_us]\n",
          stderr);
    exit(2);
}

int main(int ac, char **av)
{
    const char *host = "127.0.0.1", *ports = NULL;
    long ttft = 0, itl = 0;
    int o;
    while ((o = getopt(ac, av, "H:p:m:t:i:")) != -1)
        switch (o) {
        case 'H':
            host = optarg;
            break;
        case 'p':
            ports = optarg;
            break;
        case 'm':
            model = optarg;
            break;
        case 't':
            ttft = atol(optarg);
            break;
        case 'i':
            itl = atol(optarg);
            break;
        default:
            usage();
        }
    if (!ports)
        usage();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, on_sig);
    signal(SIGTERM, on_sig);
    ep = epoll_create1(EPOLL_CLOEXEC);
    tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &e);
    for (const char *p = ports; *p;) {
        char *q;
        long a = strtol(p, &q, 10), b = a;
        if (q == p)
            usage();
        if (*q == '-')
            b = strtol(q + 1, &q, 10);
        for (; a <= b && nw < MAXW; a++) {
            worker *w = &W[nw++];
            struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)a)};
            int one = 1;
            w->port = (int)a;
            w->ttft_us = ttft;
            w->itl_us = itl;
            inet_pton(AF_INET, host, &sa.sin_addr);
            w->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            setsockopt(w->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
            if (bind(w->fd, (struct sockaddr *)&sa, sizeof sa) || listen(w->fd, 1024)) {
                perror("bind/listen");
                return 1;
            }
            e.data.ptr = w;
            epoll_ctl(ep, EPOLL_CTL_ADD, w->fd, &e);
        }
        p = *q == ',' ? q + 1 : q;
        if (*q && *q != ',')
            usage();
    }
    struct epoll_event ev[256];
    while (!stop) {
        arm();
        int n = epoll_wait(ep, ev, 256, -1);
        for (int i = 0; i < n; i++) {
            void *p = ev[i].data.ptr;
            if (!p) {
                uint64_t x;
                if (read(tfd, &x, sizeof x) < 0) { /* nothing due */
                }
                continue;
            }
            if (p >= (void *)W && p < (void *)(W + nw)) {
                worker *w = p;
                for (int k = 0; k < 64; k++) {
                    int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
                    if (fd < 0)
                        break;
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    conn *c = calloc(1, sizeof *c);
                    c->fd = fd;
                    c->w = w;
                    c->hi = -1;
                    w->accepted++;
                    w->conns++;
                    struct epoll_event ce = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ce);
                }
                continue;
            }
            conn *c = p;
            if (c->fd < 0)
                continue;
            if (ev[i].events & (EPOLLHUP | EPOLLERR)) {
                cclose(c);
                continue;
            }
            if (ev[i].events & EPOLLOUT) {
                int r = flush(c);
                if (r < 0)
                    continue;
                if (r == 1) {
                    if (c->closing && !c->gen) {
                        cclose(c);
                        continue;
                    }
                    if (c->streaming && c->hi < 0)
                        pump(c);
                    if (c->fd >= 0 && c->state == R_HEAD && c->inlen)
                        process(c);
                    if (c->fd < 0)
                        continue;
                }
            }
            if (ev[i].events & (EPOLLIN | EPOLLRDHUP))
                readable(c);
        }
        uint64_t t = now_ns();
        while (hn && heap[0]->due <= t) {
            conn *c = heap[0];
            uint64_t d = c->due;
            hdel(c);
            c->due = d;
            if (c->streaming)
                pump(c);
            else
                whole(c);
            if (c->fd >= 0 && c->state == R_HEAD && c->inlen)
                process(c);
        }
        while (dead) {
            conn *c = dead;
            dead = c->nextdead;
            free(c->in);
            free(c->out);
            free(c);
        }
    }
    return 0;
}
