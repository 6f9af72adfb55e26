/* controller/layout_model: bytes of models that people use, by the numbers of parameters that their makers publish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "controller/layout_model.h"

static struct gw_plan_model parse_as(const char *text, enum gw_weight_format weights, enum gw_kv_format kv)
{
    struct gw_plan_model m;
    struct gw_err_ctx ctx = {0};
    cJSON *json = NULL;
    assert_int_equal(gw_json_parse(text, strlen(text), 1 << 16, &json, NULL), GW_OK);
    if (gw_plan_model_from_json(json, weights, kv, &m, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    cJSON_Delete(json);
    return m;
}

static struct gw_plan_model parse_ok(const char *text)
{
    return parse_as(text, GW_WEIGHT_FILE, GW_KV_FILE);
}

static struct gw_cell_rect all_of(const struct gw_plan_model *m)
{
    return (struct gw_cell_rect){0, (uint16_t)m->groups, 0, (uint16_t)m->shares};
}

/* bf16 files; norms and biases are held in f32, which is little. */
static void expect_model(const struct gw_plan_model *m, double parameters, double kv_token_bytes)
{
    double bytes = (double)gw_plan_weight_bytes(m, all_of(m));
    if (fabs(bytes / (2 * parameters) - 1) > 3e-4)
        fail_msg("%.0f bytes for %.0f parameters", bytes, parameters);
    assert_true((double)gw_plan_kv_token_bytes(m, all_of(m)) == kv_token_bytes);
}

static void test_model_of_mistral_7b_has_its_bytes(void **state)
{
    (void)state;
    struct gw_plan_model m =
        parse_ok("{\"model_type\": \"mistral\", \"hidden_size\": 4096, \"num_hidden_layers\": 32, "
                 "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"intermediate_size\": 14336, "
                 "\"vocab_size\": 32000, \"torch_dtype\": \"bfloat16\"}");
    expect_model(&m, 7241732096.0, 32 * 8 * 128 * 2 * 2);
    assert_true(gw_plan_idle_bytes(&m, all_of(&m)) == 0);
}

static void test_model_in_8_bits_has_a_byte_of_each_weight_and_kv_as_before(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model_type\": \"mistral\", \"hidden_size\": 4096, \"num_hidden_layers\": 32, "
        "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"intermediate_size\": 14336, "
        "\"vocab_size\": 32000, \"torch_dtype\": \"bfloat16\"}";
    struct gw_plan_model plain = parse_ok(text), m = parse_as(text, GW_WEIGHT_INT8, GW_KV_FILE);
    /* rows with a head of 8 bytes: q, k, v, gate, up; o and down at each of 8 shares; embedding and head */
    double rows = 32.0 * (4096 + 2 * 1024 + 2 * 14336 + 8 * 2 * 4096) + 2 * 32000;
    double norms = 4.0 * 4096 * 2 * 32, want = 7241732096.0 + 8 * rows + norms;
    double bytes = (double)gw_plan_weight_bytes(&m, all_of(&m));
    if (fabs(bytes / want - 1) > 1e-4) fail_msg("%.0f bytes, not %.0f", bytes, want);
    assert_true(m.kv_token_bytes == plain.kv_token_bytes && m.weight_bytes == 1);
    m = parse_as(text, GW_WEIGHT_FP8, GW_KV_FILE); /* heads of 4 bytes */
    want -= 4 * rows;
    bytes = (double)gw_plan_weight_bytes(&m, all_of(&m));
    if (fabs(bytes / want - 1) > 1e-4) fail_msg("%.0f bytes, not %.0f", bytes, want);
}

static void test_model_with_kv_in_int8_has_a_byte_of_each_number_and_scales(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model_type\": \"mistral\", \"hidden_size\": 4096, \"num_hidden_layers\": 32, "
        "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"intermediate_size\": 14336, "
        "\"vocab_size\": 32000, \"torch_dtype\": \"bfloat16\"}";
    struct gw_plan_model plain = parse_ok(text), m = parse_as(text, GW_WEIGHT_FILE, GW_KV_INT8);
    assert_int_equal(gw_plan_kv_token_bytes(&m, all_of(&m)), 32 * 8 * 2 * (128 + 4));
    assert_int_equal(gw_plan_weight_bytes(&m, all_of(&m)), gw_plan_weight_bytes(&plain, all_of(&plain)));
}

static void test_model_of_qwen2_5_7b_has_its_bytes(void **state)
{
    (void)state;
    struct gw_plan_model m =
        parse_ok("{\"model_type\": \"qwen2\", \"hidden_size\": 3584, \"num_hidden_layers\": 28, "
                 "\"num_attention_heads\": 28, \"num_key_value_heads\": 4, \"intermediate_size\": 18944, "
                 "\"vocab_size\": 152064, \"torch_dtype\": \"bfloat16\"}");
    expect_model(&m, 7615616512.0, 28 * 4 * 128 * 2 * 2);
}

static void test_model_of_qwen3_8b_has_its_bytes(void **state)
{
    (void)state;
    struct gw_plan_model m =
        parse_ok("{\"model_type\": \"qwen3\", \"hidden_size\": 4096, \"num_hidden_layers\": 36, "
                 "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"head_dim\": 128, "
                 "\"intermediate_size\": 12288, \"vocab_size\": 151936, \"torch_dtype\": \"bfloat16\"}");
    expect_model(&m, 8190735360.0, 36 * 8 * 128 * 2 * 2);
}

static void test_model_of_mixtral_8x7b_has_all_experts_and_uses_two(void **state)
{
    (void)state;
    struct gw_plan_model m =
        parse_ok("{\"model_type\": \"mixtral\", \"hidden_size\": 4096, \"num_hidden_layers\": 32, "
                 "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"intermediate_size\": 14336, "
                 "\"vocab_size\": 32000, \"num_local_experts\": 8, \"num_experts_per_tok\": 2, "
                 "\"torch_dtype\": \"bfloat16\"}");
    expect_model(&m, 46702792704.0, 32 * 8 * 128 * 2 * 2);
    /* 12.88 B parameters are active */
    double active = (double)gw_plan_weight_bytes(&m, all_of(&m)) - gw_plan_idle_bytes(&m, all_of(&m));
    assert_true(fabs(active / 2 / 12.88e9 - 1) < 2e-3);
}

static void test_model_of_qwen3_30b_a3b_has_its_bytes(void **state)
{
    (void)state;
    struct gw_plan_model m =
        parse_ok("{\"model_type\": \"qwen3_moe\", \"hidden_size\": 2048, \"num_hidden_layers\": 48, "
                 "\"num_attention_heads\": 32, \"num_key_value_heads\": 4, \"head_dim\": 128, "
                 "\"intermediate_size\": 6144, \"moe_intermediate_size\": 768, \"vocab_size\": 151936, "
                 "\"num_experts\": 128, \"num_experts_per_tok\": 8, \"torch_dtype\": \"bfloat16\"}");
    expect_model(&m, 30532122624.0, 48 * 4 * 128 * 2 * 2);
}

/* Two dense layers before two groups of two: what a stage holds depends on where it is. */
static void test_model_with_some_layers_without_experts_counts_each_as_it_is(void **state)
{
    (void)state;
    struct gw_plan_model m =
        parse_ok("{\"model_type\": \"mellum\", \"hidden_size\": 1024, \"num_hidden_layers\": 4, "
                 "\"num_attention_heads\": 8, \"num_key_value_heads\": 8, \"head_dim\": 128, "
                 "\"intermediate_size\": 4096, \"moe_intermediate_size\": 512, \"vocab_size\": 2048, "
                 "\"num_local_experts\": 16, \"num_experts_per_tok\": 4, \"torch_dtype\": \"bfloat16\", "
                 "\"mlp_layer_types\": [\"dense\", \"sparse\", \"sparse\", \"sparse\"]}");
    const uint64_t attention = 2 * 4 * 1024 * 1024, norms = 4 * 2 * (1024 + 128), table = 2 * 2048 * 1024;
    const uint64_t dense = 2 * 3 * 4096 * 1024, expert = 2 * 3 * 512 * 1024, router = 2 * 16 * 1024;
    struct gw_cell_rect low = {0, 1, 0, 8}, high = {1, 2, 0, 8}, half = {0, 1, 4, 8};
    assert_int_equal(gw_plan_weight_bytes(&m, low),
                     2 * attention + 2 * norms + dense + 16 * expert + router + table);
    assert_int_equal(gw_plan_weight_bytes(&m, high), 2 * (attention + norms + 16 * expert + router) + table);
    /* norms and routers are at every rank whole */
    assert_int_equal(gw_plan_weight_bytes(&m, half),
                     attention + 2 * norms + dense / 2 + 8 * expert + router + table / 2);
    assert_true(gw_plan_idle_bytes(&m, low) == 12.0 * (double)expert &&
                gw_plan_idle_bytes(&m, high) == 24.0 * (double)expert);
    assert_int_equal(gw_plan_weight_bytes(&m, all_of(&m)),
                     gw_plan_weight_bytes(&m, low) + gw_plan_weight_bytes(&m, high));
    assert_true(gw_plan_even(&m));
}

static void test_model_without_its_experts_is_refused_by_name(void **state)
{
    (void)state;
    static const char text[] = "{\"model_type\": \"mixtral\", \"hidden_size\": 64, \"num_hidden_layers\": 2, "
                               "\"num_attention_heads\": 8, \"intermediate_size\": 96, \"vocab_size\": 384}";
    struct gw_plan_model m;
    struct gw_err_ctx ctx = {0};
    cJSON *json = NULL;
    assert_int_equal(gw_json_parse(text, strlen(text), 1 << 16, &json, NULL), GW_OK);
    assert_int_equal(gw_plan_model_from_json(json, GW_WEIGHT_FILE, GW_KV_FILE, &m, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "num_local_experts"));
    cJSON_Delete(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_of_mistral_7b_has_its_bytes),
        cmocka_unit_test(test_model_in_8_bits_has_a_byte_of_each_weight_and_kv_as_before),
        cmocka_unit_test(test_model_with_kv_in_int8_has_a_byte_of_each_number_and_scales),
        cmocka_unit_test(test_model_of_qwen2_5_7b_has_its_bytes),
        cmocka_unit_test(test_model_of_qwen3_8b_has_its_bytes),
        cmocka_unit_test(test_model_of_mixtral_8x7b_has_all_experts_and_uses_two),
        cmocka_unit_test(test_model_of_qwen3_30b_a3b_has_its_bytes),
        cmocka_unit_test(test_model_with_some_layers_without_experts_counts_each_as_it_is),
        cmocka_unit_test(test_model_without_its_experts_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
