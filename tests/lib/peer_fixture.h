/* What the tests of peer servers and fetches share: up to four sources with a server each, and a destination. */
#ifndef GW_TESTS_LIB_PEER_FIXTURE_H
#define GW_TESTS_LIB_PEER_FIXTURE_H

#include "tests/lib/page_fixture.h"

#define SOURCES 4

struct fixture {
    struct page_pool from[SOURCES], to;
    struct gw_peer_server *servers[SOURCES];
    struct gw_fetch_source sources[SOURCES];
    struct page_run run;
};

static inline int set_up(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    return 0;
}

/* Whatever happened, nothing stays pinned or claimed. */
static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_peer_fetch_destroy(f->run.fetch);
    for (int i = 0; i < SOURCES; i++) {
        gw_peer_server_destroy(f->servers[i]);
        if (!f->from[i].blocks[0].bytes) continue;
        assert_int_equal(pool_pins(&f->from[i]), 0);
        pool_close(&f->from[i]);
    }
    assert_int_equal(pool_count(&f->to, POOLED_CLAIMED), 0);
    pool_close(&f->to);
    free(f);
    return 0;
}

/* Source i holds rect and blocks [0, blocks). */
static inline void open_source(struct fixture *f, int i, struct gw_page_rect rect, uint32_t blocks)
{
    pool_open(&f->from[i], rect);
    for (uint32_t b = 0; b < blocks; b++) pool_seal(&f->from[i], b, b);
    struct gw_peer_server_config config = server_config(&f->from[i]);
    f->servers[i] = server_open(&config);
    f->sources[i] = fetch_source(gw_peer_server_address(f->servers[i]), rect);
}

/* The destination holds rect and asks the first `sources`. */
static inline struct gw_peer_fetch_config open_sink(struct fixture *f, struct gw_page_rect rect,
                                                    uint32_t sources)
{
    pool_open(&f->to, rect);
    return fetch_config(&f->to, f->sources, sources);
}

static inline void check_all_there(struct fixture *f, uint32_t first, uint32_t len)
{
    if (f->run.err != GW_OK) fail_msg("%s", f->run.ctx.text);
    for (uint32_t i = 0; i < len; i++) {
        assert_true(f->run.there[i]);
        assert_true(pool_has(&f->to, first + i));
    }
}

static const struct gw_page_rect ALL = {0, PAGE_GROUPS, 0, PAGE_HEADS};

static inline int set_up_tls(void **state)
{
    page_tls_on(PAGE_KEY);
    return set_up(state);
}

static inline int tear_down_tls(void **state)
{
    int result = tear_down(state);
    page_tls_off();
    return result;
}

#define PEER_TEST(name)     cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define PEER_TEST_TLS(name) cmocka_unit_test_setup_teardown(name, set_up_tls, tear_down_tls)

#endif
