/* worker/stores: a page goes to another instance than its own, and is found there by all. */
#include "tests/lib/stores_fixture.h"

#include <stdio.h>

#include "tests/lib/redis_server.h"

#define BUDDIES 4
#define BLOCKS  40

static void open_buddies(struct buddy *b)
{
    for (uint32_t i = 0; i < BUDDIES; i++) buddy_open(&b[i]);
}

static void close_buddies(struct buddy *b)
{
    for (uint32_t i = 0; i < BUDDIES; i++)
        if (b[i].port) buddy_close(&b[i]);
}

static uint32_t found(struct gw_stores *s, uint32_t i)
{
    return stores_get(s, 0, i) | stores_get(s, 1, i);
}

static void test_put_leaves_the_own_instance_and_all_find_it(void **state)
{
    (void)state;
    struct buddy b[BUDDIES];
    open_buddies(b);
    for (uint32_t self = 0; self < 2; self++) {
        char name[8];
        snprintf(name, sizeof name, "i-%u", self);
        struct gw_stores *s = stores_on(name), *other = stores_on("i-9");
        uint64_t own = buddy_blocks(&b[self]);
        name_buddies(s, b, BUDDIES);
        name_buddies(other, b, BUDDIES);
        stores_until_up(s, BUDDIES);
        stores_until_up(other, BUDDIES);
        for (uint32_t i = 0; i < BLOCKS; i++) assert_int_equal(stores_put(s, self * BLOCKS + i), GW_STORE_OK);
        assert_int_equal(buddy_blocks(&b[self]), own);
        for (uint32_t i = 0; i < BLOCKS; i++) {
            assert_int_equal(found(s, self * BLOCKS + i), ALL_PAGES);
            assert_int_equal(found(other, self * BLOCKS + i), ALL_PAGES);
        }
        gw_stores_destroy(s);
        gw_stores_destroy(other);
    }
    for (uint32_t i = 0; i < BUDDIES; i++) assert_true(buddy_blocks(&b[i]) > 0);
    close_buddies(b);
}

static void test_has_says_what_was_put(void **state)
{
    (void)state;
    struct buddy b[BUDDIES];
    struct gw_block_name names[BLOCKS];
    bool got[BLOCKS] = {0};
    open_buddies(b);
    struct gw_stores *s = stores_on("i-0");
    name_buddies(s, b, BUDDIES);
    stores_until_up(s, BUDDIES);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        names[i] = store_name(i);
        if (i % 3 == 0) assert_int_equal(stores_put(s, i), GW_STORE_OK);
    }
    gw_stores_has(s, GW_STORES_OF_PUT, names, BLOCKS, (struct gw_page_id){1, 1},
                  gw_clock_mono_us() + STORE_CALL_US, got);
    for (uint32_t i = 0; i < BLOCKS; i++) assert_int_equal(got[i], i % 3 == 0);
    gw_stores_destroy(s);
    close_buddies(b);
}

/* Stores on i-0 in zone "a" that may take far_bytes_s to other zones; of four buddies those with odd numbers are in "b". */
static struct gw_stores *stores_of_zone(struct gw_traffic *t, struct buddy *b, double far_bytes_s)
{
    struct gw_stores *s;
    const struct gw_stores_config config = {
        .seal = &store_seal, .instance = "i-0", .tls = stores_tls, .traffic = t, .far_bytes_s = far_bytes_s};
    for (uint32_t i = 1; i < BUDDIES; i += 2) {
        struct gw_worker_zone far = {.zone = "b"};
        snprintf(far.address, sizeof far.address, "%s", gw_peer_server_address(b[i].port));
        gw_traffic_learn(t, &(struct gw_msg_zones){1, &far});
    }
    assert_int_equal(gw_stores_create(&config, &s, NULL), GW_OK);
    name_buddies(s, b, BUDDIES);
    stores_until_up(s, BUDDIES);
    return s;
}

static uint64_t far_blocks(struct buddy *b)
{
    uint64_t n = 0;
    for (uint32_t i = 1; i < BUDDIES; i += 2) n += buddy_blocks(&b[i]);
    return n;
}

#define PUT_BYTES ((uint64_t)STORE_PAGES * SMALL_PAGE)

static void test_puts_are_counted_by_zone(void **state)
{
    (void)state;
    struct buddy b[BUDDIES];
    struct gw_traffic *t;
    struct gw_traffic_bytes moved;
    open_buddies(b);
    assert_int_equal(gw_traffic_create("a", &t), GW_OK);
    struct gw_stores *s = stores_of_zone(t, b, 0);
    for (uint32_t i = 0; i < BLOCKS; i++) assert_int_equal(stores_put(s, i), GW_STORE_OK);
    gw_traffic_read(t, &moved);
    assert_int_equal(moved.far[GW_TRAFFIC_STORES], far_blocks(b) * PUT_BYTES);
    assert_int_equal(moved.near[GW_TRAFFIC_STORES], (BLOCKS - far_blocks(b)) * PUT_BYTES);
    assert_true(far_blocks(b) > 0 && far_blocks(b) < BLOCKS);
    gw_stores_destroy(s);
    gw_traffic_destroy(t);
    close_buddies(b);
}

/* One byte a second: the first block that goes to another zone has spent it for long. The others go near, where readers look, too, or
 * nowhere. */
static void test_put_beyond_the_budget_stays_near_or_is_not_made(void **state)
{
    (void)state;
    struct buddy b[BUDDIES];
    struct gw_traffic *t;
    uint32_t stored = 0, there = 0;
    open_buddies(b);
    assert_int_equal(gw_traffic_create("a", &t), GW_OK);
    struct gw_stores *s = stores_of_zone(t, b, 1), *reader = stores_on("i-9");
    for (uint32_t i = 0; i < BLOCKS; i++) stored += stores_put(s, i) == GW_STORE_OK;
    assert_int_equal(far_blocks(b), 1);
    assert_true(stored > 1 && stored < BLOCKS);
    name_buddies(reader, b, BUDDIES);
    stores_until_up(reader, BUDDIES);
    for (uint32_t i = 0; i < BLOCKS; i++) there += found(reader, i) == ALL_PAGES;
    assert_int_equal(there, stored);
    gw_stores_destroy(reader);
    gw_stores_destroy(s);
    gw_traffic_destroy(t);
    close_buddies(b);
}

static void test_buddy_that_goes_takes_its_blocks_alone_with_it(void **state)
{
    (void)state;
    struct buddy b[BUDDIES];
    uint32_t there = 0;
    open_buddies(b);
    struct gw_stores *s = stores_on("i-9");
    name_buddies(s, b, BUDDIES);
    stores_until_up(s, BUDDIES);
    for (uint32_t i = 0; i < BLOCKS; i++) assert_int_equal(stores_put(s, i), GW_STORE_OK);
    uint32_t lost = (uint32_t)buddy_blocks(&b[BUDDIES - 1]);
    assert_true(lost > 0);
    buddy_close(&b[BUDDIES - 1]);
    stores_until_up(s, BUDDIES - 1);
    name_buddies(s, b, BUDDIES - 1);
    for (uint32_t i = 0; i < BLOCKS; i++) there += found(s, i) == ALL_PAGES;
    assert_int_equal(there, BLOCKS - lost);
    for (uint32_t i = 0; i < BLOCKS; i++) assert_int_equal(stores_put(s, i), GW_STORE_OK);
    gw_stores_destroy(s);
    close_buddies(b);
}

static void test_buddy_that_comes_back_is_dialed_again(void **state)
{
    (void)state;
    struct buddy b[1];
    struct gw_stores *s = stores_on("i-9");
    buddy_open(&b[0]);
    name_buddies(s, b, 1);
    stores_until_up(s, 1);
    assert_int_equal(stores_put(s, 1), GW_STORE_OK);
    buddy_close(&b[0]);
    stores_until_up(s, 0);
    assert_int_equal(stores_put(s, 1), GW_STORE_OUTCOMES);
    assert_false(gw_stores_ready(s));
    buddy_open(&b[0]); /* on another port: the list says where */
    name_buddies(s, b, 1);
    stores_until_up(s, 1);
    assert_true(gw_stores_ready(s));
    assert_int_equal(stores_put(s, 1), GW_STORE_OK);
    gw_stores_destroy(s);
    buddy_close(&b[0]);
}

static void test_buddy_without_the_cluster_key_is_never_up(void **state)
{
    (void)state;
    struct buddy b[2];
    struct gw_stores *s = stores_on("i-9");
    buddy_open_with(&b[0], "another key", 11, false);
    buddy_open(&b[1]);
    name_buddies(s, b, 2);
    stores_until_up(s, 1); /* both have been tried: the first one is the first to be dialed */
    assert_int_equal(buddy_blocks(&b[0]), 0);
    for (uint32_t i = 0; i < 8; i++) stores_put(s, i);
    assert_int_equal(buddy_blocks(&b[0]), 0);
    assert_true(buddy_blocks(&b[1]) > 0);
    gw_stores_destroy(s);
    buddy_close(&b[0]);
    buddy_close(&b[1]);
}

static void test_own_memory_alone_is_no_store(void **state)
{
    (void)state;
    struct buddy b[1];
    struct gw_stores *s = stores_on("i-0");
    buddy_open(&b[0]);
    name_buddies(s, b, 1);
    stores_until_up(s, 1);
    assert_false(gw_stores_ready(s));
    assert_int_equal(stores_put(s, 1), GW_STORE_OUTCOMES);
    gw_stores_destroy(s);
    buddy_close(&b[0]);
}

static void test_store_that_is_late_is_left_alone_for_a_while(void **state)
{
    (void)state;
    struct buddy b[1];
    struct gw_stores *s = stores_on("i-9");
    struct gw_block_name name = store_name(1);
    bool got = false;
    buddy_open_with(&b[0], store_key, sizeof store_key, true);
    name_buddies(s, b, 1);
    stores_until_up(s, 1);
    gw_stores_has(s, 0, &name, 1, (struct gw_page_id){0, 0}, gw_clock_mono_us() + 20 * GW_US_PER_MS, &got);
    assert_false(got);
    assert_false(gw_stores_ready(s));
    int64_t start_us = gw_clock_mono_us();
    gw_stores_has(s, 0, &name, 1, (struct gw_page_id){0, 0}, start_us + 30 * GW_US_PER_S, &got);
    assert_true(gw_clock_mono_us() - start_us < 10 * GW_US_PER_S); /* it was not asked */
    gw_stores_destroy(s);
    buddy_close(&b[0]);
}

static void test_redis_serves_instead_of_buddies(void **state)
{
    (void)state;
    if (!redis_is_installed()) skip();
    struct redis_server r;
    struct gw_stores *s;
    redis_open(&r, NULL);
    const char *const server = r.socket;
    const struct gw_stores_config config = {
        .seal = &store_seal, .instance = "i-0", .redis = &server, .redis_len = 1};
    assert_int_equal(gw_stores_create(&config, &s, NULL), GW_OK);
    gw_stores_set_peers(s, &(struct gw_msg_stores){0}); /* means nothing here */
    stores_until_up(s, 1);
    assert_int_equal(stores_put(s, 1), GW_STORE_OK);
    assert_int_equal(stores_get(s, 0, 1), ALL_PAGES);
    assert_int_equal(stores_get(s, 1, 1), 0); /* there is no second place */
    redis_kill(&r);
    stores_until_up(s, 0);
    assert_false(gw_stores_ready(s));
    redis_start(&r, NULL);
    stores_until_up(s, 1);
    assert_int_equal(stores_put(s, 1), GW_STORE_OK);
    gw_stores_destroy(s);
    redis_close(&r);
}

static void test_part_of_pages_is_what_one_call_takes(void **state)
{
    (void)state;
    static struct gw_store_page pages[GW_STORE_PAGES_MAX + 1];
    for (uint32_t i = 0; i <= GW_STORE_PAGES_MAX; i++) pages[i].len = 1024;
    assert_int_equal(gw_stores_part(pages, 7), 7);
    assert_int_equal(gw_stores_part(pages, GW_STORE_PAGES_MAX + 1), GW_STORE_PAGES_MAX);
    for (uint32_t i = 0; i <= GW_STORE_PAGES_MAX; i++) pages[i].len = GW_PAGE_BYTES_MAX;
    assert_int_equal(gw_stores_part(pages, 100), GW_STORE_CALL_BYTES_MAX / GW_PAGE_BYTES_MAX);
}

static int set_up_tls(void **state)
{
    (void)state;
    const struct gw_tls_config config = {.key = store_key, .key_len = sizeof store_key, .everywhere = true};
    return gw_tls_create(&config, &stores_tls, NULL) == GW_OK ? 0 : -1;
}

static int tear_down_tls(void **state)
{
    (void)state;
    gw_tls_destroy(stores_tls);
    stores_tls = NULL;
    return 0;
}

#define WITH_TLS(test) cmocka_unit_test_setup_teardown(test, set_up_tls, tear_down_tls)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_leaves_the_own_instance_and_all_find_it),
        cmocka_unit_test(test_has_says_what_was_put),
        cmocka_unit_test(test_puts_are_counted_by_zone),
        cmocka_unit_test(test_put_beyond_the_budget_stays_near_or_is_not_made),
        cmocka_unit_test(test_buddy_that_goes_takes_its_blocks_alone_with_it),
        cmocka_unit_test(test_buddy_that_comes_back_is_dialed_again),
        cmocka_unit_test(test_buddy_without_the_cluster_key_is_never_up),
        cmocka_unit_test(test_own_memory_alone_is_no_store),
        cmocka_unit_test(test_store_that_is_late_is_left_alone_for_a_while),
        cmocka_unit_test(test_redis_serves_instead_of_buddies),
        cmocka_unit_test(test_part_of_pages_is_what_one_call_takes),
        WITH_TLS(test_put_leaves_the_own_instance_and_all_find_it),
        WITH_TLS(test_has_says_what_was_put),
        WITH_TLS(test_buddy_that_goes_takes_its_blocks_alone_with_it),
        WITH_TLS(test_buddy_that_comes_back_is_dialed_again),
        WITH_TLS(test_store_that_is_late_is_left_alone_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
