/* Hashes: SHA-256 and HMAC-SHA-256 (OpenSSL) for names and keys, a fast 64-bit one for tables.
 *
 * gw_hash64 is not for hostile keys unless seeded by a secret; names that cross the wire use HMAC.
 * Owner: caller memory. Thread: safe. Units: bytes. Errors: none (OpenSSL's failures abort: out of memory at
 * start-up or our bug). Source: FIPS 180-4, RFC 2104; the 64-bit mixer is splitmix64 (Steele et al. 2014). */
#ifndef GW_BASE_HASH_H
#define GW_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define GW_SHA256_BYTES 32

struct gw_sha256; /* streaming state */

struct gw_sha256 *gw_sha256_create(void);
void gw_sha256_update(struct gw_sha256 *s, const void *bytes, size_t len);
/* Writes the digest and frees s. */
void gw_sha256_finish(struct gw_sha256 *s, uint8_t out[GW_SHA256_BYTES]);

void gw_hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len,
                    uint8_t out[GW_SHA256_BYTES]);

/* Equal in constant time? For secrets. 1 = equal. */
int gw_bytes_equal_ct(const void *a, const void *b, size_t len);

/* Overwrites a secret; the compiler may not drop it. */
void gw_bytes_wipe(void *bytes, size_t len);

/* A good 64-bit mix of one word. */
static inline uint64_t gw_mix64(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

uint64_t gw_hash64(const void *bytes, size_t len, uint64_t seed);

/* Lower-case hex with a NUL; out holds 2 * len + 1. */
void gw_hex(const void *bytes, size_t len, char *out);

#endif
