/* worker/safetensors: any bytes give an error, or tensors that lie inside the file, apart from each other, aligned, and
 * are as long as their shape and type say. */
#include <assert.h>

#include "tests/fuzz/fuzz.h"
#include "worker/safetensors.h"

static void check(const struct gw_safetensors *f)
{
    for (uint32_t i = 0; i < gw_safetensors_count(f); i++) {
        const struct gw_tensor *t = gw_safetensors_at(f, i);
        uint64_t items = 1;
        volatile uint8_t sum = 0;
        for (uint32_t d = 0; d < t->dims; d++) items *= t->shape[d];
        if (t->type) {
            assert(t->bytes == items * gw_dtype_bytes(t->type));
            assert((uintptr_t)t->data % gw_dtype_bytes(t->type) == 0);
        }
        for (uint64_t k = 0; k < t->bytes; k++) sum = (uint8_t)(sum + ((const uint8_t *)t->data)[k]);
        assert(gw_safetensors_find(f, t->name) == t);
        for (uint32_t k = 0; k < i; k++) {
            const struct gw_tensor *other = gw_safetensors_at(f, k);
            const uint8_t *a = t->data, *b = other->data;
            assert(a >= b + other->bytes || b >= a + t->bytes);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gw_safetensors *f = NULL;
    struct gw_err_ctx ctx = {0};
    gw_err_t err = gw_safetensors_parse(data, size, &f, &ctx);
    assert((err == GW_OK) == (f != NULL));
    assert((err == GW_OK) == (ctx.text[0] == '\0'));
    if (f) check(f);
    gw_safetensors_close(f);
    return 0;
}
