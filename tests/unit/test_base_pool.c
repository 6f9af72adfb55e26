/* base/pool: each accepted job works once and is done once, on the right threads, whatever ends first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"

#define JOBS_MAX 64

/* What the jobs of one test share. Work runs on pool threads: everything is under the lock. */
struct scene {
    struct event_base *loop;
    struct gw_pool *pool;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t loop_thread;
    bool gate_open;      /* work of gated jobs waits for it */
    int working, worked; /* jobs inside work; jobs that came out */
    int done, skipped;   /* calls of done */
    int expect;          /* done calls after which the loop is left */
    int order[JOBS_MAX]; /* ids by completion */
    bool wrong_thread;   /* work on the loop's thread, or done on another */
    bool resubmit;       /* done submits again, but the last that is expected; refused while the pool ends */
    int resubmit_refused;
};

struct task {
    struct scene *scene;
    int id;
    bool gated;
    int works, dones;
};

static void task_work(void *arg)
{
    struct task *t = arg;
    struct scene *s = t->scene;
    pthread_mutex_lock(&s->lock);
    s->working++;
    pthread_cond_broadcast(&s->changed);
    while (t->gated && !s->gate_open) pthread_cond_wait(&s->changed, &s->lock);
    s->working--;
    s->worked++;
    t->works++;
    if (pthread_equal(pthread_self(), s->loop_thread)) s->wrong_thread = true;
    pthread_mutex_unlock(&s->lock);
}

static void task_done(void *arg, bool skipped)
{
    struct task *t = arg;
    struct scene *s = t->scene;
    pthread_mutex_lock(&s->lock);
    t->dones++;
    s->order[s->done++ % JOBS_MAX] = t->id;
    s->skipped += skipped;
    if (!pthread_equal(pthread_self(), s->loop_thread)) s->wrong_thread = true;
    bool last = s->done == s->expect;
    pthread_mutex_unlock(&s->lock);
    if (last) event_base_loopbreak(s->loop);
    if (s->resubmit && !last && gw_pool_submit(s->pool, (struct gw_job){task_work, task_done, t}) != GW_OK)
        s->resubmit_refused++;
}

static void scene_init(struct scene *s, int threads, int queued)
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->loop_thread = pthread_self();
    s->loop = event_base_new();
    assert_non_null(s->loop);
    assert_int_equal(gw_pool_create(s->loop, threads, queued, &s->pool, NULL), GW_OK);
}

static void scene_fini(struct scene *s)
{
    event_base_free(s->loop);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    assert_false(s->wrong_thread);
}

static gw_err_t submit(struct scene *s, struct task *t, int id, bool gated)
{
    *t = (struct task){.scene = s, .id = id, .gated = gated};
    return gw_pool_submit(s->pool, (struct gw_job){task_work, task_done, t});
}

static void wait_until_working(struct scene *s, int n)
{
    pthread_mutex_lock(&s->lock);
    while (s->working < n) pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void open_gate(struct scene *s)
{
    pthread_mutex_lock(&s->lock);
    s->gate_open = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void test_submit_one_thread_finishes_in_order(void **state)
{
    (void)state;
    struct scene s;
    struct task tasks[JOBS_MAX];
    scene_init(&s, 1, JOBS_MAX);
    s.expect = JOBS_MAX;
    for (int i = 0; i < JOBS_MAX; i++) assert_int_equal(submit(&s, &tasks[i], i, false), GW_OK);
    event_base_dispatch(s.loop);
    gw_pool_destroy(s.pool);
    assert_int_equal(s.done, JOBS_MAX);
    for (int i = 0; i < JOBS_MAX; i++) {
        assert_int_equal(s.order[i], i);
        assert_int_equal(tasks[i].works, 1);
        assert_int_equal(tasks[i].dones, 1);
    }
    scene_fini(&s);
}

static void test_submit_four_threads_work_at_once_and_each_job_once(void **state)
{
    (void)state;
    struct scene s;
    struct task tasks[JOBS_MAX];
    scene_init(&s, 4, JOBS_MAX);
    s.expect = JOBS_MAX;
    for (int i = 0; i < JOBS_MAX; i++) assert_int_equal(submit(&s, &tasks[i], i, i < 4), GW_OK);
    wait_until_working(&s, 4);
    open_gate(&s);
    event_base_dispatch(s.loop);
    gw_pool_destroy(s.pool);
    for (int i = 0; i < JOBS_MAX; i++) assert_int_equal(tasks[i].works * 10 + tasks[i].dones, 11);
    assert_int_equal(s.skipped, 0);
    scene_fini(&s);
}

/* A job counts until its done has run: the ring of finished jobs can never be short of room. */
static void test_submit_beyond_max_is_refused_until_done_has_run(void **state)
{
    (void)state;
    struct scene s;
    struct task tasks[4];
    scene_init(&s, 1, 2);
    s.expect = 2;
    assert_int_equal(submit(&s, &tasks[0], 0, true), GW_OK);
    wait_until_working(&s, 1);
    assert_int_equal(submit(&s, &tasks[1], 1, false), GW_OK);
    assert_int_equal(submit(&s, &tasks[2], 2, false), GW_ERR_LIMIT);
    open_gate(&s);
    event_base_dispatch(s.loop);
    assert_int_equal(s.done, 2);
    s.expect = 3;
    assert_int_equal(submit(&s, &tasks[3], 3, false), GW_OK);
    event_base_dispatch(s.loop);
    gw_pool_destroy(s.pool);
    assert_int_equal(tasks[2].works + tasks[2].dones, 0);
    assert_int_equal(tasks[3].dones, 1);
    scene_fini(&s);
}

struct opener {
    struct scene *scene;
};

/* Lets destroy begin its wait before the running job ends; the order of the two is left to chance, both are
 * right. */
static void *open_later(void *arg)
{
    struct opener *o = arg;
    open_gate(o->scene);
    return NULL;
}

static void test_destroy_waits_for_the_running_job_and_skips_the_queued(void **state)
{
    (void)state;
    struct scene s;
    struct task tasks[5];
    pthread_t thread;
    struct opener opener = {&s};
    scene_init(&s, 1, 8);
    assert_int_equal(submit(&s, &tasks[0], 0, true), GW_OK);
    wait_until_working(&s, 1);
    for (int i = 1; i < 5; i++) assert_int_equal(submit(&s, &tasks[i], i, true), GW_OK);
    assert_int_equal(pthread_create(&thread, NULL, open_later, &opener), 0);
    gw_pool_destroy(s.pool);
    pthread_join(thread, NULL);
    assert_int_equal(tasks[0].works, 1);
    assert_int_equal(s.done, 5);
    assert_int_equal(s.worked + s.skipped, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(tasks[i].dones, 1);
        assert_int_equal(s.order[i], i);
    }
    scene_fini(&s);
}

static void test_destroy_calls_done_for_finished_jobs_the_loop_never_saw(void **state)
{
    (void)state;
    struct scene s;
    struct task t;
    scene_init(&s, 2, 4);
    assert_int_equal(submit(&s, &t, 0, true), GW_OK);
    wait_until_working(&s, 1);
    open_gate(&s);
    gw_pool_destroy(s.pool);
    assert_int_equal(t.works, 1);
    assert_int_equal(t.dones, 1);
    assert_int_equal(s.skipped, 0);
    scene_fini(&s);
}

static void test_destroy_refuses_what_done_submits_meanwhile(void **state)
{
    (void)state;
    struct scene s;
    struct task tasks[3];
    scene_init(&s, 1, 8);
    s.resubmit = true;
    assert_int_equal(submit(&s, &tasks[0], 0, true), GW_OK);
    wait_until_working(&s, 1);
    for (int i = 1; i < 3; i++) assert_int_equal(submit(&s, &tasks[i], i, false), GW_OK);
    open_gate(&s);
    gw_pool_destroy(s.pool);
    assert_int_equal(s.done, 3);
    assert_int_equal(s.resubmit_refused, 3);
    scene_fini(&s);
}

static void test_done_may_submit_the_next_job(void **state)
{
    (void)state;
    struct scene s;
    struct task t;
    scene_init(&s, 1, 1);
    s.resubmit = true;
    s.expect = 100;
    assert_int_equal(submit(&s, &t, 0, false), GW_OK);
    event_base_dispatch(s.loop);
    assert_int_equal(s.done, 100);
    assert_int_equal(s.resubmit_refused, 0);
    gw_pool_destroy(s.pool);
    assert_int_equal(s.done, 100);
    scene_fini(&s);
}

static void test_create_with_senseless_numbers_is_refused(void **state)
{
    (void)state;
    static const int bad[][2] = {{0, 1}, {-1, 1}, {1, 0}, {1, -5}, {1000, 1}, {1, INT32_MAX}};
    struct event_base *loop = event_base_new();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gw_pool *pool = NULL;
        assert_int_equal(gw_pool_create(loop, bad[i][0], bad[i][1], &pool, NULL), GW_ERR_INPUT);
        assert_null(pool);
    }
    gw_pool_destroy(NULL);
    event_base_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submit_one_thread_finishes_in_order),
        cmocka_unit_test(test_submit_four_threads_work_at_once_and_each_job_once),
        cmocka_unit_test(test_submit_beyond_max_is_refused_until_done_has_run),
        cmocka_unit_test(test_destroy_waits_for_the_running_job_and_skips_the_queued),
        cmocka_unit_test(test_destroy_calls_done_for_finished_jobs_the_loop_never_saw),
        cmocka_unit_test(test_destroy_refuses_what_done_submits_meanwhile),
        cmocka_unit_test(test_done_may_submit_the_next_job),
        cmocka_unit_test(test_create_with_senseless_numbers_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
