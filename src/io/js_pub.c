/* SPDX-License-Identifier: Apache-2.0 */
/* One publish: to a message, through a request, and the answer read. */
#include "io/js_publish.h"
#include "io/nats_priv.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static int error_in_ack(json_t *error, struct jr_errmsg *e)
{
    json_t *code = json_object_get(error, "err_code");
    json_t *status = json_object_get(error, "code");
    const char *text = json_string_value(json_object_get(error, "description"));
    int n = json_is_integer(code) ? (int)json_integer_value(code) : 0;

    if (n == 0 && json_is_integer(status) && json_integer_value(status) == 503)
        return jr_errmsg_set(e, JR_ELIMIT, "publish: %s", text != NULL ? text : "unavailable");
    return jr_js_error(n, text, e, "publish");
}

int jr_pub_ack_parse(const char *text, size_t n, struct jr_pub_ack *ret, struct jr_errmsg *e)
{
    json_t *root = json_loadb(text, n, 0, NULL);
    json_t *error = json_object_get(root, "error");
    json_t *seq = json_object_get(root, "seq");
    int rv;

    if (json_is_object(error)) {
        rv = error_in_ack(error, e);
    } else if (!json_is_integer(seq) || json_integer_value(seq) <= 0) {
        rv = jr_errmsg_set(e, JR_EPROTO, "publish: the answer is no acknowledgement");
    } else {
        ret->seq = (uint64_t)json_integer_value(seq);
        ret->duplicate = json_is_true(json_object_get(root, "duplicate"));
        rv = 0;
    }
    json_decref(root);
    return rv;
}

static natsStatus add_headers(natsMsg *m, const struct jr_pub *pub)
{
    natsStatus s = NATS_OK;
    char number[24];

    if (pub->msg_id != NULL)
        s = natsMsgHeader_Set(m, "Nats-Msg-Id", pub->msg_id);
    if (s == NATS_OK && pub->rollup)
        s = natsMsgHeader_Set(m, "Nats-Rollup", "sub");
    if (s == NATS_OK && pub->expect_last) {
        snprintf(number, sizeof number, "%" PRIu64, pub->last_subject_seq);
        s = natsMsgHeader_Set(m, "Nats-Expected-Last-Subject-Sequence", number);
    }
    for (unsigned i = 0; i < 3 && pub->headers[i].name != NULL && s == NATS_OK; i++)
        s = natsMsgHeader_Set(m, pub->headers[i].name, pub->headers[i].value);
    return s;
}

int jr_pub_to_msg(const struct jr_pub *pub, const char *reply, natsMsg **ret)
{
    natsMsg *m = NULL;

    if (pub->subject == NULL || pub->n > INT32_MAX)
        return JR_EINVAL;
    if (natsMsg_Create(&m, pub->subject, reply, pub->payload, (int)pub->n) != NATS_OK)
        return JR_EINVAL;
    if (add_headers(m, pub) != NATS_OK) {
        natsMsg_Destroy(m);
        return JR_EINVAL;
    }
    *ret = m;
    return 0;
}

int jr_pub_reply(natsMsg *reply, struct jr_pub_ack *ret, struct jr_errmsg *e)
{
    if (natsMsg_IsNoResponders(reply))
        return jr_errmsg_set(e, JR_ENOTFOUND, "publish: no stream takes this subject");
    return jr_pub_ack_parse(natsMsg_GetData(reply), (size_t)natsMsg_GetDataLength(reply), ret, e);
}

int jr_js_publish(struct jr_nats *nats, const struct jr_pub *pub, struct jr_pub_ack *ret,
                  struct jr_errmsg *e)
{
    struct jr_pub_ack ack = {0};
    natsMsg *m = NULL, *reply = NULL;
    natsStatus s;
    int rv;

    if (!jr_nats_connected(nats))
        return jr_errmsg_set(e, JR_ENONATS, "publish: not connected to NATS");
    rv = jr_pub_to_msg(pub, NULL, &m);
    if (rv != 0)
        return jr_errmsg_set(e, rv, "publish: not a valid message");
    s = natsConnection_RequestMsg(&reply, jr_nats_nc(nats), m, jr_nats_timeout_ms(nats));
    natsMsg_Destroy(m);
    if (s == NATS_NO_RESPONDERS)
        return jr_errmsg_set(e, JR_ENOTFOUND, "publish: no stream takes this subject");
    if (s == NATS_CONNECTION_DISCONNECTED) /* it may have been sent before */
        return jr_errmsg_set(e, JR_ETIMEOUT, "publish: connection lost, outcome unknown");
    if (s != NATS_OK)
        return jr_nats_error(s, 0, e, "publish");
    rv = jr_pub_reply(reply, &ack, e);
    natsMsg_Destroy(reply);
    if (rv == 0 && ret != NULL)
        *ret = ack;
    return rv;
}
