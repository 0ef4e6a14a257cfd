/* SPDX-License-Identifier: Apache-2.0 */
/*
 * split_ops - rewrite an op stream (gen_index_ops) so that no event holds more than K blocks.
 *
 *   cc -O2 -std=gnu11 -o split_ops split_ops.c
 *   split_ops IN.ops OUT.ops K
 *
 * A stored run of n blocks becomes ceil(n/K) stored events chained by parent, a removed run becomes
 * ceil(n/K) removed events.  Lookups, order, final state and checksums stay as they are.  K = 1 is what an
 * engine sends for decoded blocks and for evictions; the unsplit stream is what it sends for a long prefill.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOKUP = 1, STORED = 2, REMOVED = 3, HEADER_BYTES = 128 };

struct record {
    uint32_t kind, worker, n, has_parent;
    uint64_t parent;
};

static void die(const char *what)
{
    fprintf(stderr, "split_ops: %s\n", what);
    exit(1);
}

static void put(FILE *out, const void *p, size_t bytes)
{
    if (fwrite(p, 1, bytes, out) != bytes)
        die("write failed");
}

int main(int argc, char **argv)
{
    unsigned char header[HEADER_BYTES];
    uint64_t ops, new_ops = 0, stored = 0, removed = 0;
    uint64_t *blocks = NULL;
    size_t cap = 0;

    if (argc != 4 || atoi(argv[3]) < 1)
        die("usage: split_ops IN.ops OUT.ops K");
    uint32_t k = (uint32_t)atoi(argv[3]);
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (in == NULL || out == NULL)
        die("cannot open a file");
    if (fread(header, 1, sizeof(header), in) != sizeof(header) ||
        memcmp(header, "JRIXOPS1", 8) != 0)
        die("not an op stream");
    put(out, header, sizeof(header));
    memcpy(&ops, header + 24, 8);
    for (uint64_t i = 0; i < ops; i++) {
        struct record r;

        if (fread(&r, sizeof(r), 1, in) != 1)
            die("truncated");
        size_t words = (r.kind == STORED) ? 2 : 1; /* u64 words a block */
        if (r.n * words > cap) {
            cap = r.n * words;
            blocks = realloc(blocks, cap * 8);
            if (blocks == NULL)
                die("out of memory");
        }
        if (fread(blocks, 8 * words, r.n, in) != r.n)
            die("truncated");
        uint32_t step = (r.kind == LOOKUP) ? r.n : k;
        for (uint32_t at = 0; at < r.n; at += step) {
            struct record part = r;

            part.n = (r.n - at < step) ? r.n - at : step;
            if (r.kind == STORED && at > 0) {
                part.has_parent = 1;
                part.parent = blocks[2 * (at - 1)];
            }
            put(out, &part, sizeof(part));
            put(out, blocks + at * words, 8 * words * part.n);
            new_ops++;
            stored += r.kind == STORED;
            removed += r.kind == REMOVED;
        }
    }
    memcpy(header + 24, &new_ops, 8);
    memcpy(header + 48, &stored, 8);
    memcpy(header + 64, &removed, 8);
    rewind(out);
    put(out, header, sizeof(header));
    if (fclose(out) != 0)
        die("write failed");
    printf("%llu ops\n", (unsigned long long)new_ops);
    return 0;
}
