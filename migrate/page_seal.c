#include "migrate/page_seal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/rng.h"

#define MAGIC_BYTES 4
#define NONCE_BYTES 12
#define TAG_BYTES   16
#define HEAD_BYTES  (MAGIC_BYTES + NONCE_BYTES)
#define PLACE_BYTES (GW_BLOCK_NAME_BYTES + 8)
#define CONTEXT_MAX GW_BLOCK_CONTEXT_MAX
#define NONCES_BYTES                                                                                         \
    (256 * NONCE_BYTES) /* asked of the kernel at once: a call per page would cost as much as 4 KiB */

_Static_assert(HEAD_BYTES + TAG_BYTES == GW_PAGE_SEAL_BYTES, "the byte table");

static const uint8_t magic[MAGIC_BYTES] = {'G', 'W', 'P', '1'};
static const char salt[] = "godwit page seal 1";

struct gw_page_sealer {
    EVP_CIPHER_CTX *encrypt, *decrypt;
    uint8_t root[GW_SHA256_BYTES];  /* HKDF's extracted key */
    uint8_t block[GW_SHA256_BYTES]; /* key of block `name` */
    struct gw_block_name name;
    bool has_block;
    uint8_t authenticated[PLACE_BYTES + CONTEXT_MAX]; /* place, then context */
    size_t context_len;
    uint8_t nonces[NONCES_BYTES];
    size_t nonces_left;
};

static gw_err_t put_context(struct gw_page_sealer *s, const struct gw_page_seal_config *c,
                            struct gw_err_ctx *ctx)
{
    struct gw_buf b;
    gw_buf_init(&b, CONTEXT_MAX);
    gw_buf_bytes(&b, c->fingerprint, c->fingerprint_len);
    gw_buf_bytes(&b, c->profile, strlen(c->profile));
    gw_buf_bytes(&b, c->kv_type, strlen(c->kv_type));
    gw_err_t err = b.err;
    if (err == GW_OK) {
        memcpy(s->authenticated + PLACE_BYTES, b.data, b.len);
        s->context_len = b.len;
    } else {
        gw_fail(ctx, err, "page seals: profile '%.64s' or KV type '%.16s' is too long", c->profile,
                c->kv_type);
    }
    gw_buf_fini(&b);
    return err;
}

static gw_err_t set_up(struct gw_page_sealer *s, const struct gw_page_seal_config *c, struct gw_err_ctx *ctx)
{
    TRY(put_context(s, c, ctx));
    gw_hmac_sha256(salt, sizeof salt - 1, c->key, c->key_len, s->root);
    s->encrypt = EVP_CIPHER_CTX_new();
    s->decrypt = EVP_CIPHER_CTX_new();
    if (!s->encrypt || !s->decrypt ||
        EVP_EncryptInit_ex(s->encrypt, EVP_aes_256_gcm(), NULL, NULL, NULL) != 1 ||
        EVP_DecryptInit_ex(s->decrypt, EVP_aes_256_gcm(), NULL, NULL, NULL) != 1)
        return gw_fail(ctx, GW_ERR_MEMORY, "page seals: no AES-256-GCM, or out of memory");
    return GW_OK;
}

gw_err_t gw_page_sealer_create(const struct gw_page_seal_config *config, struct gw_page_sealer **out,
                               struct gw_err_ctx *ctx)
{
    if (config->key_len < GW_CLUSTER_KEY_MIN || config->key_len > GW_CLUSTER_KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "cluster key: %zu bytes, expected %d to %d", config->key_len,
                       GW_CLUSTER_KEY_MIN, GW_CLUSTER_KEY_MAX);
    struct gw_page_sealer *s = calloc(1, sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "page seals: out of memory");
    gw_err_t err = set_up(s, config, ctx);
    if (err != GW_OK) {
        gw_page_sealer_destroy(s);
        return err;
    }
    *out = s;
    return GW_OK;
}

void gw_page_sealer_destroy(struct gw_page_sealer *s)
{
    if (!s) return;
    EVP_CIPHER_CTX_free(s->encrypt);
    EVP_CIPHER_CTX_free(s->decrypt);
    gw_bytes_wipe(s, sizeof *s);
    free(s);
}

/* HKDF's expansion to one block of output; pages of a block come together, so the last key is kept. */
static const uint8_t *block_key(struct gw_page_sealer *s, const struct gw_block_name *name)
{
    uint8_t info[GW_BLOCK_NAME_BYTES + 1];
    if (s->has_block && memcmp(&s->name, name, sizeof *name) == 0) return s->block;
    memcpy(info, name->bytes, GW_BLOCK_NAME_BYTES);
    info[GW_BLOCK_NAME_BYTES] = 1;
    gw_hmac_sha256(s->root, sizeof s->root, info, sizeof info, s->block);
    s->name = *name;
    s->has_block = true;
    return s->block;
}

static size_t set_place(struct gw_page_sealer *s, const struct gw_block_name *name, struct gw_page_id id,
                        size_t len)
{
    uint8_t *p = s->authenticated;
    memcpy(p, name->bytes, GW_BLOCK_NAME_BYTES);
    gw_put_le(p + GW_BLOCK_NAME_BYTES, id.group, 2);
    gw_put_le(p + GW_BLOCK_NAME_BYTES + 2, id.head, 2);
    gw_put_le(p + GW_BLOCK_NAME_BYTES + 4, (uint32_t)len, 4);
    return PLACE_BYTES + s->context_len;
}

static void next_nonce(struct gw_page_sealer *s, uint8_t *out)
{
    if (s->nonces_left == 0) {
        gw_random_bytes(s->nonces, sizeof s->nonces);
        s->nonces_left = sizeof s->nonces;
    }
    s->nonces_left -= NONCE_BYTES;
    memcpy(out, s->nonces + s->nonces_left, NONCE_BYTES);
}

gw_err_t gw_page_seal(struct gw_page_sealer *s, const struct gw_block_name *name, struct gw_page_id id,
                      const void *page, size_t len, uint8_t *out)
{
    int n = 0, authenticated_len = 0;
    if (len > GW_PAGE_BYTES_MAX) return GW_ERR_LIMIT;
    size_t place_len = set_place(s, name, id, len);
    memcpy(out, magic, MAGIC_BYTES);
    next_nonce(s, out + MAGIC_BYTES);
    bool ok =
        EVP_EncryptInit_ex(s->encrypt, NULL, NULL, block_key(s, name), out + MAGIC_BYTES) == 1 &&
        EVP_EncryptUpdate(s->encrypt, NULL, &authenticated_len, s->authenticated, (int)place_len) == 1 &&
        EVP_EncryptUpdate(s->encrypt, out + HEAD_BYTES, &n, page, (int)len) == 1 &&
        EVP_EncryptFinal_ex(s->encrypt, out + HEAD_BYTES + n, &n) == 1 &&
        EVP_CIPHER_CTX_ctrl(s->encrypt, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, out + HEAD_BYTES + len) == 1;
    return ok ? GW_OK : GW_ERR_MEMORY;
}

gw_err_t gw_page_open(struct gw_page_sealer *s, const struct gw_block_name *name, struct gw_page_id id,
                      const uint8_t *sealed, size_t sealed_len, void *out, size_t len)
{
    uint8_t tag[TAG_BYTES], end[TAG_BYTES];
    int n = 0;
    if (len > GW_PAGE_BYTES_MAX || sealed_len != len + GW_PAGE_SEAL_BYTES ||
        memcmp(sealed, magic, MAGIC_BYTES) != 0)
        return GW_ERR_PROTO;
    size_t place_len = set_place(s, name, id, len);
    memcpy(tag, sealed + HEAD_BYTES + len, TAG_BYTES);
    bool ok = EVP_DecryptInit_ex(s->decrypt, NULL, NULL, block_key(s, name), sealed + MAGIC_BYTES) == 1 &&
              EVP_DecryptUpdate(s->decrypt, NULL, &n, s->authenticated, (int)place_len) == 1 &&
              EVP_DecryptUpdate(s->decrypt, out, &n, sealed + HEAD_BYTES, (int)len) == 1 &&
              EVP_CIPHER_CTX_ctrl(s->decrypt, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) == 1 &&
              EVP_DecryptFinal_ex(s->decrypt, end, &n) == 1;
    if (ok) return GW_OK;
    memset(out, 0, len); /* decrypted before it could be checked */
    return GW_ERR_PROTO;
}
