#include "worker/prove.h"

#include "kernels/digest.h"
#include "migrate/profile.h"

gw_err_t gw_prove_digest(const char *profile, enum gw_isa isa, uint8_t out[GW_DIGEST_BYTES],
                         struct gw_err_ctx *ctx)
{
    const struct gw_ops *ops;
    struct gw_device *device;
    TRY(gw_ops_cpu(profile, isa, &ops, ctx));
    TRY(gw_device_cpu_create(1, false, &device, ctx));
    gw_device_enter_thread();
    gw_err_t err = gw_ops_digest(ops, device, out);
    gw_device_destroy(device);
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "no memory for the digest");
}

gw_err_t gw_prove_isa(const char *profile, enum gw_isa wanted, const struct gw_log *log, enum gw_isa *out,
                      struct gw_err_ctx *ctx)
{
    static const struct {
        enum gw_isa isa;
        const char *name;
    } best_first[] = {{GW_ISA_AMX, "amx"},
                      {GW_ISA_AVX512VNNI, "avx512vnni"},
                      {GW_ISA_AVX512BF16, "avx512bf16"},
                      {GW_ISA_AVX512, "avx512"},
                      {GW_ISA_AVX2, "avx2"},
                      {GW_ISA_C, "c"}};
    uint8_t digest[GW_DIGEST_BYTES];
    if (wanted != GW_ISA_AUTO) {
        *out = wanted;
        return GW_OK;
    }
    for (size_t i = 0; i < sizeof best_first / sizeof *best_first; i++) {
        if (gw_isa_slow(best_first[i].isa)) continue;
        if (gw_prove_digest(profile, best_first[i].isa, digest, NULL) != GW_OK) continue;
        if (gw_profile_digest_ok(profile, digest)) {
            *out = best_first[i].isa;
            return GW_OK;
        }
        gw_logf(log, GW_LOG_WARN, "%s on this CPU does not give the bits of %s: it is passed over",
                best_first[i].name, profile);
    }
    return gw_fail(ctx, GW_ERR_NOT_FOUND, "no instruction set of this machine gives the bits of profile %s",
                   profile);
}
