#include "migrate/cell_codec.h"

#include "base/buf.h"

void gw_cell_ask_put(uint8_t out[GW_CELL_ASK_BYTES], const struct gw_cell_ask *ask)
{
    uint8_t *at = gw_put_le(out, ask->packing, 8);
    at = gw_put_le(at, ask->part, 4);
    at = gw_put_le(at, 0, 4);
    at = gw_put_le(at, ask->bytes, 8);
    gw_put_le(at, ask->from, 8);
}

gw_err_t gw_cell_ask_get(const uint8_t table[GW_CELL_ASK_BYTES], struct gw_cell_ask *out,
                         struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, table, GW_CELL_ASK_BYTES);
    out->packing = gw_read_u64(&r);
    out->part = gw_read_u32(&r);
    uint32_t zero = gw_read_u32(&r);
    out->bytes = gw_read_u64(&r);
    out->from = gw_read_u64(&r);
    if (zero == 0 && out->from < out->bytes && out->from % GW_CELL_PIECE_BYTES == 0) return GW_OK;
    return gw_fail(ctx, GW_ERR_PROTO, "cells: byte %llu of %llu was asked for", (unsigned long long)out->from,
                   (unsigned long long)out->bytes);
}

void gw_cell_piece_put(uint8_t out[GW_CELL_PIECE_HEAD_BYTES], const struct gw_cell_piece *piece)
{
    gw_put_le(gw_put_le(out, piece->at, 8), piece->checksum, 8);
}

struct gw_cell_piece gw_cell_piece_get(const uint8_t table[GW_CELL_PIECE_HEAD_BYTES])
{
    struct gw_reader r;
    gw_reader_init(&r, table, GW_CELL_PIECE_HEAD_BYTES);
    uint64_t at = gw_read_u64(&r), checksum = gw_read_u64(&r);
    return (struct gw_cell_piece){at, checksum};
}

void gw_cell_end_put(uint8_t out[GW_CELL_END_BYTES], enum gw_cell_status status)
{
    gw_put_le(out, status, GW_CELL_END_BYTES);
}

gw_err_t gw_cell_end_get(const uint8_t table[GW_CELL_END_BYTES], enum gw_cell_status *out,
                         struct gw_err_ctx *ctx)
{
    struct gw_reader r;
    gw_reader_init(&r, table, GW_CELL_END_BYTES);
    uint32_t status = gw_read_u32(&r);
    if (status >= GW_CELL_STATUSES) return gw_fail(ctx, GW_ERR_PROTO, "cells: no status %u", status);
    *out = (enum gw_cell_status)status;
    return GW_OK;
}
