/* An engine over a rank that holds the whole model, with the device, store and weights that it stands on. */
#ifndef GW_TESTS_SOLO_ENGINE_H
#define GW_TESTS_SOLO_ENGINE_H

#include <string.h>

#include "worker/engine.h"

struct solo_config {
    const char *profile; /* NULL: the model's own */
    enum gw_isa isa;
    int threads;
    const struct gw_ops *ops; /* of device, which is borrowed; NULL: by profile, isa and threads */
    struct gw_device *device;
    uint32_t kv_tokens, max_batch_tokens, max_sequences, max_chunk;
    bool poison;
    struct gw_shelf_pool *pages;      /* of kv_tokens; NULL: a pool of its own */
    struct gw_checkpoint *checkpoint; /* NULL: nothing is stored */
    const void *key;
    size_t key_len;
    struct gw_engine_sink sink;
};

struct solo {
    const struct gw_ops *ops;
    struct gw_device *device, *own; /* own: made here */
    struct gw_cell_store *store;
    struct gw_weights *weights;
    struct gw_rank *rank;
    struct gw_engine *engine;
};

static inline void solo_close(struct solo *s)
{
    gw_engine_destroy(s->engine);
    gw_rank_destroy(s->rank);
    gw_weights_destroy(s->weights);
    gw_cell_store_destroy(s->store);
    gw_device_destroy(s->own);
    memset(s, 0, sizeof *s);
}

static inline struct gw_rank_room solo_room(const struct gw_model *model, const struct solo_config *c)
{
    struct gw_rank_room room = {.slots = (c->kv_tokens + GW_BLOCK_TOKENS - 1) / GW_BLOCK_TOKENS,
                                .max_rows = c->max_batch_tokens,
                                .max_sequences = c->max_sequences,
                                .positions = model->config.context};
    room.positions = gw_engine_context_of(model, &room);
    return room;
}

static inline gw_err_t solo_open_device(struct solo *s, const struct gw_model *model,
                                        const struct solo_config *c, struct gw_err_ctx *ctx)
{
    const char *profile = c->profile ? c->profile : gw_model_profile(model, GW_WEIGHT_FILE, GW_KV_FILE);
    s->ops = c->ops;
    s->device = c->device;
    if (c->device) return GW_OK;
    TRY(gw_ops_cpu(profile, c->isa, &s->ops, ctx));
    TRY(gw_device_cpu_create(c->threads, false, &s->own, ctx));
    s->device = s->own;
    return GW_OK;
}

static inline gw_err_t solo_open_parts(struct solo *s, const struct gw_model *model,
                                       const struct solo_config *c, struct gw_err_ctx *ctx)
{
    struct gw_rank_config rank = {.model = model,
                                  .room = solo_room(model, c),
                                  .poison = c->poison,
                                  .pages = c->pages,
                                  .checkpoint = c->checkpoint};
    TRY(solo_open_device(s, model, c, ctx));
    TRY(gw_cell_store_create_on(s->device, model, s->ops, &s->store, ctx));
    gw_place_alone(&model->cells, &rank.place);
    TRY(gw_weights_create(s->store, model, rank.place.cells, NULL, &s->weights, ctx));
    rank.weights = s->weights;
    rank.ops = s->ops;
    rank.device = s->device;
    TRY(gw_rank_create(&rank, &s->rank, ctx));
    const struct gw_engine_config engine = {.model = model,
                                            .ops = s->ops,
                                            .rank = s->rank,
                                            .room = rank.room,
                                            .max_chunk = c->max_chunk,
                                            .key = c->key,
                                            .key_len = c->key_len,
                                            .sink = c->sink};
    return gw_engine_create(&engine, &s->engine, ctx);
}

static inline gw_err_t solo_open(struct solo *s, const struct gw_model *model, const struct solo_config *c,
                                 struct gw_err_ctx *ctx)
{
    memset(s, 0, sizeof *s);
    gw_err_t err = solo_open_parts(s, model, c, ctx);
    if (err != GW_OK) solo_close(s);
    return err;
}

#endif
