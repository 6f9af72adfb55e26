/* Bias and norm of heads, RoPE on q and k, and k and v into their pages.
 *
 *     half-split form, i < head_dim / 2, (c, s) = cos_sin[position][i]:
 *     y[i] = fma(x[i], c, -(x[i + half] * s))        y[i + half] = fma(x[i + half], c, x[i] * s)
 *
 *     qkv [m][stride] f32: q | k | v at their offsets, q rotated in place; k and v are junk afterwards (of int8 pages they are
 *     prepared in place, else they stay)
 *
 * Of int8 pages each head's K (rotated) and V of a token is quantized from f32 by a scale of its own (kernels/cpu/quantize.h); the
 * bits are the CPU's.
 *
 * A block takes a row of a sequence, a warp one head at a time: first those of q, then k, then v. A head's sum of squares goes
 * over 16 lanes as in kernels/cpu/rope_append_c.c; the same bits. Limits: head_dim a multiple of 8, 256 at most; 65535
 * sequences. Source: Su et al. 2021, half-split form of Hugging Face Llama. */
#include "kernels/cuda/device.cuh"
#include "kernels/cpu/kv.h"
#include "kernels/cpu/quantize.h"
#include "kernels/cuda/launchers.h"

#define WARPS        4u
#define HEAD_DIM_MAX 256u
#define SEQS_MAX     65535u /* the grid's y */

/* What is done to the elements of one head: x + bias, then * inverse * norm. */
struct prepared {
    const float *x, *bias, *norm; /* bias, norm: NULL, if there is none */
    float inverse;
};

__device__ static inline float biased(const struct prepared &p, uint32_t i)
{
    return p.bias ? p.x[i] + p.bias[i] : p.x[i];
}

__device__ static inline float element(const struct prepared &p, uint32_t i)
{
    float x = biased(p, i);
    return p.norm ? x * p.inverse * p.norm[i] : x;
}

/* By all lanes of a warp. */
__device__ static struct prepared prepare(const float *x, const float *bias, const float *norm, float eps,
                                          uint32_t head_dim)
{
    struct prepared p = {x, bias, norm, 0.0f};
    uint32_t lane = threadIdx.x % GW_WARP;
    float sum = 0.0f;
    if (!norm) return p;
    for (uint32_t i = lane; lane < GW_LANES && i < head_dim; i += GW_LANES)
        sum = fmaf(biased(p, i), biased(p, i), sum);
    sum = __shfl_sync(GW_ALL_LANES, gw_fold_sum(sum), 0);
    p.inverse = gw_rms_inverse(sum, head_dim, eps);
    return p;
}

/* out may be where x is: a lane writes what it alone reads. */
template <class T>
__device__ static void rotate(T *out, const struct prepared &p, const float *cos_sin, uint32_t half)
{
    for (uint32_t i = threadIdx.x % GW_WARP; i < half; i += GW_WARP) {
        float a = element(p, i), b = element(p, half + i), c = cos_sin[2 * i], s = cos_sin[2 * i + 1];
        gw_narrow(&out[i], fmaf(a, c, -(b * s)));
        gw_narrow(&out[half + i], fmaf(b, c, a * s));
    }
}

/* Where a head's K or V of a token goes. */
struct slot {
    enum gw_kv_part part;
    uint32_t head, position;
};

template <class T>
__device__ static T *kv_at(const struct gw_kv_layer &kv, const struct gw_seq_rows &seq, struct slot s)
{
    const enum gw_dtype type = sizeof(T) == 4 ? GW_F32 : sizeof(T) == 2 ? GW_BF16 : GW_I8;
    return gw_as<T>(gw_kv_at(&kv, type, s.part, s.head, seq.blocks, s.position));
}

/* to[len] = what becomes of the head; angles: NULL of V, which is not rotated. */
template <class T>
__device__ static void finish_head(T *to, const struct prepared &p, const float *angles, uint32_t len)
{
    if (angles) {
        rotate(to, p, angles, len / 2);
        return;
    }
    for (uint32_t i = threadIdx.x % GW_WARP; i < len; i += GW_WARP) gw_narrow(&to[i], element(p, i));
}

/* x[len] as int8; returns the scale. By all lanes of a warp. */
__device__ static float quantize(int8_t *to, const float *x, uint32_t len)
{
    uint32_t lane = threadIdx.x % GW_WARP, largest = 0;
    for (uint32_t i = lane; i < len; i += GW_WARP) largest = max(largest, gw_f32_bits(x[i]) & 0x7FFFFFFFu);
    for (int lanes = 1; lanes < (int)GW_WARP; lanes *= 2)
        largest = max(largest, __shfl_xor_sync(GW_ALL_LANES, largest, lanes));
    float inverse, scale = gw_int8_scale(largest, &inverse);
    for (uint32_t i = lane; i < len; i += GW_WARP) to[i] = (int8_t)gw_int8_of(x[i], inverse, 0);
    return scale;
}

/* A head of k or v, at x in its row, into its page. */
template <class T>
__device__ static void store_head(const struct gw_kv_layer &kv, const struct gw_seq_rows &seq, struct slot s,
                                  const struct prepared &p, const float *angles, float *x)
{
    T *to = kv_at<T>(kv, seq, s);
    if constexpr (sizeof(T) == 1) {
        finish_head(x, p, angles, kv.head_dim);
        __syncwarp(); /* lanes read what others wrote */
        float scale = quantize(to, x, kv.head_dim);
        if (threadIdx.x % GW_WARP == 0) *gw_kv_scale_at(&kv, s.part, s.head, seq.blocks, s.position) = scale;
    } else {
        (void)x;
        finish_head(to, p, angles, kv.head_dim);
    }
}

template <class T>
__global__ static void append_rows(struct gw_cuda_qkv qkv, struct gw_qkv_prep prep, struct gw_kv_layer kv,
                                   const float *cos_sin, const struct gw_seq_rows *seqs)
{
    const struct gw_seq_rows seq = seqs[blockIdx.y];
    if (blockIdx.x >= seq.rows) return;
    uint32_t position = seq.position + blockIdx.x, hd = kv.head_dim, kv_heads = gw_kv_heads(&kv);
    float *row = qkv.data + (size_t)(seq.row + blockIdx.x) * qkv.stride;
    const float *angles = cos_sin + (size_t)position * hd;
    for (uint32_t n = threadIdx.x / GW_WARP; n < qkv.heads + 2 * kv_heads; n += WARPS) {
        bool q = n < qkv.heads, k = !q && n < qkv.heads + kv_heads;
        uint32_t h = q ? n : (n - qkv.heads) % kv_heads;
        size_t at = (q ? qkv.q_at : k ? qkv.k_at : qkv.v_at) + (size_t)h * hd;
        const float *norm = q ? prep.q_norm : k ? prep.k_norm : NULL;
        struct prepared p = prepare(row + at, prep.bias ? prep.bias + at : NULL, norm, prep.eps, hd);
        const struct slot s = {k ? GW_KV_K : GW_KV_V, h, position};
        if (q)
            rotate(row + at, p, angles, hd / 2);
        else
            store_head<T>(kv, seq, s, p, k ? angles : NULL, row + at);
    }
}

extern "C" gw_err_t gw_cuda_rope_append(gw_cuda_stream stream, const struct gw_cuda_qkv *qkv,
                                        const struct gw_qkv_prep *prep, const struct gw_kv_layer *kv,
                                        enum gw_dtype kv_type, const float *cos_sin,
                                        const struct gw_cuda_batch *batch, struct gw_err_ctx *ctx)
{
    const struct gw_qkv_prep nothing = {NULL, NULL, NULL, 0.0f};
    GW_NEED(kv_type == GW_F32 || kv_type == GW_BF16 || kv_type == GW_I8, "KV of f32, bf16 or int8");
    GW_NEED(kv->head_dim % 8 == 0 && kv->head_dim <= HEAD_DIM_MAX, "heads of 8, 16, … 256 elements");
    GW_NEED(batch->seqs_len <= SEQS_MAX, "65535 sequences at most");
    if (batch->seqs_len == 0 || batch->rows_max == 0) return GW_OK;
    dim3 blocks(batch->rows_max, batch->seqs_len);
    auto *kernel = kv_type == GW_F32    ? append_rows<float>
                   : kv_type == GW_BF16 ? append_rows<uint16_t>
                                        : append_rows<int8_t>;
    GW_LAUNCH(kernel, blocks, WARPS * GW_WARP, 0, stream, *qkv, prep ? *prep : nothing, *kv, cos_sin,
              batch->seqs);
    return gw_launched(ctx, "rope_append");
}
