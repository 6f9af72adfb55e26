/* Block names: what a sealed KV block is called, everywhere: pool, peers, stores.
 *
 *     name(block) = HMAC-SHA-256(cluster key, parent name ‖ token ids ‖ context), first 16 bytes
 *     context     = model fingerprint ‖ numerics profile ‖ KV type ‖ tenant salt ‖ block size
 *
 * The chain makes a name stand for all tokens from position 0 on, so equal names mean equal KV bits (under an
 * exact profile). The key keeps tenants and outsiders from guessing names; the salt keeps one tenant's
 * prefixes out of another's timings.
 *
 * Owner: a namer is caller memory, keep it as secret as the key inside. Thread: const after init.
 * Units: tokens, bytes. Errors: GW_ERR_LIMIT for a key that is too long. Source: DESIGN part 5. */
#ifndef GW_MIGRATE_BLOCK_NAME_H
#define GW_MIGRATE_BLOCK_NAME_H

#include <string.h>

#include "migrate/request.h"

#define GW_BLOCK_TOKENS     16 /* B: tokens per block */
#define GW_BLOCK_NAME_BYTES 16
#define GW_CLUSTER_KEY_MIN  16   /* bytes; less is a mistake, not a secret */
#define GW_CLUSTER_KEY_MAX  4096 /* bytes */
#define GW_BLOCK_CONTEXT_MAX                                                                                 \
    160 /* fingerprint, profile, KV type, tenant, block size: 16+64+16+16+4 and lengths */

struct gw_block_name {
    uint8_t bytes[GW_BLOCK_NAME_BYTES];
};

/* Eight bytes of it for tables: names are HMACs, so these are as good as all where nobody can choose them. Never 0. */
static inline uint64_t gw_block_name_id(const struct gw_block_name *name)
{
    uint64_t id;
    memcpy(&id, name->bytes, sizeof id);
    return id ? id : 1;
}

/* Key and context of one (model, profile, KV type); the tenant comes with each name. */
struct gw_block_namer {
    uint8_t key[GW_CLUSTER_KEY_MAX];
    size_t key_len;
    uint8_t context[GW_BLOCK_CONTEXT_MAX];
    size_t context_len;
};

/* profile and kv_type are names ("cpu-bf16dot-1", "bf16"). On error *namer is unchanged. */
gw_err_t gw_block_namer_init(struct gw_block_namer *namer, const void *key, size_t key_len,
                             const uint8_t *fingerprint, size_t fingerprint_len, const char *profile,
                             const char *kv_type, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The name of the block that follows `parent` (NULL: it is the sequence's first) and holds
 * ids[GW_BLOCK_TOKENS]. */
struct gw_block_name gw_block_name_next(const struct gw_block_namer *namer,
                                        const uint8_t tenant[GW_REQUEST_TENANT_BYTES],
                                        const struct gw_block_name *parent, const uint32_t *ids);

/* The name of a block's first `count` tokens, while it is not full. It is published only when a request is handed over, when
 * nobody will write to that block any more; stores never see it: its last four bytes are zeros, by which it is known. */
struct gw_block_name gw_block_name_tail(const struct gw_block_namer *namer,
                                        const uint8_t tenant[GW_REQUEST_TENANT_BYTES],
                                        const struct gw_block_name *parent, const uint32_t *ids,
                                        uint32_t count);
/* One in 2^32 whole blocks is taken for a tail, and then not stored. */
static inline bool gw_block_name_is_tail(const struct gw_block_name *name)
{
    const uint8_t *end = name->bytes + GW_BLOCK_NAME_BYTES - 4;
    return !end[0] && !end[1] && !end[2] && !end[3];
}

#endif
