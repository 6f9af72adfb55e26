/* f32 on a device, of int8 and fp8 weights, too: all of its results have the CPU's bits, and so has its digest, under the CPU's name. */
#ifndef GW_TESTS_GPU_GPU_F32_H
#define GW_TESTS_GPU_GPU_F32_H

#include "tests/lib/kernels_fixture.h"

#include "kernels/digest.h"
#include "migrate/profile.h"
#include "worker/device.h"

/* like: another device of the same GPU. */
static inline void gpu_check_f32_digest(const struct gw_worker_device_config *like,
                                        enum gw_weight_format weights, enum gw_kv_format kv, const char *cpu)
{
    struct gw_worker_device_config config = *like;
    struct gw_worker_device f32;
    struct gw_err_ctx ctx = {0};
    uint8_t digest[GW_DIGEST_BYTES];
    config.profile = cpu;
    config.weights = weights;
    config.kv = kv;
    config.f32 = true;
    if (gw_worker_device_open(&config, &f32, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    struct gw_ops table = *f32.ops;
    table.profile = cpu;
    assert_int_equal(gw_ops_digest(&table, f32.device, digest), GW_OK);
    assert_true(gw_profile_digest_ok(cpu, digest));
    gw_worker_device_close(&f32);
}

#endif
