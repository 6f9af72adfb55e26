/* int8 products with AVX2. VPMADDUBSW would saturate; so bytes are taken as 16 bits, those of even and odd k apart, and
 * VPMADDWD adds pairs of products to 32 bits: exact.
 *
 * 16 registers do not hold four rows of a tile: it is walked in parts of `width` registers of 8 columns, each over
 * BLOCK_STEPS steps, so that w comes from memory in its order. */
#include "kernels/cpu/micro_avx2.h"

#include "kernels/cpu/matmul_int8.h"
#include "kernels/cpu/variants.h"

#define ROWS        4u
#define BLOCK_STEPS 64u /* 16 KB, half of the L1 cache */

struct sums {
    __m256i v[ROWS][GW_MICRO_WIDTH_MAX];
};

/* The part of a tile: columns [place.col, + 8 · width) of steps [step, step + steps). */
struct part {
    struct gw_place place;
    uint32_t col, step, steps; /* col: of the tile */
};

GW_INLINE void load(struct sums *sums, const struct gw_int8_tile *t, const struct part *p,
                    const uint32_t rows, const uint32_t width)
{
    struct gw_micro_acc acc;
    if (!p->place.first) gw_micro_load(&acc, &p->place, rows, width);
#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++)
            sums->v[r][j] =
                p->place.first
                    ? _mm256_load_si256((const __m256i *)(const void *)(t->head->shift + p->col + 8 * j))
                    : _mm256_castps_si256(acc.v[r][j]);
}

GW_INLINE void store(const struct sums *sums, const struct gw_int8_tile *t, const struct part *p,
                     const uint32_t rows, const uint32_t width)
{
    struct gw_micro_acc acc;
#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r++) {
        __m256 x_scale = _mm256_broadcast_ss(t->x_scale + r * t->x_scale_stride);
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++) {
            acc.v[r][j] = _mm256_castsi256_ps(sums->v[r][j]);
            if (p->place.last)
                acc.v[r][j] = _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums->v[r][j]), x_scale),
                                            _mm256_load_ps(t->head->scale + p->col + 8 * j));
        }
    }
    if (p->place.last) gw_micro_add(&acc, &p->place, rows, width);
    gw_micro_store(&acc, &p->place, rows, width);
}

/* acc += the products of one register of w, whose even k are in the low and odd k in the high byte of each 16 bits. */
GW_INLINE __m256i multiply(__m256i acc, __m256i x_even, __m256i x_odd, __m256i w_even, __m256i w_odd)
{
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x_even, w_even));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x_odd, w_odd));
}

GW_INLINE void micro_part(const struct gw_int8_tile *t, const struct part *p, const uint32_t rows,
                          const uint32_t width)
{
    const __m256i low_bytes = _mm256_set1_epi16(0xFF);
    struct sums acc;
    load(&acc, t, p, rows, width);
    const uint8_t *x = t->x + p->step * GW_INT8_K_STEP, *w = t->w + p->step * GW_STEP_BYTES + 4 * p->col;
    for (uint32_t s = 0; s < p->steps; s++, x += GW_INT8_K_STEP, w += GW_STEP_BYTES) {
        __m256i x_even[ROWS], x_odd[ROWS];
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) {
            int32_t word;
            memcpy(&word, x + r * t->x_stride, sizeof word);
            __m256i xr = _mm256_set1_epi32(word);
            x_even[r] = _mm256_and_si256(xr, low_bytes);
            x_odd[r] = _mm256_srli_epi16(xr, 8);
        }
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++) {
            __m256i wj = _mm256_load_si256((const __m256i *)(const void *)(w + 32 * j));
            __m256i w_even = _mm256_srai_epi16(_mm256_slli_epi16(wj, 8), 8), w_odd = _mm256_srai_epi16(wj, 8);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < rows; r++)
                acc.v[r][j] = multiply(acc.v[r][j], x_even[r], x_odd[r], w_even, w_odd);
        }
    }
    store(&acc, t, p, rows, width);
}

GW_INLINE void micro_parts(const struct gw_int8_tile *t, const uint32_t rows, const uint32_t width)
{
    for (uint32_t step = 0; step < t->steps; step += BLOCK_STEPS) {
        uint32_t steps = t->steps - step < BLOCK_STEPS ? t->steps - step : BLOCK_STEPS;
        for (uint32_t col = 0; col < t->place.cols; col += 8 * width) {
            const struct part p = {.place =
                                       gw_micro_place(&t->place, col, step == 0, step + steps == t->steps),
                                   .col = col,
                                   .step = step,
                                   .steps = steps};
            micro_part(t, &p, rows, width);
        }
    }
}

static void micro(struct gw_int8_tile *t, uint32_t rows)
{
    switch (rows) {
    case 1: micro_parts(t, 1, 8); return;
    case 2: micro_parts(t, 2, 4); return;
    case 3: micro_parts(t, 3, 2); return;
    default: micro_parts(t, 4, 2);
    }
}

static const struct gw_int8_kernel int8 = {.rows = ROWS,
                                           .k_block = GW_INT8_PANEL_K,
                                           .tiles = GW_ITEM_TILES,
                                           .quantize = gw_quantize_avx2,
                                           .micro = micro};
static const struct gw_matmul_kernel kernel_bf16 = {.act = GW_BF16, .fma_ns = 0.02, .int8 = &int8};
static const struct gw_matmul_kernel kernel_f32 = {.act = GW_F32, .fma_ns = 0.02, .int8 = &int8};

GW_MATMUL_OPERATIONS(int8_bf16_avx2, &kernel_bf16)
GW_MATMUL_OPERATIONS(int8_f32_avx2, &kernel_f32)
