#include "worker/page_pool.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cuda/copy_ring.h"
#include "migrate/block_name.h"
#include "migrate/checksum.h"

/* The first write to a huge page waits for the kernel to clear it, and one token writes to every arena: of a 1B model's 128
 * that is 0.1 s, in the middle of somebody's stream. So the first ones are cleared when the pool is made. */
#define HUGE_BYTES   (2u << 20)
#define AHEAD_MAX    (1u << 30) /* of all arenas together; a second at most, in a thread that is nice */
#define AHEAD_SHARES 2          /* of each arena at most one part of so many: the rest may never be used */

#define POISON 0xFF /* repeated, it is a NaN in f32, bf16 and f16 */

struct arena {
    uint8_t *base;   /* the host's side */
    uint8_t *device; /* for operations */
    size_t page_bytes, stride;
};

struct gw_page_pool {
    struct gw_device *device;
    struct gw_memory memory;   /* of a device with its own: all slots */
    struct gw_copy_ring *ring; /* the same */
    struct arena *arenas;      /* [groups][KV heads] */
    uint32_t arenas_len, slots;
    size_t slot_bytes;
    _Atomic uint32_t touched; /* slots */
    bool poison;
    struct gw_kv_layer *layers; /* [layers] */
    uint8_t **layer_arenas;     /* [layers][KV heads], what gw_kv_layer.arena points into */
};

static size_t layer_bytes(const struct gw_model_config *c, enum gw_dtype kv)
{
    return 2 * gw_kv_bytes(kv, c->head_dim, GW_BLOCK_TOKENS);
}

static uint32_t kv_heads_of(const struct gw_cells *cells, struct gw_cell_rect r)
{
    return gw_cells_kv_end(cells, r.s1) - gw_cells_kv_first(cells, r.s0);
}

size_t gw_page_pool_slot_bytes(const struct gw_model_config *c, const struct gw_cells *cells,
                               struct gw_cell_rect r, enum gw_dtype kv)
{
    return layer_bytes(c, kv) * gw_cells_layers(cells, r) * kv_heads_of(cells, r);
}

static gw_err_t map_arena(struct arena *a, size_t page_bytes, uint32_t slots, struct gw_err_ctx *ctx)
{
    size_t bytes = page_bytes * slots;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return gw_fail(ctx, GW_ERR_MEMORY, "no %zu bytes of memory for KV pages", bytes);
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* a wish: a page table walk per 4 KiB costs transfers a tenth */
    a->base = a->device = p;
    a->page_bytes = a->stride = page_bytes;
    return GW_OK;
}

/* Arenas side by side in each slot. */
static gw_err_t alloc_slots(struct gw_page_pool *pool, struct gw_err_ctx *ctx)
{
    size_t bytes = pool->slot_bytes * pool->slots, at = 0;
    gw_err_t err = gw_memory_alloc(pool->device, bytes, GW_MEMORY_MIRRORED, &pool->memory, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "KV pages");
    for (uint32_t i = 0; i < pool->arenas_len; i++) {
        struct arena *a = &pool->arenas[i];
        a->base = (uint8_t *)pool->memory.host + at;
        a->device = (uint8_t *)pool->memory.device + at;
        a->stride = pool->slot_bytes;
        at += a->page_bytes;
    }
    gw_page_pool_touch(pool, pool->slots - 1);
    return gw_copy_ring_open(pool->device, pool->slot_bytes, &pool->ring, ctx);
}

/* A kernel that cannot (before 5.14) clears it when it is used. */
static void clear_ahead(struct gw_page_pool *pool)
{
    for (uint32_t i = 0; i < pool->arenas_len; i++) {
        const struct arena *a = &pool->arenas[i];
        size_t bytes = a->page_bytes * pool->slots / AHEAD_SHARES, most = AHEAD_MAX / pool->arenas_len;
        if (bytes > most) bytes = most;
        bytes -= bytes % HUGE_BYTES;
        if (bytes == 0 || madvise(a->base, bytes, MADV_POPULATE_WRITE) != 0) continue;
        gw_page_pool_touch(pool, (uint32_t)(bytes / a->page_bytes) - 1);
    }
}

static gw_err_t map_arenas(struct gw_page_pool *pool, const struct gw_model_config *c,
                           const struct gw_cells *cells, struct gw_cell_rect r, enum gw_dtype kv,
                           struct gw_err_ctx *ctx)
{
    uint32_t kv_heads = kv_heads_of(cells, r), groups = r.g1 - r.g0;
    pool->arenas = calloc((size_t)groups * kv_heads, sizeof *pool->arenas);
    if (!pool->arenas) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    pool->arenas_len = groups * kv_heads;
    for (uint32_t i = 0; i < pool->arenas_len; i++) {
        uint32_t group = r.g0 + i / kv_heads;
        uint32_t layers = gw_cells_layer(cells, group + 1) - gw_cells_layer(cells, group);
        pool->arenas[i].page_bytes = layer_bytes(c, kv) * layers;
        if (gw_device_is_host(pool->device))
            TRY(map_arena(&pool->arenas[i], pool->arenas[i].page_bytes, pool->slots, ctx));
    }
    if (!gw_device_is_host(pool->device)) return alloc_slots(pool, ctx);
    clear_ahead(pool);
    return GW_OK;
}

static gw_err_t describe_layers(struct gw_page_pool *pool, const struct gw_model_config *c,
                                const struct gw_cells *cells, struct gw_cell_rect r, enum gw_dtype kv,
                                struct gw_err_ctx *ctx)
{
    uint32_t kv_heads = kv_heads_of(cells, r), layers = gw_cells_layers(cells, r);
    uint32_t first_head = r.s0 * cells->share_heads, first_layer = gw_cells_layer(cells, r.g0);
    pool->layers = calloc(layers, sizeof *pool->layers);
    pool->layer_arenas = calloc((size_t)layers * kv_heads, sizeof *pool->layer_arenas);
    if (!pool->layers || !pool->layer_arenas) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    for (uint32_t l = 0; l < layers;
         l++) { /* groups before the last are whole: l counts from a group's start */
        const struct arena *arenas = pool->arenas + (size_t)(l / cells->group_layers) * kv_heads;
        uint8_t **bases = pool->layer_arenas + (size_t)l * kv_heads;
        for (uint32_t k = 0; k < kv_heads; k++)
            bases[k] = arenas[k].device + layer_bytes(c, kv) * (l % cells->group_layers);
        pool->layers[l] = (struct gw_kv_layer){.arena = bases,
                                               .window = gw_model_window(c, first_layer + l),
                                               .page_bytes = arenas->stride,
                                               .cells = kv_heads,
                                               .heads_per_cell = 1,
                                               .head_dim = c->head_dim,
                                               .block_tokens = GW_BLOCK_TOKENS,
                                               .query_group = cells->query_group,
                                               .query_shift = first_head - gw_cells_kv_first(cells, r.s0) *
                                                                               cells->query_group};
    }
    return GW_OK;
}

gw_err_t gw_page_pool_create(const struct gw_model_config *c, const struct gw_cells *cells,
                             struct gw_cell_rect r, enum gw_dtype kv, uint32_t slots, bool poison,
                             struct gw_page_pool **out, struct gw_err_ctx *ctx)
{
    return gw_page_pool_create_on(NULL, c, cells, r, kv, slots, poison, out, ctx);
}

gw_err_t gw_page_pool_create_on(struct gw_device *device, const struct gw_model_config *c,
                                const struct gw_cells *cells, struct gw_cell_rect r, enum gw_dtype kv,
                                uint32_t slots, bool poison, struct gw_page_pool **out,
                                struct gw_err_ctx *ctx)
{
    struct gw_page_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    pool->device = device;
    pool->slots = slots;
    pool->slot_bytes = gw_page_pool_slot_bytes(c, cells, r, kv);
    pool->poison = poison;
    gw_err_t err = map_arenas(pool, c, cells, r, kv, ctx);
    if (err == GW_OK) err = describe_layers(pool, c, cells, r, kv, ctx);
    if (err == GW_OK)
        *out = pool;
    else
        gw_page_pool_destroy(pool);
    return err;
}

void gw_page_pool_destroy(struct gw_page_pool *pool)
{
    if (!pool) return;
    for (uint32_t i = 0; i < pool->arenas_len && gw_device_is_host(pool->device); i++)
        if (pool->arenas[i].base) munmap(pool->arenas[i].base, pool->arenas[i].page_bytes * pool->slots);
    gw_copy_ring_destroy(pool->ring);
    gw_memory_free(&pool->memory);
    free(pool->arenas);
    free(pool->layers);
    free(pool->layer_arenas);
    free(pool);
}

const struct gw_kv_layer *gw_page_pool_layer(const struct gw_page_pool *pool, uint32_t layer)
{
    return &pool->layers[layer];
}

static size_t slot_at(const struct gw_page_pool *pool, uint32_t slot)
{
    return pool->slot_bytes * slot;
}

void gw_page_pool_copy(struct gw_page_pool *pool, uint32_t from, uint32_t to)
{
    if (pool->memory.bytes) {
        uint8_t *slots = pool->memory.device;
        gw_memory_move(pool->device, slots + slot_at(pool, to), slots + slot_at(pool, from),
                       pool->slot_bytes);
        (void)!gw_device_finish(pool->device, NULL); /* `from` may be filled anew at once; an error stays */
        return;
    }
    gw_page_pool_touch(pool, to);
    for (uint32_t i = 0; i < pool->arenas_len; i++) {
        const struct arena *a = &pool->arenas[i];
        memcpy(a->base + a->page_bytes * to, a->base + a->page_bytes * from, a->page_bytes);
    }
}

gw_err_t gw_page_pool_push(struct gw_page_pool *pool, uint32_t slot, struct gw_err_ctx *ctx)
{
    if (!pool->ring) return GW_OK;
    return gw_copy_ring_in(pool->ring, (uint8_t *)pool->memory.device + slot_at(pool, slot),
                           (uint8_t *)pool->memory.host + slot_at(pool, slot), pool->slot_bytes, ctx);
}

struct gw_copy_ring *gw_page_pool_ring(const struct gw_page_pool *pool)
{
    return pool->ring;
}

gw_err_t gw_page_pool_begin_pull(struct gw_page_pool *pool, uint32_t mark, uint32_t slot, uint32_t *buffer,
                                 struct gw_err_ctx *ctx)
{
    return gw_copy_ring_out(pool->ring, mark, (uint8_t *)pool->memory.device + slot_at(pool, slot),
                            pool->slot_bytes, buffer, ctx);
}

void gw_page_pool_land(struct gw_page_pool *pool, uint32_t slot, uint32_t buffer)
{
    memcpy((uint8_t *)pool->memory.host + slot_at(pool, slot), gw_copy_ring_bytes(pool->ring, buffer),
           pool->slot_bytes);
}

uint32_t gw_page_pool_pages(const struct gw_page_pool *pool)
{
    return pool->arenas_len;
}

uint8_t *gw_page_pool_page(const struct gw_page_pool *pool, uint32_t slot, uint32_t page, uint32_t *bytes)
{
    const struct arena *a = &pool->arenas[page];
    *bytes = (uint32_t)a->page_bytes;
    return a->base + a->stride * slot;
}

void gw_page_pool_sum(const struct gw_page_pool *pool, uint32_t slot, uint64_t *sums)
{
    for (uint32_t i = 0; i < pool->arenas_len; i++) {
        const struct arena *a = &pool->arenas[i];
        sums[i] = gw_checksum(a->base + a->stride * slot, a->page_bytes);
    }
}

void gw_page_pool_touch(struct gw_page_pool *pool, uint32_t slot)
{
    uint32_t touched = atomic_load_explicit(&pool->touched, memory_order_relaxed);
    while (slot >= touched && !atomic_compare_exchange_weak(&pool->touched, &touched, slot + 1)) {
    }
}

uint64_t gw_page_pool_touched_bytes(const struct gw_page_pool *pool)
{
    return (uint64_t)atomic_load_explicit(&pool->touched, memory_order_relaxed) * pool->slot_bytes;
}

void gw_page_pool_forget(struct gw_page_pool *pool, uint32_t slot)
{
    if (!pool->poison) return;
    for (uint32_t i = 0; i < pool->arenas_len; i++) {
        const struct arena *a = &pool->arenas[i];
        memset(a->base + a->stride * slot, POISON, a->page_bytes);
    }
    if (pool->memory.bytes)
        gw_memory_fill(pool->device, (uint8_t *)pool->memory.device + slot_at(pool, slot), POISON,
                       pool->slot_bytes);
}
