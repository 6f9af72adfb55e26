/* Perplexity: how well a model predicts a text under a numerics profile.
 *
 * The text is token ids; a document begins at each bos. Each is prefilled alone, from position 0, and every token but its first
 * is predicted: perplexity = exp(mean of - log of the probability of the token that comes). Tests run from the
 * repository's root. */
#ifndef GW_TESTS_PERPLEXITY_H
#define GW_TESTS_PERPLEXITY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "controller/text/tokenizer.h"
#include "worker/forward.h"

#define PERPLEXITY_DOC_MAX  1024u /* tokens of a document that are looked at */
#define PERPLEXITY_TEXT_MAX (1u << 20)

struct perplexity {
    struct gw_model *model;
    struct gw_tokenizer *tokenizer;
    uint32_t *ids;
    size_t ids_len;
};

/* One profile's machinery over the model. */
struct perplexity_run {
    const struct gw_ops *ops;
    struct gw_device *device;
    struct gw_cell_store *store;
    struct gw_weights *weights;
    struct gw_page_pool *pool;
    struct gw_forward *forward;
    struct gw_place place;
};

static inline void perplexity_open(struct perplexity *p, const char *model, const char *text)
{
    struct gw_err_ctx ctx = {0};
    char *bytes;
    size_t len;
    if (gw_model_open(model, &p->model, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    if (gw_tokenizer_open(model, &p->tokenizer, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    if (gw_file_read(text, PERPLEXITY_TEXT_MAX, &bytes, &len, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    gw_err_t err = gw_tokenizer_encode(p->tokenizer, bytes, len, GW_ENCODE_PARSE_SPECIAL, PERPLEXITY_TEXT_MAX,
                                       &p->ids, &p->ids_len, &ctx);
    if (err != GW_OK) fail_msg("%s", ctx.text);
    free(bytes);
}

static inline void perplexity_close(struct perplexity *p)
{
    gw_model_close(p->model);
    gw_tokenizer_close(p->tokenizer);
    free(p->ids);
}

static inline gw_err_t perplexity_start(struct perplexity_run *r, const struct gw_model *model,
                                        const char *profile, struct gw_err_ctx *ctx)
{
    TRY(gw_ops_cpu(profile, GW_ISA_AUTO, &r->ops, ctx));
    TRY(gw_device_cpu_create(2, false, &r->device, ctx));
    TRY(gw_cell_store_create(model, r->ops, &r->store, ctx));
    gw_place_alone(&model->cells, &r->place);
    TRY(gw_weights_create(r->store, model, r->place.cells, NULL, &r->weights, ctx));
    TRY(gw_page_pool_create(&model->config, &model->cells, r->place.cells, r->ops->kv,
                            PERPLEXITY_DOC_MAX / GW_BLOCK_TOKENS, true, &r->pool, ctx));
    const struct gw_forward_config config = {.model = model,
                                             .weights = r->weights,
                                             .pool = r->pool,
                                             .place = &r->place,
                                             .ops = r->ops,
                                             .device = r->device,
                                             .max_rows = PERPLEXITY_DOC_MAX,
                                             .positions = PERPLEXITY_DOC_MAX};
    return gw_forward_create(&config, &r->forward, ctx);
}

static inline void perplexity_stop(struct perplexity_run *r)
{
    gw_forward_destroy(r->forward);
    gw_page_pool_destroy(r->pool);
    gw_weights_destroy(r->weights);
    gw_cell_store_destroy(r->store);
    gw_device_destroy(r->device);
}

/* - log of the softmax of the row at id. */
static inline double perplexity_loss(const float *row, uint32_t vocab, uint32_t id)
{
    double top = row[0], sum = 0;
    for (uint32_t i = 1; i < vocab; i++) top = fmax(top, (double)row[i]);
    for (uint32_t i = 0; i < vocab; i++) sum += exp((double)row[i] - top);
    return log(sum) + top - (double)row[id];
}

/* The sum over a document's tokens but the first. */
static inline double perplexity_document(const struct perplexity *p, struct perplexity_run *r,
                                         const uint32_t *ids, uint32_t len)
{
    uint32_t blocks[PERPLEXITY_DOC_MAX / GW_BLOCK_TOKENS];
    struct gw_err_ctx ctx = {0};
    double loss = 0;
    for (uint32_t i = 0; i < PERPLEXITY_DOC_MAX / GW_BLOCK_TOKENS; i++) blocks[i] = i;
    const struct gw_seq_rows seq = {.rows = len, .blocks = blocks};
    if (gw_forward_run(r->forward, ids, len, &seq, 1, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    for (uint32_t at = 0; at + 1 < len; at += GW_ANSWERS_ROWS) {
        struct gw_step_sample samples[GW_ANSWERS_ROWS];
        struct gw_answer answers[GW_ANSWERS_ROWS];
        uint32_t count = len - 1 - at < GW_ANSWERS_ROWS ? len - 1 - at : GW_ANSWERS_ROWS;
        for (uint32_t i = 0; i < count; i++)
            samples[i] = (struct gw_step_sample){.row = at + i, .wish = {.whole = true}};
        if (gw_forward_answers(r->forward, samples, count, answers, &ctx) != GW_OK) fail_msg("%s", ctx.text);
        for (uint32_t i = 0; i < count; i++)
            loss += perplexity_loss(answers[i].row, p->model->config.vocab, ids[at + i + 1]);
    }
    return loss;
}

/* *tokens: how many were predicted. */
static inline double perplexity_of(const struct perplexity *p, const char *profile, uint32_t *tokens)
{
    struct perplexity_run r = {0};
    struct gw_err_ctx ctx = {0};
    double loss = 0;
    gw_device_enter_thread();
    if (perplexity_start(&r, p->model, profile, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    *tokens = 0;
    for (size_t first = 0, end; first < p->ids_len; first = end) {
        for (end = first + 1; end < p->ids_len && p->ids[end] != p->ids[0];) end++;
        uint32_t len = end - first < PERPLEXITY_DOC_MAX ? (uint32_t)(end - first) : PERPLEXITY_DOC_MAX;
        loss += perplexity_document(p, &r, p->ids + first, len);
        *tokens += len - 1;
    }
    perplexity_stop(&r);
    return exp(loss / *tokens);
}

#endif
