/* A pull whose blocks are in the rank's own pool, with two holders that have half of each, in a store, and nowhere: each comes
 * from where it is, into the slot that the leader chose. The rank is the smallest one that can be: library calls alone. */
#include "tests/lib/pull_fixture.h"
#include "tests/lib/store_fixture.h"

#include <sys/socket.h>

#include "migrate/store_peer.h"
#include "migrate/store_peer_server.h"

#define HOLDERS    2
#define BLOCKS     30u
#define HELD       15u /* 0-14: by both holders; the first one alone has its half of more */
#define STORED     10u /* 10-24: in the store */
#define STORED_END 25u
#define HAD        2u /* in the rank's pool, in its slot */
#define PAGES      (PAGE_GROUPS * PAGE_HEADS)
#define STORE_ROOM ((size_t)64 << 20)
#define SLOT(i)    (PAGE_SLOTS - 1 - (i)) /* not in the order of blocks */

static const struct gw_page_rect ALL = {0, PAGE_GROUPS, 0, PAGE_HEADS};

struct mix {
    struct page_pool held[HOLDERS], pool;
    struct gw_peer_server *holders[HOLDERS], *server;
    struct gw_store_peer_server *memory;
    struct gw_store *store;
    const struct gw_pull *pull; /* under way */
    struct pull_fixture f;      /* the leader */
};

/* ---- the rank ---- */

static gw_err_t claim_as_told(void *arg, const struct gw_block_name *name, uint32_t *slot)
{
    struct mix *m = arg;
    for (uint32_t i = 0; i < m->pull->names_len; i++) {
        if (memcmp(&m->pull->names[i], name, sizeof *name) != 0) continue;
        *slot = m->pull->slots[i];
        m->pool.blocks[*slot].state = POOLED_CLAIMED;
        m->pool.blocks[*slot].name = *name;
        return GW_OK;
    }
    return GW_ERR_LIMIT;
}

static uint8_t *page_of(void *arg, uint32_t slot, struct gw_page_id id, uint32_t *bytes)
{
    struct mix *m = arg;
    return pool_page(&m->pool, slot, id, bytes);
}

static void commit_it(void *arg, uint32_t slot, const struct gw_block_name *name, const uint64_t *sums)
{
    struct mix *m = arg;
    sink_commit(&m->pool, slot, name, sums);
}

static void abandon_it(void *arg, uint32_t slot)
{
    struct mix *m = arg;
    sink_abandon(&m->pool, slot);
}

static void take_from_holders(struct mix *m, uint8_t *from, int64_t deadline_us)
{
    struct gw_peer_fetch_config config = fetch_config(&m->pool, m->pull->holders, m->pull->holders_len);
    struct gw_block_name names[BLOCKS];
    struct gw_fetch_result result;
    bool there[BLOCKS];
    uint32_t of[BLOCKS], len = 0;
    config.sink = (struct gw_page_sink){m, claim_as_told, page_of, commit_it, abandon_it};
    config.fast_fail = true;
    for (uint32_t i = 0; i < m->pull->names_len; i++) {
        if (from[i] != GW_PULL_LOST) continue;
        of[len] = i;
        names[len++] = m->pull->names[i];
    }
    struct gw_peer_fetch *fetch = NULL;
    assert_int_equal(gw_peer_fetch_create(&config, &fetch, NULL), GW_OK);
    assert_int_equal(gw_peer_fetch_run(fetch, names, len, deadline_us, there, &result, NULL), GW_OK);
    for (uint32_t i = 0; i < len; i++)
        if (there[i]) from[of[i]] = GW_PULL_PEER;
    gw_peer_fetch_destroy(fetch);
}

static void list_pages(struct mix *m, uint32_t slot, struct gw_store_page pages[PAGES])
{
    for (uint32_t p = 0; p < PAGES; p++) {
        pages[p].id = (struct gw_page_id){(uint16_t)(p / PAGE_HEADS), (uint16_t)(p % PAGE_HEADS)};
        pages[p].bytes = pool_page(&m->pool, slot, pages[p].id, &pages[p].len);
    }
}

static bool take_from_store(struct mix *m, uint32_t i)
{
    struct gw_store_page pages[PAGES];
    uint64_t sums[PAGES];
    uint32_t slot;
    struct waited w;
    bool all = true;
    waited_init(&w);
    const struct gw_store_then then = then_of(&w, STORE_CALL_US);
    assert_int_equal(claim_as_told(m, &m->pull->names[i], &slot), GW_OK);
    list_pages(m, slot, pages);
    assert_int_equal(gw_store_get(m->store, &m->pull->names[i], pages, PAGES, &then), GW_OK);
    (void)waited_for(&w);
    for (uint32_t p = 0; p < PAGES; p++) {
        all = all && p < w.got_len && w.got[p];
        sums[p] = gw_checksum(pages[p].bytes, pages[p].len);
    }
    if (all)
        commit_it(m, slot, &m->pull->names[i], sums);
    else
        abandon_it(m, slot);
    waited_fini(&w);
    return all;
}

static void pull_all(void *arg, const struct gw_pull *pull, uint8_t *from)
{
    struct mix *m = arg;
    m->pull = pull;
    for (uint32_t i = 0; i < pull->names_len; i++) {
        const struct pooled *b = &m->pool.blocks[pull->slots[i]];
        bool had = b->state == POOLED_SEALED && memcmp(&b->name, &pull->names[i], sizeof b->name) == 0;
        if (had) from[i] = GW_PULL_HAD;
    }
    take_from_holders(m, from, gw_clock_mono_us() + pull->budget_ms * GW_US_PER_MS);
    for (uint32_t i = 0; i < pull->names_len; i++)
        if (from[i] == GW_PULL_LOST && take_from_store(m, i)) from[i] = GW_PULL_STORE;
}

/* ---- fixture ---- */

static void fill_store(struct mix *m)
{
    static const char *const names[] = {"buddy"};
    const struct gw_store_peer_server_config memory = {.max_bytes = STORE_ROOM};
    const struct gw_store_peer_config store = {
        .common = {.seal = &store_seal}, .peers = names, .peers_len = 1};
    int ends[2];
    assert_int_equal(gw_store_peer_server_create(&memory, &m->memory, NULL), GW_OK);
    assert_int_equal(gw_store_peer_create(&store, &m->store, NULL), GW_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    gw_store_peer_server_serve(m->memory, gw_socket_plain(ends[0]));
    gw_store_peer_attach(m->store, 0, gw_socket_plain(ends[1]));
    until_up(m->store, 1);
    for (uint32_t i = STORED; i < STORED_END; i++) {
        struct gw_store_page pages[PAGES];
        struct waited w;
        waited_init(&w);
        const struct gw_store_then then = then_of(&w, STORE_CALL_US);
        pool_seal(&m->pool, 0, i); /* as a worker that had it would have put it */
        list_pages(m, 0, pages);
        assert_int_equal(gw_store_put(m->store, &m->pool.blocks[0].name, pages, PAGES, &then), GW_OK);
        assert_int_equal(waited_for(&w), GW_STORE_OK);
        waited_fini(&w);
    }
    m->pool.blocks[0].state = POOLED_FREE;
}

static void open_holder(struct mix *m, uint32_t i, uint32_t blocks)
{
    pool_open(&m->held[i], page_rect(0, PAGE_GROUPS, 4 * i, 4 * i + 4));
    for (uint32_t b = 0; b < blocks; b++) pool_seal(&m->held[i], b, b);
    struct gw_peer_server_config config = server_config(&m->held[i]);
    m->holders[i] = server_open(&config);
    m->f.holders[i] = fetch_source(gw_peer_server_address(m->holders[i]), m->held[i].rect);
    m->f.holders[i].rank = i;
}

static int mix_set_up(void **state)
{
    struct mix *m = calloc(1, sizeof *m);
    pool_open(&m->pool, ALL);
    fill_store(m);
    fill_pull(&m->f, BLOCKS, HOLDERS);
    m->f.pull.budget_ms = 30000;
    for (uint32_t i = 0; i < BLOCKS; i++) m->f.slots[i] = SLOT(i);
    open_holder(m, 0, HELD + 5);
    open_holder(m, 1, HELD);
    pool_seal(&m->pool, SLOT(HAD), HAD);
    struct gw_peer_server_config server = server_config(&m->pool);
    server.pull = (struct gw_pull_sink){m, pull_all};
    m->server = server_open(&server);
    struct gw_puller_config puller = puller_config(gw_peer_server_address(m->server));
    m->f.puller = puller_open(&puller);
    *state = m;
    return 0;
}

static int mix_tear_down(void **state)
{
    struct mix *m = *state;
    gw_puller_destroy(m->f.puller);
    gw_peer_server_destroy(m->server);
    assert_int_equal(pool_count(&m->pool, POOLED_CLAIMED), 0);
    for (uint32_t i = 0; i < HOLDERS; i++) {
        gw_peer_server_destroy(m->holders[i]);
        pool_close(&m->held[i]);
    }
    gw_store_destroy(m->store);
    gw_store_peer_server_destroy(m->memory);
    pool_close(&m->pool);
    free(m);
    return 0;
}

/* What was said of each block is so: in its slot, with the bytes that it must have. */
static void check_from(struct mix *m, uint8_t (*expect)(uint32_t block))
{
    if (run_pull(&m->f) != GW_OK) fail_msg("%s", m->f.ctx.text);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct gw_block_name name = page_name(i);
        const struct pooled *b = pool_find(&m->pool, &name);
        if (m->f.from[i] != expect(i)) fail_msg("block %u: from %u, not %u", i, m->f.from[i], expect(i));
        assert_int_equal(b != NULL, expect(i) != GW_PULL_LOST);
        if (!b) continue;
        assert_int_equal(b - m->pool.blocks, SLOT(i));
        assert_true(pool_has(&m->pool, i));
    }
}

static bool is_stored(uint32_t i)
{
    return i >= STORED && i < STORED_END;
}

/* ---- tests ---- */

static uint8_t from_everywhere(uint32_t i)
{
    if (i == HAD) return GW_PULL_HAD;
    if (i < HELD) return GW_PULL_PEER;
    return is_stored(i) ? GW_PULL_STORE : GW_PULL_LOST;
}

static uint8_t had_before(uint32_t i)
{
    return from_everywhere(i) == GW_PULL_LOST ? GW_PULL_LOST : GW_PULL_HAD;
}

static void test_pull_each_block_comes_from_where_it_is(void **state)
{
    struct mix *m = *state;
    check_from(m, from_everywhere);
    check_from(m, had_before); /* once more: it is all there */
}

static uint8_t without_a_holder(uint32_t i)
{
    if (i == HAD) return GW_PULL_HAD;
    return is_stored(i) ? GW_PULL_STORE : GW_PULL_LOST;
}

/* Half of each block is as good as nothing: the store gives those that it has. */
static void test_pull_one_holder_gone_the_store_gives_what_it_has(void **state)
{
    struct mix *m = *state;
    gw_peer_server_destroy(m->holders[1]);
    m->holders[1] = NULL;
    check_from(m, without_a_holder);
    assert_true(m->f.took_us < PAGE_LATE_US);
}

static uint8_t without_the_store(uint32_t i)
{
    if (i == HAD) return GW_PULL_HAD;
    return i < HELD ? GW_PULL_PEER : GW_PULL_LOST;
}

static void test_pull_store_gone_the_holders_give_what_they_have(void **state)
{
    struct mix *m = *state;
    gw_store_peer_server_destroy(m->memory);
    m->memory = NULL;
    check_from(m, without_the_store);
}

#define MIX_TEST(name) cmocka_unit_test_setup_teardown(name, mix_set_up, mix_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIX_TEST(test_pull_each_block_comes_from_where_it_is),
        MIX_TEST(test_pull_one_holder_gone_the_store_gives_what_it_has),
        MIX_TEST(test_pull_store_gone_the_holders_give_what_they_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
