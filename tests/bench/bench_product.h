/* Products on the shapes of a 1B model, as an engine has them: weights in memory, not in a cache.
 *
 * Weights are as many copies as are twice as large as the last cache, each call takes the next. Row-parallel shapes are in SHARES parts
 * of k, added up by the tree (matmul_tree_add), the others whole.
 *
 * Owner: maps memory that lives as long as the program, but for weights. Thread: one. Units: elements, bytes. Errors: ends
 * the program. Source: own design. */
#ifndef GW_TESTS_BENCH_PRODUCT_H
#define GW_TESTS_BENCH_PRODUCT_H

#include <string.h>

#include "tests/bench/bench_probe.h"
#include "base/rng.h"
#include "kernels/convert.h"

#define BENCH_COPIES_MAX 256u
#define BENCH_SHARES     8u
#define BENCH_ROWS_MAX   512u
#define BENCH_WEIGHTS    ((size_t)16384 * 2048) /* of the largest shape */
#define BENCH_SHAPES     4

struct bench_shape {
    const char *name;
    uint32_t n, k;
    bool shares;
};

static const struct bench_shape bench_shapes[BENCH_SHAPES] = {{"qkv", 3072, 2048, false},
                                                              {"o", 2048, 2048, true},
                                                              {"gate_up", 16384, 2048, false},
                                                              {"down", 2048, 8192, true}};
static const uint32_t bench_rows[] = {1, 4, 16, 64, BENCH_ROWS_MAX};

/* One format of one shape. */
struct bench_weights {
    const struct gw_ops *ops;
    const struct bench_shape *shape;
    struct gw_weight parts[BENCH_COPIES_MAX][BENCH_SHARES]; /* the first alone without shares */
    uint32_t copies, next;
    uint8_t *memory;
    size_t bytes, all_bytes;
};

/* What is multiplied: x [BENCH_ROWS_MAX, k] of the profile's activation type. */
struct bench_operands {
    struct gw_device *dev;
    const void *x;
    float *y, *scratch;
};

static inline uint32_t bench_copies(size_t bytes)
{
    size_t copies = bench_cold_bytes() / bytes + 1;
    return copies < BENCH_COPIES_MAX ? (uint32_t)copies : BENCH_COPIES_MAX;
}

/* BENCH_WEIGHTS numbers in ±0.5. */
static inline uint16_t *bench_values_bf16(void)
{
    struct gw_rng r;
    uint16_t *values = bench_map(BENCH_WEIGHTS * sizeof *values);
    gw_rng_init(&r, 1);
    for (size_t i = 0; i < BENCH_WEIGHTS; i++) values[i] = gw_bf16_of_f32((float)(gw_rng_unit(&r) - 0.5));
    return values;
}

/* values: bf16, of which each copy is packed. */
static inline void bench_weights_make(struct bench_weights *w, const char *profile, enum gw_isa isa,
                                      const struct bench_shape *s, const uint16_t *values)
{
    uint32_t shares = s->shares ? BENCH_SHARES : 1, k = s->k / shares;
    *w = (struct bench_weights){.shape = s};
    if (gw_ops_cpu(profile, isa, &w->ops, NULL) != GW_OK) exit(1);
    size_t part = w->ops->pack_bytes(s->n, k);
    w->bytes = part * shares;
    w->copies = bench_copies(w->bytes);
    w->all_bytes = w->copies * w->bytes;
    w->memory = bench_map(w->all_bytes);
    for (uint32_t c = 0; c < w->copies; c++)
        for (uint32_t i = 0; i < shares; i++) {
            w->parts[c][i] = (struct gw_weight){s->n, k, w->memory + c * w->bytes + i * part};
            if (c == 0)
                w->ops->pack(w->parts[c][i].data, values, GW_BF16, s->n, k, k);
            else
                memcpy(w->parts[c][i].data, w->parts[0][i].data, part);
        }
}

static inline void bench_weights_free(struct bench_weights *w)
{
    munmap(w->memory, w->all_bytes);
}

/* What the engine calls for this shape, with the next copy. */
static inline void bench_multiply(const struct bench_operands *o, struct bench_weights *w, uint32_t m)
{
    static const uint32_t first_col = 0;
    const struct gw_weight *parts = w->parts[w->next++ % w->copies];
    if (w->shape->shares)
        w->ops->matmul_tree_add(o->dev, o->y, o->x, parts, BENCH_SHARES, m, o->scratch);
    else
        w->ops->matmul(o->dev, o->y, w->shape->n, o->x, w->shape->k, parts, &first_col, 1, m);
}

/* Billions of operations per second over at least slot_us. */
static inline double bench_multiply_rate(const struct bench_operands *o, struct bench_weights *w, uint32_t m,
                                         int64_t slot_us)
{
    int64_t start = gw_clock_mono_us(), now;
    int calls = 0;
    do {
        bench_multiply(o, w, m);
        calls++;
        now = gw_clock_mono_us();
    } while (now - start < slot_us);
    return 2.0 * m * w->shape->n * w->shape->k * calls / (double)(now - start) * 1e-3;
}

#endif
