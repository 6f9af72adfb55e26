/* worker/engine against Hugging Face transformers: logits and greedy tokens of the goldens that
 * tests/models/make_goldens.py wrote, under cpu-f32-2 (transformers ran in f32 on the same widened weights).
 */
#include "tests/lib/engine_fixture.h"

#include <math.h>
#include <stdio.h>

#include "base/file.h"
#include "base/json.h"

#define GOLDEN_BYTES_MAX ((size_t)16 << 20)
#define GOLDEN_IDS_MAX   512
/* Relative to the largest logit: two f32 implementations differ by about 1e-6 per layer; a wrong formula by
 * far more. */
#define LOGIT_TOLERANCE 1e-4

struct golden {
    cJSON *json;
    float *logits, *next; /* rows in the file's order */
};

static void golden_open(struct golden *g, const char *dir)
{
    char path[512];
    size_t len;
    snprintf(path, sizeof path, "%s/golden.json", dir);
    assert_int_equal(gw_json_parse_file(path, GOLDEN_BYTES_MAX, &g->json, NULL), GW_OK);
    snprintf(path, sizeof path, "%s/golden_logits.f32", dir);
    assert_int_equal(gw_file_read(path, GOLDEN_BYTES_MAX, (char **)&g->logits, &len, NULL), GW_OK);
    g->next = g->logits;
}

static void golden_close(struct golden *g)
{
    cJSON_Delete(g->json);
    free(g->logits);
}

static uint32_t ids_of(const cJSON *list, int index, uint32_t *out)
{
    const cJSON *item, *row = cJSON_GetArrayItem(list, index);
    uint32_t n = 0;
    cJSON_ArrayForEach(item, row)
    {
        assert_true(n < GOLDEN_IDS_MAX);
        out[n++] = (uint32_t)item->valueint;
    }
    return n;
}

static void expect_close(const float *want, const float *got, uint32_t vocab)
{
    double scale = 0, worst = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        scale = fmax(scale, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)want[i] - (double)got[i]));
        assert_true(isfinite(got[i]));
    }
    if (worst > LOGIT_TOLERANCE * scale) fail_msg("logits differ by %g of scale %g", worst, scale);
}

/* The logits behind the prompt's last `rows` positions: prompts cut there, one token drawn of each. */
static void check_logits(struct fixture *f, struct golden *g, const uint32_t *prompt, uint32_t len,
                         uint32_t rows)
{
    uint32_t vocab = f->model->config.vocab;
    for (uint32_t cut = len - rows + 1; cut <= len; cut++) {
        struct gw_request r = fixture_request(cut, prompt, cut, 1);
        fixture_submit(f, &r, 1, NULL, NULL);
        fixture_drain(f);
        expect_close(g->next, f->last_row, vocab);
        g->next += vocab;
    }
    f->runs_len = 0;
}

static void check_greedy(struct fixture *f, const uint32_t *prompt, uint32_t len, const uint32_t *want,
                         uint32_t n)
{
    struct gw_request r = fixture_request(1, prompt, len, n);
    fixture_submit(f, &r, 1, NULL, NULL);
    fixture_drain(f);
    const struct fixture_branch *b = &f->runs[0].branches[0];
    assert_int_equal(b->len, n);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(b->records[i].id, want[i]);
    f->runs_len = 0;
}

static void check(const char *model_dir, const char *golden_dir)
{
    struct fixture f;
    struct golden g;
    struct solo_config config = fixture_config();
    config.profile = "cpu-f32-2";
    golden_open(&g, golden_dir);
    fixture_open(&f, model_dir, config);
    const cJSON *prompts = cJSON_GetObjectItem(g.json, "prompts"),
                *greedy = cJSON_GetObjectItem(g.json, "greedy");
    const cJSON *rows = cJSON_GetObjectItem(g.json, "logit_rows");
    int count = cJSON_GetArraySize(prompts);
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        uint32_t prompt[GOLDEN_IDS_MAX], want[GOLDEN_IDS_MAX];
        uint32_t len = ids_of(prompts, i, prompt), n = ids_of(greedy, i, want);
        check_logits(&f, &g, prompt, len, (uint32_t)cJSON_GetArrayItem(rows, i)->valueint);
        check_greedy(&f, prompt, len, want, n);
    }
    fixture_close(&f);
    golden_close(&g);
}

#define TINY_TEST(name)                                                                                      \
    static void test_engine_tiny_##name##_gives_the_golden(void **state)                                     \
    {                                                                                                        \
        (void)state;                                                                                         \
        check("tests/data/tiny/" #name, "tests/data/tiny/" #name);                                           \
    }
TINY_TEST(mha64)
TINY_TEST(gqa64)
TINY_TEST(mqa64)
TINY_TEST(gqa128)
TINY_TEST(mha128)
TINY_TEST(mqa128)
TINY_TEST(linear)
TINY_TEST(dynamic)
TINY_TEST(yarn)
TINY_TEST(longrope)
TINY_TEST(qwen2)
TINY_TEST(qwen2new)
TINY_TEST(mistral)
TINY_TEST(qwen3)
TINY_TEST(mixtral)
TINY_TEST(qwen3moe)
TINY_TEST(qwen3moe_raw)
TINY_TEST(qwen3moe_mixed)
TINY_TEST(mellum)

static void test_engine_shipped_model_gives_the_golden(void **state)
{
    (void)state;
    check("tests/models/tattler-3m", "tests/data/tattler_golden");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_tiny_mha64_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_gqa64_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_mqa64_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_gqa128_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_mha128_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_mqa128_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_linear_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_dynamic_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_yarn_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_longrope_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_qwen2_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_qwen2new_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_mistral_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_qwen3_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_mixtral_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_qwen3moe_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_qwen3moe_raw_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_qwen3moe_mixed_gives_the_golden),
        cmocka_unit_test(test_engine_tiny_mellum_gives_the_golden),
        cmocka_unit_test(test_engine_shipped_model_gives_the_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
