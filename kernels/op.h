/* Operations: what the engine asks of a device, behind one table per (backend, numerics profile).
 *
 * Row-invariance is the contract (DESIGN part 4): every output row depends on its own sequence alone. For one
 * profile all tables (AVX-512 BF16, AVX-512, AVX2, plain C) give the same bits; kernels/digest.h proves it at
 * registration.
 *
 *     profile        weights, activations, KV pages   product of one (m, n)
 *     cpu-bf16dot-2  bf16                             acc = 0; for pairs of k in order:
 *                                                         acc = fma(x[k+1], w[k+1], acc)
 *                                                         acc = fma(x[k], w[k], acc)
 *                                                     (= VDPBF16PS: odd first, DAZ, FTZ; odd k: zeros)
 *     cpu-f32-2      f32                              acc = 0; for k in order: acc = fma(x[k], w[k], acc)
 *     cpu-bf16amx-1  bf16                             acc = 0; for 32 k in order: even = odd = 0; for pairs of them in order:
 *                                                         even = fma(x[k], w[k], even)
 *                                                         odd = fma(x[k+1], w[k+1], odd)
 *                                                     acc = acc + (even + odd)
 *                                                     (= TDPBF16PS; behind the last k: zeros, to a multiple of 32)
 *
 *     cpu-bf16-int8-1, cpu-f32-int8-1: the same, but of matrices (not of routers): weights int8 with a scale for each
 *     n, x quantized to int8 with a scale for each row, or each row of a share where there are shares:
 *         scale = max |x[k]| / 127;  q[k] = x[k] · (127 / max), to the nearest integer, ties to even
 *         y = (f32(the integer sum of qx[k] · qw[k]) · scale of x) · scale of w
 *     Integer sums are exact in any order. (A row of nothing over 2^-100 is zeros; one with an infinity or NaN gives
 *     NaN. k <= GW_INT8_K_MAX.)
 *
 *     cpu-bf16-fp8-1, cpu-f32-fp8-1: x as it is; of matrices (not of routers) the weights are e4m3 with a scale for each n:
 *         scale = max |w[k]| / 448;  q[k] = w[k] · (448 / max), to the nearest e4m3, ties to even, subnormal ones kept
 *         y = (the sum above, of x and q) · scale
 *     bf16 and f32 hold every e4m3, so that sum is the profile's own. (A row of nothing over 2^-100 is zeros; one with an infinity
 *     or NaN gives NaN. The scale comes before the tree over shares.)
 *
 *     …-kv8-1 (cpu-bf16-kv8-1, cpu-f32-kv8-1, cpu-bf16amx-kv8-1, cpu-bf16-int8-kv8-1, …-fp8-kv8-1 etc.): the same with KV pages of int8. Each
 *     head's K (after RoPE) and V of a token is quantized by the same rule, from f32, with a scale of its own; attention
 *     multiplies the dot product by K's, and the weight of a position by V's (kernels/cpu/attention.h).
 *
 * All other arithmetic is f32 with explicit fma, in all: residual stream, norms, RoPE, softmax, SiLU; FTZ
 * and DAZ are on in every thread that computes. Horizontal sums run over 16 virtual lanes (lane = index mod
 * 16, each lane ascending, then lanes folded 8, 4, 2, 1) on every ISA. exp, log, sin, cos are the project's
 * own (kernels/vmath.h).
 *
 * "act" below is the profile's activation type: what products read. Rows are contiguous unless a stride is
 * given. What is pointed to lies in the device's memory (kernels/device_memory.h), but for what is said to be the host's, and
 * for the structures and lists that describe it: of weights, columns, pages and sequences, down to block tables.
 *
 *     cuda-smXX-exact-1   bf16, as cpu-bf16dot-2; products and attention by tensor cores (kernels/cuda/README.md): other bits, one
 *                         profile for each architecture
 *     cuda-smXX-exact-f32-1   f32, with the bits of cpu-f32-2 (with -int8, -fp8, -kv8: of cpu-f32-int8-1, …)
 *     cuda-smXX-fast      as exact-1, but that products of many rows are cuBLASLt's: a row's bits depend on its batch, which breaks the
 *                         contract above, and the profile says so (gw_profile_exact)
 *
 * Owner: all memory is the caller's; a device owns its threads. No operation allocates after device creation,
 * except where it says so. Thread: one step at a time per device, from one thread; operations spread over the
 * device's threads and return when done, or are done by gw_device_finish on a device with its own memory. Units:
 * elements unless named _bytes. Errors: shapes are asserted
 * (our bug): they were checked when the model was opened. Source: own design. */
#ifndef GW_KERNELS_OP_H
#define GW_KERNELS_OP_H

#include <stdint.h>

#include "base/err.h"

enum gw_dtype { GW_F32 = 1, GW_BF16, GW_F16, GW_I8, GW_F8 /* OCP e4m3 (kernels/convert.h) */ };

/* Bytes of one element. */
size_t gw_dtype_bytes(enum gw_dtype type);
const char *gw_dtype_name(enum gw_dtype type); /* "bf16" etc. */

/* Bytes that pages take for the K (or the V) of so many tokens of one KV head, scales included. */
size_t gw_kv_bytes(enum gw_dtype kv, uint32_t head_dim, uint32_t tokens);

struct gw_device;   /* threads (CPU), or streams and memory (CUDA) */
struct gw_pick_row; /* kernels/pick.h */

/* A packed weight matrix [n, k]: y = x · wᵀ. What is inside is the backend's affair. */
struct gw_weight {
    uint32_t n, k;
    void *data; /* pack_bytes(n, k) bytes, 64-byte aligned, the caller's */
};

/* The KV pages of one layer. One page = block_tokens tokens × heads_per_cell KV heads × layers of the group,
 * contiguous:
 *
 *     page:    [layer in group][K, V][head in cell]: one head's K (or V) of the block's tokens, which is
 *     f32, bf16: [token in block][head_dim]
 *     int8:      [token in block][head_dim] two's complement, then [token in block] f32: what its numbers are multiples of
 *
 * Slot s of cell c lives at arena[c] + s * page_bytes; arena[] is already advanced to this layer. */
struct gw_kv_layer {
    uint8_t *const *arena; /* [cells] */
    size_t page_bytes;
    uint32_t cells, heads_per_cell; /* cells * heads_per_cell = KV heads of this rank */
    uint32_t head_dim, block_tokens;
    /* Query head h of this rank reads its KV head (h + query_shift) / query_group. query_group = 0: h * KV heads /
     * query heads. */
    uint32_t query_group, query_shift;
    uint32_t window; /* a row at position p sees positions p - window + 1 .. p; 0: all up to its own */
};

/* What is done to rows of qkv before RoPE; a NULL in place of one: nothing of that. */
struct gw_qkv_prep {
    const float *bias;            /* [a row of qkv] added to q, k and v */
    const float *q_norm, *k_norm; /* [head_dim] weights of an RMSNorm of each head's elements */
    float eps;
};

/* Consecutive rows of a batch that belong to one sequence. */
struct gw_seq_rows {
    uint32_t row, rows;     /* first row in the batch, number of rows */
    uint32_t position;      /* of the first row in its sequence */
    const uint32_t *blocks; /* slot of each block, from position 0; covers position + rows */
};

#define GW_ATTN_CHUNK  256    /* KV positions per partial softmax; enters the model fingerprint */
#define GW_SHARES_MAX  128    /* shares of a tree; 128 query heads are the most that models have */
#define GW_EXPERTS_MAX 1024   /* of a layer; twice what the largest published model has */
#define GW_INT8_K_MAX  131072 /* 127 · 127 · this < 2^31 */

struct gw_ops {
    const char *name;    /* e.g. "cpu-avx512" */
    const char *profile; /* e.g. "cpu-bf16dot-2" */
    enum gw_dtype act, kv;
    enum gw_dtype weight; /* what matrices are packed as: act, GW_I8 or GW_F8 */

    /* Packing, done once, in the host's memory; the device gets a copy. src: n rows of k elements, row_stride elements apart, of f32, bf16 or f16 (converted:
     * f16, bf16 → f32 is exact; f32 → bf16 never happens: such models get an f32 profile). */
    size_t (*pack_bytes)(uint32_t n, uint32_t k);
    void (*pack)(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                 size_t row_stride);

    /* y[m, hidden] f32 = table[ids[m]] (copied, never summed); table is a plain [vocab, hidden] array of
     * table_type. table, ids: the host's. */
    void (*embed)(struct gw_device *dev, float *y, const void *table, enum gw_dtype table_type,
                  const uint32_t *ids, uint32_t m, uint32_t hidden);

    /* y[m, k] act = x * rsqrt(mean(x²) + eps) * w; x f32, w f32 [k]. 1/sqrt by division and sqrt, both
     * correctly rounded. */
    void (*rmsnorm)(struct gw_device *dev, void *y, const float *x, const float *w, float eps, uint32_t m,
                    uint32_t k);

    /* Products of one x[m, k] act (rows x_stride elements apart), side by side in y f32 (rows y_stride apart):
     * columns [y_at[i], y_at[i] + w[i].n) = x · w[i]ᵀ, for w[count] of equal k. All are one job: a matrix that is packed
     * in pieces costs what it costs whole. The columns may not overlap; those between are not touched. */
    void (*matmul)(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                   const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m);

    /* The same for a matrix that is never quantized (a router): packed as act. */
    size_t (*pack_bytes_plain)(uint32_t n, uint32_t k);
    void (*pack_plain)(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                       size_t row_stride);
    void (*matmul_plain)(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                         const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m);

    /* y[shares][m, n] f32 = each share's product on its own: what matmul_tree_add does before its tree. */
    void (*matmul_shares)(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                          uint32_t shares, uint32_t m);

    /* Row-parallel product over shares: x[m, sum of k over shares] act (share after share, contiguous rows),
     * w[shares] each [n, its k]; each share is summed on its own (scratch: shares * m * n floats), then the
     * fixed binary tree over shares: pairs (0,1)(2,3)…, then pairs of those; an odd one moves up unchanged.
     * residual[m, n] f32 += that sum. */
    void (*matmul_tree_add)(struct gw_device *dev, float *residual, const void *x, const struct gw_weight *w,
                            uint32_t shares, uint32_t m, float *scratch);

    /* What `prep` says (NULL: nothing), then RoPE on q[m, heads, head_dim] in place and on k, then k, v (as stored:
     * rounded to kv type) into their pages. Half-split form (Hugging Face Llama). qkv: f32 rows of stride qkv_stride
     * holding q | k | v at the three offsets; k and v are junk afterwards. cos_sin: [context][head_dim/2][2] f32, cos
     * then sin. */
    void (*rope_append)(struct gw_device *dev, float *qkv, size_t qkv_stride, size_t q_at, size_t k_at,
                        size_t v_at, uint32_t heads, const struct gw_qkv_prep *prep,
                        const struct gw_kv_layer *kv, const float *cos_sin, const struct gw_seq_rows *seqs,
                        uint32_t seqs_len);

    /* Causal attention over pages: out[m, heads * head_dim] act. q as rope_append left it; which KV
     * head a query head reads: gw_kv_layer. Chunks of GW_ATTN_CHUNK from position 0; a row's partial (max, sum,
     * output) of a chunk is computed the same way whatever M is; chunks merge ascending; positions that a row does not
     * see (behind its own, before its window) are never loaded for it, nor for others that do not see them. */
    void (*attention)(struct gw_device *dev, void *out, const float *qkv, size_t qkv_stride, size_t q_at,
                      uint32_t heads, const struct gw_kv_layer *kv, float scale,
                      const struct gw_seq_rows *seqs, uint32_t seqs_len);

    /* y[m, f] act = silu(gate) * up; gate_up f32 [m, 2 f]: row = per share: gate columns of the share | up
     * columns of the share (share_cols each), shares in order; f = shares * share_cols. */
    void (*silu_mul)(struct gw_device *dev, void *y, const float *gate_up, uint32_t m, uint32_t shares,
                     uint32_t share_cols);

    /* Mixture of experts: which `top` of the experts take each row of logits[m, experts] (the largest; of equal ones the
     * lower id), in ascending order: ids[m, top], and by what weights[m, top]: e^logit over the sum of that over all
     * experts, or over those taken. ids, weights: the host's, there when it returns. */
    void (*route)(struct gw_device *dev, uint32_t *ids, float *weights, const float *logits, uint32_t m,
                  uint32_t experts, uint32_t top, bool over_taken);

    /* y[m, k] = x[rows[i], k], of f32 or bf16; rows: the host's */
    void (*gather)(struct gw_device *dev, void *y, const void *x, enum gw_dtype type, const uint32_t *rows,
                   uint32_t m, uint32_t k);

    /* y[shares][y_rows, n], row rows[i] of each share += weights[i] · x[shares][m, n]'s row i; no row is there twice. rows,
     * weights: the host's. */
    void (*scatter_add)(struct gw_device *dev, float *y, uint32_t y_rows, const float *x,
                        const uint32_t *rows, const float *weights, uint32_t shares, uint32_t m, uint32_t n);

    /* residual[elems] += the fixed binary tree over partials[shares][elems] (as matmul_tree_add's). */
    void (*tree_add)(struct gw_device *dev, float *residual, const float *partials, uint32_t shares,
                     size_t elems);

    /* What each of rows[count] says about its next token (kernels/pick.h); rows are spread over the threads. All of it is the
     * host's, here and below. */
    void (*pick)(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count);

    /* The same bits of rows whose x lies on the device, where it is not changed (`kept` is not used); the rest is the
     * host's, and there when it returns. False: what it takes does not fit in the device's rooms; of the parts any may have been
     * written, and pick does it, of rows that were copied out. NULL: there is no other memory than the host's. */
    bool (*pick_there)(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count);

    /* y[n] = e^((x[n] - top) · inverse) for x <= top; 0 of NaN. */
    void (*weigh)(struct gw_device *dev, float *y, const float *x, uint32_t n, float top, float inverse);
};

/* ISA names, best first: "amx" (of int8 profiles and cpu-bf16amx-1), "avx512vnni" (of int8 profiles), "avx512bf16" (of
 * cpu-bf16dot-2), "avx512" (of those not int8), "avx2" (with FMA), "c". */
enum gw_isa {
    GW_ISA_AUTO,
    GW_ISA_AVX512BF16,
    GW_ISA_AVX512,
    GW_ISA_AVX2,
    GW_ISA_C,
    GW_ISA_AVX512VNNI,
    GW_ISA_AMX
};

/* Does another of this machine's give the same bits in less time? */
bool gw_isa_slow(enum gw_isa isa);

/* The table for a profile; GW_ISA_AUTO takes the best this machine has. GW_ERR_NOT_FOUND if this machine or
 * build has none, with a text that says which CPU flag is missing. */
gw_err_t gw_ops_cpu(const char *profile, enum gw_isa isa, const struct gw_ops **out,
                    struct gw_err_ctx *ctx) GW_MUST_USE;

/* A CPU device with `threads` threads (0 = as many as there are cores this process may use), the caller's
 * among them. Spins shortly between operations, then sleeps; a helper without a core is not waited for (cores
 * may be oversubscribed).
 *
 * pin: each to a core of the process's affinity mask, if threads = cores of the mask; else ignored (several
 * processes would all take the same part of it). It pins the calling thread too, until gw_device_destroy:
 * call it on the thread that will run the operations; threads that this one starts later inherit its core.
 * GW_ERR_INPUT for a number of threads out of range; GW_ERR_MEMORY, GW_ERR_IO. */
gw_err_t gw_device_cpu_create(int threads, bool pin, struct gw_device **out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_device_destroy(struct gw_device *dev);
int gw_device_threads(const struct gw_device *dev);

/* Sets FTZ and DAZ in the calling thread: call it in every thread that runs operations or samples. */
void gw_device_enter_thread(void);

#endif
