/* worker/model_config and worker/cells: what is read, what is refused, and how a model is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "worker/cells.h"

#define BASE_FIELDS                                                                                          \
    "\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, \"num_hidden_layers\": 3, "             \
    "\"num_attention_heads\": 8, \"intermediate_size\": 192, \"vocab_size\": 384, "                          \
    "\"max_position_embeddings\": 512"

static struct gw_model_config parse_ok(const char *more)
{
    char text[2048];
    struct gw_err_ctx ctx = {0};
    struct gw_model_config c;
    int len = snprintf(text, sizeof text, "{" BASE_FIELDS "%s}", more);
    if (gw_model_config_parse(text, (size_t)len, &c, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return c;
}

/* Refused as input, in one line that holds `word`. */
static void expect_refused(const char *text, const char *word)
{
    struct gw_err_ctx ctx = {0};
    struct gw_model_config c = {.hidden = 4711};
    assert_int_equal(gw_model_config_parse(text, strlen(text), &c, &ctx), GW_ERR_INPUT);
    if (!strstr(ctx.text, word)) fail_msg("'%s' does not speak of '%s'", ctx.text, word);
    assert_null(strchr(ctx.text, '\n'));
    assert_int_equal(c.hidden, 4711);
}

static void expect_refused_with(const char *more, const char *word)
{
    char text[2048];
    snprintf(text, sizeof text, "{" BASE_FIELDS "%s}", more);
    expect_refused(text, word);
}

static void test_parse_minimal_config_takes_defaults(void **state)
{
    (void)state;
    struct gw_model_config c = parse_ok("");
    assert_int_equal(c.hidden, 64);
    assert_int_equal(c.layers, 3);
    assert_int_equal(c.heads, 8);
    assert_int_equal(c.kv_heads, 8);
    assert_int_equal(c.head_dim, 8);
    assert_int_equal(c.vocab, 384);
    assert_int_equal(c.context, 512);
    assert_false(c.tied);
    assert_int_equal(c.rope.kind, GW_ROPE_PLAIN);
    assert_true(c.rope.theta == 10000);
    assert_true(c.rms_eps == 1e-6);
}

static void test_parse_explicit_fields_override(void **state)
{
    (void)state;
    struct gw_model_config c =
        parse_ok(", \"head_dim\": 128, \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-5, "
                 "\"tie_word_embeddings\": true, \"rope_theta\": 5e5, \"rope_scaling\": null");
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.kv_heads, 2);
    assert_true(c.rms_eps == 1e-5);
    assert_true(c.tied);
    assert_true(c.rope.theta == 5e5);
}

static void expect_llama3(const struct gw_model_config *c)
{
    assert_int_equal(c->rope.kind, GW_ROPE_LLAMA3);
    assert_true(c->rope.factor == 8 && c->rope.low_freq_factor == 1 && c->rope.high_freq_factor == 4);
    assert_true(c->rope.original_context == 8192 && c->rope.theta == 5e5);
}

static void test_parse_llama3_rope_in_both_forms(void **state)
{
    (void)state;
#define SCALING                                                                                              \
    "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "                                 \
    "\"original_max_position_embeddings\": 8192"
    struct gw_model_config c =
        parse_ok(", \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", " SCALING "}");
    expect_llama3(&c);
    c = parse_ok(", \"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"llama3\", " SCALING "}");
    expect_llama3(&c);
    c = parse_ok(", \"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"default\"}");
    assert_int_equal(c.rope.kind, GW_ROPE_PLAIN);
    assert_true(c.rope.theta == 5e5);
}

static void test_parse_unsupported_features_are_refused_by_name(void **state)
{
    (void)state;
    expect_refused("{\"architectures\": [\"GemmaForCausalLM\"], \"model_type\": \"gemma\"}",
                   "GemmaForCausalLM");
    expect_refused("{\"model_type\": \"gpt2\"}", "gpt2");
    expect_refused("{}", "architecture");
    expect_refused("[]", "object");
    expect_refused("{\"architectures\"", "JSON");
    expect_refused_with(", \"attention_bias\": true", "attention_bias");
    expect_refused_with(", \"mlp_bias\": true", "mlp_bias");
    expect_refused_with(", \"hidden_act\": \"gelu\"", "gelu");
    expect_refused_with(", \"quantization_config\": {\"quant_method\": \"gptq\"}", "quantization_config");
    expect_refused_with(", \"partial_rotary_factor\": 0.5", "partial_rotary_factor");
    expect_refused_with(", \"rope_scaling\": {\"rope_type\": \"spiral\", \"factor\": 4.0}", "spiral");
    expect_refused_with(", \"rope_scaling\": {\"type\": \"linear\"}", "factor");
    expect_refused_with(", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0}", "llama3");
    expect_refused_with(", \"rope_scaling\": 7", "RoPE");
}

static void test_parse_numbers_out_of_bounds_are_refused_by_name(void **state)
{
    (void)state;
    expect_refused_with(", \"num_key_value_heads\": 3", "evenly");
    expect_refused_with(", \"num_key_value_heads\": 16", "num_key_value_heads");
    expect_refused_with(", \"head_dim\": 12", "head_dim");
    expect_refused_with(", \"head_dim\": 264", "head_dim");
    expect_refused_with(", \"head_dim\": -8", "head_dim");
    expect_refused_with(", \"rms_norm_eps\": -1", "rms_norm_eps");
    expect_refused_with(", \"rope_theta\": 0", "rope_theta");
    expect_refused_with(", \"tie_word_embeddings\": 1", "tie_word_embeddings");
    expect_refused("{\"architectures\": [\"LlamaForCausalLM\"]}", "hidden_size");
    expect_refused("{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 1e9}", "hidden_size");
    expect_refused("{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64.5}", "hidden_size");
    expect_refused("{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": \"64\"}", "hidden_size");
    expect_refused("{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 1e999}", "finite");
}

#define SHAPE_FIELDS                                                                                         \
    "\"hidden_size\": 64, \"num_hidden_layers\": 3, \"num_attention_heads\": 8, \"num_key_value_heads\": "   \
    "2, "                                                                                                    \
    "\"intermediate_size\": 192, \"vocab_size\": 384, \"max_position_embeddings\": 512"

/* A config of that model_type; its architecture is not named. */
static gw_err_t parse_type(const char *type, const char *more, struct gw_model_config *c,
                           struct gw_err_ctx *ctx)
{
    char text[2048];
    int len = snprintf(text, sizeof text, "{\"model_type\": \"%s\", " SHAPE_FIELDS "%s}", type, more);
    *ctx = (struct gw_err_ctx){0};
    return gw_model_config_parse(text, (size_t)len, c, ctx);
}

static struct gw_model_config parse_type_ok(const char *type, const char *more)
{
    struct gw_model_config c;
    struct gw_err_ctx ctx;
    if (parse_type(type, more, &c, &ctx) != GW_OK) fail_msg("%s: %s", type, ctx.text);
    return c;
}

static void expect_type_refused(const char *type, const char *more, const char *word)
{
    struct gw_model_config c;
    struct gw_err_ctx ctx;
    assert_int_equal(parse_type(type, more, &c, &ctx), GW_ERR_INPUT);
    if (!strstr(ctx.text, word)) fail_msg("'%s' does not speak of '%s'", ctx.text, word);
}

static void test_parse_mistral_slides_in_every_layer(void **state)
{
    (void)state;
    struct gw_model_config c = parse_type_ok("mistral", ", \"sliding_window\": 64");
    assert_int_equal(gw_model_window(&c, 0), 64);
    assert_int_equal(gw_model_window(&c, 2), 64);
    assert_int_equal(gw_model_horizon(&c), 64);
    c = parse_type_ok("mistral", ", \"sliding_window\": null");
    assert_int_equal(gw_model_horizon(&c), 0);
    c = parse_type_ok("mistral", ""); /* 4096, beyond the context: as if there were none */
    assert_int_equal(gw_model_horizon(&c), 0);
    assert_int_equal(gw_model_window(&c, 1), 0);
    expect_type_refused("mistral", ", \"sliding_window\": 0", "sliding_window");
}

static void test_parse_qwen2_has_biases_and_slides_where_it_says_so(void **state)
{
    (void)state;
    struct gw_model_config c = parse_type_ok("qwen2", ", \"sliding_window\": 64, \"max_window_layers\": 1");
    assert_true(c.qkv_bias && !c.qk_norm);
    assert_int_equal(gw_model_window(&c, 2), 0); /* use_sliding_window is off */
    c = parse_type_ok("qwen2",
                      ", \"use_sliding_window\": true, \"sliding_window\": 64, \"max_window_layers\": 1");
    assert_int_equal(gw_model_window(&c, 0), 0);
    assert_int_equal(gw_model_window(&c, 1), 64);
    assert_int_equal(gw_model_horizon(&c), 0); /* one layer sees all */
    c = parse_type_ok("qwen2", ", \"use_sliding_window\": true, \"sliding_window\": 64, \"layer_types\": "
                               "[\"sliding_attention\", \"full_attention\", \"sliding_attention\"]");
    assert_int_equal(gw_model_window(&c, 0), 64);
    assert_int_equal(gw_model_window(&c, 1), 0);
    expect_type_refused("qwen2", ", \"layer_types\": [\"full_attention\"]", "layer_types");
    expect_type_refused("qwen2", ", \"layer_types\": [\"full_attention\", \"full_attention\", \"linear\"]",
                        "linear");
    expect_type_refused("qwen2",
                        ", \"layer_types\": [\"full_attention\", \"full_attention\", \"sliding_attention\"]",
                        "window");
}

static void test_parse_qwen3_norms_heads_of_its_own_size(void **state)
{
    (void)state;
    struct gw_model_config c = parse_type_ok("qwen3", "");
    assert_true(c.qk_norm && !c.qkv_bias);
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.experts, 0);
    expect_type_refused("qwen3", ", \"attention_bias\": true", "attention_bias");
}

static void test_parse_experts_by_architecture(void **state)
{
    (void)state;
    struct gw_model_config c =
        parse_type_ok("mixtral", ", \"num_local_experts\": 8, \"num_experts_per_tok\": 2");
    assert_int_equal(c.experts, 8);
    assert_int_equal(c.experts_taken, 2);
    assert_int_equal(c.intermediate, 0); /* no layer has an FFN for all rows */
    assert_int_equal(c.expert_intermediate, 192);
    assert_true(gw_model_has_layers(&c, true) && !gw_model_has_layers(&c, false));
    assert_true(c.weigh_taken && c.rope.theta == 1e6);
#define MOE ", \"num_experts\": 16, \"num_experts_per_tok\": 4, \"moe_intermediate_size\": 48"
    c = parse_type_ok("qwen3_moe", MOE);
    assert_int_equal(c.expert_intermediate, 48);
    assert_true(!c.weigh_taken && c.qk_norm);
    c = parse_type_ok("qwen3_moe", MOE ", \"norm_topk_prob\": true, \"mlp_only_layers\": []");
    assert_true(c.weigh_taken);
    expect_type_refused("qwen3_moe", "", "num_experts");
    expect_type_refused("mixtral", "", "num_local_experts");
    expect_type_refused("mixtral", ", \"num_local_experts\": 2, \"num_experts_per_tok\": 3",
                        "num_experts_per_tok");
    expect_type_refused("qwen2_moe", MOE, "Qwen3Moe"); /* the line says what is supported */
}

static void expect_sparse(const struct gw_model_config *c, const char *pattern)
{
    for (uint32_t i = 0; i < c->layers; i++) assert_int_equal(c->sparse[i], pattern[i] == 's');
}

static void test_parse_layers_without_experts_as_each_architecture_names_them(void **state)
{
    (void)state;
    struct gw_model_config c = parse_type_ok("qwen3_moe", MOE ", \"mlp_only_layers\": [0, 2, 60]");
    expect_sparse(&c, "dsd");
    assert_true(c.intermediate == 192 && c.expert_intermediate == 48);
    c = parse_type_ok("qwen3_moe", MOE ", \"decoder_sparse_step\": 2");
    expect_sparse(&c, "dsd");
    c = parse_type_ok("qwen3_moe", MOE ", \"decoder_sparse_step\": 3, \"mlp_only_layers\": [2]");
    expect_sparse(&c, "ddd");
    assert_true(c.experts == 0 && c.expert_intermediate == 0);
    c = parse_type_ok("mellum", MOE ", \"mlp_layer_types\": [\"dense\", \"sparse\", \"sparse\"]");
    expect_sparse(&c, "dss");
    c = parse_type_ok("mellum", MOE);
    expect_sparse(&c, "sss");
    expect_type_refused("mellum", MOE ", \"mlp_layer_types\": [\"dense\"]", "mlp_layer_types");
    expect_type_refused("mellum", MOE ", \"mlp_layer_types\": [\"dense\", \"odd\", \"sparse\"]", "odd");
    expect_type_refused("qwen3_moe", MOE ", \"mlp_only_layers\": [-1]", "mlp_only_layers");
    expect_type_refused("qwen3_moe", MOE ", \"mlp_only_layers\": \"0\"", "mlp_only_layers");
    expect_type_refused("qwen3_moe", MOE ", \"decoder_sparse_step\": 0", "decoder_sparse_step");
}

static void test_parse_mellum_slides_where_its_types_say_so(void **state)
{
    (void)state;
    struct gw_model_config c = parse_type_ok("mellum", MOE);
    assert_true(c.qk_norm && c.weigh_taken && c.head_dim == 128 && gw_model_horizon(&c) == 0);
    assert_true(!c.two_ropes && gw_model_rope(&c, 0)->theta == 5e5);
    c = parse_type_ok("mellum", MOE ", \"sliding_window\": 64, \"layer_types\": [\"full_attention\", "
                                    "\"sliding_attention\", \"sliding_attention\"]");
    assert_true(gw_model_window(&c, 0) == 0 && gw_model_window(&c, 1) == 64 && gw_model_window(&c, 2) == 64);
    assert_true(c.two_ropes && gw_model_rope(&c, 0)->theta == 5e5 && gw_model_rope(&c, 2)->theta == 1e4);
    c = parse_type_ok("mellum", ", \"num_local_experts\": 16, \"num_experts_per_tok\": 4, "
                                "\"moe_intermediate_size\": 48"); /* as newer files have it */
    assert_int_equal(c.experts, 16);
}

static void test_parse_yarn_takes_what_the_file_leaves_out_from_its_makers(void **state)
{
    (void)state;
    struct gw_model_config c = parse_ok(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0, "
                                        "\"original_max_position_embeddings\": 128}");
    assert_int_equal(c.rope.kind, GW_ROPE_YARN);
    assert_true(c.rope.original_context == 128 && c.rope.beta_fast == 32 && c.rope.beta_slow == 1);
    assert_true(c.rope.truncate && c.rope.magnitude > 1.1386 && c.rope.magnitude < 1.1387); /* 0.1 ln 4 + 1 */
    c = parse_ok(
        ", \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4.0, \"attention_factor\": 0.5}");
    assert_true(c.rope.magnitude == 0.5 && c.rope.original_context == 512);
    expect_refused_with(", \"rope_scaling\": {\"rope_type\": \"yarn\"}", "factor");
}

/* What depends on a sequence's length is fixed by the context, or refused. */
static void test_parse_rope_that_depends_on_length_is_fixed_or_refused(void **state)
{
    (void)state;
    struct gw_model_config c = parse_ok(", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4.0}");
    assert_int_equal(c.rope.kind, GW_ROPE_PLAIN);
    expect_refused_with(", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4.0, "
                        "\"original_max_position_embeddings\": 128}",
                        "length");
#define FACTORS "\"short_factor\": [1, 1, 1, 1], \"long_factor\": [1, 2, 3, 4]"
    c = parse_ok(", \"rope_scaling\": {\"rope_type\": \"longrope\", " FACTORS
                 ", \"original_max_position_embeddings\": 64}");
    assert_int_equal(c.rope.kind, GW_ROPE_LONG);
    assert_true(c.rope.divisors[3] == 4 && c.rope.factor == 8);
    c = parse_ok(", \"rope_scaling\": {\"rope_type\": \"longrope\", " FACTORS "}");
    assert_true(c.rope.divisors[3] == 1 && c.rope.magnitude == 1); /* trained on the whole context */
    expect_refused_with(", \"rope_scaling\": {\"rope_type\": \"longrope\", \"short_factor\": [1]}",
                        "short_factor");
}

static void test_parse_rope_parameters_by_layer_type(void **state)
{
    (void)state;
#define BOTH(full, sliding)                                                                                  \
    ", \"use_sliding_window\": true, \"sliding_window\": 64, \"max_window_layers\": 1, "                     \
    "\"rope_parameters\": {\"full_attention\": {\"rope_theta\": " full                                       \
    "}, \"sliding_attention\": {\"rope_theta\": " sliding "}}"
    struct gw_model_config c = parse_type_ok("qwen3", BOTH("5e4", "5e4"));
    assert_true(c.rope.theta == 5e4);
    assert_false(c.two_ropes);
    c = parse_type_ok("qwen3", BOTH("5e4", "6e4"));
    assert_true(c.two_ropes && gw_model_rope(&c, 0)->theta == 5e4 && gw_model_rope(&c, 1)->theta == 6e4);
    c = parse_type_ok("qwen3", ", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 7e4}}");
    assert_true(c.rope.theta == 7e4);
    expect_type_refused("qwen3", ", \"rope_parameters\": {\"sliding_attention\": {}}", "rope_parameters");
    expect_type_refused("qwen3", ", \"rope_scaling\": {\"chunked_attention\": {}}", "full_attention");
    expect_type_refused("qwen3", BOTH("5e4", "5e4, \"rope_type\": \"spiral\""), "spiral");
    c = parse_type_ok("qwen3", BOTH("5e4, \"rope_type\": \"linear\", \"factor\": 4", "5e4"));
    assert_true(gw_model_rope(&c, 0)->factor == 4 && gw_model_rope(&c, 1)->kind == GW_ROPE_PLAIN);
    expect_type_refused("qwen3", ", \"rope_parameters\": {\"partial_rotary_factor\": 0.5}",
                        "partial_rotary_factor");
}

static struct gw_cells cells_of(uint32_t heads, uint32_t kv_heads, uint32_t layers, uint32_t intermediate)
{
    struct gw_model_config c = {
        .heads = heads, .kv_heads = kv_heads, .layers = layers, .intermediate = intermediate};
    return gw_cells_of(&c);
}

static void test_cells_shares_divide_the_query_heads(void **state)
{
    (void)state;
    assert_int_equal(cells_of(32, 8, 32, 14336).shares, 8);
    assert_int_equal(cells_of(32, 32, 32, 11008).shares, 32); /* Llama 2 7B, MHA */
    assert_int_equal(cells_of(32, 4, 22, 5632).shares, 8);    /* TinyLlama */
    assert_int_equal(cells_of(28, 4, 28, 18944).shares, 7);
    assert_int_equal(cells_of(9, 3, 30, 1536).shares, 3); /* SmolLM */
    assert_int_equal(cells_of(6, 1, 4, 128).shares, 6);
    assert_int_equal(cells_of(1, 1, 1, 8).shares, 1);
    for (uint32_t kv = 1; kv <= 128; kv++) {
        for (uint32_t group = 1; group <= 8; group++) {
            uint32_t s = cells_of(kv * group, kv, 4, 1024).shares;
            assert_int_equal(kv * group % s, 0);
            assert_true(s >= kv && s <= (kv > 8 ? kv : 8));
        }
    }
}

static void test_cells_groups_cover_all_layers(void **state)
{
    (void)state;
    assert_int_equal(cells_of(8, 8, 1, 64).group_layers, 1);
    assert_int_equal(cells_of(8, 8, 6, 64).group_layers, 2);
    assert_int_equal(cells_of(8, 8, 32, 64).group_layers, 4);
    assert_int_equal(cells_of(8, 8, 30, 64).group_layers, 5);
    assert_int_equal(cells_of(8, 8, 22, 64).group_layers, 4);
    for (uint32_t layers = 1; layers <= 200; layers++) {
        struct gw_cells c = cells_of(8, 8, layers, 64);
        assert_true(c.groups * c.group_layers >= layers);
        assert_true((c.groups - 1) * c.group_layers < layers);
        assert_true(c.group_layers <= 8);
    }
}

static void test_cells_ffn_share_is_the_widest_cut(void **state)
{
    (void)state;
    assert_int_equal(cells_of(32, 8, 32, 14336).ffn_cols, 1792);
    assert_int_equal(cells_of(32, 32, 32, 11008).ffn_cols, 344);
    assert_int_equal(cells_of(8, 8, 2, 50).ffn_cols, 8); /* 25 units over 8: 3 or 4 of them */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_minimal_config_takes_defaults),
        cmocka_unit_test(test_parse_explicit_fields_override),
        cmocka_unit_test(test_parse_llama3_rope_in_both_forms),
        cmocka_unit_test(test_parse_unsupported_features_are_refused_by_name),
        cmocka_unit_test(test_parse_numbers_out_of_bounds_are_refused_by_name),
        cmocka_unit_test(test_parse_mistral_slides_in_every_layer),
        cmocka_unit_test(test_parse_qwen2_has_biases_and_slides_where_it_says_so),
        cmocka_unit_test(test_parse_qwen3_norms_heads_of_its_own_size),
        cmocka_unit_test(test_parse_experts_by_architecture),
        cmocka_unit_test(test_parse_layers_without_experts_as_each_architecture_names_them),
        cmocka_unit_test(test_parse_mellum_slides_where_its_types_say_so),
        cmocka_unit_test(test_parse_yarn_takes_what_the_file_leaves_out_from_its_makers),
        cmocka_unit_test(test_parse_rope_that_depends_on_length_is_fixed_or_refused),
        cmocka_unit_test(test_parse_rope_parameters_by_layer_type),
        cmocka_unit_test(test_cells_shares_divide_the_query_heads),
        cmocka_unit_test(test_cells_groups_cover_all_layers),
        cmocka_unit_test(test_cells_ffn_share_is_the_widest_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
