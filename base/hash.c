#include "base/hash.h"

#include <assert.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

/* The streaming state is OpenSSL's own; the struct tag only hides it. */
struct gw_sha256 *gw_sha256_create(void)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int ok = ctx ? EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) : 0;
    assert(ok == 1);
    return (struct gw_sha256 *)ctx;
}

void gw_sha256_update(struct gw_sha256 *s, const void *bytes, size_t len)
{
    int ok = EVP_DigestUpdate((EVP_MD_CTX *)s, bytes, len);
    assert(ok == 1);
}

void gw_sha256_finish(struct gw_sha256 *s, uint8_t out[GW_SHA256_BYTES])
{
    int ok = EVP_DigestFinal_ex((EVP_MD_CTX *)s, out, NULL);
    assert(ok == 1);
    EVP_MD_CTX_free((EVP_MD_CTX *)s);
}

void gw_hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len,
                    uint8_t out[GW_SHA256_BYTES])
{
    unsigned int out_len = GW_SHA256_BYTES;
    assert(key_len <= INT_MAX);
    /* OpenSSL takes NULL for "as last time", not for "nothing". */
    const unsigned char *done = HMAC(EVP_sha256(), key ? key : "", (int)key_len,
                                     bytes ? bytes : (const unsigned char *)"", len, out, &out_len);
    assert(done && out_len == GW_SHA256_BYTES);
}

int gw_bytes_equal_ct(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void gw_bytes_wipe(void *bytes, size_t len)
{
    OPENSSL_cleanse(bytes, len);
}

uint64_t gw_hash64(const void *bytes, size_t len, uint64_t seed)
{
    const uint8_t *p = bytes;
    uint64_t h = gw_mix64(seed ^ len);
    while (len >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = gw_mix64(h ^ w);
        p += 8;
        len -= 8;
    }
    uint64_t tail = 0;
    if (len > 0) memcpy(&tail, p, len);
    return gw_mix64(h ^ tail);
}

void gw_hex(const void *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * len] = '\0';
}
