/* worker/: profiles that are asked for, exactness: what a request gets depends on nothing but itself, dense and with experts, with
 * quantized weights (int8, fp8), KV of int8, or products as AMX's tiles add them. In a batch, in chunks, on another instruction set,
 * on every layout of ranks it is what it is alone: the same records, the same bits of the logits. And it is not what the model's own
 * profile gives. */
#include "tests/lib/mixed_requests.h"
#include "tests/lib/pipeline_fixture.h"

#define SEED     23
#define REQUESTS 5 /* the first one's prompt is longer than an attention chunk */

struct subject {
    const char *model, *profile;
    const char *layouts[4];
};

static const struct subject dense = {.model = "tests/data/tiny/gqa64",
                                     .profile = "cpu-bf16-int8-1",
                                     .layouts = {"4+4", "3+3+2", "8/8", "3+5/8"}};
static const struct subject experts = {
    .model = "tests/data/tiny/mixtral", .profile = "cpu-f32-int8-1", .layouts = {"4+4", "3+3+2"}};
static const struct subject fp8_dense = {
    .model = "tests/data/tiny/gqa64", .profile = "cpu-bf16-fp8-1", .layouts = {"3+3+2", "3+5/8"}};
static const struct subject fp8_experts = {
    .model = "tests/data/tiny/mixtral", .profile = "cpu-f32-fp8-kv8-1", .layouts = {"4+4"}};
static const struct subject kv = {
    .model = "tests/data/tiny/gqa64", .profile = "cpu-bf16-kv8-1", .layouts = {"3+3+2", "3+5/8"}};
static const struct subject kv_and_weights = {.model = "tests/data/tiny/mistral", /* with a sliding window */
                                              .profile = "cpu-f32-int8-kv8-1",
                                              .layouts = {"4+4"}};
static const struct subject tiles = {
    .model = "tests/data/tiny/gqa64", .profile = "cpu-bf16amx-1", .layouts = {"4+4", "3+5/8"}};

static struct solo_config config_of(const struct subject *s)
{
    struct solo_config c = fixture_config();
    c.profile = s->profile;
    c.kv_tokens = 4096;
    return c;
}

static void submit_all(struct fixture *f, bool drain)
{
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct gw_request q = mixed_request(SEED, i, f->model->config.vocab);
        fixture_submit(f, &q, 1, NULL, NULL);
        if (drain) fixture_drain(f);
    }
}

/* Alone, one after the other, on one thread. */
static void open_reference(struct fixture *f, const struct subject *s)
{
    struct solo_config c = config_of(s);
    c.threads = 1;
    fixture_open(f, s->model, c);
    submit_all(f, true);
}

static void compare_all(const struct fixture *want, struct fixture *got)
{
    for (uint32_t i = 0; i < REQUESTS; i++)
        fixture_expect_same(&want->runs[i].branches[0], &fixture_run_of(got, i + 1)->branches[0], 0,
                            mixed_top_n(SEED, i, want->model->config.vocab));
}

static void expect_same_with(const struct fixture *want, const struct subject *s, struct solo_config config)
{
    struct fixture f;
    fixture_open(&f, s->model, config);
    submit_all(&f, false);
    fixture_drain(&f);
    compare_all(want, &f);
    fixture_close(&f);
}

static void test_batches_and_chunks_give_the_same_bits(void **state)
{
    const struct subject *s = *state;
    struct fixture want;
    struct solo_config c = config_of(s);
    open_reference(&want, s);
    expect_same_with(&want, s, c);
    c.max_chunk = 7;
    expect_same_with(&want, s, c);
    c.max_chunk = 64;
    c.max_batch_tokens = 23;
    c.max_sequences = 3;
    expect_same_with(&want, s, c);
    fixture_close(&want);
}

static void test_instruction_sets_give_the_same_bits(void **state)
{
    static const enum gw_isa isas[] = {GW_ISA_C, GW_ISA_AVX2, GW_ISA_AVX512};
    const struct subject *s = *state;
    struct fixture want;
    struct solo_config c = config_of(s);
    open_reference(&want, s);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const struct gw_ops *ops;
        c.isa = isas[i];
        if (gw_ops_cpu(s->profile, c.isa, &ops, NULL) != GW_OK) continue;
        expect_same_with(&want, s, c);
    }
    fixture_close(&want);
}

static void test_layouts_give_the_same_bits(void **state)
{
    const struct subject *s = *state;
    struct fixture want;
    open_reference(&want, s);
    for (size_t i = 0; i < 4 && s->layouts[i]; i++) {
        struct rank_threads ranks;
        struct fixture f;
        pipeline_open(&ranks, &f, want.model, s->layouts[i], config_of(s), i % 2);
        submit_all(&f, false);
        fixture_drain(&f);
        compare_all(&want, &f);
        pipeline_close(&ranks, &f);
    }
    fixture_close(&want);
}

/* Else all of this would show nothing of the profile. */
static void test_profile_of_the_model_gives_other_bits(void **state)
{
    const struct subject *s = *state;
    struct fixture asked, plain;
    struct solo_config c = config_of(s);
    open_reference(&asked, s);
    c.profile = NULL;
    fixture_open(&plain, s->model, c);
    submit_all(&plain, true);
    for (uint32_t i = 0; i < REQUESTS; i++)
        assert_true(asked.runs[i].branches[0].records[0].logits !=
                    plain.runs[i].branches[0].records[0].logits);
    fixture_close(&plain);
    fixture_close(&asked);
}

/* isas: every instruction set, too. Pages of int8 on all of them are test_kernels_kv8's. */
static int run(const char *name, const struct subject *s, bool isas)
{
    void *state = (void *)(uintptr_t)s;
    const struct CMUnitTest some[] = {
        cmocka_unit_test_prestate(test_batches_and_chunks_give_the_same_bits, state),
        cmocka_unit_test_prestate(test_layouts_give_the_same_bits, state),
        cmocka_unit_test_prestate(test_profile_of_the_model_gives_other_bits, state),
    };
    const struct CMUnitTest all[] = {
        some[0], cmocka_unit_test_prestate(test_instruction_sets_give_the_same_bits, state), some[1],
        some[2]};
    return isas ? cmocka_run_group_tests_name(name, all, NULL, NULL)
                : cmocka_run_group_tests_name(name, some, NULL, NULL);
}

int main(void)
{
    int failed = run("int8_dense", &dense, true);
    failed += run("int8_experts", &experts, true);
    failed += run("fp8_dense", &fp8_dense, true);
    failed += run("fp8_experts", &fp8_experts, false);
    failed += run("int8_kv", &kv, false);
    failed += run("bf16amx", &tiles, true);
    return failed + run("int8_kv_and_weights", &kv_and_weights, false);
}
