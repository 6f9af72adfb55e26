/* Perplexity: how well a model predicts a text under a numerics profile.
 *
 * The text is token ids; a document begins at each bos, and is cut at FORWARD_RUN_ROWS_MAX. Each is prefilled alone, from position 0,
 * and every token but its first is predicted: perplexity = exp(mean of - log of the probability of the token that comes). Tests
 * run from the repository's root. */
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
#include "tests/lib/forward_run.h"

#define PERPLEXITY_TEXT_MAX (1u << 20) /* bytes, and tokens */

struct perplexity {
    struct gw_model *model;
    struct gw_tokenizer *tokenizer;
    uint32_t *ids;
    size_t ids_len;
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

/* - log of the softmax of the row at id. */
static inline double perplexity_loss(const float *row, uint32_t vocab, uint32_t id)
{
    double top = row[0], sum = 0;
    for (uint32_t i = 1; i < vocab; i++) top = fmax(top, (double)row[i]);
    for (uint32_t i = 0; i < vocab; i++) sum += exp((double)row[i] - top);
    return log(sum) + top - (double)row[id];
}

/* A document's loss, over its tokens but the first. */
struct perplexity_sum {
    const uint32_t *ids;
    uint32_t len, vocab;
    double loss;
};

static inline void perplexity_add(void *arg, uint32_t at, const float *row)
{
    struct perplexity_sum *sum = arg;
    if (at + 1 < sum->len) sum->loss += perplexity_loss(row, sum->vocab, sum->ids[at + 1]);
}

/* *tokens: how many were predicted. */
static inline double perplexity_of(const struct perplexity *p, const char *profile, uint32_t *tokens)
{
    struct forward_run r = {0};
    struct gw_err_ctx ctx = {0};
    double loss = 0;
    if (forward_run_open(&r, p->model, profile, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    *tokens = 0;
    for (size_t first = 0, end; first < p->ids_len; first = end) {
        for (end = first + 1; end < p->ids_len && p->ids[end] != p->ids[0];) end++;
        uint32_t len = end - first < FORWARD_RUN_ROWS_MAX ? (uint32_t)(end - first) : FORWARD_RUN_ROWS_MAX;
        struct perplexity_sum sum = {.ids = p->ids + first, .len = len, .vocab = p->model->config.vocab};
        if (forward_run_document(&r, sum.ids, len, perplexity_add, &sum, &ctx) != GW_OK)
            fail_msg("%s", ctx.text);
        loss += sum.loss;
        *tokens += len - 1;
    }
    forward_run_close(&r);
    return exp(loss / *tokens);
}

#endif
