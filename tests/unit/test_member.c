/* worker/member: a worker in one pipeline: prepared in the background, started, aborted whatever it waits for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/ground.h"

#define MODEL      "tests/data/tiny/gqa64"
#define GENERATION 5
#define TOKENS     12
#define PROMPT     53

static struct gw_member *member_of(struct ground *const *grounds, const char *layout, uint32_t self)
{
    return ground_member(grounds, layout, GENERATION, self);
}

static void count_tokens(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                         const struct gw_tokens *tokens)
{
    (void)request;
    (void)attempt;
    (void)branch;
    *(uint32_t *)arg += tokens->count;
}

static void submit(struct gw_member *leader, uint32_t prompt_len)
{
    struct gw_branch_log log = {0};
    struct gw_request q = {
        .id = 1, .n = 1, .prompt_len = prompt_len, .prompt = malloc(prompt_len * sizeof *q.prompt)};
    for (uint32_t i = 0; i < prompt_len; i++) q.prompt[i] = 1 + i % 90;
    q.sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = TOKENS};
    struct gw_msg_submit s = {.attempt = 1, .request = q, .logs = &log};
    assert_int_equal(gw_engine_submit(gw_member_engine(leader), &s, NULL), GW_OK);
}

static void submit_one(struct gw_member *leader)
{
    submit(leader, 3);
}

static void test_member_alone_prepares_starts_and_serves(void **state)
{
    (void)state;
    struct ground g, *grounds[] = {&g};
    struct gw_msg_ready ready;
    uint32_t tokens = 0;
    bool did = true;
    ground_open(&g, MODEL);
    struct gw_member *m = member_of(grounds, "8", 0);
    const struct gw_engine_sink sink = {.arg = &tokens, .tokens = count_tokens};
    assert_int_equal(gw_member_wait(m), GW_MEMBER_PREPARED);
    gw_member_ready(m, &ready);
    assert_int_equal(ready.kv_tokens, 512);
    assert_int_equal(ready.loaded_bytes, gw_cell_store_bytes(g.host.store));
    assert_false(ready.after_start);
    assert_int_equal(gw_member_start(m, &sink, NULL), GW_OK);
    assert_int_equal(g.told, 1);
    submit_one(m);
    while (did) assert_int_equal(gw_member_step(m, 0, &did, NULL), GW_OK);
    assert_int_equal(tokens, TOKENS);
    gw_member_destroy(m, 0);
    ground_close(&g);
}

static void test_member_without_memory_for_its_cells_fails(void **state)
{
    (void)state;
    struct ground g, *grounds[] = {&g};
    ground_open(&g, MODEL);
    g.host.memory_bytes = 1000;
    struct gw_member *m = member_of(grounds, "8", 0);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_FAILED);
    assert_int_equal(gw_member_error(m)->code, GW_ERR_LIMIT);
    assert_non_null(strstr(gw_member_error(m)->text, "--memory-limit"));
    gw_member_destroy(m, 0);
    ground_close(&g);
}

/* Beside what serves there is no room: the missing cells come by start. */
/* Pages of a pipeline that serves: so many bytes at least have been written to. */
/* Rows that a pipeline of its own computes for one long prompt. */
static uint64_t rows_of(struct ground *const *grounds, uint64_t generation)
{
    struct gw_engine_stats stats;
    uint32_t tokens = 0;
    bool did = true;
    struct gw_member *m = ground_member(grounds, "8", generation, 0);
    const struct gw_engine_sink sink = {.arg = &tokens, .tokens = count_tokens};
    assert_int_equal(gw_member_wait(m), GW_MEMBER_PREPARED);
    assert_int_equal(gw_member_start(m, &sink, NULL), GW_OK);
    submit(m, PROMPT);
    while (did) assert_int_equal(gw_member_step(m, 0, &did, NULL), GW_OK);
    assert_int_equal(tokens, TOKENS);
    gw_engine_stats(gw_member_engine(m), &stats);
    gw_member_destroy(m, GW_MEMBER_LEASE_US);
    return stats.rows;
}

static void test_member_alone_goes_on_with_the_pages_of_the_one_before(void **state)
{
    (void)state;
    struct ground g, *grounds[] = {&g};
    ground_open(&g, MODEL);
    g.host.poison = true;
    assert_int_equal(rows_of(grounds, GENERATION), PROMPT + TOKENS - 1);
    const uint64_t touched = gw_shelf_touched_bytes(g.host.shelf);
    assert_int_equal(rows_of(grounds, GENERATION + 1), PROMPT % GW_BLOCK_TOKENS + TOKENS - 1);
    assert_true(gw_shelf_touched_bytes(g.host.shelf) < 2 * touched); /* there is no other pool */
    ground_close(&g);
}

static struct gw_shelf_pool *pages_that_take(struct gw_host *h, uint64_t bytes)
{
    const struct gw_cells *cells = &h->model->cells;
    struct gw_cell_rect all = gw_cells_all(cells);
    const struct gw_geometry_heads heads = {cells->share_heads, cells->query_group};
    uint64_t slot = gw_page_pool_slot_bytes(&h->model->config, cells, all, h->ops->kv);
    uint32_t slots = (uint32_t)(bytes / slot) + 1;
    struct gw_page_pool *pool;
    struct gw_shelf_pool *pages;
    assert_int_equal(
        gw_page_pool_create(&h->model->config, cells, all, h->ops->kv, slots, false, &pool, NULL), GW_OK);
    gw_page_pool_touch(pool, slots - 1);
    assert_int_equal(gw_shelf_put(h->shelf, (struct gw_shelf_key){1, 1}, gw_geometry_pages(heads, all), pool,
                                  slots, &pages, NULL),
                     GW_OK);
    return pages;
}

static void test_member_without_room_beside_what_serves_loads_after_start(void **state)
{
    (void)state;
    struct ground g;
    struct gw_msg_ready ready;
    const struct gw_engine_sink sink = {0};
    const struct gw_cell_rect left = {0, 2, 0, 5};
    uint64_t loaded;
    ground_open(&g, MODEL);
    assert_int_equal(gw_cell_store_acquire(g.host.store, left, NULL, &loaded, NULL), GW_OK);
    g.host.memory_bytes = gw_cell_store_bytes_of(g.host.store, gw_cells_all(&g.model->cells)) + 500000;
    g.host.kv_tokens = 0;
    struct gw_assign_rank rank = {.cells = gw_cells_all(&g.model->cells)};
    const struct gw_msg_assign assign = {.ranks_len = 1, .ranks = &rank};
    const struct gw_member_config config = {.host = &g.host,
                                            .term = 1,
                                            .generation = GENERATION,
                                            .assign = &assign,
                                            .prepared = ground_told,
                                            .arg = &g.told};
    struct gw_member *m;
    struct gw_shelf_pool *serving = pages_that_take(&g.host, 600000);
    assert_int_equal(gw_member_create(&config, &m, NULL), GW_OK);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_PREPARED);
    gw_member_ready(m, &ready);
    assert_true(ready.after_start);
    assert_int_equal(gw_member_arm(m, &sink, NULL), GW_OK);
    assert_false(gw_member_is_armed(m)); /* pages have no room either */
    assert_true(gw_cell_store_missing(g.host.store, rank.cells) > 0);
    gw_cell_store_release(g.host.store, left); /* what served is left */
    gw_shelf_retire(g.host.shelf, serving, 0);
    assert_int_equal(gw_member_start(m, &sink, NULL), GW_OK);
    assert_int_equal(gw_cell_store_missing(g.host.store, rank.cells), 0);
    gw_member_destroy(m, 0);
    ground_close(&g);
}

static void test_member_whose_peer_has_its_cells_gets_them_there(void **state)
{
    (void)state;
    struct ground from, to;
    struct gw_msg_ready ready;
    struct gw_cell_holder source = {0};
    ground_open(&from, MODEL);
    ground_open(&to, MODEL);
    to.host.weights_from = GW_WEIGHTS_PEERS;
    struct gw_assign_rank rank = {.cells = gw_cells_all(&to.model->cells)};
    const struct gw_cell_wish all = {.cells = rank.cells, .threads = 1};
    struct gw_cell_loaded loaded;
    assert_int_equal(gw_cell_loader_run(from.host.loader, &all, &loaded, NULL), GW_OK);
    source.cells = rank.cells;
    snprintf(source.pages, sizeof source.pages, "%s", gw_peer_server_address(from.host.pages));
    const struct gw_msg_assign assign = {
        .ranks_len = 1, .ranks = &rank, .sources_len = 1, .sources = &source};
    const struct gw_member_config config = {.host = &to.host,
                                            .term = 1,
                                            .generation = GENERATION,
                                            .assign = &assign,
                                            .prepared = ground_told,
                                            .arg = &to.told};
    struct gw_member *m;
    assert_int_equal(gw_member_create(&config, &m, NULL), GW_OK);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_PREPARED);
    gw_member_ready(m, &ready);
    assert_int_equal(ready.loaded_bytes, loaded.disk_bytes);
    assert_int_equal(gw_cell_loader_stats(to.host.loader).peer_bytes, loaded.disk_bytes);
    assert_int_equal(gw_cell_loader_stats(to.host.loader).disk_bytes, 0);
    gw_member_destroy(m, 0);
    ground_close(&to);
    ground_close(&from);
}

static void test_members_of_two_workers_meet_and_serve(void **state)
{
    (void)state;
    struct ground a, b, *grounds[] = {&a, &b};
    uint32_t tokens = 0;
    const struct gw_engine_sink sink = {.arg = &tokens, .tokens = count_tokens};
    pthread_t thread;
    bool did;
    ground_open(&a, MODEL);
    ground_open(&b, MODEL);
    struct gw_member *leader = member_of(grounds, "8/8", 0), *other = member_of(grounds, "8/8", 1);
    assert_int_equal(gw_member_wait(leader), GW_MEMBER_PREPARED);
    assert_int_equal(gw_member_wait(other), GW_MEMBER_PREPARED);
    assert_int_equal(gw_member_start(leader, &sink, NULL), GW_OK);
    submit_one(leader);
    assert_int_equal(gw_member_step(leader, 0, &did, NULL), GW_OK);
    assert_false(did || gw_member_may_step(leader)); /* the other has not started */
    assert_int_equal(pthread_create(&thread, NULL, ground_follow, other), 0);
    while (gw_engine_jobs(gw_member_engine(leader)) > 0)
        assert_int_equal(gw_member_step(leader, 0, &did, NULL), GW_OK);
    assert_int_equal(tokens, TOKENS);
    gw_member_destroy(leader, 0);
    pthread_join(thread, NULL); /* the leader has gone */
    assert_int_equal(gw_member_state(other), GW_MEMBER_FAILED);
    gw_member_destroy(other, 0);
    ground_close(&a);
    ground_close(&b);
}

static void test_member_whose_peer_never_comes_can_be_left(void **state)
{
    (void)state;
    struct ground a, b, *grounds[] = {&a, &b};
    ground_open(&a, MODEL);
    ground_open(&b, MODEL);
    struct gw_member *m = member_of(grounds, "4+4", 0);
    gw_member_abort(m);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_FAILED);
    gw_member_destroy(m, 0);
    ground_close(&a);
    ground_close(&b);
}

/* The peer meets and then says nothing, as a frozen one does: step_timeout is a minute, which nobody waits for. */
static void test_member_whose_peer_freezes_while_they_meet_can_be_left(void **state)
{
    (void)state;
    struct ground a, b, *grounds[] = {&a, &b};
    struct gw_assign_rank ranks[GW_WIRE_RANKS_MAX];
    struct gw_msg_assign assign;
    struct gw_socket sockets[GW_WIRE_RANKS_MAX];
    uint32_t unreached;
    ground_open(&a, MODEL);
    ground_open(&b, MODEL);
    struct gw_member *m = member_of(grounds, "4+4", 1);
    layout_parse("4+4", &a.model->cells, ranks, &assign);
    for (uint32_t i = 0; i < 2; i++)
        snprintf(ranks[i].data, sizeof ranks[i].data, "%s", gw_mesh_address(grounds[i]->host.mesh));
    assert_int_equal(
        gw_mesh_gather(a.host.mesh, 1, 2, GENERATION, &assign, 60 * GW_US_PER_S, sockets, &unreached, NULL),
        GW_OK);
    gw_member_abort(m);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_FAILED);
    gw_member_destroy(m, 0);
    gw_socket_close(&sockets[1]);
    ground_close(&a);
    ground_close(&b);
}

int main(void)
{
    alarm(120); /* who waits for what never comes must not hang the run */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_member_alone_prepares_starts_and_serves),
        cmocka_unit_test(test_member_alone_goes_on_with_the_pages_of_the_one_before),
        cmocka_unit_test(test_member_without_memory_for_its_cells_fails),
        cmocka_unit_test(test_member_without_room_beside_what_serves_loads_after_start),
        cmocka_unit_test(test_member_whose_peer_has_its_cells_gets_them_there),
        cmocka_unit_test(test_members_of_two_workers_meet_and_serve),
        cmocka_unit_test(test_member_whose_peer_never_comes_can_be_left),
        cmocka_unit_test(test_member_whose_peer_freezes_while_they_meet_can_be_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
