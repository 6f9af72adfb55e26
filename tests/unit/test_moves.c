/* worker/: a request goes on in another layout with the pages of the one that it left: nothing is computed again but what
 * no block holds, and the tokens are those of a run that never moved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "tests/lib/ground.h"

#define MODEL    "tests/data/tiny/gqa64"
#define PROMPT   75
#define TOKENS   90
#define WARM_AT  20 /* tokens there when pages begin to flow */
#define LEAVE_AT 45 /* tokens there when the request leaves */
#define GROUNDS  8
#define LEASE_US (60 * GW_US_PER_S)

/* What came of the request so far. */
struct heard {
    uint32_t ids[TOKENS], len;
    uint32_t warmed_tokens, warmed;
    struct gw_msg_origin origin;
};

struct cluster {
    struct ground grounds[GROUNDS];
    struct heard heard;
};

/* One pipeline: rank i on grounds[first + i]. */
struct pipeline {
    struct cluster *cluster;
    uint32_t first, ranks;
    struct gw_assign_rank assigned[GW_WIRE_RANKS_MAX];
    struct gw_member *members[GW_WIRE_RANKS_MAX];
    pthread_t threads[GW_WIRE_RANKS_MAX];
};

static void on_tokens(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                      const struct gw_tokens *tokens)
{
    struct heard *h = arg;
    (void)request, (void)attempt, (void)branch;
    assert_int_equal(tokens->first, h->len);
    for (uint32_t i = 0; i < tokens->count; i++) h->ids[h->len++] = tokens->ids[i];
}

static void on_warmed(void *arg, uint64_t request, uint32_t attempt, uint32_t tokens)
{
    struct heard *h = arg;
    (void)request, (void)attempt;
    h->warmed++;
    h->warmed_tokens = tokens;
}

static void on_origin(void *arg, const struct gw_msg_origin *origin)
{
    ((struct heard *)arg)->origin = *origin;
}

static struct gw_engine_sink sink_of(struct cluster *c)
{
    return (struct gw_engine_sink){
        .arg = &c->heard, .tokens = on_tokens, .warmed = on_warmed, .origin = on_origin};
}

static void cluster_open(struct cluster *c, const char *model)
{
    memset(c, 0, sizeof *c);
    for (uint32_t i = 0; i < GROUNDS; i++) ground_open(&c->grounds[i], model);
}

static void cluster_close(struct cluster *c)
{
    for (uint32_t i = 0; i < GROUNDS; i++) ground_close(&c->grounds[i]);
}

/* Prepared and armed. */
static void pipeline_prepare(struct pipeline *p, struct cluster *c, const char *layout, uint64_t generation,
                             uint32_t first)
{
    struct ground *grounds[GROUNDS];
    struct gw_msg_assign assign;
    const struct gw_engine_sink sink = sink_of(c);
    memset(p, 0, sizeof *p);
    for (uint32_t i = 0; i < GROUNDS; i++) grounds[i] = &c->grounds[(first + i) % GROUNDS];
    ground_assign(grounds, layout, p->assigned, &assign);
    p->cluster = c;
    p->first = first;
    p->ranks = assign.ranks_len;
    for (uint32_t i = 0; i < p->ranks; i++) p->members[i] = ground_member(grounds, layout, generation, i);
    for (uint32_t i = 0; i < p->ranks; i++) {
        assert_int_equal(gw_member_wait(p->members[i]), GW_MEMBER_PREPARED);
        assert_int_equal(gw_member_arm(p->members[i], &sink, NULL), GW_OK);
        assert_true(gw_member_is_armed(p->members[i]));
    }
}

static void pipeline_start(struct pipeline *p)
{
    const struct gw_engine_sink sink = sink_of(p->cluster);
    for (uint32_t i = 1; i < p->ranks; i++)
        assert_int_equal(pthread_create(&p->threads[i], NULL, ground_follow, p->members[i]), 0);
    assert_int_equal(gw_member_start(p->members[0], &sink, NULL), GW_OK);
}

/* Its sealed pages can be had for a while. */
static void pipeline_end(struct pipeline *p)
{
    gw_member_destroy(p->members[0], LEASE_US);
    for (uint32_t i = 1; i < p->ranks; i++) {
        pthread_join(p->threads[i], NULL);
        gw_member_destroy(p->members[i], LEASE_US);
    }
}

static struct gw_engine *engine_of(struct pipeline *p)
{
    return gw_member_engine(p->members[0]);
}

static void step_until(struct pipeline *p, uint32_t tokens)
{
    bool did;
    while (p->cluster->heard.len < tokens)
        assert_int_equal(gw_member_step(p->members[0], 0, &did, NULL), GW_OK);
}

static struct gw_msg_submit submission(struct heard *h, uint32_t attempt, struct gw_branch_log *log)
{
    struct gw_request q = {.id = 7, .n = 1, .prompt_len = PROMPT};
    q.prompt = malloc(PROMPT * sizeof *q.prompt);
    for (uint32_t i = 0; i < PROMPT; i++) q.prompt[i] = 5 + i * 37 % 200;
    q.sampling = (struct gw_sampling){
        .temperature = 0.9f, .top_p = 1, .repetition_penalty = 1, .seed = 11, .max_tokens = TOKENS};
    *log = (struct gw_branch_log){.len = h->len, .ids = h->ids};
    return (struct gw_msg_submit){.attempt = attempt, .request = q, .logs = log};
}

/* With the ranks of `from` as holders, unless it is NULL. */
static void holders_of(const struct pipeline *from, struct gw_page_holder *holders, struct gw_msg_submit *m)
{
    m->holders = holders;
    for (uint32_t i = 0; from && i < from->ranks; i++) {
        struct gw_page_holder *holder = &holders[m->holders_len++];
        memset(holder, 0, sizeof *holder);
        snprintf(holder->pages, sizeof holder->pages, "%s", from->assigned[i].pages);
        holder->cells = from->assigned[i].cells;
    }
}

static void submit(struct pipeline *p, uint32_t attempt, const struct pipeline *from)
{
    struct gw_page_holder holders[GW_WIRE_RANKS_MAX];
    struct gw_branch_log log;
    struct gw_msg_submit m = submission(&p->cluster->heard, attempt, &log);
    holders_of(from, holders, &m);
    assert_int_equal(gw_engine_submit(engine_of(p), &m, NULL), GW_OK);
}

static void warm(struct pipeline *p, const struct pipeline *from)
{
    struct gw_page_holder holders[GW_WIRE_RANKS_MAX];
    struct gw_branch_log log;
    struct gw_msg_submit m = submission(&p->cluster->heard, 1, &log);
    uint32_t before = p->cluster->heard.warmed;
    holders_of(from, holders, &m);
    assert_int_equal(gw_engine_warm(engine_of(p), &m, NULL), GW_OK);
    while (p->cluster->heard.warmed == before) gw_engine_tend(engine_of(p));
}

static void leave(struct pipeline *p, uint32_t attempt)
{
    uint32_t len[GW_REQUEST_BRANCHES_MAX], n;
    assert_int_equal(gw_engine_settle(engine_of(p), NULL), GW_OK);
    if (gw_engine_hand_off(engine_of(p), 7, attempt, len, &n))
        assert_int_equal(len[0], p->cluster->heard.len);
    assert_int_equal(gw_engine_settle(engine_of(p), NULL), GW_OK); /* the others learn of tails */
}

static uint32_t whole_tokens(uint32_t len)
{
    return (len - 1) / GW_BLOCK_TOKENS * GW_BLOCK_TOKENS;
}

/* The tokens of a run that never moved. */
static void run_undisturbed(struct cluster *c, uint32_t *ids)
{
    struct pipeline p;
    pipeline_prepare(&p, c, "8", 1, 0);
    pipeline_start(&p);
    submit(&p, 1, NULL);
    step_until(&p, TOKENS);
    memcpy(ids, c->heard.ids, sizeof c->heard.ids);
    gw_member_destroy(p.members[0], 0);
    memset(&c->heard, 0, sizeof c->heard);
}

struct move {
    const char *from, *to;
    uint32_t to_first; /* the ground of its rank 0: 0 = workers that were ranks before become ranks again */
    bool warm;
    const char *model; /* NULL: MODEL */
};

/* From one layout to the other in the middle of a text. What came is checked by the caller. */
static void run_move(struct cluster *c, const struct move *move)
{
    static uint64_t generation = 10;
    struct pipeline from, to;
    pipeline_prepare(&from, c, move->from, ++generation, 0);
    pipeline_start(&from);
    submit(&from, 1, NULL);
    step_until(&from, WARM_AT);
    pipeline_prepare(&to, c, move->to, ++generation, move->to_first);
    if (move->warm) warm(&to, &from);
    step_until(&from, LEAVE_AT);
    leave(&from, 1);
    pipeline_end(&from);
    pipeline_start(&to);
    submit(&to, 2, &from);
    step_until(&to, TOKENS);
    pipeline_end(&to);
}

static void check_move(const struct move *move)
{
    struct cluster *c = malloc(sizeof *c);
    uint32_t ids[TOKENS];
    cluster_open(c, move->model ? move->model : MODEL);
    run_undisturbed(c, ids);
    run_move(c, move);
    assert_memory_equal(c->heard.ids, ids, sizeof ids);
    const struct gw_msg_origin *o = &c->heard.origin;
    assert_true(o->total_tokens >= PROMPT + LEAVE_AT - 1);
    assert_int_equal(o->cached_tokens + o->moved_tokens, o->total_tokens); /* the part-full block, too */
    uint32_t horizon = gw_model_horizon(&c->grounds[0].model->config);
    if (horizon && !move->warm)
        assert_true(o->moved_tokens < horizon + 2 * GW_BLOCK_TOKENS); /* what is seen */
    if (move->warm) {
        assert_true(c->heard.warmed_tokens >= whole_tokens(PROMPT + WARM_AT));
        assert_true(o->cached_tokens >= c->heard.warmed_tokens);
    }
    cluster_close(c);
    free(c);
}

static void test_move_between_workers_takes_the_pages_along(void **state)
{
    (void)state;
    check_move(&(struct move){"8", "8", 1, false});
}

static void test_move_ahead_of_the_cutover_leaves_little_to_fetch(void **state)
{
    (void)state;
    check_move(&(struct move){"8", "8", 1, true});
}

static void test_move_between_layouts_cuts_pages_anew(void **state)
{
    (void)state;
    check_move(&(struct move){"2+2+2+2", "4+4/4+4", 4, false});
    check_move(&(struct move){"4+4/4+4", "2+2+2+2", 4, true});
}

static void test_move_onto_the_same_workers_takes_what_they_have(void **state)
{
    (void)state;
    check_move(&(struct move){"2+2+2+2", "3+3+2", 0, true});
    check_move(&(struct move){"3+3+2", "8/8", 0, false});
}

static void test_move_of_every_architecture_takes_the_pages_along(void **state)
{
    (void)state;
    check_move(&(struct move){"8", "4+4", 1, false, "tests/data/tiny/mistral"});
    check_move(&(struct move){"3+5", "8", 2, true, "tests/data/tiny/mistral"});
    check_move(&(struct move){"8/8", "3+3+2", 2, false, "tests/data/tiny/qwen2"});
    check_move(&(struct move){"4+4", "8/8", 2, true, "tests/data/tiny/qwen3"});
    check_move(&(struct move){"3+3+2", "8", 3, false, "tests/data/tiny/mixtral"});
    check_move(&(struct move){"8", "4+4", 1, false, "tests/data/tiny/qwen3moe"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_move_between_workers_takes_the_pages_along),
        cmocka_unit_test(test_move_ahead_of_the_cutover_leaves_little_to_fetch),
        cmocka_unit_test(test_move_between_layouts_cuts_pages_anew),
        cmocka_unit_test(test_move_onto_the_same_workers_takes_what_they_have),
        cmocka_unit_test(test_move_of_every_architecture_takes_the_pages_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
