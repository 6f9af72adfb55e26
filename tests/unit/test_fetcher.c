/* worker/fetcher: what one place does not give is had from the next one, in time. */
#include "tests/lib/checkpoint_fixture.h"

#include <stdatomic.h>

#include "worker/fetcher.h"

#define BLOCKS    8
#define BUDGET_MS 2000

/* A worker that holds blocks, takes requests and says nothing any more. */
struct frozen {
    struct gw_peer_server *server;
    atomic_bool thawed;
    atomic_uint asked;
};

static bool pin_when_thawed(void *arg, const struct gw_block_name *name, uint32_t *slot)
{
    struct frozen *f = arg;
    (void)name, (void)slot;
    atomic_fetch_add(&f->asked, 1);
    while (!atomic_load(&f->thawed)) usleep(1000);
    return false;
}

static void frozen_open(struct frozen *f, struct gw_page_model model)
{
    memset(f, 0, sizeof *f);
    const struct gw_peer_server_config config = {
        .host = "127.0.0.1",
        .unix_socket = true,
        .key = store_key,
        .key_len = sizeof store_key,
        .model = model,
        .source = {.arg = f, .pin = pin_when_thawed, .unpin = buddy_unpin, .page = buddy_page}};
    assert_int_equal(gw_peer_server_create(&config, &f->server, NULL), GW_OK);
    gw_peer_server_set_term(f->server, 1);
}

static void frozen_close(struct frozen *f)
{
    atomic_store(&f->thawed, true);
    gw_peer_server_destroy(f->server);
}

/* What a pull of these blocks into pool `to` of generation 2 says, with the frozen worker named as who holds them all. */
static void pull(struct bench *b, struct frozen *f, struct gw_shelf_pool *to, uint8_t *from)
{
    struct gw_block_name names[BLOCKS];
    uint32_t slots[BLOCKS];
    struct gw_fetcher *fetcher;
    struct gw_fetch_source holder = {.pages = gw_shelf_pages(to)};
    const struct gw_fetcher_config config = {.shelf = b->shelf,
                                             .key = store_key,
                                             .key_len = sizeof store_key,
                                             .model = bench_page_model(b),
                                             .stores = b->stores};
    snprintf(holder.address, sizeof holder.address, "%s", gw_peer_server_address(f->server));
    for (uint32_t i = 0; i < BLOCKS; i++) {
        names[i] = store_name(i);
        slots[i] = i;
    }
    const struct gw_pull p = {.fence = {.term = 1, .generation = 2},
                              .names_len = BLOCKS,
                              .names = names,
                              .slots = slots,
                              .holders_len = 1,
                              .holders = &holder,
                              .budget_ms = BUDGET_MS};
    memset(from, GW_PULL_LOST, BLOCKS);
    assert_int_equal(gw_fetcher_create(&config, &fetcher), GW_OK);
    gw_fetcher_pull(fetcher, &p, from);
    gw_fetcher_destroy(fetcher);
}

static void test_pull_from_a_frozen_holder_comes_from_the_store(void **state)
{
    (void)state;
    struct bench b;
    static struct frozen f; /* its server may be asking it while a check fails */
    uint8_t from[BLOCKS];
    bench_open(&b, true, 1, 0);
    frozen_open(&f, bench_page_model(&b));
    for (uint32_t i = 0; i < BLOCKS; i++) {
        seal(&b, i);
        offer(&b, i);
    }
    assert_int_equal(until_done(&b).stored, BLOCKS);
    gw_shelf_retire(b.shelf, b.pool, 0); /* not from there */
    b.pool = NULL;
    struct gw_shelf_pool *to = put_pool(&b, 2);
    pull(&b, &f, to, from);
    assert_true(atomic_load(&f.asked) > 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_int_equal(from[i], GW_PULL_STORE);
        expect_block_in(to, i);
    }
    gw_shelf_retire(b.shelf, to, 0);
    frozen_close(&f);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pull_from_a_frozen_holder_comes_from_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
