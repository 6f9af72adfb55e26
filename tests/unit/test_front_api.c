/* The API over real sockets, with a fake core behind it: what clients get for what they ask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/front_fixture.h"

#define CHAT        "/v1/chat/completions"
#define COMPLETIONS "/v1/completions"
#define HELLO       "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

/* The joined text of one field, of an answer that must be 200. */
static char *text_of(struct front_fixture *f, const char *path, const char *body, const char *field)
{
    char *answer;
    int status = fixture_ask(f, path, body, &answer);
    if (status != 200) fail_msg("%d %s", status, answer);
    char *text = fixture_join(answer, field);
    free(answer);
    return text;
}

static void says(struct front_fixture *f, const char *path, const char *body, const char *field,
                 const char *wanted)
{
    char *text = text_of(f, path, body, field);
    assert_string_equal(text, wanted);
    free(text);
}

/* ---- whole answers ------------------------------------------------------------------------------------- */

static void test_chat_whole_answer_has_text_reason_and_usage(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    fixture_say(f, "Hello there.");
    assert_int_equal(fixture_ask(f, CHAT, "{\"model\":\"tattler\"," HELLO "}", &answer), 200);
    fixture_has(answer, "\"object\":\"chat.completion\"");
    fixture_has(answer, "\"id\":\"chatcmpl-");
    fixture_has(answer, "\"message\":{\"role\":\"assistant\",\"content\":\"Hello there.\"}");
    fixture_has(answer, "\"finish_reason\":\"stop\"");
    char usage[128];
    uint32_t prompt = fake_core_seen(f->core)->last_prompt_len, tokens = (uint32_t)f->script_len + 1;
    snprintf(usage, sizeof usage,
             "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u}", prompt, tokens,
             prompt + tokens);
    fixture_has(answer, usage);
    assert_int_equal(fake_core_seen(f->core)->last_max_tokens, FIXTURE_CONTEXT - prompt);
    free(answer);
}

static void test_chat_max_tokens_ends_by_length(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    assert_int_equal(fixture_ask(f, CHAT, "{" HELLO ",\"max_tokens\":3}", &answer), 200);
    fixture_has(answer, "\"finish_reason\":\"length\"");
    fixture_has(answer, "\"completion_tokens\":3,");
    free(answer);
    assert_int_equal(
        fixture_ask(f, CHAT, "{" HELLO ",\"max_completion_tokens\":2,\"max_tokens\":9}", &answer), 200);
    fixture_has(answer, "\"completion_tokens\":2,");
    free(answer);
}

static void test_completions_prompts_times_n_gives_choices_in_order(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    assert_int_equal(fixture_ask(f, COMPLETIONS,
                                 "{\"prompt\":[\"a\",\"b\",\"c\"],\"n\":2,\"max_tokens\":2,\"seed\":5}",
                                 &answer),
                     200);
    assert_int_equal(fake_core_seen(f->core)->submits, 3);
    assert_int_equal(fake_core_seen(f->core)->last_n, 2);
    assert_int_equal(fixture_count(answer, "\"index\":"), 6);
    fixture_has(answer, "{\"index\":5,");
    fixture_has(answer, "\"completion_tokens\":12,");
    fixture_has(answer, "\"object\":\"text_completion\"");
    free(answer);
}

static void test_completions_token_ids_are_prompts(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    assert_int_equal(fixture_ask(f, COMPLETIONS, "{\"prompt\":[1,2,3,4]}", &answer), 200);
    assert_int_equal(fake_core_seen(f->core)->last_prompt_len, 4);
    assert_int_equal(fake_core_seen(f->core)->last_max_tokens, 16);
    free(answer);
    assert_int_equal(fixture_ask(f, COMPLETIONS, "{\"prompt\":[[1,2],[7]]}", &answer), 200);
    assert_int_equal(fake_core_seen(f->core)->submits, 3);
    assert_int_equal(fake_core_seen(f->core)->last_prompt_len, 1);
    free(answer);
}

static void test_completions_echo_puts_the_prompt_first(void **state)
{
    struct front_fixture *f = *state;
    fixture_say(f, " and on");
    says(f, COMPLETIONS, "{\"prompt\":\"Once \\\"more\\\"\",\"echo\":true,\"max_tokens\":50}", "text",
         "Once \"more\" and on");
    says(f, COMPLETIONS, "{\"prompt\":\"Once more\",\"echo\":true,\"max_tokens\":50,\"stream\":true}", "text",
         "Once more and on");
}

static void test_chat_seed_is_drawn_anew_unless_given(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    uint64_t seeds[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fixture_ask(f, CHAT, "{" HELLO ",\"max_tokens\":1}", &answer), 200);
        seeds[i] = fake_core_seen(f->core)->last_seed;
        free(answer);
    }
    assert_true(seeds[0] != seeds[1]);
    assert_int_equal(fixture_ask(f, CHAT, "{" HELLO ",\"max_tokens\":1,\"seed\":-3}", &answer), 200);
    assert_true(fake_core_seen(f->core)->last_seed == (uint64_t)-3);
    free(answer);
}

/* ---- streams ------------------------------------------------------------------------------------------- */

static void test_chat_stream_has_role_text_finish_and_done(void **state)
{
    struct front_fixture *f = *state;
    fixture_say(f, "Hello there, stranger.");
    struct http_client *c = fixture_client(f);
    http_client_post(c, CHAT, "", "{\"stream\":true," HELLO "}");
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 200);
    fixture_has(r.head, "Content-Type: text/event-stream");
    fixture_has(r.head, "Cache-Control: no-cache");
    fixture_has(r.head, "Transfer-Encoding: chunked");
    fixture_has(r.head, "X-Request-Id: ");
    assert_memory_equal(r.body, "data: {\"id\":\"chatcmpl-", 22);
    assert_int_equal(fixture_count(r.body, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}"), 1);
    assert_int_equal(fixture_count(r.body, "\"finish_reason\":\"stop\""), 1);
    assert_int_equal(fixture_count(r.body, "data: [DONE]\n\n"), 1);
    assert_string_equal(r.body + r.body_len - 14, "data: [DONE]\n\n");
    fixture_has_not(r.body, "usage");
    char *text = fixture_join(r.body, "content");
    assert_string_equal(text, "Hello there, stranger.");
    free(text);
    http_client_destroy(c);
}

static void test_chat_stream_usage_comes_last_and_only_if_asked(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    assert_int_equal(
        fixture_ask(f, CHAT,
                    "{\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":3," HELLO
                    "}",
                    &answer),
        200);
    const char *usage = strstr(answer, "\"choices\":[],\"usage\":{");
    assert_non_null(usage);
    assert_null(strstr(usage, "\"finish_reason\""));
    fixture_has(usage, "\"completion_tokens\":3,");
    assert_true(fixture_count(answer, "\"usage\":null") >= 3);
    free(answer);
}

/* Content is a function of the records alone: however they arrive, and streamed or not, it is the same. */
static void test_chat_any_batches_and_forms_give_equal_content(void **state)
{
    struct front_fixture *f = *state;
    static const char *const bodies[] = {
        "{\"seed\":9,\"max_tokens\":60,\"stop\":[\"zz\",\"9\"]," HELLO "}",
        "{\"seed\":9,\"max_tokens\":60,\"stop\":[\"zz\",\"9\"],\"stream\":true," HELLO "}"};
    char *first = NULL;
    for (uint32_t batch = 1; batch < 40; batch += 3) {
        fake_core_plan(f->core)->batch = batch;
        for (int i = 0; i < 2; i++) {
            char *text = text_of(f, CHAT, bodies[i], "content");
            if (first) assert_string_equal(text, first);
            if (!first) first = strdup(text);
            free(text);
        }
    }
    assert_true(strlen(first) > 0);
    free(first);
}

static void test_chat_stream_n_choices_are_kept_apart(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    assert_int_equal(fixture_ask(f, CHAT, "{\"stream\":true,\"n\":3,\"max_tokens\":4," HELLO "}", &answer),
                     200);
    assert_int_equal(fixture_count(answer, "\"role\":\"assistant\""), 3);
    assert_int_equal(fixture_count(answer, "\"finish_reason\":\"length\""), 3);
    assert_int_equal(fixture_count(answer, "[DONE]"), 1);
    free(answer);
}

static void test_completions_stream_has_text_chunks(void **state)
{
    struct front_fixture *f = *state;
    fixture_say(f, "plain text");
    char *answer;
    assert_int_equal(fixture_ask(f, COMPLETIONS, "{\"stream\":true,\"prompt\":\"x\"}", &answer), 200);
    fixture_has(answer, "\"object\":\"text_completion\"");
    fixture_has_not(answer, "delta");
    char *text = fixture_join(answer, "text");
    assert_string_equal(text, "plain text");
    free(text);
    free(answer);
}

static void test_stream_silence_is_filled_with_pings(void **state)
{
    struct front_fixture *f = *state;
    fixture_end(f);
    fixture_prepare(f);
    f->config.sse_ping_us = 50 * GW_US_PER_MS;
    fixture_listen(f);
    fake_core_plan(f->core)->held = true;
    struct http_client *c = fixture_client(f);
    http_client_post(c, CHAT, "", "{\"stream\":true,\"max_tokens\":2," HELLO "}");
    http_client_wait_for(c, ": ping\n\n");
    http_client_wait_for(c, "text/event-stream");
    fake_core_plan(f->core)->held = false;
    fake_core_release(f->core);
    struct http_response r = http_client_response(c);
    fixture_has(r.body, "data: [DONE]\n\n");
    http_client_destroy(c);
}

/* ---- stop strings -------------------------------------------------------------------------------------- */

static void test_stop_string_ends_the_choice_and_tells_the_core(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    fixture_say(f, "one two three four five six");
    assert_int_equal(fixture_ask(f, CHAT, "{\"stop\":\"three\"," HELLO "}", &answer), 200);
    fixture_has(answer, "\"content\":\"one two \"");
    fixture_has(answer, "\"finish_reason\":\"stop\"");
    struct http_client *c = fixture_client(f); /* the loop has to turn for the STOP */
    http_client_wait_count(c, &fake_core_seen(f->core)->stops, 1);
    http_client_destroy(c);
    uint32_t keep = fake_core_seen(f->core)->stop_keep;
    assert_true(keep > 0 && keep < f->script_len);
    char usage[64];
    snprintf(usage, sizeof usage, "\"completion_tokens\":%u,", keep);
    fixture_has(answer, usage);
    free(answer);
    assert_int_equal(fake_core_seen(f->core)->cancels, 0);
}

/* Branch 0 says the scripted text over and over, branch 1 never does. */
static uint32_t only_branch_0(void *arg, const struct gw_request *request, uint32_t branch, uint32_t position)
{
    const struct front_fixture *f = arg;
    (void)request;
    return branch == 0 ? f->script[position % f->script_len] : 0;
}

static void test_stop_string_of_one_choice_is_told_while_others_go_on(void **state)
{
    struct front_fixture *f = *state;
    fixture_say(f, "alpha beta");
    fake_core_plan(f->core)->token = only_branch_0;
    struct http_client *c = fixture_client(f);
    http_client_post(c, CHAT, "", "{\"stream\":true,\"n\":2,\"stop\":\"beta\"," HELLO "}");
    http_client_wait_count(c, &fake_core_seen(f->core)->stops, 1);
    assert_int_equal(fake_core_seen(f->core)->stop_branch, 0);
    assert_int_equal(fake_core_live(f->core), 1);
    fixture_has_not(http_client_text(c), "[DONE]");
    fixture_has(http_client_response(c).body, "[DONE]");
    http_client_destroy(c);
}

static void test_stop_string_in_a_large_batch_keeps_the_same_count(void **state)
{
    struct front_fixture *f = *state;
    char *answers[2];
    fixture_say(f, "one two three four five six");
    for (int i = 0; i < 2; i++) {
        fake_core_plan(f->core)->batch = i ? 64 : 1;
        assert_int_equal(fixture_ask(f, CHAT, "{\"stop\":[\"wo thr\"]," HELLO "}", &answers[i]), 200);
    }
    const char *usage = strstr(answers[0], "\"usage\"");
    assert_string_equal(usage, strstr(answers[1], "\"usage\""));
    fixture_has(answers[1], "\"content\":\"one t\"");
    free(answers[0]);
    free(answers[1]);
}

static void test_stop_string_can_be_included(void **state)
{
    struct front_fixture *f = *state;
    fixture_say(f, "one two three four");
    says(f, CHAT, "{\"stop\":\"three\",\"include_stop_str_in_output\":true," HELLO "}", "content",
         "one two three");
}

static void test_stop_string_before_min_tokens_is_passed_over(void **state)
{
    struct front_fixture *f = *state;
    fixture_say(f, "a b c d e a b c d e");
    says(f, CHAT, "{\"stop\":\"c\"," HELLO "}", "content", "a b ");
    char body[256];
    snprintf(body, sizeof body, "{\"stop\":\"c\",\"min_tokens\":%zu," HELLO "}", f->script_len / 2);
    says(f, CHAT, body, "content", "a b c d e a b ");
}

static void test_stop_token_id_ends_without_its_text(void **state)
{
    struct front_fixture *f = *state;
    fixture_say(f, "one two three");
    char body[256], *answer;
    snprintf(body, sizeof body, "{\"stop_token_ids\":[%u]," HELLO "}", f->script[f->script_len - 1]);
    assert_int_equal(fixture_ask(f, CHAT, body, &answer), 200);
    fixture_has(answer, "\"finish_reason\":\"stop\"");
    fixture_has_not(answer, "three");
    snprintf(body, sizeof body, "\"completion_tokens\":%zu,", f->script_len);
    fixture_has(answer, body);
    free(answer);
}

/* ---- logprobs ------------------------------------------------------------------------------------------ */

static void test_chat_logprobs_have_bytes_and_tops(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    fixture_say(f, "Hi");
    assert_int_equal(
        fixture_ask(f, CHAT,
                    "{\"logprobs\":true,\"top_logprobs\":2,\"max_tokens\":1,\"ignore_eos\":true," HELLO "}",
                    &answer),
        200);
    fixture_has(answer, "\"logprobs\":{\"content\":[{\"token\":\"");
    fixture_has(answer, "\"logprob\":-0.25,\"bytes\":[72");
    assert_int_equal(fixture_count(answer, "\"token\":"), 3);
    free(answer);
}

static void test_completions_logprobs_have_offsets(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    assert_int_equal(
        fixture_ask(f, COMPLETIONS, "{\"prompt\":\"x\",\"logprobs\":1,\"max_tokens\":3}", &answer), 200);
    fixture_has(answer, "\"text_offset\":[0,1,2]");
    fixture_has(answer, "\"token_logprobs\":[-0.25,-0.5,-0.75]");
    free(answer);
    assert_int_equal(fixture_ask(f, COMPLETIONS, "{\"prompt\":\"x\",\"max_tokens\":3}", &answer), 200);
    fixture_has(answer, "\"logprobs\":null");
    free(answer);
}

static void test_stream_logprobs_are_those_of_the_whole_answer(void **state)
{
    struct front_fixture *f = *state;
    char *tokens[2];
    for (int i = 0; i < 2; i++) {
        fake_core_plan(f->core)->batch = i ? 3 : 1;
        char body[256];
        snprintf(body, sizeof body,
                 "{\"stream\":%s,\"logprobs\":true,\"seed\":4,\"max_tokens\":20," HELLO "}",
                 i ? "true" : "false");
        tokens[i] = text_of(f, CHAT, body, "token");
    }
    assert_string_equal(tokens[0], tokens[1]);
    assert_true(strlen(tokens[0]) >= 20);
    free(tokens[0]);
    free(tokens[1]);
}

/* ---- the rest of the API ------------------------------------------------------------------------------- */

static int get(struct front_fixture *f, const char *path, char **answer)
{
    struct http_client *c = fixture_client(f);
    http_client_get(c, path);
    struct http_response r = http_client_response(c);
    *answer = strdup(r.body);
    http_client_destroy(c);
    return r.status;
}

static void test_models_are_listed_and_found(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    assert_int_equal(get(f, "/v1/models", &answer), 200);
    fixture_has(answer, "{\"object\":\"list\",\"data\":[{\"id\":\"tattler\",\"object\":\"model\"");
    fixture_has(answer, "\"max_model_len\":512");
    free(answer);
    assert_int_equal(get(f, "/v1/models/tattler", &answer), 200);
    free(answer);
    assert_int_equal(get(f, "/v1/models/%74attler", &answer), 200);
    free(answer);
    assert_int_equal(get(f, "/v1/models/other", &answer), 404);
    fixture_has(answer, "model_not_found");
    free(answer);
}

static void test_version_health_and_ready_tell_the_state(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    assert_int_equal(get(f, "/version", &answer), 200);
    fixture_has(answer, "{\"version\":\"test\"}");
    free(answer);
    assert_int_equal(get(f, "/health", &answer), 200);
    free(answer);
    assert_int_equal(get(f, "/ready", &answer), 200);
    free(answer);
    fake_core_plan(f->core)->workers_up = 0;
    assert_int_equal(get(f, "/ready", &answer), 503);
    free(answer);
}

static void test_tokenize_and_detokenize_are_inverse(void **state)
{
    struct front_fixture *f = *state;
    char *answer, body[512];
    assert_int_equal(
        fixture_ask(f, "/tokenize", "{\"prompt\":\"Hello, world\",\"add_special_tokens\":false}", &answer),
        200);
    fixture_has(answer, "\"max_model_len\":512");
    const char *tokens = strstr(answer, "\"tokens\":");
    assert_non_null(tokens);
    snprintf(body, sizeof body, "{%s", tokens);
    free(answer);
    assert_int_equal(fixture_ask(f, "/detokenize", body, &answer), 200);
    assert_string_equal(answer, "{\"prompt\":\"Hello, world\"}");
    free(answer);
}

static void test_tokenize_messages_counts_what_chat_submits(void **state)
{
    struct front_fixture *f = *state;
    char *answer, count[32];
    assert_int_equal(fixture_ask(f, CHAT, "{" HELLO ",\"max_tokens\":1}", &answer), 200);
    free(answer);
    assert_int_equal(fixture_ask(f, "/tokenize", "{" HELLO "}", &answer), 200);
    snprintf(count, sizeof count, "{\"count\":%u,", fake_core_seen(f->core)->last_prompt_len);
    fixture_has(answer, count);
    free(answer);
}

static void test_detokenize_bad_ids_are_400(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    assert_int_equal(fixture_ask(f, "/detokenize", "{\"tokens\":[1,99999999]}", &answer), 400);
    fixture_has(answer, "\"param\":\"tokens\"");
    free(answer);
    assert_int_equal(fixture_ask(f, "/detokenize", "{\"tokens\":\"x\"}", &answer), 400);
    free(answer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up_listening, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_chat_whole_answer_has_text_reason_and_usage),
        TEST(test_chat_max_tokens_ends_by_length),
        TEST(test_completions_prompts_times_n_gives_choices_in_order),
        TEST(test_completions_token_ids_are_prompts),
        TEST(test_completions_echo_puts_the_prompt_first),
        TEST(test_chat_seed_is_drawn_anew_unless_given),
        TEST(test_chat_stream_has_role_text_finish_and_done),
        TEST(test_chat_stream_usage_comes_last_and_only_if_asked),
        TEST(test_chat_any_batches_and_forms_give_equal_content),
        TEST(test_chat_stream_n_choices_are_kept_apart),
        TEST(test_completions_stream_has_text_chunks),
        TEST(test_stream_silence_is_filled_with_pings),
        TEST(test_stop_string_ends_the_choice_and_tells_the_core),
        TEST(test_stop_string_of_one_choice_is_told_while_others_go_on),
        TEST(test_stop_string_in_a_large_batch_keeps_the_same_count),
        TEST(test_stop_string_can_be_included),
        TEST(test_stop_string_before_min_tokens_is_passed_over),
        TEST(test_stop_token_id_ends_without_its_text),
        TEST(test_chat_logprobs_have_bytes_and_tops),
        TEST(test_completions_logprobs_have_offsets),
        TEST(test_stream_logprobs_are_those_of_the_whole_answer),
        TEST(test_models_are_listed_and_found),
        TEST(test_version_health_and_ready_tell_the_state),
        TEST(test_tokenize_and_detokenize_are_inverse),
        TEST(test_tokenize_messages_counts_what_chat_submits),
        TEST(test_detokenize_bad_ids_are_400),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
