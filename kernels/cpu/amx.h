/* AMX's tile registers: how they are configured, loaded, stored and multiplied.
 *
 * All eight are 16 rows of 64 bytes. LDTILECFG takes 50 ns, a micro-kernel of 16 rows and 256 k 90: so tiles are configured when a
 * thread begins with a job's items and released behind them. Released, they are in no context switch and no signal frame.
 *
 * Owner: the calling thread's registers. Thread: each its own. Units: bytes. Errors: none; who calls has Linux's leave
 * (kernels/cpu/ops.c). Source: Intel's manual, volume 2, LDTILECFG. */
#ifndef GW_KERNELS_CPU_AMX_H
#define GW_KERNELS_CPU_AMX_H

#include <stddef.h>
#include <stdint.h>

struct gw_amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static inline void gw_amx_enter(void)
{
    static const struct gw_amx_config config = {
        .palette = 1, .row_bytes = {[0 ... 7] = 64}, .rows = {[0 ... 7] = 16}};
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
}

static inline void gw_amx_leave(void)
{
    __asm__ volatile("tilerelease");
}

/* gcc 12's own do not say that a load reads memory. stride: from row to row. */
#define GW_AMX_LOAD(tile, from, stride)                                                                      \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"((size_t)(stride)) : "memory")
#define GW_AMX_STORE(tile, to, stride)                                                                       \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"((size_t)(stride)) : "memory")
#define GW_AMX_ZERO(tile)           __asm__ volatile("tilezero %%tmm" #tile : :)
#define GW_AMX_DOT_INT8(sums, x, w) __asm__ volatile("tdpbusd %%tmm" #w ", %%tmm" #x ", %%tmm" #sums : :)
#define GW_AMX_DOT_BF16(sums, x, w) __asm__ volatile("tdpbf16ps %%tmm" #w ", %%tmm" #x ", %%tmm" #sums : :)

/* Sums of 16 rows and 64 columns are tiles 0 to 3. stride: bytes from row to row. */
static inline void gw_amx_zero_sums(void)
{
    GW_AMX_ZERO(0);
    GW_AMX_ZERO(1);
    GW_AMX_ZERO(2);
    GW_AMX_ZERO(3);
}

static inline void gw_amx_load_sums(const void *at, size_t stride)
{
    const uint8_t *from = at;
    GW_AMX_LOAD(0, from, stride);
    GW_AMX_LOAD(1, from + 64, stride);
    GW_AMX_LOAD(2, from + 128, stride);
    GW_AMX_LOAD(3, from + 192, stride);
}

static inline void gw_amx_store_sums(void *at, size_t stride)
{
    uint8_t *to = at;
    GW_AMX_STORE(0, to, stride);
    GW_AMX_STORE(1, to + 64, stride);
    GW_AMX_STORE(2, to + 128, stride);
    GW_AMX_STORE(3, to + 192, stride);
}

/* They += a tile of x by 16 steps of w, whose rows are w_stride bytes apart; DOT: GW_AMX_DOT_INT8 or _BF16. */
#define GW_AMX_ADD_PRODUCTS(DOT, x, x_stride, w, w_stride)                                                   \
    do {                                                                                                     \
        GW_AMX_LOAD(4, x, x_stride);                                                                         \
        GW_AMX_LOAD(5, w, w_stride);                                                                         \
        DOT(0, 4, 5);                                                                                        \
        GW_AMX_LOAD(6, (w) + 64, w_stride);                                                                  \
        DOT(1, 4, 6);                                                                                        \
        GW_AMX_LOAD(7, (w) + 128, w_stride);                                                                 \
        DOT(2, 4, 7);                                                                                        \
        GW_AMX_LOAD(5, (w) + 192, w_stride);                                                                 \
        DOT(3, 4, 5);                                                                                        \
    } while (0)

#endif
