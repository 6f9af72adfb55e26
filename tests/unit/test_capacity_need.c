/* controller/capacity_need: how many instances the load needs, by the fleet that the core shows. */
#include "tests/unit/core_fixture.h"

#include "controller/capacity_need.h"
#include "tests/lib/plan_fixture.h"

#define FLOP_S  1e12
#define BYTES_S 50e9

static void add(struct fixture *f, const char *worker, const char *instance)
{
    struct gw_msg m = member_msg(worker, instance);
    m.hello.bytes_s = (uint64_t)BYTES_S;
    m.hello.flop_s = (uint64_t)FLOP_S;
    (void)hello(f, &m);
}

static uint32_t need_of(const struct fixture *f, const char *layout, double rps, double losses_h)
{
    struct gw_layout_job *seen;
    struct gw_capacity_need *n;
    struct gw_err_ctx ctx = {0};
    const struct gw_preemptions preemptions = {.per_instance_h = losses_h, .replace_s = 180};
    assert_int_equal(gw_layout_job_create(f->core, f->now_us, &seen), GW_OK);
    seen->model = plan_model(GROUPS * 2, 2, 512, 8, 8, SHARES, 2048, 32000);
    seen->load = (struct gw_plan_load){
        .arrival_rps = rps, .prompt_mean = 256, .prompt_p99 = 1024, .output_mean = 256, .output_p99 = 1024};
    assert_int_equal(gw_layout_spec_parse(layout, GROUPS, SHARES, &seen->spec, &ctx), GW_OK);
    assert_int_equal(gw_capacity_need_create(seen, &preemptions, &n), GW_OK);
    gw_capacity_need_run(n);
    assert_int_equal(n->err, GW_OK);
    uint32_t instances = n->instances;
    gw_capacity_need_destroy(n);
    return instances;
}

static void test_run_without_workers_knows_nothing(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    fixture_start_grid(&f);
    assert_int_equal(need_of(&f, "auto", 5, 0), 0);
    fixture_close(&f);
}

static void test_run_shape_needs_its_ranks(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    fixture_start_grid(&f);
    add(&f, "w0", "i-0");
    assert_int_equal(need_of(&f, "3xtp2", 5, 0), 6);
    add(&f, "w1", "i-0"); /* instances have two workers each */
    assert_int_equal(need_of(&f, "3xtp2", 5, 0), 3);
    fixture_close(&f);
}

static void test_run_load_needs_more_the_more_arrives_and_is_lost(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    fixture_start_grid(&f);
    add(&f, "w0", "i-0");
    uint32_t little = need_of(&f, "auto", 0.01, 0), much = need_of(&f, "auto", 400, 0),
             churn = need_of(&f, "auto", 400, 5);
    assert_int_equal(little, 1);
    assert_true(much > 2);
    assert_true(churn > much);
    add(&f, "w1", "i-1"); /* what is there already changes nothing */
    assert_int_equal(need_of(&f, "auto", 400, 0), much);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_without_workers_knows_nothing),
        cmocka_unit_test(test_run_shape_needs_its_ranks),
        cmocka_unit_test(test_run_load_needs_more_the_more_arrives_and_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
