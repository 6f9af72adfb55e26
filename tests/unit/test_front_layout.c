/* The admin listener's layout over real sockets: what it shows, forcing one, and what /ready and metrics make of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tests/lib/front_fixture.h"

/* One request to the admin listener (body NULL: GET); the caller frees the answer. */
static int ask(struct front_fixture *f, const char *path, const char *body, char **answer)
{
    struct http_client *c = fixture_admin(f);
    if (body)
        http_client_post(c, path, "", body);
    else
        http_client_get(c, path);
    struct http_response r = http_client_response(c);
    int status = r.status;
    *answer = strdup(r.body);
    http_client_destroy(c);
    return status;
}

static void test_layout_shows_pipelines_and_who_has_no_rank(void **state)
{
    struct front_fixture *f = *state;
    char *body;
    cJSON *tree;
    fake_core_plan(f->core)->workers_up = 10; /* the fake pipeline has room for eight */
    fake_core_plan(f->core)->one_pipeline = true;
    assert_int_equal(ask(f, "/admin/layout", NULL, &body), 200);
    assert_int_equal(gw_json_parse(body, strlen(body), 1 << 20, &tree, NULL), GW_OK);
    cJSON_Delete(tree);
    fixture_has(body, "{\"epoch\":3,\"layout\":\"auto\",\"model\":\"tattler\",\"groups\":2,\"shares\":8,");
    fixture_has(
        body,
        "\"pipelines\":[{\"pipeline\":1,\"generation\":4,\"epoch\":3,\"state\":\"serving\",\"requests\":0,"
        "\"kv_tokens\":640,\"context\":512,\"ranks\":[{\"worker\":\"w0\",\"instance\":\"i-0\",\"stage\":0,"
        "\"groups\":[0,2],\"shares\":[0,1],\"weight_bytes\":4000,\"ready\":true,\"loaded_bytes\":5},");
    fixture_has(
        body, "\"unplaced\":[{\"worker\":\"w8\",\"instance\":\"i-8\",\"why\":\"spare\"},{\"worker\":\"w9\",");
    fixture_has(body, "\"plan\":{\"reason\":\"it fits\",");
    fixture_has(body, "\"took_ms\":0.500}");
    free(body);
}

static void test_layout_texts_are_escaped(void **state)
{
    struct front_fixture *f = *state;
    char *body;
    fake_core_plan(f->core)->layout_reason = "a \"quote\"\n";
    assert_int_equal(ask(f, "/admin/layout", NULL, &body), 200);
    fixture_has(body, "\"why\":\"it is \\\"first\\\"\"");
    fixture_has(body, "\"reason\":\"a \\\"quote\\\"\\n\"");
    fixture_has(body, "\"pipelines\":[],");
    free(body);
}

static void test_force_answers_when_its_plan_is_taken(void **state)
{
    struct front_fixture *f = *state;
    struct http_client *c = fixture_admin(f), *later = fixture_admin(f);
    http_client_post(c, "/admin/layout", "", "{\"layout\":\"tp2\"}");
    http_client_run(c, 30);
    assert_string_equal(fake_core_seen(f->core)->layout, "tp2");
    http_client_post(later, "/admin/layout", "", "{\"layout\":\"tp4\"}");
    http_client_run(later, 30);
    gw_front_on_layout(f->front, 0, 8); /* a plan that was begun before */
    http_client_run(c, 30);
    assert_string_equal(http_client_text(c), "");
    gw_front_on_layout(f->front, 1, 9);
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 200);
    fixture_has(r.body, "{\"epoch\":9,\"layout\":\"tp4\",\"pipelines\":2,");
    assert_string_equal(http_client_text(later), "");
    gw_front_on_layout(f->front, 2, 10);
    fixture_has(http_client_response(later).body, "\"epoch\":10,");
    http_client_destroy(c);
    http_client_destroy(later);
}

static void test_force_forced_over_is_answered_with_the_later_one(void **state)
{
    struct front_fixture *f = *state;
    struct http_client *c[3];
    for (int i = 0; i < 3; i++) {
        c[i] = fixture_admin(f);
        http_client_post(c[i], "/admin/layout", "", "{\"layout\":\"tp2\"}");
        http_client_run(c[i], 20);
    }
    http_client_reset(c[1]); /* does not wait any more */
    http_client_run(c[0], 30);
    gw_front_on_layout(f->front, 3, 12);
    assert_int_equal(http_client_response(c[0]).status, 200);
    assert_int_equal(http_client_response(c[2]).status, 200);
    for (int i = 0; i < 3; i++) http_client_destroy(c[i]);
}

static void test_force_that_cannot_be_planned_is_503(void **state)
{
    struct front_fixture *f = *state;
    struct http_client *c = fixture_admin(f);
    http_client_post(c, "/admin/layout", "", "{\"layout\":\"tp2\"}");
    http_client_run(c, 30);
    gw_front_on_layout(f->front, 1, 0);
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 503);
    fixture_has(r.body, "no plan could be made: it fits");
    http_client_destroy(c);
}

static void test_force_wrong_bodies_are_400_in_one_line(void **state)
{
    struct front_fixture *f = *state;
    const char *const bodies[][2] = {
        {"{\"layout\":\"pp2\"}", "layout 'pp2': expected tp"},
        {"{}", "'layout' is needed"},
        {"{\"layout\":7}", "layout"},
        {"{\"layout\":", ""},
        {"[]", ""},
        {"", "the body is empty"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char *answer;
        assert_int_equal(ask(f, "/admin/layout", bodies[i][0], &answer), 400);
        fixture_has(answer, bodies[i][1]);
        free(answer);
    }
    assert_int_equal(fake_core_seen(f->core)->ticket, 0);
}

static void test_force_waiting_when_the_front_ends_is_freed(void **state)
{
    struct front_fixture *f = *state;
    struct http_client *c = fixture_admin(f);
    http_client_post(c, "/admin/layout", "", "{\"layout\":\"tp2\"}");
    http_client_run(c, 30);
    http_client_destroy(c); /* fixture_tear_down destroys the front, the leak checker looks */
}

static void test_ready_without_a_pipeline_says_why(void **state)
{
    struct front_fixture *f = *state;
    struct http_client *c = fixture_client(f);
    http_client_get(c, "/ready");
    assert_int_equal(http_client_response(c).status, 200);
    fake_core_plan(f->core)->layout_reason = "the model needs more";
    http_client_get(c, "/ready");
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 503);
    fixture_has(r.body, "{\"status\":\"no pipeline serves\",\"workers_up\":2,\"missing_bytes\":1234,"
                        "\"reason\":\"the model needs more\"}");
    fake_core_plan(f->core)->workers_up = 0;
    http_client_get(c, "/ready");
    fixture_has(http_client_response(c).body, "{\"status\":\"no worker is up\",\"workers_up\":0}");
    http_client_destroy(c);
}

static void test_metrics_count_pipelines_and_transitions(void **state)
{
    struct front_fixture *f = *state;
    char *m;
    const struct gw_action action = {
        .type = GW_ACT_NOTE, .note = {.kind = GW_NOTE_PIPELINE_SERVING, .worker = "w0", .generation = 4}};
    gw_front_on_action(f->front, &action);
    gw_front_on_action(f->front, &action);
    assert_int_equal(ask(f, "/metrics", NULL, &m), 200);
    fixture_has(m, "godwit:epoch{model_name=\"tattler\"} 3\n");
    fixture_has(m, "godwit:pipelines{model_name=\"tattler\",state=\"serving\"} 2\n");
    fixture_has(m, "godwit:pipelines{model_name=\"tattler\",state=\"forming\"} 0\n");
    fixture_has(m, "godwit:transitions_total{model_name=\"tattler\"} 2\n");
    fixture_has(m, "godwit:plan_seconds_count{model_name=\"tattler\"} 2\n");
    fixture_has(m, "godwit:plan_seconds_sum{model_name=\"tattler\"} 0.0015");
    free(m);
}

static void test_timeline_names_what_pipelines_do(void **state)
{
    static const struct {
        enum gw_note_kind kind;
        const char *name;
    } kinds[] = {{GW_NOTE_EPOCH, "\"kind\":\"epoch\""},
                 {GW_NOTE_PIPELINE_FORMING, "\"kind\":\"pipeline_forming\""},
                 {GW_NOTE_PIPELINE_SERVING, "\"kind\":\"pipeline_serving\""},
                 {GW_NOTE_PIPELINE_DRAINING, "\"kind\":\"pipeline_draining\""},
                 {GW_NOTE_WORKERS_APART, "\"kind\":\"workers_apart\""},
                 {GW_NOTE_PIPELINE_DEAD, "\"kind\":\"pipeline_dead\""},
                 {GW_NOTE_PIPELINE_WARMING, "\"kind\":\"pipeline_warming\""},
                 {GW_NOTE_WORKER_ADVISED, "\"kind\":\"worker_advised\""}};
    struct front_fixture *f = *state;
    struct http_client *c = fixture_admin(f);
    http_client_get(c, "/admin/events");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct gw_action action = {.type = GW_ACT_NOTE,
                                         .note = {.kind = kinds[i].kind, .worker = "w0"}};
        gw_front_on_action(f->front, &action);
        http_client_wait_for(c, kinds[i].name);
    }
    http_client_destroy(c);
}

static void test_timeline_says_where_kv_came_from(void **state)
{
    struct front_fixture *f = *state;
    struct http_client *c = fixture_admin(f);
    const struct gw_action action = {.type = GW_ACT_NOTE,
                                     .note = {.kind = GW_NOTE_REQUEST_ORIGIN,
                                              .worker = "w0",
                                              .request = 7,
                                              .attempt = 2,
                                              .left = 5,
                                              .origin = {100, 10, 60, 20}}};
    http_client_get(c, "/admin/events");
    gw_front_on_action(f->front, &action);
    http_client_wait_for(c, "\"kind\":\"request_origin\"");
    http_client_wait_for(c, "\"left\":5,\"kv_tokens\":{\"total\":100,\"cache\":10,\"peer\":60,\"store\":20,"
                            "\"recompute\":10}");
    http_client_destroy(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up_listening, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_layout_shows_pipelines_and_who_has_no_rank),
        TEST(test_layout_texts_are_escaped),
        TEST(test_force_answers_when_its_plan_is_taken),
        TEST(test_force_forced_over_is_answered_with_the_later_one),
        TEST(test_force_that_cannot_be_planned_is_503),
        TEST(test_force_wrong_bodies_are_400_in_one_line),
        TEST(test_force_waiting_when_the_front_ends_is_freed),
        TEST(test_ready_without_a_pipeline_says_why),
        TEST(test_metrics_count_pipelines_and_transitions),
        TEST(test_timeline_names_what_pipelines_do),
        TEST(test_timeline_says_where_kv_came_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
