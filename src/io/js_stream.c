/* SPDX-License-Identifier: Apache-2.0 */
#include "io/js_stream.h"

#include "base/mem.h"
#include "base/str.h"
#include "io/js_publish.h"
#include "io/nats_priv.h"
#include "wire/event_codec.h"

#include <stdio.h>
#include <string.h>

#define NS_PER_MS      1000000
#define RAISE_TRIES    8
#define MAKING_TRIES   250
#define MAKING_WAIT_MS 20
#define SESSIONS_BYTES (32 << 20) /* JR_SESSIONS_MAX words have a third of it */

/* --- names and settings (pure) --- */

int jr_stream_name(enum jr_stream_kind kind, const char *namespace_, const char *component,
                   char *dst)
{
    static const char *const suffix[] = {
        [JR_STREAM_EVENTS] = ".kv-events",    [JR_STREAM_SYNC] = ".active-sequences",
        [JR_STREAM_SNAPSHOTS] = "-snapshots", [JR_STREAM_LEASES] = "-leases",
        [JR_STREAM_STATE] = "-state",         [JR_STREAM_RADIX] = "-radix-bucket",
        [JR_STREAM_SESSIONS] = "-sessions",
    };
    char text[JR_STREAM_NAME_MAX];
    int n = snprintf(text, sizeof text, "namespace.%s.component.%s%s", namespace_, component,
                     suffix[kind]);

    if (n < 0 || (size_t)n >= sizeof text)
        return JR_ELIMIT;
    return jr_str_slug(text, dst, JR_STREAM_NAME_MAX);
}

bool jr_stream_is_leases(const char *stream, const char *namespace_, char *dst)
{
    static const char bucket[] = "KV_", mark[] = "MARK";
    char like[JR_STREAM_NAME_MAX];

    /* The name of a pool that has the mark for its component: what is before and behind it. */
    if (strncmp(stream, bucket, sizeof bucket - 1) != 0 ||
        jr_stream_name(JR_STREAM_LEASES, namespace_, mark, like) < 0)
        return false;
    stream += sizeof bucket - 1;
    const char *suffix = strrchr(like, '-');
    const size_t head = (size_t)(suffix - like) - (sizeof mark - 1);
    const size_t n = strlen(stream), tail = strlen(suffix);
    if (n <= head + tail || strncmp(stream, like, head) != 0 ||
        strcmp(stream + n - tail, suffix) != 0 || n - head - tail >= JR_NAME_MAX)
        return false;
    memcpy(dst, stream + head, n - head - tail);
    dst[n - head - tail] = '\0';
    return true;
}

void jr_stream_config_events(struct jr_stream_config *ret, const char *name, int64_t max_bytes,
                             uint32_t replicas)
{
    *ret = (struct jr_stream_config){
        .name = name, .replicas = replicas, .max_bytes = max_bytes, .allow_rollup = true};
}

void jr_stream_config_sync(struct jr_stream_config *ret, const char *name, int64_t max_age_ms,
                           uint32_t replicas)
{
    *ret = (struct jr_stream_config){
        .name = name,
        .replicas = replicas,
        .memory = true,
        .max_age_ms = max_age_ms,
        .discard_old = true,
        .allow_rollup = true,
    };
}

void jr_stream_config_sessions(struct jr_stream_config *ret, const char *name, int64_t max_age_ms,
                               uint32_t replicas)
{
    *ret = (struct jr_stream_config){
        .name = name,
        .replicas = replicas,
        .max_age_ms = max_age_ms,
        .max_bytes = SESSIONS_BYTES,
        .max_msgs_per_subject = 1,
        .discard_old = true,
    };
}

/* --- streams --- */

static int not_connected(struct jr_nats *nats, struct jr_errmsg *e, const char *what)
{
    if (jr_nats_connected(nats))
        return 0;
    return jr_errmsg_set(e, JR_ENONATS, "%s: not connected to NATS", what);
}

static void info_of(const jsStreamInfo *si, struct jr_stream_info *ret)
{
    *ret = (struct jr_stream_info){
        .created_ns = si->Created,
        .first_seq = si->State.FirstSeq,
        .last_seq = si->State.LastSeq,
        .msgs = si->State.Msgs,
        .bytes = si->State.Bytes,
        .n_consumers = (uint32_t)si->State.Consumers,
    };
    if (si->Config == NULL)
        return;
    ret->max_age_ms = si->Config->MaxAge / NS_PER_MS;
    ret->max_bytes = si->Config->MaxBytes > 0 ? si->Config->MaxBytes : 0;
    ret->discard_old = si->Config->Discard == js_DiscardOld;
    ret->memory = si->Config->Storage == js_MemoryStorage;
    ret->replicas = (uint32_t)si->Config->Replicas;
}

static uint64_t name_hash(const char *stream)
{
    return jr_event_payload_hash(stream, strlen(stream));
}

static int ask_info(struct jr_nats *nats, const char *stream, struct jr_stream_info *ret,
                    struct jr_errmsg *e)
{
    jsStreamInfo *si = NULL;
    jsErrCode code = 0;
    natsStatus s = js_GetStreamInfo(&si, jr_nats_js(nats), stream, NULL, &code);

    if (s != NATS_OK)
        return jr_nats_error(s, (int)code, e, stream);
    info_of(si, ret);
    jsStreamInfo_Destroy(si);
    return 0;
}

/* A server lists a stream before its store is there: without a time of creation, which is half of its
 * identity. nats-server 2.9.10 ends with a nil pointer when it is asked for a message of such a one. */
int jr_stream_info(struct jr_nats *nats, const char *stream, struct jr_stream_info *ret,
                   struct jr_errmsg *e)
{
    const uint64_t generation = jr_nats_generation(nats);
    int rv = not_connected(nats, e, "stream info");

    for (unsigned i = 0; rv == 0 && i < MAKING_TRIES; i++) {
        if (i > 0)
            nats_Sleep(MAKING_WAIT_MS);
        rv = ask_info(nats, stream, ret, e);
        if (rv != 0 || ret->created_ns != 0) {
            jr_nats_see_stream(nats, name_hash(stream), rv == 0 ? generation : 0);
            return rv;
        }
    }
    return rv != 0 ? rv
                   : jr_errmsg_set(e, JR_ETIMEOUT, "%s: the server is still making it", stream);
}

/* *ret_enough, or one update was sent. */
static natsStatus raise_once(struct jr_nats *nats, const char *stream, int64_t max_age_ns,
                             bool *ret_enough, jsErrCode *code)
{
    jsStreamInfo *si = NULL;
    natsStatus s = js_GetStreamInfo(&si, jr_nats_js(nats), stream, NULL, code);

    *ret_enough = s == NATS_OK && (si->Config->MaxAge == 0 || si->Config->MaxAge >= max_age_ns);
    if (s == NATS_OK && !*ret_enough) {
        si->Config->MaxAge = max_age_ns;
        /* The duplicate window must not exceed the age. */
        if (si->Config->Duplicates > si->Config->MaxAge)
            si->Config->Duplicates = si->Config->MaxAge;
        s = js_UpdateStream(NULL, jr_nats_js(nats), si->Config, NULL, code);
    }
    jsStreamInfo_Destroy(si);
    return s;
}

int jr_stream_raise_max_age(struct jr_nats *nats, const char *stream, int64_t max_age_ms,
                            struct jr_errmsg *e)
{
    bool enough = false;
    jsErrCode code = 0;
    natsStatus s = NATS_OK;
    int rv = not_connected(nats, e, "stream update");

    if (rv != 0)
        return rv;
    for (unsigned i = 0; i < RAISE_TRIES && s == NATS_OK && !enough; i++)
        s = raise_once(nats, stream, max_age_ms * NS_PER_MS, &enough, &code);
    if (s != NATS_OK)
        return jr_nats_error(s, (int)code, e, stream);
    return enough ? 0 : jr_errmsg_set(e, JR_ECONFLICT, "%s: others set its age, too", stream);
}

static void fill_config(jsStreamConfig *sc, const struct jr_stream_config *c)
{
    jsStreamConfig_Init(sc);
    sc->Name = c->name;
    sc->Retention = js_LimitsPolicy;
    sc->MaxMsgs = -1;
    sc->MaxConsumers = -1;
    sc->MaxMsgSize = -1;
    sc->MaxBytes = c->max_bytes > 0 ? c->max_bytes : -1;
    sc->MaxAge = c->max_age_ms * NS_PER_MS;
    sc->MaxMsgsPerSubject = c->max_msgs_per_subject > 0 ? c->max_msgs_per_subject : -1;
    sc->Discard = c->discard_old ? js_DiscardOld : js_DiscardNew;
    sc->Storage = c->memory ? js_MemoryStorage : js_FileStorage;
    sc->Replicas = c->replicas != 0 ? c->replicas : 1;
    sc->AllowRollup = c->allow_rollup;
    sc->AllowDirect = c->allow_direct;
    sc->DenyDelete = c->deny_delete;
    /* The duplicate window must not exceed the age. */
    if (sc->MaxAge > 0 && sc->MaxAge < 120LL * 1000 * NS_PER_MS)
        sc->Duplicates = sc->MaxAge;
}

static int create_stream(struct jr_nats *nats, const struct jr_stream_config *c,
                         struct jr_stream_info *ret, struct jr_errmsg *e)
{
    char own[JR_STREAM_NAME_MAX + 8];
    const char *one = own, **subjects = &one;
    jsStreamConfig sc;
    jsStreamInfo *si = NULL;
    jsErrCode code = 0;

    fill_config(&sc, c);
    snprintf(own, sizeof own, "%s.*", c->name);
    if (c->subjects != NULL)
        subjects = (const char **)(uintptr_t)c->subjects; /* the library only reads them */
    sc.Subjects = subjects;
    sc.SubjectsLen = c->subjects != NULL ? (int)c->n_subjects : 1;
    natsStatus s = js_AddStream(&si, jr_nats_js(nats), &sc, NULL, &code);
    if (s != NATS_OK)
        return jr_nats_error(s, (int)code, e, c->name);
    info_of(si, ret);
    jsStreamInfo_Destroy(si);
    return 0;
}

/* Another replica was quicker: the stream is in the making, or has other settings, which count. rv is
 * what came of making it; when there is none, after all, it is the answer. */
static int take_other(struct jr_nats *nats, const char *stream, int rv, struct jr_stream_info *ret,
                      struct jr_errmsg *e)
{
    struct jr_errmsg words;
    int found = jr_stream_info(nats, stream, ret, &words);

    if (rv != 0 && found == JR_ENOTFOUND)
        return rv;
    if (found != 0 && e != NULL)
        *e = words;
    return found;
}

int jr_stream_open(struct jr_nats *nats, const struct jr_stream_config *config,
                   struct jr_stream_info *ret, struct jr_errmsg *e)
{
    struct jr_stream_info info;
    int rv = jr_stream_info(nats, config->name, &info, e);

    if (rv == JR_ENOTFOUND) {
        rv = create_stream(nats, config, &info, e);
        if (rv == JR_EEXIST || (rv == 0 && info.created_ns == 0))
            rv = take_other(nats, config->name, rv, &info, e);
    }
    if (rv == 0 && ret != NULL)
        *ret = info;
    return rv;
}

int jr_stream_delete(struct jr_nats *nats, const char *stream, struct jr_errmsg *e)
{
    jsErrCode code = 0;
    int rv = not_connected(nats, e, "stream delete");

    if (rv != 0)
        return rv;
    natsStatus s = js_DeleteStream(jr_nats_js(nats), stream, NULL, &code);
    return jr_nats_error(s, (int)code, e, stream);
}

int jr_stream_foreign(struct jr_nats *nats, const char *stream, struct jr_stream_foreign *ret,
                      struct jr_errmsg *e)
{
    jsConsumerInfoList *list = NULL;
    jsErrCode code = 0;
    struct jr_stream_foreign f = {.ack_floor = UINT64_MAX};
    int rv = not_connected(nats, e, "consumers");

    if (rv != 0)
        return rv;
    natsStatus s = js_Consumers(&list, jr_nats_js(nats), stream, NULL, &code);
    if (s == NATS_NOT_FOUND && code == 0)
        s = NATS_OK; /* no consumer at all */
    if (s != NATS_OK)
        return jr_nats_error(s, (int)code, e, stream);
    for (int i = 0; list != NULL && i < list->Count; i++) {
        const jsConsumerInfo *ci = list->List[i];
        if (ci->Config == NULL || ci->Config->AckPolicy == js_AckNone)
            continue;
        f.n++;
        if (ci->AckFloor.Stream < f.ack_floor)
            f.ack_floor = ci->AckFloor.Stream;
        jr_str_copy(f.name, sizeof f.name, ci->Name != NULL ? ci->Name : "?");
    }
    jsConsumerInfoList_Destroy(list);
    *ret = f;
    return 0;
}

/* --- single messages --- */

/* A server that came back without its data may be making the stream just now, for another client, and
 * must not be asked for a message then: see jr_stream_info. So the first read of a connection looks. */
static int look_once_a_connection(struct jr_nats *nats, const char *stream, struct jr_errmsg *e)
{
    struct jr_stream_info info = {0};
    int rv = not_connected(nats, e, "message");

    if (rv != 0 || jr_nats_saw_stream(nats, name_hash(stream)))
        return rv;
    return jr_stream_info(nats, stream, &info, e);
}

void jr_stream_forget(struct jr_nats *nats, const char *stream)
{
    jr_nats_see_stream(nats, name_hash(stream), 0);
}

static int read_failed(struct jr_nats *nats, const char *stream, natsStatus s, jsErrCode code,
                       struct jr_errmsg *e, const char *what)
{
    if (code == JSStreamNotFoundErr)
        jr_stream_forget(nats, stream);
    return jr_nats_error(s, (int)code, e, what);
}

static int stored_of(natsMsg *m, struct jr_stored **ret)
{
    struct jr_stored *st = jr_xalloc(sizeof *st);

    st->impl = m;
    st->seq = natsMsg_GetSequence(m);
    st->time_ns = natsMsg_GetTime(m);
    st->subject = natsMsg_GetSubject(m);
    st->payload = (const uint8_t *)natsMsg_GetData(m);
    st->n = (size_t)natsMsg_GetDataLength(m);
    st->payload_hash = jr_event_payload_hash(st->payload, st->n);
    *ret = st;
    return 0;
}

int jr_stored_get(struct jr_nats *nats, const char *stream, uint64_t seq, struct jr_stored **ret,
                  struct jr_errmsg *e)
{
    natsMsg *m = NULL;
    jsErrCode code = 0;
    int rv = look_once_a_connection(nats, stream, e);

    if (rv != 0)
        return rv;
    if (seq == 0)
        return jr_errmsg_set(e, JR_ENOTFOUND, "%s: there is no message 0", stream);
    natsStatus s = js_GetMsg(&m, jr_nats_js(nats), stream, seq, NULL, &code);
    if (s != NATS_OK)
        return read_failed(nats, stream, s, code, e, stream);
    return stored_of(m, ret);
}

int jr_stored_last(struct jr_nats *nats, const char *stream, const char *subject,
                   struct jr_stored **ret, struct jr_errmsg *e)
{
    natsMsg *m = NULL;
    jsErrCode code = 0;
    int rv = look_once_a_connection(nats, stream, e);

    if (rv != 0)
        return rv;
    natsStatus s = js_GetLastMsg(&m, jr_nats_js(nats), stream, subject, NULL, &code);
    if (s != NATS_OK)
        return read_failed(nats, stream, s, code, e, subject);
    return stored_of(m, ret);
}

const char *jr_stored_header(struct jr_stored *stored, const char *key)
{
    const char *value = NULL;

    if (natsMsgHeader_Get(stored->impl, key, &value) != NATS_OK)
        return NULL;
    return value;
}

void jr_stored_destroy(struct jr_stored *stored)
{
    if (stored == NULL)
        return;
    natsMsg_Destroy(stored->impl);
    jr_xfree(stored);
}

/* --- history check --- */

int jr_stream_check_facts(const struct jr_stream_position *position,
                          const struct jr_stream_info *info, const struct jr_stored *stored,
                          struct jr_errmsg *e)
{
    if (position->created_ns != 0 && position->created_ns != info->created_ns)
        return jr_errmsg_set(e, JR_EHISTORY, "the stream was created anew");
    if (info->last_seq < position->seq)
        return jr_errmsg_set(e, JR_EHISTORY, "the stream ends at %llu, before our %llu",
                             (unsigned long long)info->last_seq, (unsigned long long)position->seq);
    /* A message that is still there decides before the gap rule does: another message is another
     * history, whatever the stream's first sequence says. */
    if (stored != NULL && position->has_msg &&
        (stored->time_ns != position->time_ns || stored->payload_hash != position->payload_hash))
        return jr_errmsg_set(e, JR_EHISTORY, "message %llu is not the one we know",
                             (unsigned long long)position->seq);
    if (info->first_seq > position->seq + 1)
        return jr_errmsg_set(e, JR_EGAP, "the stream begins at %llu, we need %llu",
                             (unsigned long long)info->first_seq,
                             (unsigned long long)position->seq + 1);
    return 0;
}

int jr_stream_check(struct jr_nats *nats, const char *stream,
                    const struct jr_stream_position *position, struct jr_stream_info *ret_info,
                    struct jr_errmsg *e)
{
    struct jr_stream_info info;
    struct jr_stored *stored = NULL;
    int rv = jr_stream_info(nats, stream, &info, e);

    if (rv != 0)
        return rv;
    if (position->has_msg && position->seq >= info.first_seq && position->seq <= info.last_seq) {
        rv = jr_stored_get(nats, stream, position->seq, &stored, e);
        if (rv != 0 && rv != JR_ENOTFOUND)
            return rv;
    }
    rv = jr_stream_check_facts(position, &info, stored, e);
    jr_stored_destroy(stored);
    if (ret_info != NULL)
        *ret_info = info;
    return rv;
}

/* --- purge --- */

int jr_stream_purge_below(struct jr_nats *nats, const char *stream, int64_t created_ns,
                          uint64_t floor, uint64_t *ret_purged, struct jr_errmsg *e)
{
    struct jr_stream_info info, after;
    jsErrCode code = 0;
    jsOptions o;
    int rv = jr_stream_info(nats, stream, &info, e);

    if (rv != 0)
        return rv;
    if (created_ns != 0 && created_ns != info.created_ns)
        return jr_errmsg_set(e, JR_EHISTORY, "purge: the stream was created anew");
    if (floor <= 1 || floor > info.last_seq)
        return jr_errmsg_set(e, JR_EINVAL, "purge below %llu refused: the stream ends at %llu",
                             (unsigned long long)floor, (unsigned long long)info.last_seq);
    if (ret_purged != NULL)
        *ret_purged = 0;
    if (floor <= info.first_seq)
        return 0;
    jsOptions_Init(&o);
    o.Stream.Purge.Sequence = floor;
    natsStatus s = js_PurgeStream(jr_nats_js(nats), stream, &o, &code);
    if (s != NATS_OK)
        return jr_nats_error(s, (int)code, e, "purge");
    if (ret_purged != NULL && jr_stream_info(nats, stream, &after, NULL) == 0 &&
        after.first_seq > info.first_seq)
        *ret_purged = after.first_seq - info.first_seq;
    return 0;
}

int jr_stream_purge_subject(struct jr_nats *nats, const char *stream, const char *subject,
                            struct jr_errmsg *e)
{
    jsErrCode code = 0;
    jsOptions o;
    int rv = not_connected(nats, e, "purge");

    if (rv != 0)
        return rv;
    if (subject == NULL || subject[0] == '\0')
        return jr_errmsg_set(e, JR_EINVAL, "purge without a subject refused");
    jsOptions_Init(&o);
    o.Stream.Purge.Subject = subject;
    natsStatus s = js_PurgeStream(jr_nats_js(nats), stream, &o, &code);
    return jr_nats_error(s, (int)code, e, "purge");
}

int jr_stream_components(struct jr_nats *nats, const char *namespace_, uint32_t n_max,
                         struct jr_components *ret, struct jr_errmsg *e)
{
    jsStreamNamesList *names = NULL;
    jsErrCode code = 0;
    jsOptions o;
    int rv = not_connected(nats, e, "pools");

    if (rv != 0)
        return rv;
    jsOptions_Init(&o);
    o.Stream.Info.SubjectsFilter = "$KV.*.>";
    natsStatus s = js_StreamNames(&names, jr_nats_js(nats), &o, &code);
    *ret = (struct jr_components){0};
    if (s == NATS_NOT_FOUND) /* there is none */
        return 0;
    if (s != NATS_OK)
        return jr_nats_error(s, (int)code, e, "names of streams");
    ret->v = jr_xalloc((n_max > 0 ? n_max : 1) * sizeof *ret->v);
    for (int i = 0; i < names->Count && ret->n < n_max; i++)
        ret->n += jr_stream_is_leases(names->List[i], namespace_, ret->v[ret->n]);
    jsStreamNamesList_Destroy(names);
    return 0;
}

void jr_components_deinit(struct jr_components *c)
{
    jr_xfree(c->v);
    *c = (struct jr_components){0};
}

int jr_stream_subjects(struct jr_nats *nats, const char *stream, const char *filter,
                       struct jr_subjects *ret, struct jr_errmsg *e)
{
    jsStreamInfo *si = NULL;
    jsErrCode code = 0;
    jsOptions o;
    int rv = not_connected(nats, e, "subjects");

    if (rv != 0)
        return rv;
    jsOptions_Init(&o);
    o.Stream.Info.SubjectsFilter = filter;
    natsStatus s = js_GetStreamInfo(&si, jr_nats_js(nats), stream, &o, &code);
    if (s != NATS_OK)
        return jr_nats_error(s, (int)code, e, stream);
    *ret = (struct jr_subjects){0};
    if (si->State.Subjects != NULL && si->State.Subjects->Count > 0) {
        const jsStreamStateSubjects *from = si->State.Subjects;
        ret->list = jr_xalloc((size_t)from->Count * sizeof *ret->list);
        for (int i = 0; i < from->Count; i++) {
            ret->list[i].subject = jr_xstrdup(from->List[i].Subject);
            ret->list[i].msgs = from->List[i].Msgs;
        }
        ret->n = (uint32_t)from->Count;
    }
    jsStreamInfo_Destroy(si);
    return 0;
}

void jr_subjects_deinit(struct jr_subjects *subjects)
{
    for (uint32_t i = 0; i < subjects->n; i++)
        jr_xfree(subjects->list[i].subject);
    jr_xfree(subjects->list);
    *subjects = (struct jr_subjects){0};
}
