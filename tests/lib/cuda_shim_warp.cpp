/* What the lanes of a warp do together, on the host shim (tests/lib/cuda_shim.h): shuffles, votes, matrices. */
#include "tests/lib/cuda_shim.h"

namespace
{

constexpr uint32_t ALL = 0xFFFFFFFFu;

float of_f32(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

float of_bf16(uint32_t bits)
{
    return of_f32(bits << 16);
}

/* d = d + a · b, the products added up before d joins. Fixed bounds and no pointers: what the sanitizers could find here is not
 * worth their price. */
__attribute__((no_sanitize("address", "undefined"))) void multiply(const double a[16][16],
                                                                   const double b[16][8], double d[16][8])
{
    for (unsigned row = 0; row < 16; row++) {
        double sum[8] = {};
        for (unsigned k = 0; k < 16; k++)
            for (unsigned column = 0; column < 8; column++) sum[column] += a[row][k] * b[k][column];
        for (unsigned column = 0; column < 8; column++) d[row][column] += sum[column];
    }
}

/* Lane i of each group of eight gives a row's address, in order of matrices; row r, columns 2 c and 2 c + 1 of a matrix go to
 * lane 4 r + c. Transposed: rows and columns change places. */
void join_ldmatrix(gw_shim_lane *const lanes[32], bool transposed)
{
    for (unsigned matrix = 0; matrix < 4 && lanes[8 * matrix]->row; matrix++) {
        uint16_t m[8][8];
        for (unsigned r = 0; r < 8; r++) memcpy(m[r], lanes[8 * matrix + r]->row, sizeof m[r]);
        for (unsigned lane = 0; lane < 32; lane++) {
            unsigned r = lane / 4, c = lane % 4 * 2;
            uint16_t low = transposed ? m[c][r] : m[r][c], high = transposed ? m[c + 1][r] : m[r][c + 1];
            lanes[lane]->out[matrix] = low | (uint32_t)high << 16;
        }
    }
}

void join_ldmatrix_plain(gw_shim_lane *const lanes[32], uint32_t)
{
    join_ldmatrix(lanes, false);
}

void join_ldmatrix_transposed(gw_shim_lane *const lanes[32], uint32_t)
{
    join_ldmatrix(lanes, true);
}

/* PTX ISA, "Matrix fragments for mma.m16n8k16": lane = 4 g + t.
 *     a[0] (g, 2t..)  a[1] (g + 8, 2t..)  a[2] (g, 2t + 8..)  a[3] (g + 8, 2t + 8..)
 *     b[0] (2t.., g)  b[1] (2t + 8.., g)
 *     d[0], d[1] (g, 2t..)  d[2], d[3] (g + 8, 2t..) */
void join_mma(gw_shim_lane *const lanes[32], uint32_t)
{
    double a[16][16], b[16][8], d[16][8]; /* b by k, so that eight columns go side by side */
    for (unsigned lane = 0; lane < 32; lane++) {
        unsigned g = lane / 4, t = lane % 4 * 2;
        const uint32_t *in = lanes[lane]->in;
        for (unsigned i = 0; i < 4; i++) {
            a[g + i % 2 * 8][t + i / 2 * 8] = of_bf16(in[i] & 0xFFFFu);
            a[g + i % 2 * 8][t + i / 2 * 8 + 1] = of_bf16(in[i] >> 16);
            d[g + i / 2 * 8][t + i % 2] = of_f32(in[6 + i]);
        }
        for (unsigned i = 0; i < 2; i++) {
            b[t + i * 8][g] = of_bf16(in[4 + i] & 0xFFFFu);
            b[t + i * 8 + 1][g] = of_bf16(in[4 + i] >> 16);
        }
    }
    multiply(a, b, d);
    for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned i = 0; i < 4; i++) {
            float x = (float)d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
            memcpy(&lanes[lane]->out[i], &x, sizeof x);
        }
}

/* "Matrix fragments for mma.m16n8k32", 8-bit integers: as above, four k in a register where there were two. Sums wrap. */
__attribute__((no_sanitize("address", "undefined"))) void multiply_int8(const int8_t a[16][32],
                                                                        const int8_t b[32][8],
                                                                        uint32_t d[16][8])
{
    for (unsigned row = 0; row < 16; row++)
        for (unsigned k = 0; k < 32; k++)
            for (unsigned column = 0; column < 8; column++)
                d[row][column] += (uint32_t)(a[row][k] * b[k][column]);
}

void join_mma_int8(gw_shim_lane *const lanes[32], uint32_t)
{
    int8_t a[16][32], b[32][8];
    uint32_t d[16][8];
    for (unsigned lane = 0; lane < 32; lane++) {
        unsigned g = lane / 4, t = lane % 4;
        const uint32_t *in = lanes[lane]->in;
        for (unsigned i = 0; i < 4; i++) {
            memcpy(&a[g + i % 2 * 8][t * 4 + i / 2 * 16], &in[i], 4);
            d[g + i / 2 * 8][t * 2 + i % 2] = in[6 + i];
        }
        for (unsigned i = 0; i < 8; i++)
            b[t * 4 + i / 4 * 16 + i % 4][g] = (int8_t)(in[4 + i / 4] >> i % 4 * 8);
    }
    multiply_int8(a, b, d);
    for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned i = 0; i < 4; i++) lanes[lane]->out[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

void ldmatrix(const char *name, uint32_t *r, unsigned matrices, const void *row, gw_shim_join_fn *join)
{
    gw_shim_lane lane = {};
    bool used = gw_shim_lane_id() < 8 * matrices;
    if (used && (uintptr_t)row % 16 != 0) gw_shim_fail("%s: a row is not aligned to 16 bytes", name);
    lane.row = used ? row : NULL;
    gw_shim_warp(name, ALL, join, &lane);
    memcpy(r, lane.out, matrices * sizeof *r);
}

} // namespace

void gw_shim_join_nothing(gw_shim_lane *const *, uint32_t) {}

void gw_shim_join_shuffle(gw_shim_lane *const lanes[32], uint32_t mask)
{
    for (unsigned i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        unsigned from = lanes[i]->in[1];
        if (!(mask >> from & 1))
            gw_shim_fail("shuffle of mask %08x: lane %u wants the value of lane %u, which is not in it", mask,
                         i, from);
        lanes[i]->out[0] = lanes[from]->in[0];
    }
}

void gw_shim_join_ballot(gw_shim_lane *const lanes[32], uint32_t mask)
{
    uint32_t votes = 0;
    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1) votes |= lanes[i]->in[0] << i;
    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1) lanes[i]->out[0] = votes;
}

void gw_ldmatrix_x4(uint32_t r[4], const void *row)
{
    ldmatrix("ldmatrix.x4", r, 4, row, join_ldmatrix_plain);
}

void gw_ldmatrix_x2_trans(uint32_t r[2], const void *row)
{
    ldmatrix("ldmatrix.x2.trans", r, 2, row, join_ldmatrix_transposed);
}

namespace
{

/* d: 4 of 32 bits. */
void mma(const char *name, void *d, const uint32_t a[4], const uint32_t b[2], gw_shim_join_fn *join)
{
    gw_shim_lane lane = {};
    memcpy(lane.in, a, 4 * sizeof *a);
    memcpy(lane.in + 4, b, 2 * sizeof *b);
    memcpy(lane.in + 6, d, sizeof lane.out);
    gw_shim_warp(name, ALL, join, &lane);
    memcpy(d, lane.out, sizeof lane.out);
}

} // namespace

void gw_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma("mma.m16n8k16", d, a, b, join_mma);
}

/* By its definition, in double: the host may flush subnormal numbers. */
uint32_t gw_rebias_bf16x2(uint32_t pair)
{
    uint32_t to = 0;
    for (unsigned half = 0; half < 2; half++) {
        uint32_t bits = pair >> 16 * half & 0xFFFFu, exponent = bits >> 7 & 0xFFu, fraction = bits & 0x7Fu;
        double magnitude = exponent ? ldexp(128 + fraction, (int)exponent - 134) : ldexp(fraction, -133);
        float scaled = (float)ldexp(magnitude, 120);
        uint32_t wide;
        memcpy(&wide, &scaled, sizeof wide);
        to |= ((bits & 0x8000u) | wide >> 16) << 16 * half;
    }
    return to;
}

void gw_mma_int8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma("mma.m16n8k32", d, a, b, join_mma_int8);
}
