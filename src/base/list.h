/* SPDX-License-Identifier: Apache-2.0 */
/* list: intrusive doubly linked list. The node lives in the element; the list owns nothing. */
#ifndef JR_BASE_LIST_H
#define JR_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct jr_list {
    struct jr_list *prev, *next;
};

#define JR_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void jr_list_init(struct jr_list *l)
{
    l->prev = l->next = l;
}
static inline bool jr_list_empty(const struct jr_list *l)
{
    return l->next == l;
}
static inline void jr_list_insert_before(struct jr_list *at, struct jr_list *node)
{
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}
static inline void jr_list_push_back(struct jr_list *l, struct jr_list *node)
{
    jr_list_insert_before(l, node);
}
static inline void jr_list_push_front(struct jr_list *l, struct jr_list *node)
{
    jr_list_insert_before(l->next, node);
}
/* The node is left empty, so removing it twice is harmless. */
static inline void jr_list_remove(struct jr_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    jr_list_init(node);
}
static inline struct jr_list *jr_list_pop_front(struct jr_list *l)
{
    struct jr_list *node = l->next;
    if (node == l)
        return NULL;
    jr_list_remove(node);
    return node;
}

#define JR_LIST_FOREACH(it, l) for (struct jr_list *it = (l)->next; it != (l); it = it->next)
#define JR_LIST_FOREACH_SAFE(it, l)                                                                \
    for (struct jr_list *it = (l)->next, *it##_next = it->next; it != (l);                         \
         it = it##_next, it##_next = it->next)

#endif
