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
    assert_true(c.rope_theta == 10000);
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
    assert_true(c.rope_theta == 5e5);
}

static void expect_llama3(const struct gw_model_config *c)
{
    assert_int_equal(c->rope.kind, GW_ROPE_LLAMA3);
    assert_true(c->rope.factor == 8 && c->rope.low_freq_factor == 1 && c->rope.high_freq_factor == 4);
    assert_true(c->rope.original_context == 8192 && c->rope_theta == 5e5);
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
    assert_true(c.rope_theta == 5e5);
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
    assert_int_equal(cells_of(32, 8, 32, 14336).share_cols, 1792);
    assert_int_equal(cells_of(32, 32, 32, 11008).share_cols, 344);
    assert_int_equal(cells_of(8, 8, 2, 50).share_cols, 8); /* 25 units over 8: 3 or 4 of them */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_minimal_config_takes_defaults),
        cmocka_unit_test(test_parse_explicit_fields_override),
        cmocka_unit_test(test_parse_llama3_rope_in_both_forms),
        cmocka_unit_test(test_parse_unsupported_features_are_refused_by_name),
        cmocka_unit_test(test_parse_numbers_out_of_bounds_are_refused_by_name),
        cmocka_unit_test(test_cells_shares_divide_the_query_heads),
        cmocka_unit_test(test_cells_groups_cover_all_layers),
        cmocka_unit_test(test_cells_ffn_share_is_the_widest_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
