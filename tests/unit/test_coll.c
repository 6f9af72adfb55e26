/* kernels/coll: sums of every cut, transport and way are those of one rank, bit for bit. Ranks are threads. */
#include "tests/lib/kernels_fixture.h"

#include "tests/lib/coll_fixture.h"
#include <pthread.h>

/* Sums one after another: sizes around a vector, a slice, a chunk of the additions, and a stage of the reader. */
static const uint32_t sizes[] = {1, 15, 4096, 17, 100, 9001, 128, 4096, 2047, 33, 20000, 16};
#define SIZES          (sizeof sizes / sizeof *sizes)
#define SIZE_MAX_ELEMS 20000

/* What one rank alone makes of the same shares. */
struct sum {
    uint32_t shares, elems;
    float *partials;         /* [shares][elems] */
    float *residual, *total; /* [elems] before, after */
};

struct world {
    uint32_t ranks, shares;
    uint16_t cuts[COLL_RANKS + 1];
    bool tcp, shm;
    const struct gw_tls *tls; /* NULL: plain sockets */
    size_t split_elems;
    int threads; /* of each rank's device */
    const struct sum *sums;
    size_t sums_len;
    struct coll_mesh mesh;
};

struct member {
    const struct world *world;
    uint32_t self;
    pthread_t thread;
    char failure[256]; /* empty: all is well */
};

/* A sum of random products, by the operations of one rank. */
static struct sum make_sum(struct gw_rng *r, struct gw_device *dev, uint32_t shares, uint32_t elems)
{
    const struct gw_ops *ops = ops_best("cpu-f32-2");
    struct sum s = {.shares = shares, .elems = elems};
    struct gw_weight w[GW_SHARES_MAX];
    float *x = values_as(r, GW_F32, shares, false), *scratch = take_f32((size_t)shares * elems);
    for (uint32_t i = 0; i < shares; i++) {
        void *src = values_as(r, GW_F32, elems, true);
        w[i] = packed(ops, src, elems, 1);
        free(src);
    }
    s.partials = take_f32((size_t)shares * elems);
    s.residual = values_as(r, GW_F32, elems, false);
    s.total = take_f32(elems);
    memcpy(s.total, s.residual, elems * sizeof(float));
    ops->matmul_shares(dev, s.partials, x, w, shares, 1);
    ops->matmul_tree_add(dev, s.total, x, w, shares, 1, scratch);
    for (uint32_t i = 0; i < shares; i++) free(w[i].data);
    free(x), free(scratch);
    return s;
}

static void free_sums(struct sum *sums, size_t len)
{
    for (size_t i = 0; i < len; i++) free(sums[i].partials), free(sums[i].residual), free(sums[i].total);
}

static bool member_sum(struct member *m, struct gw_coll *coll, struct gw_device *dev, const struct sum *s)
{
    const uint16_t *own = &m->world->cuts[m->self];
    struct gw_err_ctx ctx = {0};
    memcpy(gw_coll_partials(coll, s->elems), s->partials + (size_t)own[0] * s->elems,
           (size_t)(own[1] - own[0]) * s->elems * sizeof(float));
    float *residual = malloc(s->elems * sizeof(float));
    memcpy(residual, s->residual, s->elems * sizeof(float));
    gw_err_t err = gw_coll_tree_add(coll, dev, residual, s->elems, &ctx);
    if (err != GW_OK)
        snprintf(m->failure, sizeof m->failure, "%u elements: %s", s->elems, ctx.text);
    else if (memcmp(residual, s->total, s->elems * sizeof(float)) != 0)
        snprintf(m->failure, sizeof m->failure, "%u elements: other bits", s->elems);
    free(residual);
    return m->failure[0] == '\0';
}

static void *member_main(void *arg)
{
    struct member *m = arg;
    const struct world *w = m->world;
    struct gw_coll_config config =
        coll_config(&w->mesh, m->self, w->ranks, w->shares, w->cuts, SIZE_MAX_ELEMS);
    struct gw_coll *coll = NULL;
    struct gw_device *dev = NULL;
    struct gw_err_ctx ctx = {0};
    config.try_shm = w->shm;
    config.split_elems = w->split_elems;
    gw_device_enter_thread();
    if (gw_device_cpu_create(w->threads, false, &dev, NULL) != GW_OK ||
        gw_coll_create(&config, &coll, &ctx) != GW_OK)
        snprintf(m->failure, sizeof m->failure, "create: %s", ctx.text);
    else if (strcmp(gw_coll_transport(coll), w->shm && w->ranks > 1 ? "shm" : "tcp") != 0)
        snprintf(m->failure, sizeof m->failure, "transport %s", gw_coll_transport(coll));
    for (size_t i = 0; m->failure[0] == '\0' && i < w->sums_len; i++) {
        gw_coll_begin(coll, i);
        if (!member_sum(m, coll, dev, &w->sums[i])) break;
    }
    gw_coll_destroy(coll);
    gw_device_destroy(dev);
    return NULL;
}

static void run_world(struct world *w)
{
    struct member members[COLL_RANKS] = {{0}};
    assert_int_equal(coll_mesh_open(&w->mesh, w->ranks, w->tcp), 0);
    if (w->tls) assert_int_equal(coll_mesh_secure(&w->mesh, w->ranks, w->tls), 0);
    for (uint32_t i = 0; i < w->ranks; i++) {
        members[i] = (struct member){.world = w, .self = i};
        assert_int_equal(pthread_create(&members[i].thread, NULL, member_main, &members[i]), 0);
    }
    for (uint32_t i = 0; i < w->ranks; i++) pthread_join(members[i].thread, NULL);
    for (uint32_t i = 0; i < w->ranks; i++)
        if (members[i].failure[0])
            fail_msg("%u shares, rank %u of %u [%u, %u), tcp=%d shm=%d tls=%d split=%zu: %s", w->shares, i,
                     w->ranks, w->cuts[i], w->cuts[i + 1], w->tcp, w->shm, w->tls != NULL, w->split_elems,
                     members[i].failure);
}

/* Cuts shares into ranks ranges, none empty. */
static void random_cuts(struct gw_rng *r, uint32_t shares, uint32_t ranks, uint16_t *cuts)
{
    bool cut[GW_SHARES_MAX] = {false};
    for (uint32_t left = ranks - 1; left > 0;) {
        uint64_t at = 1 + gw_rng_next(r) % (shares - 1);
        left -= !cut[at];
        cut[at] = true;
    }
    uint32_t len = 0;
    cuts[len++] = 0;
    for (uint32_t i = 1; i < shares; i++)
        if (cut[i]) cuts[len++] = (uint16_t)i;
    cuts[len] = (uint16_t)shares;
}

/* Through sockets, with TLS and without, and shared memory, all exchanged, all split, and as is usual. */
static void all_ways(struct world *w)
{
    static const size_t splits[] = {SIZE_MAX_ELEMS, 1, 0};
    static const struct gw_tls_config config = {.key = "a cluster key", .key_len = 13, .everywhere = true};
    struct gw_tls *tls = NULL;
    assert_int_equal(gw_tls_create(&config, &tls, NULL), GW_OK);
    for (size_t i = 0; i < 3; i++)
        for (int way = 0; way < 3; way++) {
            w->split_elems = splits[i];
            w->shm = way == 1;
            w->tls = way == 2 ? tls : NULL;
            w->tcp = i == 2;
            run_world(w);
        }
    gw_tls_destroy(tls);
}

static void shares_case(struct gw_rng *r, struct gw_device *dev, uint32_t shares, uint32_t ranks,
                        size_t sums_len)
{
    struct sum sums[SIZES];
    struct world w = {.ranks = ranks, .shares = shares, .threads = 1, .sums = sums, .sums_len = sums_len};
    for (size_t i = 0; i < sums_len; i++) sums[i] = make_sum(r, dev, shares, sizes[i]);
    random_cuts(r, shares, ranks, w.cuts);
    all_ways(&w);
    free_sums(sums, sums_len);
}

static void test_tree_add_of_any_cut_equals_one_rank(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (uint32_t shares = 1; shares <= 16; shares++) {
        uint32_t most = shares < COLL_RANKS ? shares : COLL_RANKS;
        shares_case(&r, dev, shares, 1 + (uint32_t)(gw_rng_next(&r) % most), SIZES);
    }
    for (uint32_t ranks = 1; ranks <= COLL_RANKS; ranks++) shares_case(&r, dev, 8, ranks, SIZES);
    shares_case(&r, dev, GW_SHARES_MAX, 5, 5);
    gw_device_destroy(dev);
}

static void test_tree_add_over_several_threads_equals_one_rank(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    struct sum sums[2] = {make_sum(&r, dev, 8, SIZE_MAX_ELEMS), make_sum(&r, dev, 8, 9001)};
    struct world w = {
        .ranks = 3, .shares = 8, .cuts = {0, 3, 6, 8}, .threads = 3, .sums = sums, .sums_len = 2};
    all_ways(&w);
    free_sums(sums, 2);
    gw_device_destroy(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_add_of_any_cut_equals_one_rank),
        cmocka_unit_test(test_tree_add_over_several_threads_equals_one_rank),
    };
    return cmocka_run_group_tests_name("coll", tests, NULL, NULL);
}
