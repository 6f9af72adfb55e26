#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "migrate/checksum.h"
#include "worker/shelf_internal.h"

/* ---- what operations write ---- */

static void tell_sealed(void *arg, const struct gw_block_name *name)
{
    const struct gw_shelf_pool *p = arg;
    if (p->sealed) p->sealed(p->sealed_arg, p, name);
}

gw_err_t gw_shelf_begin_offload(struct gw_shelf_pool *p, struct gw_err_ctx *ctx)
{
    const struct gw_page_offload_config config = {
        .pool = p->pool, .dir = p->dir, .slots = p->slots, .landed = tell_sealed, .arg = p};
    return gw_page_pool_ring(p->pool) ? gw_page_offload_create(&config, &p->offload, ctx) : GW_OK;
}

void gw_shelf_watch(struct gw_shelf_pool *p, gw_shelf_sealed_fn *sealed, void *arg)
{
    p->sealed = sealed;
    p->sealed_arg = arg;
}

void gw_shelf_seal(struct gw_shelf_pool *p, uint32_t slot, const struct gw_block_name *name)
{
    if (p->offload) {
        gw_page_offload_seal(p->offload, slot, name);
        return;
    }
    gw_page_pool_sum(p->pool, slot, p->sums);
    gw_page_dir_publish(p->dir, slot, name, p->sums);
    tell_sealed(p, name);
}

void gw_shelf_write(struct gw_shelf_pool *p, uint32_t slot)
{
    if (p->offload) gw_page_offload_forget(p->offload, slot);
}

void gw_shelf_forget(struct gw_shelf_pool *p, uint32_t slot)
{
    gw_shelf_write(p, slot); /* first: it must not get its name behind this */
    gw_page_dir_forget(p->dir, slot);
}

void gw_shelf_settle(struct gw_shelf_pool *p)
{
    int64_t deadline_us = gw_clock_mono_us() + GW_SHELF_SETTLE_MS * GW_US_PER_MS;
    if (p->offload) (void)gw_page_offload_settle(p->offload, deadline_us);
}

/* ---- what the host writes ---- */

void gw_shelf_claim(struct gw_shelf_pool *p, uint32_t slot)
{
    gw_page_pool_touch(p->pool, slot);
    if (p->offload) gw_page_offload_claim(p->offload, slot);
}

bool gw_shelf_fill(struct gw_shelf_pool *p, uint32_t slot, const struct gw_block_name *name,
                   const uint64_t *sums)
{
    if (gw_page_pool_push(p->pool, slot, NULL) != GW_OK) return false;
    gw_page_dir_publish(p->dir, slot, name, sums);
    return true;
}

/* ---- what others read ---- */

void gw_shelf_list(const struct gw_shelf_pool *p, uint32_t slot, struct gw_store_page *pages)
{
    uint32_t len = gw_page_rect_pages(p->pages), heads = gw_page_rect_heads(p->pages);
    for (uint32_t i = 0; i < len; i++) {
        pages[i].id.group = (uint16_t)(p->pages.g0 + i / heads);
        pages[i].id.head = (uint16_t)(p->pages.h0 + i % heads);
        pages[i].bytes = gw_page_pool_page(p->pool, slot, i, &pages[i].len);
    }
}

bool gw_shelf_read(const struct gw_shelf_pool *p, const struct gw_block_name *name, uint8_t *out)
{
    uint32_t slot, bytes, len = gw_page_rect_pages(p->pages);
    uint64_t *sums = calloc(len, sizeof *sums);
    bool same = sums && gw_page_dir_find(p->dir, name, &slot, sums);
    for (uint32_t i = 0; same && i < len; i++) {
        const uint8_t *page = gw_page_pool_page(p->pool, slot, i, &bytes);
        memcpy(out, page, bytes);
        same = gw_checksum(out, bytes) == sums[i];
        out += bytes;
    }
    free(sums);
    return same;
}
