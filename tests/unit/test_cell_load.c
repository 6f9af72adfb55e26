/* worker/cell_load, cell_source: missing cells come from the disk and from other workers, the same bytes whatever goes wrong
 * on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/lib/ground.h"
#include "tests/lib/relay.h"

#define MODEL    "tests/data/tiny/gqa64" /* 3 layers: 2 groups; 8 shares; 2 KV heads */
#define STALL_US (400 * GW_US_PER_MS)
#define HOLDERS  2

/* Workers that have cells, and one that lacks all. */
struct fixture {
    struct ground holders[HOLDERS], to;
    struct gw_cell_loader *loader;
    struct gw_cell_holder sources[HOLDERS];
    struct gw_cell_wish wish;
    struct gw_cell_loaded loaded;
    struct gw_err_ctx ctx;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    ground_open(&f->to, MODEL);
    const struct gw_cell_loader_config config = {.store = f->to.host.store,
                                                 .key = GROUND_KEY,
                                                 .key_len = GROUND_KEY_BYTES,
                                                 .model = f->to.host.page_model,
                                                 .log = &ground_log,
                                                 .stall_us = STALL_US};
    assert_int_equal(gw_cell_loader_create(&config, &f->loader), GW_OK);
    for (int i = 0; i < HOLDERS; i++) ground_open(&f->holders[i], MODEL);
    f->wish = (struct gw_cell_wish){.cells = gw_cells_all(&f->to.model->cells),
                                    .fence = {.term = 1, .generation = 5, .pipeline = 2},
                                    .sources = f->sources,
                                    .prefer_sources = true,
                                    .threads = 2};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_cell_loader_destroy(f->loader);
    for (int i = 0; i < HOLDERS; i++) ground_close(&f->holders[i]);
    ground_close(&f->to);
    free(f);
    return 0;
}

/* Holder i has these cells, and the wish names it as having them. */
static void give(struct fixture *f, int i, struct gw_cell_rect cells, const char *address)
{
    struct gw_cell_wish all = {.cells = cells, .threads = 1};
    struct gw_cell_loaded loaded;
    assert_int_equal(gw_cell_loader_run(f->holders[i].host.loader, &all, &loaded, NULL), GW_OK);
    struct gw_cell_holder *h = &f->sources[f->wish.sources_len++];
    h->cells = cells;
    snprintf(h->pages, sizeof h->pages, "%s",
             address ? address : gw_peer_server_address(f->holders[i].host.pages));
}

static gw_err_t load(struct fixture *f)
{
    return gw_cell_loader_run(f->loader, &f->wish, &f->loaded, &f->ctx);
}

static void check_matrices(const struct gw_ops *ops, const struct gw_products *a, const struct gw_products *b)
{
    assert_int_equal(a->count, b->count);
    for (uint32_t i = 0; i < a->count; i++)
        assert_memory_equal(a->w[i].data, b->w[i].data, ops->pack_bytes(a->w[i].n, a->w[i].k));
}

/* Are all weights those of a store that was loaded from the files alone? */
static void check_weights(struct fixture *f)
{
    const struct gw_host *h = &f->to.host;
    struct gw_cell_store *alone;
    struct gw_weights *want, *got;
    assert_int_equal(gw_cell_store_missing(h->store, f->wish.cells), 0);
    assert_int_equal(gw_cell_store_create(f->to.model, h->ops, &alone, NULL), GW_OK);
    assert_int_equal(gw_weights_create(alone, f->to.model, f->wish.cells, NULL, &want, NULL), GW_OK);
    assert_int_equal(gw_weights_create(h->store, f->to.model, f->wish.cells, NULL, &got, NULL), GW_OK);
    assert_int_equal(got->loaded_bytes, 0);
    size_t norm = f->to.model->config.hidden * sizeof(float);
    for (uint32_t l = 0; l < want->layers_len; l++) {
        const struct gw_layer_weights *a = &want->layers[l], *b = &got->layers[l];
        check_matrices(h->ops, &a->qkv, &b->qkv);
        check_matrices(h->ops, &a->ffn->gate_up, &b->ffn->gate_up);
        assert_memory_equal(a->norm_attn, b->norm_attn, norm);
        assert_memory_equal(a->norm_ffn, b->norm_ffn, norm);
        for (uint32_t s = 0; s < want->shares; s++) {
            assert_memory_equal(a->o[s].data, b->o[s].data, h->ops->pack_bytes(a->o[s].n, a->o[s].k));
            assert_memory_equal(a->ffn->down[s].data, b->ffn->down[s].data,
                                h->ops->pack_bytes(a->ffn->down[s].n, a->ffn->down[s].k));
        }
    }
    check_matrices(h->ops, &want->head, &got->head);
    if (want->norm_final) assert_memory_equal(want->norm_final, got->norm_final, norm);
    gw_weights_destroy(got);
    gw_weights_destroy(want);
    gw_cell_store_destroy(alone);
}

static uint64_t bytes_of(const struct fixture *f, struct gw_cell_rect cells)
{
    return gw_cell_store_bytes_of(f->to.host.store, cells);
}

static void test_run_without_sources_packs_all(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(load(f), GW_OK);
    assert_int_equal(f->loaded.disk_bytes, bytes_of(f, f->wish.cells));
    assert_int_equal(f->loaded.peer_bytes, 0);
    check_weights(f);
}

static void test_run_with_a_source_that_has_all_reads_nothing(void **state)
{
    struct fixture *f = *state;
    give(f, 0, f->wish.cells, NULL);
    assert_int_equal(load(f), GW_OK);
    assert_int_equal(f->loaded.disk_bytes, 0);
    assert_int_equal(f->loaded.peer_bytes, bytes_of(f, f->wish.cells));
    assert_int_equal(gw_peer_server_stats(f->holders[0].host.pages).cell_bytes, f->loaded.peer_bytes);
    check_weights(f);
}

static void test_run_loads_what_is_missing_only(void **state)
{
    struct fixture *f = *state;
    const struct gw_cell_rect left = {0, 2, 0, 5};
    struct gw_cell_rect all = f->wish.cells;
    f->wish.cells = left;
    assert_int_equal(load(f), GW_OK);
    f->wish.cells = all;
    uint64_t missing = gw_cell_store_missing(f->to.host.store, all);
    give(f, 0, all, NULL);
    assert_int_equal(load(f), GW_OK);
    assert_int_equal(f->loaded.peer_bytes, missing);
    assert_int_equal(load(f), GW_OK);
    assert_int_equal(f->loaded.disk_bytes + f->loaded.peer_bytes, 0);
    check_weights(f);
}

static void test_run_parts_come_from_whoever_has_them(void **state)
{
    struct fixture *f = *state;
    give(f, 0, (struct gw_cell_rect){0, 1, 0, 8}, NULL);
    give(f, 1, (struct gw_cell_rect){1, 2, 0, 4}, NULL);
    assert_int_equal(load(f), GW_OK);
    assert_true(f->loaded.disk_bytes > 0);
    assert_true(gw_peer_server_stats(f->holders[0].host.pages).cell_bytes > 0);
    assert_true(gw_peer_server_stats(f->holders[1].host.pages).cell_bytes > 0);
    assert_int_equal(f->loaded.disk_bytes + f->loaded.peer_bytes, bytes_of(f, f->wish.cells));
    check_weights(f);
}

static void test_run_in_either_order_of_preference_gives_the_same(void **state)
{
    struct fixture *f = *state;
    f->wish.prefer_sources = false;
    give(f, 0, f->wish.cells, NULL);
    give(f, 1, f->wish.cells, NULL);
    assert_int_equal(load(f), GW_OK);
    assert_int_equal(f->loaded.disk_bytes + f->loaded.peer_bytes, bytes_of(f, f->wish.cells));
    check_weights(f);
}

/* What it had is trimmed; the controller does not know yet. */
static void test_run_source_that_has_nothing_any_more_costs_nothing_but_a_question(void **state)
{
    struct fixture *f = *state;
    give(f, 0, f->wish.cells, NULL);
    gw_cell_store_trim(f->holders[0].host.store, (struct gw_cell_rect){0});
    assert_int_equal(load(f), GW_OK);
    assert_int_equal(f->loaded.peer_bytes, 0);
    check_weights(f);
}

static void test_run_source_of_cells_that_no_such_model_has_is_ignored(void **state)
{
    struct fixture *f = *state;
    give(f, 0, f->wish.cells, NULL);
    f->sources[0].cells = (struct gw_cell_rect){0, 2000, 0, 65535};
    assert_int_equal(load(f), GW_OK);
    assert_int_equal(f->loaded.peer_bytes, 0);
    check_weights(f);
}

static void run_through_relay(struct fixture *f, enum relay_wrong wrong, bool both)
{
    struct relay relay;
    relay_open(&relay, gw_peer_server_address(f->holders[0].host.pages), wrong, 100000);
    give(f, 0, f->wish.cells, relay.address);
    if (both) give(f, 1, f->wish.cells, NULL);
    assert_int_equal(load(f), GW_OK);
    assert_true(atomic_load(&relay.accepted) > 0);
    relay_close(&relay);
    check_weights(f);
}

static void test_run_source_with_a_wrong_byte_is_left_for_the_disk(void **state)
{
    run_through_relay(*state, RELAY_FLIPS, false);
    assert_true(((struct fixture *)*state)->loaded.disk_bytes > 0);
}

static void test_run_source_that_falls_silent_is_left_for_the_disk(void **state)
{
    run_through_relay(*state, RELAY_STOPS, false);
    assert_true(((struct fixture *)*state)->loaded.disk_bytes > 0);
}

static void test_run_source_that_dies_is_left_for_the_disk(void **state)
{
    run_through_relay(*state, RELAY_CLOSES, false);
    assert_true(((struct fixture *)*state)->loaded.disk_bytes > 0);
}

static void test_run_source_that_dies_is_left_for_another(void **state)
{
    run_through_relay(*state, RELAY_CLOSES, true);
    assert_int_equal(((struct fixture *)*state)->loaded.disk_bytes, 0);
}

static void test_run_stopped_ends(void **state)
{
    struct fixture *f = *state;
    atomic_bool stop = true;
    f->wish.stop = &stop;
    gw_err_t err = load(f);
    if (err != GW_OK) assert_int_equal(err, GW_ERR_IO); /* so few cells may be there before anybody looks */
    gw_cell_store_trim(f->to.host.store, (struct gw_cell_rect){0});
    assert_int_equal(gw_cell_store_bytes(f->to.host.store), 0);
}

/* A part that is on its way stays in memory until it is there, trimmed or not. */
static void test_source_pinned_part_outlives_its_trim(void **state)
{
    struct fixture *f = *state;
    const struct gw_cell_rect cells = f->wish.cells;
    struct gw_cell_store *store = f->holders[0].host.store;
    struct gw_cell_source source = gw_cell_source(&f->holders[0].giver);
    give(f, 0, cells, NULL);
    uint64_t all = gw_cell_store_bytes(store), bytes = 0;
    uint32_t part = 0;
    /* The first part's length is not ours to know: peers reckon it. */
    for (bytes = 64; bytes < all && !source.pin(source.arg, part, bytes); bytes += 64) continue;
    assert_true(bytes < all);
    assert_null(source.pin(source.arg, part, bytes + 64));
    assert_null(source.pin(source.arg, UINT32_MAX, bytes));
    uint64_t sum = source.sum(source.arg, part, 0);
    gw_cell_store_trim(store, (struct gw_cell_rect){0});
    assert_int_equal(gw_cell_store_bytes(store), bytes);
    assert_int_equal(source.sum(source.arg, part, 0), sum);
    source.unpin(source.arg, part);
    assert_int_equal(gw_cell_store_bytes(store), 0);
}

static void test_source_gives_as_fast_as_it_can_unless_it_serves(void **state)
{
    struct fixture *f = *state;
    struct gw_cell_giver giver = {.store = f->to.host.store, .bytes_s = 5e8};
    struct gw_cell_source source = gw_cell_source(&giver);
    assert_true(source.rate(source.arg) == 0);
    atomic_store(&giver.busy, true);
    assert_true(source.rate(source.arg) == 5e8);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_run_without_sources_packs_all),
        TEST(test_run_with_a_source_that_has_all_reads_nothing),
        TEST(test_run_loads_what_is_missing_only),
        TEST(test_run_parts_come_from_whoever_has_them),
        TEST(test_run_in_either_order_of_preference_gives_the_same),
        TEST(test_run_source_that_has_nothing_any_more_costs_nothing_but_a_question),
        TEST(test_run_source_of_cells_that_no_such_model_has_is_ignored),
        TEST(test_run_source_with_a_wrong_byte_is_left_for_the_disk),
        TEST(test_run_source_that_falls_silent_is_left_for_the_disk),
        TEST(test_run_source_that_dies_is_left_for_the_disk),
        TEST(test_run_source_that_dies_is_left_for_another),
        TEST(test_run_stopped_ends),
        TEST(test_source_pinned_part_outlives_its_trim),
        TEST(test_source_gives_as_fast_as_it_can_unless_it_serves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
