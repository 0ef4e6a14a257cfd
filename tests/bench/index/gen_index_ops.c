/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_index_ops - expand a Mooncake trace into the "index workload" op stream.
 *
 *   cc -O2 -std=gnu11 -o gen_index_ops gen_index_ops.c
 *   gen_index_ops TRACE.jsonl OUT.ops [-b block] [-w workers] [-c capacity]
 *                 [-r mix|hash] [-n max_requests] [-x copies]
 *
 * Defaults: -b 64 -w 16 -c 1048576/block -r mix -n all -x 1
 *
 * Everything is little-endian and deterministic.  See "Op file format" below.
 *
 * Op file format (all fields little-endian, everything 8-byte aligned)
 *   header, 128 bytes:
 *     0   char[8]  "JRIXOPS1"
 *     8   u32 version (1)        12  u32 block size B
 *     16  u32 workers W          20  u32 capacity C (blocks per worker)
 *     24  u64 ops                32  u64 lookups
 *     40  u64 looked-up blocks   48  u64 stored events
 *     56  u64 stored blocks      64  u64 removed events
 *     72  u64 removed blocks     80  u64 resident (block,worker) at the end
 *     88  u64 expected checksum, lookups interleaved with events, in order
 *     96  u64 expected checksum, all lookups again after all events
 *     104 u64 sum of best scores (interleaved)
 *     112 u64 sum of best scores (after all events)
 *     120 u64 unique sequence hashes in the whole stream (lookup side)
 *   then `ops` records:
 *     u32 kind  1 lookup, 2 stored, 3 removed
 *     u32 worker (0..W-1; 0 for a lookup)
 *     u32 n     number of blocks
 *     u32 has_parent (stored only)
 *     u64 parent sequence hash (0 if none)
 *     payload:  lookup  n * u64 local hash
 *               stored  n * { u64 sequence hash, u64 local hash }
 *               removed n * u64 sequence hash
 *
 * Checksum of one lookup number L (0-based): for every worker w with score
 * s > 0 add mix64(mix64(L * 65536 + w) + s), mod 2^64.  Total = sum over L.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HDR_SIZE 128

static void die(const char *what)
{
    fprintf(stderr, "gen_index_ops: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static void *xalloc(size_t n)
{
    void *p = calloc(1, n ? n : 1);

    if (p == NULL)
        die("out of memory");
    return p;
}

/* SplitMix64 output function: a bijection on 64-bit words. */
static uint64_t mix64(uint64_t z)
{
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Block i of 512-token trace block `id` (i < 512; B >= 1). */
static uint64_t local_hash(uint64_t id, uint64_t i)
{
    return mix64(id * 512 + i);
}

/*
 * XXH3-64, seed 1337, of the 16 bytes LE(a) || LE(b).  Words of the default
 * secret at byte offsets 24, 32, 40 and 48.
 */
static uint64_t seq_hash(uint64_t a, uint64_t b)
{
    const uint64_t seed = 1337;
    const uint64_t flip1 = (0x1f67b3b7a4a44072u ^ 0x78e5c0cc4ee679cbu) + seed;
    const uint64_t flip2 = (0x2172ffcc7dd05a82u ^ 0x8e2443f7744608b8u) - seed;
    uint64_t lo = a ^ flip1;
    uint64_t hi = b ^ flip2;
    unsigned __int128 m = (unsigned __int128)lo * hi;
    uint64_t acc = 16 + __builtin_bswap64(lo) + hi + ((uint64_t)m ^ (uint64_t)(m >> 64));

    acc ^= acc >> 37;
    acc *= 0x165667919E3779F9u;
    return acc ^ (acc >> 32);
}

/* One worker's cache: open-addressed hash -> node, nodes on an LRU list. */
struct node {
    uint64_t hash;
    uint32_t prev, next;
};

struct cache {
    struct node *nodes; /* 1..cap; 0 is the list head */
    uint32_t *table;    /* node number + 0, 0 = empty */
    uint32_t mask;
    uint32_t cap;
    uint32_t used;
};

static void cache_init(struct cache *c, uint32_t cap)
{
    uint32_t size = 16;

    while (size < cap * 2)
        size *= 2;
    c->nodes = xalloc(((size_t)cap + 1) * sizeof(*c->nodes));
    c->table = xalloc((size_t)size * sizeof(*c->table));
    c->mask = size - 1;
    c->cap = cap;
    c->used = 0;
}

static uint32_t cache_find(const struct cache *c, uint64_t hash)
{
    uint32_t i = (uint32_t)(hash >> 20) & c->mask;

    while (c->table[i] != 0) {
        if (c->nodes[c->table[i]].hash == hash)
            return c->table[i];
        i = (i + 1) & c->mask;
    }
    return 0;
}

static void table_put(struct cache *c, uint64_t hash, uint32_t n)
{
    uint32_t i = (uint32_t)(hash >> 20) & c->mask;

    while (c->table[i] != 0)
        i = (i + 1) & c->mask;
    c->table[i] = n;
}

static void table_del(struct cache *c, uint64_t hash)
{
    uint32_t i = (uint32_t)(hash >> 20) & c->mask;
    uint32_t j, home;

    while (c->nodes[c->table[i]].hash != hash)
        i = (i + 1) & c->mask;
    for (j = (i + 1) & c->mask; c->table[j] != 0; j = (j + 1) & c->mask) {
        home = (uint32_t)(c->nodes[c->table[j]].hash >> 20) & c->mask;
        if (((j - home) & c->mask) >= ((j - i) & c->mask)) {
            c->table[i] = c->table[j];
            i = j;
        }
    }
    c->table[i] = 0;
}

static void list_unlink(struct cache *c, uint32_t n)
{
    c->nodes[c->nodes[n].prev].next = c->nodes[n].next;
    c->nodes[c->nodes[n].next].prev = c->nodes[n].prev;
}

static void list_front(struct cache *c, uint32_t n)
{
    c->nodes[n].prev = 0;
    c->nodes[n].next = c->nodes[0].next;
    c->nodes[c->nodes[0].next].prev = n;
    c->nodes[0].next = n;
}

/* Growable set of sequence hashes, only for the "unique" header field. */
struct set {
    uint64_t *slot;
    uint64_t mask, used;
};

static void set_add(struct set *s, uint64_t v)
{
    uint64_t i, j, *old = s->slot;

    if (s->slot == NULL || s->used * 2 > s->mask) {
        uint64_t osize = old ? s->mask + 1 : 0;

        s->mask = osize ? osize * 4 - 1 : 65535;
        s->slot = xalloc((size_t)(s->mask + 1) * 8);
        for (j = 0; j < osize; j++) {
            if (old[j] == 0)
                continue;
            for (i = (old[j] >> 20) & s->mask; s->slot[i]; i = (i + 1) & s->mask)
                ;
            s->slot[i] = old[j];
        }
        free(old);
    }
    for (i = (v >> 20) & s->mask; s->slot[i]; i = (i + 1) & s->mask)
        if (s->slot[i] == v)
            return;
    s->slot[i] = v;
    s->used++;
}

struct request {
    uint64_t *ids;
    uint32_t n_ids;
    uint32_t n_blocks;
};

struct stats {
    uint64_t ops, lookups, lookup_blocks, stored, stored_blocks, removed, removed_blocks;
    uint64_t sum_mixed, sum_after, best_mixed, best_after;
};

static FILE *out;

static void put(const void *p, size_t n)
{
    if (n != 0 && fwrite(p, 1, n, out) != n)
        die("write");
}

static void put_op(struct stats *st, uint32_t kind, uint32_t worker, uint32_t n,
                   uint32_t has_parent, uint64_t parent)
{
    uint32_t h[4] = {kind, worker, n, has_parent};

    put(h, sizeof(h));
    put(&parent, 8);
    st->ops++;
}

static uint64_t expand(const struct request *r, uint32_t block, uint64_t *loc, uint64_t *seq)
{
    uint32_t per = 512 / block;

    for (uint32_t i = 0; i < r->n_blocks; i++) {
        loc[i] = local_hash(r->ids[i / per], i % per);
        seq[i] = i ? seq_hash(seq[i - 1], loc[i]) : loc[i];
    }
    return r->n_blocks;
}

static uint64_t score_sum(struct cache *c, uint32_t workers, const uint64_t *seq, uint32_t n,
                          uint64_t lookup_no, uint64_t *best_sum)
{
    uint64_t sum = 0, best = 0;

    for (uint32_t w = 0; w < workers; w++) {
        uint64_t s = 0;

        while (s < n && cache_find(&c[w], seq[s]))
            s++;
        if (s > 0)
            sum += mix64(mix64(lookup_no * 65536 + w) + s);
        if (s > best)
            best = s;
    }
    *best_sum += best;
    return sum;
}

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *buf;
    long n;

    if (f == NULL)
        die(path);
    fseek(f, 0, SEEK_END);
    n = ftell(f);
    rewind(f);
    buf = xalloc((size_t)n + 1);
    if (fread(buf, 1, (size_t)n, f) != (size_t)n)
        die(path);
    fclose(f);
    return buf;
}

int main(int argc, char **argv)
{
    uint32_t block = 64, workers = 16, cap = 0, copies = 1;
    uint64_t max_req = UINT64_MAX, n_req = 0, room = 0, id_max = 0, max_blocks = 0;
    int rule_mix = 1;
    struct request *req = NULL;
    struct stats st = {0};
    struct set uniq = {0};
    struct cache *cache;
    char *text, *line, *save = NULL;

    if (argc < 3) {
        fprintf(stderr, "usage: gen_index_ops TRACE OUT [-b B] [-w W] [-c C] "
                        "[-r mix|hash] [-n requests] [-x copies]\n");
        return 2;
    }
    for (int i = 3; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "-b"))
            block = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "-w"))
            workers = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "-c"))
            cap = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "-r"))
            rule_mix = strcmp(argv[i + 1], "hash") != 0;
        else if (!strcmp(argv[i], "-n"))
            max_req = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "-x"))
            copies = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    }
    if (block == 0 || 512 % block != 0 || workers == 0 || copies == 0)
        die("bad option (block must divide 512)");
    if (cap == 0)
        cap = 1048576 / block;

    /* Parse the trace: one JSON object a line, only two members matter. */
    text = read_all(argv[1]);
    for (line = strtok_r(text, "\n", &save); line && n_req < max_req;
         line = strtok_r(NULL, "\n", &save)) {
        char *len = strstr(line, "\"input_length\"");
        char *ids = strstr(line, "\"hash_ids\"");
        struct request r = {0};
        uint64_t tokens, idroom = 0;

        if (len == NULL || ids == NULL)
            continue;
        tokens = strtoull(strchr(len, ':') + 1, NULL, 10);
        for (char *p = strchr(ids, '[') + 1; *p && *p != ']';) {
            char *e;
            uint64_t v = strtoull(p, &e, 10);

            if (e == p) {
                p++;
                continue;
            }
            if (r.n_ids == idroom) {
                idroom = idroom ? idroom * 2 : 16;
                r.ids = realloc(r.ids, idroom * 8);
            }
            r.ids[r.n_ids++] = v;
            if (v > id_max)
                id_max = v;
            p = e;
        }
        /* Only complete blocks count; never more than the ids cover. */
        r.n_blocks = (uint32_t)(tokens / block);
        if (r.n_blocks > r.n_ids * (512 / block))
            r.n_blocks = r.n_ids * (512 / block);
        if (r.n_blocks > cap)
            r.n_blocks = cap;
        if (r.n_blocks == 0) {
            free(r.ids);
            continue;
        }
        if (r.n_blocks > max_blocks)
            max_blocks = r.n_blocks;
        if (n_req == room) {
            room = room ? room * 2 : 1024;
            req = realloc(req, room * sizeof(*req));
        }
        req[n_req++] = r;
    }
    if (n_req == 0)
        die("no requests in the trace");

    out = fopen(argv[2], "wb");
    if (out == NULL)
        die(argv[2]);
    {
        char zero[HDR_SIZE] = {0};

        put(zero, sizeof(zero));
    }
    cache = xalloc(workers * sizeof(*cache));
    for (uint32_t w = 0; w < workers; w++)
        cache_init(&cache[w], cap);

    uint64_t *loc = xalloc(max_blocks * 8), *seq = xalloc(max_blocks * 8);
    uint64_t *gone = xalloc(((uint64_t)cap + 1) * 8);

    /* Copy k > 0 of the trace uses ids shifted past all ids of copy k - 1. */
    for (uint64_t k = 0; k < copies; k++) {
        for (uint64_t q = 0; q < n_req; q++) {
            struct request *r = &req[q];
            uint64_t index = k * n_req + q;
            uint64_t key = mix64(index);
            uint32_t n = r->n_blocks, hit = 0, fresh, evict, w;

            if (k > 0)
                for (uint32_t i = 0; i < r->n_ids; i++)
                    r->ids[i] += id_max + 1;
            expand(r, block, loc, seq);
            for (uint32_t i = 0; i < n; i++)
                set_add(&uniq, seq[i]);

            /* 1. the lookup */
            put_op(&st, 1, 0, n, 0, 0);
            put(loc, (size_t)n * 8);
            st.sum_mixed += score_sum(cache, workers, seq, n, st.lookups, &st.best_mixed);
            st.lookups++;
            st.lookup_blocks += n;

            /* 2. the worker: 3 in 4 by conversation, 1 in 4 anywhere */
            if (rule_mix && key % 4 != 0)
                w = (uint32_t)(mix64(r->ids[r->n_ids > 1]) % workers);
            else
                w = (uint32_t)((key >> 2) % workers);

            /* 3. touch the cached prefix, tail first, so that a parent is
			 *    always more recent than its children */
            struct cache *c = &cache[w];

            while (hit < n && cache_find(c, seq[hit]))
                hit++;
            for (uint32_t i = hit; i-- > 0;) {
                uint32_t nd = cache_find(c, seq[i]);

                list_unlink(c, nd);
                list_front(c, nd);
            }
            fresh = n - hit;
            if (fresh == 0)
                continue;

            /* 4. evict least recent first (always leaves) */
            evict = c->used + fresh > c->cap ? c->used + fresh - c->cap : 0;
            if (evict > 0) {
                for (uint32_t i = 0; i < evict; i++) {
                    uint32_t nd = c->nodes[0].prev;

                    gone[i] = c->nodes[nd].hash;
                    table_del(c, gone[i]);
                    list_unlink(c, nd);
                    /* keep used nodes dense: move the last one here */
                    uint32_t last = c->used--;

                    if (last != nd) {
                        uint64_t h = c->nodes[last].hash;

                        table_del(c, h);
                        c->nodes[nd] = c->nodes[last];
                        c->nodes[c->nodes[nd].prev].next = nd;
                        c->nodes[c->nodes[nd].next].prev = nd;
                        table_put(c, h, nd);
                    }
                }
                put_op(&st, 3, w, evict, 0, 0);
                put(gone, (size_t)evict * 8);
                st.removed++;
                st.removed_blocks += evict;
            }

            /* 5. store the rest, tail first for the recency order */
            for (uint32_t i = n; i-- > hit;) {
                uint32_t nd = ++c->used;

                c->nodes[nd].hash = seq[i];
                table_put(c, seq[i], nd);
                list_front(c, nd);
            }
            /* the touched prefix must stay more recent than its new children */
            for (uint32_t i = hit; i-- > 0;) {
                uint32_t nd = cache_find(c, seq[i]);

                list_unlink(c, nd);
                list_front(c, nd);
            }
            put_op(&st, 2, w, fresh, hit > 0, hit > 0 ? seq[hit - 1] : 0);
            for (uint32_t i = hit; i < n; i++) {
                put(&seq[i], 8);
                put(&loc[i], 8);
            }
            st.stored++;
            st.stored_blocks += fresh;
        }
    }

    /* Second pass: what every lookup must answer once all events are applied. */
    uint64_t resident = 0, number = 0;

    for (uint32_t w = 0; w < workers; w++)
        resident += cache[w].used;
    for (uint64_t k = 0; k < copies; k++) {
        for (uint64_t q = 0; q < n_req; q++) {
            struct request *r = &req[q];

            if (k == 0)
                for (uint32_t i = 0; i < r->n_ids; i++)
                    r->ids[i] -= (copies - 1) * (id_max + 1);
            else
                for (uint32_t i = 0; i < r->n_ids; i++)
                    r->ids[i] += id_max + 1;
            expand(r, block, loc, seq);
            st.sum_after += score_sum(cache, workers, seq, r->n_blocks, number++, &st.best_after);
        }
    }

    uint32_t h32[4] = {1, block, workers, cap};
    uint64_t h64[13] = {st.ops,           st.lookups,   st.lookup_blocks,  st.stored,
                        st.stored_blocks, st.removed,   st.removed_blocks, resident,
                        st.sum_mixed,     st.sum_after, st.best_mixed,     st.best_after,
                        uniq.used};

    rewind(out);
    put("JRIXOPS1", 8);
    put(h32, sizeof(h32));
    put(h64, sizeof(h64));
    if (fclose(out) != 0)
        die("close");
    printf("%s: B=%u W=%u C=%u ops=%" PRIu64 " lookups=%" PRIu64 " (%" PRIu64 " blocks) "
           "stored=%" PRIu64 " (%" PRIu64 ") removed=%" PRIu64 " (%" PRIu64 ") resident=%" PRIu64
           " unique=%" PRIu64 " best=%" PRIu64 "/%" PRIu64 " sum=%016" PRIx64 "/%016" PRIx64 "\n",
           argv[2], block, workers, cap, st.ops, st.lookups, st.lookup_blocks, st.stored,
           st.stored_blocks, st.removed, st.removed_blocks, resident, uniq.used, st.best_mixed,
           st.best_after, st.sum_mixed, st.sum_after);
    return 0;
}
