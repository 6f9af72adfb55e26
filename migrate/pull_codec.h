/* Pull codec: the tables of PULL and PULLED frames (page_codec.h has their bytes).
 *
 * Owner: gw_pull_put appends to the caller's buffer; gw_pull_get's result is caller memory, its pull points into it.
 * Thread: plain data. Units: bytes, milliseconds. Errors: GW_ERR_PROTO for what no honest peer sends, *out is undefined
 * then; GW_ERR_MEMORY. Source: own design. */
#ifndef GW_MIGRATE_PULL_CODEC_H
#define GW_MIGRATE_PULL_CODEC_H

#include "base/buf.h"
#include "migrate/peer_pull.h"

#define GW_PULL_HOLDER_BYTES (12 + GW_FETCH_ADDRESS_BYTES)
#define GW_PULL_TABLE_MAX                                                                                    \
    (16 + GW_PULL_NAMES_MAX * (GW_BLOCK_NAME_BYTES + 4) + GW_FETCH_SOURCES_MAX * GW_PULL_HOLDER_BYTES)
#define GW_PULLED_TABLE_MAX (4 + GW_PULL_NAMES_MAX)

/* A PULL that was read. */
struct gw_pull_table {
    struct gw_pull pull; /* its fence is the head's */
    struct gw_block_name names[GW_PULL_NAMES_MAX];
    uint32_t slots[GW_PULL_NAMES_MAX];
    struct gw_fetch_source holders[GW_FETCH_SOURCES_MAX];
};

/* Is it within the limits of peer_pull.h? Both sides ask: a sender before it is put, a reader in gw_pull_get. */
gw_err_t gw_pull_check(const struct gw_pull *pull, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Appends the table of a pull that was checked. */
gw_err_t gw_pull_put(struct gw_buf *out, const struct gw_pull *pull) GW_MUST_USE;
gw_err_t gw_pull_get(const struct gw_page_head *head, const uint8_t *table, struct gw_pull_table *out,
                     struct gw_err_ctx *ctx) GW_MUST_USE;

/* from[len], len 0 unless the status is GW_PAGE_SERVED. Bytes written to out[GW_PULLED_TABLE_MAX]. */
uint32_t gw_pulled_put(uint8_t *out, enum gw_page_status status, const uint8_t *from, uint32_t len);
/* from[len] is set when the status is GW_PAGE_SERVED; so many bytes must be there then. */
gw_err_t gw_pulled_get(const uint8_t *table, uint32_t table_bytes, enum gw_page_status *status, uint8_t *from,
                       uint32_t len, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
