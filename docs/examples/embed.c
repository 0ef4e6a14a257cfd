/* SPDX-License-Identifier: Apache-2.0 */
/* JetRouter inside another program: two workers, one of which holds the beginning of a prompt.
 *
 *     cc embed.c $(pkg-config --cflags --libs jetrouter) -o embed && ./embed */
#include <jetrouter/jetrouter.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK  16
#define TOKENS 256
#define BLOCKS (TOKENS / BLOCK)

static void check(int rv, const char *what)
{
    if (rv >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, jetrouter_error_text(rv));
    exit(1);
}

/* A worker's engine reported these blocks as stored; its names for them are its own. */
static void engine_stored(struct jetrouter *r, struct jetrouter_worker worker,
                          const struct jetrouter_request *prompt, uint32_t n_blocks)
{
    uint64_t local[BLOCKS];
    struct jetrouter_block blocks[BLOCKS];
    uint32_t n = jetrouter_hash_tokens(r, prompt, local);

    for (uint32_t i = 0; i < n && i < n_blocks; i++)
        blocks[i] = (struct jetrouter_block){.block_hash = 7000 + i, .local_hash = local[i]};
    check(jetrouter_stored(r, worker, NULL, blocks, n_blocks), "stored");
}

/* Choose, book, first token, done: what a proxy does for each request. */
static uint64_t route(struct jetrouter *r, uint64_t key, const struct jetrouter_request *prompt,
                      uint64_t now_ms)
{
    struct jetrouter_choice choice;

    check(jetrouter_select(r, prompt, now_ms, &choice), "best worker");
    check(jetrouter_book(r, key, prompt, &choice, now_ms), "begin");
    printf("request %llu: worker %llu holds %u of %u blocks\n", (unsigned long long)key,
           (unsigned long long)choice.worker.id, choice.overlap_blocks, prompt->n_tokens / BLOCK);
    check(jetrouter_first_token(r, key, now_ms + 20), "first token");
    check(jetrouter_free(r, key, now_ms + 200), "done");
    return choice.worker.id;
}

/* A copy of the index for the next start of this program. */
static struct jetrouter *restarted(struct jetrouter *r, const struct jetrouter_options *options)
{
    struct jetrouter *next = NULL;
    size_t size, written;
    void *bytes;

    (void)jetrouter_export(r, NULL, 0, &size); /* only asks for the size */
    bytes = malloc(size);
    if (!bytes)
        exit(1);
    check(jetrouter_export(r, bytes, size, &written), "export");
    check(jetrouter_create(options, &next), "create");
    check(jetrouter_import(next, bytes, written), "import");
    free(bytes);
    return next;
}

int main(void)
{
    struct jetrouter_options options = {.block_size = BLOCK, .cost = JETROUTER_COST_SECONDS};
    struct jetrouter_worker one = {.id = 1}, two = {.id = 2};
    struct jetrouter_overlap held[2];
    uint32_t tokens[TOKENS];
    struct jetrouter_request prompt = {.tokens = tokens, .n_tokens = TOKENS};
    struct jetrouter *r = NULL, *next;

    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = i;
    check(jetrouter_create(&options, &r), "create");
    check(jetrouter_worker_add(r, one), "worker 1");
    check(jetrouter_worker_add(r, two), "worker 2");
    engine_stored(r, two, &prompt, BLOCKS / 2);
    if (route(r, 100, &prompt, 1000) != 2)
        return 1;
    next = restarted(r, &options);
    jetrouter_destroy(r);
    if (jetrouter_query(next, &prompt, held, 2) != 1 || held[0].blocks != BLOCKS / 2)
        return 1;
    if (route(next, 101, &prompt, 2000) != 2)
        return 1;
    jetrouter_destroy(next);
    return 0;
}
