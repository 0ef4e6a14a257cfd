/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/access_post.h"

#include "app/frontend/access_log.h"
#include "app/frontend/frontend_internal.h"
#include "base/limit.h"

struct line {
    struct jr_msg msg;
    struct jr_front_loop *l;
    struct jr_access_entry entry;
    char text[]; /* what it views */
};

static void on_line(struct jr_msg *msg)
{
    struct line *line = JR_CONTAINER_OF(msg, struct line, msg);
    atomic_fetch_sub(&line->l->lines, 1);
    jr_access_log_add(line->l->f->access_log, &line->entry);
    jr_xfree((void *)(uintptr_t)line->entry.slow);
    jr_xfree(line);
}

void jr_access_post(struct jr_front_loop *l, const struct jr_access_entry *entry)
{
    if (l->number == 0) {
        jr_access_log_add(l->f->access_log, entry);
        return;
    }
    if (atomic_load(&l->lines) >= JR_FRONT_TICKETS_MAX) {
        jr_limit_reached(JR_LIMIT_FRONT_TICKETS);
        jr_metric_add(l->metrics, JR_METRIC_ACCESS_LOG_LINES_TOTAL, JR_LABELS("dropped"), 1);
        return;
    }
    struct line *line =
        jr_xalloc(sizeof *line + entry->request_id.n + entry->client.n + entry->model.n);
    char *at = line->text;
    line->l = l;
    line->entry = *entry;
    line->entry.request_id = jr_str_pack(&at, entry->request_id);
    line->entry.client = jr_str_pack(&at, entry->client);
    line->entry.model = jr_str_pack(&at, entry->model);
    if (entry->slow)
        line->entry.slow = jr_xmemdup(
            entry->slow, sizeof *entry->slow + entry->slow->n * sizeof *entry->slow->candidates);
    line->msg.deliver = on_line;
    atomic_fetch_add(&l->lines, 1);
    jr_loop_post(l->f->loop, &line->msg);
}
