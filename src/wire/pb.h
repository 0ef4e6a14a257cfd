/* SPDX-License-Identifier: Apache-2.0 */
/* pb: protobuf-c with our memory; shared by the codecs of wire, for nobody else. Pure. */
#ifndef JR_WIRE_PB_H
#define JR_WIRE_PB_H

#include "base/buf.h"
#include "wire/arena.h"
#include <protobuf-c/protobuf-c.h>

/* Unpack into the arena: *ret and all it points to live there, nothing is to be freed.
 * JR_EPROTO (malformed), JR_ELIMIT (the arena is full). */
JR_MUST_CHECK int jr_pb_unpack(const ProtobufCMessageDescriptor *type, struct jr_arena *a,
                               const void *p, size_t n, ProtobufCMessage **ret);

/* Append the packed message to b. On failure (JR_ELIMIT, JR_ENOMEM) b holds what it held. */
JR_MUST_CHECK int jr_pb_pack(const ProtobufCMessage *m, struct jr_buf *b);

#endif
