/* worker/engine on shapes that no shipped model has (shares that do not divide evenly, padded FFN cuts, a short last
 * layer group), against a forward pass in double that knows nothing of shares, pages or packing. */
#include "tests/lib/engine_fixture.h"

#include <math.h>

#include "kernels/convert.h"
#include "tests/lib/tiny_model.h"

#define NAMES_MAX  64
#define HEADER_MAX 16384
#define SEQUENCE   45 /* three blocks, the last one partial */

struct shape {
    uint32_t hidden, layers, heads, kv_heads, head_dim, intermediate, vocab;
    bool tied;
    enum gw_dtype type;
    const char *profile;
    double tolerance; /* of the largest logit */
};

/* A weight as the reference sees it: the stored values, widened. */
struct matrix {
    char name[96];
    uint32_t rows, columns; /* rows = 0: a vector */
    double *values;
};

struct net {
    const struct shape *shape;
    struct matrix matrices[NAMES_MAX];
    uint32_t len;
    struct gw_rng rng;
};

static double random_value(struct net *n, bool norm)
{
    double v = gw_rng_unit(&n->rng) + gw_rng_unit(&n->rng) - 1;
    return norm ? 1 + 0.3 * v : 0.4 * v;
}

/* Rounds to the stored type. f16 by halving a bf16-exact range: small multiples of 2^-10 are exact in all types. */
static double stored(enum gw_dtype type, double v)
{
    if (type == GW_BF16) return (double)gw_f32_of_bf16(gw_bf16_of_f32((float)v));
    if (type == GW_F16) return round(v * 1024) / 1024;
    return (double)(float)v;
}

static void add_matrix(struct net *n, uint32_t rows, uint32_t columns, const char *fmt, uint32_t layer)
{
    struct matrix *m = &n->matrices[n->len++];
    size_t count = (size_t)(rows ? rows : 1) * columns;
    assert_true(n->len <= NAMES_MAX);
    if (strstr(fmt, "%u"))
        snprintf(m->name, sizeof m->name, "model.layers.%u%s", layer, strchr(fmt, 'u') + 1);
    else
        snprintf(m->name, sizeof m->name, "%s", fmt);
    m->rows = rows;
    m->columns = columns;
    m->values = malloc(count * sizeof *m->values);
    for (size_t i = 0; i < count; i++) m->values[i] = stored(n->shape->type, random_value(n, rows == 0));
}

static void make_net(struct net *n, const struct shape *s, uint64_t seed)
{
    *n = (struct net){.shape = s};
    gw_rng_init(&n->rng, seed);
    add_matrix(n, s->vocab, s->hidden, "model.embed_tokens.weight", 0);
    add_matrix(n, 0, s->hidden, "model.norm.weight", 0);
    if (!s->tied) add_matrix(n, s->vocab, s->hidden, "lm_head.weight", 0);
    for (uint32_t l = 0; l < s->layers; l++) {
        add_matrix(n, 0, s->hidden, "%u.input_layernorm.weight", l);
        add_matrix(n, 0, s->hidden, "%u.post_attention_layernorm.weight", l);
        add_matrix(n, s->heads * s->head_dim, s->hidden, "%u.self_attn.q_proj.weight", l);
        add_matrix(n, s->kv_heads * s->head_dim, s->hidden, "%u.self_attn.k_proj.weight", l);
        add_matrix(n, s->kv_heads * s->head_dim, s->hidden, "%u.self_attn.v_proj.weight", l);
        add_matrix(n, s->hidden, s->heads * s->head_dim, "%u.self_attn.o_proj.weight", l);
        add_matrix(n, s->intermediate, s->hidden, "%u.mlp.gate_proj.weight", l);
        add_matrix(n, s->intermediate, s->hidden, "%u.mlp.up_proj.weight", l);
        add_matrix(n, s->hidden, s->intermediate, "%u.mlp.down_proj.weight", l);
    }
}

static void free_net(struct net *n)
{
    for (uint32_t i = 0; i < n->len; i++) free(n->matrices[i].values);
}

static size_t put_value(uint8_t *to, enum gw_dtype type, double v)
{
    float f = (float)v;
    uint16_t half = type == GW_BF16 ? gw_bf16_of_f32(f) : 0;
    if (type == GW_F16) memcpy(&half, &(_Float16){(_Float16)v}, sizeof half);
    memcpy(to, type == GW_F32 ? (void *)&f : (void *)&half, gw_dtype_bytes(type));
    return gw_dtype_bytes(type);
}

static void write_weights(const struct net *n, const struct tiny_dir *dir)
{
    static const char *const names[] = {[GW_F32] = "F32", [GW_BF16] = "BF16", [GW_F16] = "F16"};
    char *header = malloc(HEADER_MAX);
    size_t at = 0, total = 0, len = (size_t)snprintf(header, HEADER_MAX, "{");
    for (uint32_t i = 0; i < n->len; i++)
        total += (size_t)(n->matrices[i].rows ? n->matrices[i].rows : 1) * n->matrices[i].columns;
    uint8_t *data = malloc(total * sizeof(float));
    for (uint32_t i = 0; i < n->len; i++) {
        const struct matrix *m = &n->matrices[i];
        size_t begin = at, count = (size_t)(m->rows ? m->rows : 1) * m->columns;
        char shape[48];
        for (size_t k = 0; k < count; k++) at += put_value(data + at, n->shape->type, m->values[k]);
        if (m->rows)
            snprintf(shape, sizeof shape, "%u,%u", m->rows, m->columns);
        else
            snprintf(shape, sizeof shape, "%u", m->columns);
        len += (size_t)snprintf(header + len, HEADER_MAX - len,
                                "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                                i ? "," : "", m->name, names[n->shape->type], shape, begin, at);
    }
    snprintf(header + len, HEADER_MAX - len, "}");
    tiny_write_safetensors(dir, "model.safetensors", header, data, at);
    free(data);
    free(header);
}

static void write_config(const struct shape *s, const struct tiny_dir *dir)
{
    char text[1024];
    int len = snprintf(
        text, sizeof text,
        "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":%u,\"num_hidden_layers\":%u,"
        "\"num_attention_heads\":%u,\"num_key_value_heads\":%u,\"head_dim\":%u,\"intermediate_size\":%u,"
        "\"vocab_size\":%u,\"max_position_embeddings\":256,\"rms_norm_eps\":1e-5,"
        "\"tie_word_embeddings\":%s}",
        s->hidden, s->layers, s->heads, s->kv_heads, s->head_dim, s->intermediate, s->vocab,
        s->tied ? "true" : "false");
    tiny_write(dir, "config.json", text, (size_t)len);
}

/* ---- the reference ---- */

static const struct matrix *find(const struct net *n, uint32_t layer, const char *part)
{
    char name[96];
    snprintf(name, sizeof name, "model.layers.%u.%s.weight", layer, part);
    for (uint32_t i = 0; i < n->len; i++)
        if (strcmp(n->matrices[i].name, strchr(part, '!') ? part + 1 : name) == 0) return &n->matrices[i];
    return NULL;
}

static void product(const struct matrix *w, const double *x, double *y)
{
    for (uint32_t r = 0; r < w->rows; r++) {
        y[r] = 0;
        for (uint32_t c = 0; c < w->columns; c++) y[r] += w->values[(size_t)r * w->columns + c] * x[c];
    }
}

static void norm(const struct matrix *w, const double *x, double *y)
{
    double sum = 0;
    for (uint32_t i = 0; i < w->columns; i++) sum += x[i] * x[i];
    for (uint32_t i = 0; i < w->columns; i++) y[i] = x[i] / sqrt(sum / w->columns + 1e-5) * w->values[i];
}

static void rotate(double *v, uint32_t head_dim, uint32_t position)
{
    for (uint32_t i = 0; i < head_dim / 2; i++) {
        double angle = position * pow(10000, -2.0 * i / head_dim), a = v[i], b = v[i + head_dim / 2];
        v[i] = a * cos(angle) - b * sin(angle);
        v[i + head_dim / 2] = b * cos(angle) + a * sin(angle);
    }
}

#define WIDE 256 /* no row of these models is wider */

struct cache {
    double k[8][SEQUENCE][WIDE], v[8][SEQUENCE][WIDE];
};

static void attend(const struct net *n, const struct cache *c, uint32_t layer, uint32_t position,
                   const double *q, double *out)
{
    const struct shape *s = n->shape;
    for (uint32_t h = 0; h < s->heads; h++) {
        double p[SEQUENCE], sum = 0;
        uint32_t at = h * s->kv_heads / s->heads * s->head_dim;
        for (uint32_t t = 0; t <= position; t++) {
            double dot = 0;
            for (uint32_t d = 0; d < s->head_dim; d++) dot += q[h * s->head_dim + d] * c->k[layer][t][at + d];
            sum += p[t] = exp(dot / sqrt(s->head_dim));
        }
        for (uint32_t d = 0; d < s->head_dim; d++) {
            double y = 0;
            for (uint32_t t = 0; t <= position; t++) y += p[t] / sum * c->v[layer][t][at + d];
            out[h * s->head_dim + d] = y;
        }
    }
}

static void layer_step(const struct net *n, struct cache *c, uint32_t l, uint32_t position, double *x)
{
    const struct shape *s = n->shape;
    double h[WIDE], q[WIDE], a[WIDE], g[WIDE], u[WIDE], y[WIDE];
    norm(find(n, l, "input_layernorm"), x, h);
    product(find(n, l, "self_attn.q_proj"), h, q);
    product(find(n, l, "self_attn.k_proj"), h, c->k[l][position]);
    product(find(n, l, "self_attn.v_proj"), h, c->v[l][position]);
    for (uint32_t i = 0; i < s->heads; i++) rotate(q + i * s->head_dim, s->head_dim, position);
    for (uint32_t i = 0; i < s->kv_heads; i++)
        rotate(c->k[l][position] + i * s->head_dim, s->head_dim, position);
    attend(n, c, l, position, q, a);
    product(find(n, l, "self_attn.o_proj"), a, y);
    for (uint32_t i = 0; i < s->hidden; i++) x[i] += y[i];
    norm(find(n, l, "post_attention_layernorm"), x, h);
    product(find(n, l, "mlp.gate_proj"), h, g);
    product(find(n, l, "mlp.up_proj"), h, u);
    for (uint32_t i = 0; i < s->intermediate; i++) g[i] = g[i] / (1 + exp(-g[i])) * u[i];
    product(find(n, l, "mlp.down_proj"), g, y);
    for (uint32_t i = 0; i < s->hidden; i++) x[i] += y[i];
}

/* Logits behind position len - 1. */
static void reference_logits(const struct net *n, const uint32_t *ids, uint32_t len, double *logits)
{
    const struct matrix *embed = find(n, 0, "!model.embed_tokens.weight");
    const struct matrix *head = n->shape->tied ? embed : find(n, 0, "!lm_head.weight");
    struct cache *c = calloc(1, sizeof *c);
    double x[WIDE], h[WIDE];
    for (uint32_t p = 0; p < len; p++) {
        for (uint32_t i = 0; i < n->shape->hidden; i++)
            x[i] = embed->values[(size_t)ids[p] * n->shape->hidden + i];
        for (uint32_t l = 0; l < n->shape->layers; l++) layer_step(n, c, l, p, x);
    }
    norm(find(n, 0, "!model.norm.weight"), x, h);
    product(head, h, logits);
    free(c);
}

static void check(const struct shape *shape)
{
    struct net n;
    struct tiny_dir dir;
    struct fixture f;
    double want[WIDE], scale = 0, worst = 0;
    uint32_t ids[SEQUENCE];
    struct solo_config config = fixture_config();
    make_net(&n, shape, 42);
    tiny_dir_make(&dir);
    write_weights(&n, &dir);
    write_config(shape, &dir);
    config.profile = shape->profile;
    config.kv_tokens = 256;
    config.max_chunk = 17;
    fixture_open(&f, dir.path, config);
    for (uint32_t i = 0; i < SEQUENCE; i++) ids[i] = (uint32_t)gw_rng_below(&n.rng, shape->vocab);
    struct gw_request q = fixture_request(1, ids, SEQUENCE, 1);
    fixture_submit(&f, &q, 1, NULL, NULL);
    fixture_drain(&f);
    reference_logits(&n, ids, SEQUENCE, want);
    for (uint32_t i = 0; i < shape->vocab; i++) {
        scale = fmax(scale, fabs(want[i]));
        worst = fmax(worst, fabs(want[i] - (double)f.last_row[i]));
    }
    if (!(worst <= shape->tolerance * scale)) fail_msg("logits differ by %g of scale %g", worst, scale);
    fixture_close(&f);
    tiny_dir_remove(&dir);
    free_net(&n);
}

/* f32 rounds at 2^-24 in each of some hundred steps; bf16 activations at 2^-9. */
#define F32_TOLERANCE  1e-5
#define BF16_TOLERANCE 3e-2

static void test_logits_of_seven_shares_padded_ffn_match_double(void **state)
{
    (void)state;
    struct shape s = {.hidden = 40,
                      .layers = 3,
                      .heads = 14,
                      .kv_heads = 2,
                      .head_dim = 8,
                      .intermediate = 50,
                      .vocab = 101,
                      .type = GW_F32,
                      .profile = "cpu-f32-2",
                      .tolerance = F32_TOLERANCE};
    check(&s);
    s.type = GW_BF16;
    check(&s);
    s.profile = "cpu-bf16dot-2";
    s.tolerance = BF16_TOLERANCE;
    check(&s);
}

static void test_logits_of_three_shares_f16_tied_match_double(void **state)
{
    (void)state;
    const struct shape s = {.hidden = 36,
                            .layers = 1,
                            .heads = 9,
                            .kv_heads = 3,
                            .head_dim = 24,
                            .intermediate = 70,
                            .vocab = 77,
                            .tied = true,
                            .type = GW_F16,
                            .profile = "cpu-f32-2",
                            .tolerance = F32_TOLERANCE};
    check(&s);
}

static void test_logits_of_twelve_kv_heads_match_double(void **state)
{
    (void)state;
    const struct shape s = {.hidden = 24,
                            .layers = 5,
                            .heads = 12,
                            .kv_heads = 12,
                            .head_dim = 16,
                            .intermediate = 2,
                            .vocab = 33,
                            .type = GW_F32,
                            .profile = "cpu-f32-2",
                            .tolerance = F32_TOLERANCE};
    check(&s);
}

/* A bf16 profile never rounds weights that are stored wider. */
static void test_create_bf16_profile_for_wider_weights_is_refused(void **state)
{
    (void)state;
    const struct shape s = {.hidden = 8,
                            .layers = 1,
                            .heads = 1,
                            .kv_heads = 1,
                            .head_dim = 8,
                            .intermediate = 8,
                            .vocab = 9,
                            .type = GW_F32};
    struct net n;
    struct tiny_dir dir;
    struct gw_model *model;
    struct solo solo;
    struct gw_err_ctx ctx = {0};
    struct solo_config config = fixture_config();
    make_net(&n, &s, 1);
    tiny_dir_make(&dir);
    write_weights(&n, &dir);
    write_config(&s, &dir);
    assert_int_equal(gw_model_open(dir.path, &model, NULL), GW_OK);
    assert_string_equal(gw_model_profile(model, GW_WEIGHT_FILE, GW_KV_FILE), "cpu-f32-2");
    config.profile = "cpu-bf16dot-2";
    assert_int_equal(solo_open(&solo, model, &config, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "bf16"));
    gw_model_close(model);
    tiny_dir_remove(&dir);
    free_net(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_of_seven_shares_padded_ffn_match_double),
        cmocka_unit_test(test_logits_of_three_shares_f16_tied_match_double),
        cmocka_unit_test(test_logits_of_twelve_kv_heads_match_double),
        cmocka_unit_test(test_create_bf16_profile_for_wider_weights_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
