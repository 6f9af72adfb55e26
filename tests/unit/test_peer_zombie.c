/* Page transfers with processes that are frozen, given up, and go on: SIGSTOP, a new generation, SIGCONT. What a zombie sends
 * goes nowhere, what it asks for it does not get, and what it was given before does no harm. */
#include <signal.h>
#include <sys/wait.h>

#include "tests/lib/page_socket.h"
#include "tests/lib/pull_fixture.h"

#define BLOCKS   90u
#define STALL_US (200 * GW_US_PER_MS)
#define LEASE_US (200 * GW_US_PER_MS)

static const struct gw_page_rect ALL = {0, PAGE_GROUPS, 0, PAGE_HEADS};

/* A child process; two pipes of single words: what it says, and what it is told. */
struct child {
    pid_t pid;
    int from, to;
};

struct words {
    char text[80];
};

/* In the child: never returns. The parent has no threads yet. */
typedef void child_main(const char *address, int in, int out);

static void tell(int fd, const char *text)
{
    struct words w = {{0}};
    snprintf(w.text, sizeof w.text, "%s", text);
    (void)!write(fd, &w, sizeof w);
}

static struct words hear(int fd)
{
    struct words w = {{0}};
    size_t got = 0;
    for (ssize_t n; got < sizeof w && (n = read(fd, (uint8_t *)&w + got, sizeof w - got)) > 0;)
        got += (size_t)n;
    return w;
}

/* The child begins when it is told an address. */
static struct child start_child(child_main *body)
{
    int up[2], down[2];
    assert_int_equal(pipe(up), 0);
    assert_int_equal(pipe(down), 0);
    struct child c = {fork(), up[0], down[1]};
    assert_true(c.pid >= 0);
    if (c.pid == 0) {
        close(up[0]);
        close(down[1]);
        struct words address = hear(down[0]);
        body(address.text, down[0], up[1]);
        _exit(0);
    }
    close(up[1]);
    close(down[0]);
    return c;
}

static void freeze(struct child *c)
{
    int status;
    assert_int_equal(kill(c->pid, SIGSTOP), 0);
    assert_int_equal(waitpid(c->pid, &status, WUNTRACED), c->pid);
    assert_true(WIFSTOPPED(status));
}

static void thaw(struct child *c)
{
    assert_int_equal(kill(c->pid, SIGCONT), 0);
}

static void end_child(struct child *c)
{
    close(c->to);
    close(c->from);
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
}

static void wait_until_true(bool (*is)(void *arg), void *arg)
{
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    while (!is(arg) && gw_clock_mono_us() < until_us) ppoll(NULL, 0, &pause, NULL);
    assert_true(is(arg));
}

/* ---- a source ---- */

static void zombie_source(const char *address, int in, int out)
{
    static struct page_pool pool;
    (void)address;
    pool_open(&pool, ALL);
    for (uint32_t i = 0; i < BLOCKS; i++) pool_seal(&pool, i, i);
    struct gw_peer_server_config config = server_config(&pool);
    config.rate_bytes_s = 2e6; /* a batch of 1 MiB goes, the next one half a second later */
    struct gw_peer_server *server = server_open(&config);
    tell(out, gw_peer_server_address(server));
    hear(in); /* until the parent is done */
    gw_peer_server_destroy(server);
}

struct frozen_fetch {
    struct page_pool to;
    struct gw_fetch_source source;
    struct page_run run;
    pthread_t thread;
};

static void *fetch_all(void *arg)
{
    struct frozen_fetch *z = arg;
    run_fetch(&z->run, 0, BLOCKS);
    return NULL;
}

static bool some_block_is_there(void *arg)
{
    struct page_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    bool any = pool->commits > 0;
    pthread_mutex_unlock(&pool->lock);
    return any;
}

static struct gw_peer_fetch_config fetch_of(struct page_pool *to, const struct gw_fetch_source *source)
{
    struct gw_peer_fetch_config config = fetch_config(to, source, 1);
    config.stall_us = STALL_US;
    return config;
}

/* Frozen in the middle of an answer. Its slots are used again by the next generation, from an honest source; then it thaws. */
static void test_zombie_source_writes_to_no_slot_of_the_next_generation(void **state)
{
    (void)state;
    struct child child = start_child(zombie_source);
    static struct frozen_fetch z;
    static struct page_pool honest;
    memset(&z, 0, sizeof z);
    pool_open(&z.to, ALL);
    tell(child.to, "go");
    z.source = fetch_source(hear(child.from).text, ALL);
    struct gw_peer_fetch_config config = fetch_of(&z.to, &z.source);
    open_fetch(&z.run, &config);
    assert_int_equal(pthread_create(&z.thread, NULL, fetch_all, &z), 0);
    wait_until_true(some_block_is_there, &z.to);
    freeze(&child);
    pthread_join(z.thread, NULL);
    assert_int_equal(z.run.err, GW_OK);
    uint32_t before = count_there(&z.run);
    assert_true(before > 0 && before < BLOCKS);
    assert_true(z.run.result.broken >= GW_FETCH_FAILS_MAX);
    assert_int_equal(pool_count(&z.to, POOLED_CLAIMED), 0);

    struct page_run next;
    pool_open(&honest, ALL);
    for (uint32_t i = 0; i < BLOCKS; i++) pool_seal(&honest, i, i);
    struct gw_peer_server_config honest_config = server_config(&honest);
    struct gw_peer_server *server = server_open(&honest_config);
    struct gw_fetch_source source = fetch_source(gw_peer_server_address(server), ALL);
    config = fetch_of(&z.to, &source);
    config.fence.generation++;
    open_fetch(&next, &config);
    run_fetch(&next, before, BLOCKS - before);
    assert_int_equal(count_there(&next), BLOCKS - before);

    thaw(&child);
    close(child.to); /* it goes on with its answer, then ends */
    assert_int_equal(waitpid(child.pid, NULL, 0), child.pid);
    close(child.from);
    for (uint32_t i = 0; i < BLOCKS; i++) assert_true(pool_has(&z.to, i));
    gw_peer_fetch_destroy(z.run.fetch);
    gw_peer_fetch_destroy(next.fetch);
    gw_peer_server_destroy(server);
    pool_close(&z.to);
    pool_close(&honest);
}

/* ---- a destination ---- */

static void zombie_destination(const char *address, int in, int out)
{
    static struct page_pool pool;
    static struct page_run run;
    char said[80];
    pool_open(&pool, ALL);
    struct gw_fetch_source source = fetch_source(address, ALL);
    struct gw_peer_fetch_config config = fetch_config(&pool, &source, 1);
    open_fetch(&run, &config);
    tell(out, "begins");
    run_fetch(&run, 0, BLOCKS);
    run_fetch(&run, 0,
              BLOCKS); /* again, whatever became of the first: it does not know that its time is over */
    snprintf(said, sizeof said, "there %u stale %u", count_there(&run), (unsigned)run.result.stale);
    tell(out, said);
    hear(in);
    gw_peer_fetch_destroy(run.fetch);
}

struct served {
    struct gw_peer_server *server;
    struct page_pool pool;
};

static bool is_asked(void *arg)
{
    struct served *s = arg;
    return gw_peer_server_stats(s->server).pages > 0;
}

static bool has_given_up(void *arg)
{
    struct served *s = arg;
    return pool_pins(&s->pool) == 0;
}

/* Frozen while it is answered: its pins end with the lease. Thawed, it is told that its generation is over. */
static void test_zombie_destination_loses_its_pins_and_is_told_that_it_is_stale(void **state)
{
    (void)state;
    struct child child = start_child(zombie_destination);
    static struct served s;
    memset(&s, 0, sizeof s);
    pool_open(&s.pool, ALL);
    for (uint32_t i = 0; i < BLOCKS; i++) pool_seal(&s.pool, i, i);
    struct gw_peer_server_config config = server_config(&s.pool);
    config.lease_us = LEASE_US;
    config.rate_bytes_s = 2e6;
    s.server = server_open(&config);
    tell(child.to, gw_peer_server_address(s.server));
    assert_string_equal(hear(child.from).text, "begins");
    wait_until_true(is_asked, &s);
    freeze(&child);
    gw_peer_server_set_term(s.server, PAGE_FENCE.term);
    gw_peer_server_cancel(s.server, PAGE_FENCE.generation);
    wait_until_true(has_given_up, &s);
    thaw(&child);
    assert_string_equal(hear(child.from).text, "there 0 stale 1");
    assert_true(gw_peer_server_stats(s.server).stale >= 1);
    end_child(&child);
    gw_peer_server_destroy(s.server);
    pool_close(&s.pool);
}

/* ---- a leader ---- */

static void zombie_leader(const char *address, int in, int out)
{
    static struct pull_fixture f;
    struct gw_puller_config config = puller_config(address);
    f.puller = puller_open(&config);
    fill_pull(&f, PULL_BLOCKS, 1);
    if (run_pull(&f) != GW_OK) _exit(1);
    tell(out, "pulled");
    hear(in); /* it is frozen here */
    tell(out, gw_err_name(run_pull(&f)));
    hear(in);
    gw_puller_destroy(f.puller);
}

/* It led, and was frozen; its pipeline has another generation by now, on the same ranks. */
static void test_zombie_leader_is_not_obeyed(void **state)
{
    (void)state;
    struct child child = start_child(zombie_leader);
    struct pull_fixture *f;
    assert_int_equal(pull_set_up((void **)&f), 0);
    tell(child.to, gw_peer_server_address(f->server));
    assert_string_equal(hear(child.from).text, "pulled");
    assert_int_equal(rank_calls(&f->rank), 1);
    freeze(&child);
    gw_peer_server_set_term(f->server, PAGE_FENCE.term);
    gw_peer_server_cancel(f->server, PAGE_FENCE.generation);
    tell(child.to, "pull again");
    thaw(&child);
    assert_string_equal(hear(child.from).text, gw_err_name(GW_ERR_INPUT));
    assert_int_equal(rank_calls(&f->rank), 1);
    end_child(&child);
    pull_tear_down((void **)&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zombie_source_writes_to_no_slot_of_the_next_generation),
        cmocka_unit_test(test_zombie_destination_loses_its_pins_and_is_told_that_it_is_stale),
        cmocka_unit_test(test_zombie_leader_is_not_obeyed),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
