/* worker/refill: blocks of requests from elsewhere come into the pool under their names, those that somebody waits for first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <time.h>

#include "tests/lib/ground.h"
#include "worker/refill.h"

#define MODEL       "tests/data/tiny/gqa64"
#define LONG_BLOCKS (2 * GW_REFILL_WARM_BLOCKS + 100)
#define SHORT       20 /* blocks */
#define SLOTS       2000
#define GENERATION  5

/* One worker: a pool that an earlier pipeline left, and the one that a refill fills. */
struct scene {
    struct ground ground;
    struct gw_shelf_pool *left, *pages;
    struct gw_blocks *blocks;
    struct gw_block_namer namer;
    struct gw_copier *copier;
    struct gw_refill *refill;
    atomic_int done;
    uint32_t left_len;
};

static struct gw_shelf_pool *put_pool(struct gw_host *h, uint64_t generation)
{
    const struct gw_cells *cells = &h->model->cells;
    struct gw_cell_rect all = gw_cells_all(cells);
    const struct gw_geometry_heads heads = {cells->share_heads, cells->query_group};
    struct gw_page_pool *memory;
    struct gw_shelf_pool *pool;
    assert_int_equal(
        gw_page_pool_create(&h->model->config, cells, all, h->ops->kv, SLOTS, false, &memory, NULL), GW_OK);
    assert_int_equal(gw_shelf_put(h->shelf, (struct gw_shelf_key){1, generation},
                                  gw_geometry_pages(heads, all), memory, SLOTS, &pool, NULL),
                     GW_OK);
    return pool;
}

static void open_copier(struct scene *s)
{
    const struct gw_host *h = &s->ground.host;
    const struct gw_assign_rank self = {.cells = gw_cells_all(&h->model->cells)};
    const struct gw_copier_config config = {.fetcher = h->fetcher,
                                            .ranks = &self,
                                            .ranks_len = 1,
                                            .fence = {.term = 1, .generation = GENERATION},
                                            .model = h->page_model,
                                            .key = GROUND_KEY,
                                            .key_len = GROUND_KEY_BYTES,
                                            .log = &ground_log,
                                            .done = ground_told,
                                            .arg = &s->done};
    assert_int_equal(gw_copier_create(&config, &s->copier, NULL), GW_OK);
}

static void open_refill(struct scene *s, bool always)
{
    const struct gw_host *h = &s->ground.host;
    const struct gw_refill_config config = {
        .blocks = s->blocks,
        .namer = &s->namer,
        .copier = s->copier,
        .heads = {h->model->cells.share_heads, h->model->cells.query_group},
        .block_bytes = 1024,
        .always = always};
    assert_int_equal(gw_refill_create(&config, &s->refill), GW_OK);
}

static int open_scene(void **state)
{
    struct scene *s = calloc(1, sizeof *s);
    ground_open(&s->ground, MODEL);
    const struct gw_host *h = &s->ground.host;
    s->left = put_pool(&s->ground.host, 1);
    s->pages = put_pool(&s->ground.host, GENERATION);
    open_copier(s);
    assert_int_equal(gw_blocks_create(SLOTS, NULL, &s->blocks), GW_OK);
    assert_int_equal(gw_block_namer_init(&s->namer, GROUND_KEY, GROUND_KEY_BYTES, h->fingerprint,
                                         sizeof h->fingerprint, h->ops->profile, "bf16", NULL),
                     GW_OK);
    open_refill(s, true);
    *state = s;
    return 0;
}

static int close_scene(void **state)
{
    struct scene *s = *state;
    gw_refill_destroy(s->refill);
    gw_copier_destroy(s->copier);
    gw_blocks_destroy(s->blocks);
    gw_shelf_retire(s->ground.host.shelf, s->left, 0);
    gw_shelf_retire(s->ground.host.shelf, s->pages, 0);
    ground_close(&s->ground);
    free(s);
    return 0;
}

/* A request of so many whole blocks and a token, that has generated one. */
static struct gw_job *job_of(uint64_t id, uint32_t blocks)
{
    struct gw_request q = {.id = id, .n = 1, .prompt_len = blocks * GW_BLOCK_TOKENS};
    q.prompt = malloc(q.prompt_len * sizeof *q.prompt);
    for (uint32_t i = 0; i < q.prompt_len; i++) q.prompt[i] = (uint32_t)(id * 7 + i) % 97;
    q.sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = 8};
    uint32_t first = 1;
    struct gw_branch_log log = {.len = 1, .ids = &first};
    struct gw_msg_submit m = {.attempt = 1, .request = q, .logs = &log};
    struct gw_job *job;
    assert_int_equal(gw_job_create(&m, id, &job), GW_OK);
    return job;
}

/* The first `blocks` of it are in the pool that was left. */
static void leave_blocks(struct scene *s, struct gw_job *job, uint32_t blocks)
{
    for (uint32_t i = 0; i < blocks; i++)
        gw_shelf_seal(s->left, s->left_len++, gw_branch_name(&job->branches[0], &s->namer, i));
}

static void add(struct scene *s, struct gw_job *job, bool warm)
{
    assert_int_equal(gw_refill_add(s->refill, job, job->request.prompt_len, NULL, 0, warm), GW_OK);
}

static struct gw_job *wait_ready(struct scene *s, bool *warm)
{
    const struct timespec pause = {.tv_nsec = 100000};
    struct gw_job *job;
    for (;;) {
        gw_refill_turn(s->refill, 0);
        if (gw_refill_next(s->refill, &job, warm)) return job;
        nanosleep(&pause, NULL);
    }
}

static void test_turn_whole_blocks_are_found_by_name_afterwards(void **state)
{
    struct scene *s = *state;
    struct gw_job *job = job_of(1, SHORT);
    bool warm;
    leave_blocks(s, job, SHORT - 2);
    add(s, job, false);
    assert_ptr_equal(wait_ready(s, &warm), job);
    assert_false(warm);
    assert_int_equal(gw_refill_have(s->refill, job), (SHORT - 2) * GW_BLOCK_TOKENS);
    assert_int_equal(job->moved_tokens, (SHORT - 2) * GW_BLOCK_TOKENS);
    assert_int_equal(gw_blocks_available(s->blocks), SLOTS); /* cached, or given back */
    gw_job_destroy(job);
}

static void test_turn_long_warm_comes_in_parts_and_lets_others_in_between(void **state)
{
    struct scene *s = *state;
    struct gw_job *ahead = job_of(1, LONG_BLOCKS), *urgent = job_of(2, SHORT);
    bool warm;
    leave_blocks(s, ahead, LONG_BLOCKS);
    leave_blocks(s, urgent, SHORT);
    add(s, ahead, true);
    gw_refill_turn(s->refill, 0); /* its first part is on its way */
    add(s, urgent, false);
    assert_ptr_equal(wait_ready(s, &warm), urgent);
    assert_false(warm);
    assert_int_equal(gw_refill_have(s->refill, urgent), SHORT * GW_BLOCK_TOKENS);
    assert_ptr_equal(wait_ready(s, &warm), ahead);
    assert_true(warm);
    assert_int_equal(gw_refill_have(s->refill, ahead), LONG_BLOCKS * GW_BLOCK_TOKENS);
    gw_job_destroy(urgent);
}

static uint64_t pulls_in_background(const struct scene *s)
{
    return gw_fetcher_stats(s->ground.host.fetcher).background;
}

static void test_turn_what_nobody_waits_for_gives_way(void **state)
{
    struct scene *s = *state;
    struct gw_job *waited = job_of(1, SHORT), *ahead = job_of(2, SHORT);
    bool warm;
    leave_blocks(s, waited, SHORT);
    leave_blocks(s, ahead, SHORT);
    add(s, waited, false);
    assert_ptr_equal(wait_ready(s, &warm), waited);
    assert_int_equal(pulls_in_background(s), 0);
    add(s, ahead, true);
    assert_ptr_equal(wait_ready(s, &warm), ahead);
    assert_int_equal(pulls_in_background(s), 1);
    gw_job_destroy(waited);
}

static void test_turn_same_block_of_two_requests_is_pulled_once(void **state)
{
    struct scene *s = *state;
    struct gw_job *one = job_of(1, SHORT), *two = job_of(1, SHORT);
    bool warm;
    leave_blocks(s, one, SHORT);
    add(s, one, false);
    add(s, two, false);
    assert_ptr_equal(wait_ready(s, &warm), one);
    assert_ptr_equal(wait_ready(s, &warm), two);
    assert_int_equal(one->moved_tokens + two->moved_tokens, SHORT * GW_BLOCK_TOKENS);
    gw_job_destroy(one);
    gw_job_destroy(two);
}

/* What is computed sooner waits for nobody's pull. */
static void test_turn_what_is_computed_sooner_is_ready_at_once(void **state)
{
    struct scene *s = *state;
    struct gw_job *first = job_of(1, SHORT), *second = job_of(2, SHORT), *found;
    bool warm;
    gw_refill_destroy(s->refill);
    open_refill(s, false);
    leave_blocks(s, first, SHORT);
    leave_blocks(s, second, SHORT);
    gw_refill_computed(s->refill, 1000000, 1); /* faster than any fetch */
    add(s, first, false);
    add(s, second, false);
    gw_refill_turn(s->refill, 0);
    assert_true(gw_copier_is_idle(s->copier));
    assert_true(gw_refill_next(s->refill, &found, &warm));
    assert_ptr_equal(found, first);
    assert_true(gw_refill_next(s->refill, &found, &warm));
    assert_ptr_equal(found, second);
    assert_int_equal(first->moved_tokens + second->moved_tokens, 0);
    gw_job_destroy(first);
    gw_job_destroy(second);
}

static void test_drop_under_way_keeps_the_blocks_and_gives_no_job(void **state)
{
    struct scene *s = *state;
    struct gw_job *gone = job_of(1, SHORT), *next = job_of(2, SHORT);
    struct gw_job *again = job_of(1, SHORT);
    bool warm;
    leave_blocks(s, gone, SHORT);
    add(s, gone, false);
    gw_refill_turn(s->refill, 0);
    gw_refill_drop(s->refill, gone);
    gw_job_destroy(gone);
    add(s, next, false);
    assert_ptr_equal(wait_ready(s, &warm), next);
    assert_int_equal(gw_refill_have(s->refill, again), SHORT * GW_BLOCK_TOKENS);
    gw_job_destroy(next);
    gw_job_destroy(again);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, open_scene, close_scene)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_turn_whole_blocks_are_found_by_name_afterwards),
        TEST(test_turn_long_warm_comes_in_parts_and_lets_others_in_between),
        TEST(test_turn_what_nobody_waits_for_gives_way),
        TEST(test_turn_same_block_of_two_requests_is_pulled_once),
        TEST(test_turn_what_is_computed_sooner_is_ready_at_once),
        TEST(test_drop_under_way_keeps_the_blocks_and_gives_no_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
