/* SPDX-License-Identifier: Apache-2.0 */
#include "io/nats_priv.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* An nkey is base32 of: prefix, 32 bytes of key, CRC-16 (XMODEM, little endian). A seed has two
 * prefix bytes, the type of the key folded into them (github.com/nats-io/nkeys, README). */
#define SEED_CHARS  58
#define SEED_BYTES  36
#define USER_PREFIX (20 << 3)

static uint16_t crc16(const uint8_t *p, size_t n)
{
    uint16_t crc = 0;

    for (size_t i = 0; i < n; i++) {
        crc = (uint16_t)(crc ^ (p[i] << 8));
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)((crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

static int base32_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= '2' && c <= '7')
        return c - '2' + 26;
    return -1;
}

static bool base32_decode(const char *s, size_t n, uint8_t *dst, size_t cap)
{
    uint32_t acc = 0;
    unsigned bits = 0;
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        int v = base32_value(s[i]);
        if (v < 0)
            return false;
        acc = acc << 5 | (uint32_t)v;
        bits += 5;
        if (bits >= 8) {
            if (used == cap)
                return false;
            bits -= 8;
            dst[used++] = (uint8_t)(acc >> bits);
        }
    }
    return used == cap;
}

static void base32_encode(const uint8_t *p, size_t n, char *dst)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint32_t acc = 0;
    unsigned bits = 0;

    for (size_t i = 0; i < n; i++) {
        acc = acc << 8 | p[i];
        bits += 8;
        while (bits >= 5) {
            bits -= 5;
            *dst++ = alphabet[acc >> bits & 31];
        }
    }
    if (bits > 0)
        *dst++ = alphabet[acc << (5 - bits) & 31];
    *dst = '\0';
}

/* The file may hold the bare seed or a decorated block: the first line that starts with "SU". */
static bool read_seed(const char *file, char *seed)
{
    char line[256];
    bool found = false;
    FILE *f = fopen(file, "re");

    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        size_t n = strcspn(line, " \t\r\n");
        if (n == SEED_CHARS && strncmp(line, "SU", 2) == 0) {
            memcpy(seed, line, SEED_CHARS);
            found = true;
        }
    }
    fclose(f);
    sodium_memzero(line, sizeof line);
    return found;
}

bool jr_nkey_is_seed(const char *text)
{
    return strlen(text) == SEED_CHARS && strncmp(text, "SU", 2) == 0;
}

int jr_nkey_public(const char *seed_or_file, char *ret, struct jr_errmsg *e)
{
    char seed[SEED_CHARS];
    /* A seed is a secret: it stands in no message, not even one that was mistyped. */
    const char *name = strchr(seed_or_file, '/') != NULL ? seed_or_file : "the nkey";
    uint8_t raw[SEED_BYTES], secret[crypto_sign_SECRETKEYBYTES];
    uint8_t key[1 + crypto_sign_PUBLICKEYBYTES + 2];
    int rv = 0;

    if (jr_nkey_is_seed(seed_or_file))
        memcpy(seed, seed_or_file, SEED_CHARS);
    else if (!read_seed(seed_or_file, seed))
        return jr_errmsg_set(e, JR_ECONFIG, "NATS nkey: %s: no user seed (SU…) can be read", name);
    if (!base32_decode(seed, sizeof seed, raw, sizeof raw) ||
        crc16(raw, 34) != (raw[34] | raw[35] << 8) || sodium_init() < 0) {
        rv = jr_errmsg_set(e, JR_ECONFIG, "NATS nkey: %s: not a valid seed", name);
        goto out;
    }
    key[0] = USER_PREFIX;
    crypto_sign_seed_keypair(key + 1, secret, raw + 2);
    uint16_t crc = crc16(key, 1 + crypto_sign_PUBLICKEYBYTES);
    key[33] = (uint8_t)crc;
    key[34] = (uint8_t)(crc >> 8);
    base32_encode(key, sizeof key, ret);
out:
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(raw, sizeof raw);
    sodium_memzero(secret, sizeof secret);
    return rv;
}
