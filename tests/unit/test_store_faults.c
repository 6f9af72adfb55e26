/* migrate/store and a Redis that is killed, stopped, full of others, read-only, wrong or gone: calls end in time, coverage
 * returns with it. */
#include "tests/lib/store_fixture.h"

#include <sys/stat.h>

#include "migrate/store_redis.h"
#include "tests/lib/redis_server.h"

#define SHORT_US (100 * GW_US_PER_MS)
#define SLACK_US (5 * GW_US_PER_S) /* for a machine that is short of cores: far less than any hang */
#define BLOCKS   40

static struct gw_store *open_store(const char *const *servers, uint32_t len,
                                   struct gw_store_redis_config config)
{
    struct gw_err_ctx ctx = {0};
    struct gw_store *store = NULL;
    config.common.seal = &store_seal;
    config.servers = servers;
    config.servers_len = len;
    if (gw_store_redis_create(&config, &store, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return store;
}

static struct gw_store *open_one(const struct redis_server *redis, struct gw_store_redis_config config)
{
    const char *servers[] = {redis->socket};
    return open_store(servers, 1, config);
}

static void begin_redis(struct redis_server *redis, const char *const *extras)
{
    if (!redis_is_installed()) skip();
    redis_open(redis, extras);
}

static void until_disconnects(struct gw_store *s, uint64_t count)
{
    int64_t deadline_us = gw_clock_mono_us() + STORE_WAIT_US;
    while (stats_of(s).disconnects < count && gw_clock_mono_us() < deadline_us) usleep(1000);
    assert_true(stats_of(s).disconnects >= count);
}

/* Waits for all of them; how many had each outcome. */
static void count_outcomes(struct waited *w, uint32_t len, int counts[GW_STORE_OUTCOMES])
{
    memset(counts, 0, GW_STORE_OUTCOMES * sizeof *counts);
    for (uint32_t i = 0; i < len; i++) {
        counts[waited_for(&w[i])]++;
        waited_fini(&w[i]);
    }
}

static void begin_puts(struct gw_store *s, struct waited *w, uint32_t len, uint32_t page_bytes,
                       int64_t wait_us)
{
    for (uint32_t i = 0; i < len; i++) {
        waited_init(&w[i]);
        assert_int_equal(begin_put(s, i, page_bytes, wait_us, &w[i]), GW_OK);
    }
}

static void test_killed_in_the_middle_calls_end_and_restart_is_found(void **state)
{
    (void)state;
    struct redis_server redis;
    struct waited w[BLOCKS];
    int counts[GW_STORE_OUTCOMES];
    enum gw_store_outcome outcome;
    begin_redis(&redis, NULL);
    struct gw_store *s = open_one(&redis, (struct gw_store_redis_config){0});
    until_put(s, 100, SMALL_PAGE);
    kill(redis.pid, SIGSTOP); /* so that the middle is in the middle */
    begin_puts(s, w, BLOCKS, BIG_PAGE, STORE_CALL_US);
    redis_kill(&redis);
    count_outcomes(w, BLOCKS, counts);
    assert_int_equal(counts[GW_STORE_LOST], BLOCKS);
    until_disconnects(s, 1);
    assert_int_equal(put_block(s, 1, SMALL_PAGE, STORE_CALL_US),
                     GW_STORE_LOST); /* at once: nobody is there */
    assert_int_equal(get_block(s, 1, SMALL_PAGE, &outcome), 0);
    assert_int_equal(outcome, GW_STORE_LOST);
    redis_start(&redis, NULL);
    until_put(s, 1, BIG_PAGE);
    expect_block(s, 1, BIG_PAGE, ALL_PAGES);
    expect_block(s, 100, SMALL_PAGE, 0);
    assert_int_equal(stats_of(s).connects, 2);
    assert_int_equal(stats_of(s).waiting_ops, 0);
    gw_store_destroy(s);
    redis_close(&redis);
}

static void test_stopped_calls_are_late_then_lost_at_once_until_it_goes_on(void **state)
{
    (void)state;
    struct redis_server redis;
    struct waited w[BLOCKS];
    int counts[GW_STORE_OUTCOMES];
    begin_redis(&redis, NULL);
    struct gw_store *s = open_one(
        &redis,
        (struct gw_store_redis_config){.common = {.stall_us = 2 * GW_US_PER_S, .connect_us = SHORT_US}});
    until_put(s, 0, SMALL_PAGE);
    kill(redis.pid, SIGSTOP);
    int64_t start_us = gw_clock_mono_us();
    begin_puts(s, w, BLOCKS, BIG_PAGE, SHORT_US);
    count_outcomes(w, BLOCKS, counts);
    assert_int_equal(counts[GW_STORE_LATE], BLOCKS);
    assert_true(gw_clock_mono_us() - start_us < SHORT_US + SLACK_US);
    until_disconnects(s, 1);
    start_us = gw_clock_mono_us();
    assert_int_equal(put_block(s, 1, SMALL_PAGE, STORE_CALL_US), GW_STORE_LOST);
    assert_true(gw_clock_mono_us() - start_us < SLACK_US);
    kill(redis.pid, SIGCONT);
    until_put(s, 1, BIG_PAGE);
    expect_block(s, 1, BIG_PAGE, ALL_PAGES);
    gw_store_destroy(s);
    redis_close(&redis);
}

/* What was asked before it stopped is answered when it goes on; late calls' answers are passed over, later ones' taken. */
static void test_stopped_for_less_than_a_stall_answers_stay_in_order(void **state)
{
    (void)state;
    struct redis_server redis;
    struct waited w[BLOCKS], late[BLOCKS];
    int counts[GW_STORE_OUTCOMES];
    begin_redis(&redis, NULL);
    struct gw_store *s = open_one(&redis, (struct gw_store_redis_config){0});
    for (uint32_t i = 0; i < BLOCKS; i++) until_put(s, i, SMALL_PAGE);
    kill(redis.pid, SIGSTOP);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        waited_init(&w[i]);
        waited_init(&late[i]);
        assert_int_equal(begin_get(s, i, SMALL_PAGE, SHORT_US, &late[i]), GW_OK);
        assert_int_equal(begin_get(s, BLOCKS - 1 - i, SMALL_PAGE, STORE_CALL_US, &w[i]), GW_OK);
    }
    count_outcomes(late, BLOCKS, counts);
    assert_int_equal(counts[GW_STORE_LATE], BLOCKS);
    kill(redis.pid, SIGCONT);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_int_equal(waited_for(&w[i]), GW_STORE_OK);
        assert_int_equal(got_pages(&w[i], BLOCKS - 1 - i, SMALL_PAGE), ALL_PAGES);
        waited_fini(&w[i]);
    }
    assert_int_equal(stats_of(s).disconnects, 0);
    gw_store_destroy(s);
    redis_close(&redis);
}

static void test_queue_full_is_refused_at_once_and_counted(void **state)
{
    (void)state;
    struct redis_server redis;
    struct waited w[8], extra;
    int counts[GW_STORE_OUTCOMES];
    begin_redis(&redis, NULL);
    struct gw_store *s = open_one(&redis, (struct gw_store_redis_config){.common = {.queue_ops = 8}});
    until_put(s, 0, SMALL_PAGE);
    kill(redis.pid, SIGSTOP);
    begin_puts(s, w, 8, SMALL_PAGE, STORE_CALL_US);
    waited_init(&extra);
    assert_int_equal(begin_put(s, 9, SMALL_PAGE, STORE_CALL_US, &extra), GW_ERR_LIMIT);
    assert_int_equal(stats_of(s).put.dropped, 1);
    kill(redis.pid, SIGCONT);
    count_outcomes(w, 8, counts);
    assert_int_equal(counts[GW_STORE_OK], 8);
    assert_int_equal(extra.times, 0);
    waited_fini(&extra);
    until_put(s, 9, SMALL_PAGE);
    gw_store_destroy(s);
    redis_close(&redis);
}

static void test_queue_bytes_full_is_refused_at_once(void **state)
{
    (void)state;
    struct redis_server redis;
    struct waited w[4], extra;
    int counts[GW_STORE_OUTCOMES];
    begin_redis(&redis, NULL);
    struct gw_store *s = open_one(
        &redis, (struct gw_store_redis_config){.common = {.queue_bytes = 5 * STORE_PAGES * BIG_PAGE}});
    until_put(s, 0, SMALL_PAGE);
    kill(redis.pid, SIGSTOP);
    begin_puts(s, w, 4, BIG_PAGE, STORE_CALL_US);
    waited_init(&extra);
    assert_int_equal(begin_put(s, 9, BIG_PAGE, STORE_CALL_US, &extra), GW_ERR_LIMIT); /* seals count too */
    kill(redis.pid, SIGCONT);
    count_outcomes(w, 4, counts);
    assert_int_equal(counts[GW_STORE_OK], 4);
    waited_fini(&extra);
    gw_store_destroy(s);
    redis_close(&redis);
}

static void test_destroy_ends_what_is_under_way(void **state)
{
    (void)state;
    struct redis_server redis;
    struct waited w[BLOCKS];
    int counts[GW_STORE_OUTCOMES];
    begin_redis(&redis, NULL);
    struct gw_store *s = open_one(&redis, (struct gw_store_redis_config){0});
    until_put(s, 0, SMALL_PAGE);
    kill(redis.pid, SIGSTOP);
    begin_puts(s, w, BLOCKS, BIG_PAGE, STORE_CALL_US);
    gw_store_destroy(s);
    for (uint32_t i = 0; i < BLOCKS; i++) assert_int_equal(w[i].times, 1);
    count_outcomes(w, BLOCKS, counts);
    assert_int_equal(counts[GW_STORE_ENDED], BLOCKS);
    redis_close(&redis);
}

static void write_secret(const char *path, const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "%s\n", text);
    fclose(f);
    chmod(path, mode);
}

static void test_password_right_works_wrong_and_none_are_lost(void **state)
{
    (void)state;
    struct redis_server redis;
    char path[128];
    struct gw_store *s = NULL;
    begin_redis(&redis, (const char *[]){"--requirepass", "s3cret", NULL});
    snprintf(path, sizeof path, "%s/password", redis.dir);
    const char *servers[] = {redis.socket};
    struct gw_store_redis_config right = {.password_file = path, .database = 3}, none = {0};

    write_secret(path, "s3cret", 0644);
    right.servers = servers;
    right.servers_len = 1;
    assert_int_equal(gw_store_redis_create(&right, &s, NULL), GW_ERR_INPUT); /* others may read it */

    write_secret(path, "wrong", 0600);
    s = open_one(&redis, right);
    assert_int_equal(put_block(s, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_LOST);
    assert_int_equal(stats_of(s).connects, 0);
    gw_store_destroy(s);

    s = open_one(&redis, none);
    assert_int_equal(put_block(s, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_LOST);
    gw_store_destroy(s);

    write_secret(path, "s3cret", 0600);
    s = open_one(&redis, right);
    assert_int_equal(put_block(s, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    expect_block(s, 0, SMALL_PAGE, ALL_PAGES);
    gw_store_destroy(s);

    right.database = 99; /* there are 16 */
    s = open_one(&redis, right);
    assert_int_equal(put_block(s, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_LOST);
    gw_store_destroy(s);
    unlink(path);
    redis_close(&redis);
}

static void test_two_servers_share_names_and_one_takes_all_when_the_other_is_gone(void **state)
{
    (void)state;
    struct redis_server a, b;
    char size[64];
    enum gw_store_outcome outcome;
    begin_redis(&a, NULL);
    redis_open(&b, NULL);
    const char *servers[] = {a.socket, b.socket};
    struct gw_store *s = open_store(servers, 2, (struct gw_store_redis_config){0});
    until_up(s, 2);
    for (uint32_t i = 0; i < BLOCKS; i++)
        assert_int_equal(put_block(s, i, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    assert_true(redis_say(&a, "DBSIZE", size, sizeof size));
    int on_a = (int)strtol(size + 1, NULL, 10);
    assert_in_range(on_a, BLOCKS / 8, BLOCKS - BLOCKS / 8);
    uint64_t all = ((uint64_t)1 << BLOCKS) - 1;
    assert_true(has_blocks(s, BLOCKS, &outcome) == all);

    redis_kill(&a);
    until_disconnects(s, 1);
    uint64_t left = has_blocks(s, BLOCKS, &outcome);
    assert_int_equal(outcome, GW_STORE_OK);
    assert_int_equal(__builtin_popcountll(left), BLOCKS - on_a);
    for (uint32_t i = 0; i < BLOCKS; i++) /* its names went to the other, which kept its own */
        assert_int_equal(put_block(s, i, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    assert_true(has_blocks(s, BLOCKS, &outcome) == all);

    redis_start(&a, NULL); /* empty: its names return to it, and are not there */
    until_up(s, 2);
    assert_true(has_blocks(s, BLOCKS, &outcome) == left);
    gw_store_destroy(s);
    redis_close(&a);
    redis_close(&b);
}

static void test_read_only_replica_is_left_until_it_is_a_master(void **state)
{
    (void)state;
    struct redis_server redis;
    char answer[64];
    begin_redis(&redis, NULL);
    struct gw_store *s = open_one(&redis, (struct gw_store_redis_config){0});
    until_put(s, 0, SMALL_PAGE);
    assert_true(redis_say(&redis, "REPLICAOF 127.0.0.1 1", answer, sizeof answer));
    assert_int_equal(put_block(s, 1, SMALL_PAGE, STORE_CALL_US), GW_STORE_LOST);
    assert_int_equal(stats_of(s).disconnects, 1);
    assert_true(redis_say(&redis, "REPLICAOF NO ONE", answer, sizeof answer));
    until_put(s, 1, SMALL_PAGE);
    gw_store_destroy(s);
    redis_close(&redis);
}

/* ---- a server that is none ---- */

struct fake {
    struct redis_server at; /* its directory and socket's path */
    int listener;
    const char *const *says; /* one per connection, NULL-ended; the last one again and again */
    const char *drips;       /* after the first word, for ever; may be NULL */
    pthread_t thread;
};

static void *play(void *arg)
{
    struct fake *f = arg;
    char heard[4096];
    for (int i = 0;; i++) {
        int fd = accept(f->listener, NULL, NULL);
        if (fd < 0) return NULL;
        const char *say = f->says[0];
        if (f->says[1]) f->says++;
        while (read(fd, heard, sizeof heard) > 0 && send(fd, say, strlen(say), MSG_NOSIGNAL) > 0)
            while (f->drips && send(fd, f->drips, 1, MSG_NOSIGNAL) > 0) usleep(10000);
        close(fd);
    }
}

static void open_fake(struct fake *f, const char *const *says, const char *drips)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    *f = (struct fake){.at = {.dir = "/tmp/godwit-redis-XXXXXX"}, .says = says, .drips = drips};
    assert_non_null(mkdtemp(f->at.dir));
    snprintf(f->at.socket, sizeof f->at.socket, "%s/s", f->at.dir);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", f->at.socket);
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(f->listener, 8), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, play, f), 0);
}

static void close_fake(struct fake *f)
{
    shutdown(f->listener, SHUT_RDWR);
    pthread_join(f->thread, NULL);
    close(f->listener);
    redis_close(&f->at);
}

static void test_loading_server_is_tried_again_until_it_greets(void **state)
{
    (void)state;
    struct fake f;
    open_fake(&f, (const char *[]){"-LOADING Redis is loading the dataset in memory\r\n", "+PONG\r\n", NULL},
              NULL);
    struct gw_store *s = open_one(&f.at, (struct gw_store_redis_config){0});
    until_up(s, 1);
    assert_int_equal(stats_of(s).disconnects, 0);
    gw_store_destroy(s);
    close_fake(&f);
}

static void expect_left(const char *const *says)
{
    struct fake f;
    enum gw_store_outcome outcome;
    open_fake(&f, says, NULL);
    struct gw_store *s = open_one(&f.at, (struct gw_store_redis_config){0});
    assert_int_equal(get_block(s, 0, SMALL_PAGE, &outcome), 0);
    if (outcome != GW_STORE_LOST) fail_msg("'%s': outcome %d", says[0], outcome);
    gw_store_destroy(s);
    close_fake(&f);
}

static void test_garbage_is_left_and_nothing_of_it_is_got(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "HTTP/1.1 400 Bad Request\r\n\r\n",             /* no Redis at all */
        "+PONG\r\n+PONG\r\n",                           /* what was not asked */
        "+PONG\r\n*5\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n", /* more pages than were asked for */
        "*1\r\n*1\r\n*1\r\n:1\r\n",                     /* arrays in arrays */
        "*2147483647\r\n",                              /* an array that would not fit */
        "$-7\r\n",                                      /* a length that is none */
        "*-2\r\n",
        ":99999999999999999999999\r\n",
        "\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++)
        expect_left((const char *[]){garbage[i], NULL});
}

/* It always moves, and never answers. */
static void test_one_byte_at_a_time_is_left_after_the_stall(void **state)
{
    (void)state;
    struct fake f;
    enum gw_store_outcome outcome;
    open_fake(&f, (const char *[]){"+PONG\r\n*4\r\n$4128\r\n", NULL}, "x");
    struct gw_store *s = open_one(&f.at, (struct gw_store_redis_config){.common = {.stall_us = SHORT_US}});
    assert_int_equal(get_block(s, 0, SMALL_PAGE, &outcome), 0);
    assert_int_equal(outcome, GW_STORE_LOST);
    until_disconnects(s, 1);
    gw_store_destroy(s);
    close_fake(&f);
}

/* 200 MB are promised; they are not kept. */
static void test_value_without_end_is_left(void **state)
{
    (void)state;
    size_t len = (size_t)24 << 20;
    char *endless = malloc(len + 1);
    memset(endless, 'x', len);
    endless[len] = '\0';
    const char head[] = "+PONG\r\n*4\r\n$200000000\r\n";
    memcpy(endless, head, sizeof head - 1);
    expect_left((const char *[]){endless, NULL});
    free(endless);
}

/* ---- calls from done ---- */

struct chain {
    struct gw_store *store;
    struct waited w;
    uint32_t next;
    uint8_t page[SMALL_PAGE];
};

static void put_next(void *arg, enum gw_store_outcome outcome, const bool *got, uint32_t got_len)
{
    struct chain *c = arg;
    struct gw_store_page page = {.len = SMALL_PAGE, .bytes = c->page};
    const struct gw_store_then then = {gw_clock_mono_us() + STORE_CALL_US, put_next, c};
    struct gw_block_name name = store_name(c->next);
    if (outcome == GW_STORE_OK && c->next++ < BLOCKS &&
        gw_store_put(c->store, &name, &page, 1, &then) == GW_OK)
        return;
    waited_done(&c->w, outcome, got, got_len);
}

static void test_done_may_call_again(void **state)
{
    (void)state;
    struct redis_server redis;
    static struct chain c;
    begin_redis(&redis, NULL);
    c.store = open_one(&redis, (struct gw_store_redis_config){0});
    waited_init(&c.w);
    put_next(&c, GW_STORE_OK, NULL, 0);
    assert_int_equal(waited_for(&c.w), GW_STORE_OK);
    assert_int_equal(stats_of(c.store).put.outcomes[GW_STORE_OK], BLOCKS);
    waited_fini(&c.w);
    gw_store_destroy(c.store);
    redis_close(&redis);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_in_the_middle_calls_end_and_restart_is_found),
        cmocka_unit_test(test_stopped_calls_are_late_then_lost_at_once_until_it_goes_on),
        cmocka_unit_test(test_stopped_for_less_than_a_stall_answers_stay_in_order),
        cmocka_unit_test(test_queue_full_is_refused_at_once_and_counted),
        cmocka_unit_test(test_queue_bytes_full_is_refused_at_once),
        cmocka_unit_test(test_destroy_ends_what_is_under_way),
        cmocka_unit_test(test_password_right_works_wrong_and_none_are_lost),
        cmocka_unit_test(test_two_servers_share_names_and_one_takes_all_when_the_other_is_gone),
        cmocka_unit_test(test_read_only_replica_is_left_until_it_is_a_master),
        cmocka_unit_test(test_loading_server_is_tried_again_until_it_greets),
        cmocka_unit_test(test_garbage_is_left_and_nothing_of_it_is_got),
        cmocka_unit_test(test_one_byte_at_a_time_is_left_after_the_stall),
        cmocka_unit_test(test_value_without_end_is_left),
        cmocka_unit_test(test_done_may_call_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
