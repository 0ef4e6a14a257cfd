/* SPDX-License-Identifier: Apache-2.0 */
#include "io/conveyor.h"

#include "base/assert.h"
#include "base/mem.h"

#include <pthread.h>

#define THREADS_MAX 64

struct jr_conveyor {
    struct jr_conveyor_config config;
    pthread_mutex_t mu;
    pthread_cond_t todo;
    struct jr_conveyor_item *head, **tail; /* all that did not go out, in order */
    struct jr_conveyor_item *next;         /* of them, the first that nobody works on */
    bool stop;
    uint32_t n_threads;
    pthread_t threads[THREADS_MAX];
};

/* Under the lock, so that nothing overtakes. */
static void pass_on(struct jr_conveyor *c)
{
    while (c->head != NULL && c->head->worked) {
        struct jr_conveyor_item *item = c->head;
        c->head = item->next;
        if (c->head == NULL)
            c->tail = &c->head;
        c->config.out(item, c->config.ctx);
    }
}

static void *worker_main(void *arg)
{
    struct jr_conveyor *c = arg;

    pthread_mutex_lock(&c->mu);
    for (;;) {
        while (c->next == NULL && !c->stop)
            pthread_cond_wait(&c->todo, &c->mu);
        if (c->next == NULL)
            break;
        struct jr_conveyor_item *item = c->next;
        c->next = item->next;
        pthread_mutex_unlock(&c->mu);
        c->config.work(item, c->config.ctx);
        pthread_mutex_lock(&c->mu);
        item->worked = true;
        pass_on(c);
    }
    pthread_mutex_unlock(&c->mu);
    return NULL;
}

int jr_conveyor_create(const struct jr_conveyor_config *config, struct jr_conveyor **ret)
{
    struct jr_conveyor *c = jr_xalloc(sizeof *c);

    JR_ASSERT(config->n_threads >= 1 && config->n_threads <= THREADS_MAX);
    c->config = *config;
    c->tail = &c->head;
    pthread_mutex_init(&c->mu, NULL);
    pthread_cond_init(&c->todo, NULL);
    for (uint32_t i = 0; i < config->n_threads; i++) {
        if (pthread_create(&c->threads[i], NULL, worker_main, c) != 0) {
            jr_conveyor_destroy(c);
            return JR_EIO;
        }
        c->n_threads++;
    }
    *ret = c;
    return 0;
}

void jr_conveyor_put(struct jr_conveyor *c, struct jr_conveyor_item *item, bool here)
{
    item->next = NULL;
    item->worked = false;
    pthread_mutex_lock(&c->mu);
    if (here && c->head == NULL) { /* the only putter is here: it stays empty */
        pthread_mutex_unlock(&c->mu);
        c->config.work(item, c->config.ctx);
        c->config.out(item, c->config.ctx);
        return;
    }
    *c->tail = item;
    c->tail = &item->next;
    if (c->next == NULL)
        c->next = item;
    pthread_cond_signal(&c->todo);
    pthread_mutex_unlock(&c->mu);
}

void jr_conveyor_destroy(struct jr_conveyor *c)
{
    if (c == NULL)
        return;
    pthread_mutex_lock(&c->mu);
    c->stop = true;
    pthread_cond_broadcast(&c->todo);
    pthread_mutex_unlock(&c->mu);
    for (uint32_t i = 0; i < c->n_threads; i++)
        pthread_join(c->threads[i], NULL);
    pthread_cond_destroy(&c->todo);
    pthread_mutex_destroy(&c->mu);
    jr_xfree(c);
}
