/* Ground: what one worker's pipelines stand on (worker/host.h), for tests that put several workers into one process. */
#ifndef GW_TESTS_GROUND_H
#define GW_TESTS_GROUND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "tests/lib/layouts.h"
#include "worker/member.h"

#define GROUND_KEY       "a cluster key for tests, 32 byte"
#define GROUND_KEY_BYTES (sizeof GROUND_KEY - 1)
#define GROUND_MEMORY    ((uint64_t)1 << 30)

struct ground {
    struct gw_host host;
    struct gw_model *model;
    struct gw_cell_giver giver;
    atomic_int told; /* how often a member said that there is something to look at */
};

static const struct gw_log ground_log = {.level = GW_LOG_NONE};

static inline void ground_open_cells(struct ground *g)
{
    struct gw_host *h = &g->host;
    const struct gw_cell_loader_config config = {.store = h->store,
                                                 .key = GROUND_KEY,
                                                 .key_len = GROUND_KEY_BYTES,
                                                 .model = h->page_model,
                                                 .log = &ground_log};
    g->giver = (struct gw_cell_giver){.store = h->store};
    h->giver = &g->giver;
    assert_int_equal(gw_cell_loader_create(&config, &h->loader), GW_OK);
}

static inline void ground_open_pages(struct ground *g)
{
    struct gw_host *h = &g->host;
    h->page_model =
        (struct gw_page_model){.numerics = 1,
                               .layer_bytes = (uint32_t)(gw_dtype_bytes(h->ops->kv) * 2 * GW_BLOCK_TOKENS *
                                                         h->model->config.head_dim)};
    assert_int_equal(gw_shelf_create(&h->shelf), GW_OK);
    ground_open_cells(g);
    const struct gw_fetcher_config fetcher = {.shelf = h->shelf,
                                              .key = GROUND_KEY,
                                              .key_len = GROUND_KEY_BYTES,
                                              .model = h->page_model,
                                              .log = &ground_log};
    assert_int_equal(gw_fetcher_create(&fetcher, &h->fetcher), GW_OK);
    const struct gw_peer_server_config server = {.host = "127.0.0.1",
                                                 .unix_socket = true,
                                                 .key = GROUND_KEY,
                                                 .key_len = GROUND_KEY_BYTES,
                                                 .model = h->page_model,
                                                 .source = gw_shelf_source(h->shelf),
                                                 .pull = gw_fetcher_sink(h->fetcher),
                                                 .cells = gw_cell_source(h->giver),
                                                 .log = &ground_log};
    assert_int_equal(gw_peer_server_create(&server, &h->pages, NULL), GW_OK);
    gw_peer_server_set_term(h->pages, 1);
}

static inline void ground_open(struct ground *g, const char *model)
{
    const struct gw_mesh_config mesh = {
        .host = "127.0.0.1", .key = GROUND_KEY, .key_len = GROUND_KEY_BYTES, .log = &ground_log};
    struct gw_host *h = &g->host;
    memset(g, 0, sizeof *g);
    assert_int_equal(gw_model_open(model, &g->model, NULL), GW_OK);
    assert_int_equal(
        gw_ops_cpu(gw_model_profile(g->model, GW_WEIGHT_FILE, GW_KV_FILE), GW_ISA_AUTO, &h->ops, NULL),
        GW_OK);
    assert_int_equal(gw_device_cpu_create(1, false, &h->device, NULL), GW_OK);
    assert_int_equal(gw_cell_store_create(g->model, h->ops, &h->store, NULL), GW_OK);
    assert_int_equal(gw_mesh_create(&mesh, &h->mesh, NULL), GW_OK);
    gw_device_enter_thread();
    h->model = g->model;
    h->memory_bytes = GROUND_MEMORY;
    h->kv_tokens = 512;
    h->max_batch_tokens = 64;
    h->max_sequences = 4;
    h->step_timeout_us = 60 * GW_US_PER_S;
    h->key = GROUND_KEY;
    h->key_len = GROUND_KEY_BYTES;
    h->log = &ground_log;
    h->always_fetch = true;
    ground_open_pages(g);
}

static inline void ground_close(struct ground *g)
{
    gw_mesh_destroy(g->host.mesh);
    gw_peer_server_destroy(g->host.pages);
    gw_fetcher_destroy(g->host.fetcher);
    gw_shelf_destroy(g->host.shelf);
    gw_cell_loader_destroy(g->host.loader);
    gw_cell_store_destroy(g->host.store);
    gw_device_destroy(g->host.device);
    gw_model_close(g->model);
}

static inline void ground_told(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

/* The ranks of a layout on these grounds, one each. */
static inline void ground_assign(struct ground *const *grounds, const char *layout,
                                 struct gw_assign_rank *ranks, struct gw_msg_assign *assign)
{
    layout_parse(layout, &grounds[0]->model->cells, ranks, assign);
    for (uint32_t i = 0; i < assign->ranks_len; i++) {
        const struct gw_host *h = &grounds[i]->host;
        snprintf(ranks[i].data, sizeof ranks[i].data, "%s", gw_mesh_address(h->mesh));
        snprintf(ranks[i].pages, sizeof ranks[i].pages, "%s", gw_peer_server_address(h->pages));
    }
}

/* Rank `self` of a pipeline of that layout. */
static inline struct gw_member *ground_member(struct ground *const *grounds, const char *layout,
                                              uint64_t generation, uint32_t self)
{
    struct gw_assign_rank ranks[GW_WIRE_RANKS_MAX];
    struct gw_msg_assign assign;
    struct gw_member *m;
    struct ground *g = grounds[self];
    ground_assign(grounds, layout, ranks, &assign);
    assign.self = self;
    const struct gw_member_config config = {.host = &g->host,
                                            .term = 1,
                                            .generation = generation,
                                            .pipeline = 2,
                                            .assign = &assign,
                                            .prepared = ground_told,
                                            .arg = &g->told};
    assert_int_equal(gw_member_create(&config, &m, NULL), GW_OK);
    return m;
}

/* A rank that follows until its pipeline ends: starts the member on a thread of its own. */
static inline void *ground_follow(void *member)
{
    const struct gw_engine_sink none = {0};
    struct gw_err_ctx ctx = {0};
    bool did;
    gw_device_enter_thread();
    if (gw_member_start(member, &none, &ctx) != GW_OK) return NULL;
    while (gw_member_step(member, 20 * GW_US_PER_MS, &did, &ctx) == GW_OK) continue;
    return NULL;
}

#endif
