/* What the tests of pulls share: a rank whose page server notes what it is told to fetch, and says what the test wants. */
#ifndef GW_TESTS_LIB_PULL_FIXTURE_H
#define GW_TESTS_LIB_PULL_FIXTURE_H

#include "tests/lib/page_fixture.h"

#include "migrate/peer_pull.h"
#include "migrate/pull_codec.h"

#define PULL_BLOCKS 5

/* What the rank heard, and how it behaves. */
struct puller_rank {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t calls;
    pthread_t thread;          /* of the last call */
    struct gw_pull_table last; /* deep copy of the last pull */
    bool holds;                /* pulls do not return until it is false */
};

struct pull_fixture {
    struct page_pool pool;
    struct puller_rank rank;
    struct gw_peer_server *server;
    struct gw_puller *puller;
    struct gw_block_name names[GW_PULL_NAMES_MAX];
    uint32_t slots[GW_PULL_NAMES_MAX];
    struct gw_fetch_source holders[GW_FETCH_SOURCES_MAX];
    struct gw_pull pull;
    uint8_t from[GW_PULL_NAMES_MAX];
    int64_t took_us;
    struct gw_err_ctx ctx;
};

/* What a rank says of block i. */
static inline uint8_t pull_answer(uint32_t i)
{
    return (uint8_t)(i % GW_PULL_FROMS);
}

static inline void rank_pull(void *arg, const struct gw_pull *pull, uint8_t *from)
{
    struct puller_rank *r = arg;
    pthread_mutex_lock(&r->lock);
    r->calls++;
    r->thread = pthread_self();
    r->last.pull = *pull;
    memcpy(r->last.names, pull->names, pull->names_len * sizeof *pull->names);
    memcpy(r->last.slots, pull->slots, pull->names_len * sizeof *pull->slots);
    memcpy(r->last.holders, pull->holders, pull->holders_len * sizeof *pull->holders);
    pthread_cond_broadcast(&r->changed);
    while (r->holds) pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
    for (uint32_t i = 0; i < pull->names_len; i++) from[i] = pull_answer(i);
}

static inline uint32_t rank_calls(struct puller_rank *r)
{
    pthread_mutex_lock(&r->lock);
    uint32_t calls = r->calls;
    pthread_mutex_unlock(&r->lock);
    return calls;
}

static inline void rank_hold(struct puller_rank *r, bool holds)
{
    pthread_mutex_lock(&r->lock);
    r->holds = holds;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static inline struct gw_peer_server_config rank_server(struct pull_fixture *f)
{
    struct gw_peer_server_config config = server_config(&f->pool);
    config.pull = (struct gw_pull_sink){&f->rank, rank_pull};
    return config;
}

static inline struct gw_puller_config puller_config(const char *address)
{
    return (struct gw_puller_config){.address = address,
                                     .rank = 1,
                                     .key = PAGE_KEY,
                                     .key_len = strlen(PAGE_KEY),
                                     .tls = page_tls,
                                     .model = PAGE_MODEL};
}

static inline struct gw_puller *puller_open(const struct gw_puller_config *config)
{
    struct gw_puller *puller = NULL;
    struct gw_err_ctx ctx = {0};
    if (gw_puller_create(config, &puller, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return puller;
}

/* A pull of that many blocks from that many holders. */
static inline void fill_pull(struct pull_fixture *f, uint32_t blocks, uint32_t holders)
{
    for (uint32_t i = 0; i < blocks; i++) {
        f->names[i] = page_name(i);
        f->slots[i] = 7 * i + 3;
    }
    for (uint32_t i = 0; i < holders; i++) {
        f->holders[i] = (struct gw_fetch_source){.rank = i, .pages = page_rect(0, 4, i, i + 2)};
        snprintf(f->holders[i].address, sizeof f->holders[i].address, "127.0.0.1:%u", 1000 + i);
    }
    f->pull = (struct gw_pull){.fence = PAGE_FENCE,
                               .names_len = blocks,
                               .names = f->names,
                               .slots = f->slots,
                               .holders_len = holders,
                               .holders = f->holders,
                               .after_step = 0x1122334455667788,
                               .budget_ms = 1000};
}

static inline gw_err_t run_pull(struct pull_fixture *f)
{
    int64_t start_us = gw_clock_mono_us();
    memset(f->from, 0xEE, sizeof f->from);
    gw_err_reset(&f->ctx);
    gw_err_t err = gw_puller_run(f->puller, &f->pull, f->from, &f->ctx);
    f->took_us = gw_clock_mono_us() - start_us;
    return err;
}

static inline void expect_pulled(struct pull_fixture *f)
{
    if (run_pull(f) != GW_OK) fail_msg("%s", f->ctx.text);
    for (uint32_t i = 0; i < f->pull.names_len; i++) assert_int_equal(f->from[i], pull_answer(i));
    assert_int_equal(f->from[f->pull.names_len], 0xEE);
}

/* The pull fails so, with these words, and no block is there. */
static inline void expect_lost(struct pull_fixture *f, gw_err_t err, const char *words)
{
    assert_int_equal(run_pull(f), err);
    if (!strstr(f->ctx.text, words)) fail_msg("\"%s\" does not say \"%s\"", f->ctx.text, words);
    for (uint32_t i = 0; i < f->pull.names_len; i++) assert_int_equal(f->from[i], GW_PULL_LOST);
}

static inline int pull_set_up(void **state)
{
    struct pull_fixture *f = calloc(1, sizeof *f);
    pthread_mutex_init(&f->rank.lock, NULL);
    pthread_cond_init(&f->rank.changed, NULL);
    pool_open(&f->pool, page_rect(0, PAGE_GROUPS, 0, PAGE_HEADS));
    struct gw_peer_server_config server = rank_server(f);
    f->server = server_open(&server);
    struct gw_puller_config config = puller_config(gw_peer_server_address(f->server));
    f->puller = puller_open(&config);
    fill_pull(f, PULL_BLOCKS, 3);
    *state = f;
    return 0;
}

static inline int pull_tear_down(void **state)
{
    struct pull_fixture *f = *state;
    gw_puller_destroy(f->puller);
    gw_peer_server_destroy(f->server);
    pool_close(&f->pool);
    pthread_cond_destroy(&f->rank.changed);
    pthread_mutex_destroy(&f->rank.lock);
    free(f);
    return 0;
}

static inline int pull_set_up_tls(void **state)
{
    page_tls_on(PAGE_KEY);
    return pull_set_up(state);
}

static inline int pull_tear_down_tls(void **state)
{
    int result = pull_tear_down(state);
    page_tls_off();
    return result;
}

#define PULL_TEST(name)     cmocka_unit_test_setup_teardown(name, pull_set_up, pull_tear_down)
#define PULL_TEST_TLS(name) cmocka_unit_test_setup_teardown(name, pull_set_up_tls, pull_tear_down_tls)

#endif
