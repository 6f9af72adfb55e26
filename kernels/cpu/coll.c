/* What all transports share: the cut of the tree, the two ways to finish it, sticky errors.
 *
 *     exchange   each rank sends the roots of its shares to all, each finishes the whole tree       one wait
 *     split      elements are cut into a slice per rank: each sends every rank the roots of that
 *                rank's slice, finishes its own slice of the tree, and sends it to all              two waits
 *
 * Both add the same numbers in the same order for each element. Exchange is quicker for small sums; split moves
 * fewer bytes when there are more than two ranks or several roots, and shares out the additions. */
#include "kernels/coll.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/coll_cut.h"
#include "kernels/cpu/coll_shm.h"
#include "kernels/cpu/coll_sum.h"
#include "kernels/cpu/coll_tcp.h"

/* Split begins where it saves a rank so many bytes of receiving: that pays for its second wait. On loopback 32 KiB do; on
 * 10 Gbit/s this is 50 us. */
#define SPLIT_SAVES_BYTES ((size_t)64 << 10)
/* In shared memory, where receiving is reading, it also shares out the additions: measured 2 us more for 16 KiB, the same for
 * 128 to 256 KiB, a quarter less for 1 MiB. */
#define SPLIT_SHM_ELEMS ((size_t)32 << 10)

struct stage_rank {
    uint32_t first, last; /* shares */
    uint32_t roots_len;
    uint8_t roots[GW_SHARE_ROOTS_MAX];
};

struct gw_coll {
    uint32_t self, ranks;
    uint32_t stage_first, stage_self, stage_ranks;
    uint64_t step;
    size_t max_elems, split_elems; /* split: sums of more elements than that */
    struct stage_rank stage[GW_COLL_RANKS_MAX];
    uint32_t within_len, rest_len;
    struct gw_share_add within[GW_SHARE_ADDS_MAX], rest[GW_SHARE_ADDS_MAX];
    struct gw_coll_tcp *tcp;
    struct gw_coll_shm *shm; /* NULL: sums travel through sockets */
    float *memory;           /* without shm: */
    float *partials;         /* [own shares][max_elems] */
    float *received;         /* roots of the others */
    float *total;            /* own slice, then those of the others in their places: [max_elems] */
    struct gw_err_ctx failed;
};

static gw_err_t check_config(const struct gw_coll_config *c, struct gw_err_ctx *ctx)
{
    const struct gw_coll_cut cut = {.self = c->self,
                                    .ranks = c->ranks,
                                    .stage_first = c->stage_first,
                                    .stage_ranks = c->stage_ranks,
                                    .shares = c->shares,
                                    .share_at = c->share_at,
                                    .max_elems = c->max_elems,
                                    .deadline_us = c->deadline_us};
    TRY(gw_coll_cut_check(&cut, ctx));
    for (uint32_t i = c->stage_first; i < c->stage_first + c->stage_ranks; i++)
        if (i != c->self && c->sockets[i].fd < 0)
            return gw_fail(ctx, GW_ERR_INPUT, "no socket to rank %u of the stage", i);
    return GW_OK;
}

static uint32_t roots_of_others(const struct gw_coll *coll, uint32_t rank)
{
    uint32_t len = 0;
    for (uint32_t i = 0; i < coll->stage_ranks; i++)
        if (i != rank) len += coll->stage[i].roots_len;
    return len;
}

/* What split saves the rank that has the most to receive: (roots · elems) becomes (roots · elems / ranks) and the
 * others' slices. The same answer on every rank. */
static size_t split_from_saving(const struct gw_coll *coll)
{
    double most = 0, ranks = coll->stage_ranks;
    for (uint32_t i = 0; i < coll->stage_ranks; i++) {
        double exchange = roots_of_others(coll, i), split = exchange / ranks + (ranks - 1) / ranks;
        if (exchange - split > most) most = exchange - split;
    }
    if (most == 0) return SIZE_MAX;
    return (size_t)((double)SPLIT_SAVES_BYTES / (most * sizeof(float)));
}

static void cut_tree(struct gw_coll *coll, const struct gw_coll_config *c)
{
    for (uint32_t i = 0; i < c->stage_ranks; i++) {
        struct stage_rank *r = &coll->stage[i];
        r->first = c->share_at[i];
        r->last = c->share_at[i + 1];
        r->roots_len = gw_share_tree_roots(c->shares, r->first, r->last, r->roots);
    }
    const struct stage_rank *own = &coll->stage[coll->stage_self];
    coll->within_len = gw_share_tree_within(c->shares, own->first, own->last, coll->within);
    coll->rest_len = gw_share_tree_rest(c->shares, c->share_at, c->stage_ranks, coll->rest);
}

static size_t split_elems(const struct gw_coll *coll, const struct gw_coll_config *c, bool shm)
{
    size_t elems = c->split_elems ? c->split_elems : shm ? SPLIT_SHM_ELEMS : split_from_saving(coll);
    return elems < c->max_elems ? elems : c->max_elems;
}

static size_t round_up(size_t elems)
{
    return (elems + 15) / 16 * 16;
}

/* Memory of a rank whose sums go through sockets, or that is alone. */
static gw_err_t alloc_sums(struct gw_coll *coll, struct gw_err_ctx *ctx)
{
    const struct stage_rank *own = &coll->stage[coll->stage_self];
    bool split = coll->split_elems < coll->max_elems;
    size_t slice = split ? gw_sum_slice_max(coll->max_elems, coll->stage_ranks) : 0;
    size_t each = coll->split_elems > slice ? coll->split_elems : slice;
    size_t partials = round_up((own->last - own->first) * coll->max_elems);
    size_t received = round_up(roots_of_others(coll, coll->stage_self) * each);
    size_t elems = partials + received + (split ? round_up(coll->max_elems) : 0);
    coll->memory = aligned_alloc(64, elems * sizeof(float));
    if (!coll->memory)
        return gw_fail(ctx, GW_ERR_MEMORY, "no memory for sums of %zu elements", coll->max_elems);
    coll->partials = coll->memory;
    coll->received = coll->partials + partials;
    coll->total = coll->received + received;
    return GW_OK;
}

static gw_err_t set_up(struct gw_coll *coll, const struct gw_coll_config *c, struct gw_err_ctx *ctx)
{
    cut_tree(coll, c);
    if (c->try_shm && c->stage_ranks > 1) {
        coll->split_elems = split_elems(coll, c, true);
        TRY(gw_coll_shm_create(c, coll->split_elems, coll->tcp, &coll->shm, ctx));
        if (coll->shm) return GW_OK;
    }
    coll->split_elems = split_elems(coll, c, false);
    return alloc_sums(coll, ctx);
}

static void close_all(const struct gw_coll_config *config)
{
    for (uint32_t i = 0; i < config->ranks && i < GW_COLL_RANKS_MAX; i++) {
        struct gw_socket s = config->sockets[i];
        gw_socket_close(&s);
    }
}

gw_err_t gw_coll_create(const struct gw_coll_config *config, struct gw_coll **out, struct gw_err_ctx *ctx)
{
    gw_err_t err = check_config(config, ctx);
    struct gw_coll *coll = err == GW_OK ? calloc(1, sizeof *coll) : NULL;
    if (!coll) {
        close_all(config);
        return err != GW_OK ? err : gw_fail(ctx, GW_ERR_MEMORY, "no memory for collectives");
    }
    coll->self = config->self;
    coll->ranks = config->ranks;
    coll->stage_first = config->stage_first;
    coll->stage_self = config->self - config->stage_first;
    coll->stage_ranks = config->stage_ranks;
    coll->max_elems = config->max_elems;
    TRY_GOTO(gw_coll_tcp_create(config, &coll->tcp, ctx), out);
    TRY_GOTO(set_up(coll, config, ctx), out);
    *out = coll;
out:
    if (err != GW_OK) gw_coll_destroy(coll);
    return err;
}

void gw_coll_destroy(struct gw_coll *coll)
{
    if (!coll) return;
    gw_coll_shm_destroy(coll->shm);
    gw_coll_tcp_destroy(coll->tcp);
    free(coll->memory);
    free(coll);
}

const char *gw_coll_transport(const struct gw_coll *coll)
{
    return coll->shm ? "shm" : "tcp";
}

void gw_coll_begin(struct gw_coll *coll, uint64_t step)
{
    coll->step = step;
}

/* Every call ends here: the first error stays. */
static gw_err_t settle(struct gw_coll *coll, gw_err_t err, struct gw_err_ctx *ctx)
{
    if (err == GW_OK) return GW_OK;
    gw_fail(&coll->failed, err, "collectives failed");
    return gw_fail(ctx, coll->failed.code, "%s", coll->failed.text);
}

static gw_err_t check_usable(struct gw_coll *coll, struct gw_err_ctx *ctx)
{
    if (coll->failed.code == GW_OK && gw_coll_tcp_aborted(coll->tcp))
        gw_fail(&coll->failed, GW_ERR_IO, "aborted");
    return settle(coll, coll->failed.code, ctx);
}

static bool is_split(const struct gw_coll *coll, size_t elems)
{
    return coll->stage_ranks > 1 && elems > coll->split_elems;
}

float *gw_coll_partials(struct gw_coll *coll, size_t elems)
{
    assert(elems <= coll->max_elems);
    if (!coll->shm) return coll->partials;
    return is_split(coll, elems) ? gw_coll_shm_whole(coll->shm, coll->stage_self)
                                 : gw_coll_shm_exchange(coll->shm, coll->stage_self);
}

/* The rows of a rank's shares in rows[slot]. */
static void set_rows(const struct stage_rank *r, float *sums, size_t elems, float *rows[GW_SHARES_MAX])
{
    for (uint32_t s = r->first; s < r->last; s++) rows[s] = sums + (s - r->first) * elems;
}

static void add_own_subtrees(struct gw_coll *coll, struct gw_device *dev, size_t elems,
                             float *rows[GW_SHARES_MAX])
{
    struct gw_sum within = {.adds = coll->within, .adds_len = coll->within_len, .elems = elems};
    gw_sum_in_place(dev, &within, rows);
}

/* The rest of the tree over elements [at, at + elems) of rows. */
static void finish_tree(struct gw_coll *coll, struct gw_device *dev, float *const rows[GW_SHARES_MAX],
                        size_t at, size_t elems, float *total, float *residual)
{
    struct gw_sum rest = {.adds = coll->rest, .adds_len = coll->rest_len, .elems = elems};
    const float *from[GW_SHARES_MAX] = {NULL};
    for (uint32_t i = 0; i < coll->stage_ranks; i++)
        for (uint32_t k = 0; k < coll->stage[i].roots_len; k++) {
            uint32_t slot = coll->stage[i].roots[k];
            from[slot] = rows[slot] + (i == coll->stage_self || coll->shm ? at : 0);
        }
    gw_sum_to(dev, &rest, from, total, residual);
}

static void add_alone(struct gw_coll *coll, struct gw_device *dev, float *residual, size_t elems)
{
    float *rows[GW_SHARES_MAX] = {NULL};
    const float *from[GW_SHARES_MAX];
    set_rows(&coll->stage[0], coll->partials, elems, rows);
    memcpy(from, rows, sizeof from);
    struct gw_sum tree = {.adds = coll->within, .adds_len = coll->within_len, .elems = elems};
    gw_sum_to(dev, &tree, from, NULL, residual);
}

static gw_err_t exchange_shm(struct gw_coll *coll, struct gw_device *dev, float *residual, size_t elems,
                             struct gw_err_ctx *ctx)
{
    float *rows[GW_SHARES_MAX] = {NULL};
    for (uint32_t i = 0; i < coll->stage_ranks; i++)
        set_rows(&coll->stage[i], gw_coll_shm_exchange(coll->shm, i), elems, rows);
    add_own_subtrees(coll, dev, elems, rows);
    TRY(gw_coll_shm_meet(coll->shm, coll->step, elems, ctx));
    finish_tree(coll, dev, rows, 0, elems, NULL, residual);
    return GW_OK;
}

static gw_err_t split_shm(struct gw_coll *coll, struct gw_device *dev, float *residual, size_t elems,
                          struct gw_err_ctx *ctx)
{
    float *rows[GW_SHARES_MAX] = {NULL};
    for (uint32_t i = 0; i < coll->stage_ranks; i++)
        set_rows(&coll->stage[i], gw_coll_shm_whole(coll->shm, i), elems, rows);
    add_own_subtrees(coll, dev, elems, rows);
    TRY(gw_coll_shm_meet(coll->shm, coll->step, elems, ctx));
    uint32_t ranks = coll->stage_ranks, self = coll->stage_self;
    size_t at = gw_sum_slice_at(elems, ranks, self), end = gw_sum_slice_at(elems, ranks, self + 1);
    finish_tree(coll, dev, rows, at, end - at, gw_coll_shm_slice(coll->shm, self), residual + at);
    TRY(gw_coll_shm_meet(coll->shm, coll->step, elems, ctx));
    for (uint32_t i = 0; i < ranks; i++) {
        if (i == self) continue;
        at = gw_sum_slice_at(elems, ranks, i), end = gw_sum_slice_at(elems, ranks, i + 1);
        gw_sum_add(dev, residual + at, gw_coll_shm_slice(coll->shm, i), end - at);
    }
    return GW_OK;
}

/* Starts to send [at, at + elems) of this rank's roots. Of an empty slice there is no frame. */
static gw_err_t send_roots(struct gw_coll *coll, uint32_t to, float *const rows[GW_SHARES_MAX], size_t at,
                           size_t elems, struct gw_err_ctx *ctx)
{
    const struct stage_rank *own = &coll->stage[coll->stage_self];
    struct iovec pieces[GW_SHARE_ROOTS_MAX];
    if (elems == 0) return GW_OK;
    for (uint32_t k = 0; k < own->roots_len; k++)
        pieces[k] = (struct iovec){rows[own->roots[k]] + at, elems * sizeof(float)};
    struct gw_coll_head head = {.kind = GW_COLL_DATA,
                                .bytes = (uint32_t)(own->roots_len * elems * sizeof(float)),
                                .step = coll->step};
    return gw_coll_tcp_send(coll->tcp, coll->stage_first + to, &head, pieces, own->roots_len, ctx);
}

/* Asks for `elems` of each root of the other ranks, and says where they will be. */
static gw_err_t want_roots(struct gw_coll *coll, size_t elems, float *rows[GW_SHARES_MAX],
                           struct gw_err_ctx *ctx)
{
    float *to = coll->received;
    for (uint32_t i = 0; i < coll->stage_ranks; i++) {
        const struct stage_rank *r = &coll->stage[i];
        if (i == coll->stage_self || elems == 0) continue;
        TRY(gw_coll_tcp_want(coll->tcp, coll->stage_first + i, to, r->roots_len * elems * sizeof(float),
                             coll->step, ctx));
        for (uint32_t k = 0; k < r->roots_len; k++, to += elems) rows[r->roots[k]] = to;
    }
    return GW_OK;
}

/* The i-th rank to send to: each begins with its successor, so that not all send to one. */
static uint32_t after_self(const struct gw_coll *coll, uint32_t i)
{
    return (coll->stage_self + i) % coll->stage_ranks;
}

static gw_err_t exchange_tcp(struct gw_coll *coll, struct gw_device *dev, float *residual, size_t elems,
                             struct gw_err_ctx *ctx)
{
    float *rows[GW_SHARES_MAX] = {NULL};
    set_rows(&coll->stage[coll->stage_self], coll->partials, elems, rows);
    add_own_subtrees(coll, dev, elems, rows);
    TRY(want_roots(coll, elems, rows, ctx));
    for (uint32_t i = 1; i < coll->stage_ranks; i++)
        TRY(send_roots(coll, after_self(coll, i), rows, 0, elems, ctx));
    TRY(gw_coll_tcp_finish(coll->tcp, ctx));
    finish_tree(coll, dev, rows, 0, elems, NULL, residual);
    return GW_OK;
}

/* The second half of a split: every rank's slice of the total to every other. */
static gw_err_t gather_tcp(struct gw_coll *coll, size_t elems, struct gw_err_ctx *ctx)
{
    uint32_t ranks = coll->stage_ranks, self = coll->stage_self;
    for (uint32_t i = 0; i < ranks; i++) {
        size_t at = gw_sum_slice_at(elems, ranks, i), end = gw_sum_slice_at(elems, ranks, i + 1);
        if (i != self && at < end)
            TRY(gw_coll_tcp_want(coll->tcp, coll->stage_first + i, coll->total + at,
                                 (end - at) * sizeof(float), coll->step, ctx));
    }
    size_t at = gw_sum_slice_at(elems, ranks, self), end = gw_sum_slice_at(elems, ranks, self + 1);
    struct iovec slice = {coll->total + at, (end - at) * sizeof(float)};
    struct gw_coll_head head = {.kind = GW_COLL_DATA, .bytes = (uint32_t)slice.iov_len, .step = coll->step};
    for (uint32_t i = 1; i < ranks && at < end; i++)
        TRY(gw_coll_tcp_send(coll->tcp, coll->stage_first + after_self(coll, i), &head, &slice, 1, ctx));
    return gw_coll_tcp_finish(coll->tcp, ctx);
}

static gw_err_t split_tcp(struct gw_coll *coll, struct gw_device *dev, float *residual, size_t elems,
                          struct gw_err_ctx *ctx)
{
    float *rows[GW_SHARES_MAX] = {NULL};
    uint32_t ranks = coll->stage_ranks, self = coll->stage_self;
    size_t at = gw_sum_slice_at(elems, ranks, self), end = gw_sum_slice_at(elems, ranks, self + 1);
    set_rows(&coll->stage[self], coll->partials, elems, rows);
    add_own_subtrees(coll, dev, elems, rows);
    TRY(want_roots(coll, end - at, rows, ctx));
    for (uint32_t i = 1; i < ranks; i++) {
        uint32_t to = after_self(coll, i);
        size_t to_at = gw_sum_slice_at(elems, ranks, to);
        TRY(send_roots(coll, to, rows, to_at, gw_sum_slice_at(elems, ranks, to + 1) - to_at, ctx));
    }
    TRY(gw_coll_tcp_finish(coll->tcp, ctx));
    finish_tree(coll, dev, rows, at, end - at, coll->total + at, NULL);
    TRY(gather_tcp(coll, elems, ctx));
    gw_sum_add(dev, residual, coll->total, elems);
    return GW_OK;
}

static gw_err_t tree_add(struct gw_coll *coll, struct gw_device *dev, float *residual, size_t elems,
                         struct gw_err_ctx *ctx)
{
    if (elems == 0) return GW_OK;
    if (coll->stage_ranks == 1) {
        add_alone(coll, dev, residual, elems);
        return GW_OK;
    }
    if (coll->shm)
        return is_split(coll, elems) ? split_shm(coll, dev, residual, elems, ctx)
                                     : exchange_shm(coll, dev, residual, elems, ctx);
    return is_split(coll, elems) ? split_tcp(coll, dev, residual, elems, ctx)
                                 : exchange_tcp(coll, dev, residual, elems, ctx);
}

gw_err_t gw_coll_tree_add(struct gw_coll *coll, struct gw_device *dev, float *residual, size_t elems,
                          struct gw_err_ctx *ctx)
{
    assert(elems <= coll->max_elems);
    TRY(check_usable(coll, ctx));
    gw_err_t err = GW_OK;
    bool moved;
    if (gw_coll_tcp_backlogged(coll->tcp)) err = gw_coll_tcp_turn(coll->tcp, &moved, &coll->failed);
    if (err == GW_OK) err = tree_add(coll, dev, residual, elems, &coll->failed);
    return settle(coll, err, ctx);
}

gw_err_t gw_coll_send(struct gw_coll *coll, uint32_t rank, enum gw_coll_kind kind, const void *data,
                      size_t bytes, struct gw_err_ctx *ctx)
{
    assert(rank < coll->ranks && rank != coll->self);
    TRY(check_usable(coll, ctx));
    if (bytes > (kind == GW_COLL_CONTROL ? GW_COLL_CONTROL_MAX : GW_COLL_DATA_MAX))
        return settle(coll, gw_fail(&coll->failed, GW_ERR_LIMIT, "a frame of %zu bytes is too large", bytes),
                      ctx);
    struct gw_coll_head head = {.kind = (uint8_t)kind, .bytes = (uint32_t)bytes, .step = coll->step};
    struct iovec piece = {(void *)(uintptr_t)data, bytes};
    gw_err_t err = gw_coll_tcp_send(coll->tcp, rank, &head, &piece, 1, &coll->failed);
    if (err == GW_OK) err = gw_coll_tcp_let_go(coll->tcp, rank, &coll->failed);
    return settle(coll, err, ctx);
}

gw_err_t gw_coll_flush(struct gw_coll *coll, struct gw_err_ctx *ctx)
{
    TRY(check_usable(coll, ctx));
    return settle(coll, gw_coll_tcp_flush(coll->tcp, &coll->failed), ctx);
}

gw_err_t gw_coll_recv(struct gw_coll *coll, uint32_t rank, void *data, size_t bytes, struct gw_err_ctx *ctx)
{
    assert(rank < coll->ranks && rank != coll->self && bytes > 0);
    TRY(check_usable(coll, ctx));
    gw_err_t err = gw_coll_tcp_want(coll->tcp, rank, data, bytes, coll->step, &coll->failed);
    if (err == GW_OK) err = gw_coll_tcp_finish(coll->tcp, &coll->failed);
    return settle(coll, err, ctx);
}

gw_err_t gw_coll_wait(struct gw_coll *coll, uint32_t rank, enum gw_coll_kind kind, int64_t wait_us,
                      bool *there, uint64_t *step, size_t *bytes, struct gw_err_ctx *ctx)
{
    assert(rank < coll->ranks && rank != coll->self && wait_us >= 0);
    TRY(check_usable(coll, ctx));
    struct gw_coll_head head = {0};
    gw_err_t err = gw_coll_tcp_frame(coll->tcp, rank, (uint8_t)kind, gw_clock_mono_us() + wait_us, there,
                                     &head, &coll->failed);
    if (err == GW_OK && *there) {
        *step = head.step;
        *bytes = head.bytes;
    }
    return settle(coll, err, ctx);
}

gw_err_t gw_coll_take(struct gw_coll *coll, uint32_t rank, void *data, size_t bytes, struct gw_err_ctx *ctx)
{
    assert(rank < coll->ranks && rank != coll->self);
    TRY(check_usable(coll, ctx));
    gw_err_t err = gw_coll_tcp_take(coll->tcp, rank, GW_COLL_CONTROL, data, bytes, &coll->failed);
    return settle(coll, err, ctx);
}

void gw_coll_wake(struct gw_coll *coll)
{
    gw_coll_tcp_wake(coll->tcp);
}

void gw_coll_abort(struct gw_coll *coll)
{
    gw_coll_tcp_abort(coll->tcp);
}
