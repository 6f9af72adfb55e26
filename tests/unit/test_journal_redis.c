/* controller/journal over Redis: entries, the lease, and what a server that is unfit, full or gone does to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "controller/journal_redis.h"
#include "tests/lib/redis_server.h"

#define KEY      "0123456789abcdef0123456789abcdef"
#define WAIT_US  (20 * GW_US_PER_S)
#define LEASE_US (GW_US_PER_S)
#define SEEN_MAX 600
#define LARGE    ((size_t)5 << 20) /* three parts */

struct fixture {
    struct event_base *loop;
    struct redis_server server;
    struct gw_journal_config config;
    struct gw_journal *journal;
    char url[128];
    int told, failed, lost;
    int entries;
    uint64_t ids[SEEN_MAX];
    char pieces[SEEN_MAX][64];
    size_t bytes; /* of all pieces replayed */
};

static void on_lost(void *arg, const char *why)
{
    struct fixture *f = arg;
    assert_non_null(strstr(why, "lease"));
    f->lost++;
}

static int set_up_with(void **state, const char *const *extras)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    *state = f;
    if (!redis_is_installed()) return 0;
    f->loop = event_base_new();
    redis_open(&f->server, extras);
    snprintf(f->url, sizeof f->url, "redis://%s", f->server.socket);
    f->config = (struct gw_journal_config){.where = f->url,
                                           .key = KEY,
                                           .key_len = sizeof KEY - 1,
                                           .term_min = 100,
                                           .owner = "a",
                                           .lease_us = LEASE_US,
                                           .lost = on_lost,
                                           .arg = f};
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, NULL);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->loop) {
        gw_journal_close(f->journal);
        redis_close(&f->server);
        event_base_free(f->loop);
    }
    free(f);
    return 0;
}

static struct fixture *fixture_of(void **state)
{
    if (!redis_is_installed()) skip();
    return *state;
}

static gw_err_t on_entry(void *arg, uint64_t entry, const void *pieces, size_t len)
{
    struct fixture *f = arg;
    struct gw_reader r;
    assert_true(f->entries < SEEN_MAX);
    char *out = f->pieces[f->entries];
    f->ids[f->entries++] = entry;
    out[0] = '\0';
    gw_reader_init(&r, pieces, len);
    while (r.pos < r.len) {
        const uint8_t *piece;
        size_t n = gw_read_bytes(&r, LARGE, &piece), at = strlen(out);
        assert_int_equal(r.err, GW_OK);
        f->bytes += n;
        if (at + n + 2 < sizeof f->pieces[0]) snprintf(out + at, 64 - at, "%.*s|", (int)n, piece);
    }
    return GW_OK;
}

static gw_err_t try_open(struct fixture *f, struct gw_journal **out, struct gw_err_ctx *ctx)
{
    return gw_journal_open(f->loop, &gw_journal_redis, &f->config, out, ctx);
}

static void open_journal(struct fixture *f)
{
    struct gw_err_ctx ctx = {0};
    if (try_open(f, &f->journal, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    f->entries = 0;
    f->bytes = 0;
    assert_int_equal(gw_journal_replay(f->journal, on_entry, f), GW_OK);
}

static void reopen(struct fixture *f)
{
    gw_journal_close(f->journal);
    f->journal = NULL;
    open_journal(f);
}

static void on_durable(void *arg, gw_err_t err)
{
    struct fixture *f = arg;
    f->told++;
    f->failed += err != GW_OK;
}

static void run_until(struct fixture *f, const int *value, int wanted)
{
    int64_t deadline_us = gw_clock_mono_us() + WAIT_US;
    const struct timeval poll = {.tv_usec = 20000};
    while (*value < wanted && gw_clock_mono_us() < deadline_us) {
        event_base_loopexit(f->loop, &poll);
        event_base_dispatch(f->loop);
    }
    assert_true(*value >= wanted);
}

static void append_bytes(struct fixture *f, struct gw_journal *j, uint64_t entry, const void *bytes,
                         size_t len)
{
    int wanted = f->told + 1;
    assert_int_equal(gw_journal_append(j, entry, bytes, len, on_durable, f), GW_OK);
    run_until(f, &f->told, wanted);
}

static void append(struct fixture *f, struct gw_journal *j, uint64_t entry, const char *text)
{
    append_bytes(f, j, entry, text, strlen(text));
}

/* ---- entries ---- */

static void test_open_gives_back_what_had_not_ended(void **state)
{
    struct fixture *f = fixture_of(state);
    open_journal(f);
    append(f, f->journal, 7, "begin");
    append(f, f->journal, 9, "other");
    append(f, f->journal, 7, "more");
    append(f, f->journal, 3, "third");
    gw_journal_end(f->journal, 9);
    reopen(f);
    assert_int_equal(f->failed, 0);
    assert_int_equal(f->entries, 2);
    assert_int_equal(f->ids[0], 7);
    assert_string_equal(f->pieces[0], "begin|more|");
    assert_string_equal(f->pieces[1], "third|");
    assert_int_equal(gw_journal_term(f->journal), 101);
}

static void test_many_and_large_pieces_come_back_whole(void **state)
{
    struct fixture *f = fixture_of(state);
    char text[16];
    uint8_t *large = malloc(LARGE);
    assert_non_null(large);
    for (size_t i = 0; i < LARGE; i++) large[i] = (uint8_t)(i * 31);
    open_journal(f);
    append_bytes(f, f->journal, 1, large, LARGE);
    for (uint64_t i = 2; i < 400; i++) {
        snprintf(text, sizeof text, "e%d", (int)i);
        assert_int_equal(gw_journal_append(f->journal, i, text, strlen(text), NULL, NULL), GW_OK);
    }
    for (int i = 0; i < 30; i++)
        assert_int_equal(gw_journal_append(f->journal, 400, "x", 1, NULL, NULL), GW_OK);
    append_bytes(f, f->journal, 401, "", 0);
    reopen(f);
    assert_int_equal(f->entries, 401);
    assert_string_equal(f->pieces[398], "e399|");
    assert_int_equal(strlen(f->pieces[399]), 60);
    assert_true(f->bytes > LARGE + 1000);
    free(large);
}

static void test_redis_holds_nothing_readable(void **state)
{
    struct fixture *f = fixture_of(state);
    char answer[4096];
    open_journal(f);
    append(f, f->journal, 7, "a secret prompt");
    assert_true(redis_say(&f->server, "KEYS *", answer, sizeof answer));
    char *key = strstr(answer, "godwit:journal:1:");
    while (key && !strstr(key, ":e:")) key = strstr(key + 1, "godwit:journal:1:");
    key = strstr(answer, ":e:");
    assert_non_null(key);
    while (strncmp(key, "godwit", 6) != 0) key--;
    char command[256];
    snprintf(command, sizeof command, "LRANGE %.*s 0 -1", (int)strcspn(key, "\r"), key);
    memset(answer, 0, sizeof answer);
    assert_true(redis_say(&f->server, command, answer, sizeof answer));
    assert_null(memmem(answer, sizeof answer, "secret", 6));
    assert_int_equal(answer[0], '*');
}

/* A part of one entry put in the place of another's. */
static void test_swapped_part_is_refused_by_name(void **state)
{
    struct fixture *f = fixture_of(state);
    struct gw_err_ctx ctx = {0};
    char answer[1024], command[512];
    open_journal(f);
    append(f, f->journal, 7, "one");
    append(f, f->journal, 8, "two");
    gw_journal_close(f->journal);
    f->journal = NULL;
    assert_true(redis_say(&f->server, "KEYS *:e:0000000000000007", answer, sizeof answer));
    char *key = strstr(answer, "godwit:");
    assert_non_null(key);
    int len = (int)strcspn(key, "\r");
    snprintf(command, sizeof command, "RENAME %.*s %.*s8", len, key, len - 1, key);
    assert_true(redis_say(&f->server, command, answer, sizeof answer));
    assert_int_equal(try_open(f, &f->journal, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "entry 0000000000000008"));
    assert_non_null(strstr(ctx.text, "DEL "));
}

/* ---- the lease ---- */

static void test_open_held_by_another_waits_for_its_end(void **state)
{
    struct fixture *f = fixture_of(state);
    struct gw_journal *second = NULL;
    struct gw_err_ctx ctx = {0};
    open_journal(f);
    f->config.owner = "b";
    assert_int_equal(try_open(f, &second, &ctx), GW_ERR_LIMIT);
    assert_non_null(strstr(ctx.text, "controller a holds it"));
    gw_journal_close(f->journal); /* gives the lease back */
    f->journal = NULL;
    open_journal(f);
    assert_int_equal(gw_journal_term(f->journal), 101);
}

static void test_lease_is_kept_without_writes(void **state)
{
    struct fixture *f = fixture_of(state);
    struct gw_journal *second = NULL;
    struct gw_err_ctx ctx = {0};
    const struct timeval two_leases = {.tv_usec = 2 * LEASE_US % GW_US_PER_S,
                                       .tv_sec = 2 * LEASE_US / GW_US_PER_S};
    open_journal(f);
    event_base_loopexit(f->loop, &two_leases);
    event_base_dispatch(f->loop);
    f->config.owner = "b";
    assert_int_equal(try_open(f, &second, &ctx), GW_ERR_LIMIT);
    assert_int_equal(f->lost, 0);
}

/* The first one's loop stands still, as that of a stopped process: its lease expires. */
static void test_zombie_writes_nothing_and_is_told(void **state)
{
    struct fixture *f = fixture_of(state);
    struct gw_journal *old, *second = NULL;
    struct gw_err_ctx ctx = {0};
    open_journal(f);
    old = f->journal;
    append(f, old, 7, "before");
    f->config.owner = "b";
    int64_t deadline_us = gw_clock_mono_us() + WAIT_US;
    while (try_open(f, &second, &ctx) == GW_ERR_LIMIT && gw_clock_mono_us() < deadline_us) {
        gw_err_reset(&ctx);
        usleep(50000);
    }
    assert_non_null(second);
    assert_int_equal(gw_journal_append(old, 7, "after", 5, on_durable, f), GW_OK);
    run_until(f, &f->told, 2);
    assert_int_equal(f->failed, 1); /* told that it is not durable */
    assert_int_equal(f->lost, 1);
    assert_int_equal(gw_journal_append(old, 7, "x", 1, NULL, NULL), GW_ERR_IO);
    append(f, second, 8, "new");
    gw_journal_end(old, 7);
    gw_journal_close(old); /* takes nobody's lease away */
    f->journal = second;
    append(f, second, 8, "more");
    assert_int_equal(f->failed, 1);
    reopen(f);
    assert_int_equal(f->entries, 2);
    assert_string_equal(f->pieces[0], "before|");
    assert_string_equal(f->pieces[1], "new|more|");
}

static void test_same_owner_takes_over_at_once(void **state)
{
    struct fixture *f = fixture_of(state);
    struct gw_journal *old;
    open_journal(f);
    old = f->journal;
    append(f, old, 7, "before");
    open_journal(f);
    assert_int_equal(f->entries, 1);
    append(f, old, 7, "after");
    assert_int_equal(f->failed, 1);
    gw_journal_close(old);
}

/* ---- servers ---- */

static void test_open_evicting_server_is_refused(void **state)
{
    struct fixture *f = fixture_of(state);
    struct gw_err_ctx ctx = {0};
    char answer[64];
    assert_true(redis_say(&f->server, "CONFIG SET maxmemory-policy allkeys-lru", answer, sizeof answer));
    assert_int_equal(try_open(f, &f->journal, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "allkeys-lru"));
    assert_non_null(strstr(ctx.text, "noeviction"));
}

static void test_open_without_a_server_or_with_a_bad_url_is_an_error(void **state)
{
    struct fixture *f = fixture_of(state);
    struct gw_err_ctx ctx = {0};
    static const char *const bad[] = {"http://127.0.0.1:1", "redis://127.0.0.1", "redis://10.0.0.1:6379",
                                      "redis://u:p@127.0.0.1:6379", "redis://127.0.0.1:6379/x"};
    redis_kill(&f->server);
    assert_int_equal(try_open(f, &f->journal, &ctx), GW_ERR_IO);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        gw_err_reset(&ctx);
        f->config.where = bad[i];
        assert_int_equal(try_open(f, &f->journal, &ctx), GW_ERR_INPUT);
    }
}

static void test_server_gone_refuses_and_recovers(void **state)
{
    struct fixture *f = fixture_of(state);
    open_journal(f);
    append(f, f->journal, 7, "before");
    assert_true(kill(f->server.pid, SIGSTOP) == 0); /* its data stays, its answers do not come */
    append(f, f->journal, 7, "lost");
    assert_int_equal(f->failed, 1);
    assert_true(kill(f->server.pid, SIGCONT) == 0);
    append(f, f->journal, 8, "after");
    assert_int_equal(f->lost, 0);
    assert_int_equal(f->failed, 1);
}

static void test_full_server_refuses_and_recovers(void **state)
{
    struct fixture *f = fixture_of(state);
    char answer[64];
    open_journal(f);
    append(f, f->journal, 7, "before");
    assert_true(redis_say(&f->server, "CONFIG SET maxmemory 1", answer, sizeof answer));
    append(f, f->journal, 8, "no room");
    assert_int_equal(f->failed, 1);
    assert_true(redis_say(&f->server, "CONFIG SET maxmemory 0", answer, sizeof answer));
    append(f, f->journal, 9, "after");
    assert_int_equal(f->failed, 1);
    assert_int_equal(f->lost, 0);
    reopen(f);
    assert_int_equal(f->entries, 2);
}

/* A process that was frozen has run no loop meanwhile. */
static void test_held_ends_with_the_lease_and_comes_back_with_a_write(void **state)
{
    struct fixture *f = fixture_of(state);
    open_journal(f);
    assert_true(gw_journal_held(f->journal));
    int64_t end_us = gw_clock_mono_us() + WAIT_US;
    while (gw_journal_held(f->journal) && gw_clock_mono_us() < end_us) usleep(1000);
    assert_false(gw_journal_held(f->journal));
    append(f, f->journal, 1, "back");
    assert_true(gw_journal_held(f->journal));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_held_ends_with_the_lease_and_comes_back_with_a_write, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_open_gives_back_what_had_not_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_and_large_pieces_come_back_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_redis_holds_nothing_readable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_swapped_part_is_refused_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_held_by_another_waits_for_its_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lease_is_kept_without_writes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_zombie_writes_nothing_and_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_same_owner_takes_over_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_evicting_server_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_without_a_server_or_with_a_bad_url_is_an_error, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_server_gone_refuses_and_recovers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_server_refuses_and_recovers, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
