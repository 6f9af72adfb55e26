/* The worker's engine over the CUDA table on the host shim: whole forward passes of tiny models, where device memory is apart
 * from the host's. What a request gets depends on nothing but itself, and is near to what the CPU gives. */
#include "tests/lib/engine_fixture.h"

#include <math.h>

#include "tests/lib/cuda_shim_report.h"
#include "tests/lib/shim_device.h"

#define GQA64   "tests/data/tiny/gqa64"    /* two KV heads of 64, four query heads each */
#define QWEN2   "tests/data/tiny/qwen2"    /* biases */
#define MISTRAL "tests/data/tiny/mistral"  /* windows */
#define MHA64   "tests/data/tiny/mha64"    /* not bf16 */
#define MOE     "tests/data/tiny/qwen3moe" /* experts, norms of q and k */

#define PROMPT 19 /* two blocks, the second one partial */
#define TOKENS 2  /* one step of decoding behind the prompt's */
/* bf16 activations are rounded at 2^-9 in some hundred steps; of the largest logit (test_engine_reference.c). */
#define NEAR 3e-2

/* Rooms that a step fills: what it is told is begun anew, scratch holds two sequences at a time. */
#define STEP_BYTES    8192
#define SCRATCH_BYTES 65536

static struct gw_request request_of(uint64_t id, uint32_t vocab)
{
    uint32_t ids[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++) ids[i] = (uint32_t)(id * 131 + i * 37) % vocab;
    struct gw_request q = fixture_request(id, ids, (uint32_t)(PROMPT - id), TOKENS);
    q.sampling.logprobs = true;
    q.sampling.temperature = id % 2 ? 0.0f : 0.8f;
    q.sampling.seed = id;
    return q;
}

/* What a test is about: a model, and in which form its matrices and pages are kept. */
struct subject {
    const char *model;
    enum gw_dtype act, weight, kv;
    const char *cpu; /* profile of the CPU's twin */
};

static const struct subject biases = {QWEN2, GW_BF16, GW_BF16, GW_BF16, "cpu-bf16dot-2"};
static const struct subject windows = {MISTRAL, GW_BF16, GW_BF16, GW_BF16, "cpu-bf16dot-2"};
static const struct subject experts = {MOE, GW_BF16, GW_BF16, GW_BF16, "cpu-bf16dot-2"};
static const struct subject groups = {GQA64, GW_BF16, GW_BF16, GW_BF16, "cpu-bf16dot-2"};
static const struct subject int8_experts = {MOE, GW_BF16, GW_I8, GW_BF16, "cpu-bf16-int8-1"};
static const struct subject fp8_experts = {MOE, GW_BF16, GW_F8, GW_BF16, "cpu-bf16-fp8-1"};
static const struct subject fp8_and_pages = {GQA64, GW_BF16, GW_F8, GW_I8, "cpu-bf16-fp8-kv8-1"};
static const struct subject int8_pages = {GQA64, GW_BF16, GW_BF16, GW_I8, "cpu-bf16-kv8-1"};
static const struct subject int8_both = {MISTRAL, GW_BF16, GW_I8, GW_I8, "cpu-bf16-int8-kv8-1"};
static const struct subject int8_of_f32 = {MHA64, GW_F32, GW_I8, GW_I8, "cpu-f32-int8-kv8-1"};

static struct solo_config config_as(struct shim_device *s, const struct subject *as, size_t step_bytes,
                                    size_t scratch_bytes)
{
    struct solo_config c = fixture_config();
    struct gw_err_ctx ctx = {0};
    memset(s, 0, sizeof *s);
    if (shim_device_open_as(s, step_bytes, scratch_bytes, as->act, as->weight, as->kv, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
    c.ops = s->ops;
    c.device = s->device;
    c.kv_tokens = 512;
    c.max_batch_tokens = 64;
    c.max_sequences = 8;
    return c;
}

static struct solo_config config_on(struct shim_device *s, size_t step_bytes, size_t scratch_bytes)
{
    return config_as(s, &groups, step_bytes, scratch_bytes);
}

static void open_engine(struct fixture *f, struct shim_device *s, const struct subject *as,
                        uint32_t max_chunk)
{
    struct solo_config c = config_as(s, as, STEP_BYTES, SCRATCH_BYTES);
    c.max_chunk = max_chunk;
    fixture_open(f, as->model, c);
}

static void close_engine(struct fixture *f, struct shim_device *s)
{
    fixture_close(f);
    assert_int_equal(shim_device_close(s), 0);
}

static void submit(struct fixture *f, uint64_t first, uint64_t last)
{
    for (uint64_t id = first; id <= last; id++) {
        struct gw_request q = request_of(id, f->model->config.vocab);
        fixture_submit(f, &q, 1, NULL, NULL);
    }
}

/* ---- near to the CPU ---- */

/* The logits behind the prompt, of the CPU. */
static void cpu_logits(const struct subject *as, float *out)
{
    struct fixture f;
    struct solo_config c = fixture_config();
    c.kv_tokens = 512;
    c.profile = as->cpu;
    fixture_open(&f, as->model, c);
    struct gw_request q = request_of(1, f.model->config.vocab);
    q.sampling.max_tokens = 1;
    fixture_submit(&f, &q, 1, NULL, NULL);
    fixture_drain(&f);
    memcpy(out, f.last_row, f.model->config.vocab * sizeof *out);
    fixture_close(&f);
}

static void expect_near_cpu(void **state)
{
    struct fixture f;
    struct shim_device s;
    double scale = 0, worst = 0;
    open_engine(&f, &s, *state, 0);
    uint32_t vocab = f.model->config.vocab;
    float *want = malloc(vocab * sizeof *want);
    assert_non_null(want);
    cpu_logits(*state, want);
    struct gw_request q = request_of(1, vocab);
    q.sampling.max_tokens = 1;
    fixture_submit(&f, &q, 1, NULL, NULL);
    fixture_drain(&f);
    for (uint32_t i = 0; i < vocab; i++) {
        scale = fmax(scale, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)want[i] - (double)f.last_row[i]));
    }
    if (!(worst <= NEAR * scale)) fail_msg("logits differ by %g of scale %g", worst, scale);
    free(want);
    close_engine(&f, &s);
}

/* ---- the CPU's bits ---- */

static const struct gw_ops *host_table; /* of the CPU's twin */

/* The shim's device memory is the heap's. */
static void attention_by_host(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride,
                              size_t q_at, uint32_t heads, const struct gw_kv_layer *kv, float scale,
                              const struct gw_seq_rows *seqs, uint32_t seqs_len)
{
    host_table->attention(gw_device_host(dev), out, qkv, qkv_stride, q_at, heads, kv, scale, seqs, seqs_len);
}

/* The logits behind the prompt, by this table of the device's. */
static void expect_bits_of_the_cpu(const struct subject *as, struct shim_device *s, struct solo_config c)
{
    struct fixture f;
    fixture_open(&f, as->model, c);
    uint32_t vocab = f.model->config.vocab;
    float *want = malloc(vocab * sizeof *want);
    assert_non_null(want);
    cpu_logits(as, want);
    struct gw_request q = request_of(1, vocab);
    q.sampling.max_tokens = 1;
    fixture_submit(&f, &q, 1, NULL, NULL);
    fixture_drain(&f);
    assert_memory_equal(f.last_row, want, vocab * sizeof *want);
    free(want);
    close_engine(&f, s);
}

static void expect_cpu_bits(void **state)
{
    struct shim_device s;
    struct solo_config c = config_as(&s, *state, STEP_BYTES, SCRATCH_BYTES);
    expect_bits_of_the_cpu(*state, &s, c);
}

/* Of int8 weights attention alone has not the CPU's bits: with the CPU's in its place, a whole model has. */
static void expect_cpu_bits_but_for_attention(void **state)
{
    const struct subject *as = *state;
    struct shim_device s;
    struct solo_config c = config_as(&s, as, STEP_BYTES, SCRATCH_BYTES);
    struct gw_ops mixed = *s.ops;
    assert_int_equal(gw_ops_cpu(as->cpu, GW_ISA_AUTO, &host_table, NULL), GW_OK);
    mixed.attention = attention_by_host;
    c.ops = &mixed;
    expect_bits_of_the_cpu(as, &s, c);
}

/* ---- the same bits ---- */

static void expect_same(struct fixture *want, struct fixture *got, uint64_t first, uint64_t last)
{
    for (uint64_t id = first; id <= last; id++)
        fixture_expect_same(&fixture_run_of(want, id)->branches[0], &fixture_run_of(got, id)->branches[0], 0,
                            0);
}

/* Together, in chunks, one's prompt beside the other's decoding: as alone. */
static void expect_same_in_batches_and_chunks(void **state)
{
    struct fixture alone, together;
    struct shim_device s, t;
    open_engine(&alone, &s, *state, 0);
    submit(&alone, 1, 1);
    fixture_drain(&alone);
    submit(&alone, 2, 2);
    fixture_drain(&alone);
    open_engine(&together, &t, *state, 9);
    submit(&together, 2, 2);
    fixture_step(&together);
    submit(&together, 1, 1);
    fixture_drain(&together);
    expect_same(&alone, &together, 1, 2);
    close_engine(&together, &t);
    close_engine(&alone, &s);
}

/* ---- what is drawn ---- */

#define LENGTH 2 /* tokens of each */

/* Of each way to be drawn: greedy, by score, among the candidates of a part, from a row that no part decides, from one that is
 * wanted whole; with edits and without. */
static struct gw_request drawn_request(uint64_t id, uint32_t vocab)
{
    static const struct gw_sampling ways[] = {{.top_p = 1, .top_logprobs = 5},
                                              {.top_p = 1, .temperature = 1.5f, .presence_penalty = 1},
                                              {.top_p = 0.9f, .temperature = 0.4f, .frequency_penalty = 0.7f},
                                              {.top_p = 0.999f, .temperature = 9},
                                              {.top_p = 0.5f, .top_k = 300, .temperature = 2}};
    const struct gw_logit_bias bias[] = {{5, 2.5f}, {vocab - 1, -3}};
    uint32_t prompt[3] = {(uint32_t)id, 77, 5};
    struct gw_request q = fixture_request(id, prompt, 3, LENGTH);
    q.sampling = ways[id % 5];
    q.sampling.repetition_penalty = id % 2 ? 1 : 1.3f;
    q.sampling.logprobs = true;
    q.sampling.max_tokens = LENGTH;
    q.sampling.seed = 1000 + id;
    if (id % 3) return q;
    q.sampling.bias_len = 2;
    q.sampling.bias = malloc(sizeof bias);
    assert_non_null(q.sampling.bias);
    memcpy(q.sampling.bias, bias, sizeof bias);
    return q;
}

#define DRAWN 5

static const struct gw_ops *table; /* of the device that picks */
static uint32_t picked_there;      /* rows that it has picked from */

static bool count_picked(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count)
{
    bool done = table->pick_there(dev, rows, count);
    if (done) picked_there += count;
    return done;
}

static void draw_all(struct fixture *f)
{
    for (uint64_t id = 1; id <= DRAWN; id++) {
        struct gw_request q = drawn_request(id, f->model->config.vocab);
        fixture_submit(f, &q, 1, NULL, NULL);
    }
    fixture_drain(f);
}

/* Where nobody looks at logit rows, they stay on the device, which picks from them. */
static void test_tokens_picked_on_the_device_are_those_drawn_from_whole_rows(void **state)
{
    (void)state;
    struct fixture whole, blind;
    struct shim_device s, t;
    fixture_open(&whole, GQA64, config_on(&s, 1 << 16, 1 << 20));
    draw_all(&whole);
    struct solo_config c = config_on(&t, 1 << 16, 1 << 20);
    struct gw_ops counted = *t.ops;
    counted.pick_there = count_picked;
    table = t.ops;
    c.ops = &counted;
    fixture_open_blind(&blind, GQA64, c);
    draw_all(&blind);
    assert_int_equal(picked_there, (DRAWN - 1) * LENGTH); /* all but those that are wanted whole */
    for (uint64_t id = 1; id <= DRAWN; id++) {
        const struct fixture_branch *want = &fixture_run_of(&whole, id)->branches[0];
        const struct fixture_branch *got = &fixture_run_of(&blind, id)->branches[0];
        assert_int_equal(got->len, LENGTH);
        for (uint32_t i = 0; i < got->len; i++) {
            assert_int_equal(got->records[i].id, want->records[i].id);
            assert_memory_equal(&got->records[i].logprob, &want->records[i].logprob, sizeof(float));
            assert_memory_equal(got->records[i].top, want->records[i].top, sizeof want->records[i].top);
        }
    }
    close_engine(&blind, &t);
    close_engine(&whole, &s);
}

/* ---- a device that fails ---- */

/* At any call of the runtime in a step: the step fails, with words, and so does every step after it. */
static void test_step_of_a_device_that_fails_is_an_error(void **state)
{
    (void)state;
    struct fixture f;
    struct shim_device s;
    for (uint32_t at = 1; at <= 9; at += 4) {
        struct gw_err_ctx ctx = {0};
        bool did;
        open_engine(&f, &s, &groups, 0);
        submit(&f, 1, 1);
        s.runtime.fail_at = s.runtime.calls + at;
        assert_int_equal(gw_engine_step(f.engine, &did, &ctx), GW_ERR_CUDA);
        assert_non_null(strstr(ctx.text, "cuda-shim: "));
        assert_non_null(strstr(ctx.text, "planned fault"));
        gw_err_reset(&ctx);
        assert_int_equal(gw_device_finish(s.device, &ctx), GW_ERR_CUDA);
        close_engine(&f, &s);
    }
}

/* The watchdog: a step whose work does not end by its deadline fails. What such a device has is left to it. */
static void test_step_of_a_device_that_hangs_ends_by_its_deadline(void **state)
{
    (void)state;
    struct fixture f;
    struct shim_device s;
    struct gw_err_ctx ctx = {0};
    bool did;
    open_engine(&f, &s, &groups, 0);
    submit(&f, 1, 1);
    s.runtime.still = true;
    assert_int_equal(gw_engine_step(f.engine, &did, &ctx), GW_ERR_CUDA);
    assert_non_null(strstr(ctx.text, "has not done its work"));
    fixture_close(&f);
    assert_true(shim_device_close(&s) > 0);
}

#define WITH(name, test, subject)                                                                            \
    {                                                                                                        \
        name, test, NULL, NULL, (void *)(uintptr_t) & (subject)                                              \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH("test_step_with_biases_is_near_to_the_cpu", expect_near_cpu, biases),
        WITH("test_step_with_windows_is_near_to_the_cpu", expect_near_cpu, windows),
        WITH("test_step_with_experts_and_norms_of_q_and_k_is_near_to_the_cpu", expect_near_cpu, experts),
        WITH("test_step_of_int8_experts_is_near_to_the_cpu", expect_near_cpu, int8_experts),
        WITH("test_step_of_int8_weights_and_pages_has_the_bits_of_the_cpu_but_for_attention",
             expect_cpu_bits_but_for_attention, int8_both),
        WITH("test_step_of_int8_weights_and_pages_of_f32_has_the_bits_of_the_cpu", expect_cpu_bits,
             int8_of_f32),
        WITH("test_step_of_fp8_experts_is_near_to_the_cpu", expect_near_cpu, fp8_experts),
        WITH("test_step_of_int8_pages_is_near_to_the_cpu", expect_near_cpu, int8_pages),
        WITH("test_step_in_batches_and_chunks_gives_the_same_bits", expect_same_in_batches_and_chunks,
             groups),
        WITH("test_step_of_int8_weights_and_pages_in_batches_and_chunks_gives_the_same_bits",
             expect_same_in_batches_and_chunks, int8_both),
        WITH("test_step_of_fp8_weights_and_int8_pages_in_batches_and_chunks_gives_the_same_bits",
             expect_same_in_batches_and_chunks, fp8_and_pages),
        cmocka_unit_test(test_tokens_picked_on_the_device_are_those_drawn_from_whole_rows),
        cmocka_unit_test(test_step_of_a_device_that_fails_is_an_error),
        cmocka_unit_test(test_step_of_a_device_that_hangs_ends_by_its_deadline),
    };
    return cmocka_run_group_tests_name("cuda_engine", tests, NULL, NULL);
}
