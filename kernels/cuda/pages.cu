/* KV pages from one place to another: inside of a pool, from a pool to a row of pages that will travel (gather), and from
 * such a row into a pool (scatter). One kernel: either side has slots, or counts its pages.
 *
 * A block copies BLOCK_BYTES of a page in words of 16 bytes. Limits: page_bytes and both arrays are multiples of 16. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launchers.h"

#define THREADS     128u
#define PER_THREAD  4u
#define BLOCK_WORDS (THREADS * PER_THREAD)

__global__ static void copy_pages(uint4 *to, const uint32_t *to_slots, const uint4 *from,
                                  const uint32_t *from_slots, uint32_t page_words)
{
    uint4 *out = to + (size_t)(to_slots ? to_slots[blockIdx.x] : blockIdx.x) * page_words;
    const uint4 *in = from + (size_t)(from_slots ? from_slots[blockIdx.x] : blockIdx.x) * page_words;
    uint32_t first = blockIdx.y * BLOCK_WORDS + threadIdx.x;
    for (uint32_t n = 0, i = first; n < PER_THREAD && i < page_words; n++, i += THREADS) out[i] = in[i];
}

extern "C" gw_err_t gw_cuda_pages(gw_cuda_stream stream, void *to, const uint32_t *to_slots, const void *from,
                                  const uint32_t *from_slots, uint32_t pages, size_t page_bytes,
                                  struct gw_err_ctx *ctx)
{
    GW_NEED(page_bytes % 16 == 0 && gw_aligned16(to) && gw_aligned16(from), "pages aligned to 16 bytes");
    GW_NEED(page_bytes <= (size_t)512 << 20, "pages of 512 MiB at most");
    if (pages == 0 || page_bytes == 0) return GW_OK;
    uint32_t words = (uint32_t)(page_bytes / 16);
    dim3 blocks(pages, gw_blocks_of(words, BLOCK_WORDS));
    GW_LAUNCH(copy_pages, blocks, THREADS, 0, stream, (uint4 *)to, to_slots, (const uint4 *)from, from_slots,
              words);
    return gw_launched(ctx, "pages");
}
