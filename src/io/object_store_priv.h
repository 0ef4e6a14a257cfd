/* SPDX-License-Identifier: Apache-2.0 */
/* object_store_priv: shared by the files of the object store. */
#ifndef JR_IO_OBJECT_STORE_PRIV_H
#define JR_IO_OBJECT_STORE_PRIV_H

#include "io/object_store.h"
#include "wire/object_meta.h"

struct jr_object_store {
    struct jr_nats *nats;
    char bucket[JR_NAME_MAX * 2];
    char stream[JR_OBJECT_SUBJECT_MAX];
    char chunks[JR_OBJECT_SUBJECT_MAX]; /* $O.B.C.> */
    char metas[JR_OBJECT_SUBJECT_MAX];  /* $O.B.M.> */
    uint32_t chunk_bytes;
};

/* jr_upload_finish succeeded. */
bool jr_upload_finished(const struct jr_upload *upload);

#endif
