/* For tests of worker/checkpoint.h and what reads from stores: a worker's pool with its stores, and the agent between them. */
#ifndef GW_TESTS_CHECKPOINT_FIXTURE_H
#define GW_TESTS_CHECKPOINT_FIXTURE_H

#include "tests/lib/stores_fixture.h"
#include "worker/checkpoint.h"
#include "worker/model.h"

#define BENCH_MODEL "tests/data/tiny/gqa64"
#define BENCH_SLOTS 64

/* A worker's pool, its agent and its stores; one buddy that keeps what it puts. */
struct bench {
    struct gw_model *model;
    struct gw_shelf *shelf;
    struct gw_shelf_pool *pool;
    struct gw_stores *stores;
    struct gw_checkpoint *agent;
    struct buddy buddy;
};

static inline struct gw_shelf_pool *put_pool(struct bench *b, uint64_t generation)
{
    const struct gw_cells *cells = &b->model->cells;
    const struct gw_geometry_heads heads = {.share_heads = cells->share_heads,
                                            .query_group = cells->query_group};
    struct gw_cell_rect all = gw_cells_all(cells);
    struct gw_page_pool *memory;
    struct gw_shelf_pool *pool;
    assert_int_equal(
        gw_page_pool_create(&b->model->config, cells, all, GW_BF16, BENCH_SLOTS, false, &memory, NULL),
        GW_OK);
    assert_int_equal(gw_shelf_put(b->shelf, (struct gw_shelf_key){1, generation},
                                  gw_geometry_pages(heads, all), memory, BENCH_SLOTS, &pool, NULL),
                     GW_OK);
    return pool;
}

static inline void start_agent(struct bench *b, double share, double bytes_s)
{
    const struct gw_checkpoint_config config = {
        .shelf = b->shelf, .stores = b->stores, .share = share, .threads = 1, .bytes_s = bytes_s};
    assert_int_equal(gw_checkpoint_create(&config, &b->agent, NULL), GW_OK);
}

/* A buddy, unless there is to be none. */
static inline void bench_open(struct bench *b, bool buddy, double share, double bytes_s)
{
    memset(b, 0, sizeof *b);
    assert_int_equal(gw_model_open(BENCH_MODEL, &b->model, NULL), GW_OK);
    assert_int_equal(gw_shelf_create(&b->shelf), GW_OK);
    b->pool = put_pool(b, 1);
    b->stores = stores_on("i-9");
    if (buddy) {
        buddy_open(&b->buddy);
        name_buddies(b->stores, &b->buddy, 1);
        stores_until_up(b->stores, 1);
    }
    start_agent(b, share, bytes_s);
}

static inline void bench_close(struct bench *b)
{
    gw_checkpoint_destroy(b->agent);
    gw_stores_destroy(b->stores);
    if (b->buddy.port) buddy_close(&b->buddy);
    if (b->pool) gw_shelf_retire(b->shelf, b->pool, 0);
    gw_shelf_destroy(b->shelf);
    gw_model_close(b->model);
}

static inline void fill(struct gw_shelf_pool *pool, uint32_t slot, uint32_t block)
{
    struct gw_page_pool *memory = gw_shelf_memory(pool);
    gw_page_pool_touch(memory, slot);
    for (uint32_t i = 0; i < gw_page_pool_pages(memory); i++) {
        uint32_t bytes;
        uint8_t *page = gw_page_pool_page(memory, slot, i, &bytes);
        store_fill(page, block, i, bytes);
    }
}

/* Block i lies sealed in slot i. */
static inline void seal(struct bench *b, uint32_t i)
{
    struct gw_block_name name = store_name(i);
    fill(b->pool, i, i);
    gw_shelf_seal(b->pool, i, &name);
}

static inline void offer(struct bench *b, uint32_t i)
{
    struct gw_block_name name = store_name(i);
    gw_checkpoint_offer(b->agent, b->pool, &name);
}

/* Waits until something has become of every offer. */
static inline struct gw_checkpoint_stats until_done(struct bench *b)
{
    int64_t deadline_us = gw_clock_mono_us() + STORE_WAIT_US;
    for (;; usleep(1000)) {
        struct gw_checkpoint_stats s = gw_checkpoint_stats(b->agent);
        if (s.stored + s.there + s.dropped + s.refused + s.gone == s.offered) return s;
        if (gw_clock_mono_us() > deadline_us) fail_msg("offers are still under way");
    }
}

static inline void expect_block_in(struct gw_shelf_pool *pool, uint32_t block)
{
    struct gw_block_name name = store_name(block);
    struct gw_page_pool *memory = gw_shelf_memory(pool);
    uint8_t *want = malloc(GW_PAGE_BYTES_MAX);
    uint32_t slot, bytes;
    assert_true(gw_page_dir_find(gw_shelf_dir(pool), &name, &slot, NULL));
    for (uint32_t i = 0; i < gw_page_pool_pages(memory); i++) {
        const uint8_t *page = gw_page_pool_page(memory, slot, i, &bytes);
        store_fill(want, block, i, bytes);
        assert_memory_equal(page, want, bytes);
    }
    free(want);
}

/* As the page ports of such workers say it. */
static inline struct gw_page_model bench_page_model(const struct bench *b)
{
    return (struct gw_page_model){
        .numerics = 1,
        .layer_bytes = (uint32_t)(gw_dtype_bytes(GW_BF16) * 2 * GW_BLOCK_TOKENS * b->model->config.head_dim)};
}

#endif
