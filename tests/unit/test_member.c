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

#include "base/clock.h"
#include "tests/lib/layouts.h"
#include "worker/member.h"

#define MODEL      "tests/data/tiny/gqa64"
#define KEY        "a cluster key for tests, 32 byte"
#define MEMORY     ((uint64_t)1 << 30)
#define GENERATION 5
#define TOKENS     12

/* One worker's ground. */
struct ground {
    struct gw_host host;
    struct gw_model *model;
    atomic_int told; /* how often a member said that it has prepared */
};

static const struct gw_log silent = {.level = GW_LOG_NONE};

static void open_ground(struct ground *g)
{
    const struct gw_mesh_config mesh = {
        .host = "127.0.0.1", .key = KEY, .key_len = sizeof KEY - 1, .log = &silent};
    struct gw_host *h = &g->host;
    memset(g, 0, sizeof *g);
    assert_int_equal(gw_model_open(MODEL, &g->model, NULL), GW_OK);
    assert_int_equal(gw_ops_cpu(gw_model_profile(g->model), GW_ISA_AUTO, &h->ops, NULL), GW_OK);
    assert_int_equal(gw_device_cpu_create(1, false, &h->device, NULL), GW_OK);
    assert_int_equal(gw_cell_store_create(g->model, h->ops, &h->store, NULL), GW_OK);
    assert_int_equal(gw_mesh_create(&mesh, &h->mesh, NULL), GW_OK);
    gw_device_enter_thread();
    h->model = g->model;
    h->memory_bytes = MEMORY;
    h->kv_tokens = 512;
    h->max_batch_tokens = 64;
    h->max_sequences = 4;
    h->step_timeout_us = 60 * GW_US_PER_S;
    h->key = KEY;
    h->key_len = sizeof KEY - 1;
    h->log = &silent;
}

static void close_ground(struct ground *g)
{
    gw_mesh_destroy(g->host.mesh);
    gw_cell_store_destroy(g->host.store);
    gw_device_destroy(g->host.device);
    gw_model_close(g->model);
}

static void prepared(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

/* Rank `self` of a pipeline of that layout whose ranks are on these grounds. */
static struct gw_member *member_of(struct ground *const *grounds, const char *layout, uint32_t self)
{
    struct gw_assign_rank ranks[GW_WIRE_RANKS_MAX];
    struct gw_msg_assign assign;
    struct gw_member *m;
    struct ground *g = grounds[self];
    layout_parse(layout, &g->model->cells, ranks, &assign);
    for (uint32_t i = 0; i < assign.ranks_len; i++)
        snprintf(ranks[i].data, sizeof ranks[i].data, "%s", gw_mesh_address(grounds[i]->host.mesh));
    assign.self = self;
    const struct gw_member_config config = {.host = &g->host,
                                            .term = 1,
                                            .generation = GENERATION,
                                            .pipeline = 2,
                                            .assign = &assign,
                                            .prepared = prepared,
                                            .arg = &g->told};
    assert_int_equal(gw_member_create(&config, &m, NULL), GW_OK);
    return m;
}

static void count_tokens(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                         const struct gw_tokens *tokens)
{
    (void)request;
    (void)attempt;
    (void)branch;
    *(uint32_t *)arg += tokens->count;
}

static void submit_one(struct gw_member *leader)
{
    uint32_t prompt[3] = {1, 2, 3};
    struct gw_branch_log log = {0};
    struct gw_request q = {.id = 1, .n = 1, .prompt_len = 3, .prompt = malloc(sizeof prompt)};
    memcpy(q.prompt, prompt, sizeof prompt);
    q.sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = TOKENS};
    struct gw_msg_submit submit = {.attempt = 1, .request = q, .logs = &log};
    assert_int_equal(gw_engine_submit(gw_member_engine(leader), &submit, NULL), GW_OK);
}

static void test_member_alone_prepares_starts_and_serves(void **state)
{
    (void)state;
    struct ground g, *grounds[] = {&g};
    struct gw_msg_ready ready;
    uint32_t tokens = 0;
    bool did = true;
    open_ground(&g);
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
    gw_member_destroy(m);
    close_ground(&g);
}

static void test_member_without_memory_for_its_cells_fails(void **state)
{
    (void)state;
    struct ground g, *grounds[] = {&g};
    open_ground(&g);
    g.host.memory_bytes = 1000;
    struct gw_member *m = member_of(grounds, "8", 0);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_FAILED);
    assert_int_equal(gw_member_error(m)->code, GW_ERR_LIMIT);
    assert_non_null(strstr(gw_member_error(m)->text, "--memory-limit"));
    gw_member_destroy(m);
    close_ground(&g);
}

/* Beside what serves there is no room: the missing cells come by start. */
static void test_member_without_room_beside_what_serves_loads_after_start(void **state)
{
    (void)state;
    struct ground g;
    struct gw_msg_ready ready;
    const struct gw_engine_sink sink = {0};
    const struct gw_cell_rect left = {0, 2, 0, 5};
    uint64_t loaded;
    open_ground(&g);
    assert_int_equal(gw_cell_store_acquire(g.host.store, left, NULL, &loaded, NULL), GW_OK);
    g.host.memory_bytes = gw_cell_store_bytes_of(g.host.store, gw_cells_all(&g.model->cells)) + 500000;
    g.host.kv_tokens = 0;
    struct gw_assign_rank rank = {.cells = gw_cells_all(&g.model->cells)};
    const struct gw_msg_assign assign = {.ranks_len = 1, .ranks = &rank};
    const struct gw_member_config config = {.host = &g.host,
                                            .term = 1,
                                            .generation = GENERATION,
                                            .assign = &assign,
                                            .occupied_bytes = 600000,
                                            .prepared = prepared,
                                            .arg = &g.told};
    struct gw_member *m;
    assert_int_equal(gw_member_create(&config, &m, NULL), GW_OK);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_PREPARED);
    gw_member_ready(m, &ready);
    assert_true(ready.after_start);
    assert_true(gw_cell_store_missing(g.host.store, rank.cells) > 0);
    gw_cell_store_release(g.host.store, left); /* what served is left */
    assert_int_equal(gw_member_start(m, &sink, NULL), GW_OK);
    assert_int_equal(gw_cell_store_missing(g.host.store, rank.cells), 0);
    gw_member_destroy(m);
    close_ground(&g);
}

/* Follows until the pipeline ends. */
static void *follow(void *member)
{
    const struct gw_engine_sink none = {0};
    struct gw_err_ctx ctx = {0};
    bool did;
    gw_device_enter_thread();
    if (gw_member_start(member, &none, &ctx) != GW_OK) return NULL;
    while (gw_member_step(member, 20 * GW_US_PER_MS, &did, &ctx) == GW_OK) continue;
    return NULL;
}

static void test_members_of_two_workers_meet_and_serve(void **state)
{
    (void)state;
    struct ground a, b, *grounds[] = {&a, &b};
    uint32_t tokens = 0;
    const struct gw_engine_sink sink = {.arg = &tokens, .tokens = count_tokens};
    pthread_t thread;
    bool did;
    open_ground(&a);
    open_ground(&b);
    struct gw_member *leader = member_of(grounds, "8/8", 0), *other = member_of(grounds, "8/8", 1);
    assert_int_equal(gw_member_wait(leader), GW_MEMBER_PREPARED);
    assert_int_equal(gw_member_wait(other), GW_MEMBER_PREPARED);
    assert_int_equal(gw_member_start(leader, &sink, NULL), GW_OK);
    submit_one(leader);
    assert_int_equal(gw_member_step(leader, 0, &did, NULL), GW_OK);
    assert_false(did || gw_member_may_step(leader)); /* the other has not started */
    assert_int_equal(pthread_create(&thread, NULL, follow, other), 0);
    while (gw_engine_jobs(gw_member_engine(leader)) > 0)
        assert_int_equal(gw_member_step(leader, 0, &did, NULL), GW_OK);
    assert_int_equal(tokens, TOKENS);
    gw_member_destroy(leader);
    pthread_join(thread, NULL); /* the leader has gone */
    assert_int_equal(gw_member_state(other), GW_MEMBER_FAILED);
    gw_member_destroy(other);
    close_ground(&a);
    close_ground(&b);
}

static void test_member_whose_peer_never_comes_can_be_left(void **state)
{
    (void)state;
    struct ground a, b, *grounds[] = {&a, &b};
    open_ground(&a);
    open_ground(&b);
    struct gw_member *m = member_of(grounds, "4+4", 0);
    gw_member_abort(m);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_FAILED);
    gw_member_destroy(m);
    close_ground(&a);
    close_ground(&b);
}

/* The peer meets and then says nothing, as a frozen one does: step_timeout is a minute, which nobody waits for. */
static void test_member_whose_peer_freezes_while_they_meet_can_be_left(void **state)
{
    (void)state;
    struct ground a, b, *grounds[] = {&a, &b};
    struct gw_assign_rank ranks[GW_WIRE_RANKS_MAX];
    struct gw_msg_assign assign;
    int fds[GW_WIRE_RANKS_MAX];
    open_ground(&a);
    open_ground(&b);
    struct gw_member *m = member_of(grounds, "4+4", 1);
    layout_parse("4+4", &a.model->cells, ranks, &assign);
    for (uint32_t i = 0; i < 2; i++)
        snprintf(ranks[i].data, sizeof ranks[i].data, "%s", gw_mesh_address(grounds[i]->host.mesh));
    assert_int_equal(gw_mesh_gather(a.host.mesh, 1, 2, GENERATION, &assign, 60 * GW_US_PER_S, fds, NULL),
                     GW_OK);
    gw_member_abort(m);
    assert_int_equal(gw_member_wait(m), GW_MEMBER_FAILED);
    gw_member_destroy(m);
    close(fds[1]);
    close_ground(&a);
    close_ground(&b);
}

int main(void)
{
    alarm(120); /* who waits for what never comes must not hang the run */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_member_alone_prepares_starts_and_serves),
        cmocka_unit_test(test_member_without_memory_for_its_cells_fails),
        cmocka_unit_test(test_member_without_room_beside_what_serves_loads_after_start),
        cmocka_unit_test(test_members_of_two_workers_meet_and_serve),
        cmocka_unit_test(test_member_whose_peer_never_comes_can_be_left),
        cmocka_unit_test(test_member_whose_peer_freezes_while_they_meet_can_be_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
