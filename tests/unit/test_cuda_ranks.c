/* A pipeline of ranks that have a CUDA device each, on the host shim: sums stay on the devices, by NCCL (a stand-in) or through pinned
 * memory, activations go from stage to stage by NCCL or by the host, and give the bits of one rank; a peer that is lost ends the step. */
#include "kernels/cuda/cuda_device_internal.h"
#include "tests/lib/coll_device_fixture.h"
#include "tests/lib/pipeline_fixture.h"
#include "tests/lib/shim_device.h"

#define GQA64 "tests/data/tiny/gqa64"
#define MOE   "tests/data/tiny/qwen3moe"

#define STEP_BYTES    65536
#define SCRATCH_BYTES (1u << 20)
#define REQUESTS      2
#define TOKENS        2
#define STEPS_MAX     8 /* more than the requests take */

static struct solo_config small_config(void)
{
    struct solo_config c = fixture_config();
    c.kv_tokens = 512;
    c.max_batch_tokens = 16;
    c.max_sequences = 4;
    return c;
}

static gw_err_t open_device(struct rank_thread *t, struct gw_err_ctx *ctx)
{
    struct shim_device *s = calloc(1, sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    t->below = s;
    TRY(shim_device_open(s, STEP_BYTES, SCRATCH_BYTES, ctx));
    t->device = s->device;
    t->ops = s->ops;
    return GW_OK;
}

static uint32_t pieces_left; /* of all devices that were closed */

static void close_device(struct rank_thread *t)
{
    if (t->below) pieces_left += shim_device_close(t->below);
    free(t->below);
}

static void submit_all(struct fixture *f)
{
    for (uint32_t id = 1; id <= REQUESTS; id++) {
        uint32_t prompt[3] = {id, 7, 3 * id};
        struct gw_request q = fixture_request(id, prompt, 1 + id, TOKENS);
        q.sampling.temperature = id % 2 ? 0.0f : 0.9f;
        q.sampling.seed = id;
        q.sampling.logprobs = true;
        fixture_submit(f, &q, 1, NULL, NULL);
    }
}

/* What one rank gives, logit rows too. */
static void open_alone(struct fixture *f, struct shim_device *s, const char *model)
{
    struct gw_err_ctx ctx = {0};
    struct solo_config c = small_config();
    memset(s, 0, sizeof *s);
    if (shim_device_open(s, STEP_BYTES, SCRATCH_BYTES, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    c.ops = s->ops;
    c.device = s->device;
    fixture_open(f, model, c);
    submit_all(f);
    fixture_drain(f);
}

static struct solo_config logged_config(void)
{
    struct solo_config c = small_config();
    c.sink.logits = fixture_logits;
    return c;
}

/* nccl: the library's path, or "". */
static void prepare(struct rank_threads *a, const char *nccl)
{
    *a = (struct rank_threads){.open = open_device, .close = close_device, .nccl = nccl};
    pieces_left = 0;
}

static void start(struct rank_threads *a, struct fixture *f, const struct gw_model *model, const char *layout,
                  const char *nccl)
{
    prepare(a, nccl);
    pipeline_start(a, f, model, layout, logged_config(), false);
}

static const char *carrier_of(const struct rank_thread *t)
{
    return gw_coll_device_carrier(gw_coll_join_sums(t->join));
}

static void expect_runs(struct fixture *want, struct fixture *got)
{
    for (uint32_t id = 1; id <= REQUESTS; id++)
        fixture_expect_same(&fixture_run_of(want, id)->branches[0], &fixture_run_of(got, id)->branches[0], 0,
                            0);
}

static void expect_as_alone(struct fixture *want, const char *layout, const char *nccl, const char *carrier)
{
    struct rank_threads a;
    struct fixture f;
    start(&a, &f, want->model, layout, nccl);
    assert_string_equal(carrier_of(&a.ranks[0]), carrier);
    submit_all(&f);
    fixture_drain(&f);
    expect_runs(want, &f);
    pipeline_close(&a, &f);
    assert_int_equal(pieces_left, 0);
}

static void test_ranks_with_nccl_give_the_bits_of_one(void **state)
{
    static const char *const models[] = {GQA64, MOE};
    char path[300];
    (void)state;
    fake_nccl_path(path, sizeof path);
    for (int i = 0; i < 2; i++) {
        struct fake_nccl fake;
        struct shim_device s;
        struct fixture want;
        fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = 3});
        open_alone(&want, &s, models[i]);
        expect_as_alone(&want, "4+4", path, "nccl");
        fixture_close(&want);
        assert_int_equal(shim_device_close(&s), 0);
        struct fake_nccl_counts counts = fake_nccl_end(&fake);
        assert_int_equal(counts.calls[FAKE_GET_ID], 1);
        assert_int_equal(counts.calls[FAKE_SEND], 0);
    }
}

static void test_ranks_without_nccl_give_the_bits_of_one_through_pinned_memory(void **state)
{
    struct shim_device s;
    struct fixture want;
    (void)state;
    open_alone(&want, &s, GQA64);
    expect_as_alone(&want, "2+3+3", "there is no such library", "staged");
    fixture_close(&want);
    assert_int_equal(shim_device_close(&s), 0);
}

/* ---- activations ---- */

/* All stages on one machine: from device to device, and each has an id for that and one for its sums, if it has several ranks. Else by
 * the host. */
static void expect_passed(struct fixture *want, const char *layout, uint32_t ids, bool apart)
{
    struct rank_threads a;
    struct fixture f;
    struct fake_nccl fake;
    char path[300];
    fake_nccl_path(path, sizeof path);
    fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = 5});
    prepare(&a, path);
    a.apart = apart;
    pipeline_start(&a, &f, want->model, layout, logged_config(), false);
    for (uint32_t i = 0; i < a.assign.ranks_len; i++)
        assert_int_equal(gw_coll_join_passes(a.ranks[i].join) != NULL, !apart);
    submit_all(&f);
    fixture_drain(&f);
    expect_runs(want, &f);
    pipeline_close(&a, &f);
    assert_int_equal(pieces_left, 0);
    struct fake_nccl_counts counts = fake_nccl_end(&fake);
    assert_int_equal(counts.calls[FAKE_GET_ID], ids);
    assert_int_equal(counts.calls[FAKE_SEND] > 0, !apart);
}

static void test_stages_with_nccl_pass_activations_on_from_device_to_device(void **state)
{
    struct shim_device s;
    struct fixture want;
    (void)state;
    open_alone(&want, &s, GQA64);
    expect_passed(&want, "8/8", 1, false);
    expect_passed(&want, "8/3+5", 2, false); /* one sends to two */
    expect_passed(&want, "3+5/8", 1, true);
    fixture_close(&want);
    assert_int_equal(shim_device_close(&s), 0);
}

/* ---- a peer is lost ---- */

static void close_broken(struct rank_threads *a, struct fixture *f)
{
    gw_engine_destroy(f->engine);
    rank_leave(&a->ranks[0]);
    for (uint32_t i = 0; i < a->assign.ranks_len; i++) rank_drop(&a->ranks[i]);
    assert_int_equal(pieces_left, 0);
    free(f->runs);
    free(f->last_row);
}

static gw_err_t step_until_error(struct fixture *f, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    bool did;
    for (int i = 0; err == GW_OK && i < STEPS_MAX; i++) err = gw_engine_step(f->engine, &did, ctx);
    return err;
}

/* The other rank goes while the leader has requests: its step fails, and so does every step after it. */
static void expect_loss(const char *layout, const char *nccl)
{
    struct rank_threads a;
    struct fixture f;
    struct gw_model *model;
    struct gw_err_ctx ctx = {0};
    bool did = true;
    assert_int_equal(gw_model_open(GQA64, &model, NULL), GW_OK);
    start(&a, &f, model, layout, nccl);
    submit_all(&f);
    assert_int_equal(gw_engine_step(f.engine, &did, &ctx), GW_OK);
    atomic_store(&a.stop, true);
    pthread_join(a.ranks[1].thread, NULL);
    rank_drop(&a.ranks[1]);
    a.ranks[1] = (struct rank_thread){.all = &a};
    assert_int_equal(step_until_error(&f, &ctx), GW_ERR_IO); /* what it had answered before counts */
    assert_int_equal(gw_engine_step(f.engine, &did, &ctx), GW_ERR_IO);
    close_broken(&a, &f);
    gw_model_close(model);
}

static void test_step_whose_peer_is_lost_fails(void **state)
{
    struct fake_nccl fake;
    char path[300];
    (void)state;
    expect_loss("4+4", "");
    fake_nccl_path(path, sizeof path);
    fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = 4, .tells = true});
    expect_loss("4+4", path);
    expect_loss("8/8", path);
    fake_nccl_end(&fake);
}

/* The activations of the second step are cut short, at one end: both ranks end with an error, none with what it was not sent. A transfer is two
 * calls, one for its tag, and one transfer goes before the first step. */
static void expect_loss_between_stages(enum fake_call call, int rank)
{
    const struct fake_nccl_plan plan = {
        .seed = 6,
        .tells = true,
        .rules_len = 1,
        .rules = {
            {.fault = FAKE_ASYNC, .call = call, .rank = rank, .nth = 5, .result = GW_NCCL_REMOTE_ERROR}}};
    struct rank_threads a;
    struct fixture f;
    struct fake_nccl fake;
    struct gw_model *model;
    struct gw_err_ctx ctx = {0};
    char path[300];
    fake_nccl_path(path, sizeof path);
    fake_nccl_open(&fake, &plan);
    assert_int_equal(gw_model_open(GQA64, &model, NULL), GW_OK);
    start(&a, &f, model, "8/8", path);
    submit_all(&f);
    assert_int_equal(step_until_error(&f, &ctx), GW_ERR_IO);
    pthread_join(a.ranks[1].thread, NULL);
    assert_int_equal(a.ranks[1].err, GW_ERR_IO);
    assert_int_equal(a.ranks[1].followed, 1);
    close_broken(&a, &f);
    gw_model_close(model);
    fake_nccl_end(&fake);
}

static void test_loss_between_stages_ends_both_ranks(void **state)
{
    (void)state;
    expect_loss_between_stages(FAKE_SEND, 0);
    expect_loss_between_stages(FAKE_RECV, 1);
}

/* ---- who has what ---- */

/* Frames of the right length that no rank of this build sends; they are there before the other one asks. */
static void test_join_with_a_rank_of_another_build_is_refused(void **state)
{
    static const uint16_t cuts[] = {0, 4, 8};
    static const size_t lengths[] = {138, 26}; /* what rank 0 answers, what rank 1 offers */
    (void)state;
    for (uint32_t self = 0; self < 2; self++) {
        struct coll_mesh mesh;
        struct shim_device s = {0};
        struct gw_err_ctx ctx = {0};
        struct gw_coll *colls[2];
        struct gw_coll_join *join = NULL;
        uint8_t bytes[138] = {9};
        assert_int_equal(coll_mesh_open(&mesh, 2, true), 0);
        for (uint32_t i = 0; i < 2; i++) {
            const struct gw_coll_config c = coll_config(&mesh, i, 2, 8, cuts, 100);
            assert_int_equal(gw_coll_create(&c, &colls[i], NULL), GW_OK);
        }
        assert_int_equal(gw_coll_send(colls[1 - self], self, GW_COLL_DATA, bytes, lengths[1 - self], NULL),
                         GW_OK);
        assert_int_equal(shim_device_open(&s, STEP_BYTES, SCRATCH_BYTES, &ctx), GW_OK);
        const struct gw_coll_join_config config = {.group = {.self = self,
                                                             .ranks = 2,
                                                             .stage_ranks = 2,
                                                             .shares = 8,
                                                             .share_at = cuts,
                                                             .max_elems = 100,
                                                             .deadline_us = LONG_US},
                                                   .coll = colls[self],
                                                   .device = s.device};
        assert_int_equal(gw_coll_join_create(&config, &join, &ctx), GW_ERR_PROTO);
        assert_non_null(strstr(ctx.text, "another build"));
        assert_null(join);
        for (int i = 0; i < 2; i++) gw_coll_destroy(colls[i]);
        assert_int_equal(shim_device_close(&s), 0);
    }
}

static gw_err_t open_shared(struct rank_thread *t, struct gw_err_ctx *ctx)
{
    TRY(open_device(t, ctx));
    memset(((struct gw_cuda_device *)(void *)t->device)->config.gpu, 5, GW_GPU_BYTES);
    return GW_OK;
}

/* NCCL refuses two ranks on one GPU. */
static void test_ranks_that_share_a_gpu_do_without_nccl(void **state)
{
    struct rank_threads a = {.open = open_shared, .close = close_device};
    struct fixture f;
    struct gw_model *model;
    char path[300];
    (void)state;
    fake_nccl_path(path, sizeof path);
    a.nccl = path;
    assert_int_equal(gw_model_open(GQA64, &model, NULL), GW_OK);
    pipeline_start(&a, &f, model, "4+4", small_config(), false);
    assert_string_equal(carrier_of(&a.ranks[0]), "staged");
    submit_all(&f);
    fixture_step(&f);
    pipeline_close(&a, &f);
    gw_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks_with_nccl_give_the_bits_of_one),
        cmocka_unit_test(test_ranks_without_nccl_give_the_bits_of_one_through_pinned_memory),
        cmocka_unit_test(test_stages_with_nccl_pass_activations_on_from_device_to_device),
        cmocka_unit_test(test_step_whose_peer_is_lost_fails),
        cmocka_unit_test(test_loss_between_stages_ends_both_ranks),
        cmocka_unit_test(test_join_with_a_rank_of_another_build_is_refused),
        cmocka_unit_test(test_ranks_that_share_a_gpu_do_without_nccl),
    };
    return cmocka_run_group_tests_name("cuda_ranks", tests, NULL, NULL);
}
