/* Page seals: a KV page as it lies in a store, so that nobody without the cluster key can read, forge or swap it.
 *
 *     byte  size   field
 *        0     4   magic "GWP1"
 *        4    12   nonce, random
 *       16     n   the page, AES-256-GCM
 *   16 + n    16   tag
 *
 *     block key  = HKDF-SHA-256(cluster key, salt "godwit page seal 1", info: block name)
 *     authenticated, not stored: name (16) ‖ layer group (u16) ‖ KV head (u16) ‖ n (u32) ‖ context
 *     context    = fingerprint ‖ profile ‖ KV type, each behind its u32 length; integers little-endian
 *
 * Each block has a key of its own, because random 96-bit nonces are good for 2^32 seals under one key only: at 1 GB/s of
 * 64 KiB pages that is three days, of the pages of one block it is for ever.
 *
 * Owner: gw_page_sealer_destroy wipes and frees. Thread: one sealer, one thread. Units: bytes.
 * Errors: GW_ERR_PROTO from open: it is not what was sealed for this place (nothing of it is kept: out is zeroed);
 * GW_ERR_INPUT for a key of a wrong length; GW_ERR_LIMIT; GW_ERR_MEMORY. Source: NIST SP 800-38D, RFC 5869; DESIGN
 * part 5. */
#ifndef GW_MIGRATE_PAGE_SEAL_H
#define GW_MIGRATE_PAGE_SEAL_H

#include "migrate/block_name.h"
#include "migrate/page.h"

#define GW_PAGE_SEAL_BYTES 32 /* what a seal adds: magic, nonce, tag */

struct gw_page_seal_config {
    const void *key; /* the cluster key */
    size_t key_len;
    const uint8_t *fingerprint;
    size_t fingerprint_len;
    const char *profile, *kv_type;
};

struct gw_page_sealer;

/* Everything in config is copied. */
gw_err_t gw_page_sealer_create(const struct gw_page_seal_config *config, struct gw_page_sealer **out,
                               struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_page_sealer_destroy(struct gw_page_sealer *sealer);

/* Writes len + GW_PAGE_SEAL_BYTES bytes to out, which does not overlap page. */
gw_err_t gw_page_seal(struct gw_page_sealer *sealer, const struct gw_block_name *name, struct gw_page_id id,
                      const void *page, size_t len, uint8_t *out) GW_MUST_USE;

/* Takes sealed_len bytes that came from outside; they must be the seal of a page of exactly len bytes, which go to out. */
gw_err_t gw_page_open(struct gw_page_sealer *sealer, const struct gw_block_name *name, struct gw_page_id id,
                      const uint8_t *sealed, size_t sealed_len, void *out, size_t len) GW_MUST_USE;

#endif
