/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte chooses the record, the rest is its text. */
#include "fuzz_round_trip.h"
#include "wire/lease_json.h"

#define ROUND_TRIP(type, name)                                                                     \
    do {                                                                                           \
        struct type v_, w_;                                                                        \
        if (jr_lease_decode_##name(data, size, &v_, NULL) == 0) {                                  \
            FUZZ_CHECK(jr_lease_encode_##name(&v_, &a) == 0);                                      \
            FUZZ_CHECK(jr_lease_decode_##name(a.p, a.n, &w_, NULL) == 0);                          \
            FUZZ_CHECK(jr_lease_encode_##name(&w_, &b) == 0);                                      \
            fuzz_same(&a, &b);                                                                     \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_buf a, b;
    if (size == 0)
        return 0;
    uint8_t kind = *data++;
    size--;
    jr_buf_init(&a, JR_LEASE_BYTES_MAX);
    jr_buf_init(&b, JR_LEASE_BYTES_MAX);
    switch (kind % 5) {
    case 0:
        ROUND_TRIP(jr_worker_lease, worker);
        break;
    case 1:
        ROUND_TRIP(jr_replica_lease, replica);
        break;
    case 2:
        ROUND_TRIP(jr_leader_record, leader);
        break;
    case 3:
        ROUND_TRIP(jr_snapshots_record, snapshots);
        break;
    default:
        ROUND_TRIP(jr_epoch, epoch);
        break;
    }
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
    return 0;
}
