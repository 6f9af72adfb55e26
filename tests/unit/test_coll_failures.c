/* kernels/coll: what ends a wait (abort, wake, death, frost, a rank that is elsewhere), and what must not block. */
#include "tests/lib/kernels_fixture.h"

#include "tests/lib/coll_fixture.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define ELEMS  5000u
#define SHARES 4u
#define LONG   (120 * GW_US_PER_S) /* a deadline that must not be what ends the wait */
#define PROMPT (60 * GW_US_PER_S)

/* One rank as a thread: `run` with a coll of its own, its result in err and ctx. */
struct rank {
    uint32_t self;
    const struct party *party;
    struct gw_coll *coll;
    struct gw_device *dev;
    gw_err_t err;
    struct gw_err_ctx ctx;
};

struct party {
    struct coll_mesh mesh;
    uint32_t ranks, stage_ranks; /* ranks behind the first stage are alone in theirs */
    bool shm;
    int64_t deadline_us;
    gw_err_t (*run)(struct rank *r);
};

static const uint16_t even_cuts[] = {0, 2, 4}, alone_cuts[] = {0, 4};

static gw_err_t open_rank(struct rank *r)
{
    const struct party *p = r->party;
    bool alone = r->self >= p->stage_ranks;
    struct gw_coll_config c = coll_config(&p->mesh, r->self, p->ranks, SHARES, even_cuts, ELEMS);
    c.stage_first = alone ? r->self : 0;
    c.stage_ranks = alone ? 1 : p->stage_ranks;
    c.share_at = alone ? alone_cuts : even_cuts;
    c.try_shm = p->shm;
    c.deadline_us = p->deadline_us;
    gw_device_enter_thread();
    TRY(gw_device_cpu_create(1, false, &r->dev, &r->ctx));
    TRY(gw_coll_create(&c, &r->coll, &r->ctx));
    gw_coll_begin(r->coll, 1);
    return GW_OK;
}

static void close_rank(struct rank *r)
{
    gw_coll_destroy(r->coll);
    gw_device_destroy(r->dev);
}

static void *rank_main(void *arg)
{
    struct rank *r = arg;
    r->err = open_rank(r);
    if (r->err == GW_OK) r->err = r->party->run(r);
    close_rank(r);
    return NULL;
}

static void run_party(struct party *p, bool tcp, struct rank ranks[COLL_RANKS])
{
    pthread_t threads[COLL_RANKS];
    assert_int_equal(coll_mesh_open(&p->mesh, p->ranks, tcp), 0);
    for (uint32_t i = 0; i < p->ranks; i++) {
        ranks[i] = (struct rank){.self = i, .party = p};
        assert_int_equal(pthread_create(&threads[i], NULL, rank_main, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < p->ranks; i++) pthread_join(threads[i], NULL);
}

static void assert_all_ok(const struct rank *ranks, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        if (ranks[i].err != GW_OK) fail_msg("rank %u: %s", i, ranks[i].ctx.text);
}

/* A sum of nothing but its waits. */
static gw_err_t add_zeros(struct rank *r, size_t elems)
{
    float *residual = calloc(elems, sizeof *residual);
    memset(gw_coll_partials(r->coll, elems), 0, 2 * elems * sizeof(float));
    gw_err_t err = gw_coll_tree_add(r->coll, r->dev, residual, elems, &r->ctx);
    free(residual);
    return err;
}

struct timer {
    pthread_t thread;
    struct gw_coll *coll;
    void (*act)(struct gw_coll *coll);
    pid_t pid; /* to kill instead */
};

static void *timer_main(void *arg)
{
    struct timer *t = arg;
    poll(NULL, 0, 30); /* by then the other thread waits; the test holds whether or not it does */
    if (t->act)
        t->act(t->coll);
    else
        kill(t->pid, SIGKILL);
    return NULL;
}

static void timer_start(struct timer *t)
{
    if (pthread_create(&t->thread, NULL, timer_main, t) != 0) abort();
}

static gw_err_t run_one_sum(struct rank *r)
{
    return add_zeros(r, ELEMS);
}

/* Waits for a control frame that never comes, or for rank 0 to close. */
static gw_err_t wait_for_nothing(struct rank *r)
{
    bool there;
    uint64_t step;
    size_t bytes;
    return gw_coll_wait(r->coll, 0, GW_COLL_CONTROL, LONG, &there, &step, &bytes, &r->ctx);
}

/* Rank 0 waits for a sum that rank 1, who is there, never makes. */
static gw_err_t run_abort_sum(struct rank *r)
{
    if (r->self == 1) return wait_for_nothing(r);
    struct timer t = {.coll = r->coll, .act = gw_coll_abort};
    timer_start(&t);
    gw_err_t err = add_zeros(r, ELEMS);
    pthread_join(t.thread, NULL);
    return err;
}

static void test_abort_ends_a_sum_and_the_other_rank_hears_of_it(void **state)
{
    (void)state;
    for (int shm = 0; shm < 2; shm++) {
        struct party p = {
            .ranks = 2, .stage_ranks = 2, .shm = shm, .deadline_us = LONG, .run = run_abort_sum};
        struct rank ranks[COLL_RANKS];
        int64_t start = gw_clock_mono_us();
        run_party(&p, true, ranks);
        assert_true(gw_clock_mono_us() - start < PROMPT);
        assert_int_equal(ranks[0].err, GW_ERR_IO);
        assert_string_equal(ranks[0].ctx.text, "aborted");
        assert_int_equal(ranks[1].err, GW_ERR_IO); /* its coll is destroyed: the socket closes */
        assert_string_equal(ranks[1].ctx.text, "rank 0 closed its socket");
    }
}

static gw_err_t run_wait(struct rank *r, void (*act)(struct gw_coll *), bool before)
{
    char byte;
    bool there = true;
    uint64_t step;
    size_t bytes;
    if (r->self == 1) return gw_coll_recv(r->coll, 0, &byte, 1, &r->ctx);
    struct timer t = {.coll = r->coll, .act = act};
    if (before)
        act(r->coll);
    else
        timer_start(&t);
    gw_err_t err = gw_coll_wait(r->coll, 1, GW_COLL_CONTROL, LONG, &there, &step, &bytes, &r->ctx);
    if (!before) pthread_join(t.thread, NULL);
    if (err != GW_OK) return err;
    /* One wake-up ends one wait. */
    int64_t start = gw_clock_mono_us();
    if (!there) TRY(gw_coll_wait(r->coll, 1, GW_COLL_CONTROL, 20000, &there, &step, &bytes, &r->ctx));
    if (there) return gw_fail(&r->ctx, GW_ERR_INTERNAL, "there is no frame");
    if (gw_clock_mono_us() - start < 20000) return gw_fail(&r->ctx, GW_ERR_INTERNAL, "woken twice");
    return gw_coll_send(r->coll, 1, GW_COLL_DATA, "x", 1, &r->ctx);
}

static gw_err_t run_abort_wait(struct rank *r)
{
    return run_wait(r, gw_coll_abort, false);
}

static gw_err_t run_wake(struct rank *r)
{
    return run_wait(r, gw_coll_wake, false);
}

static gw_err_t run_wake_before(struct rank *r)
{
    return run_wait(r, gw_coll_wake, true);
}

static void test_abort_ends_a_wait(void **state)
{
    (void)state;
    struct party p = {.ranks = 2, .stage_ranks = 2, .deadline_us = LONG, .run = run_abort_wait};
    struct rank ranks[COLL_RANKS];
    run_party(&p, true, ranks);
    assert_int_equal(ranks[0].err, GW_ERR_IO);
    assert_string_equal(ranks[0].ctx.text, "aborted");
}

static void test_wake_ends_a_wait_that_is_under_way_or_the_next(void **state)
{
    (void)state;
    int64_t start = gw_clock_mono_us();
    for (int before = 0; before < 2; before++) {
        struct party p = {
            .ranks = 2, .stage_ranks = 2, .deadline_us = LONG, .run = before ? run_wake_before : run_wake};
        struct rank ranks[COLL_RANKS];
        run_party(&p, true, ranks);
        assert_all_ok(ranks, 2);
    }
    assert_true(gw_clock_mono_us() - start < PROMPT);
}

/* Far more than sockets and backlogs hold, to each other, before either reads. */
static gw_err_t run_send_both_ways(struct rank *r)
{
    enum { FRAMES = 4 };
    size_t bytes = (size_t)12 << 20;
    uint8_t *data = malloc(bytes);
    gw_err_t err = GW_OK;
    for (int i = 0; i < FRAMES && err == GW_OK; i++) {
        memset(data, 16 * i + (int)r->self, bytes);
        err = gw_coll_send(r->coll, 1 - r->self, GW_COLL_DATA, data, bytes, &r->ctx);
    }
    for (int i = 0; i < FRAMES && err == GW_OK; i++) {
        err = gw_coll_recv(r->coll, 1 - r->self, data, bytes, &r->ctx);
        uint8_t want = (uint8_t)(16 * i + 1 - (int)r->self);
        if (err == GW_OK && (data[0] != want || memcmp(data, data + 1, bytes - 1) != 0))
            err = gw_fail(&r->ctx, GW_ERR_INTERNAL, "frame %d: other bytes", i);
    }
    /* A rank that leaves takes what is queued with it: each waits until the other has read all. */
    if (err == GW_OK) err = gw_coll_send(r->coll, 1 - r->self, GW_COLL_DATA, data, 1, &r->ctx);
    if (err == GW_OK) err = gw_coll_recv(r->coll, 1 - r->self, data, 1, &r->ctx);
    free(data);
    return err;
}

static void test_ranks_that_send_to_each_other_do_not_block(void **state)
{
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        struct party p = {.ranks = 2, .stage_ranks = 2, .deadline_us = LONG, .run = run_send_both_ways};
        struct rank ranks[COLL_RANKS];
        run_party(&p, tcp, ranks);
        assert_all_ok(ranks, 2);
    }
}

/* Rank 0 waits for rank 1, rank 1 for rank 2, and rank 2 until rank 0 has read what no buffer holds. */
static gw_err_t run_ring(struct rank *r)
{
    size_t bytes = (size_t)24 << 20;
    uint8_t *data = calloc(1, bytes), byte;
    gw_err_t err = GW_OK;
    if (r->self == 2) {
        for (int i = 0; i < 2 && err == GW_OK; i++)
            err = gw_coll_send(r->coll, 0, GW_COLL_DATA, data, bytes, &r->ctx);
        if (err == GW_OK) err = gw_coll_send(r->coll, 1, GW_COLL_DATA, data, 1, &r->ctx);
        if (err == GW_OK) err = gw_coll_recv(r->coll, 0, &byte, 1, &r->ctx); /* flushes what is copied */
    } else {
        if (r->self == 1) err = gw_coll_recv(r->coll, 2, &byte, 1, &r->ctx);
        if (err == GW_OK) err = add_zeros(r, 100);
        for (int i = 0; i < 2 && err == GW_OK && r->self == 0; i++)
            err = gw_coll_recv(r->coll, 2, data, bytes, &r->ctx);
        if (err == GW_OK && r->self == 0) err = gw_coll_send(r->coll, 2, GW_COLL_DATA, data, 1, &r->ctx);
    }
    free(data);
    return err;
}

static void test_sum_that_waits_reads_what_others_send(void **state)
{
    (void)state;
    for (int shm = 0; shm < 2; shm++) {
        struct party p = {.ranks = 3, .stage_ranks = 2, .shm = shm, .deadline_us = LONG, .run = run_ring};
        struct rank ranks[COLL_RANKS];
        run_party(&p, true, ranks);
        assert_all_ok(ranks, 3);
    }
}

static gw_err_t run_other_step(struct rank *r)
{
    TRY(add_zeros(r, ELEMS));
    gw_coll_begin(r->coll, 10 + r->self);
    return add_zeros(r, ELEMS);
}

static gw_err_t run_other_size(struct rank *r)
{
    TRY(add_zeros(r, ELEMS));
    return add_zeros(r, ELEMS - r->self);
}

static void test_sum_of_another_step_or_size_is_refused(void **state)
{
    (void)state;
    for (int shm = 0; shm < 2; shm++)
        for (int size = 0; size < 2; size++) {
            struct party p = {.ranks = 2,
                              .stage_ranks = 2,
                              .shm = shm,
                              .deadline_us = LONG,
                              .run = size ? run_other_size : run_other_step};
            struct rank ranks[COLL_RANKS];
            run_party(&p, false, ranks);
            /* One may see the other's end before its frame: both fail, and one for the right reason. */
            assert_true(ranks[0].err != GW_OK && ranks[1].err != GW_OK);
            assert_true(ranks[0].err == GW_ERR_PROTO || ranks[1].err == GW_ERR_PROTO);
        }
}

static gw_err_t run_leave_after_one(struct rank *r)
{
    TRY(add_zeros(r, ELEMS));
    return r->self == 1 ? GW_OK : add_zeros(r, ELEMS);
}

static void test_rank_that_leaves_fails_the_sum_at_once(void **state)
{
    (void)state;
    for (int shm = 0; shm < 2; shm++) {
        struct party p = {
            .ranks = 2, .stage_ranks = 2, .shm = shm, .deadline_us = LONG, .run = run_leave_after_one};
        struct rank ranks[COLL_RANKS];
        int64_t start = gw_clock_mono_us();
        run_party(&p, true, ranks);
        assert_true(gw_clock_mono_us() - start < PROMPT);
        assert_int_equal(ranks[1].err, GW_OK);
        assert_int_equal(ranks[0].err, GW_ERR_IO);
    }
}

/* Rank 1 as a process: two sums, of which the second finds it stopped or killed. Returns the second's error. */
static gw_err_t sum_with_a_process(bool shm, int signal_no, int64_t deadline_us, struct gw_err_ctx *ctx)
{
    struct party p = {
        .ranks = 2, .stage_ranks = 2, .shm = shm, .deadline_us = deadline_us, .run = run_one_sum};
    struct rank r = {.party = &p};
    assert_int_equal(coll_mesh_open(&p.mesh, 2, true), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        r.self = 1;
        coll_mesh_keep(&p.mesh, 1);
        if (open_rank(&r) != GW_OK || add_zeros(&r, ELEMS) != GW_OK) _exit(1);
        for (;;) pause();
    }
    coll_mesh_keep(&p.mesh, 0);
    assert_int_equal(open_rank(&r), GW_OK);
    assert_string_equal(gw_coll_transport(r.coll), shm ? "shm" : "tcp");
    assert_int_equal(add_zeros(&r, ELEMS), GW_OK);
    struct timer t = {.pid = child};
    if (signal_no == SIGKILL)
        timer_start(&t);
    else
        kill(child, signal_no);
    gw_err_t err = add_zeros(&r, ELEMS);
    *ctx = r.ctx;
    if (signal_no == SIGKILL) pthread_join(t.thread, NULL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close_rank(&r);
    return err;
}

static void test_process_that_is_killed_fails_the_sum_at_once(void **state)
{
    (void)state;
    for (int shm = 0; shm < 2; shm++) {
        struct gw_err_ctx ctx;
        int64_t start = gw_clock_mono_us();
        assert_int_equal(sum_with_a_process(shm, SIGKILL, LONG, &ctx), GW_ERR_IO);
        assert_string_equal(ctx.text, "rank 1 closed its socket");
        assert_true(gw_clock_mono_us() - start < PROMPT);
    }
}

static void test_process_that_is_frozen_fails_the_sum_by_the_deadline(void **state)
{
    (void)state;
    for (int shm = 0; shm < 2; shm++) {
        struct gw_err_ctx ctx;
        int64_t start = gw_clock_mono_us();
        assert_int_equal(sum_with_a_process(shm, SIGSTOP, GW_US_PER_S, &ctx), GW_ERR_IO);
        assert_string_equal(ctx.text, "rank 1 is slow");
        assert_true(gw_clock_mono_us() - start >= GW_US_PER_S);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_abort_ends_a_sum_and_the_other_rank_hears_of_it),
        cmocka_unit_test(test_abort_ends_a_wait),
        cmocka_unit_test(test_wake_ends_a_wait_that_is_under_way_or_the_next),
        cmocka_unit_test(test_ranks_that_send_to_each_other_do_not_block),
        cmocka_unit_test(test_sum_that_waits_reads_what_others_send),
        cmocka_unit_test(test_sum_of_another_step_or_size_is_refused),
        cmocka_unit_test(test_rank_that_leaves_fails_the_sum_at_once),
        cmocka_unit_test(test_process_that_is_killed_fails_the_sum_at_once),
        cmocka_unit_test(test_process_that_is_frozen_fails_the_sum_by_the_deadline),
    };
    return cmocka_run_group_tests_name("coll_failures", tests, NULL, NULL);
}
