#include "kernels/convert.h"

#include <assert.h>

#include "kernels/cpu/kv.h"

size_t gw_dtype_bytes(enum gw_dtype type)
{
    switch (type) {
    case GW_F32: return 4;
    case GW_BF16:
    case GW_F16: return 2;
    case GW_I8:
    case GW_F8: return 1;
    }
    assert(!"a gw_dtype");
    return 0;
}

const char *gw_dtype_name(enum gw_dtype type)
{
    static const char *const names[] = {
        [GW_F32] = "f32", [GW_BF16] = "bf16", [GW_F16] = "f16", [GW_I8] = "int8", [GW_F8] = "fp8"};
    return names[type];
}

size_t gw_kv_bytes(enum gw_dtype kv, uint32_t head_dim, uint32_t tokens)
{
    return gw_kv_block_bytes(kv, head_dim, tokens);
}
