#include "worker/rope_config.h"

#include <math.h>
#include <string.h>

#include "kernels/vmath.h"

#define ROPE_THETA_MAX  1e12
#define ROPE_FACTOR_MAX 1e6
#define BETA_FAST       32 /* YaRN's defaults (Peng et al. 2023, part 3.2) */
#define BETA_SLOW       1

/* What a reader of one RoPE form gets: its object, and config.json around it. */
struct source {
    const cJSON *rope, *config;
};

static gw_err_t need_factor(const struct source *s, struct gw_rope_scaling *r, struct gw_err_ctx *ctx)
{
    TRY(gw_json_double(s->rope, "factor", 1, ROPE_FACTOR_MAX, &r->factor, ctx));
    return r->factor > 0 ? GW_OK : gw_fail(ctx, GW_ERR_INPUT, "RoPE needs a factor");
}

/* The context of training; on the top level it counts more, as some files have it there alone. */
static gw_err_t read_original(const struct source *s, const struct gw_model_config *m,
                              struct gw_rope_scaling *r, struct gw_err_ctx *ctx)
{
    static const char field[] = "original_max_position_embeddings";
    r->original_context = m->context;
    TRY(gw_json_double(s->rope, field, 2, GW_MODEL_CONTEXT_MAX, &r->original_context, ctx));
    return gw_json_double(s->config, field, 2, GW_MODEL_CONTEXT_MAX, &r->original_context, ctx);
}

static gw_err_t read_llama3(const struct source *s, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    struct gw_rope_scaling *r = &m->rope;
    TRY(gw_json_double(s->rope, "factor", 1, ROPE_FACTOR_MAX, &r->factor, ctx));
    TRY(gw_json_double(s->rope, "low_freq_factor", 1e-3, ROPE_FACTOR_MAX, &r->low_freq_factor, ctx));
    TRY(gw_json_double(s->rope, "high_freq_factor", 1e-3, ROPE_FACTOR_MAX, &r->high_freq_factor, ctx));
    TRY(read_original(s, m, r, ctx));
    if (r->factor == 0 || r->low_freq_factor == 0 || r->high_freq_factor <= r->low_freq_factor)
        return gw_fail(ctx, GW_ERR_INPUT, "llama3 RoPE needs factor, and low_freq_factor < high_freq_factor");
    return GW_OK;
}

static gw_err_t read_linear(const struct source *s, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    return need_factor(s, &m->rope, ctx);
}

/* Plain up to the context; scaling of a shorter one than that would depend on the length of each sequence. */
static gw_err_t read_dynamic(const struct source *s, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    TRY(need_factor(s, &m->rope, ctx));
    TRY(read_original(s, m, &m->rope, ctx));
    m->rope.kind = GW_ROPE_PLAIN;
    if (m->rope.original_context >= m->context) return GW_OK;
    return gw_fail(
        ctx, GW_ERR_INPUT,
        "dynamic RoPE with 'original_max_position_embeddings' below 'max_position_embeddings' depends "
        "on each sequence's length: not supported");
}

/* ---- yarn ---- */

static double yarn_magnitude(double factor, double scale)
{
    return factor <= 1 ? 1 : 0.1 * scale * gw_log(factor) + 1;
}

static gw_err_t read_yarn_magnitude(const struct source *s, struct gw_rope_scaling *r, struct gw_err_ctx *ctx)
{
    double given = 0, scale = 0, scale_all = 0;
    TRY(gw_json_double(s->rope, "attention_factor", 0, ROPE_FACTOR_MAX, &given, ctx));
    TRY(gw_json_double(s->rope, "mscale", 0, ROPE_FACTOR_MAX, &scale, ctx));
    TRY(gw_json_double(s->rope, "mscale_all_dim", 0, ROPE_FACTOR_MAX, &scale_all, ctx));
    if (given > 0)
        r->magnitude = given;
    else if (scale > 0 && scale_all > 0)
        r->magnitude = yarn_magnitude(r->factor, scale) / yarn_magnitude(r->factor, scale_all);
    else
        r->magnitude = yarn_magnitude(r->factor, 1);
    return GW_OK;
}

static gw_err_t read_yarn(const struct source *s, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    struct gw_rope_scaling *r = &m->rope;
    r->truncate = true;
    TRY(need_factor(s, r, ctx));
    TRY(read_original(s, m, r, ctx));
    TRY(gw_json_double(s->rope, "beta_fast", 0, ROPE_FACTOR_MAX, &r->beta_fast, ctx));
    TRY(gw_json_double(s->rope, "beta_slow", 0, ROPE_FACTOR_MAX, &r->beta_slow, ctx));
    TRY(gw_json_bool(s->rope, "truncate", &r->truncate, ctx));
    if (r->beta_fast == 0) r->beta_fast = BETA_FAST; /* 0 stands for none */
    if (r->beta_slow == 0) r->beta_slow = BETA_SLOW;
    if (m->rope_theta <= 1) return gw_fail(ctx, GW_ERR_INPUT, "yarn RoPE needs a 'rope_theta' above 1");
    return read_yarn_magnitude(s, r, ctx);
}

/* ---- longrope ---- */

static gw_err_t read_divisors(const cJSON *rope, const char *field, struct gw_model_config *m,
                              struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(rope, field), *item;
    uint32_t len = 0, half = m->head_dim / 2;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != (int)half)
        return gw_fail(ctx, GW_ERR_INPUT, "longrope needs %u numbers in '%s'", half, field);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= 1e-3 && item->valuedouble <= ROPE_FACTOR_MAX))
            return gw_fail(ctx, GW_ERR_INPUT, "longrope: '%s' must hold numbers between 0.001 and %g", field,
                           ROPE_FACTOR_MAX);
        m->rope.divisors[len++] = (float)item->valuedouble;
    }
    return GW_OK;
}

static gw_err_t read_long(const struct source *s, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    struct gw_rope_scaling *r = &m->rope;
    double magnitude = 0;
    TRY(read_original(s, m, r, ctx));
    r->factor = m->context / r->original_context;
    TRY(gw_json_double(s->rope, "factor", 1e-3, ROPE_FACTOR_MAX, &r->factor, ctx));
    TRY(gw_json_double(s->rope, "attention_factor", 0, ROPE_FACTOR_MAX, &magnitude, ctx));
    if (magnitude == 0)
        magnitude = r->factor <= 1 ? 1 : sqrt(1 + gw_log(r->factor) / gw_log(r->original_context));
    r->magnitude = magnitude;
    return read_divisors(s->rope, m->context > r->original_context ? "long_factor" : "short_factor", m, ctx);
}

/* ---- which form ---- */

static const struct form {
    const char *name;
    enum gw_rope_kind kind;
    gw_err_t (*read)(const struct source *s, struct gw_model_config *m, struct gw_err_ctx *ctx);
} forms[] = {
    {"default", GW_ROPE_PLAIN, NULL},         {"linear", GW_ROPE_LINEAR, read_linear},
    {"dynamic", GW_ROPE_PLAIN, read_dynamic}, {"llama3", GW_ROPE_LLAMA3, read_llama3},
    {"yarn", GW_ROPE_YARN, read_yarn},        {"longrope", GW_ROPE_LONG, read_long},
};

static gw_err_t refuse_partial(const cJSON *obj, struct gw_err_ctx *ctx)
{
    double partial = 1;
    TRY(gw_json_double(obj, "partial_rotary_factor", 0, 1, &partial, ctx));
    return partial == 1 ? GW_OK : gw_fail(ctx, GW_ERR_INPUT, "'partial_rotary_factor' is not supported");
}

/* rope: rope_scaling or rope_parameters; NULL for plain. */
static gw_err_t read_object(const struct source *s, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    const char *type = "default";
    if (!s->rope || cJSON_IsNull(s->rope)) return GW_OK;
    if (!cJSON_IsObject(s->rope)) return gw_fail(ctx, GW_ERR_INPUT, "RoPE parameters are no JSON object");
    m->rope = (struct gw_rope_scaling){.magnitude = 1};
    TRY(gw_json_double(s->rope, "rope_theta", 1, ROPE_THETA_MAX, &m->rope_theta, ctx));
    TRY(refuse_partial(s->rope, ctx));
    TRY(gw_json_string(s->rope, "type", &type, ctx));
    TRY(gw_json_string(s->rope, "rope_type", &type, ctx));
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(type, forms[i].name) != 0) continue;
        m->rope.kind = forms[i].kind;
        return forms[i].read ? forms[i].read(s, m, ctx) : GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT,
                   "RoPE type '%.32s' is not supported, only default, linear, dynamic, llama3, yarn and "
                   "longrope are",
                   type);
}

/* Does the model have layers that slide, or that do not? */
static bool has_layers(const struct gw_model_config *m, bool sliding)
{
    for (uint32_t i = 0; i < m->layers; i++)
        if (m->slides[i] == sliding) return true;
    return false;
}

/* rope_parameters: itself, or what it holds for the types of layers that there are. */
static gw_err_t find_parameters(const cJSON *config, const struct gw_model_config *m, const cJSON **out,
                                struct gw_err_ctx *ctx)
{
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(config, "rope_parameters");
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(all, "full_attention");
    const cJSON *sliding = cJSON_GetObjectItemCaseSensitive(all, "sliding_attention");
    *out = all;
    if (!full && !sliding) return GW_OK;
    *out = has_layers(m, true) ? sliding : full;
    if (!*out) return gw_fail(ctx, GW_ERR_INPUT, "'rope_parameters' lack those of a layer type");
    if (!has_layers(m, true) || !has_layers(m, false) || (full && cJSON_Compare(full, sliding, true)))
        return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "'rope_parameters' that differ between layer types are not supported");
}

gw_err_t gw_rope_config_read(const cJSON *config, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    const cJSON *scaling = cJSON_GetObjectItemCaseSensitive(config, "rope_scaling"), *parameters = NULL;
    m->rope.magnitude = 1;
    TRY(gw_json_double(config, "rope_theta", 1, ROPE_THETA_MAX, &m->rope_theta, ctx));
    TRY(refuse_partial(config, ctx));
    TRY(read_object(&(struct source){scaling, config}, m, ctx));
    TRY(find_parameters(config, m, &parameters, ctx));
    return read_object(&(struct source){parameters, config}, m, ctx);
}
