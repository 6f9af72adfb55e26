/* What the tests of picking share: rows with every kind of logit, and what may be wanted of them. */
#ifndef GW_TESTS_LIB_PICK_FIXTURE_H
#define GW_TESTS_LIB_PICK_FIXTURE_H

#include "tests/lib/kernels_fixture.h"

#include <float.h>
#include <math.h>

#include "kernels/pick.h"

#define VOCAB_MAX 6000
#define ROWS      5
#define SHARES    5
#define EDITS     30

struct wants {
    struct gw_pick_want want[ROWS];
    struct gw_pick_change added[EDITS], taken[EDITS];
    uint32_t repeated[EDITS], masked[3], edits;
};

/* An id that none of the list's first `len` are; ids lie `stride` bytes apart. */
static inline uint32_t new_id(struct gw_rng *r, uint32_t vocab, const void *list, uint32_t len, size_t stride)
{
    for (;;) {
        uint32_t id = (uint32_t)gw_rng_below(r, vocab), at = 0, other = 0;
        for (; at < len; at++) {
            memcpy(&other, (const uint8_t *)list + at * stride, sizeof other);
            if (other == id) break;
        }
        if (at == len) return id;
    }
}

/* Lists of w->edits ids each: none twice in a list, some in several. */
static inline void fill_lists(struct gw_rng *r, uint32_t vocab, struct wants *w)
{
    w->edits = vocab / 2 < EDITS ? vocab / 2 : EDITS;
    for (uint32_t i = 0; i < w->edits; i++) {
        w->added[i] =
            (struct gw_pick_change){new_id(r, vocab, w->added, i, sizeof *w->added), plain_value(r) * 3};
        w->taken[i] =
            (struct gw_pick_change){new_id(r, vocab, w->taken, i, sizeof *w->taken), plain_value(r)};
        w->repeated[i] = new_id(r, vocab, w->repeated, i, sizeof *w->repeated);
    }
    for (int i = 0; i < 3; i++) w->masked[i] = (uint32_t)gw_rng_below(r, vocab);
}

static inline void fill_wants(struct gw_rng *r, uint32_t vocab, struct wants *w)
{
    fill_lists(r, vocab, w);
    for (int i = 0; i < ROWS; i++) {
        struct gw_pick_want *want = &w->want[i];
        *want = (struct gw_pick_want){.stream = gw_rng_next(r), .inverse = 0.3f + (float)gw_rng_unit(r) * 3};
        if (gw_rng_below(r, 3)) want->keep = 1 + (uint32_t)gw_rng_below(r, GW_PICK_KEEP_MAX);
        want->top = (uint32_t)gw_rng_below(r, GW_PICK_TOP_MAX + 1);
        want->weights = gw_rng_below(r, 2);
        want->stats = gw_rng_below(r, 2);
        if (gw_rng_below(r, 2)) continue;
        want->edits = (struct gw_pick_edits){.added = w->added,
                                             .repeated = w->repeated,
                                             .taken = w->taken,
                                             .masked = w->masked,
                                             .added_len = w->edits,
                                             .repeated_len = w->edits,
                                             .taken_len = w->edits,
                                             .masked_len = 3,
                                             .repetition = 1.5f};
    }
}

static inline void fill_rows(struct gw_rng *r, float *x, uint32_t vocab)
{
    for (uint32_t row = 0; row < ROWS; row++) {
        float spread = (float)(1 << gw_rng_below(r, 6));
        bool coarse = gw_rng_below(r, 2);
        for (uint32_t i = 0; i < vocab; i++) {
            float v = spread * plain_value(r);
            x[row * vocab + i] = coarse ? floorf(v) : v;
            if (gw_rng_below(r, 100) == 0) x[row * vocab + i] = -INFINITY;
            if (row == 0 && gw_rng_below(r, 20) == 0) x[i] = NAN;
            if (row == 1 && gw_rng_below(r, 20) == 0) x[vocab + i] = value(r);
        }
    }
}

/* A vocabulary of random size, its smallest ones too. */
static inline uint32_t some_vocab(struct gw_rng *r)
{
    return SHARES + (uint32_t)gw_rng_below(r, gw_rng_below(r, 2) ? 100 : VOCAB_MAX - SHARES);
}

#endif
