/* Pages of the worker's engine on the host shim: what one device has sealed leaves it while steps go on, and enters another, where the
 * same request goes on from it with the same bits. */
#include "tests/lib/engine_fixture.h"

#include "tests/lib/cuda_shim_report.h"
#include "tests/lib/shim_device.h"
#include "worker/shelf.h"

#define MODEL  "tests/data/tiny/gqa64"
#define PROMPT 40
#define TOKENS 10
#define SEALED 3u /* of 49 tokens whose KV is computed */
#define SLOTS  32

struct side {
    struct shim_device shim;
    struct gw_page_pool *memory;
    struct gw_shelf_pool *pages;
    size_t slot_bytes;
    struct fixture f;
};

static struct gw_shelf *shelf;

static void open_device(struct side *s, uint64_t generation)
{
    struct gw_err_ctx ctx = {0};
    struct gw_model *model;
    memset(s, 0, sizeof *s);
    if (shim_device_open(&s->shim, 0, 0, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_int_equal(gw_model_open(MODEL, &model, NULL), GW_OK);
    const struct gw_cells *cells = &model->cells;
    const struct gw_geometry_heads heads = {.share_heads = cells->share_heads,
                                            .query_group = cells->query_group};
    struct gw_cell_rect all = gw_cells_all(cells);
    s->slot_bytes = gw_page_pool_slot_bytes(&model->config, cells, all, GW_BF16);
    if (gw_page_pool_create_on(s->shim.device, &model->config, cells, all, GW_BF16, SLOTS, true, &s->memory,
                               &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
    assert_int_equal(gw_shelf_put(shelf, (struct gw_shelf_key){1, generation}, gw_geometry_pages(heads, all),
                                  s->memory, SLOTS, &s->pages, NULL),
                     GW_OK);
    gw_model_close(model);
}

static void open_engine(struct side *s)
{
    struct solo_config c = fixture_config();
    c.ops = s->shim.ops;
    c.device = s->shim.device;
    c.kv_tokens = SLOTS * GW_BLOCK_TOKENS;
    c.max_batch_tokens = 64;
    c.max_sequences = 8;
    c.pages = s->pages;
    fixture_open(&s->f, MODEL, c);
}

static void submit(struct side *s)
{
    uint32_t ids[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++) ids[i] = (7 + i * 37) % s->f.model->config.vocab;
    struct gw_request q = fixture_request(1, ids, PROMPT, TOKENS);
    fixture_submit(&s->f, &q, 1, NULL, NULL);
}

static void close_side(struct side *s)
{
    fixture_close(&s->f);
    gw_shelf_retire(shelf, s->pages, 0);
    assert_int_equal(shim_device_close(&s->shim), 0);
}

/* The shim's device memory is the heap's. */
static void expect_both_sides_equal(const struct side *s, uint32_t slot)
{
    uint32_t bytes;
    const uint8_t *host = gw_page_pool_page(s->memory, slot, 0, &bytes);
    const uint8_t *device = gw_page_pool_layer(s->memory, 0)->arena[0] + slot * s->slot_bytes;
    assert_ptr_not_equal(host, device);
    assert_memory_equal(host, device, s->slot_bytes);
}

static uint32_t list(const struct side *s, struct gw_page_dir_block *out)
{
    uint32_t len = gw_page_dir_list(gw_shelf_dir(s->pages), out, SLOTS);
    for (uint32_t i = 0; i < len; i++) expect_both_sides_equal(s, out[i].slot);
    return len;
}

static void test_pages_leave_one_device_and_enter_another(void **state)
{
    (void)state;
    struct side a, b;
    struct gw_page_dir_block sealed[SLOTS], received[SLOTS];
    struct gw_engine_stats stats;
    assert_int_equal(gw_shelf_create(&shelf), GW_OK);
    open_device(&a, 1);
    open_engine(&a);
    submit(&a);
    fixture_drain(&a.f);
    gw_shelf_settle(a.pages);
    uint32_t len = list(&a, sealed);
    assert_int_equal(len, SEALED);
    open_device(&b, 2);
    for (uint32_t i = 0; i < len; i++) assert_true(gw_shelf_copy(shelf, b.pages, i, &sealed[i].name));
    assert_int_equal(list(&b, received), SEALED);
    open_engine(&b);
    submit(&b);
    fixture_drain(&b.f);
    gw_engine_stats(b.f.engine, &stats);
    assert_int_equal(stats.progress.prefix_hit_tokens, PROMPT / GW_BLOCK_TOKENS * GW_BLOCK_TOKENS);
    fixture_expect_same(&a.f.runs[0].branches[0], &b.f.runs[0].branches[0], 0, 0);
    close_side(&b);
    close_side(&a);
    gw_shelf_destroy(shelf);
}

/* A page that does not reach the device is not there: the request computes it again, and is none the worse. */
static void test_pages_that_fail_to_enter_are_computed_again(void **state)
{
    (void)state;
    struct side a, b;
    struct gw_page_dir_block sealed[SLOTS];
    assert_int_equal(gw_shelf_create(&shelf), GW_OK);
    open_device(&a, 1);
    open_engine(&a);
    submit(&a);
    fixture_drain(&a.f);
    gw_shelf_settle(a.pages);
    uint32_t len = list(&a, sealed);
    open_device(&b, 2);
    b.shim.pages.fails = "copy";
    for (uint32_t i = 0; i < len; i++) assert_false(gw_shelf_copy(shelf, b.pages, i, &sealed[i].name));
    assert_int_equal(gw_page_dir_len(gw_shelf_dir(b.pages)), 0);
    open_engine(&b);
    submit(&b);
    fixture_drain(&b.f);
    gw_shelf_settle(b.pages);
    assert_int_equal(gw_page_dir_len(gw_shelf_dir(b.pages)), 0); /* nor does any leave */
    fixture_expect_same(&a.f.runs[0].branches[0], &b.f.runs[0].branches[0], 0, 0);
    close_side(&b);
    close_side(&a);
    gw_shelf_destroy(shelf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_leave_one_device_and_enter_another),
        cmocka_unit_test(test_pages_that_fail_to_enter_are_computed_again),
    };
    return cmocka_run_group_tests_name("cuda_pages", tests, NULL, NULL);
}
