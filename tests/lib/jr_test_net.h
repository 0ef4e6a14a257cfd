/* SPDX-License-Identifier: Apache-2.0 */
/* jr_test_net: raw blocking sockets on loopback, for tests that say each byte themselves. Every
 * wait is bounded by 10 s and fails the test. */
#ifndef JR_TEST_NET_H
#define JR_TEST_NET_H

#include <stddef.h>
#include <stdint.h>

int jr_test_connect(uint16_t port);
int jr_test_listen(uint16_t *ret_port); /* a listening socket on a free port */
int jr_test_accept(int listener);
void jr_test_send(int fd, const void *p, size_t n);
void jr_test_puts(int fd, const char *text);
/* Reads until the text ends with `end`, or the peer closes; NUL-terminated; returns the count. */
size_t jr_test_read_until(int fd, char *dst, size_t cap, const char *end);
/* Reads exactly n bytes, or until the peer closes. */
size_t jr_test_read_n(int fd, char *dst, size_t n);
/* Reads until the peer closes (a reset counts as an end). */
size_t jr_test_read_all(int fd, char *dst, size_t cap);

#endif
