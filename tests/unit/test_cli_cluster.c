/* controller/cli: what the controller's answers become, and the picture that is drawn of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/cli/cluster_picture.h"

#define STATS                                                                                                \
    "{\"queued\":2,\"running\":5,\"tokens\":100,\"accepted\":9,\"failed\":0,\"losses\":1,"                   \
    "\"kv_tokens\":{\"cache\":1,\"peer\":2,\"store\":3,\"recompute\":4}}"
#define RANK(worker, stage, g0, g1, s0, s1, ready)                                                           \
    "{\"worker\":\"" worker "\",\"instance\":\"i-" worker "\",\"stage\":" stage ",\"groups\":[" g0 "," g1    \
    "],\"shares\":[" s0 "," s1 "],\"ready\":" ready "}"
#define WORKER(name, state)                                                                                  \
    "{\"worker\":\"" name "\",\"instance\":\"i-" name "\",\"state\":\"" state                                \
    "\",\"advised\":true,\"requests\":3,\"deadline_in_s\":12.4,\"heartbeat\":{\"steps\":4,\"step_us\":1500," \
    "\"kv_used_"                                                                                             \
    "tokens\":25,\"kv_"                                                                                      \
    "total_tokens\":100}}"

/* One pipeline of those ranks; workers w0 to w2, the last one doomed. */
static char *layout_of(const char *ranks, const char *state)
{
    char *text = NULL;
    int n = asprintf(
        &text,
        "{\"epoch\":7,\"layout\":\"3+3+2\",\"model\":\"tattler\",\"groups\":2,\"shares\":8,\"pipelines\":"
        "[{\"pipeline\":4,\"generation\":9,\"state\":\"%s\",\"requests\":1,\"kv_tokens\":100,\"context\":50,"
        "\"ranks\":[%s]}],\"unplaced\":[{\"worker\":\"w9\",\"why\":\"unknown to all\"}],"
        "\"plan\":{\"reason\":\"it pays\",\"pipelines\":1},\"load\":{\"measured_rps\":1.5,\"tokens_s\":80}}",
        state, ranks);
    assert_true(n > 0);
    return text;
}

static const char workers[] =
    "{\"workers\":[" WORKER("w2", "doomed") "," WORKER("w0", "up") "," WORKER("w1", "up") "]}";

static cJSON *parse(const char *text)
{
    cJSON *tree = NULL;
    struct gw_err_ctx ctx = {0};
    if (gw_json_parse(text, strlen(text), 1 << 20, &tree, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return tree;
}

static gw_err_t read_view_of(const char *layout, const char *workers_text, const char *stats,
                             struct cluster_view *v, struct gw_err_ctx *ctx)
{
    struct cluster_answers a = {parse(layout), parse(workers_text), parse(stats)};
    gw_err_t err = cluster_view_read(&a, v, ctx);
    cluster_answers_fini(&a);
    return err;
}

static gw_err_t read_view(const char *layout, const char *workers_text, struct cluster_view *v,
                          struct gw_err_ctx *ctx)
{
    return read_view_of(layout, workers_text, STATS, v, ctx);
}

static char *draw(const struct cluster_view *v, uint32_t columns, bool utf8)
{
    struct canvas c;
    struct gw_buf b;
    const struct cluster_rates rates = {0};
    const struct canvas_print how = {.utf8 = utf8, .line_end = "\n"};
    canvas_init(&c, columns);
    uint32_t y = cluster_picture_head(&c, 0, v, &rates);
    y = cluster_picture_pipelines(&c, y, 0, v);
    cluster_picture_workers(&c, y, 0, v);
    gw_buf_init(&b, 1 << 20);
    canvas_put(&c, &how, &b);
    assert_int_equal(c.err, GW_OK);
    char *text = strdup(gw_buf_cstr(&b));
    canvas_fini(&c);
    gw_buf_fini(&b);
    return text;
}

static void has(const char *text, const char *needle)
{
    if (!strstr(text, needle)) fail_msg("'%s' is not in\n%s", needle, text);
}

static const char three[] = RANK("w0", "0", "0", "2", "0", "3", "true") "," RANK(
    "w1", "0", "0", "2", "3", "6", "true") "," RANK("w2", "0", "0", "2", "6", "8", "false");

static void test_read_takes_what_pictures_need(void **state)
{
    (void)state;
    struct cluster_view v;
    struct gw_err_ctx ctx = {0};
    char *layout = layout_of(three, "forming");
    assert_int_equal(read_view(layout, workers, &v, &ctx), GW_OK);
    assert_int_equal(v.epoch, 7);
    assert_int_equal(v.pipelines_len, 1);
    assert_int_equal(v.pipelines[0].ranks_len, 3);
    assert_int_equal(v.pipelines[0].ranks[2].cells.s0, 6);
    assert_false(v.pipelines[0].ranks[2].ready);
    assert_string_equal(v.workers[0].worker, "w0"); /* sorted */
    assert_string_equal(v.workers[2].state, "doomed");
    assert_int_equal(v.queued, 2);
    assert_int_equal(v.losses, 1);
    cluster_view_fini(&v);
    free(layout);
}

static void test_read_cells_beyond_the_model_are_refused(void **state)
{
    (void)state;
    const char *const wrong[] = {RANK("w0", "0", "0", "3", "0", "8", "true"),
                                 RANK("w0", "0", "0", "2", "0", "9", "true"),
                                 RANK("w0", "0", "1", "1", "0", "8", "true"),
                                 RANK("w0", "0", "-1", "2", "0", "8", "true"),
                                 RANK("w0", "99", "0", "2", "0", "8", "true"),
                                 RANK("w0", "0", "0", "2", "0", "1e99", "true"),
                                 "{\"worker\":\"w0\"}",
                                 "7"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct cluster_view v;
        struct gw_err_ctx ctx = {0};
        char *layout = layout_of(wrong[i], "serving");
        assert_int_equal(read_view(layout, workers, &v, &ctx), GW_ERR_INPUT);
        has(ctx.text, "the controller's answer cannot be read");
        assert_int_equal(v.pipelines_len, 0);
        free(layout);
    }
}

static void test_read_other_documents_are_refused(void **state)
{
    (void)state;
    struct cluster_view v;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(read_view("{}", workers, &v, &ctx), GW_ERR_INPUT);
    gw_err_reset(&ctx);
    assert_int_equal(read_view("[]", "[]", &v, &ctx), GW_ERR_INPUT);
    gw_err_reset(&ctx);
    char *layout = layout_of(three, "serving");
    assert_int_equal(read_view(layout, "{\"workers\":7}", &v, &ctx), GW_ERR_INPUT);
    free(layout);
}

static void test_picture_draws_a_box_per_rank(void **state)
{
    (void)state;
    struct cluster_view v;
    struct gw_err_ctx ctx = {0};
    char *layout = layout_of(three, "serving");
    assert_int_equal(read_view(layout, workers, &v, &ctx), GW_OK);
    char *text = draw(&v, 80, true);
    has(text, "tattler · layout 3+3+2 · epoch 7 · 1 pipeline serves\n"
              "5 running, 2 waiting · 80 tokens/s, 1.5 requests/s · 0 failed, 1 worker lost\n"
              "KV of moves, in tokens: 2 moved, 3 stored, 1 cached, 4 recomputed\n"
              "it pays\n"
              "pipeline 4 · serving\n"
              "1 request, KV 25%\n"
              "groups  ┌─────┬─────┬───┐\n"
              "        │ w0  │ w1  │w2 │\n"
              "     0  │■ ■ ■│■ ■ ■│□ □│\n"
              "     1  │■ ■ ■│■ ■ ■│□ □│\n"
              "        └─────┴─────┴───┘\n");
    has(text, "i-w2     w2       goes in 12 s         4         3      1.5   25%\n");
    has(text, "i-w0     w0       up, may go           4         3      1.5   25%\n");
    free(text);
    text = draw(&v, 80, false);
    has(text, "groups  +-----+-----+---+\n"
              "        | w0  | w1  |w2 |\n"
              "     0  |# # #|# # #|. .|\n");
    free(text);
    cluster_view_fini(&v);
    free(layout);
}

#define GROUPS(spot)                                                                                         \
    "{\"queued\":0,\"capacity\":{\"wish\":3,\"spot\":{\"target\":2,\"desired\":2,\"running\":2,\"usd_h\":0." \
    "5,"                                                                                                     \
    "\"instances\":" spot "},\"on_demand\":{\"target\":1,\"desired\":1,\"running\":0,\"usd_h\":1,"           \
    "\"instances\":[{\"instance\":\"i-d-3\","                                                                \
    "\"zone\":\"z-b\",\"pending\":true,\"usd_h\":1}]}}}"

/* What an instance is and costs stands beside its worker; one without a worker has a row of its own. */
static void test_picture_shows_kinds_and_prices(void **state)
{
    (void)state;
    struct cluster_view v;
    struct gw_err_ctx ctx = {0};
    char *layout = layout_of(RANK("w0", "0", "0", "2", "0", "8", "true"), "serving");
    const char *stats = GROUPS("[{\"instance\":\"i-w0\",\"zone\":\"z-a\",\"pending\":false,\"usd_h\":0.25},"
                               "{\"instance\":\"i-w1\",\"zone\":\"z-b\",\"usd_h\":0.25}]");
    if (read_view_of(layout, workers, stats, &v, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_int_equal(v.capacity.instances_len, 3);
    char *text = draw(&v, 80, true);
    has(text, "kind     USD/h pipeline");
    has(text, "i-w0     w0       up, may go    spot     0.250        4");
    has(text, "i-d-3             boots         demand   1.000");
    assert_null(strstr(text, "no worker"));
    free(text);
    cluster_view_fini(&v);
    free(layout);
}

static void test_read_instances_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {GROUPS("7"), GROUPS("[{\"instance\":7}]"), GROUPS("[{\"usd_h\":-1}]"),
                                      GROUPS("[{\"pending\":\"yes\"}]")};
    char *layout = layout_of(RANK("w0", "0", "0", "2", "0", "8", "true"), "serving");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cluster_view v;
        struct gw_err_ctx ctx = {0};
        if (read_view_of(layout, workers, bad[i], &v, &ctx) != GW_ERR_INPUT) fail_msg("%s", bad[i]);
        assert_null(v.capacity.instances);
    }
    free(layout);
}

static void test_picture_stages_join(void **state)
{
    (void)state;
    struct cluster_view v;
    struct gw_err_ctx ctx = {0};
    char *layout =
        layout_of(RANK("w0", "0", "0", "1", "0", "3", "true") "," RANK(
                      "w1", "0", "0", "1", "3", "8", "true") "," RANK("w2", "1", "1", "2", "0", "8", "true"),
                  "serving");
    assert_int_equal(read_view(layout, workers, &v, &ctx), GW_OK);
    char *text = draw(&v, 80, true);
    has(text, "groups  ┌─────┬─────────┐\n"
              "        │ w0  │ w1      │\n"
              "     0  │■ ■ ■│■ ■ ■ ■ ■│\n"
              "        ├─────┴─────────┤\n"
              "        │ w2            │\n"
              "     1  │■ ■ ■ ■ ■ ■ ■ ■│\n"
              "        └───────────────┘\n");
    free(text);
    cluster_view_fini(&v);
    free(layout);
}

/* Long and hostile names, tiny screens: nothing is drawn outside. */
static void test_picture_fits_every_width(void **state)
{
    (void)state;
    struct cluster_view v;
    struct gw_err_ctx ctx = {0};
    char *layout = layout_of(RANK("a-very-long-name-of-a-worker-that-goes-on-and-on", "0", "0", "2", "0", "1",
                                  "true") "," RANK("\xc3\xa9\\u001b[31m", "0", "0", "2", "1", "8", "false"),
                             "forming");
    assert_int_equal(read_view(layout, workers, &v, &ctx), GW_OK);
    for (uint32_t columns = 1; columns < 200; columns += 7) {
        char *text = draw(&v, columns, false);
        for (const char *line = text; *line; line = strchr(line, '\n') + 1)
            assert_true((uint32_t)(strchr(line, '\n') - line) <= columns);
        assert_null(strchr(text, '\033'));
        free(text);
    }
    cluster_view_fini(&v);
    free(layout);
}

static void test_canvas_text_is_cut_with_an_ellipsis(void **state)
{
    (void)state;
    struct canvas c;
    struct gw_buf b;
    const struct canvas_print how = {.utf8 = true, .line_end = "|"};
    canvas_init(&c, 10);
    gw_buf_init(&b, 1000);
    assert_int_equal(canvas_text(&c, 0, 0, 4, CANVAS_PLAIN, "abcdef"), 4);
    assert_int_equal(canvas_text(&c, 0, 1, 4, CANVAS_PLAIN, "abcd"), 4);
    assert_int_equal(canvas_text(&c, 0, 2, 9, CANVAS_PLAIN, "\xff\xc3(\x01é"), 5);
    assert_int_equal(canvas_text(&c, 12, 3, 9, CANVAS_PLAIN, "outside"), 7);
    canvas_put(&c, &how, &b);
    assert_string_equal(gw_buf_cstr(&b), "abc…|abcd|\?\?(?é|");
    canvas_fini(&c);
    gw_buf_fini(&b);
}

static void test_canvas_colours_end_with_the_line(void **state)
{
    (void)state;
    struct canvas c;
    struct gw_buf b;
    const struct canvas_print how = {.colours = true, .line_end = "\n", .rows = 1};
    canvas_init(&c, 10);
    gw_buf_init(&b, 1000);
    canvas_text(&c, 0, 0, 9, CANVAS_RED, "a");
    canvas_text(&c, 0, 1, 9, CANVAS_RED, "beyond `rows`");
    canvas_put(&c, &how, &b);
    assert_string_equal(gw_buf_cstr(&b), "\033[0;31ma\033[0m\n");
    canvas_fini(&c);
    gw_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_takes_what_pictures_need),
        cmocka_unit_test(test_read_cells_beyond_the_model_are_refused),
        cmocka_unit_test(test_read_other_documents_are_refused),
        cmocka_unit_test(test_picture_draws_a_box_per_rank),
        cmocka_unit_test(test_picture_shows_kinds_and_prices),
        cmocka_unit_test(test_read_instances_that_are_none_are_refused),
        cmocka_unit_test(test_picture_stages_join),
        cmocka_unit_test(test_picture_fits_every_width),
        cmocka_unit_test(test_canvas_text_is_cut_with_an_ellipsis),
        cmocka_unit_test(test_canvas_colours_end_with_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
