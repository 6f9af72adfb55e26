/* controller/front/stream_codec: a stream's pieces come back as they were, and what no writer makes is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "controller/front/stream_codec.h"
#include "controller/front/stream_log.h"

static uint32_t ids[2][3] = {{1, 2, 3}, {4, 5, 6}};
static uint32_t stop_ids[] = {9};
static struct gw_logit_bias bias[] = {{7, 1.5f}};
static uint64_t core_ids[] = {11, 12};

static struct gw_openai_prompt prompts[] = {
    {.ids = ids[0], .len = 3, .seed = 77, .max_tokens = 10, .text = "abc", .text_len = 3},
    {.ids = ids[1], .len = 2, .seed = 78, .max_tokens = 20},
};

static struct gw_openai_request request_of_two(void)
{
    struct gw_openai_request r = {.options = {.endpoint = GW_OPENAI_COMPLETIONS,
                                              .stream = true,
                                              .include_usage = true,
                                              .echo = true,
                                              .n = 2},
                                  .sampling = {.temperature = 0.5f,
                                               .top_p = 0.9f,
                                               .repetition_penalty = 1,
                                               .max_tokens = 10,
                                               .logprobs = true,
                                               .top_logprobs = 2,
                                               .stop_ids = stop_ids,
                                               .stop_ids_len = 1,
                                               .bias = bias,
                                               .bias_len = 1},
                                  .prompts = prompts,
                                  .prompts_len = 2};
    r.options.stop[0] = "END";
    r.options.stop[1] = "\n\n";
    r.options.stop_len = 2;
    return r;
}

static void encode(struct gw_buf *b)
{
    struct gw_openai_request r = request_of_two();
    struct gw_stream_begin begin = {
        .id = "cmpl-0123abcd", .created = 1234567890, .request = &r, .ids = core_ids};
    memset(begin.fingerprint, 3, sizeof begin.fingerprint);
    memset(begin.tenant, 5, sizeof begin.tenant);
    gw_buf_init(b, GW_STREAM_PIECE_MAX);
    assert_int_equal(gw_stream_put_begin(b, &begin), GW_OK);
}

static void test_begin_comes_back_as_it_was(void **state)
{
    (void)state;
    struct gw_buf b;
    struct gw_stream_begin got;
    encode(&b);
    assert_int_equal(gw_stream_get_begin(b.data, b.len, &got), GW_OK);
    const struct gw_openai_request *r = got.request;
    assert_string_equal(got.id, "cmpl-0123abcd");
    assert_int_equal(got.created, 1234567890);
    assert_int_equal(got.tenant[15], 5);
    assert_int_equal(got.fingerprint[0], 3);
    assert_int_equal(got.ids[1], 12);
    assert_int_equal(r->options.endpoint, GW_OPENAI_COMPLETIONS);
    assert_true(r->options.stream && r->options.include_usage && r->options.echo);
    assert_false(r->options.include_stop || r->options.skip_special);
    assert_int_equal(r->options.n, 2);
    assert_int_equal(r->options.stop_len, 2);
    assert_string_equal(r->options.stop[1], "\n\n");
    assert_int_equal(r->prompts_len, 2);
    assert_memory_equal(r->prompts[0].text, "abc", 3);
    assert_null(r->prompts[1].text);
    assert_int_equal(r->prompts[0].ids[2], 3);
    assert_int_equal(r->prompts[1].seed, 78);
    assert_int_equal(r->prompts[1].max_tokens, 20);
    assert_int_equal(r->sampling.top_logprobs, 2);
    assert_int_equal(r->sampling.stop_ids[0], 9);
    assert_int_equal(r->sampling.bias[0].id, 7);
    assert_true(r->sampling.top_p > 0.89f && r->sampling.top_p < 0.91f);
    gw_stream_begin_fini(&got);
    gw_buf_fini(&b);
}

static void test_begin_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct gw_buf b;
    struct gw_stream_begin got;
    encode(&b);
    for (size_t len = 0; len < b.len; len++) {
        uint8_t *piece = malloc(len ? len : 1);
        assert_non_null(piece);
        memcpy(piece, b.data, len);
        assert_int_equal(gw_stream_get_begin(piece, len, &got), GW_ERR_PROTO);
        free(piece);
    }
    gw_buf_u8(&b, 0);
    assert_int_equal(gw_stream_get_begin(b.data, b.len, &got), GW_ERR_PROTO);
    gw_buf_fini(&b);
}

static void test_begin_of_another_version_or_with_odd_values_is_refused(void **state)
{
    (void)state;
    struct gw_buf b;
    struct gw_stream_begin got;
    static const struct {
        size_t at;
        uint8_t value;
    } odd[] = {{0, 2}, {1, 2}, {2, 3}, {3, 16}, {28, 0}, {32, 'A'}, {32, '/'}};
    encode(&b);
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        uint8_t before = b.data[odd[i].at];
        b.data[odd[i].at] = odd[i].value;
        assert_int_equal(gw_stream_get_begin(b.data, b.len, &got), GW_ERR_PROTO);
        b.data[odd[i].at] = before;
    }
    assert_int_equal(gw_stream_get_begin(b.data, b.len, &got), GW_OK);
    gw_stream_begin_fini(&got);
    gw_buf_fini(&b);
}

static void test_tokens_come_back_as_they_were(void **state)
{
    (void)state;
    float logprobs[] = {-0.5f, -1};
    struct gw_top top[] = {{1, -0.5f}, {2, -2}, {3, -1}, {4, -3}};
    const struct gw_tokens t = {
        .first = 4, .count = 2, .top_n = 2, .ids = ids[0], .logprobs = logprobs, .top = top};
    struct gw_stream_tokens got;
    struct gw_buf b;
    gw_buf_init(&b, 1000);
    gw_stream_put_tokens(&b, 11, 1, "cpu-f32-1", &t);
    assert_int_equal(b.err, GW_OK);
    assert_int_equal(gw_stream_get_tokens(b.data, b.len, &got), GW_OK);
    const struct gw_msg_tokens *m = &got.msg.tokens;
    assert_string_equal(got.profile, "cpu-f32-1");
    assert_int_equal(m->request, 11);
    assert_int_equal(m->branch, 1);
    assert_int_equal(m->tokens.first, 4);
    assert_int_equal(m->tokens.ids[1], 2);
    assert_int_equal(m->tokens.top[3].id, 4);
    gw_msg_fini(&got.msg);
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(gw_stream_get_tokens(b.data, len, &got), GW_ERR_PROTO);
    gw_buf_fini(&b);
}

static void test_log_skips_what_it_has_and_refuses_a_gap(void **state)
{
    (void)state;
    float logprobs[3] = {0};
    struct gw_stream_log log = {0};
    const struct gw_tokens first = {.first = 0, .count = 2, .ids = ids[0], .logprobs = logprobs},
                           overlap = {.first = 1, .count = 3, .ids = ids[1], .logprobs = logprobs},
                           gap = {.first = 5, .count = 1, .ids = ids[1], .logprobs = logprobs},
                           wider = {.first = 4, .count = 1, .top_n = 1, .ids = ids[1], .logprobs = logprobs};
    assert_int_equal(gw_stream_log_append(&log, &first), GW_OK);
    assert_int_equal(gw_stream_log_append(&log, &first), GW_OK);
    assert_int_equal(log.len, 2);
    assert_int_equal(gw_stream_log_append(&log, &overlap), GW_OK);
    assert_int_equal(log.len, 4);
    assert_int_equal(gw_stream_log_view(&log, 2, 4).ids[0], 5);
    assert_int_equal(gw_stream_log_append(&log, &gap), GW_ERR_PROTO);
    assert_int_equal(gw_stream_log_append(&log, &wider), GW_ERR_PROTO);
    assert_int_equal(log.len, 4);
    assert_true(gw_stream_log_bytes(&log) >= 32);
    gw_stream_log_fini(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_begin_comes_back_as_it_was),
        cmocka_unit_test(test_begin_cut_anywhere_is_refused),
        cmocka_unit_test(test_begin_of_another_version_or_with_odd_values_is_refused),
        cmocka_unit_test(test_tokens_come_back_as_they_were),
        cmocka_unit_test(test_log_skips_what_it_has_and_refuses_a_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
