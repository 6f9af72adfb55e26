/* The forward pass of a whole model under a numerics profile: logits of every row of a document, which is prefilled at once
 * from position 0, without an engine.
 *
 * Owner: forward_run_open's caller closes; the model must outlive it. Thread: one. Units: rows. Errors: those of worker/forward.h
 * and of what it stands on; GW_ERR_INPUT for a document that is too long. Source: own design. */
#ifndef GW_TESTS_FORWARD_RUN_H
#define GW_TESTS_FORWARD_RUN_H

#include "worker/forward.h"

#define FORWARD_RUN_ROWS_MAX 1024u
#define FORWARD_RUN_THREADS  2

struct forward_run {
    const struct gw_ops *ops;
    struct gw_device *device;
    struct gw_cell_store *store;
    struct gw_weights *weights;
    struct gw_page_pool *pool;
    struct gw_forward *forward;
    struct gw_place place;
};

/* Row `at` of the document; row[vocab] is valid during the call. */
typedef void forward_run_row_fn(void *arg, uint32_t at, const float *row);

/* Of one that was opened in part, too. */
static inline void forward_run_close(struct forward_run *r)
{
    gw_forward_destroy(r->forward);
    gw_page_pool_destroy(r->pool);
    gw_weights_destroy(r->weights);
    gw_cell_store_destroy(r->store);
    if (r->device) gw_device_destroy(r->device);
}

static inline gw_err_t forward_run_open(struct forward_run *r, const struct gw_model *model,
                                        const char *profile, struct gw_err_ctx *ctx)
{
    gw_device_enter_thread();
    TRY(gw_ops_cpu(profile, GW_ISA_AUTO, &r->ops, ctx));
    TRY(gw_device_cpu_create(FORWARD_RUN_THREADS, false, &r->device, ctx));
    TRY(gw_cell_store_create(model, r->ops, &r->store, ctx));
    gw_place_alone(&model->cells, &r->place);
    TRY(gw_weights_create(r->store, model, r->place.cells, NULL, &r->weights, ctx));
    TRY(gw_page_pool_create(&model->config, &model->cells, r->place.cells, r->ops->kv,
                            FORWARD_RUN_ROWS_MAX / GW_BLOCK_TOKENS, true, &r->pool, ctx));
    const struct gw_forward_config config = {.model = model,
                                             .weights = r->weights,
                                             .pool = r->pool,
                                             .place = &r->place,
                                             .ops = r->ops,
                                             .device = r->device,
                                             .max_rows = FORWARD_RUN_ROWS_MAX,
                                             .positions = FORWARD_RUN_ROWS_MAX};
    return gw_forward_create(&config, &r->forward, ctx);
}

static inline gw_err_t forward_run_document(struct forward_run *r, const uint32_t *ids, uint32_t len,
                                            forward_run_row_fn *on_row, void *arg, struct gw_err_ctx *ctx)
{
    uint32_t blocks[FORWARD_RUN_ROWS_MAX / GW_BLOCK_TOKENS];
    const struct gw_seq_rows seq = {.rows = len, .blocks = blocks};
    if (len > FORWARD_RUN_ROWS_MAX) return gw_fail(ctx, GW_ERR_INPUT, "a document of %u tokens", len);
    for (uint32_t i = 0; i < FORWARD_RUN_ROWS_MAX / GW_BLOCK_TOKENS; i++) blocks[i] = i;
    TRY(gw_forward_run(r->forward, ids, len, &seq, 1, ctx));
    for (uint32_t at = 0; at < len; at += GW_ANSWERS_ROWS) {
        struct gw_step_sample samples[GW_ANSWERS_ROWS];
        struct gw_answer answers[GW_ANSWERS_ROWS];
        uint32_t count = len - at < GW_ANSWERS_ROWS ? len - at : GW_ANSWERS_ROWS;
        for (uint32_t i = 0; i < count; i++)
            samples[i] = (struct gw_step_sample){.row = at + i, .wish = {.whole = true}};
        TRY(gw_forward_answers(r->forward, samples, count, answers, ctx));
        for (uint32_t i = 0; i < count; i++) on_row(arg, at + i, answers[i].row);
    }
    return GW_OK;
}

#endif
