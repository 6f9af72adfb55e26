#include "migrate/block_name.h"

#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"

static void put_text(struct gw_buf *b, const char *text)
{
    gw_buf_bytes(b, text, strlen(text));
}

gw_err_t gw_block_namer_init(struct gw_block_namer *namer, const void *key, size_t key_len,
                             const uint8_t *fingerprint, size_t fingerprint_len, const char *profile,
                             const char *kv_type, struct gw_err_ctx *ctx)
{
    if (key_len < GW_CLUSTER_KEY_MIN || key_len > GW_CLUSTER_KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "cluster key: %zu bytes, expected %d to %d", key_len,
                       GW_CLUSTER_KEY_MIN, GW_CLUSTER_KEY_MAX);
    struct gw_buf b;
    gw_buf_init(&b, GW_BLOCK_CONTEXT_MAX - GW_REQUEST_TENANT_BYTES);
    gw_buf_u32(&b, GW_BLOCK_TOKENS);
    gw_buf_bytes(&b, fingerprint, fingerprint_len);
    put_text(&b, profile);
    put_text(&b, kv_type);
    gw_err_t err = b.err;
    if (err == GW_OK) {
        memcpy(namer->key, key, key_len);
        namer->key_len = key_len;
        memcpy(namer->context, b.data, b.len);
        namer->context_len = b.len;
    } else {
        gw_fail(ctx, err, "block names: profile '%.64s' or KV type '%.16s' is too long", profile, kv_type);
    }
    gw_buf_fini(&b);
    return err;
}

/* HMAC'd bytes: parent name (16, zeros for the first block) ‖ ids (count × u32 LE) ‖ tenant (16) ‖ context. What is behind
 * the ids has one length, so no text of one count is that of another. */
struct gw_block_name gw_block_name_tail(const struct gw_block_namer *namer,
                                        const uint8_t tenant[GW_REQUEST_TENANT_BYTES],
                                        const struct gw_block_name *parent, const uint32_t *ids,
                                        uint32_t count)
{
    uint8_t text[GW_BLOCK_NAME_BYTES + 4 * GW_BLOCK_TOKENS + GW_REQUEST_TENANT_BYTES + GW_BLOCK_CONTEXT_MAX] =
        {0};
    uint8_t mac[GW_SHA256_BYTES];
    uint8_t *p = text;
    struct gw_block_name name;
    if (parent) memcpy(p, parent->bytes, GW_BLOCK_NAME_BYTES);
    p += GW_BLOCK_NAME_BYTES;
    assert(count <= GW_BLOCK_TOKENS);
    for (uint32_t i = 0; i < count; i++)
        for (int byte = 0; byte < 4; byte++) *p++ = (uint8_t)(ids[i] >> (8 * byte));
    memcpy(p, tenant, GW_REQUEST_TENANT_BYTES);
    p += GW_REQUEST_TENANT_BYTES;
    memcpy(p, namer->context, namer->context_len);
    p += namer->context_len;
    gw_hmac_sha256(namer->key, namer->key_len, text, (size_t)(p - text), mac);
    memcpy(name.bytes, mac, sizeof name.bytes);
    if (count < GW_BLOCK_TOKENS) memset(name.bytes + GW_BLOCK_NAME_BYTES - 4, 0, 4);
    return name;
}

struct gw_block_name gw_block_name_next(const struct gw_block_namer *namer,
                                        const uint8_t tenant[GW_REQUEST_TENANT_BYTES],
                                        const struct gw_block_name *parent, const uint32_t *ids)
{
    return gw_block_name_tail(namer, tenant, parent, ids, GW_BLOCK_TOKENS);
}
