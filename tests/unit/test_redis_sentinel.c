/* migrate/redis_sentinel: calls find the master that real sentinels name, also after a failover; what a liar in a sentinel's
 * place says is taken for an address that somebody typed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "base/sockaddr.h"
#include "migrate/redis_sentinel.h"
#include "tests/lib/redis_server.h"

#define MASTER      "the-journal"
#define FAILOVER_US (60 * GW_US_PER_S)

/* ---- a master, its replica, and a sentinel that watches them ---- */

struct trio {
    struct redis_server master, replica;
    uint16_t master_port, replica_port, sentinel_port;
    char dir[64], config[96];
    pid_t sentinel;
};

static void start_server(struct redis_server *r, uint16_t *port, uint16_t master_port)
{
    char own[8], master[32];
    *port = redis_free_port();
    snprintf(own, sizeof own, "%u", *port);
    snprintf(master, sizeof master, "127.0.0.1 %u", master_port);
    const char *extras[] = {"--port", own, master_port ? "--replicaof" : NULL, master, NULL};
    redis_open(r, extras);
}

static void start_sentinel(struct trio *t)
{
    t->sentinel_port = redis_free_port();
    snprintf(t->dir, sizeof t->dir, "/tmp/godwit-sentinel-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    snprintf(t->config, sizeof t->config, "%s/sentinel.conf", t->dir);
    FILE *f = fopen(t->config, "w");
    assert_non_null(f);
    fprintf(f,
            "port %u\nbind 127.0.0.1\ndir %s\nsentinel monitor " MASTER " 127.0.0.1 %u 1\n"
            "sentinel down-after-milliseconds " MASTER " 300\nsentinel failover-timeout " MASTER " 3000\n",
            t->sentinel_port, t->dir, t->master_port);
    assert_int_equal(fclose(f), 0);
    t->sentinel = fork();
    if (t->sentinel == 0) {
        int quiet = open("/dev/null", O_WRONLY);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(quiet, 1);
        execl("/usr/bin/redis-server", "redis-server", t->config, "--sentinel", (char *)NULL);
        _exit(127);
    }
}

static void trio_open(struct trio *t)
{
    memset(t, 0, sizeof *t);
    if (!redis_is_installed()) skip();
    start_server(&t->master, &t->master_port, 0);
    start_server(&t->replica, &t->replica_port, t->master_port);
    start_sentinel(t);
}

static void trio_close(struct trio *t)
{
    kill(t->sentinel, SIGKILL);
    waitpid(t->sentinel, NULL, 0);
    unlink(t->config);
    rmdir(t->dir);
    redis_close(&t->master);
    redis_close(&t->replica);
}

/* ---- calls ---- */

static gw_err_t open_url(const char *url, struct gw_redis **out, struct gw_err_ctx *ctx)
{
    const struct gw_redis_config config = {.url = url};
    return gw_redis_open(&config, out, ctx);
}

static gw_err_t set(struct gw_redis *redis, const char *key, struct gw_err_ctx *ctx)
{
    struct gw_redis_reply reply = {0};
    const struct gw_redis_arg args[] = {gw_redis_word("SET"), gw_redis_word(key), gw_redis_word("value")};
    return gw_redis_call(redis, args, 3, &reply, ctx);
}

static void set_until_it_works(struct gw_redis *redis, const char *key)
{
    int64_t deadline_us = gw_clock_mono_us() + FAILOVER_US;
    for (;;) {
        struct gw_err_ctx ctx = {0};
        if (set(redis, key, &ctx) == GW_OK) return;
        if (gw_clock_mono_us() > deadline_us) fail_msg("no master was found: %s", ctx.text);
        usleep(20000);
    }
}

static bool has(const struct redis_server *r, const char *key)
{
    char command[64], answer[64];
    snprintf(command, sizeof command, "EXISTS %s", key);
    return redis_say(r, command, answer, sizeof answer) && strncmp(answer, ":1", 2) == 0;
}

/* Of SENTINEL MASTER, a list of names and values. */
struct replicas {
    bool is_next, known;
};

static gw_err_t look_for_replicas(void *arg, uint32_t index, const char *bytes, size_t len)
{
    struct replicas *r = arg;
    (void)index;
    if (r->is_next) r->known = len > 0 && bytes[0] != '0';
    r->is_next = len == strlen("num-slaves") && memcmp(bytes, "num-slaves", len) == 0;
    return GW_OK;
}

static bool sentinel_knows_a_replica(struct gw_redis *sentinel)
{
    const struct gw_redis_arg args[] = {gw_redis_word("SENTINEL"), gw_redis_word("MASTER"),
                                        gw_redis_word(MASTER)};
    struct replicas found = {0};
    struct gw_err_ctx ctx = {0};
    struct gw_redis_reply reply = {.element = look_for_replicas, .arg = &found};
    return gw_redis_call(sentinel, args, 3, &reply, &ctx) == GW_OK && found.known;
}

/* A failover needs a replica that the sentinel has heard of and that is in step. */
static void wait_for_replica(const struct trio *t)
{
    char url[64];
    int64_t deadline_us = gw_clock_mono_us() + FAILOVER_US;
    struct gw_redis *sentinel;
    struct gw_err_ctx ctx = {0};
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", t->sentinel_port);
    assert_int_equal(open_url(url, &sentinel, &ctx), GW_OK);
    while (!sentinel_knows_a_replica(sentinel) || !has(&t->replica, "before")) {
        assert_true(gw_clock_mono_us() < deadline_us);
        usleep(20000);
    }
    gw_redis_close(sentinel);
}

static void test_call_finds_the_master_and_its_successor(void **state)
{
    (void)state;
    struct trio t;
    struct gw_err_ctx ctx = {0};
    struct gw_redis *redis;
    char url[128];
    trio_open(&t);
    /* the first sentinel of the list is gone */
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%u,127.0.0.1:%u/" MASTER, redis_free_port(),
             t.sentinel_port);
    assert_int_equal(open_url(url, &redis, &ctx), GW_OK);
    set_until_it_works(redis, "before");
    assert_true(has(&t.master, "before"));
    wait_for_replica(&t);
    redis_kill(&t.master);
    assert_int_equal(set(redis, "lost", &ctx), GW_ERR_IO);
    set_until_it_works(redis, "after");
    assert_true(has(&t.replica, "before"));
    assert_true(has(&t.replica, "after"));
    gw_redis_close(redis);
    trio_close(&t);
}

static void test_call_name_that_sentinels_do_not_know_is_named(void **state)
{
    (void)state;
    struct trio t;
    struct gw_redis *redis;
    char url[128];
    int64_t deadline_us = gw_clock_mono_us() + FAILOVER_US;
    trio_open(&t);
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%u/another", t.sentinel_port);
    for (bool named = false; !named; usleep(20000)) { /* the sentinel may still be starting */
        struct gw_err_ctx ctx = {0};
        assert_int_equal(open_url(url, &redis, &ctx), GW_OK);
        assert_int_equal(set(redis, "key", &ctx), GW_ERR_IO);
        named = strstr(ctx.text, "knows no master 'another'") != NULL;
        gw_redis_close(redis);
        assert_true(gw_clock_mono_us() < deadline_us);
    }
    trio_close(&t);
}

/* ---- liars ---- */

struct liar {
    int fd;
    uint16_t port;
    const char *says;
    pthread_t thread;
};

static void *lie(void *arg)
{
    struct liar *l = arg;
    char question[512];
    for (int fd; (fd = accept(l->fd, NULL, NULL)) >= 0; close(fd))
        if (read(fd, question, sizeof question) > 0) (void)!write(fd, l->says, strlen(l->says));
    return NULL;
}

static void check_lie(const char *says, const char *why)
{
    struct liar l = {.says = says};
    struct gw_err_ctx ctx = {0};
    struct gw_redis *redis;
    char url[96];
    l.fd = redis_listen_anywhere(&l.port);
    assert_int_equal(pthread_create(&l.thread, NULL, lie, &l), 0);
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%u/" MASTER, l.port);
    assert_int_equal(open_url(url, &redis, &ctx), GW_OK);
    assert_int_not_equal(set(redis, "key", &ctx), GW_OK);
    if (!strstr(ctx.text, why)) fail_msg("'%s' is not in: %s", why, ctx.text);
    gw_redis_close(redis);
    shutdown(l.fd, SHUT_RDWR);
    pthread_join(l.thread, NULL);
    close(l.fd);
}

static void test_call_what_liars_say_is_checked(void **state)
{
    (void)state;
    check_lie("*2\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n", "'10.0.0.1:6379' is not loopback");
    check_lie("*2\r\n$9\r\n127.0.0.1\r\n$6\r\n999999\r\n", "999999");
    check_lie("*2\r\n$9\r\n127.0 0.1\r\n$4\r\n6379\r\n", "neither an address nor a name");
    check_lie("*1\r\n$9\r\n127.0.0.1\r\n", "knows no master");
    check_lie("*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n$1\r\nx\r\n", "no sentinel says");
    check_lie("*2\r\n$0\r\n\r\n$4\r\n6379\r\n", "no sentinel says");
    check_lie("*2\r\n$-1\r\n$4\r\n6379\r\n", "no sentinel says");
    check_lie("*-1\r\n", "knows no master");
    check_lie(":7\r\n", "knows no master");
    check_lie("-ERR unknown command 'SENTINEL'\r\n", "unknown command");
    check_lie("HTTP/1.1 200 OK\r\n\r\n", "no sentinel says");
}

static void test_open_wrong_urls_are_refused(void **state)
{
    static const struct {
        const char *url, *why;
    } wrong[] = {
        {"redis+sentinel://127.0.0.1:1", "HOST:PORT/NAME of the master"},
        {"redis+sentinel://127.0.0.1:1/", "HOST:PORT/NAME of the master"},
        {"redis+sentinel:///m", "a sentinel's address is empty"},
        {"redis+sentinel://127.0.0.1:1,/m", "a sentinel's address is empty"},
        {"redis+sentinel://127.0.0.1:1,,127.0.0.1:2/m", "a sentinel's address is empty"},
        {"redis+sentinel://h:1,h:2,h:3,h:4,h:5,h:6,h:7,h:8,h:9/m", "is not loopback"},
        {"redis+sentinel://"
         "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3,127.0.0.1:4,127.0.0.1:5,127.0.0.1:6,127.0.0.1:7,"
         "127.0.0.1:8,127.0.0.1:9/m",
         "more than 8 sentinels"},
        {"redis+sentinel://127.0.0.1:1/a b", "is no name of a master"},
        {"redis+sentinel://127.0.0.1:1/m/x", "is no number of a database"},
        {"redis+sentinel://u:p@127.0.0.1:1/m", "never in a URL"},
        {"rediss+sentinel://127.0.0.1:1/m", "--redis-tls-name"},
        {"redis+cluster://127.0.0.1:1/m", "does not begin with"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct gw_err_ctx ctx = {0};
        struct gw_redis *redis = NULL;
        assert_int_equal(open_url(wrong[i].url, &redis, &ctx), GW_ERR_INPUT);
        if (!strstr(ctx.text, wrong[i].why)) fail_msg("'%s' is not in: %s", wrong[i].why, ctx.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call_finds_the_master_and_its_successor),
        cmocka_unit_test(test_call_name_that_sentinels_do_not_know_is_named),
        cmocka_unit_test(test_call_what_liars_say_is_checked),
        cmocka_unit_test(test_open_wrong_urls_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
