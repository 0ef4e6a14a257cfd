/* SPDX-License-Identifier: Apache-2.0 */
/* A program of somebody else: test_install.sh builds it against what was installed. */
#include <jetrouter/jetrouter.h>
#include <jetrouter/version.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 16
#define N     64

static int expect(int ok, const char *what)
{
    if (!ok)
        fprintf(stderr, "not so: %s\n", what);
    return !ok;
}

/* Worker 2 holds the prompt: it is chosen. */
static int choose(struct jetrouter *r)
{
    uint32_t tokens[N];
    uint64_t local[N / BLOCK];
    struct jetrouter_block blocks[N / BLOCK];
    struct jetrouter_worker one = {.id = 1}, two = {.id = 2};
    struct jetrouter_choice choice;

    for (uint32_t i = 0; i < N; i++)
        tokens[i] = i;
    struct jetrouter_request request = {.tokens = tokens, .n_tokens = N};
    uint32_t n = jetrouter_hash_tokens(r, &request, local);
    for (uint32_t i = 0; i < n; i++)
        blocks[i] = (struct jetrouter_block){.block_hash = 100 + i, .local_hash = local[i]};
    return expect(n == N / BLOCK, "four blocks") ||
           expect(jetrouter_worker_add(r, one) == 0, "worker 1") ||
           expect(jetrouter_worker_add(r, two) == 0, "worker 2") ||
           expect(jetrouter_stored(r, two, NULL, blocks, n) == 0, "stored") ||
           expect(jetrouter_select(r, &request, 0, &choice) == 0, "a choice") ||
           expect(choice.worker.id == 2 && choice.overlap_blocks == n, "worker 2 is chosen");
}

int main(void)
{
    struct jetrouter_options options = {.block_size = BLOCK};
    struct jetrouter *r = NULL;

    if (expect(strcmp(jetrouter_version(), JETROUTER_VERSION) == 0, "header and library agree") ||
        expect(jetrouter_create(&options, &r) == 0, "create"))
        return 1;
    int failed = choose(r);
    jetrouter_destroy(r);
    return failed;
}
