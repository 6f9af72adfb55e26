/* controller/core: who is named as a holder of a request's KV, to whom, and what is counted of where it came from. */
#include "tests/unit/core_fixture.h"

static const uint64_t in_order[] = {1, 2, 3, 4, 5, 6, 7, 8};

/* Links 1 2 and 3 4 serve, all of protocol 3; request 7 runs on the first, with four tokens. */
static void open_two_pipelines(struct fixture *f)
{
    fixture_open(f);
    fixture_start_grid(f);
    keepers(f, 4);
    plan_wide(f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(f, 1, 4);
    submit(f, 7, 1, 20);
    assert_int_equal(sent(f, 1, GW_MSG_SUBMIT, 0)->submit.holders_len, 0);
    tokens(f, 1, 7, 1, 0, 4);
}

static void test_assign_names_addresses_of_pages_to_those_who_know_them(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start_grid(&f);
    keepers(&f, 2);
    member(&f);
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    const struct gw_assign_rank *newer = sent(&f, 2, GW_MSG_ASSIGN, 0)->assign.ranks;
    const struct gw_assign_rank *older = sent(&f, 3, GW_MSG_ASSIGN, 0)->assign.ranks;
    assert_string_equal(newer[0].pages, "10.0.0.1:9000");
    assert_string_equal(newer[1].pages, "10.0.0.2:9000");
    assert_string_equal(newer[2].pages, "");
    for (int i = 0; i < 3; i++) {
        assert_string_equal(older[i].pages, "");
        assert_string_equal(older[i].worker, newer[i].worker);
    }
    fixture_close(&f);
}

static void test_loss_names_the_survivors(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    link_down(&f, 1);
    const struct gw_msg *m = sent(&f, 3, GW_MSG_SUBMIT, 0);
    assert_string_equal(holders(m), "2");
    const struct gw_cell_rect cells = {0, GROUPS, SHARES / 2, SHARES};
    assert_memory_equal(&m->submit.holders[0].cells, &cells, sizeof cells);
    fixture_close(&f);
}

static void test_handoff_and_broken_name_all_ranks(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    handoff(&f, 1, 7, 1); /* unasked; it goes to the one that is less busy, the same */
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.holders_len, 0);
    begin(&f, 1, 7, 2);
    broken_as(&f, 1, f.pipeline[1], f.generation[1]);
    assert_string_equal(holders(sent(&f, 3, GW_MSG_SUBMIT, 0)), "1 2");
    fixture_close(&f);
}

static void test_what_never_began_has_no_holders(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    submit(&f, 8, 1, 20); /* → 3 4 */
    assert_non_null(sent(&f, 3, GW_MSG_SUBMIT, 0));
    broken_as(&f, 3, f.pipeline[3], f.generation[3]);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 8);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.holders_len, 0);
    fixture_close(&f);
}

static void test_incarnation_that_came_back_holds_nothing(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    struct gw_msg m = member_msg("m2", "i-m2"); /* link 2's worker, on link 5 */
    m.hello.proto = 3;
    snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.2:9000");
    hello(&f, &m);
    assert_string_equal(holders(sent(&f, 3, GW_MSG_SUBMIT, 0)), "1");
    fixture_close(&f);
}

static void test_protocol_2_is_neither_told_nor_named(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start_grid(&f);
    keeper(&f);
    member(&f);
    keeper(&f);
    plan_wide(&f, in_order, (const uint32_t[]){1, 1, 1, 0});
    ready_all(&f, 1, 3);
    submit(&f, 7, 1, 20);
    begin(&f, 1, 7, 1);
    broken_as(&f, 1, f.pipeline[1], f.generation[1]);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.holders_len, 0);
    begin(&f, 2, 7, 2);
    broken_as(&f, 2, f.pipeline[2], f.generation[2]);
    assert_string_equal(holders(sent(&f, 3, GW_MSG_SUBMIT, 0)), "1");
    fixture_close(&f);
}

static void test_pages_of_another_profile_are_not_named(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.config.profile_loss_continue = true;
    fixture_start_grid(&f);
    keeper(&f);
    struct gw_msg m = member_msg("m2", "i-m2");
    m.hello.proto = 3;
    snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.2:9000");
    snprintf(m.hello.profile, sizeof m.hello.profile, "test-2");
    hello(&f, &m);
    plan_wide(&f, in_order, (const uint32_t[]){1, 1, 0});
    ready_all(&f, 1, 2);
    submit(&f, 7, 1, 20);
    tokens(&f, 1, 7, 1, 0, 4);
    broken_as(&f, 1, f.pipeline[1], f.generation[1]);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.holders_len, 0);
    fixture_close(&f);
}

/* Three pipelines of 32 ranks, one after the other: 96 workers may have pages, 63 can be named, the last 32 first. */
static void test_holders_are_the_newest_when_there_are_too_many(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t links[LINKS_MAX];
    struct gw_core_plan_rank ranks[LINKS_MAX];
    fixture_open(&f);
    fixture_start_grid(&f);
    keepers(&f, LINKS_MAX);
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        uint16_t stage = (uint16_t)(i % 32 / SHARES), share = (uint16_t)(i % SHARES);
        links[i] = i + 1;
        ranks[i] = rank(i / 32, links[i], stage, stage, (uint16_t)(stage + 1), share, (uint16_t)(share + 1));
    }
    plan(&f, ranks, LINKS_MAX);
    ready_all(&f, 1, LINKS_MAX);
    submit(&f, 7, 1, 20);
    begin(&f, 1, 7, 1);
    broken_as(&f, 1, f.pipeline[1], f.generation[1]);
    assert_int_equal(sent(&f, 33, GW_MSG_SUBMIT, 0)->submit.holders_len, 32);
    begin(&f, 33, 7, 2);
    plan_wide(&f, links, (const uint32_t[]){1, 0}); /* link 1 alone, with other cells than before */
    ready(&f, 1);
    handoff(&f, 33, 7, 2);
    const struct gw_msg_submit *s = &sent(&f, 1, GW_MSG_SUBMIT, 0)->submit;
    assert_int_equal(s->holders_len, GW_WIRE_HOLDERS_MAX);
    assert_string_equal(s->holders[0].pages, "10.0.0.33:9000");
    assert_string_equal(s->holders[31].pages, "10.0.0.64:9000");
    assert_string_equal(s->holders[32].pages, "10.0.0.1:9000");
    assert_string_equal(s->holders[62].pages, "10.0.0.31:9000");
    fixture_close(&f);
}

static struct gw_request *prompt_request(uint64_t id, uint32_t len)
{
    struct gw_request *q = make_request(id, 1, len, 10);
    for (uint32_t i = 0; i < len; i++) q->prompt[i] = i % VOCAB;
    return q;
}

static void test_prompt_routed_away_from_its_prefix_names_who_has_it(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start_grid(&f);
    keepers(&f, 4);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 4);
    submit_request(&f, prompt_request(1, 64)); /* → 1 2 */
    begin(&f, 1, 1, 1);
    uint64_t id = 2;
    const struct gw_msg *away = NULL;
    while (!away && id < 20) {
        submit_request(&f, prompt_request(id++, 64));
        away = sent(&f, 3, GW_MSG_SUBMIT, 0);
        if (!away) assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.holders_len, 0);
    }
    assert_non_null(away);
    assert_string_equal(holders(away), "1 2");
    fixture_close(&f);
}

/* The pipeline that had it has ended: its workers, as parts of others, may have its pages still. */
static void test_prefix_of_a_pipeline_that_has_ended_is_named(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start_grid(&f);
    keepers(&f, 3);
    plan_wide(&f, in_order, (const uint32_t[]){2, 0});
    ready_all(&f, 1, 2);
    submit_request(&f, prompt_request(1, 64));
    cancel(&f, 1);
    plan_wide(&f, (const uint64_t[]){2, 3}, (const uint32_t[]){2, 0});
    ready_all(&f, 2, 3);
    submit_request(&f, prompt_request(2, 40)); /* the first 32 are the same */
    assert_string_equal(holders(sent(&f, 2, GW_MSG_SUBMIT, 0)), "1 2");
    submit_request(&f, prompt_request(3, 40)); /* is there by now */
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.holders_len, 0);
    fixture_close(&f);
}

static void test_request_of_an_earlier_controller_names_all_who_have_cells(void **state)
{
    (void)state;
    struct fixture f;
    uint32_t ids[4] = {1, 2, 3, 4};
    float logprobs[4] = {0};
    fixture_open(&f);
    fixture_start_grid(&f);
    struct gw_msg m = member_msg("m1", "i-m1");
    m.hello.proto = 3;
    snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.1:9000");
    m.hello.holds = (struct gw_cell_rect){0, GROUPS, 0, SHARES / 2};
    hello(&f, &m);
    keepers(&f, 2); /* with no cells */
    const struct gw_core_restored branch = {.tokens = {.count = 4, .ids = ids, .logprobs = logprobs}};
    const struct gw_event restored = {
        .type = GW_EV_RESTORE,
        .restore = {.request = make_request(7, 1, 3, 20), .branches = &branch, .profile = "test-1"}};
    step(&f, &restored);
    plan_wide(&f, (const uint64_t[]){2, 3}, (const uint32_t[]){2, 0});
    ready_all(&f, 2, 3);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.logs[0].len, 4);
    assert_string_equal(holders(sent(&f, 2, GW_MSG_SUBMIT, 0)), "1");
    fixture_close(&f);
}

/* ---- ORIGIN ---- */

static void test_origin_of_a_resubmission_is_counted_once_and_noted(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    origin(&f, 1, 7, 1, 3, 0, 0, 0); /* a new request: its prompt is computed */
    assert_null(noted(&f, GW_NOTE_REQUEST_ORIGIN, 0));
    assert_int_equal(stats(&f).kv.total, 0);
    uint64_t left = f.generation[1];
    broken_as(&f, 1, f.pipeline[1], f.generation[1]);
    assert_int_equal(noted(&f, GW_NOTE_REQUEST_MOVED, 0)->left, left);
    origin(&f, 3, 7, 1, 100, 10, 60, 20);
    assert_int_equal(stats(&f).stale_frames, 1); /* of an older attempt */
    origin(&f, 3, 7, 2, 100, 10, 60, 20);
    const struct gw_note *n = noted(&f, GW_NOTE_REQUEST_ORIGIN, 0);
    assert_string_equal(n->worker, "m3");
    assert_int_equal(n->request, 7);
    assert_int_equal(n->left, left);
    assert_int_equal(n->origin.moved, 60);
    assert_int_equal(gw_kv_recomputed(&n->origin), 10);
    origin(&f, 3, 7, 2, 100, 10, 60, 20);
    assert_int_equal(stats(&f).stale_frames, 2);
    assert_int_equal(stats(&f).kv.total, 100);
    assert_int_equal(stats(&f).kv.cached, 10);
    assert_int_equal(stats(&f).kv.moved, 60);
    assert_int_equal(stats(&f).kv.stored, 20);
    fixture_close(&f);
}

static void test_origin_and_warmed_from_protocol_2_cost_the_link(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        fixture_open(&f);
        fixture_start_grid(&f);
        serve_wide(&f, 2);
        submit(&f, 7, 1, 20);
        if (i == 0)
            origin(&f, 1, 7, 1, 3, 0, 0, 0);
        else
            warmed(&f, 1, 7, 1);
        assert_true(closed(&f, 1));
        fixture_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assign_names_addresses_of_pages_to_those_who_know_them),
        cmocka_unit_test(test_loss_names_the_survivors),
        cmocka_unit_test(test_handoff_and_broken_name_all_ranks),
        cmocka_unit_test(test_what_never_began_has_no_holders),
        cmocka_unit_test(test_incarnation_that_came_back_holds_nothing),
        cmocka_unit_test(test_protocol_2_is_neither_told_nor_named),
        cmocka_unit_test(test_pages_of_another_profile_are_not_named),
        cmocka_unit_test(test_holders_are_the_newest_when_there_are_too_many),
        cmocka_unit_test(test_prompt_routed_away_from_its_prefix_names_who_has_it),
        cmocka_unit_test(test_prefix_of_a_pipeline_that_has_ended_is_named),
        cmocka_unit_test(test_request_of_an_earlier_controller_names_all_who_have_cells),
        cmocka_unit_test(test_origin_of_a_resubmission_is_counted_once_and_noted),
        cmocka_unit_test(test_origin_and_warmed_from_protocol_2_cost_the_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
