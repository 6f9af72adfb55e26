/* worker/prove: the instruction set that serves is one whose bits are the profile's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "migrate/profile.h"
#include "worker/prove.h"

static void test_prove_isa_auto_gives_the_profiles_bits(void **state)
{
    (void)state;
    static const char *const profiles[] = {"cpu-bf16dot-2", "cpu-f32-2", "cpu-bf16amx-1"};
    for (int i = 0; i < 3; i++) {
        enum gw_isa isa = GW_ISA_AUTO;
        uint8_t digest[GW_DIGEST_BYTES];
        assert_int_equal(gw_prove_isa(profiles[i], GW_ISA_AUTO, NULL, &isa, NULL), GW_OK);
        assert_int_not_equal(isa, GW_ISA_AUTO);
        assert_int_equal(gw_prove_digest(profiles[i], isa, digest, NULL), GW_OK);
        assert_true(gw_profile_digest_ok(profiles[i], digest));
    }
}

static void test_prove_isa_named_is_taken_unproven(void **state)
{
    (void)state;
    enum gw_isa isa = GW_ISA_AUTO;
    assert_int_equal(gw_prove_isa("cpu-f32-2", GW_ISA_C, NULL, &isa, NULL), GW_OK);
    assert_int_equal(isa, GW_ISA_C);
}

static void test_prove_isa_unknown_profile_is_not_found(void **state)
{
    (void)state;
    enum gw_isa isa = GW_ISA_AUTO;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_prove_isa("cpu-f64-9", GW_ISA_AUTO, NULL, &isa, &ctx), GW_ERR_NOT_FOUND);
    assert_int_equal(isa, GW_ISA_AUTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prove_isa_auto_gives_the_profiles_bits),
        cmocka_unit_test(test_prove_isa_named_is_taken_unproven),
        cmocka_unit_test(test_prove_isa_unknown_profile_is_not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
