/* Bias, norm and RoPE, then K and V into their pages: the walk that all variants share. An item is one row of the batch.
 *
 *     half-split form, i < head_dim / 2, (c, s) = cos_sin[position][i]:
 *     y[i] = fma(x[i], c, -(x[i + half] * s))        y[i + half] = fma(x[i + half], c, x[i] * s)
 *
 * Owner: all memory is the caller's. Thread: rows are independent. Units: elements, ns. Errors: none;
 * head_dim is asserted. Source: Su et al. 2021, half-split form of Hugging Face Llama. */
#ifndef GW_KERNELS_CPU_ROPE_APPEND_H
#define GW_KERNELS_CPU_ROPE_APPEND_H

#include "kernels/cpu/device.h"
#include "kernels/cpu/kv.h"
#include "kernels/cpu/quantize.h"

struct gw_rope_isa {
    enum gw_dtype kv_type;
    double element_ns;
    /* x[len] += bias (NULL: not), then x = x * r * norm (NULL: not) as in kernels/cpu/rmsnorm.h. */
    void (*prepare)(float *x, const float *bias, const float *norm, float eps, uint32_t len);
    /* out[2 half] of `type` = rotated x[2 half]; out may be x. cos_sin [half][2]. */
    void (*rotate)(void *out, enum gw_dtype type, const float *x, const float *cos_sin, uint32_t half);
    /* out[len] of `type` = x[len] */
    void (*store)(void *out, enum gw_dtype type, const float *x, uint32_t len);
    gw_quantize_kv_fn *quantize; /* of int8 pages, in place of store */
};

struct gw_rope_job {
    const struct gw_rope_isa *isa;
    float *qkv;
    size_t qkv_stride, q_at, k_at, v_at;
    uint32_t heads;
    const struct gw_qkv_prep *prep; /* NULL: nothing */
    const struct gw_kv_layer *kv;
    const float *cos_sin;
    const struct gw_seq_rows *seqs;
    uint32_t seqs_len;
};

void gw_rope_append_run(struct gw_device *dev, const struct gw_rope_job *job);

/* Defines the operation gw_cpu_rope_append_<suffix> of variants.h, by what an ISA does for one type of pages. */
#define GW_ROPE_APPEND(suffix, of_isa)                                                                       \
    void gw_cpu_rope_append_##suffix(                                                                        \
        struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at, size_t k_at, size_t v_at,         \
        uint32_t heads, const struct gw_qkv_prep *prep, const struct gw_kv_layer *kv, const float *cos_sin,  \
        const struct gw_seq_rows *seqs, uint32_t seqs_len)                                                   \
    {                                                                                                        \
        const struct gw_rope_job job = {&(of_isa), qkv,  qkv_stride, q_at,    k_at, v_at,                    \
                                        heads,     prep, kv,         cos_sin, seqs, seqs_len};               \
        gw_rope_append_run(dev, &job);                                                                       \
    }

#endif
