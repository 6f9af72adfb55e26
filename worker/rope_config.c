#include "worker/rope_config.h"

#include <math.h>
#include <string.h>

#include "kernels/vmath.h"

#define ROPE_THETA_MAX  1e12
#define ROPE_FACTOR_MAX 1e6
#define BETA_FAST       32 /* YaRN's defaults (Peng et al. 2023, part 3.2) */
#define BETA_SLOW       1

/* What a reader of one RoPE form gets: its object, config.json around it, and what was read of that. */
struct source {
    const cJSON *rope, *config;
    const struct gw_model_config *model;
};

static gw_err_t need_factor(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx)
{
    TRY(gw_json_double(s->rope, "factor", 1, ROPE_FACTOR_MAX, &r->factor, ctx));
    return r->factor > 0 ? GW_OK : gw_fail(ctx, GW_ERR_INPUT, "RoPE needs a factor");
}

/* The context of training; on the top level it counts more, as some files have it there alone. */
static gw_err_t read_original(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx)
{
    static const char field[] = "original_max_position_embeddings";
    r->original_context = s->model->context;
    TRY(gw_json_double(s->rope, field, 2, GW_MODEL_CONTEXT_MAX, &r->original_context, ctx));
    return gw_json_double(s->config, field, 2, GW_MODEL_CONTEXT_MAX, &r->original_context, ctx);
}

static gw_err_t read_llama3(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx)
{
    TRY(gw_json_double(s->rope, "factor", 1, ROPE_FACTOR_MAX, &r->factor, ctx));
    TRY(gw_json_double(s->rope, "low_freq_factor", 1e-3, ROPE_FACTOR_MAX, &r->low_freq_factor, ctx));
    TRY(gw_json_double(s->rope, "high_freq_factor", 1e-3, ROPE_FACTOR_MAX, &r->high_freq_factor, ctx));
    TRY(read_original(s, r, ctx));
    if (r->factor == 0 || r->low_freq_factor == 0 || r->high_freq_factor <= r->low_freq_factor)
        return gw_fail(ctx, GW_ERR_INPUT, "llama3 RoPE needs factor, and low_freq_factor < high_freq_factor");
    return GW_OK;
}

static gw_err_t read_linear(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx)
{
    return need_factor(s, r, ctx);
}

/* Plain up to the context; scaling of a shorter one than that would depend on the length of each sequence. */
static gw_err_t read_dynamic(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx)
{
    TRY(need_factor(s, r, ctx));
    TRY(read_original(s, r, ctx));
    r->kind = GW_ROPE_PLAIN;
    if (r->original_context >= s->model->context) return GW_OK;
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

static gw_err_t read_yarn_magnitude(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx)
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

static gw_err_t read_yarn(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx)
{
    r->truncate = true;
    TRY(need_factor(s, r, ctx));
    TRY(read_original(s, r, ctx));
    TRY(gw_json_double(s->rope, "beta_fast", 0, ROPE_FACTOR_MAX, &r->beta_fast, ctx));
    TRY(gw_json_double(s->rope, "beta_slow", 0, ROPE_FACTOR_MAX, &r->beta_slow, ctx));
    TRY(gw_json_bool(s->rope, "truncate", &r->truncate, ctx));
    if (r->beta_fast == 0) r->beta_fast = BETA_FAST; /* 0 stands for none */
    if (r->beta_slow == 0) r->beta_slow = BETA_SLOW;
    if (r->theta <= 1) return gw_fail(ctx, GW_ERR_INPUT, "yarn RoPE needs a 'rope_theta' above 1");
    return read_yarn_magnitude(s, r, ctx);
}

/* ---- longrope ---- */

static gw_err_t read_divisors(const struct source *s, const char *field, struct gw_rope *r,
                              struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(s->rope, field), *item;
    uint32_t len = 0, half = s->model->head_dim / 2;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != (int)half)
        return gw_fail(ctx, GW_ERR_INPUT, "longrope needs %u numbers in '%s'", half, field);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= 1e-3 && item->valuedouble <= ROPE_FACTOR_MAX))
            return gw_fail(ctx, GW_ERR_INPUT, "longrope: '%s' must hold numbers between 0.001 and %g", field,
                           ROPE_FACTOR_MAX);
        r->divisors[len++] = (float)item->valuedouble;
    }
    return GW_OK;
}

static gw_err_t read_long(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx)
{
    double magnitude = 0;
    TRY(read_original(s, r, ctx));
    r->factor = s->model->context / r->original_context;
    TRY(gw_json_double(s->rope, "factor", 1e-3, ROPE_FACTOR_MAX, &r->factor, ctx));
    TRY(gw_json_double(s->rope, "attention_factor", 0, ROPE_FACTOR_MAX, &magnitude, ctx));
    if (magnitude == 0)
        magnitude = r->factor <= 1 ? 1 : sqrt(1 + gw_log(r->factor) / gw_log(r->original_context));
    r->magnitude = magnitude;
    bool is_long = s->model->context > r->original_context;
    return read_divisors(s, is_long ? "long_factor" : "short_factor", r, ctx);
}

/* ---- which form ---- */

static const struct form {
    const char *name;
    enum gw_rope_kind kind;
    gw_err_t (*read)(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx);
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

/* NULL as s->rope: nothing is said. */
static gw_err_t read_object(const struct source *s, struct gw_rope *r, struct gw_err_ctx *ctx)
{
    const char *type = "default";
    if (!s->rope || cJSON_IsNull(s->rope)) return GW_OK;
    if (!cJSON_IsObject(s->rope)) return gw_fail(ctx, GW_ERR_INPUT, "RoPE parameters are no JSON object");
    *r = (struct gw_rope){.theta = r->theta, .magnitude = 1};
    TRY(gw_json_double(s->rope, "rope_theta", 1, ROPE_THETA_MAX, &r->theta, ctx));
    TRY(refuse_partial(s->rope, ctx));
    TRY(gw_json_string(s->rope, "type", &type, ctx));
    TRY(gw_json_string(s->rope, "rope_type", &type, ctx));
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(type, forms[i].name) != 0) continue;
        r->kind = forms[i].kind;
        return forms[i].read ? forms[i].read(s, r, ctx) : GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT,
                   "RoPE type '%.32s' is not supported, only default, linear, dynamic, llama3, yarn and "
                   "longrope are",
                   type);
}

/* ---- for which layers ---- */

/* Does the model have layers that slide, or that do not? */
static bool has_layers(const struct gw_model_config *m, bool sliding)
{
    for (uint32_t i = 0; i < m->layers; i++)
        if (m->slides[i] == sliding) return true;
    return false;
}

/* Parameters of one form have no objects in them; what has is a map of layer types. */
static bool is_map(const cJSON *object)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, object) if (cJSON_IsObject(item)) return true;
    return false;
}

/* *out: what a field says for layers of a type. */
static gw_err_t find_object(const cJSON *config, const char *field, const char *type, const cJSON **out,
                            struct gw_err_ctx *ctx)
{
    *out = cJSON_GetObjectItemCaseSensitive(config, field);
    if (!cJSON_IsObject(*out) || !is_map(*out)) return GW_OK;
    *out = cJSON_GetObjectItemCaseSensitive(*out, type);
    if (*out && !cJSON_IsNull(*out)) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "'%s' has nothing for layers of type %s", field, type);
}

static gw_err_t read_type(const cJSON *config, const char *type, const struct gw_model_config *m,
                          struct gw_rope *r, struct gw_err_ctx *ctx)
{
    static const char *const fields[] = {"rope_scaling", "rope_parameters"};
    r->magnitude = 1;
    TRY(gw_json_double(config, "rope_theta", 1, ROPE_THETA_MAX, &r->theta, ctx));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        struct source s = {.config = config, .model = m};
        TRY(find_object(config, fields[i], type, &s.rope, ctx));
        TRY(read_object(&s, r, ctx));
    }
    return GW_OK;
}

static bool is_same(const struct gw_rope *a, const struct gw_rope *b)
{
    return a->kind == b->kind && a->theta == b->theta && a->factor == b->factor &&
           a->original_context == b->original_context && a->low_freq_factor == b->low_freq_factor &&
           a->high_freq_factor == b->high_freq_factor && a->beta_fast == b->beta_fast &&
           a->beta_slow == b->beta_slow && a->truncate == b->truncate && a->magnitude == b->magnitude &&
           memcmp(a->divisors, b->divisors, sizeof a->divisors) == 0;
}

gw_err_t gw_rope_config_read(const cJSON *config, struct gw_model_config *m, struct gw_err_ctx *ctx)
{
    bool full = has_layers(m, false), sliding = has_layers(m, true);
    TRY(refuse_partial(config, ctx));
    if (full) TRY(read_type(config, "full_attention", m, &m->rope, ctx));
    if (sliding) TRY(read_type(config, "sliding_attention", m, &m->rope_sliding, ctx));
    if (!full) m->rope = m->rope_sliding;
    m->two_ropes = full && sliding && !is_same(&m->rope, &m->rope_sliding);
    return GW_OK;
}
