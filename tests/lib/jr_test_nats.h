/* SPDX-License-Identifier: Apache-2.0 */
/* jr_test_nats: a real nats-server as a child of the test, with its own folder and port.
 *
 *     static struct jr_test_nats nats;
 *     setup: jr_test_nats_start(&nats, NULL);     … connect to nats.url …
 *     teardown: jr_test_nats_end(&nats);
 *
 * The server also dies with the test process. The binary is JR_NATS_SERVER of the environment, or
 * nats-server of PATH or /usr/sbin. Without one the test ends: the integration tests need it. */
#ifndef JR_TEST_NATS_H
#define JR_TEST_NATS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct jr_test_nats {
    pid_t pid; /* 0 when it does not run */
    uint16_t port;
    char url[64]; /* nats://127.0.0.1:PORT */
    char *dir;    /* store and server.log */
    char *binary;
    const char *const *extra; /* borrows */
};

/* The path of the server, or NULL; returns owned. */
char *jr_test_nats_binary(void);

/* Start with JetStream on a new folder and a free port; returns when it takes connections.
 * extra: further arguments, NULL-terminated, or NULL; must live as long as n. */
void jr_test_nats_start(struct jr_test_nats *n, const char *const *extra);
void jr_test_nats_stop(struct jr_test_nats *n);    /* SIGTERM, and wait */
void jr_test_nats_kill(struct jr_test_nats *n);    /* SIGKILL, and wait */
void jr_test_nats_restart(struct jr_test_nats *n); /* stop if it runs; same folder, same port */
void jr_test_nats_wipe(struct jr_test_nats *n);    /* stopped: forget all streams */
void jr_test_nats_pause(struct jr_test_nats *n);   /* SIGSTOP: connected, but silent */
void jr_test_nats_resume(struct jr_test_nats *n);
/* Kill and remove the folder; n may be zeroed or ended already. */
void jr_test_nats_end(struct jr_test_nats *n);

#endif
