/* What the tests of device collectives share: ranks as threads, each with a device of its own (host_stream.h), over either
 * carrier; sums whose right bits are known to all. */
#ifndef GW_TESTS_LIB_COLL_DEVICE_FIXTURE_H
#define GW_TESTS_LIB_COLL_DEVICE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include "base/rng.h"
#include "kernels/cuda/coll_nccl.h"
#include "kernels/cuda/coll_staged.h"
#include "tests/lib/coll_fixture.h"
#include "tests/lib/fake_nccl.h"
#include "tests/lib/host_stream.h"

#define DEVICE_ELEMS  5000u /* of the largest sum: more than a ring of the fake holds */
#define DEVICE_STAGES 3
#define DEVICE_SUMS   6
#define LONG_US       (120 * GW_US_PER_S)  /* must not be what ends a wait */
#define SHORT_US      (200 * GW_US_PER_MS) /* of waits that must end by it */

static const uint32_t device_sizes[DEVICE_SUMS] = {1, 33, DEVICE_ELEMS, 16, 2047, 128};

struct device_stage {
    uint32_t ranks;
    uint16_t cuts[COLL_RANKS + 1];
};

struct device_rank;

/* Ranks that are one pipeline: stages behind each other. */
struct device_group {
    uint32_t shares;
    struct device_stage stages[DEVICE_STAGES];
    int64_t deadline_us, init_us, end_us;
    const struct gw_nccl *nccl; /* NULL: the staged carrier, over mesh */
    struct gw_nccl_id id;
    struct coll_mesh mesh;
    gw_err_t (*run)(struct device_rank *r);
    uint32_t fail_at; /* for tests that have a rank's device fail */
};

struct device_rank {
    const struct device_group *group;
    uint32_t self;
    const struct device_stage *stage;
    uint32_t stage_first;
    uint64_t generation; /* 3, unless a test says otherwise */
    struct host_device device;
    float *residual; /* device memory, [DEVICE_SUMS][DEVICE_ELEMS] */
    float *data;     /* device memory, [DEVICE_ELEMS] */
    struct gw_coll *frames;
    struct gw_coll_device *coll;
    gw_err_t err;
    struct gw_err_ctx ctx;
    bool rest;      /* what destroy said */
    uint32_t taken; /* pieces of memory that are the test's own */
    uint32_t lost;  /* others that were not given back */
};

static inline uint32_t device_ranks(const struct device_group *g)
{
    uint32_t ranks = 0;
    for (int i = 0; i < DEVICE_STAGES; i++) ranks += g->stages[i].ranks;
    return ranks;
}

/* ---- numbers ------------------------------------------------------------------------------------------------- */

/* Row `share` of a sum: of both signs and many magnitudes, so that another order of additions gives other bits. */
static inline void device_row(float *to, uint64_t seed, uint32_t share, uint32_t elems)
{
    struct gw_rng r;
    gw_rng_init(&r, seed * 1000 + share);
    for (uint32_t i = 0; i < elems; i++)
        to[i] = ((float)gw_rng_unit(&r) - 0.5f) * (float)(1u << gw_rng_below(&r, 20));
}

/* What the residual, once residual_seed's row, must be: the tree as share_tree.h defines it. */
static inline void device_expected(float *to, uint64_t seed, uint32_t shares, uint32_t elems)
{
    float *rows = malloc((size_t)shares * elems * sizeof *rows);
    for (uint32_t s = 0; s < shares; s++) device_row(rows + (size_t)s * elems, seed, s, elems);
    for (uint32_t step = 1; step < shares; step *= 2)
        for (uint32_t i = 0; i + step < shares; i += 2 * step)
            for (uint32_t e = 0; e < elems; e++) rows[i * elems + e] += rows[(i + step) * elems + e];
    device_row(to, seed, GW_SHARES_MAX, elems);
    for (uint32_t e = 0; e < elems; e++) to[e] += rows[e];
    free(rows);
}

struct device_fill {
    float *partials, *residual;
    uint64_t seed;
    uint32_t first, last, elems;
};

static inline void device_run_fill(void *arg)
{
    struct device_fill *f = arg;
    for (uint32_t s = f->first; s < f->last; s++)
        device_row(f->partials + (size_t)(s - f->first) * f->elems, f->seed, s, f->elems);
    device_row(f->residual, f->seed, GW_SHARES_MAX, f->elems);
    free(f);
}

/* Puts the rank's own rows, then a sum of them, on its stream. */
static inline gw_err_t device_sum(struct device_rank *r, uint64_t seed, uint32_t slot, uint32_t elems)
{
    uint32_t at = r->self - r->stage_first;
    struct device_fill *f = malloc(sizeof *f);
    float *residual = r->residual + (size_t)slot * DEVICE_ELEMS;
    *f = (struct device_fill){.partials = gw_coll_device_partials(r->coll),
                              .residual = residual,
                              .seed = seed,
                              .first = r->stage->cuts[at],
                              .last = r->stage->cuts[at + 1],
                              .elems = elems};
    ((struct host_stream_entry *)r->device.stream)->enqueue(r->device.stream, device_run_fill, f);
    return gw_coll_device_tree_add(r->coll, residual, elems, &r->ctx);
}

static inline gw_err_t device_compare(struct device_rank *r, uint64_t seed, uint32_t slot, uint32_t elems)
{
    float *expected = malloc(elems * sizeof *expected);
    device_expected(expected, seed, r->group->shares, elems);
    bool same = memcmp(expected, r->residual + (size_t)slot * DEVICE_ELEMS, elems * sizeof *expected) == 0;
    free(expected);
    return same ? GW_OK : gw_fail(&r->ctx, GW_ERR_INTERNAL, "%u elements: other bits", elems);
}

/* A step of several sums: only when it is finished are their results looked at. */
static inline gw_err_t device_step(struct device_rank *r, uint64_t step)
{
    gw_coll_device_begin(r->coll, step);
    for (uint32_t i = 0; i < DEVICE_SUMS; i++) TRY(device_sum(r, step * DEVICE_SUMS + i, i, device_sizes[i]));
    TRY(gw_coll_device_finish(r->coll, &r->ctx));
    for (uint32_t i = 0; i < DEVICE_SUMS; i++)
        TRY(device_compare(r, step * DEVICE_SUMS + i, i, device_sizes[i]));
    return GW_OK;
}

static inline gw_err_t device_run_steps(struct device_rank *r)
{
    for (uint64_t step = 1; step <= 3; step++) TRY(device_step(r, step));
    return GW_OK;
}

/* ---- ranks --------------------------------------------------------------------------------------------------- */

static inline void device_place(struct device_rank *r, const struct device_group *g, uint32_t self)
{
    *r = (struct device_rank){.group = g, .self = self, .stage = g->stages, .generation = 3};
    while (self - r->stage_first >= r->stage->ranks) r->stage_first += r->stage++->ranks;
}

static inline struct gw_coll_device_config device_config(struct device_rank *r)
{
    const struct device_group *g = r->group;
    return (struct gw_coll_device_config){.term = 7,
                                          .generation = r->generation,
                                          .pipeline = 5,
                                          .self = r->self,
                                          .ranks = device_ranks(g),
                                          .stage_first = r->stage_first,
                                          .stage_ranks = r->stage->ranks,
                                          .shares = g->shares,
                                          .share_at = r->stage->cuts,
                                          .max_elems = DEVICE_ELEMS,
                                          .deadline_us = g->deadline_us,
                                          .end_us = g->end_us,
                                          .ops = &host_stream_ops,
                                          .device = &r->device,
                                          .stream = r->device.stream};
}

static inline gw_err_t device_open_coll(struct device_rank *r)
{
    const struct device_group *g = r->group;
    if (g->nccl) {
        struct gw_coll_nccl_config c = {
            .group = device_config(r), .nccl = g->nccl, .id = g->id, .init_us = g->init_us};
        return gw_coll_nccl_create(&c, &r->coll, &r->ctx);
    }
    struct gw_coll_config f =
        coll_config(&g->mesh, r->self, device_ranks(g), g->shares, r->stage->cuts, DEVICE_ELEMS);
    f.stage_first = r->stage_first;
    f.stage_ranks = r->stage->ranks;
    f.generation = r->generation;
    f.deadline_us = g->deadline_us;
    TRY(gw_coll_create(&f, &r->frames, &r->ctx));
    struct gw_coll_staged_config c = {.group = device_config(r), .coll = r->frames};
    return gw_coll_staged_create(&c, &r->coll, &r->ctx);
}

/* The test's own memory, which no planned fault is for. */
static inline float *device_take(struct device_rank *r, size_t elems)
{
    uint32_t fail_at = r->device.fail_at;
    void *memory = NULL;
    r->device.fail_at = 0;
    if (host_stream_ops.alloc(&r->device, elems * sizeof(float), &memory, NULL) != GW_OK) abort();
    atomic_store(&r->device.calls, 0);
    r->device.fail_at = fail_at;
    r->taken++;
    return memory;
}

static inline gw_err_t device_open(struct device_rank *r)
{
    host_device_open(&r->device);
    r->residual = device_take(r, (size_t)DEVICE_SUMS * DEVICE_ELEMS);
    r->data = device_take(r, DEVICE_ELEMS);
    return device_open_coll(r);
}

static inline void device_close(struct device_rank *r)
{
    r->device.fail_at = 0;
    r->rest = gw_coll_device_destroy(r->coll);
    gw_coll_destroy(r->frames);
    r->lost = host_device_close(&r->device) - r->taken;
}

static inline void *device_rank_main(void *arg)
{
    struct device_rank *r = arg;
    r->err = device_open(r);
    if (r->err == GW_OK) r->err = r->group->run(r);
    device_close(r);
    return NULL;
}

/* Runs all ranks to their ends. prepare (NULL: nothing): what is special about some of them. */
static inline void device_run(struct device_group *g, struct device_rank *ranks,
                              void (*prepare)(struct device_rank *r))
{
    pthread_t threads[COLL_RANKS];
    uint32_t len = device_ranks(g);
    if (g->nccl) assert_int_equal(gw_nccl_make_id(g->nccl, &g->id, NULL), GW_OK);
    if (!g->nccl) assert_int_equal(coll_mesh_open(&g->mesh, len, true), 0);
    for (uint32_t i = 0; i < len; i++) {
        device_place(&ranks[i], g, i);
        if (prepare) prepare(&ranks[i]);
    }
    for (uint32_t i = 0; i < len; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, device_rank_main, &ranks[i]), 0);
    for (uint32_t i = 0; i < len; i++) pthread_join(threads[i], NULL);
}

static inline void device_assert_text(const struct device_rank *r, gw_err_t err, const char *text)
{
    if (r->err != err || !strstr(r->ctx.text, text))
        fail_msg("rank %u: %s, not: %s", r->self, r->ctx.text, text);
}

/* Whatever has happened, no memory is lost and the device is at rest. */
static inline void device_assert_clean(const struct device_rank *ranks, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        assert_true(ranks[i].rest);
        assert_int_equal(ranks[i].lost, 0);
        if (ranks[i].err == GW_ERR_INTERNAL && strstr(ranks[i].ctx.text, "other bits"))
            fail_msg("rank %u: %s", i, ranks[i].ctx.text);
    }
}

static inline void device_assert_well(const struct device_rank *ranks, uint32_t len)
{
    uint32_t failed = 0;
    for (uint32_t i = 0; i < len; i++) {
        if (ranks[i].err != GW_OK) print_error("rank %u: %s\n", i, ranks[i].ctx.text);
        failed += ranks[i].err != GW_OK;
    }
    assert_int_equal(failed, 0);
    for (uint32_t i = 0; i < len; i++) {
        assert_true(ranks[i].rest);
        assert_int_equal(ranks[i].lost, 0);
    }
}

/* ---- the fake library ---------------------------------------------------------------------------------------- */

struct fake_nccl {
    struct gw_nccl api;
    fake_nccl_set_fn *set;
    fake_nccl_get_counts_fn *get_counts;
    fake_nccl_let_go_fn *let_go;
};

/* Beside the test: build/<variant>/tests/unit/.. */
static inline void fake_nccl_path(char *path, size_t size)
{
    char exe[256];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    assert_true(len > 0);
    exe[len] = '\0';
    *strrchr(exe, '/') = '\0';
    assert_true((size_t)snprintf(path, size, "%s/../lib/fake_nccl.so", exe) < size);
}

static inline void fake_nccl_open(struct fake_nccl *fake, const struct fake_nccl_plan *plan)
{
    struct gw_err_ctx ctx = {0};
    char path[300];
    fake_nccl_path(path, sizeof path);
    if (gw_nccl_open(path, &fake->api, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    void *set = dlsym(fake->api.library, "fake_nccl_set");
    void *get_counts = dlsym(fake->api.library, "fake_nccl_get_counts");
    void *let_go = dlsym(fake->api.library, "fake_nccl_let_go");
    assert_true(set && get_counts && let_go);
    memcpy(&fake->set, &set, sizeof set);
    memcpy(&fake->get_counts, &get_counts, sizeof get_counts);
    memcpy(&fake->let_go, &let_go, sizeof let_go);
    fake->set(plan);
}

/* No communicator may be left, whatever happened. */
static inline struct fake_nccl_counts fake_nccl_end(struct fake_nccl *fake)
{
    struct fake_nccl_counts counts;
    fake->get_counts(&counts);
    assert_int_equal(counts.living, 0);
    gw_nccl_close(&fake->api);
    return counts;
}

#endif
