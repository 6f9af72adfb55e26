/* Pick: what some columns of a logit row say about the next token (kernels/pick.h), of rows that lie on the device; the CPU's bits.
 *
 *     edit_rows        x edited: a list after the other, all of a list at once
 *     sum_shares       of a share: max, and the sum of e^((x - max) · inverse) in 16 virtual lanes, as the CPU adds
 *     best_of_chunks   the best `keep` of each CHUNK columns, then of each CHUNK of those, … until one chunk holds all
 *     draw_rows        the best score, from the best logit's on: nearly all others are hopeless by their random bits alone
 *     fetch_raw        what the best were before the edits
 *
 * "Best" and the best score are defined without regard to the order in which elements are looked at, so any order gives the
 * CPU's; sums and scores are its additions. A word orders by logit, then id (gw_pick_word), and no two are equal.
 *
 *     128 k columns, keep 256    63 chunks -> 16,128 words -> 8 chunks -> 2,048 words -> the best 256
 *
 * Limits: keep <= GW_PICK_KEEP_MAX; 65,535 rows of a launch, and as many chunks of a row. */
#include "kernels/cuda/launchers.h"

#include "kernels/cuda/device.cuh"

extern "C" {
#include "kernels/keyed_random.h"
}

#define THREADS  256u
#define CHUNK    2048u /* 16 KiB of shared memory: ten blocks and more on a multiprocessor */
#define TILE     1024u /* weights that a block adds up at a time; whole rounds of the 16 lanes */
#define NONE     UINT64_MAX
#define GRID_MAX 65535u

static_assert(GW_PICK_KEEP_MAX * 2 <= CHUNK, "each round leaves fewer words");

/* ---- edits ---- */

/* NULL outside of the columns. */
__device__ static float *element(const struct gw_cuda_pick_row *row, uint32_t id)
{
    return id - row->first < row->columns ? &row->x[id - row->first] : NULL;
}

__global__ static void edit_rows(const struct gw_cuda_pick_row *rows)
{
    const struct gw_cuda_pick_row *row = &rows[blockIdx.x];
    const struct gw_pick_edits *e = &row->edits;
    for (uint32_t i = threadIdx.x; i < e->added_len; i += THREADS)
        if (float *x = element(row, e->added[i].id)) *x += e->added[i].value;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < e->repeated_len; i += THREADS)
        if (float *x = element(row, e->repeated[i])) *x = gw_pick_repeated(*x, e->repetition);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < e->taken_len; i += THREADS)
        if (float *x = element(row, e->taken[i].id)) *x -= e->taken[i].value;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < e->masked_len; i += THREADS)
        if (float *x = element(row, e->masked[i])) *x = -INFINITY;
}

/* ---- sums ---- */

/* NaN has none. */
__device__ static float weight_of(float x, float top, float inverse)
{
    return x < INFINITY ? gw_expf((x - top) * inverse) : 0.0f;
}

/* The largest of x[columns], NaN left out, in all threads. */
__device__ static float block_max(const float *x, uint32_t columns)
{
    GW_SHARED(float, most, THREADS);
    float max = -FLT_MAX;
    for (uint32_t i = threadIdx.x; i < columns; i += THREADS) max = x[i] > max ? x[i] : max;
    most[threadIdx.x] = max;
    for (uint32_t half = THREADS / 2; half >= 1; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half && most[threadIdx.x + half] > most[threadIdx.x])
            most[threadIdx.x] = most[threadIdx.x + half];
    }
    __syncthreads();
    return most[0];
}

/* In thread 0: weights added up lane by lane, lane = index mod 16, then folded. */
__device__ static float block_sum(const float *x, uint32_t columns, float max, float inverse)
{
    GW_SHARED(float, tile, TILE);
    float lane = 0.0f;
    for (uint32_t at = 0; at < columns; at += TILE) {
        uint32_t len = columns - at < TILE ? columns - at : TILE;
        for (uint32_t i = threadIdx.x; i < len; i += THREADS) tile[i] = weight_of(x[at + i], max, inverse);
        __syncthreads();
        for (uint32_t i = threadIdx.x; threadIdx.x < GW_LANES && i < len; i += GW_LANES) lane += tile[i];
        __syncthreads();
    }
    return threadIdx.x < GW_WARP ? gw_fold_sum(lane) : 0.0f;
}

/* blockIdx: share of the row, row, statistics or weights. */
__global__ static void sum_shares(const struct gw_cuda_pick_row *rows)
{
    const struct gw_cuda_pick_row *row = &rows[blockIdx.y];
    struct gw_pick_sum *out = blockIdx.z ? row->weights : row->stats;
    uint32_t share = row->share_first + blockIdx.x;
    if (!out || share >= row->share_last) return;
    uint32_t at = gw_pick_share_at(row->vocab, row->shares, share);
    uint32_t columns = gw_pick_share_at(row->vocab, row->shares, share + 1) - at;
    const float *x = (blockIdx.z ? row->x : row->raw) + (at - row->first);
    float inverse = blockIdx.z ? row->inverse : 1.0f;
    float max = block_max(x, columns), sum = block_sum(x, columns, max, inverse);
    if (threadIdx.x != 0) return;
    out[blockIdx.x].max = max + 0.0f; /* a denormal or -0 becomes 0 */
    out[blockIdx.x].sum = sum;
}

/* ---- the best logits ---- */

static __host__ __device__ uint32_t chunks_of(uint32_t len)
{
    return (len + CHUNK - 1) / CHUNK;
}

/* Words that a round looks at; 0: an earlier one was the last. */
static __host__ __device__ uint32_t length_at(uint32_t columns, uint32_t keep, uint32_t round)
{
    uint32_t len = columns;
    for (; round > 0 && len > 0; round--) len = len > CHUNK ? chunks_of(len) * keep : 0;
    return len;
}

/* words[len], len a power of two: ascending. */
__device__ static void sort_words(uint64_t *words, uint32_t len)
{
    for (uint32_t size = 2; size <= len; size *= 2)
        for (uint32_t stride = size / 2; stride >= 1; stride /= 2) {
            for (uint32_t i = threadIdx.x; i < len / 2; i += THREADS) {
                uint32_t low = 2 * i - (i & (stride - 1)), high = low + stride;
                uint64_t a = words[low], b = words[high];
                if ((a > b) != ((low & size) == 0)) continue;
                words[low] = b;
                words[high] = a;
            }
            __syncthreads();
        }
}

/* The least of words[len], len a power of two, comes first. */
__device__ static void least_first(uint64_t *words, uint32_t len)
{
    for (uint32_t half = len / 2; half >= 1; half /= 2) {
        for (uint32_t i = threadIdx.x; i < half; i += THREADS)
            if (words[i + half] < words[i]) words[i] = words[i + half];
        __syncthreads();
    }
}

/* Word `at` of a round: of a logit, NaN being none, or as the round before has left it. */
__device__ static uint64_t word_at(const struct gw_cuda_pick_row *row, const struct gw_cuda_best *b,
                                   uint32_t round, uint32_t at)
{
    if (round > 0) return b->between[(round - 1) % 2][at];
    float logit = b->x[at];
    return logit == logit ? gw_pick_word(logit, row->first + at) : NONE;
}

/* blockIdx: chunk, row · 2 + which. */
__global__ static void best_of_chunks(const struct gw_cuda_pick_row *rows, uint32_t round)
{
    GW_SHARED(uint64_t, words, CHUNK);
    const struct gw_cuda_pick_row *row = &rows[blockIdx.y / 2];
    const struct gw_cuda_best *b = blockIdx.y % 2 ? &row->top : &row->best;
    uint32_t len = b->keep ? length_at(row->columns, b->keep, round) : 0, at = blockIdx.x * CHUNK, room = 1;
    if (at >= len) return;
    uint32_t some = len - at < CHUNK ? len - at : CHUNK;
    while (room < some) room *= 2;
    for (uint32_t i = threadIdx.x; i < room; i += THREADS)
        words[i] = i < some ? word_at(row, b, round, at + i) : NONE;
    __syncthreads();
    if (b->keep == 1)
        least_first(words, room);
    else
        sort_words(words, room);
    uint64_t *to = len <= CHUNK ? b->out : b->between[round % 2] + (size_t)blockIdx.x * b->keep;
    for (uint32_t i = threadIdx.x; i < b->keep; i += THREADS) to[i] = i < room ? words[i] : NONE;
}

/* ---- the best score ---- */

__device__ static bool is_better(const struct gw_cuda_draw *a, const struct gw_cuda_draw *b)
{
    return a->score > b->score || (a->score == b->score && a->id < b->id);
}

__device__ static struct gw_cuda_draw draw_of(const struct gw_cuda_pick_row *row, uint32_t id)
{
    float logit = row->x[id - row->first] + 0.0f;
    return gw_cuda_draw{gw_keyed_score(logit, row->inverse, row->stream, id), id, logit,
                        row->raw[id - row->first]};
}

/* What scores are compared with, relative to the best logit's. */
__device__ static float bar_of(const struct gw_cuda_pick_row *row, const struct gw_cuda_draw *best,
                               float reference)
{
    return (float)(best->score - (double)reference * (double)row->inverse);
}

__device__ static bool is_hopeless(const struct gw_cuda_pick_row *row, float bar, float reference,
                                   uint32_t at)
{
    float z = (row->x[at] - reference) * row->inverse;
    return gw_gumbel_hopeless(gw_keyed_bits(row->stream, row->first + at), gw_gumbel_shift(z, bar));
}

/* blockIdx: part of the columns, row. Each thread begins with the best logit's score. */
__global__ static void draw_rows(const struct gw_cuda_pick_row *rows)
{
    GW_SHARED(struct gw_cuda_draw, best, THREADS);
    const struct gw_cuda_pick_row *row = &rows[blockIdx.y];
    if (!row->draws || *row->best.out == NONE) return;
    struct gw_cuda_draw mine = draw_of(row, (uint32_t)*row->best.out);
    float reference = mine.logit, bar = bar_of(row, &mine, reference);
    for (uint32_t i = blockIdx.x * THREADS + threadIdx.x; i < row->columns; i += gridDim.x * THREADS) {
        if (is_hopeless(row, bar, reference, i)) continue;
        struct gw_cuda_draw other = draw_of(row, row->first + i);
        if (!is_better(&other, &mine)) continue;
        mine = other;
        bar = bar_of(row, &mine, reference);
    }
    best[threadIdx.x] = mine;
    for (uint32_t half = THREADS / 2; half >= 1; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half && is_better(&best[threadIdx.x + half], &best[threadIdx.x]))
            best[threadIdx.x] = best[threadIdx.x + half];
    }
    if (threadIdx.x == 0) row->draws[blockIdx.x] = best[0];
}

/* ---- a batch ---- */

__global__ static void fetch_raw(const struct gw_cuda_pick_row *rows)
{
    const struct gw_cuda_pick_row *row = &rows[blockIdx.x];
    for (uint32_t i = threadIdx.x; i < row->best.keep; i += THREADS) {
        uint64_t word = row->best.out[i];
        row->best_raw[i] = word == NONE ? 0.0f : row->raw[(uint32_t)word - row->first];
    }
}

size_t gw_cuda_pick_between(uint32_t columns, uint32_t keep, uint32_t which)
{
    return length_at(columns, keep, which + 1);
}

static gw_err_t launch_best(gw_cuda_stream stream, const struct gw_cuda_pick_row *rows, uint32_t count,
                            const struct gw_cuda_pick_bounds *max, struct gw_err_ctx *ctx)
{
    for (uint32_t round = 0, len; (len = length_at(max->columns, max->keep, round)) > 0; round++) {
        GW_LAUNCH(best_of_chunks, dim3(chunks_of(len), 2 * count), THREADS, 0, stream, rows, round);
        TRY(gw_launched(ctx, "pick: best"));
    }
    return GW_OK;
}

extern "C" gw_err_t gw_cuda_pick(gw_cuda_stream stream, const struct gw_cuda_pick_row *rows, uint32_t count,
                                 const struct gw_cuda_pick_bounds *max, struct gw_err_ctx *ctx)
{
    GW_NEED(max->keep >= 1 && max->keep <= GW_PICK_KEEP_MAX, "1 to 256 are kept");
    GW_NEED(count <= GRID_MAX / 2 && chunks_of(max->columns) <= GRID_MAX, "too many rows or columns");
    GW_NEED(max->shares <= GW_SHARES_MAX, "128 shares at most");
    if (count == 0) return GW_OK;
    if (max->edits > 0) GW_LAUNCH(edit_rows, count, THREADS, 0, stream, rows);
    TRY(gw_launched(ctx, "pick: edits"));
    if (max->shares > 0) GW_LAUNCH(sum_shares, dim3(max->shares, count, 2), THREADS, 0, stream, rows);
    TRY(gw_launched(ctx, "pick: sums"));
    TRY(launch_best(stream, rows, count, max, ctx));
    if (max->draws > 0) GW_LAUNCH(draw_rows, dim3(max->draws, count), THREADS, 0, stream, rows);
    TRY(gw_launched(ctx, "pick: scores"));
    GW_LAUNCH(fetch_raw, count, THREADS, 0, stream, rows);
    return gw_launched(ctx, "pick: raw logits");
}
