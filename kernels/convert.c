#include "kernels/convert.h"

#include <assert.h>

size_t gw_dtype_bytes(enum gw_dtype type)
{
    switch (type) {
    case GW_F32: return 4;
    case GW_BF16:
    case GW_F16: return 2;
    }
    assert(!"a gw_dtype");
    return 0;
}

const char *gw_dtype_name(enum gw_dtype type)
{
    return type == GW_F32 ? "f32" : type == GW_BF16 ? "bf16" : "f16";
}
