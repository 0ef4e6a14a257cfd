/* SPDX-License-Identifier: Apache-2.0 */
#include "app/ctl/ctl_view.h"
#include "app/table.h"
#include "base/mem.h"
#include "base/str.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- reading JSON */

/* A field as text, "-" when absent or null; borrows text. */
static const char *field(const json_t *o, const char *name, char *text, size_t cap)
{
    const json_t *v = json_object_get(o, name);
    if (json_is_string(v))
        (void)jr_str_copy(text, cap, json_string_value(v));
    else if (json_is_integer(v))
        (void)snprintf(text, cap, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        (void)snprintf(text, cap, "%.6g", json_real_value(v));
    else if (json_is_boolean(v))
        (void)jr_str_copy(text, cap, json_is_true(v) ? "yes" : "no");
    else
        (void)jr_str_copy(text, cap, "-");
    return text;
}

/* Cells of a row from fields; names separated by spaces. */
static void cells(struct jr_table *t, const json_t *o, const char *names)
{
    char name[48], text[400];
    for (const char *p = names; *p;) {
        size_t n = strcspn(p, " ");
        (void)snprintf(name, sizeof name, "%.*s", (int)n, p);
        jr_table_cell(t, "%s", field(o, name, text, sizeof text));
        p += n;
        p += *p == ' ';
    }
}

static void put_table(struct jr_table *t, struct jr_buf *b, const char *when_empty)
{
    if (jr_table_rows(t) > 0)
        jr_table_render(t, b);
    else
        jr_buf_printf(b, "%s\n", when_empty);
    jr_table_deinit(t);
}

static void put_json(const json_t *v, struct jr_buf *b)
{
    char *text = json_dumps(v, JSON_INDENT(2) | JSON_ENCODE_ANY);
    if (text)
        jr_buf_puts(b, text);
    jr_buf_puts(b, "\n");
    free(text);
}

/* ---------------------------------------------------------------- parts of /state */

static void view_workers(const json_t *pools, struct jr_buf *b)
{
    struct jr_table t;
    size_t i, j;
    json_t *pool, *worker;
    jr_table_init(&t, "POOL|WORKER|RANK|STATE|BLOCKS|ACTIVE BLOCKS|PREFILL TOKENS|REQUESTS|URL");
    json_array_foreach(pools, i, pool)
    {
        json_array_foreach(json_object_get(pool, "workers"), j, worker)
        {
            cells(&t, pool, "component");
            cells(&t, worker,
                  "worker_id dp_rank state blocks active_blocks active_prefill_tokens "
                  "active_requests url");
        }
    }
    put_table(&t, b, "no workers");
}

static void view_replicas(const json_t *state, const json_t *pools, struct jr_buf *b)
{
    struct jr_table t;
    size_t i, j;
    json_t *pool, *peer, *self = json_object_get(state, "replica");
    jr_table_init(&t, "POOL|REPLICA|READY|APPLIED|DIGEST|REQUESTS|");
    json_array_foreach(pools, i, pool)
    {
        cells(&t, pool, "component");
        cells(&t, self, "id ready");
        cells(&t, pool, "applied_seq digest");
        jr_table_cell(&t, "-");
        jr_table_cell(&t, "this one, %s",
                      json_string_value(json_object_get(pool, "recovery_state"))
                          ? json_string_value(json_object_get(pool, "recovery_state"))
                          : "-");
        json_array_foreach(json_object_get(pool, "peers"), j, peer)
        {
            cells(&t, pool, "component");
            cells(&t, peer, "id ready applied_seq digest active_requests");
            jr_table_cell(&t, "%s", "");
        }
    }
    put_table(&t, b, "no pools");
}

static void view_digest(const json_t *pools, struct jr_buf *b)
{
    struct jr_table t;
    size_t i;
    json_t *pool;
    jr_table_init(&t, "NAMESPACE|POOL|APPLIED|DIGEST|ENTRIES");
    json_array_foreach(pools, i, pool)
    {
        cells(&t, pool, "namespace component applied_seq digest entries");
    }
    put_table(&t, b, "no pools");
}

static void view_summary(const json_t *state, const json_t *pools, struct jr_buf *b)
{
    char a[200], c[200], d[64];
    const json_t *replica = json_object_get(state, "replica"),
                 *nats = json_object_get(state, "nats");
    struct jr_table t;
    size_t i;
    json_t *pool;
    jr_table_init(&t,
                  "NAMESPACE|POOL|STATE|APPLIED|LAST|BLOCKS|ENTRIES|BYTES|WORKERS|PEERS|SNAPSHOT");
    json_array_foreach(pools, i, pool)
    {
        cells(&t, pool,
              "namespace component recovery_state applied_seq stream_last_seq blocks "
              "entries index_bytes");
        jr_table_cell(&t, "%zu", json_array_size(json_object_get(pool, "workers")));
        jr_table_cell(&t, "%zu", json_array_size(json_object_get(pool, "peers")));
        cells(&t, json_object_get(pool, "snapshot"), "seq");
    }
    struct jr_table head;
    jr_table_init(&head, "REPLICA|VERSION|READY|UPTIME S|NATS|SERVER|RECONNECTS");
    cells(&head, replica, "id version ready");
    jr_table_cell(&head, "%s", field(replica, "uptime_s", d, sizeof d));
    (void)field(nats, "connected", a, sizeof a);
    jr_table_cell(&head, "%s", strcmp(a, "yes") == 0 ? "connected" : "not connected");
    jr_table_cell(&head, "%s", field(nats, "server", c, sizeof c));
    cells(&head, nats, "reconnects");
    put_table(&head, b, "");
    jr_buf_puts(b, "\n");
    put_table(&t, b, "no pools");
}

/* [{"namespace":…, "component":…, <fields>}] for each pool. */
static void put_json_part(const json_t *pools, const char *fields, struct jr_buf *b)
{
    json_t *all = json_array(), *pool;
    size_t i;
    json_array_foreach(pools, i, pool)
    {
        json_t *part = json_object();
        char name[48];
        for (const char *p = fields; *p;) {
            size_t n = strcspn(p, " ");
            (void)snprintf(name, sizeof name, "%.*s", (int)n, p);
            json_t *v = json_object_get(pool, name);
            if (v)
                (void)json_object_set(part, name, v);
            p += n;
            p += *p == ' ';
        }
        (void)json_array_append_new(all, part);
    }
    put_json(all, b);
    json_decref(all);
}

static void view_as_json(const char *what, const json_t *state, const json_t *pools,
                         struct jr_buf *b)
{
    if (strcmp(what, "workers") == 0)
        put_json_part(pools, "namespace component workers", b);
    else if (strcmp(what, "replicas") == 0)
        put_json_part(pools, "namespace component applied_seq digest recovery_state peers", b);
    else if (strcmp(what, "snapshot") == 0)
        put_json_part(pools, "namespace component leader applied_seq snapshot", b);
    else if (strcmp(what, "digest") == 0)
        put_json_part(pools, "namespace component applied_seq digest", b);
    else
        put_json(state, b);
}

int jr_ctl_view_state(const char *what, bool json, const char *body, size_t n, struct jr_buf *b,
                      struct jr_errmsg *e)
{
    json_error_t why;
    json_t *state = json_loadb(body, n, 0, &why);
    if (!state)
        return jr_errmsg_set(e, JR_EPROTO, "the answer is not JSON: %.100s", why.text);
    const json_t *pools = json_object_get(state, "pools");
    if (!json_is_array(pools) || !json_is_object(json_object_get(state, "replica"))) {
        json_decref(state);
        return jr_errmsg_set(e, JR_EPROTO, "the answer is not the state of a JetRouter replica");
    }
    if (json)
        view_as_json(what, state, pools, b);
    else if (strcmp(what, "workers") == 0)
        view_workers(pools, b);
    else if (strcmp(what, "replicas") == 0)
        view_replicas(state, pools, b);
    else if (strcmp(what, "digest") == 0)
        view_digest(pools, b);
    else
        view_summary(state, pools, b);
    json_decref(state);
    return 0;
}

/* ---------------------------------------------------------------- actions, lines, errors */

/* Text from a peer: without control characters. */
static void put_plain(struct jr_buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        jr_buf_u8(b, (unsigned char)s[i] < ' ' || s[i] == 0x7f ? '?' : (uint8_t)s[i]);
}

static const char *message_of(const json_t *o)
{
    const char *text = json_string_value(json_object_get(o, "message"));
    if (!text)
        text = json_string_value(json_object_get(json_object_get(o, "error"), "message"));
    return text;
}

void jr_ctl_view_action(bool json, const char *body, size_t n, struct jr_buf *b)
{
    json_t *o = json_loadb(body, n, 0, NULL);
    const char *text = message_of(o);
    const char *accepted = json_string_value(json_object_get(o, "accepted"));
    if (json && o) {
        put_json(o, b);
    } else {
        jr_buf_puts(b, !text && accepted ? "accepted: " : "");
        text = text ? text : accepted ? accepted : "ok";
        put_plain(b, text, strlen(text));
        jr_buf_puts(b, "\n");
    }
    json_decref(o);
}

void jr_ctl_view_line(bool json, const char *line, size_t n, struct jr_buf *b)
{
    json_t *o = json ? NULL : json_loadb(line, n, 0, NULL);
    if (!json_is_object(o)) {
        put_plain(b, line, n);
        jr_buf_puts(b, "\n");
        json_decref(o);
        return;
    }
    const char *name, *sep = "";
    char text[400];
    json_t *v;
    json_object_foreach(o, name, v)
    {
        jr_buf_puts(b, sep);
        put_plain(b, name, strlen(name));
        jr_buf_puts(b, "=");
        (void)field(o, name, text, sizeof text);
        if (json_is_array(v) || json_is_object(v))
            (void)snprintf(text, sizeof text, "[%zu]",
                           json_is_array(v) ? json_array_size(v) : json_object_size(v));
        put_plain(b, text, strlen(text));
        sep = " ";
    }
    jr_buf_puts(b, "\n");
    json_decref(o);
}

void jr_ctl_view_error(const char *body, size_t n, char *ret, size_t cap)
{
    json_t *o = json_loadb(body, n, 0, NULL);
    const char *text = message_of(o);
    if (text)
        (void)jr_str_copy(ret, cap, text);
    else
        (void)snprintf(ret, cap, "%.*s", (int)(n < 160 ? n : 160), n ? body : "");
    ret[strcspn(ret, "\r\n")] = '\0';
    for (char *p = ret; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    json_decref(o);
}
