#include "controller/journal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/pool.h"

#define WAITERS_FIRST_CAP 64
#define BATCH_KEPT_BYTES  ((size_t)4 << 20)
#define RETRY_US          GW_US_PER_S
#define KEEPS_PER_LEASE   3  /* as often as a lease is renewed */
#define CHANGE_BYTES      13 /* what a change adds to its piece */
/* Ends are always taken: a lost one keeps its entry until the next start. */
#define END_SLACK ((size_t)1 << 20)

struct waiter {
    void (*durable)(void *arg, gw_err_t err);
    void *arg;
};

struct waiters {
    struct waiter *list;
    size_t len, cap; /* grows with the requests that begin while one batch is written */
};

struct batch {
    struct gw_buf bytes;
    struct waiters waiters;
};

struct gw_journal {
    struct event_base *loop;
    const struct gw_journal_ops *ops;
    void *state;
    const struct gw_log *log;
    void (*lost)(void *arg, const char *why);
    void *lost_arg;
    struct gw_pool *pool; /* one thread */
    struct event *flush;  /* a batch is due */
    struct event *keep;
    uint64_t term;
    struct gw_journal_table *loaded;
    struct batch batches[2];
    struct batch *pending, *writing; /* writing: NULL while the thread has nothing */
    bool keeping, fenced, closing;
    int64_t due_us; /* when flush fires; 0 = it is not set */
    int64_t began_us;
    int64_t asked_us; /* the last write or renewal began … */
    int64_t held_us;  /* … and the last that succeeded */
    struct gw_journal_stats stats;
    /* the thread's results */
    gw_err_t err;
    bool now_fenced;
    struct gw_err_ctx ctx;
};

static void write_pending(struct gw_journal *j);
static gw_err_t put_change(struct gw_journal *j, const struct gw_change *change);
static void want_flush(struct gw_journal *j, int64_t us);

static void set_timer(struct event *timer, int64_t us)
{
    struct timeval t = {.tv_sec = us / GW_US_PER_S, .tv_usec = us % GW_US_PER_S};
    event_add(timer, &t);
}

static void tell_waiters(struct batch *b, gw_err_t err)
{
    struct waiters w = b->waiters;
    b->waiters = (struct waiters){0};
    for (size_t i = 0; i < w.len; i++) w.list[i].durable(w.list[i].arg, err);
    free(w.list);
}

static void fence(struct gw_journal *j)
{
    if (j->fenced) return;
    j->fenced = true;
    gw_logf(j->log, GW_LOG_ERROR, "journal: lost: %s", j->ctx.text);
    if (j->lost && !j->closing) j->lost(j->lost_arg, j->ctx.text);
}

/* ---- the thread's work ---- */

static void write_work(void *arg)
{
    struct gw_journal *j = arg;
    j->now_fenced = false;
    gw_err_reset(&j->ctx);
    j->err = j->ops->write(j->state, j->writing->bytes.data, j->writing->bytes.len, &j->now_fenced, &j->ctx);
}

static void keep_work(void *arg)
{
    struct gw_journal *j = arg;
    j->now_fenced = false;
    gw_err_reset(&j->ctx);
    j->err = j->ops->keep(j->state, &j->now_fenced, &j->ctx);
}

/* ---- its end, on the loop ---- */

/* From its beginning on: the answer may have been under way for long. */
static void note_held(struct gw_journal *j)
{
    if (j->err == GW_OK) j->held_us = j->asked_us;
}

static void count_batch(struct gw_journal *j)
{
    struct gw_journal_stats *s = &j->stats;
    uint64_t us = (uint64_t)(gw_clock_mono_us() - j->began_us);
    if (j->err == GW_OK) {
        if (s->failing) gw_logf(j->log, GW_LOG_INFO, "journal: writing works again");
        s->batches++;
        s->bytes += j->writing->bytes.len;
        s->write_us += us;
        if (us > s->write_us_max) s->write_us_max = us;
    } else {
        if (!s->failing) gw_logf(j->log, GW_LOG_ERROR, "journal: not durable: %s", j->ctx.text);
        s->failures++;
    }
    s->failing = j->err != GW_OK;
}

static void rearm_keep(struct gw_journal *j)
{
    int64_t us = j->ops->keep_us ? j->ops->keep_us(j->state) : 0;
    if (us > 0 && !j->fenced && !j->closing) set_timer(j->keep, us);
}

/* The thread is free again. */
static void go_on(struct gw_journal *j)
{
    rearm_keep(j);
    if (j->pending->waiters.len > 0) write_pending(j);
}

/* A batch's memory is kept unless it was an unusually large one. */
static void empty(struct gw_buf *b)
{
    if (b->cap <= BATCH_KEPT_BYTES) {
        gw_buf_reset(b);
        return;
    }
    gw_buf_fini(b);
    gw_buf_init(b, GW_JOURNAL_PENDING_MAX);
}

/* The ends in a batch that failed are tried again: else their entries would stay until the next start. */
static void keep_ends(struct gw_journal *j, const struct gw_buf *failed)
{
    struct gw_reader r;
    struct gw_change change;
    gw_reader_init(&r, failed->data, failed->len);
    while (r.pos < r.len && gw_change_get(&r, &change) == GW_OK)
        if (change.kind == GW_CHANGE_END && put_change(j, &change) == GW_OK) want_flush(j, RETRY_US);
}

static void write_done(void *arg, bool skipped)
{
    struct gw_journal *j = arg;
    struct batch *b = j->writing;
    if (skipped) write_work(j); /* the thread has ended before its turn */
    gw_err_t err = j->err;
    note_held(j);
    count_batch(j);
    j->writing = NULL;
    if (j->now_fenced) fence(j);
    if (err != GW_OK && !j->fenced && !j->closing) keep_ends(j, &b->bytes);
    empty(&b->bytes);
    tell_waiters(b, err);
    if (!j->closing) go_on(j);
}

static void keep_done(void *arg, bool skipped)
{
    struct gw_journal *j = arg;
    j->keeping = false;
    if (skipped) return;
    note_held(j);
    if (j->err != GW_OK && !j->now_fenced) gw_logf(j->log, GW_LOG_WARN, "journal: %s", j->ctx.text);
    if (j->now_fenced) fence(j);
    if (!j->closing) go_on(j);
}

/* ---- batches ---- */

static bool thread_is_busy(const struct gw_journal *j)
{
    return j->writing || j->keeping;
}

static void swap_batches(struct gw_journal *j)
{
    j->writing = j->pending;
    j->pending = j->pending == &j->batches[0] ? &j->batches[1] : &j->batches[0];
    j->asked_us = j->began_us = gw_clock_mono_us();
}

static void write_pending(struct gw_journal *j)
{
    const struct gw_job job = {.work = write_work, .done = write_done, .arg = j};
    if (thread_is_busy(j) || j->pending->bytes.len == 0) return;
    event_del(j->flush);
    j->due_us = 0;
    swap_batches(j);
    gw_err_t err = gw_pool_submit(j->pool, job);
    assert(err == GW_OK); /* one at a time: there is room */
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_journal *j = arg;
    j->due_us = 0;
    if (thread_is_busy(j) && j->pending->bytes.len > 0) {
        j->due_us = gw_clock_mono_us() + GW_JOURNAL_BATCH_US;
        set_timer(j->flush, GW_JOURNAL_BATCH_US);
        return;
    }
    write_pending(j);
}

static void on_keep(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_journal *j = arg;
    const struct gw_job job = {.work = keep_work, .done = keep_done, .arg = j};
    if (thread_is_busy(j) || j->fenced) return; /* a write keeps it, too; its end sets the timer again */
    j->asked_us = gw_clock_mono_us();
    j->keeping = gw_pool_submit(j->pool, job) == GW_OK;
}

/* A batch is due after us at the latest. */
static void want_flush(struct gw_journal *j, int64_t us)
{
    int64_t due_us = gw_clock_mono_us() + us;
    if (j->due_us != 0 && j->due_us <= due_us) return;
    j->due_us = due_us;
    set_timer(j->flush, us);
}

static gw_err_t add_waiter(struct waiters *w, void (*durable)(void *arg, gw_err_t err), void *arg)
{
    if (w->len == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : WAITERS_FIRST_CAP;
        struct waiter *list = realloc(w->list, cap * sizeof *list);
        if (!list) return GW_ERR_MEMORY;
        w->list = list;
        w->cap = cap;
    }
    w->list[w->len++] = (struct waiter){durable, arg};
    return GW_OK;
}

/* The change is in the pending batch whole, or not at all. */
static gw_err_t put_change(struct gw_journal *j, const struct gw_change *change)
{
    struct gw_buf *b = &j->pending->bytes;
    size_t before = b->len;
    gw_change_put(b, change);
    if (b->err == GW_OK) return GW_OK;
    gw_err_t err = b->err;
    b->len = before;
    b->err = GW_OK;
    return err;
}

gw_err_t gw_journal_append(struct gw_journal *j, uint64_t entry, const void *piece, size_t len,
                           void (*durable)(void *arg, gw_err_t err), void *arg)
{
    const struct gw_change change = {.kind = GW_CHANGE_APPEND, .entry = entry, .piece = piece, .len = len};
    struct waiters *w = &j->pending->waiters;
    gw_err_t err = j->fenced ? GW_ERR_IO : GW_OK;
    if (err == GW_OK && (len > GW_JOURNAL_PIECE_MAX ||
                         j->pending->bytes.len + CHANGE_BYTES + len > GW_JOURNAL_PENDING_MAX - END_SLACK))
        err = GW_ERR_LIMIT;
    if (err == GW_OK && durable) err = add_waiter(w, durable, arg);
    if (err == GW_OK && (err = put_change(j, &change)) != GW_OK && durable) w->len--;
    if (err != GW_OK) {
        j->stats.refused++;
        return err;
    }
    want_flush(j, durable ? 0 : GW_JOURNAL_BATCH_US);
    return GW_OK;
}

void gw_journal_end(struct gw_journal *j, uint64_t entry)
{
    const struct gw_change change = {.kind = GW_CHANGE_END, .entry = entry};
    if (j->fenced) return;
    if (put_change(j, &change) != GW_OK) j->stats.refused++;
    want_flush(j, GW_JOURNAL_BATCH_US);
}

/* ---- life ---- */

static gw_err_t set_up(struct gw_journal *j, const struct gw_journal_config *config, struct gw_err_ctx *ctx)
{
    for (int i = 0; i < 2; i++) gw_buf_init(&j->batches[i].bytes, GW_JOURNAL_PENDING_MAX);
    j->pending = &j->batches[0];
    j->loaded = gw_journal_table_create();
    j->flush = evtimer_new(j->loop, on_flush, j);
    j->keep = evtimer_new(j->loop, on_keep, j);
    if (!j->loaded || !j->flush || !j->keep) return gw_fail(ctx, GW_ERR_MEMORY, "journal: out of memory");
    TRY(gw_pool_create(j->loop, 1, 2, &j->pool, ctx));
    j->held_us = gw_clock_mono_us();
    return j->ops->open(config, j->loaded, &j->term, &j->state, ctx);
}

gw_err_t gw_journal_open(struct event_base *loop, const struct gw_journal_ops *ops,
                         const struct gw_journal_config *config, struct gw_journal **out,
                         struct gw_err_ctx *ctx)
{
    struct gw_journal *j = calloc(1, sizeof *j);
    if (!j) return gw_fail(ctx, GW_ERR_MEMORY, "journal: out of memory");
    j->loop = loop;
    j->ops = ops;
    j->log = config->log;
    j->lost = config->lost;
    j->lost_arg = config->arg;
    gw_err_t err = set_up(j, config, ctx);
    if (err != GW_OK) {
        gw_journal_close(j);
        return gw_fail_prefix(ctx, err, "journal %s", config->where);
    }
    rearm_keep(j);
    *out = j;
    return GW_OK;
}

/* The thread has ended: what is pending is written here. */
static void write_rest(struct gw_journal *j)
{
    if (!j->state || j->fenced || j->pending->bytes.len == 0) return;
    swap_batches(j);
    write_work(j);
    write_done(j, false);
}

void gw_journal_close(struct gw_journal *j)
{
    if (!j) return;
    j->closing = true;
    gw_pool_destroy(j->pool);
    write_rest(j);
    for (int i = 0; i < 2; i++) {
        tell_waiters(&j->batches[i], GW_ERR_IO);
        gw_buf_fini(&j->batches[i].bytes);
    }
    if (j->state) j->ops->close(j->state);
    gw_journal_table_destroy(j->loaded);
    if (j->flush) event_free(j->flush);
    if (j->keep) event_free(j->keep);
    free(j);
}

uint64_t gw_journal_term(const struct gw_journal *j)
{
    return j->term;
}

bool gw_journal_held(const struct gw_journal *j)
{
    int64_t keep_us = j->ops->keep_us ? j->ops->keep_us(j->state) : 0;
    if (j->fenced || j->closing) return false;
    return keep_us == 0 || gw_clock_mono_us() - j->held_us < KEEPS_PER_LEASE * keep_us;
}

gw_err_t gw_journal_replay(struct gw_journal *j,
                           gw_err_t (*each)(void *arg, uint64_t entry, const void *pieces, size_t len),
                           void *arg)
{
    struct gw_journal_table *loaded = j->loaded;
    j->loaded = NULL;
    gw_err_t err = loaded ? gw_journal_table_each(loaded, each, arg) : GW_OK;
    gw_journal_table_destroy(loaded);
    return err;
}

void gw_journal_stats(const struct gw_journal *j, struct gw_journal_stats *out)
{
    *out = j->stats;
}
