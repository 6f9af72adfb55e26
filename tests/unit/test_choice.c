/* controller/front/choice and logprobs: text, logprobs and end of a branch are a function of its records alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/rng.h"
#include "controller/front/choice.h"

#define MODEL_DIR   "tests/models/tattler-3m"
#define RECORDS_MAX 200

struct fixture {
    struct gw_tokenizer *tokenizer;
    struct gw_openai_options options;
    struct gw_sampling sampling;
    uint32_t ids[RECORDS_MAX], stop_ids[1];
    float logprobs[RECORDS_MAX];
    struct gw_top top[RECORDS_MAX * 2];
    uint32_t len;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_int_equal(gw_tokenizer_open(MODEL_DIR, &f->tokenizer, NULL), GW_OK);
    f->options = (struct gw_openai_options){.endpoint = GW_OPENAI_CHAT, .skip_special = true, .n = 1};
    f->sampling = (struct gw_sampling){.max_tokens = 1000};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_tokenizer_close(f->tokenizer);
    free(f);
    return 0;
}

/* The records are the tokens of text. */
static void say(struct fixture *f, const char *text)
{
    uint32_t *ids;
    size_t len;
    assert_int_equal(gw_tokenizer_encode(f->tokenizer, text, strlen(text), 0, RECORDS_MAX, &ids, &len, NULL),
                     GW_OK);
    memcpy(f->ids, ids, len * sizeof *ids);
    f->len = (uint32_t)len;
    free(ids);
}

static void stop_at(struct fixture *f, const char *stop)
{
    f->options.stop[0] = (char *)(uintptr_t)stop;
    f->options.stop_len = 1;
}

struct outcome {
    struct gw_buf text, logprobs;
    uint32_t kept;
    enum gw_finish finish;
    bool stopped;
};

static void outcome_fini(struct outcome *o)
{
    gw_buf_fini(&o->text);
    gw_buf_fini(&o->logprobs);
}

static void take(struct gw_choice *c, struct outcome *o)
{
    gw_buf_put(&o->text, c->text.data, c->text.len);
    gw_buf_reset(&c->text);
}

/* Feeds all records in pieces drawn from rng (NULL: one by one), then ends the branch by length. */
static struct outcome run(const struct fixture *f, struct gw_rng *rng)
{
    struct gw_choice c;
    struct outcome o = {0};
    gw_buf_init(&o.text, 1 << 20);
    gw_buf_init(&o.logprobs, 1 << 20);
    assert_int_equal(gw_choice_init(&c, f->tokenizer, &f->options, &f->sampling), GW_OK);
    for (uint32_t at = 0; at < f->len;) {
        uint32_t n = rng ? 1 + (uint32_t)gw_rng_below(rng, 9) : 1;
        if (n > f->len - at) n = f->len - at;
        const struct gw_tokens t = {.first = at,
                                    .count = n,
                                    .top_n = f->sampling.top_logprobs,
                                    .ids = (uint32_t *)(uintptr_t)f->ids + at,
                                    .logprobs = (float *)(uintptr_t)f->logprobs + at,
                                    .top = (struct gw_top *)(uintptr_t)f->top +
                                           (size_t)at * f->sampling.top_logprobs};
        assert_int_equal(gw_choice_feed(&c, &t), GW_OK);
        take(&c, &o);
        at += n;
    }
    o.stopped = c.stopped;
    assert_int_equal(gw_choice_end(&c, GW_FINISH_LENGTH), GW_OK);
    take(&c, &o);
    gw_logprobs_take(&c.logprobs, &o.logprobs);
    o.kept = c.kept;
    o.finish = c.finish;
    gw_choice_fini(&c);
    return o;
}

static void text_is(struct outcome *o, const char *text)
{
    assert_string_equal(gw_buf_cstr(&o->text), text);
}

static void test_feed_plain_records_give_their_text(void **state)
{
    struct fixture *f = *state;
    say(f, "Caf\xc3\xa9 \xf0\x9f\x90\xa6 flies.");
    struct outcome o = run(f, NULL);
    text_is(&o, "Caf\xc3\xa9 \xf0\x9f\x90\xa6 flies.");
    assert_int_equal(o.kept, f->len);
    assert_int_equal(o.finish, GW_FINISH_LENGTH);
    outcome_fini(&o);
}

/* Random ids (bytes that form no characters, too), stop strings, logprobs: a thousand ways to cut them. */
static void test_feed_any_pieces_give_the_same_outcome(void **state)
{
    struct fixture *f = *state;
    struct gw_rng rng;
    gw_rng_init(&rng, 17);
    f->sampling.logprobs = true;
    f->sampling.top_logprobs = 2;
    for (int round = 0; round < 60; round++) {
        char stop[3] = {(char)('a' + gw_rng_below(&rng, 26)), (char)('a' + gw_rng_below(&rng, 26)), 0};
        if (gw_rng_below(&rng, 2)) stop[1] = '\0';
        stop_at(f, stop);
        f->sampling.min_tokens = (uint32_t)gw_rng_below(&rng, 30);
        f->options.include_stop = gw_rng_below(&rng, 2) == 1;
        f->len = RECORDS_MAX;
        for (uint32_t i = 0; i < f->len; i++) {
            f->ids[i] = (uint32_t)gw_rng_below(&rng, gw_tokenizer_vocab(f->tokenizer));
            f->logprobs[i] = -(float)gw_rng_unit(&rng);
            f->top[2 * i] = (struct gw_top){f->ids[i], f->logprobs[i]};
            f->top[2 * i + 1] = (struct gw_top){(uint32_t)gw_rng_below(&rng, 300), f->logprobs[i] - 1};
        }
        struct outcome one = run(f, NULL);
        for (int cut = 0; cut < 10; cut++) {
            struct outcome o = run(f, &rng);
            assert_string_equal(gw_buf_cstr(&o.text), gw_buf_cstr(&one.text));
            assert_string_equal(gw_buf_cstr(&o.logprobs), gw_buf_cstr(&one.logprobs));
            assert_true(o.kept == one.kept && o.finish == one.finish && o.stopped == one.stopped);
            outcome_fini(&o);
        }
        outcome_fini(&one);
    }
}

static void test_feed_stop_string_keeps_through_the_token_that_completes_it(void **state)
{
    struct fixture *f = *state;
    say(f, "alpha beta gamma delta");
    stop_at(f, "gam");
    struct outcome o = run(f, NULL);
    text_is(&o, "alpha beta ");
    assert_true(o.stopped && o.finish == GW_FINISH_STOP);
    assert_true(o.kept < f->len);
    /* with one record less the string is not complete */
    f->len = o.kept - 1;
    struct outcome less = run(f, NULL);
    assert_false(less.stopped);
    outcome_fini(&o);
    outcome_fini(&less);
}

static void test_feed_known_records_are_skipped_and_gaps_refused(void **state)
{
    struct fixture *f = *state;
    struct gw_choice c;
    say(f, "one two three");
    assert_true(f->len >= 3);
    assert_int_equal(gw_choice_init(&c, f->tokenizer, &f->options, &f->sampling), GW_OK);
    struct gw_tokens t = {.first = 0, .count = 2, .ids = f->ids, .logprobs = f->logprobs};
    assert_int_equal(gw_choice_feed(&c, &t), GW_OK);
    assert_int_equal(gw_choice_feed(&c, &t), GW_OK);
    assert_int_equal(c.kept, 2);
    t.count = f->len;
    assert_int_equal(gw_choice_feed(&c, &t), GW_OK);
    assert_int_equal(c.kept, f->len);
    assert_string_equal(gw_buf_cstr(&c.text), "one two three");
    t.first = f->len + 1;
    assert_int_equal(gw_choice_feed(&c, &t), GW_ERR_PROTO);
    gw_choice_fini(&c);
}

static void test_end_shows_what_was_held_back(void **state)
{
    struct fixture *f = *state;
    say(f, "to be or not to b");
    stop_at(f, "b!");
    struct outcome o = run(f, NULL);
    text_is(&o, "to be or not to b");
    assert_int_equal(o.finish, GW_FINISH_LENGTH);
    outcome_fini(&o);
}

static void test_end_unfinished_character_becomes_a_replacement(void **state)
{
    struct fixture *f = *state;
    say(f, "\xf0\x9f\x90\xa6");
    assert_true(f->len > 1);
    f->len--;
    struct outcome o = run(f, NULL);
    assert_non_null(strstr(gw_buf_cstr(&o.text), "\xef\xbf\xbd"));
    outcome_fini(&o);
}

static cJSON *logprobs_json(struct outcome *o)
{
    cJSON *tree = NULL;
    struct gw_err_ctx ctx = {0};
    if (gw_json_parse(gw_buf_cstr(&o->logprobs), o->logprobs.len, 1 << 20, &tree, &ctx) != GW_OK)
        fail_msg("%s: %s", ctx.text, gw_buf_cstr(&o->logprobs));
    return tree;
}

static void test_feed_stop_id_shows_nothing_unless_included(void **state)
{
    struct fixture *f = *state;
    say(f, "one two");
    f->stop_ids[0] = f->ids[f->len - 1];
    f->sampling.stop_ids = f->stop_ids;
    f->sampling.stop_ids_len = 1;
    f->sampling.logprobs = true;
    for (int included = 0; included < 2; included++) {
        f->options.include_stop = included;
        struct outcome o = run(f, NULL);
        text_is(&o, included ? "one two" : "one");
        cJSON *tree = logprobs_json(&o);
        uint32_t shown = f->len - (included ? 0 : 1);
        assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(tree, "content")), shown);
        assert_int_equal(o.kept, f->len); /* it counts all the same */
        cJSON_Delete(tree);
        outcome_fini(&o);
    }
}

static void test_logprobs_are_json_whatever_the_bytes_and_numbers(void **state)
{
    struct fixture *f = *state;
    f->sampling.logprobs = true;
    f->sampling.top_logprobs = 2;
    f->len = RECORDS_MAX;
    for (int form = 0; form < 2; form++) {
        f->options.endpoint = form ? GW_OPENAI_CHAT : GW_OPENAI_COMPLETIONS;
        for (uint32_t i = 0; i < f->len; i++) {
            f->ids[i] = i * 3; /* all single bytes are among them, some of no character */
            f->logprobs[i] = i % 3 == 0 ? -INFINITY : i % 3 == 1 ? NAN : -0.1f;
            f->top[2 * i] = (struct gw_top){i * 3 + 1, -0.5f};
            f->top[2 * i + 1] = (struct gw_top){4000000000u, -INFINITY};
        }
        struct outcome o = run(f, NULL);
        cJSON *tree = logprobs_json(&o);
        const cJSON *list = cJSON_GetObjectItem(tree, form ? "content" : "tokens");
        assert_int_equal(cJSON_GetArraySize(list), RECORDS_MAX);
        cJSON_Delete(tree);
        outcome_fini(&o);
    }
}

static void test_logprobs_maps_hold_the_chosen_token_and_no_key_twice(void **state)
{
    struct fixture *f = *state;
    f->options.endpoint = GW_OPENAI_COMPLETIONS;
    f->sampling.logprobs = true;
    f->sampling.top_logprobs = 2;
    say(f, "a");
    f->len = 1;
    f->logprobs[0] = -3;
    f->top[0] = (struct gw_top){f->ids[0] + 1, -1};
    f->top[1] = (struct gw_top){f->ids[0] + 1, -2};
    struct outcome o = run(f, NULL);
    cJSON *tree = logprobs_json(&o);
    const cJSON *map = cJSON_GetArrayItem(cJSON_GetObjectItem(tree, "top_logprobs"), 0);
    assert_int_equal(cJSON_GetArraySize(map), 2);
    assert_true(cJSON_GetObjectItem(map, "a")->valuedouble == -3);
    assert_true(map->child->valuedouble == -1);
    cJSON_Delete(tree);
    outcome_fini(&o);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_feed_plain_records_give_their_text),
        TEST(test_feed_any_pieces_give_the_same_outcome),
        TEST(test_feed_stop_string_keeps_through_the_token_that_completes_it),
        TEST(test_feed_known_records_are_skipped_and_gaps_refused),
        TEST(test_end_shows_what_was_held_back),
        TEST(test_end_unfinished_character_becomes_a_replacement),
        TEST(test_feed_stop_id_shows_nothing_unless_included),
        TEST(test_logprobs_are_json_whatever_the_bytes_and_numbers),
        TEST(test_logprobs_maps_hold_the_chosen_token_and_no_key_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
