/* SPDX-License-Identifier: Apache-2.0 */
#include "app/router/booking.h"

#include "app/frontend/frontend_internal.h"
#include "app/router/ask.h"
#include "app/router/route_body.h"
#include "core/hash.h"

#include <inttypes.h>
#include <string.h>

#define ANSWER_MAX ((size_t)16 << 10)

uint64_t jr_booking_id(const char *request_id)
{
    return jr_hash_bytes(NULL, request_id, strlen(request_id)) | JR_OUTSIDE_BIT;
}

void jr_booking_name(struct jr_rng *rng, char *ret)
{
    snprintf(ret, JR_ROUTE_NAME_MAX, "%016" PRIx64 "%016" PRIx64, jr_rng_u64(rng), jr_rng_u64(rng));
}

static int read_name(struct jr_str body, struct jr_route_fields *ret, struct jr_route_error *bad)
{
    json_t *root = json_loadb(body.p ? body.p : "", body.n, JSON_REJECT_DUPLICATES, NULL);
    int err = json_is_object(root) ? jr_route_body_fields(root, ret, bad) : JR_EPROTO;
    json_decref(root);
    if (err == 0 && !ret->request_id[0]) {
        bad->param = "request_id";
        err = jr_errmsg_set(&bad->msg, JR_EINVAL,
                            "'request_id' is missing: name the request that /select booked");
    }
    return err;
}

/* Whether anybody has it, and who, before it is told. */
static void put_known(struct jr_buf *b, const char *request_id, bool known, const char *owner)
{
    jr_buf_puts(b, "{\"request_id\":");
    jr_buf_json_str(b, request_id);
    jr_buf_printf(b, ",\"known\":%s,\"replica\":", known ? "true" : "false");
    if (known)
        jr_buf_json_str(b, owner);
    else
        jr_buf_puts(b, "null");
    jr_buf_puts(b, "}");
}

static void tell(struct jr_frontend *f, struct jr_http_request *req, bool done)
{
    struct jr_route_error bad = {.param = NULL};
    struct jr_route_fields r;
    struct jr_outside_view v;
    struct jr_buf b;
    if (read_name(jr_http_request_body(req), &r, &bad) < 0) {
        jr_service_error(&f->main, req, JR_ERROR_BAD_BODY, bad.param,
                         bad.msg.text[0] ? bad.msg.text : NULL);
        return;
    }
    if (f->n_drivers == 0) {
        jr_service_error(&f->main, req, JR_ERROR_NO_WORKER, NULL, NULL);
        return;
    }
    struct jr_driver *d = f->drivers[0];
    uint64_t id = jr_booking_id(r.request_id);
    if (done && jr_driver_is_waiting(d, id))
        jr_ask_end(f, id);
    jr_buf_init(&b, ANSWER_MAX);
    bool known = jr_pool_find_outside(jr_driver_pool(d), id, &v);
    put_known(&b, r.request_id, known, v.owner);
    if (jr_driver_outside(d, id, done) < 0 || b.err)
        jr_service_error(&f->main, req, JR_ERROR_NO_ROOM, NULL, NULL);
    else
        jr_http_respond(req, 200, "application/json", NULL, b.p, b.n);
    jr_buf_deinit(&b);
}

void jr_booking_prefill_done(struct jr_frontend *f, struct jr_http_request *req)
{
    tell(f, req, false);
}

void jr_booking_free(struct jr_frontend *f, struct jr_http_request *req)
{
    tell(f, req, true);
}
