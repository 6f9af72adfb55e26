/* controller/text/detok: ids become whole characters, the same ones as if all bytes were decoded at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "controller/text/detok.h"
#include "tests/lib/text_goldens.h"

#define MODEL_DIR "tests/models/tattler-3m"
#define GOLDENS   "tests/data/text/tokenizer.json"
#define OUT_MAX   (16u << 20)

static int open_model(void **state)
{
    struct gw_tokenizer *t = NULL;
    if (gw_tokenizer_open(MODEL_DIR, &t, NULL) != GW_OK) return -1;
    *state = t;
    return 0;
}

static int close_model(void **state)
{
    gw_tokenizer_close(*state);
    return 0;
}

/* The id of the token that is exactly this one byte. */
static uint32_t id_of_byte(const struct gw_tokenizer *t, uint8_t byte)
{
    for (uint32_t id = 0; id < gw_tokenizer_vocab(t); id++) {
        size_t len;
        const char *bytes = gw_tokenizer_bytes(t, id, &len);
        if (len == 1 && (uint8_t)bytes[0] == byte) return id;
    }
    fail_msg("no token for byte %u", byte);
    return 0;
}

/* Pushes bytes one token each; checks after each push that what is out is whole characters. */
static void assert_decodes(const struct gw_tokenizer *t, const char *bytes, size_t len, const char *want)
{
    struct gw_detok d;
    struct gw_buf out;
    gw_buf_init(&out, OUT_MAX);
    gw_detok_init(&d, t, true);
    for (size_t i = 0; i < len; i++) {
        gw_detok_push(&d, id_of_byte(t, (uint8_t)bytes[i]), &out);
        assert_true(gw_utf8_valid((const char *)out.data, out.len));
    }
    gw_detok_finish(&d, &out);
    assert_string_equal(gw_buf_cstr(&out), want);
    gw_buf_fini(&out);
}

static void test_push_characters_wait_until_they_are_whole(void **state)
{
    assert_decodes(*state, "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\xA6\x86.", 11, "aé€🦆.");
}

/* Each case as Python's bytes.decode("utf-8", "replace") gives it. */
static void test_push_malformed_bytes_become_one_replacement_per_maximal_part(void **state)
{
    assert_decodes(*state, "\xFF", 1, "\uFFFD");
    assert_decodes(*state, "\xC3(", 2, "\uFFFD(");
    assert_decodes(*state, "\xE2\x82(", 3, "\uFFFD(");
    assert_decodes(*state, "\xF0\x9F\xA6", 3, "\uFFFD");
    assert_decodes(*state, "\xF0\x9F\xA6\xF0\x9F\xA6\x86", 7, "\uFFFD🦆");
    assert_decodes(*state, "\xC0\x80", 2, "\uFFFD\uFFFD");
    assert_decodes(*state, "\xED\xA0\x80", 3, "\uFFFD\uFFFD\uFFFD");
    assert_decodes(*state, "\xE2\xC3\xA9", 3, "\uFFFDé");
    assert_decodes(*state, "\x80\x80x", 3, "\uFFFD\uFFFDx");
    assert_decodes(*state, "\xF4\x90\x80\x80", 4, "\uFFFD\uFFFD\uFFFD\uFFFD");
}

static void test_push_special_tokens_are_skipped_or_shown(void **state)
{
    const struct gw_tokenizer *t = *state;
    size_t len;
    uint32_t eos = gw_tokenizer_eos_ids(t, &len)[0];
    for (int skip = 0; skip < 2; skip++) {
        struct gw_detok d;
        struct gw_buf out;
        gw_buf_init(&out, OUT_MAX);
        gw_detok_init(&d, t, skip);
        gw_detok_push(&d, id_of_byte(t, 'x'), &out);
        gw_detok_push(&d, eos, &out);
        const char *text = gw_tokenizer_bytes(t, eos, &len);
        assert_int_equal(out.len, skip ? 1 : 1 + len);
        if (!skip) assert_memory_equal(out.data + 1, text, len);
        gw_buf_fini(&out);
    }
}

static void test_push_ids_out_of_range_give_nothing(void **state)
{
    struct gw_detok d;
    struct gw_buf out;
    gw_buf_init(&out, OUT_MAX);
    gw_detok_init(&d, *state, true);
    gw_detok_push(&d, gw_tokenizer_vocab(*state), &out);
    gw_detok_push(&d, UINT32_MAX, &out);
    gw_detok_finish(&d, &out);
    assert_int_equal(out.len, 0);
    gw_buf_fini(&out);
}

static void test_push_goldens_equal_the_reference(void **state)
{
    cJSON *cases = goldens_read(GOLDENS), *item, *id;
    assert_true(cJSON_GetArraySize(cases) > 100);
    cJSON_ArrayForEach(item, cases)
    {
        struct gw_detok d;
        struct gw_buf out;
        gw_buf_init(&out, OUT_MAX);
        gw_detok_init(&d, *state, false);
        cJSON_ArrayForEach(id, cJSON_GetObjectItem(item, "ids"))
            gw_detok_push(&d, (uint32_t)id->valuedouble, &out);
        gw_detok_finish(&d, &out);
        size_t len = goldens_text_len(*state, cJSON_GetObjectItem(item, "ids"));
        assert_int_equal(out.len, len);
        assert_memory_equal(gw_buf_cstr(&out), cJSON_GetObjectItem(item, "decoded")->valuestring, len);
        gw_buf_fini(&out);
    }
    cJSON_Delete(cases);
}

/* Random ids: what has been shown never changes, and is always whole characters. */
static void test_push_random_ids_give_valid_text_only(void **state)
{
    struct gw_rng rng;
    gw_rng_init(&rng, 5);
    struct gw_detok d;
    struct gw_buf out;
    gw_buf_init(&out, OUT_MAX);
    gw_detok_init(&d, *state, false);
    for (int i = 0; i < 3000; i++) {
        gw_detok_push(&d, (uint32_t)gw_rng_below(&rng, gw_tokenizer_vocab(*state)), &out);
        assert_true(gw_utf8_valid((const char *)out.data, out.len));
        if (out.len > 4096) gw_buf_reset(&out);
    }
    gw_detok_finish(&d, &out);
    assert_true(gw_utf8_valid((const char *)out.data, out.len));
    gw_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push_characters_wait_until_they_are_whole),
        cmocka_unit_test(test_push_malformed_bytes_become_one_replacement_per_maximal_part),
        cmocka_unit_test(test_push_special_tokens_are_skipped_or_shown),
        cmocka_unit_test(test_push_ids_out_of_range_give_nothing),
        cmocka_unit_test(test_push_goldens_equal_the_reference),
        cmocka_unit_test(test_push_random_ids_give_valid_text_only),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
