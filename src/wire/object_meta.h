/* SPDX-License-Identifier: Apache-2.0 */
/* object_meta: names and meta document of a NATS object store (ADR-20). Pure, any thread.
 *
 *   stream OBJ_{bucket}, subjects $O.{bucket}.C.> and $O.{bucket}.M.>
 *   chunk  $O.{bucket}.C.{nuid}                 meta  $O.{bucket}.M.{base64url(name), padded} */
#ifndef JR_WIRE_OBJECT_META_H
#define JR_WIRE_OBJECT_META_H

#include "base/buf.h"
#include "base/limits.h"
#include <stdbool.h>

#define JR_OBJECT_META_BYTES_MAX (64 << 10)
#define JR_OBJECT_SUBJECT_MAX    512 /* enough for every name below */

struct jr_object_meta {
    char name[JR_NAME_MAX];
    char bucket[JR_NAME_MAX * 2];
    char nuid[64];
    uint64_t size; /* bytes */
    uint32_t chunks;
    uint32_t max_chunk_size; /* 0: not given */
    int64_t mtime_ns; /* UNIX time; 0: not given or not readable (the message's time counts) */
    bool has_digest;
    uint8_t digest[32]; /* SHA-256 of the contents */
    bool deleted;
};

/* Append the JSON to b. JR_EINVAL (name, bucket or nuid empty), JR_ELIMIT, JR_ENOMEM. */
JR_MUST_CHECK int jr_object_meta_encode(const struct jr_object_meta *m, struct jr_buf *b);

/* Unknown fields, description, headers and metadata are ignored. JR_EPROTO, JR_ELIMIT (n over
 * JR_OBJECT_META_BYTES_MAX), JR_EUNSUPPORTED (a link, or a digest that is not SHA-256); words in e
 * (may be NULL), *ret untouched. */
JR_MUST_CHECK int jr_object_meta_decode(const void *p, size_t n, struct jr_object_meta *ret,
                                        struct jr_errmsg *e);

/* Write the name with its NUL into dst (JR_OBJECT_SUBJECT_MAX is enough). JR_ELIMIT when it does
 * not fit, JR_EINVAL when bucket or nuid is not a single subject token. */
JR_MUST_CHECK int jr_object_stream_name(const char *bucket, char *dst, size_t cap);
JR_MUST_CHECK int jr_object_chunk_subject(const char *bucket, const char *nuid, char *dst,
                                          size_t cap);
JR_MUST_CHECK int jr_object_meta_subject(const char *bucket, const char *name, char *dst,
                                         size_t cap);
/* Subjects of the stream: "$O.{bucket}.C.>" and "$O.{bucket}.M.>". */
JR_MUST_CHECK int jr_object_chunk_wildcard(const char *bucket, char *dst, size_t cap);
JR_MUST_CHECK int jr_object_meta_wildcard(const char *bucket, char *dst, size_t cap);

#endif
