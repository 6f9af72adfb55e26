/* controller/front/openai_request: what a body means, and what is refused with which status and param. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "controller/front/openai_request.h"

#define MODEL_DIR "tests/models/tattler-3m"
#define CONTEXT   256
#define HELLO     "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

struct fixture {
    struct gw_tokenizer *tokenizer;
    struct gw_chat_template *chat;
    struct gw_openai_model model;
};

static int set_up(void **state)
{
    static struct fixture f;
    assert_int_equal(gw_tokenizer_open(MODEL_DIR, &f.tokenizer, NULL), GW_OK);
    assert_int_equal(gw_chat_template_open(MODEL_DIR, &f.chat, NULL), GW_OK);
    f.model = (struct gw_openai_model){.name = "tattler",
                                       .tokenizer = f.tokenizer,
                                       .chat = f.chat,
                                       .vocab = gw_tokenizer_vocab(f.tokenizer),
                                       .context = CONTEXT};
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_chat_template_destroy(f->chat);
    gw_tokenizer_close(f->tokenizer);
    return 0;
}

static struct gw_openai_request *good(const struct fixture *f, enum gw_openai_endpoint endpoint,
                                      const char *body)
{
    struct gw_openai_request *r = NULL;
    struct gw_openai_error error = {0};
    if (gw_openai_request_parse(&f->model, endpoint, body, strlen(body), &r, &error) != GW_OK)
        fail_msg("%d %s: %s", error.status, error.message, body);
    return r;
}

/* The fields, beside a good message or prompt. */
static struct gw_openai_request *good_chat(const struct fixture *f, const char *fields)
{
    char body[8192];
    snprintf(body, sizeof body, "{" HELLO "%s%s}", *fields ? "," : "", fields);
    return good(f, GW_OPENAI_CHAT, body);
}

static void bad(const struct fixture *f, enum gw_openai_endpoint endpoint, const char *body, int status,
                const char *param)
{
    struct gw_openai_request *r = NULL;
    struct gw_openai_error error = {0};
    if (gw_openai_request_parse(&f->model, endpoint, body, strlen(body), &r, &error) == GW_OK)
        fail_msg("accepted: %s", body);
    assert_null(r);
    if (error.status != status || strcmp(error.param, param ? param : "") != 0 || !error.message[0])
        fail_msg("%d param=%s %s: %s", error.status, error.param, error.message, body);
}

static void bad_chat(const struct fixture *f, const char *fields, const char *param)
{
    char body[8192];
    snprintf(body, sizeof body, "{" HELLO ",%s}", fields);
    bad(f, GW_OPENAI_CHAT, body, 400, param);
}

static void bad_prompt(const struct fixture *f, const char *fields, const char *param)
{
    char body[8192];
    snprintf(body, sizeof body, "{\"prompt\":\"x\",%s}", fields);
    bad(f, GW_OPENAI_COMPLETIONS, body, 400, param);
}

/* ---- good ---------------------------------------------------------------------------------------------- */

static void test_parse_bare_chat_has_the_defaults(void **state)
{
    const struct fixture *f = *state;
    struct gw_openai_request *r = good_chat(f, "");
    const struct gw_sampling *s = &r->sampling;
    assert_int_equal(r->options.n, 1);
    assert_false(r->options.stream || r->options.echo || r->options.include_stop);
    assert_true(r->options.skip_special);
    assert_true(s->temperature == 1 && s->top_p == 1 && s->min_p == 0 && s->repetition_penalty == 1);
    assert_true(s->presence_penalty == 0 && s->frequency_penalty == 0);
    assert_int_equal(s->top_k, 0);
    assert_false(s->logprobs);
    size_t eos;
    (void)gw_tokenizer_eos_ids(f->tokenizer, &eos);
    assert_int_equal(s->stop_ids_len, eos);
    assert_int_equal(r->prompts_len, 1);
    assert_int_equal(r->prompts[0].max_tokens, CONTEXT - r->prompts[0].len);
    gw_openai_request_destroy(r);
}

static void test_parse_all_sampling_fields_are_taken(void **state)
{
    const struct fixture *f = *state;
    struct gw_openai_request *r = good_chat(
        f, "\"temperature\":0.5,\"top_p\":0.25,\"top_k\":7,\"min_p\":0.125,\"presence_penalty\":-2,"
           "\"frequency_penalty\":2,\"repetition_penalty\":1.5,\"seed\":-9223372036854775808,\"n\":3,"
           "\"max_tokens\":20,\"min_tokens\":4,\"logprobs\":true,\"top_logprobs\":20,\"ignore_eos\":true,"
           "\"stop_token_ids\":[5,6,5],\"logit_bias\":{\"3\":-100,\"4\":1.5},\"user\":\"me\","
           "\"skip_special_tokens\":false,\"include_stop_str_in_output\":true,\"stream\":true,"
           "\"stream_options\":{\"include_usage\":true},\"unknown\":{\"a\":[1]},\"metadata\":{}");
    const struct gw_sampling *s = &r->sampling;
    assert_true(s->temperature == 0.5f && s->top_p == 0.25f && s->min_p == 0.125f);
    assert_true(s->presence_penalty == -2 && s->frequency_penalty == 2 && s->repetition_penalty == 1.5f);
    assert_int_equal(s->top_k, 7);
    assert_int_equal(s->min_tokens, 4);
    assert_int_equal(s->top_logprobs, 20);
    assert_true(s->logprobs);
    assert_int_equal(s->stop_ids_len, 2);
    assert_int_equal(s->stop_ids[0], 5);
    assert_int_equal(s->stop_ids[1], 6);
    assert_int_equal(s->bias_len, 2);
    assert_int_equal(s->bias[1].id, 4);
    assert_true(s->bias[0].bias == -100 && s->bias[1].bias == 1.5f);
    assert_int_equal(r->options.n, 3);
    assert_true(r->options.stream && r->options.include_usage && r->options.include_stop);
    assert_false(r->options.skip_special);
    assert_true(r->prompts[0].seed == 0x8000000000000000u);
    assert_int_equal(r->prompts[0].max_tokens, 20);
    gw_openai_request_destroy(r);
}

static void test_parse_null_fields_are_absent_ones(void **state)
{
    const struct fixture *f = *state;
    struct gw_openai_request *r = good_chat(
        f, "\"temperature\":null,\"stop\":null,\"seed\":null,\"logit_bias\":null,\"n\":null,\"tools\":null,"
           "\"response_format\":null,\"stream_options\":null,\"max_tokens\":null,\"top_logprobs\":null");
    assert_true(r->sampling.temperature == 1);
    assert_int_equal(r->options.n, 1);
    gw_openai_request_destroy(r);
}

static void test_parse_what_means_nothing_is_accepted(void **state)
{
    const struct fixture *f = *state;
    gw_openai_request_destroy(good_chat(f,
                                        "\"tools\":[],\"tool_choice\":\"none\",\"best_of\":1,\"suffix\":\"\","
                                        "\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"],"
                                        "\"use_beam_search\":false,\"top_k\":-1,\"model\":\"tattler\""));
}

static void test_parse_top_k_beyond_the_vocabulary_is_all(void **state)
{
    const struct fixture *f = *state;
    struct gw_openai_request *r = good_chat(f, "\"top_k\":2000000");
    assert_int_equal(r->sampling.top_k, 0);
    gw_openai_request_destroy(r);
}

static void same_ids(const struct fixture *f, const char *body_a, const char *body_b)
{
    struct gw_openai_request *a = good(f, GW_OPENAI_CHAT, body_a), *b = good(f, GW_OPENAI_CHAT, body_b);
    assert_int_equal(a->prompts[0].len, b->prompts[0].len);
    assert_memory_equal(a->prompts[0].ids, b->prompts[0].ids, a->prompts[0].len * sizeof(uint32_t));
    gw_openai_request_destroy(a);
    gw_openai_request_destroy(b);
}

static void test_parse_content_parts_are_joined_by_line_ends(void **state)
{
    same_ids(*state,
             "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one\"},{\"type\":"
             "\"text\","
             "\"text\":\"two\"}]}]}",
             "{\"messages\":[{\"role\":\"user\",\"content\":\"one\\ntwo\"}]}");
}

static void test_parse_developer_is_system_and_null_is_empty(void **state)
{
    same_ids(
        *state,
        "{\"messages\":[{\"role\":\"developer\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":null}]"
        "}",
        "{\"messages\":[{\"role\":\"system\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"\"}]}");
}

static void test_parse_prompts_of_all_forms(void **state)
{
    const struct fixture *f = *state;
    static const struct {
        const char *body;
        uint32_t prompts, last_len;
    } cases[] = {{"{\"prompt\":[7,8,9]}", 1, 3},
                 {"{\"prompt\":[[7],[8,9]]}", 2, 2},
                 {"{\"prompt\":[\"a\",\"b\"]}", 2, 2},
                 {"{\"prompt\":[7.0]}", 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gw_openai_request *r = good(f, GW_OPENAI_COMPLETIONS, cases[i].body);
        assert_int_equal(r->prompts_len, cases[i].prompts);
        assert_int_equal(r->prompts[r->prompts_len - 1].len, cases[i].last_len);
        assert_int_equal(r->prompts[0].max_tokens, 16);
        gw_openai_request_destroy(r);
    }
}

static void test_parse_unseeded_prompts_get_seeds_of_their_own(void **state)
{
    const struct fixture *f = *state;
    struct gw_openai_request *r = good(f, GW_OPENAI_COMPLETIONS, "{\"prompt\":[\"a\",\"a\"]}");
    assert_true(r->prompts[0].seed != r->prompts[1].seed);
    gw_openai_request_destroy(r);
    r = good(f, GW_OPENAI_COMPLETIONS, "{\"prompt\":[\"a\",\"a\"],\"seed\":7}");
    assert_true(r->prompts[0].seed == 7 && r->prompts[1].seed == 7);
    gw_openai_request_destroy(r);
}

static void test_core_request_is_whole_and_checked(void **state)
{
    const struct fixture *f = *state;
    struct gw_openai_request *r =
        good(f, GW_OPENAI_COMPLETIONS, "{\"prompt\":[[1,2],[3]],\"n\":2,\"max_tokens\":9}");
    const uint8_t tenant[GW_REQUEST_TENANT_BYTES] = {1, 2, 3};
    struct gw_request *core = NULL;
    assert_int_equal(gw_openai_request_core(r, 1, 77, tenant, &core), GW_OK);
    gw_openai_request_destroy(r);
    assert_int_equal(core->id, 77);
    assert_int_equal(core->n, 2);
    assert_int_equal(core->prompt_len, 1);
    assert_int_equal(core->prompt[0], 3);
    assert_int_equal(core->sampling.max_tokens, 9);
    assert_memory_equal(core->tenant, tenant, sizeof tenant);
    assert_int_equal(gw_request_check(core, f->model.vocab, CONTEXT, NULL), GW_OK);
    gw_request_destroy(core);
}

/* ---- bad ----------------------------------------------------------------------------------------------- */

static void test_parse_broken_json_is_400(void **state)
{
    const struct fixture *f = *state;
    static const char *const bodies[] = {"",
                                         "{",
                                         "[]",
                                         "\"x\"",
                                         "null",
                                         "{\"messages\":[}",
                                         "{} x",
                                         "{\"seed\":NaN," HELLO "}",
                                         "{\"temperature\":1e999," HELLO "}",
                                         "{\"temperature\":Infinity," HELLO "}",
                                         "{\"temperature\":-Infinity," HELLO "}",
                                         "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}",
                                         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"}]}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        bad(f, GW_OPENAI_CHAT, bodies[i], 400, NULL);
    /* an escaped backslash before u0000 is text */
    gw_openai_request_destroy(
        good(f, GW_OPENAI_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\\\u0000b\"}]}"));
}

static void test_parse_deep_json_is_400(void **state)
{
    char body[300] = "{\"x\":";
    memset(body + 5, '[', 200);
    bad(*state, GW_OPENAI_CHAT, body, 400, NULL);
}

static void test_parse_other_model_is_404(void **state)
{
    bad(*state, GW_OPENAI_CHAT, "{\"model\":\"gpt-4\"," HELLO "}", 404, "model");
    bad_chat(*state, "\"model\":7", "model");
}

static void test_parse_bad_messages_are_400(void **state)
{
    static const char *const messages[] = {
        "7",
        "{}",
        "[]",
        "[7]",
        "[{}]",
        "[{\"role\":\"user\"}]",
        "[{\"role\":\"user\",\"content\":null}]",
        "[{\"role\":\"user\",\"content\":7}]",
        "[{\"role\":\"king\",\"content\":\"x\"}]",
        "[{\"role\":7,\"content\":\"x\"}]",
        "[{\"content\":\"x\"}]",
        "[{\"role\":\"user\",\"content\":[7]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"http://x\"}}]}]",
        "[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"1\"}]}]",
    };
    char body[512];
    bad(*state, GW_OPENAI_CHAT, "{}", 400, "messages");
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        snprintf(body, sizeof body, "{\"messages\":%s}", messages[i]);
        bad(*state, GW_OPENAI_CHAT, body, 400, "messages");
    }
}

static void test_parse_bad_prompts_are_400(void **state)
{
    static const char *const prompts[] = {"7",      "{}",          "true",        "[]",          "[[]]",
                                          "[true]", "[1,\"a\"]",   "[\"a\",1]",   "[-1]",        "[1.5]",
                                          "[1e9]",  "[[1],[2.5]]", "[\"a\",[1]]", "[[1],\"a\"]", "[99999]"};
    char body[256];
    bad(*state, GW_OPENAI_COMPLETIONS, "{}", 400, "prompt");
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        snprintf(body, sizeof body, "{\"prompt\":%s}", prompts[i]);
        bad(*state, GW_OPENAI_COMPLETIONS, body, 400, "prompt");
    }
}

static void test_parse_wrong_types_and_ranges_name_the_field(void **state)
{
    static const struct {
        const char *fields, *param;
    } cases[] = {
        {"\"temperature\":\"hot\"", "temperature"},
        {"\"temperature\":-0.1", "temperature"},
        {"\"temperature\":2.1", "temperature"},
        {"\"temperature\":true", "temperature"},
        {"\"top_p\":0", "top_p"},
        {"\"top_p\":1.1", "top_p"},
        {"\"top_k\":-2", "top_k"},
        {"\"top_k\":1.5", "top_k"},
        {"\"min_p\":-1", "min_p"},
        {"\"presence_penalty\":3", "presence_penalty"},
        {"\"frequency_penalty\":-3", "frequency_penalty"},
        {"\"repetition_penalty\":0", "repetition_penalty"},
        {"\"seed\":1.5", "seed"},
        {"\"seed\":\"x\"", "seed"},
        {"\"seed\":1e30", "seed"},
        {"\"n\":0", "n"},
        {"\"n\":129", "n"},
        {"\"n\":1e12", "n"},
        {"\"n\":\"2\"", "n"},
        {"\"max_tokens\":0", "max_tokens"},
        {"\"max_tokens\":-1", "max_tokens"},
        {"\"max_tokens\":1e6", "max_tokens"},
        {"\"max_tokens\":1.5", "max_tokens"},
        {"\"max_completion_tokens\":100000", "max_completion_tokens"},
        {"\"max_tokens\":5,\"min_tokens\":6", "min_tokens"},
        {"\"min_tokens\":-1", "min_tokens"},
        {"\"stop\":7", "stop"},
        {"\"stop\":[7]", "stop"},
        {"\"stop\":\"\"", "stop"},
        {"\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\",\"e\","
         "\"f\",\"g\",\"h\"]",
         "stop"},
        {"\"stop_token_ids\":7", "stop_token_ids"},
        {"\"stop_token_ids\":[-1]", "stop_token_ids"},
        {"\"stop_token_ids\":[99999]", "stop_token_ids"},
        {"\"logit_bias\":[]", "logit_bias"},
        {"\"logit_bias\":{\"x\":1}", "logit_bias"},
        {"\"logit_bias\":{\"-1\":1}", "logit_bias"},
        {"\"logit_bias\":{\"99999\":1}", "logit_bias"},
        {"\"logit_bias\":{\"1\":101}", "logit_bias"},
        {"\"logit_bias\":{\"1\":\"x\"}", "logit_bias"},
        {"\"logit_bias\":{\"1\":1,\"01\":2}", "logit_bias"},
        {"\"logprobs\":2", "logprobs"},
        {"\"top_logprobs\":2", "top_logprobs"},
        {"\"logprobs\":true,\"top_logprobs\":21", "top_logprobs"},
        {"\"stream\":1", "stream"},
        {"\"stream\":true,\"stream_options\":7", "stream_options"},
        {"\"stream_options\":{\"include_usage\":true}", "stream_options"},
        {"\"stream\":true,\"stream_options\":{\"include_usage\":1}", "include_usage"},
        {"\"ignore_eos\":\"yes\"", "ignore_eos"},
        {"\"skip_special_tokens\":1", "skip_special_tokens"},
        {"\"best_of\":2", "best_of"},
        {"\"n\":2,\"best_of\":1", "best_of"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        bad_chat(*state, cases[i].fields, cases[i].param);
}

static void test_parse_what_is_not_built_yet_is_refused_by_name(void **state)
{
    static const struct {
        const char *fields, *param;
    } cases[] = {
        {"\"tools\":[{\"type\":\"function\"}]", "tools"},
        {"\"tool_choice\":\"auto\"", "tool_choice"},
        {"\"tool_choice\":{\"type\":\"function\"}", "tool_choice"},
        {"\"functions\":[{\"name\":\"x\"}]", "functions"},
        {"\"response_format\":{\"type\":\"json_object\"}", "response_format"},
        {"\"response_format\":{\"type\":\"json_schema\"}", "response_format"},
        {"\"response_format\":\"json\"", "response_format"},
        {"\"guided_regex\":\"a+\"", "guided_regex"},
        {"\"modalities\":[\"text\",\"audio\"]", "modalities"},
        {"\"use_beam_search\":true", "use_beam_search"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        bad_chat(*state, cases[i].fields, cases[i].param);
    bad_prompt(*state, "\"suffix\":\"end\"", "suffix");
    bad_prompt(*state, "\"echo\":true,\"logprobs\":1", "echo");
    bad_prompt(*state, "\"logprobs\":true", "logprobs");
    bad_prompt(*state, "\"logprobs\":21", "logprobs");
}

static void long_prompt(char *body, size_t size, size_t words)
{
    size_t at = (size_t)snprintf(body, size, "{\"prompt\":[");
    for (size_t i = 0; i < words; i++) at += (size_t)snprintf(body + at, size - at, "%s7", i ? "," : "");
    snprintf(body + at, size - at, "],\"max_tokens\":1}");
}

static void test_parse_prompt_must_leave_room_for_one_token(void **state)
{
    const struct fixture *f = *state;
    char body[8192];
    long_prompt(body, sizeof body, CONTEXT - 1);
    gw_openai_request_destroy(good(f, GW_OPENAI_COMPLETIONS, body));
    struct gw_openai_request *r = NULL;
    struct gw_openai_error error = {0};
    for (size_t extra = 0; extra < 3; extra++) {
        long_prompt(body, sizeof body, CONTEXT + extra);
        assert_int_equal(
            gw_openai_request_parse(&f->model, GW_OPENAI_COMPLETIONS, body, strlen(body), &r, &error),
            GW_ERR_INPUT);
        assert_int_equal(error.status, 400);
        assert_string_equal(error.code, "context_length_exceeded");
        assert_string_equal(error.param, "prompt");
    }
}

static void test_parse_too_many_choices_are_400(void **state)
{
    char body[8192];
    size_t at = (size_t)snprintf(body, sizeof body, "{\"n\":128,\"prompt\":[\"a\"");
    for (int i = 1; i < 9; i++) at += (size_t)snprintf(body + at, sizeof body - at, ",\"a\"");
    snprintf(body + at, sizeof body - at, "]}");
    bad(*state, GW_OPENAI_COMPLETIONS, body, 400, "n");
}

/* A template may write the day: it does so when the request arrives, and the day is part of the prompt. */
static void test_parse_chat_template_may_write_the_day(void **state)
{
    const struct fixture *f = *state;
    static const char source[] = "{{ strftime_now('%Y') }}";
    struct gw_openai_model model = f->model;
    struct gw_chat_template *chat = NULL;
    struct gw_openai_request *r = NULL;
    struct gw_openai_error error = {0};
    struct gw_buf text;
    char year[8];
    time_t now = time(NULL);
    gw_buf_init(&text, 64);
    assert_int_equal(gw_chat_template_create(source, strlen(source), &chat, NULL), GW_OK);
    model.chat = chat;
    assert_int_equal(
        gw_openai_request_parse(&model, GW_OPENAI_CHAT, "{" HELLO "}", strlen("{" HELLO "}"), &r, &error),
        GW_OK);
    for (uint32_t i = 0; i < r->prompts[0].len; i++) {
        size_t len;
        const char *bytes = gw_tokenizer_bytes(f->tokenizer, r->prompts[0].ids[i], &len);
        gw_buf_put(&text, bytes, len);
    }
    strftime(year, sizeof year, "%Y", gmtime(&now));
    assert_string_equal(gw_buf_cstr(&text), year);
    gw_buf_fini(&text);
    gw_openai_request_destroy(r);
    gw_chat_template_destroy(chat);
}

static void test_parse_chat_without_template_is_400(void **state)
{
    struct fixture f = *(struct fixture *)*state;
    f.model.chat = NULL;
    bad(&f, GW_OPENAI_CHAT, "{" HELLO "}", 400, "messages");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_bare_chat_has_the_defaults),
        cmocka_unit_test(test_parse_all_sampling_fields_are_taken),
        cmocka_unit_test(test_parse_null_fields_are_absent_ones),
        cmocka_unit_test(test_parse_what_means_nothing_is_accepted),
        cmocka_unit_test(test_parse_top_k_beyond_the_vocabulary_is_all),
        cmocka_unit_test(test_parse_content_parts_are_joined_by_line_ends),
        cmocka_unit_test(test_parse_developer_is_system_and_null_is_empty),
        cmocka_unit_test(test_parse_prompts_of_all_forms),
        cmocka_unit_test(test_parse_unseeded_prompts_get_seeds_of_their_own),
        cmocka_unit_test(test_core_request_is_whole_and_checked),
        cmocka_unit_test(test_parse_broken_json_is_400),
        cmocka_unit_test(test_parse_deep_json_is_400),
        cmocka_unit_test(test_parse_other_model_is_404),
        cmocka_unit_test(test_parse_bad_messages_are_400),
        cmocka_unit_test(test_parse_bad_prompts_are_400),
        cmocka_unit_test(test_parse_wrong_types_and_ranges_name_the_field),
        cmocka_unit_test(test_parse_what_is_not_built_yet_is_refused_by_name),
        cmocka_unit_test(test_parse_prompt_must_leave_room_for_one_token),
        cmocka_unit_test(test_parse_too_many_choices_are_400),
        cmocka_unit_test(test_parse_chat_template_may_write_the_day),
        cmocka_unit_test(test_parse_chat_without_template_is_400),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
