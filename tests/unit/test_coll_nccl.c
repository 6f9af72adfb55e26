/* kernels/cuda/coll_nccl: sums of every cut are those of one rank, bit for bit; what is sent arrives; ranks that are elsewhere
 * are found. The library is tests/lib/fake_nccl.c's, ranks are threads. */
#include "tests/lib/coll_device_fixture.h"

static struct device_group group_of(const struct fake_nccl *fake, uint32_t shares)
{
    return (struct device_group){.shares = shares,
                                 .deadline_us = LONG_US,
                                 .init_us = LONG_US,
                                 .nccl = &fake->api,
                                 .run = device_run_steps};
}

static void test_tree_add_of_any_cut_is_the_fixed_tree(void **state)
{
    static const struct {
        uint32_t shares;
        struct device_stage stage;
    } cuts[] = {
        {8, {1, {0, 8}}},    {8, {2, {0, 4, 8}}},       {8, {3, {0, 3, 6, 8}}},
        {8, {2, {0, 1, 8}}}, {8, {4, {0, 2, 4, 6, 8}}}, {5, {2, {0, 2, 5}}},
        {1, {1, {0, 1}}},    {13, {3, {0, 4, 8, 13}}},  {6, {5, {0, 1, 2, 3, 5, 6}}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        struct fake_nccl fake;
        struct device_rank ranks[COLL_RANKS];
        fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = i});
        struct device_group g = group_of(&fake, cuts[i].shares);
        g.stages[0] = cuts[i].stage;
        device_run(&g, ranks, NULL);
        device_assert_well(ranks, g.stages[0].ranks);
        struct fake_nccl_counts counts = fake_nccl_end(&fake);
        assert_int_equal(counts.calls[FAKE_ABORT], 0);
        assert_int_equal(counts.calls[FAKE_DESTROY], g.stages[0].ranks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_add_of_any_cut_is_the_fixed_tree),
    };
    alarm(300); /* a hang ends here */
    return cmocka_run_group_tests_name("coll_nccl", tests, NULL, NULL);
}
