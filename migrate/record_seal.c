#include "migrate/record_seal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "migrate/block_name.h"

#define NONCE_BYTES 12
#define TAG_BYTES   16

_Static_assert(GW_RECORD_HEAD_BYTES + TAG_BYTES == GW_RECORD_SEAL_BYTES, "the byte table");

static const char salt[] = "godwit record seal 1";

struct gw_record_sealer {
    EVP_CIPHER_CTX *encrypt, *decrypt;
    uint8_t root[GW_SHA256_BYTES]; /* HKDF's extracted key */
    uint8_t key[GW_SHA256_BYTES];  /* of `writer` */
    struct gw_record_writer writer;
    bool has_key;
};

gw_err_t gw_record_sealer_create(const void *key, size_t key_len, struct gw_record_sealer **out,
                                 struct gw_err_ctx *ctx)
{
    if (key_len < GW_CLUSTER_KEY_MIN || key_len > GW_CLUSTER_KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "cluster key: %zu bytes, expected %d to %d", key_len,
                       GW_CLUSTER_KEY_MIN, GW_CLUSTER_KEY_MAX);
    struct gw_record_sealer *s = calloc(1, sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "record seals: out of memory");
    gw_hmac_sha256(salt, sizeof salt - 1, key, key_len, s->root);
    s->encrypt = EVP_CIPHER_CTX_new();
    s->decrypt = EVP_CIPHER_CTX_new();
    if (!s->encrypt || !s->decrypt ||
        EVP_EncryptInit_ex(s->encrypt, EVP_aes_256_gcm(), NULL, NULL, NULL) != 1 ||
        EVP_DecryptInit_ex(s->decrypt, EVP_aes_256_gcm(), NULL, NULL, NULL) != 1) {
        gw_record_sealer_destroy(s);
        return gw_fail(ctx, GW_ERR_MEMORY, "record seals: no AES-256-GCM, or out of memory");
    }
    *out = s;
    return GW_OK;
}

void gw_record_sealer_destroy(struct gw_record_sealer *s)
{
    if (!s) return;
    EVP_CIPHER_CTX_free(s->encrypt);
    EVP_CIPHER_CTX_free(s->decrypt);
    gw_bytes_wipe(s, sizeof *s);
    free(s);
}

/* HKDF's expansion to one block of output; records of a writer come together, so the last key is kept. */
static const uint8_t *writer_key(struct gw_record_sealer *s, const struct gw_record_writer *writer)
{
    uint8_t info[GW_RECORD_WRITER_BYTES + 1];
    if (s->has_key && memcmp(&s->writer, writer, sizeof *writer) == 0) return s->key;
    memcpy(info, writer->bytes, GW_RECORD_WRITER_BYTES);
    info[GW_RECORD_WRITER_BYTES] = 1;
    gw_hmac_sha256(s->root, sizeof s->root, info, sizeof info, s->key);
    s->writer = *writer;
    s->has_key = true;
    return s->key;
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void put_nonce(uint8_t nonce[NONCE_BYTES], uint64_t sequence)
{
    memset(nonce, 0, NONCE_BYTES);
    gw_put_le(nonce + NONCE_BYTES - 8, sequence, 8);
}

gw_err_t gw_record_seal(struct gw_record_sealer *s, const struct gw_record_writer *writer, uint64_t sequence,
                        const void *place, size_t place_len, const void *record, size_t len, uint8_t *out)
{
    uint8_t nonce[NONCE_BYTES];
    uint8_t *body = out + GW_RECORD_HEAD_BYTES;
    int n = 0;
    if (len > GW_RECORD_BYTES_MAX || place_len > GW_RECORD_PLACE_MAX) return GW_ERR_LIMIT;
    memcpy(out, writer->bytes, GW_RECORD_WRITER_BYTES);
    gw_put_le(out + GW_RECORD_WRITER_BYTES, sequence, 8);
    put_nonce(nonce, sequence);
    bool ok = EVP_EncryptInit_ex(s->encrypt, NULL, NULL, writer_key(s, writer), nonce) == 1 &&
              EVP_EncryptUpdate(s->encrypt, NULL, &n, place, (int)place_len) == 1 &&
              EVP_EncryptUpdate(s->encrypt, body, &n, record, (int)len) == 1 &&
              EVP_EncryptFinal_ex(s->encrypt, body + n, &n) == 1 &&
              EVP_CIPHER_CTX_ctrl(s->encrypt, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, body + len) == 1;
    return ok ? GW_OK : GW_ERR_MEMORY;
}

gw_err_t gw_record_open(struct gw_record_sealer *s, const void *place, size_t place_len,
                        const uint8_t *sealed, size_t sealed_len, struct gw_record_writer *writer,
                        uint64_t *sequence, void *out)
{
    uint8_t nonce[NONCE_BYTES], tag[TAG_BYTES], end[TAG_BYTES];
    int n = 0;
    if (sealed_len < GW_RECORD_SEAL_BYTES || place_len > GW_RECORD_PLACE_MAX) return GW_ERR_PROTO;
    size_t len = sealed_len - GW_RECORD_SEAL_BYTES;
    const uint8_t *body = sealed + GW_RECORD_HEAD_BYTES;
    if (len > GW_RECORD_BYTES_MAX) return GW_ERR_PROTO;
    memcpy(writer->bytes, sealed, GW_RECORD_WRITER_BYTES);
    *sequence = get_u64(sealed + GW_RECORD_WRITER_BYTES);
    put_nonce(nonce, *sequence);
    memcpy(tag, body + len, TAG_BYTES);
    bool ok = EVP_DecryptInit_ex(s->decrypt, NULL, NULL, writer_key(s, writer), nonce) == 1 &&
              EVP_DecryptUpdate(s->decrypt, NULL, &n, place, (int)place_len) == 1 &&
              EVP_DecryptUpdate(s->decrypt, out, &n, body, (int)len) == 1 &&
              EVP_CIPHER_CTX_ctrl(s->decrypt, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) == 1 &&
              EVP_DecryptFinal_ex(s->decrypt, end, &n) == 1;
    if (ok) return GW_OK;
    memset(out, 0, len); /* decrypted before it could be checked */
    return GW_ERR_PROTO;
}
