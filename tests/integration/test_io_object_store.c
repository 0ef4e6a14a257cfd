/* SPDX-License-Identifier: Apache-2.0 */
/* The object store against a real server; with JR_VENV (a Python venv that has nats-py) also
 * against an independent client. */
#include "io/object_store.h"
#include "io/nats_priv.h"
#include "io_fixture.h"
#include "wire/snapshot_codec.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BIG      (20u << 20)
#define READ_MAX (64u << 20)

static struct jr_test_nats server;
static struct jr_nats *nats;
static struct jr_object_store *store;

static int setup(void **state)
{
    struct jr_nats_config config = {0};
    struct jr_object_store_config bucket = {.bucket = "b-snapshots"};
    struct jr_errmsg e = {""};

    (void)state;
    jr_test_nats_start(&server, NULL);
    config.servers = server.url;
    assert_int_equal(jr_nats_connect(&config, &nats, NULL), 0);
    if (jr_object_store_open(nats, &bucket, &store, &e) != 0)
        fail_msg("%s", e.text);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    jr_object_store_destroy(store);
    jr_nats_close(nats);
    jr_test_nats_end(&server);
    return 0;
}

static uint8_t *bytes(size_t n, uint8_t seed)
{
    uint8_t *p = jr_xalloc(n + 1);

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 31 + (i >> 12) + seed);
    return p;
}

static struct jr_object_info put(const char *name, const void *p, size_t n, uint64_t revision)
{
    struct jr_object_info info = {0};
    struct jr_errmsg e = {""};

    if (jr_object_put(store, name, p, n, revision, &info, &e) != 0)
        fail_msg("put: %s", e.text);
    return info;
}

static void assert_holds(const char *name, const void *p, size_t n)
{
    struct jr_object_info info;
    struct jr_errmsg e = {""};
    uint8_t *got = NULL;
    size_t got_n = 0;

    if (jr_object_read(store, name, READ_MAX, &got, &got_n, &info, &e) != 0)
        fail_msg("read: %s", e.text);
    assert_int_equal(got_n, n);
    assert_memory_equal(got, p, n);
    assert_int_equal(info.size, n);
    jr_xfree(got);
}

static uint64_t stream_msgs(void)
{
    struct jr_stream_info info;

    assert_int_equal(jr_stream_info(nats, "OBJ_b-snapshots", &info, NULL), 0);
    return info.msgs;
}

static void test_small_empty_and_large(void **state)
{
    struct jr_object_info info, one;
    uint8_t *big = bytes(BIG, 1), *got = NULL;
    size_t n;

    (void)state;
    assert_int_equal(jr_object_info(store, "snapshot-a", &info, NULL), JR_ENOTFOUND);
    one = put("snapshot-a", "hello", 5, 0);
    assert_true(one.revision > 0);
    assert_holds("snapshot-a", "hello", 5);
    put("empty", "", 0, 0);
    assert_holds("empty", "", 0);
    info = put("snapshot-a", big, BIG, one.revision);
    assert_int_equal(info.chunks, BIG / JR_SNAPSHOT_CHUNK);
    assert_string_not_equal(info.nuid, one.nuid);
    assert_holds("snapshot-a", big, BIG);
    assert_int_equal(stream_msgs(), 2 + info.chunks); /* the old chunk is gone, old meta too */
    assert_int_equal(jr_object_read(store, "snapshot-a", 1000, &got, &n, NULL, NULL), JR_EINVAL);
    jr_xfree(big);
}

static void test_a_stale_writer_is_refused(void **state)
{
    struct jr_object_info first = put("snapshot-a", "one", 3, 0), a, b, now;
    struct jr_upload *old = NULL, *new = NULL;
    uint64_t revision = 0;

    (void)state;
    assert_int_equal(jr_upload_begin(store, &old, NULL), 0);
    assert_int_equal(jr_upload_write(old, "stale", 5, NULL), 0);
    assert_int_equal(jr_upload_finish(old, &a, NULL), 0);
    assert_int_equal(jr_upload_begin(store, &new, NULL), 0);
    assert_int_equal(jr_upload_write(new, "newer", 5, NULL), 0);
    assert_int_equal(jr_upload_finish(new, &b, NULL), 0);
    assert_int_equal(jr_object_commit(store, "snapshot-a", &b, first.revision, &revision, NULL), 0);
    assert_int_equal(jr_object_commit(store, "snapshot-a", &a, first.revision, NULL, NULL),
                     JR_ECONFLICT);
    assert_int_equal(jr_object_info(store, "snapshot-a", &now, NULL), 0);
    assert_int_equal(now.revision, revision);
    assert_string_equal(now.nuid, b.nuid);
    jr_upload_abort(old);
    jr_upload_destroy(new);
    assert_holds("snapshot-a", "newer", 5);
    assert_int_equal(jr_object_put(store, "snapshot-a", "x", 1, 0, NULL, NULL), JR_ECONFLICT);
    assert_int_equal(jr_object_put(store, "snapshot-a", "x", 1, 999, NULL, NULL), JR_ECONFLICT);
    /* A new leader's fence: the same meta again, at a new revision. */
    assert_int_equal(jr_object_refresh(store, "snapshot-a", first.revision, NULL, NULL),
                     JR_ECONFLICT);
    assert_int_equal(jr_object_refresh(store, "snapshot-a", revision, &revision, NULL), 0);
    assert_int_equal(jr_object_info(store, "snapshot-a", &now, NULL), 0);
    assert_int_equal(now.revision, revision);
    assert_holds("snapshot-a", "newer", 5);
}

static void test_orphans_are_found_and_only_they_purged(void **state)
{
    struct jr_object_info used = put("snapshot-a", "one", 3, 0), lost;
    struct jr_upload *up = NULL;
    struct jr_nuid_list list;

    (void)state;
    assert_int_equal(jr_object_orphans(store, &list, NULL), 0);
    assert_int_equal(list.n, 0);
    jr_nuid_list_deinit(&list);
    assert_int_equal(jr_upload_begin(store, &up, NULL), 0);
    assert_int_equal(jr_upload_write(up, "lost", 4, NULL), 0);
    assert_int_equal(jr_upload_finish(up, &lost, NULL), 0);
    jr_upload_destroy(up); /* as a crash before the meta */
    assert_int_equal(jr_object_orphans(store, &list, NULL), 0);
    assert_int_equal(list.n, 1);
    assert_string_equal(list.nuids[0], lost.nuid);
    jr_nuid_list_deinit(&list);
    assert_int_equal(jr_object_purge_chunks(store, used.nuid, NULL), JR_ECONFLICT);
    assert_int_equal(jr_object_purge_chunks(store, ">", NULL), JR_EINVAL);
    assert_int_equal(jr_object_purge_chunks(store, "*", NULL), JR_EINVAL);
    assert_int_equal(jr_object_purge_chunks(store, lost.nuid, NULL), 0);
    assert_int_equal(jr_object_orphans(store, &list, NULL), 0);
    assert_int_equal(list.n, 0);
    jr_nuid_list_deinit(&list);
    assert_holds("snapshot-a", "one", 3);
}

static void lose_an_upload(const char *text)
{
    struct jr_upload *up = NULL;
    struct jr_object_info lost;

    assert_int_equal(jr_upload_begin(store, &up, NULL), 0);
    assert_int_equal(jr_upload_write(up, text, strlen(text), NULL), 0);
    assert_int_equal(jr_upload_finish(up, &lost, NULL), 0);
    jr_upload_destroy(up);
}

/* Chunks that no meta names are taken away once they are old; what is named never. */
static void test_orphans_are_collected_after_their_grace(void **state)
{
    uint32_t n = 99;

    (void)state;
    put("snapshot-a", "one", 3, 0);
    lose_an_upload("lost");
    lose_an_upload("lost, too");
    assert_int_equal(jr_object_collect(store, 3600000, &n, NULL), 0);
    assert_int_equal(n, 0);
    assert_int_equal(stream_msgs(), 4);
    assert_int_equal(jr_object_collect(store, 0, &n, NULL), 0);
    assert_int_equal(n, 2);
    assert_int_equal(stream_msgs(), 2);
    assert_int_equal(jr_object_collect(store, 0, &n, NULL), 0);
    assert_int_equal(n, 0);
    assert_holds("snapshot-a", "one", 3);
}

static void test_delete(void **state)
{
    struct jr_object_info info = put("x", "data", 4, 0);
    uint8_t *got = NULL;
    size_t n;

    (void)state;
    assert_int_equal(jr_object_delete(store, "x", info.revision + 1, NULL), JR_ECONFLICT);
    assert_int_equal(jr_object_delete(store, "x", info.revision, NULL), 0);
    assert_int_equal(jr_object_info(store, "x", &info, NULL), 0);
    assert_true(info.deleted);
    assert_int_equal(jr_object_read(store, "x", READ_MAX, &got, &n, NULL, NULL), JR_ENOTFOUND);
    assert_int_equal(stream_msgs(), 1);
    put("x", "again", 5, info.revision);
    assert_holds("x", "again", 5);
}

static void chunk_subject(const struct jr_object_info *info, char *dst, size_t cap)
{
    snprintf(dst, cap, "$O.b-snapshots.C.%s", info->nuid);
}

static void test_a_missing_chunk_is_seen(void **state)
{
    uint8_t *p = bytes(1 << 20, 3), *got = NULL;
    struct jr_object_info info = put("x", p, 1 << 20, 0);
    struct jr_stream_info stream;
    jsErrCode code = 0;
    size_t n;

    (void)state;
    assert_int_equal(jr_stream_info(nats, "OBJ_b-snapshots", &stream, NULL), 0);
    assert_int_equal(
        js_DeleteMsg(jr_nats_js(nats), "OBJ_b-snapshots", stream.first_seq + 3, NULL, &code),
        NATS_OK);
    assert_int_equal(jr_object_read(store, "x", READ_MAX, &got, &n, NULL, NULL), JR_ECORRUPT);
    assert_int_equal(info.chunks, 8);
    jr_xfree(p);
}

static void test_a_changed_chunk_is_seen(void **state)
{
    struct jr_object_info info = put("x", "right bytes", 11, 0);
    char subject[200];
    struct jr_pub pub = {.subject = subject, .payload = "wrong bytes", .n = 11};
    uint8_t *got = NULL;
    size_t n;

    (void)state;
    chunk_subject(&info, subject, sizeof subject);
    assert_int_equal(jr_stream_purge_subject(nats, "OBJ_b-snapshots", subject, NULL), 0);
    assert_int_equal(jr_js_publish(nats, &pub, NULL, NULL), 0);
    assert_int_equal(jr_object_read(store, "x", READ_MAX, &got, &n, NULL, NULL), JR_ECORRUPT);
    pub.payload = "more bytes than before";
    pub.n = 22;
    assert_int_equal(jr_stream_purge_subject(nats, "OBJ_b-snapshots", subject, NULL), 0);
    assert_int_equal(jr_js_publish(nats, &pub, NULL, NULL), 0);
    assert_int_equal(jr_object_read(store, "x", READ_MAX, &got, &n, NULL, NULL), JR_ECORRUPT);
}

/* An object replaced, its chunks purged, while it is read: the reader gets the new one, whole. */
struct overwrite {
    const uint8_t *p;
    uint64_t revision;
    bool done;
    uint8_t *got;
    size_t got_n;
    unsigned starts;
};

static int overwrite_then_take(void *ctx, uint64_t offset, const void *p, size_t n)
{
    struct overwrite *o = ctx;

    if (!o->done) {
        o->done = true;
        put("x", o->p, BIG, o->revision);
    }
    o->starts += offset == 0;
    memcpy(o->got + offset, p, n);
    o->got_n = offset + n;
    return 0;
}

static void test_an_object_replaced_while_it_is_read(void **state)
{
    uint8_t *old = bytes(BIG, 5), *new = bytes(BIG, 77);
    struct overwrite o = {.p = new, .got = jr_xalloc(BIG)};
    struct jr_errmsg e = {""};
    int rv;

    (void)state;
    o.revision = put("x", old, BIG, 0).revision;
    rv = jr_object_get(store, "x", READ_MAX, overwrite_then_take, &o, NULL, &e);
    assert_int_equal(rv, 0);
    assert_int_equal(o.got_n, BIG);
    /* Either all of the old was already on its way, or the new: never a mixture. */
    assert_true(memcmp(o.got, old, BIG) == 0 || memcmp(o.got, new, BIG) == 0);
    assert_true(o.starts <= 2);
    jr_xfree(o.got);
    jr_xfree(old);
    jr_xfree(new);
}

static int refuse(void *ctx, uint64_t offset, const void *p, size_t n)
{
    (void)offset;
    (void)p;
    (void)n;
    ++*(unsigned *)ctx;
    return JR_EVERSION;
}

static void test_the_readers_refusal_comes_back(void **state)
{
    unsigned calls = 0;

    (void)state;
    put("x", "data", 4, 0);
    assert_int_equal(jr_object_get(store, "x", READ_MAX, refuse, &calls, NULL, NULL), JR_EVERSION);
    assert_int_equal(calls, 1);
}

static void test_without_a_server(void **state)
{
    struct jr_object_info info;
    struct jr_object_store *other = NULL;
    struct jr_upload *up = NULL;

    (void)state;
    assert_int_equal(jr_object_store_open_existing(nats, "nobody", &other, NULL), JR_ENOTFOUND);
    assert_int_equal(jr_object_store_open_existing(nats, "a.b", &other, NULL), JR_EINVAL);
    assert_int_equal(jr_object_store_open_existing(nats, "b-snapshots", &other, NULL), 0);
    jr_object_store_destroy(other);
    jr_test_nats_stop(&server);
    JR_TEST_WAIT(!jr_nats_connected(nats), JR_TEST_PATIENCE_MS);
    assert_int_equal(jr_object_info(store, "x", &info, NULL), JR_ENONATS);
    assert_int_equal(jr_upload_begin(store, &up, NULL), JR_ENONATS);
}

/* --- another client --- */

static void sha_hex(const void *p, size_t n, char *dst)
{
    uint8_t sha[EVP_MAX_MD_SIZE];
    unsigned sha_n = 0;

    assert_int_equal(EVP_Digest(p, n, sha, &sha_n, EVP_sha256(), NULL), 1);
    for (unsigned i = 0; i < sha_n; i++)
        snprintf(dst + (size_t)2 * i, 3, "%02x", sha[i]);
}

static void ask_python(const char *venv, const char *args, char *dst, size_t cap)
{
    char *command = jr_xprintf("%s/bin/python %s/../integration/object_store_interop.py %s "
                               "b-snapshots %s",
                               venv, JR_FIXTURES, server.url, args);
    FILE *f = popen(command, "r");

    assert_non_null(f);
    if (fgets(dst, (int)cap, f) == NULL)
        dst[0] = '\0';
    dst[strcspn(dst, "\n")] = '\0';
    assert_int_equal(pclose(f), 0);
    jr_xfree(command);
}

/* What the other client says of an object must be what we know: SHA-256 of the bytes it got, their
 * number, and the size and digest of its meta. */
static void assert_python_reads(const char *venv, const char *name, const void *p, size_t n)
{
    char sha[80], want[256], got[256], *args = jr_xprintf("get %s", name);

    sha_hex(p, n, sha);
    snprintf(want, sizeof want, "%s %zu %zu %s", sha, n, n, sha);
    ask_python(venv, args, got, sizeof got);
    assert_string_equal(got, want);
    jr_xfree(args);
}

/* An image of some size, as a replica writes it. */
static void make_snapshot(struct jr_buf *ret)
{
    struct jr_image *image = jr_image_create();

    image->format = JR_SNAPSHOT_FORMAT_MAX;
    image->rule_version = 1;
    image->params.block_size = 16;
    image->n_ranks = 2;
    image->ranks = jr_xalloc(2 * sizeof *image->ranks);
    image->ranks[1].worker_id = 1;
    image->n_entries = 40000;
    image->entries = jr_xalloc(image->n_entries * sizeof *image->entries);
    for (uint64_t i = 0; i < image->n_entries; i++)
        image->entries[i] =
            (struct jr_image_entry){.block_hash = i * 77, .prefix_hash = ~i, .rank = i % 2};
    jr_buf_init(ret, (size_t)4 << 20);
    assert_int_equal(jr_snapshot_encode(image, ret), 0);
    jr_image_destroy(image);
}

/* Our snapshot, read by the other client; written by it under another name, loaded by us. */
static void test_another_client_copies_a_snapshot(void **state)
{
    const char *venv = getenv("JR_VENV");
    struct jr_buf snapshot;
    struct jr_object_info info;
    struct jr_image *image = NULL;
    uint8_t *got = NULL;
    char said[80], sha[80];
    size_t n = 0;

    (void)state;
    if (venv == NULL || venv[0] == '\0') {
        printf("not run: JR_VENV does not name a Python venv with nats-py\n");
        skip();
    }
    make_snapshot(&snapshot);
    assert_true(snapshot.n > 4 * JR_SNAPSHOT_CHUNK);
    put("snapshot-a", snapshot.p, snapshot.n, 0);
    assert_python_reads(venv, "snapshot-a", snapshot.p, snapshot.n);
    ask_python(venv, "copy snapshot-a snapshot-b", said, sizeof said);
    sha_hex(snapshot.p, snapshot.n, sha);
    assert_string_equal(said, sha);
    assert_int_equal(jr_object_read(store, "snapshot-b", READ_MAX, &got, &n, &info, NULL), 0);
    assert_int_equal(n, snapshot.n);
    assert_int_equal(info.size, snapshot.n);
    assert_true(info.has_digest);
    assert_memory_equal(got, snapshot.p, n);
    assert_int_equal(jr_snapshot_decode(got, n, &image, NULL), 0);
    assert_int_equal(image->n_entries, 40000);
    jr_image_destroy(image);
    jr_xfree(got);
    jr_buf_deinit(&snapshot);
}

static void test_another_client_reads_and_writes(void **state)
{
    const char *venv = getenv("JR_VENV");
    char ours[80], theirs[80];
    uint8_t *p = bytes(300000, 9), *got = NULL;
    size_t n = 0;

    (void)state;
    if (venv == NULL || venv[0] == '\0') {
        printf("not run: JR_VENV does not name a Python venv with nats-py\n");
        jr_xfree(p);
        skip();
    }
    put("ours", p, 300000, 0);
    assert_python_reads(venv, "ours", p, 300000);
    ask_python(venv, "put theirs.bin 300001", theirs, sizeof theirs);
    assert_int_equal(jr_object_read(store, "theirs.bin", READ_MAX, &got, &n, NULL, NULL), 0);
    assert_int_equal(n, 300001);
    sha_hex(got, n, ours);
    assert_string_equal(ours, theirs);
    jr_xfree(got);
    /* Ours over theirs, and read there again. */
    struct jr_object_info info;
    assert_int_equal(jr_object_info(store, "theirs.bin", &info, NULL), 0);
    assert_int_equal(info.size, 300001);
    put("theirs.bin", p, 300000, info.revision);
    assert_python_reads(venv, "theirs.bin", p, 300000);
    jr_xfree(p);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_small_empty_and_large),
        T(test_a_stale_writer_is_refused),
        T(test_orphans_are_found_and_only_they_purged),
        T(test_orphans_are_collected_after_their_grace),
        T(test_delete),
        T(test_a_missing_chunk_is_seen),
        T(test_a_changed_chunk_is_seen),
        T(test_an_object_replaced_while_it_is_read),
        T(test_the_readers_refusal_comes_back),
        T(test_without_a_server),
        T(test_another_client_reads_and_writes),
        T(test_another_client_copies_a_snapshot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
