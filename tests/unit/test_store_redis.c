/* migrate/store_redis against a real redis-server: what is kept, for how long, and what is refused. */
#include "tests/lib/store_fixture.h"

#include "migrate/store_redis.h"
#include "tests/lib/redis_server.h"

struct fixture {
    struct redis_server redis;
    struct gw_store *store;
};

static struct gw_store *open_store(const struct redis_server *redis, struct gw_store_redis_config config)
{
    const char *servers[] = {redis->socket};
    struct gw_err_ctx ctx = {0};
    struct gw_store *store = NULL;
    config.common.seal = &store_seal;
    config.servers = servers;
    config.servers_len = 1;
    if (gw_store_redis_create(&config, &store, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return store;
}

static void begin(struct fixture *f, const char *const *extras)
{
    *f = (struct fixture){0};
    if (!redis_is_installed()) skip();
    redis_open(&f->redis, extras);
    f->store = open_store(&f->redis, (struct gw_store_redis_config){0});
}

static void end(struct fixture *f)
{
    gw_store_destroy(f->store);
    redis_close(&f->redis);
}

static void say(struct fixture *f, const char *command, const char *want)
{
    char answer[128];
    assert_true(redis_say(&f->redis, command, answer, sizeof answer));
    if (want && strncmp(answer, want, strlen(want)) != 0) fail_msg("%s: %s, not %s", command, answer, want);
}

/* "<verb> <key of block i> <rest>" */
static void say_key(struct fixture *f, const char *verb, uint32_t i, const char *rest, const char *want)
{
    struct gw_block_name name = store_name(i);
    char hex[2 * GW_BLOCK_NAME_BYTES + 1], command[400];
    gw_hex(name.bytes, sizeof name.bytes, hex);
    snprintf(command, sizeof command, "%s godwit:page:1:%s %s", verb, hex, rest);
    say(f, command, want);
}

static void test_put_then_get_and_has_find_the_same_bytes(void **state)
{
    (void)state;
    struct fixture f;
    enum gw_store_outcome outcome;
    begin(&f, NULL);
    int64_t start_us = gw_clock_mono_us();
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(put_block(f.store, i, i < 4 ? SMALL_PAGE : BIG_PAGE, STORE_CALL_US), GW_STORE_OK);
    for (uint32_t i = 0; i < 8; i++) expect_block(f.store, i, i < 4 ? SMALL_PAGE : BIG_PAGE, ALL_PAGES);
    expect_block(f.store, 9, SMALL_PAGE, 0);
    assert_true(has_blocks(f.store, 12, &outcome) == 0xFF);
    assert_int_equal(outcome, GW_STORE_OK);
    struct gw_store_stats s = stats_of(f.store);
    assert_int_equal(s.put.outcomes[GW_STORE_OK], 8);
    assert_int_equal(s.put.bytes, 16 * SMALL_PAGE + 16 * BIG_PAGE);
    assert_int_equal(s.get.bytes, s.put.bytes);
    assert_int_equal(s.pages_got, 32);
    assert_int_equal(s.pages_missing, 4);
    assert_int_equal(s.waiting_ops, 0);
    assert_int_equal(s.waiting_bytes, 0);
    assert_in_range(s.busy_us, 1, gw_clock_mono_us() - start_us);
    assert_in_range(s.get.us_max, 1, s.get.us_sum);
    end(&f);
}

/* What was put is what is got: that many pages of len bytes each. */
static void check_round_trip(struct gw_store *store, uint32_t pages_len, uint32_t len)
{
    uint8_t *bytes = malloc((size_t)pages_len * len), *back = calloc(pages_len, len);
    struct gw_store_page *pages = calloc(pages_len, sizeof *pages);
    struct gw_block_name name = store_name(0);
    struct waited w;
    for (uint32_t i = 0; i < pages_len; i++) {
        struct gw_page_id id = {(uint16_t)(60000 + i / 32), (uint16_t)(60000 + i % 32)};
        pages[i] = (struct gw_store_page){id, len, bytes + (size_t)i * len};
        store_fill(pages[i].bytes, 0, i, len);
    }
    waited_init(&w);
    struct gw_store_then then = then_of(&w, STORE_CALL_US);
    assert_int_equal(gw_store_put(store, &name, pages, pages_len, &then), GW_OK);
    assert_int_equal(waited_for(&w), GW_STORE_OK);
    for (uint32_t i = 0; i < pages_len; i++) pages[i].bytes = back + (size_t)i * len;
    w.times = 0;
    assert_int_equal(gw_store_get(store, &name, pages, pages_len, &then), GW_OK);
    assert_int_equal(waited_for(&w), GW_STORE_OK);
    assert_memory_equal(back, bytes, (size_t)pages_len * len);
    waited_fini(&w);
    free(pages);
    free(back);
    free(bytes);
}

/* The largest call there is, in the largest pages: 16 MiB, and their seals. */
static void test_put_largest_call_comes_back(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, NULL);
    check_round_trip(f.store, GW_STORE_CALL_BYTES_MAX / GW_PAGE_BYTES_MAX, GW_PAGE_BYTES_MAX);
    end(&f);
}

/* As many pages as a call may have, of the largest models' layouts. */
static void test_put_most_pages_come_back(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, NULL);
    check_round_trip(f.store, GW_STORE_PAGES_MAX, 64);
    end(&f);
}

static void test_put_every_field_expires_and_has_renews(void **state)
{
    (void)state;
    struct fixture f;
    enum gw_store_outcome outcome;
    begin(&f, NULL);
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    say_key(&f, "HLEN", 0, "", ":4");
    say_key(&f, "TTL", 0, "", ":3600");
    say_key(&f, "EXPIRE", 0, "100", ":1");
    assert_true(has_blocks(f.store, 1, &outcome) == 1);
    say_key(&f, "TTL", 0, "", ":3600");
    end(&f);
}

static void test_put_value_in_redis_is_sealed(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, NULL);
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    say_key(&f, "HSTRLEN", 0, "0.0", ":4128");
    say_key(&f, "HGET", 0, "1.1", "$4128\r\nGWP1");
    end(&f);
}

static void test_get_swapped_truncated_and_forged_pages_are_not_got(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, NULL);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(put_block(f.store, i, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    /* 0.0 becomes 0.1's page, 0.1 is cut, 1.0 is somebody's text, 1.1 stays */
    say_key(&f, "EVAL \"return redis.call('HSET', KEYS[1], '0.0', redis.call('HGET', KEYS[1], '0.1'))\" 1", 0,
            "", ":0");
    say_key(&f,
            "EVAL \"return redis.call('HSET', KEYS[1], '0.1', string.sub(redis.call('HGET', KEYS[1], '0.1'), "
            "1, -2))\" 1",
            0, "", ":0");
    say_key(&f, "HSET", 0, "1.0 hello", ":0");
    expect_block(f.store, 0, SMALL_PAGE, 1u << 3);
    expect_block(f.store, 1, SMALL_PAGE, ALL_PAGES);
    assert_int_equal(stats_of(f.store).pages_forged, 3);
    expect_block(f.store, 1, SMALL_PAGE / 2, 0); /* asked for another length */
    assert_int_equal(stats_of(f.store).pages_forged, 7);
    end(&f);
}

static void test_get_pages_sealed_under_another_key_are_not_got(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, NULL);
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    struct gw_page_seal_config seal = store_seal;
    seal.key = "the key of some other cluster";
    const char *servers[] = {f.redis.socket};
    struct gw_store_redis_config config = {.common = {.seal = &seal}, .servers = servers, .servers_len = 1};
    struct gw_store *stranger = NULL;
    assert_int_equal(gw_store_redis_create(&config, &stranger, NULL), GW_OK);
    assert_int_equal(put_block(stranger, 1, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    expect_block(f.store, 1, SMALL_PAGE, 0);
    expect_block(stranger, 0, SMALL_PAGE, 0);
    assert_int_equal(stats_of(f.store).pages_forged, STORE_PAGES);
    gw_store_destroy(stranger);
    end(&f);
}

static void test_foreign_value_under_our_key_is_refused_alone(void **state)
{
    (void)state;
    struct fixture f;
    enum gw_store_outcome outcome;
    begin(&f, NULL);
    say_key(&f, "SET", 0, "garbage", "+OK");
    say_key(&f, "RPUSH", 1, "a", ":1");
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(put_block(f.store, i, SMALL_PAGE, STORE_CALL_US), GW_STORE_REFUSED);
        assert_int_equal(get_block(f.store, i, SMALL_PAGE, &outcome), 0);
        assert_int_equal(outcome, GW_STORE_REFUSED);
    }
    assert_true(has_blocks(f.store, 3, &outcome) == 0);
    assert_int_equal(outcome, GW_STORE_REFUSED);
    assert_int_equal(put_block(f.store, 2, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    assert_int_equal(stats_of(f.store).disconnects, 0);
    end(&f);
}

static uint32_t put_many(struct gw_store *s, uint32_t blocks, enum gw_store_outcome *outcomes)
{
    struct waited *w = calloc(blocks, sizeof *w);
    uint32_t ok = 0;
    for (uint32_t i = 0; i < blocks; i++) {
        waited_init(&w[i]);
        assert_int_equal(begin_put(s, i, BIG_PAGE, STORE_CALL_US, &w[i]), GW_OK);
    }
    for (uint32_t i = 0; i < blocks; i++) {
        outcomes[i] = waited_for(&w[i]);
        ok += outcomes[i] == GW_STORE_OK;
        waited_fini(&w[i]);
    }
    free(w);
    return ok;
}

static void test_put_beyond_50_mb_noeviction_is_refused_and_what_is_there_stays(void **state)
{
    (void)state;
    struct fixture f;
    enum gw_store_outcome outcomes[100];
    begin(&f, (const char *[]){"--maxmemory", "50mb", "--maxmemory-policy", "noeviction", NULL});
    uint32_t ok = put_many(f.store, 100, outcomes);
    struct gw_store_stats s = stats_of(f.store);
    assert_in_range(ok, 5, 49); /* of 1 MiB each */
    assert_int_equal(s.put.outcomes[GW_STORE_REFUSED], 100 - ok);
    assert_int_equal(s.disconnects, 0);
    for (uint32_t i = 0; i < 100; i++)
        expect_block(f.store, i, BIG_PAGE, outcomes[i] == GW_STORE_OK ? ALL_PAGES : 0);
    say(&f, "FLUSHALL", "+OK");
    until_put(f.store, 7, BIG_PAGE); /* when the pause is over */
    expect_block(f.store, 7, BIG_PAGE, ALL_PAGES);
    end(&f);
}

static void test_put_beyond_50_mb_volatile_ttl_evicts_whole_blocks(void **state)
{
    (void)state;
    struct fixture f;
    enum gw_store_outcome outcomes[100], outcome;
    uint32_t whole = 0;
    begin(&f, (const char *[]){"--maxmemory", "50mb", "--maxmemory-policy", "volatile-ttl", NULL});
    uint32_t ok = put_many(f.store, 100, outcomes);
    assert_true(ok > 50); /* more than fit: others went */
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t bits = get_block(f.store, i, BIG_PAGE, &outcome);
        assert_int_equal(outcome, GW_STORE_OK);
        assert_true(bits == 0 || (bits == ALL_PAGES && outcomes[i] == GW_STORE_OK));
        whole += bits != 0;
    }
    assert_in_range(whole, 5, 49);
    assert_int_equal(stats_of(f.store).disconnects, 0);
    end(&f);
}

static void test_create_bad_servers_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"no-port", "example.com:6379", "10.0.0.1:6379", "[2001:db8::1]:6379",
                                      ""};
    struct gw_store *store = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gw_err_ctx ctx = {0};
        struct gw_store_redis_config config = {.servers = &bad[i], .servers_len = 1};
        assert_int_equal(gw_store_redis_create(&config, &store, &ctx), GW_ERR_INPUT);
        assert_true(ctx.text[0] != '\0');
    }
    struct gw_store_redis_config none = {0};
    assert_int_equal(gw_store_redis_create(&none, &store, NULL), GW_ERR_INPUT);
    assert_null(store);
    struct gw_store_redis_config insecure = {
        .servers = &bad[2], .servers_len = 1, .insecure_plaintext = true};
    assert_int_equal(gw_store_redis_create(&insecure, &store, NULL), GW_OK);
    gw_store_destroy(store);
}

static void test_calls_that_no_store_takes_are_refused_at_once(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, NULL);
    static uint8_t byte;
    static struct gw_store_page many[GW_STORE_PAGES_MAX + 1];
    struct waited w;
    waited_init(&w);
    struct gw_block_name name = store_name(0);
    struct gw_store_then then = then_of(&w, STORE_CALL_US),
                         endless = then_of(&w, 2 * GW_STORE_DEADLINE_MAX_US);
    struct gw_store_page page = {.len = 1, .bytes = &byte}, empty = {.bytes = &byte};
    struct gw_store_page huge = {.len = GW_PAGE_BYTES_MAX + 1, .bytes = &byte};
    for (int i = 0; i <= GW_STORE_PAGES_MAX; i++) many[i] = page;
    assert_int_equal(gw_store_put(f.store, &name, &page, 0, &then), GW_ERR_INPUT);
    assert_int_equal(gw_store_put(f.store, &name, &empty, 1, &then), GW_ERR_INPUT);
    assert_int_equal(gw_store_put(f.store, &name, &huge, 1, &then), GW_ERR_INPUT);
    assert_int_equal(gw_store_put(f.store, &name, many, GW_STORE_PAGES_MAX + 1, &then), GW_ERR_INPUT);
    assert_int_equal(gw_store_put(f.store, &name, &page, 1, &endless), GW_ERR_INPUT);
    assert_int_equal(gw_store_has(f.store, &name, 0, page.id, &then), GW_ERR_INPUT);
    const uint32_t too_many = GW_STORE_CALL_BYTES_MAX / GW_PAGE_BYTES_MAX + 1;
    for (uint32_t i = 0; i < too_many; i++) many[i].len = GW_PAGE_BYTES_MAX;
    assert_int_equal(gw_store_get(f.store, &name, many, too_many, &then), GW_ERR_INPUT);
    end(&f);
    assert_int_equal(w.times, 0);
    waited_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_then_get_and_has_find_the_same_bytes),
        cmocka_unit_test(test_put_largest_call_comes_back),
        cmocka_unit_test(test_put_most_pages_come_back),
        cmocka_unit_test(test_put_every_field_expires_and_has_renews),
        cmocka_unit_test(test_put_value_in_redis_is_sealed),
        cmocka_unit_test(test_get_swapped_truncated_and_forged_pages_are_not_got),
        cmocka_unit_test(test_get_pages_sealed_under_another_key_are_not_got),
        cmocka_unit_test(test_foreign_value_under_our_key_is_refused_alone),
        cmocka_unit_test(test_put_beyond_50_mb_noeviction_is_refused_and_what_is_there_stays),
        cmocka_unit_test(test_put_beyond_50_mb_volatile_ttl_evicts_whole_blocks),
        cmocka_unit_test(test_create_bad_servers_are_refused),
        cmocka_unit_test(test_calls_that_no_store_takes_are_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
