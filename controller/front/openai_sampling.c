#include "controller/front/openai_sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/front/openai_fields.h"

#define TEMPERATURE_MAX 2.0
#define REPETITION_MAX  100.0
#define BIAS_MAX        100.0
#define TWO_POW_63      9223372036854775808.0

gw_err_t gw_openai_seed_read(const cJSON *body, bool *given, uint64_t *seed, struct gw_openai_error *error)
{
    const cJSON *item = gw_field(body, "seed");
    *given = item != NULL;
    if (!item) return GW_OK;
    double v = item->valuedouble;
    if (!cJSON_IsNumber(item) || v != floor(v) || v < -TWO_POW_63 || v > TWO_POW_63)
        return gw_openai_error_set(error, 400, NULL, "seed", "'seed' must be a 64-bit integer");
    /* INT64_MAX as a double is 2^63, one too many. */
    int64_t whole = v >= TWO_POW_63 ? INT64_MAX : (int64_t)v;
    *seed = (uint64_t)whole;
    return GW_OK;
}

static gw_err_t above_zero(const char *field, float v, struct gw_openai_error *error)
{
    if (v > 0) return GW_OK;
    return gw_openai_error_set(error, 400, NULL, field, "'%s' must be above 0", field);
}

/* -1 (vLLM) and 0 mean all. More than the vocabulary is all, too. */
static gw_err_t read_top_k(const cJSON *body, uint32_t vocab, uint32_t *top_k, struct gw_openai_error *error)
{
    struct gw_err_ctx ctx = {0};
    int64_t k = 0;
    if (gw_json_int(body, "top_k", -1, INT32_MAX, &k, &ctx) != GW_OK)
        return gw_openai_error_set(error, 400, NULL, "top_k", "%s", ctx.text);
    *top_k = k <= 0 || k >= (int64_t)vocab ? 0 : (uint32_t)k;
    return GW_OK;
}

static gw_err_t read_numbers(const struct gw_openai_model *model, const cJSON *body, struct gw_sampling *s,
                             struct gw_openai_error *error)
{
    s->temperature = s->top_p = s->repetition_penalty = 1;
    TRY(gw_field_float(body, "temperature", 0, TEMPERATURE_MAX, &s->temperature, error));
    TRY(gw_field_float(body, "top_p", 0, 1, &s->top_p, error));
    TRY(above_zero("top_p", s->top_p, error));
    TRY(gw_field_float(body, "min_p", 0, 1, &s->min_p, error));
    TRY(gw_field_float(body, "presence_penalty", -2, 2, &s->presence_penalty, error));
    TRY(gw_field_float(body, "frequency_penalty", -2, 2, &s->frequency_penalty, error));
    TRY(gw_field_float(body, "repetition_penalty", 0, REPETITION_MAX, &s->repetition_penalty, error));
    TRY(above_zero("repetition_penalty", s->repetition_penalty, error));
    TRY(gw_field_u32(body, "min_tokens", 0, GW_REQUEST_TOKENS_MAX, &s->min_tokens, error));
    return read_top_k(body, model->vocab, &s->top_k, error);
}

static gw_err_t read_logprobs_chat(const cJSON *body, struct gw_sampling *s, struct gw_openai_error *error)
{
    TRY(gw_field_bool(body, "logprobs", &s->logprobs, error));
    TRY(gw_field_u32(body, "top_logprobs", 0, GW_REQUEST_TOP_MAX, &s->top_logprobs, error));
    if (s->top_logprobs > 0 && !s->logprobs)
        return gw_openai_error_set(error, 400, NULL, "top_logprobs", "'top_logprobs' needs 'logprobs': true");
    return GW_OK;
}

static gw_err_t read_logprobs(enum gw_openai_endpoint endpoint, const cJSON *body, struct gw_sampling *s,
                              struct gw_openai_error *error)
{
    if (endpoint == GW_OPENAI_CHAT) return read_logprobs_chat(body, s, error);
    s->logprobs = gw_field(body, "logprobs") != NULL;
    return gw_field_u32(body, "logprobs", 0, GW_REQUEST_TOP_MAX, &s->top_logprobs, error);
}

static bool contains(const uint32_t *ids, uint32_t len, uint32_t id)
{
    for (uint32_t i = 0; i < len; i++)
        if (ids[i] == id) return true;
    return false;
}

static gw_err_t add_stop_id(struct gw_sampling *s, uint32_t id, struct gw_openai_error *error)
{
    if (contains(s->stop_ids, s->stop_ids_len, id)) return GW_OK;
    if (s->stop_ids_len == GW_REQUEST_STOP_IDS_MAX)
        return gw_openai_error_set(error, 400, NULL, "stop_token_ids", "more than %d stop token ids",
                                   GW_REQUEST_STOP_IDS_MAX);
    s->stop_ids[s->stop_ids_len++] = id;
    return GW_OK;
}

static gw_err_t read_stop_ids(const struct gw_openai_model *model, const cJSON *body, struct gw_sampling *s,
                              struct gw_openai_error *error)
{
    const cJSON *list = gw_field(body, "stop_token_ids"), *item;
    bool ignore_eos = false;
    size_t eos_len = 0;
    TRY(gw_field_bool(body, "ignore_eos", &ignore_eos, error));
    if (list && !cJSON_IsArray(list))
        return gw_openai_error_set(error, 400, NULL, "stop_token_ids",
                                   "'stop_token_ids' must be a list of token ids");
    s->stop_ids = calloc(GW_REQUEST_STOP_IDS_MAX, sizeof *s->stop_ids);
    if (!s->stop_ids) return gw_openai_error_memory(error);
    const uint32_t *eos = gw_tokenizer_eos_ids(model->tokenizer, &eos_len);
    for (size_t i = 0; i < eos_len && !ignore_eos; i++)
        if (eos[i] < model->vocab) TRY(add_stop_id(s, eos[i], error));
    cJSON_ArrayForEach(item, list)
    {
        if (!gw_field_is_token_id(item, model->vocab))
            return gw_openai_error_set(error, 400, NULL, "stop_token_ids",
                                       "'stop_token_ids' must hold token ids, integers from 0 to %u",
                                       model->vocab - 1);
        TRY(add_stop_id(s, (uint32_t)item->valuedouble, error));
    }
    return GW_OK;
}

static bool parse_id(const char *text, uint32_t vocab, uint32_t *id)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9 || text[digits]) return false;
    unsigned long v = strtoul(text, NULL, 10);
    *id = (uint32_t)v;
    return v < vocab;
}

static gw_err_t add_bias(const struct gw_openai_model *model, const cJSON *item, struct gw_sampling *s,
                         struct gw_openai_error *error)
{
    struct gw_logit_bias *bias = &s->bias[s->bias_len];
    if (!parse_id(item->string, model->vocab, &bias->id))
        return gw_openai_error_set(error, 400, NULL, "logit_bias",
                                   "'logit_bias' must map token ids, integers from 0 to %u, to numbers",
                                   model->vocab - 1);
    double v = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    if (!(v >= -BIAS_MAX && v <= BIAS_MAX))
        return gw_openai_error_set(error, 400, NULL, "logit_bias",
                                   "a bias in 'logit_bias' must be a number from -100 to 100");
    for (uint32_t i = 0; i < s->bias_len; i++)
        if (s->bias[i].id == bias->id)
            return gw_openai_error_set(error, 400, NULL, "logit_bias", "'logit_bias' names token %u twice",
                                       bias->id);
    bias->bias = (float)v;
    s->bias_len++;
    return GW_OK;
}

static gw_err_t read_bias(const struct gw_openai_model *model, const cJSON *body, struct gw_sampling *s,
                          struct gw_openai_error *error)
{
    const cJSON *map = gw_field(body, "logit_bias"), *item;
    if (!map) return GW_OK;
    if (!cJSON_IsObject(map))
        return gw_openai_error_set(error, 400, NULL, "logit_bias", "'logit_bias' must be an object");
    int count = cJSON_GetArraySize(map);
    if (count > GW_REQUEST_BIAS_MAX)
        return gw_openai_error_set(error, 400, NULL, "logit_bias", "'logit_bias' has more than %d entries",
                                   GW_REQUEST_BIAS_MAX);
    if (count == 0) return GW_OK;
    s->bias = calloc((size_t)count, sizeof *s->bias);
    if (!s->bias) return gw_openai_error_memory(error);
    cJSON_ArrayForEach(item, map) TRY(add_bias(model, item, s, error));
    return GW_OK;
}

gw_err_t gw_openai_sampling_read(const struct gw_openai_model *model, enum gw_openai_endpoint endpoint,
                                 const cJSON *body, struct gw_sampling *s, struct gw_openai_error *error)
{
    TRY(read_numbers(model, body, s, error));
    TRY(read_logprobs(endpoint, body, s, error));
    TRY(read_stop_ids(model, body, s, error));
    return read_bias(model, body, s, error);
}
