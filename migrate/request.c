#include "migrate/request.h"

#include <stdlib.h>
#include <string.h>

enum gw_finish gw_request_finish_at(const struct gw_sampling *s, uint32_t position, uint32_t id)
{
    if (position >= s->min_tokens)
        for (uint32_t i = 0; i < s->stop_ids_len; i++)
            if (s->stop_ids[i] == id) return GW_FINISH_STOP;
    return position + 1 >= s->max_tokens ? GW_FINISH_LENGTH : GW_FINISH_NONE;
}

/* *out = a copy of len items, NULL for none. */
static gw_err_t copy_array(const void *items, uint32_t len, size_t item_bytes, void **out)
{
    *out = NULL;
    if (len == 0) return GW_OK;
    void *copy = malloc(len * item_bytes);
    if (!copy) return GW_ERR_MEMORY;
    memcpy(copy, items, len * item_bytes);
    *out = copy;
    return GW_OK;
}

gw_err_t gw_request_copy(const struct gw_request *request, struct gw_request **out)
{
    gw_err_t err = GW_OK;
    void *prompt = NULL, *stop_ids = NULL, *bias = NULL;
    const struct gw_sampling *s = &request->sampling;
    struct gw_request *copy = malloc(sizeof *copy);
    if (!copy) return GW_ERR_MEMORY;
    TRY_GOTO(copy_array(request->prompt, request->prompt_len, sizeof *request->prompt, &prompt), out);
    TRY_GOTO(copy_array(s->stop_ids, s->stop_ids_len, sizeof *s->stop_ids, &stop_ids), out);
    TRY_GOTO(copy_array(s->bias, s->bias_len, sizeof *s->bias, &bias), out);
    *copy = *request;
    copy->prompt = prompt;
    copy->sampling.stop_ids = stop_ids;
    copy->sampling.bias = bias;
    *out = copy;
    return GW_OK;
out:
    free(prompt);
    free(stop_ids);
    free(bias);
    free(copy);
    return err;
}

void gw_request_fini(struct gw_request *request)
{
    free(request->prompt);
    free(request->sampling.stop_ids);
    free(request->sampling.bias);
    request->prompt = NULL;
    request->sampling.stop_ids = NULL;
    request->sampling.bias = NULL;
    request->prompt_len = request->sampling.stop_ids_len = request->sampling.bias_len = 0;
}

void gw_request_destroy(struct gw_request *request)
{
    if (!request) return;
    gw_request_fini(request);
    free(request);
}

/* One field in [min, max]? NaN is in no range. */
static gw_err_t check_range(const char *field, float value, float min, float max, struct gw_err_ctx *ctx)
{
    if (value >= min && value <= max) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "%s must be between %g and %g", field, (double)min, (double)max);
}

static gw_err_t check_ids(const char *field, const uint32_t *ids, uint32_t len, uint32_t vocab,
                          struct gw_err_ctx *ctx)
{
    for (uint32_t i = 0; i < len; i++)
        if (ids[i] >= vocab)
            return gw_fail(ctx, GW_ERR_INPUT, "%s: token id %u is not below %u", field, ids[i], vocab);
    return GW_OK;
}

static gw_err_t check_sizes(const struct gw_request *q, uint32_t context, struct gw_err_ctx *ctx)
{
    const struct gw_sampling *s = &q->sampling;
    if (q->n < 1 || q->n > GW_REQUEST_BRANCHES_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "n must be between 1 and %d", GW_REQUEST_BRANCHES_MAX);
    if (q->prompt_len < 1) return gw_fail(ctx, GW_ERR_INPUT, "the prompt is empty");
    if (q->prompt_len > GW_REQUEST_PROMPT_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "the prompt has more than %u tokens", GW_REQUEST_PROMPT_MAX);
    if (s->max_tokens < 1 || s->max_tokens > GW_REQUEST_TOKENS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "max_tokens must be between 1 and %u", GW_REQUEST_TOKENS_MAX);
    if (q->prompt_len + (uint64_t)q->n * s->max_tokens > GW_REQUEST_TOTAL_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "prompt and n * max_tokens together exceed %u tokens",
                       GW_REQUEST_TOTAL_MAX);
    if (s->min_tokens > s->max_tokens)
        return gw_fail(ctx, GW_ERR_INPUT, "min_tokens must not exceed max_tokens");
    if (s->stop_ids_len > GW_REQUEST_STOP_IDS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "more than %d stop token ids", GW_REQUEST_STOP_IDS_MAX);
    if (s->bias_len > GW_REQUEST_BIAS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "logit_bias has more than %d entries", GW_REQUEST_BIAS_MAX);
    if (q->prompt_len >= context || (uint64_t)q->prompt_len + s->max_tokens > context)
        return gw_fail(ctx, GW_ERR_INPUT, "%u prompt tokens and %u new ones do not fit the context of %u",
                       q->prompt_len, s->max_tokens, context);
    return GW_OK;
}

static gw_err_t check_sampling(const struct gw_sampling *s, uint32_t vocab, struct gw_err_ctx *ctx)
{
    TRY(check_range("temperature", s->temperature, 0, 1e4f, ctx));
    TRY(check_range("top_p", s->top_p, 0, 1, ctx));
    if (s->top_p <= 0) return gw_fail(ctx, GW_ERR_INPUT, "top_p must be above 0");
    TRY(check_range("min_p", s->min_p, 0, 1, ctx));
    TRY(check_range("presence_penalty", s->presence_penalty, -2, 2, ctx));
    TRY(check_range("frequency_penalty", s->frequency_penalty, -2, 2, ctx));
    TRY(check_range("repetition_penalty", s->repetition_penalty, 1e-6f, 1e6f, ctx));
    if (s->top_logprobs > GW_REQUEST_TOP_MAX || s->top_logprobs > vocab)
        return gw_fail(ctx, GW_ERR_INPUT, "top_logprobs must be between 0 and %d", GW_REQUEST_TOP_MAX);
    if (s->top_logprobs > 0 && !s->logprobs) return gw_fail(ctx, GW_ERR_INPUT, "top_logprobs needs logprobs");
    TRY(check_ids("stop_token_ids", s->stop_ids, s->stop_ids_len, vocab, ctx));
    for (uint32_t i = 0; i < s->bias_len; i++) {
        TRY(check_ids("logit_bias", &s->bias[i].id, 1, vocab, ctx));
        TRY(check_range("logit_bias", s->bias[i].bias, -100, 100, ctx));
    }
    return GW_OK;
}

gw_err_t gw_request_check(const struct gw_request *request, uint32_t vocab, uint32_t context,
                          struct gw_err_ctx *ctx)
{
    TRY(check_sizes(request, context, ctx));
    TRY(check_sampling(&request->sampling, vocab, ctx));
    return check_ids("prompt", request->prompt, request->prompt_len, vocab, ctx);
}
