/* controller/cli/fleet: what `godwit up` believes of its workers, row by row of the table in up.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "controller/cli/fleet.h"
#include "controller/cli/settled.h"

#define AFTER_US 3000000

struct view {
    const char *id, *state;
};

static const char *lookup(void *arg, const char *id)
{
    for (const struct view *v = arg; v->id; v++)
        if (strcmp(v->id, id) == 0) return v->state;
    return NULL;
}

static void see(struct fleet *fleet, const char *id, const char *state, int64_t now_us)
{
    struct view views[] = {{state ? id : NULL, state}, {NULL, NULL}};
    fleet_on_view(fleet, lookup, views, now_us);
}

static struct fleet_worker *started(struct fleet *fleet, const char *id, pid_t pid)
{
    struct fleet_worker *w = NULL;
    assert_int_equal(fleet_add(fleet, id, &w), GW_OK);
    assert_ptr_equal(fleet_next_start(fleet, 0), w);
    w->pid = pid;
    return w;
}

static void test_next_start_killed_worker_returns_under_its_id_when_due(void **state)
{
    (void)state;
    struct fleet fleet;
    fleet_init(&fleet, AFTER_US);
    struct fleet_worker *w = started(&fleet, "w0", 10);
    see(&fleet, "w0", "up", 1);
    assert_int_equal(w->state, FLEET_UP);
    assert_ptr_equal(fleet_on_exit(&fleet, 10, 100), w);
    assert_int_equal(w->state, FLEET_EXITED);
    assert_null(fleet_next_start(&fleet, 100 + AFTER_US - 1));
    assert_ptr_equal(fleet_next_start(&fleet, 100 + AFTER_US), w);
    assert_int_equal(w->state, FLEET_STARTING);
    assert_string_equal(w->id, "w0");
}

static void test_next_start_frozen_worker_is_replaced_under_a_new_id(void **state)
{
    (void)state;
    struct fleet fleet;
    fleet_init(&fleet, AFTER_US);
    struct fleet_worker *w = started(&fleet, "w1", 10);
    see(&fleet, "w1", "up", 1);
    see(&fleet, "w1", NULL, 50);
    assert_int_equal(w->state, FLEET_LOST);
    struct fleet_worker *fresh = fleet_next_start(&fleet, 50 + AFTER_US);
    assert_non_null(fresh);
    assert_string_equal(fresh->id, "w1r1");
    assert_int_equal(w->state, FLEET_REPLACED);
    assert_int_equal(w->pid, 10);
    fresh->pid = 11;
    see(&fleet, "w1r1", "up", 60 + AFTER_US);
    see(&fleet, "w1r1", NULL, 70 + AFTER_US);
    fresh = fleet_next_start(&fleet, 70 + 2 * AFTER_US);
    assert_string_equal(fresh->id, "w1r2");
}

static void test_on_view_lost_worker_that_comes_back_is_not_replaced(void **state)
{
    (void)state;
    struct fleet fleet;
    fleet_init(&fleet, AFTER_US);
    struct fleet_worker *w = started(&fleet, "w0", 10);
    see(&fleet, "w0", "up", 1);
    see(&fleet, "w0", NULL, 50);
    see(&fleet, "w0", "up", 60);
    assert_int_equal(w->state, FLEET_UP);
    assert_null(fleet_next_start(&fleet, 50 + 2 * AFTER_US));
}

/* Cut off, replaced, back, and cut off again: its replacement lives, and no second one gets the same name. */
static void test_next_start_worker_lost_twice_is_replaced_once(void **state)
{
    (void)state;
    struct fleet fleet;
    fleet_init(&fleet, AFTER_US);
    struct fleet_worker *w = started(&fleet, "w0", 10);
    see(&fleet, "w0", "up", 1);
    see(&fleet, "w0", NULL, 50);
    struct fleet_worker *first = fleet_next_start(&fleet, 50 + AFTER_US);
    assert_string_equal(first->id, "w0r1");
    first->pid = 11;
    see(&fleet, "w0", "up", 60 + AFTER_US);
    see(&fleet, "w0", NULL, 70 + AFTER_US);
    assert_int_equal(w->state, FLEET_REPLACED);
    assert_null(fleet_next_start(&fleet, 70 + 2 * AFTER_US));
    see(&fleet, "w0", "up", 80 + AFTER_US);
    assert_int_equal(w->state, FLEET_UP);
    assert_ptr_equal(fleet_on_exit(&fleet, 10, 90 + AFTER_US), w);
    assert_int_equal(w->state, FLEET_FREE);
}

static void test_on_view_doomed_then_cancelled_is_up(void **state)
{
    (void)state;
    struct fleet fleet;
    fleet_init(&fleet, AFTER_US);
    struct fleet_worker *w = started(&fleet, "w0", 10);
    see(&fleet, "w0", "doomed", 1);
    assert_int_equal(w->state, FLEET_DOOMED);
    assert_int_equal(fleet_up(&fleet), 1);
    see(&fleet, "w0", "up", 2);
    assert_int_equal(w->state, FLEET_UP);
}

static void test_on_exit_replaced_zombie_frees_its_slot(void **state)
{
    (void)state;
    struct fleet fleet;
    fleet_init(&fleet, 0);
    struct fleet_worker *w = started(&fleet, "w0", 10), *again = NULL;
    see(&fleet, "w0", "up", 1);
    see(&fleet, "w0", NULL, 2);
    struct fleet_worker *fresh = fleet_next_start(&fleet, 2);
    fresh->pid = 11;
    assert_ptr_equal(fleet_on_exit(&fleet, 10, 3), w);
    assert_int_equal(w->state, FLEET_FREE);
    assert_null(fleet_on_exit(&fleet, 10, 4));
    assert_int_equal(fleet_add(&fleet, "w9", &again), GW_OK);
    assert_ptr_equal(again, w);
}

static void test_on_exit_worker_that_never_came_up_is_counted(void **state)
{
    (void)state;
    struct fleet fleet;
    fleet_init(&fleet, 0);
    struct fleet_worker *w = started(&fleet, "w0", 10);
    for (int i = 1; i <= FAST_EXITS_MAX; i++) {
        w->pid = 10;
        fleet_on_exit(&fleet, 10, i);
        assert_int_equal(w->fast_exits, i);
        assert_ptr_equal(fleet_next_start(&fleet, i), w);
    }
    see(&fleet, "w0", "up", 9);
    assert_int_equal(w->fast_exits, 0);
}

static void test_add_more_than_max_is_refused(void **state)
{
    (void)state;
    struct fleet fleet;
    struct fleet_worker *w;
    fleet_init(&fleet, 0);
    for (int i = 0; i < FLEET_MAX; i++) assert_int_equal(fleet_add(&fleet, "w", &w), GW_OK);
    assert_int_equal(fleet_add(&fleet, "w", &w), GW_ERR_LIMIT);
}

static bool settled(const char *pipelines, const char *plan, char unserved[UNSERVED_BYTES])
{
    char text[512];
    cJSON *layout = NULL;
    snprintf(text, sizeof text, "{\"pipelines\":[%s],\"plan\":{%s}}", pipelines, plan);
    assert_int_equal(gw_json_parse(text, strlen(text), sizeof text, &layout, NULL), GW_OK);
    bool yes = cluster_settled(layout, unserved);
    cJSON_Delete(layout);
    return yes;
}

#define MADE   "\"made\":2,\"pipelines\":1,\"under_way\":false,\"reason\":\"why\""
#define SERVES "{\"state\":\"serving\"}"
#define FORMS  "{\"state\":\"forming\"}"

static void test_settled_waits_until_no_pipeline_forms(void **state)
{
    (void)state;
    char unserved[UNSERVED_BYTES] = "";
    assert_false(settled(FORMS, MADE, unserved));
    assert_false(settled(SERVES "," FORMS, MADE, unserved));
    assert_false(settled("", MADE, unserved)); /* planned, not there yet */
    assert_false(settled(SERVES, "\"made\":1,\"pipelines\":1,\"under_way\":true,\"reason\":\"\"", unserved));
    assert_false(settled(SERVES, "\"made\":\"x\"", unserved));
    assert_true(settled(SERVES, MADE, unserved));
    assert_string_equal(unserved, "");
    /* workers of protocol 1: nothing was planned */
    assert_true(settled(SERVES, "\"made\":0,\"pipelines\":0,\"under_way\":false,\"reason\":\"\"", unserved));
}

static void test_settled_nothing_fits_says_why(void **state)
{
    (void)state;
    char unserved[UNSERVED_BYTES] = "";
    assert_true(
        settled("", "\"made\":1,\"pipelines\":0,\"under_way\":false,\"reason\":\"too small\"", unserved));
    assert_string_equal(unserved, "too small");
}

static void test_follow_takes_what_is_there_and_forgets_what_is_not(void **state)
{
    (void)state;
    struct fleet f;
    const struct fleet_seen first[] = {{.id = "i-s-1", .group = "spot", .pid = 11},
                                       {.id = "i-d-2", .group = "on-demand", .pid = 12}};
    const struct fleet_seen then[] = {{.id = "i-s-3", .group = "spot", .pid = 13}, first[1]};
    fleet_init(&f, 0);
    fleet_follow(&f, first, 2);
    assert_int_equal(f.workers[0].state, FLEET_STARTING);
    assert_int_equal(f.workers[1].pid, 12);
    assert_string_equal(f.workers[1].group, "on-demand");
    f.changed = false;
    fleet_follow(&f, first, 2);
    assert_false(f.changed);
    f.workers[1].state = FLEET_UP;
    fleet_follow(&f, then, 2);
    assert_true(f.changed);
    assert_string_equal(f.workers[0].id, "i-s-3"); /* the slot of the one that is gone */
    assert_int_equal(f.workers[0].pid, 13);
    assert_int_equal(f.workers[1].state, FLEET_UP);
    fleet_follow(&f, NULL, 0);
    assert_int_equal(fleet_up(&f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_start_killed_worker_returns_under_its_id_when_due),
        cmocka_unit_test(test_next_start_frozen_worker_is_replaced_under_a_new_id),
        cmocka_unit_test(test_next_start_worker_lost_twice_is_replaced_once),
        cmocka_unit_test(test_on_view_lost_worker_that_comes_back_is_not_replaced),
        cmocka_unit_test(test_on_view_doomed_then_cancelled_is_up),
        cmocka_unit_test(test_on_exit_replaced_zombie_frees_its_slot),
        cmocka_unit_test(test_on_exit_worker_that_never_came_up_is_counted),
        cmocka_unit_test(test_add_more_than_max_is_refused),
        cmocka_unit_test(test_follow_takes_what_is_there_and_forgets_what_is_not),
        cmocka_unit_test(test_settled_waits_until_no_pipeline_forms),
        cmocka_unit_test(test_settled_nothing_fits_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
