/* migrate/store over two Redis servers that are stopped, killed, emptied and filled at random while calls go on: each call
 * ends once, by its deadline, and what is got is what was put. The seed of a failing run is printed: GW_TEST_SEED replays it. */
#include "tests/lib/store_fixture.h"

#include "migrate/store_redis.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/seeded_rng.h"

#define STEPS    600
#define NAMES    50
#define SERVERS  2
#define LATE_US  (5 * GW_US_PER_S) /* past a deadline, on a machine that is short of cores */
#define FAULTS_1 20                /* one step in so many */

struct mix {
    struct redis_server redis[SERVERS];
    bool stopped[SERVERS];
    struct gw_store *store;
    struct gw_rng rng;
    struct waited calls[STEPS];
    uint32_t block_of[STEPS]; /* + 1; of gets; 0: another call */
    int64_t deadlines_us[STEPS];
};

static void fault(struct mix *m)
{
    uint32_t i = (uint32_t)gw_rng_below(&m->rng, SERVERS);
    struct redis_server *r = &m->redis[i];
    char answer[64];
    uint64_t what = gw_rng_below(&m->rng, 5);
    if (m->stopped[i]) {
        kill(r->pid, SIGCONT);
        m->stopped[i] = false;
    } else if (what == 0) {
        kill(r->pid, SIGSTOP);
        m->stopped[i] = true;
    } else if (what == 1) {
        redis_kill(r);
        redis_start(r, NULL);
    } else {
        static const char *const commands[] = {"FLUSHALL", "CONFIG SET maxmemory 2mb",
                                               "CONFIG SET maxmemory 0"};
        redis_say(r, commands[what - 2], answer, sizeof answer);
    }
}

static void call(struct mix *m, uint32_t step)
{
    struct waited *w = &m->calls[step];
    uint32_t block = (uint32_t)gw_rng_below(&m->rng, NAMES);
    int64_t wait_us = (int64_t)gw_rng_below(&m->rng, 300) * GW_US_PER_MS;
    struct gw_block_name names[NAMES];
    gw_err_t err;
    waited_init(w);
    m->deadlines_us[step] = gw_clock_mono_us() + wait_us;
    switch (gw_rng_below(&m->rng, 3)) {
    case 0: err = begin_put(m->store, block, SMALL_PAGE, wait_us, w); break;
    case 1:
        m->block_of[step] = block + 1;
        err = begin_get(m->store, block, SMALL_PAGE, wait_us, w);
        break;
    default:
        for (uint32_t i = 0; i < NAMES; i++) names[i] = store_name(i);
        const struct gw_store_then then = then_of(w, wait_us);
        err = gw_store_has(m->store, names, NAMES, (struct gw_page_id){0, 0}, &then);
    }
    assert_int_equal(err, GW_OK);
}

static void check(struct mix *m, uint32_t step)
{
    struct waited *w = &m->calls[step];
    enum gw_store_outcome outcome = waited_for(w);
    assert_true(outcome != GW_STORE_ENDED);
    assert_true(w->done_us < m->deadlines_us[step] + LATE_US);
    if (m->block_of[step]) {
        uint32_t bits = got_pages(w, m->block_of[step] - 1, SMALL_PAGE);
        assert_true(outcome != GW_STORE_OK || bits == 0 || bits == ALL_PAGES);
    }
}

static void open_mix(struct mix *m)
{
    const char *servers[SERVERS];
    struct gw_store_redis_config config = {.servers = servers, .servers_len = SERVERS};
    config.common = (struct gw_store_config){.seal = &store_seal,
                                             .stall_us = 200 * GW_US_PER_MS,
                                             .connect_us = 100 * GW_US_PER_MS,
                                             .queue_ops = STEPS * NAMES};
    for (int i = 0; i < SERVERS; i++) {
        redis_open(&m->redis[i], NULL);
        servers[i] = m->redis[i].socket;
    }
    assert_int_equal(gw_store_redis_create(&config, &m->store, NULL), GW_OK);
}

static void test_any_mix_of_faults_every_call_ends_once_and_tells_the_truth(void **state)
{
    (void)state;
    struct mix *m = calloc(1, sizeof *m);
    if (!redis_is_installed()) skip();
    m->rng = seeded_rng(__func__);
    open_mix(m);
    for (uint32_t step = 0; step < STEPS; step++) {
        call(m, step);
        if (gw_rng_below(&m->rng, FAULTS_1) == 0) fault(m);
        usleep((useconds_t)gw_rng_below(&m->rng, 4000));
    }
    for (uint32_t step = 0; step < STEPS; step++) check(m, step);
    for (int i = 0; i < SERVERS; i++) {
        char answer[64];
        kill(m->redis[i].pid, SIGCONT);
        redis_say(&m->redis[i], "CONFIG SET maxmemory 0", answer, sizeof answer);
    }
    until_up(m->store, SERVERS);
    until_put(m->store, 0, SMALL_PAGE); /* all is well again */
    expect_block(m->store, 0, SMALL_PAGE, ALL_PAGES);
    struct gw_store_stats s = stats_of(m->store);
    assert_int_equal(s.waiting_ops, 0);
    assert_int_equal(s.waiting_bytes, 0);
    assert_int_equal(s.pages_forged, 0);
    assert_true(s.put.outcomes[GW_STORE_OK] > 0 && s.pages_got > 0);
    gw_store_destroy(m->store);
    for (uint32_t step = 0; step < STEPS; step++) {
        assert_int_equal(m->calls[step].times, 1);
        waited_fini(&m->calls[step]);
    }
    for (int i = 0; i < SERVERS; i++) redis_close(&m->redis[i]);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_mix_of_faults_every_call_ends_once_and_tells_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
