/* controller/text/tokenizer, files: what kinds of tokenizer.json and config files are taken, and that broken ones
 * are refused with one clear line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "controller/text/tokenizer.h"

#define MODEL_DIR "tests/models/tattler-3m"
#define FILE_MAX  (16u << 20)

struct fixture {
    char dir[64];
    cJSON *root; /* the shipped model's tokenizer.json, to be changed */
};

static int set_up(void **state)
{
    static struct fixture f;
    strcpy(f.dir, "/tmp/godwit-tokenizer-XXXXXX");
    f.root = NULL;
    if (!mkdtemp(f.dir)) return -1;
    if (gw_json_parse_file(MODEL_DIR "/tokenizer.json", FILE_MAX, &f.root, NULL) != GW_OK) return -1;
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "generation_config.json",
                                        "config.json"};
    struct fixture *f = *state;
    char path[128];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
        unlink(path);
    }
    cJSON_Delete(f->root);
    return rmdir(f->dir);
}

static void write_text(const struct fixture *f, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    assert_int_equal(gw_file_replace(path, text, strlen(text), 0644, NULL), GW_OK);
}

/* Opens what the fixture holds now. */
static gw_err_t open_changed(const struct fixture *f, struct gw_tokenizer **t, struct gw_err_ctx *ctx)
{
    char *text = cJSON_PrintUnformatted(f->root);
    assert_non_null(text);
    write_text(f, "tokenizer.json", text);
    free(text);
    return gw_tokenizer_open(f->dir, t, ctx);
}

static struct gw_tokenizer *must_open(const struct fixture *f)
{
    struct gw_tokenizer *t = NULL;
    struct gw_err_ctx ctx = {0};
    if (open_changed(f, &t, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return t;
}

/* Is refused, with a line that names the file and says why. */
static void must_refuse(const struct fixture *f, gw_err_t want, const char *why)
{
    struct gw_tokenizer *t = NULL;
    struct gw_err_ctx ctx = {0};
    gw_err_t err = open_changed(f, &t, &ctx);
    if (err != want || t || !strstr(ctx.text, why) || !strstr(ctx.text, f->dir) || strchr(ctx.text, '\n'))
        fail_msg("%s, not %s: \"%s\" should say \"%s\"", gw_err_name(err), gw_err_name(want), ctx.text, why);
}

/* Puts a JSON text in the place of obj.field; "" removes it. */
static void put(cJSON *obj, const char *field, const char *json)
{
    assert_non_null(obj);
    cJSON_DeleteItemFromObjectCaseSensitive(obj, field);
    if (*json) cJSON_AddItemToObject(obj, field, cJSON_Parse(json));
}

static cJSON *get(const cJSON *obj, const char *field)
{
    return cJSON_GetObjectItemCaseSensitive(obj, field);
}

static void assert_words(const struct gw_tokenizer *t, const char *text, const char *const *words,
                         size_t count)
{
    uint32_t *ids = NULL;
    size_t n = 0;
    struct gw_err_ctx ctx = {0};
    if (gw_tokenizer_encode(t, text, strlen(text), GW_ENCODE_PARSE_SPECIAL, 1000, &ids, &n, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
    assert_int_equal(n, count);
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *bytes = gw_tokenizer_bytes(t, ids[i], &len);
        if (len != strlen(words[i]) || memcmp(bytes, words[i], len) != 0)
            fail_msg("token %zu of \"%s\" is \"%.*s\", not \"%s\"", i, text, (int)len, bytes, words[i]);
    }
    free(ids);
}

/* A vocabulary of a, b, c, é's bytes, and a few merges, small enough to follow by hand. */
static void use_tiny_model(struct fixture *f, const char *merges, bool ignore_merges)
{
    cJSON *model = get(f->root, "model");
    put(model, "vocab",
        "{\"a\":0,\"b\":1,\"c\":2,\"\\u0120\":3,\"ab\":4,\"bc\":5,\"abc\":6,\"\\u0120a\":7,\"cab\":8,"
        "\"\\u00c3\":9,"
        "\"\\u00a9\":10,\"\\u00c3\\u00a9\":11,\"0\":12,\"1\":13,\"01\":14,\"\\u0120ab\":15}");
    put(model, "merges", merges);
    put(model, "ignore_merges", ignore_merges ? "true" : "false");
    put(f->root, "added_tokens", "[]");
    put(f->root, "post_processor", "null");
}

static void test_open_reads_what_the_model_says_of_bos_and_eos(void **state)
{
    (void)state;
    struct gw_tokenizer *t = NULL;
    size_t n, len;
    assert_int_equal(gw_tokenizer_open(MODEL_DIR, &t, NULL), GW_OK);
    assert_string_equal(gw_tokenizer_bos(t), "<|begin_of_text|>");
    assert_string_equal(gw_tokenizer_eos(t), "<|eot_id|>");
    const uint32_t *ids = gw_tokenizer_eos_ids(t, &n);
    assert_int_equal(n, 2);
    const char *text = gw_tokenizer_bytes(t, ids[0], &len);
    assert_memory_equal(text, "<|end_of_text|>", len);
    text = gw_tokenizer_bytes(t, ids[1], &len);
    assert_memory_equal(text, "<|eot_id|>", len);
    assert_int_equal(gw_tokenizer_vocab(t), 2048);
    assert_null(gw_tokenizer_bytes(t, 2048, &len));
    assert_int_equal(len, 0);
    assert_false(gw_tokenizer_is_special(t, 5));
    assert_false(gw_tokenizer_is_special(t, UINT32_MAX));
    gw_tokenizer_close(t);
}

static void test_open_merges_go_by_rank_then_from_the_left(void **state)
{
    struct fixture *f = *state;
    use_tiny_model(f, "[\"b c\", [\"a\", \"b\"], \"a bc\", \"c ab\"]", false);
    struct gw_tokenizer *t = must_open(f);
    assert_words(t, "abc", (const char *[]){"abc"}, 1);
    assert_words(t, "cab", (const char *[]){"cab"}, 1);
    assert_words(t, "abab", (const char *[]){"ab", "ab"}, 2);
    assert_words(t, "cabc", (const char *[]){"c", "abc"}, 2);
    gw_tokenizer_close(t);
}

static void test_open_ignore_merges_takes_whole_words_first(void **state)
{
    struct fixture *f = *state;
    use_tiny_model(f, "[]", true);
    struct gw_tokenizer *t = must_open(f);
    assert_words(t, "abc", (const char *[]){"abc"}, 1);
    assert_words(t, "abcc", (const char *[]){"a", "b", "c", "c"}, 4);
    gw_tokenizer_close(t);
}

static void test_open_byte_level_alone_cuts_as_gpt2(void **state)
{
    struct fixture *f = *state;
    use_tiny_model(f, "[[\"a\",\"b\"],[\"\\u0120\",\"ab\"]]", false);
    put(f->root, "pre_tokenizer", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}");
    struct gw_tokenizer *t = must_open(f);
    assert_words(t, "ab ab0", (const char *[]){" ab", " ab", "0"}, 3);
    assert_words(t, " ab", (const char *[]){" ab"}, 1);
    gw_tokenizer_close(t);
}

static void test_open_splits_and_digits_cut_one_after_another(void **state)
{
    struct fixture *f = *state;
    use_tiny_model(f, "[[\"0\",\"1\"],[\"a\",\"b\"]]", false);
    put(f->root, "pre_tokenizer",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Isolated\",\"invert\":false},"
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}");
    struct gw_tokenizer *t = must_open(f);
    assert_words(t, "ab01", (const char *[]){"a", "b", "0", "1"}, 4);
    gw_tokenizer_close(t);
}

static void test_open_nfc_is_applied_before_splitting(void **state)
{
    struct fixture *f = *state;
    use_tiny_model(f, "[[\"\\u00c3\",\"\\u00a9\"]]", false);
    put(f->root, "normalizer", "{\"type\":\"NFC\"}");
    struct gw_tokenizer *t = must_open(f);
    assert_words(t, "e\u0301", (const char *[]){"é"}, 1);
    gw_tokenizer_close(t);
}

static void test_open_added_tokens_longest_first_and_normalized_ones_later(void **state)
{
    struct fixture *f = *state;
    use_tiny_model(f, "[]", false);
    put(f->root, "added_tokens",
        "[{\"id\":20,\"content\":\"<x>\",\"special\":false,\"normalized\":false},"
        "{\"id\":21,\"content\":\"<x><\",\"special\":false,\"normalized\":false},"
        "{\"id\":22,\"content\":\"a<\",\"special\":false,\"normalized\":true}]");
    struct gw_tokenizer *t = must_open(f);
    assert_words(t, "<x><x>", (const char *[]){"<x><"}, 1); /* "x>" has no bytes in this vocabulary */
    assert_words(t, "a<x>", (const char *[]){"a", "<x>"}, 2);
    assert_words(t, "a<b", (const char *[]){"a<", "b"}, 2);
    gw_tokenizer_close(t);
}

static void test_open_template_puts_ids_on_both_sides(void **state)
{
    struct fixture *f = *state;
    uint32_t *ids = NULL;
    size_t n = 0;
    use_tiny_model(f, "[]", false);
    put(f->root, "post_processor",
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"A\",\"type_id\":0}},"
        "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"B\",\"type_id\":0}}],"
        "\"special_tokens\":{\"A\":{\"id\":\"A\",\"ids\":[4,5]},\"B\":{\"id\":\"B\",\"ids\":[6]}}}");
    struct gw_tokenizer *t = must_open(f);
    assert_int_equal(gw_tokenizer_encode(t, "c", 1, GW_ENCODE_ADD_SPECIAL, 9, &ids, &n, NULL), GW_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(ids, ((uint32_t[]){4, 5, 2, 6}), 4 * sizeof *ids);
    free(ids);
    gw_tokenizer_close(t);
}

static void test_open_eos_falls_back_from_file_to_file(void **state)
{
    struct fixture *f = *state;
    size_t n;
    use_tiny_model(f, "[]", false);
    struct gw_tokenizer *t = must_open(f);
    assert_string_equal(gw_tokenizer_bos(t), "");
    assert_string_equal(gw_tokenizer_eos(t), "");
    gw_tokenizer_eos_ids(t, &n);
    assert_int_equal(n, 0);
    gw_tokenizer_close(t);
    write_text(f, "config.json", "{\"bos_token_id\": 4, \"eos_token_id\": 5}");
    t = must_open(f);
    assert_string_equal(gw_tokenizer_bos(t), "ab");
    assert_string_equal(gw_tokenizer_eos(t), "bc");
    gw_tokenizer_close(t);
    write_text(f, "generation_config.json", "{\"eos_token_id\": [6, 4]}");
    write_text(f, "tokenizer_config.json", "{\"bos_token\": {\"content\": \"c\"}, \"eos_token\": null}");
    t = must_open(f);
    assert_string_equal(gw_tokenizer_bos(t), "c");
    assert_string_equal(gw_tokenizer_eos(t), "abc");
    assert_int_equal(gw_tokenizer_eos_ids(t, &n)[1], 4);
    assert_int_equal(n, 2);
    gw_tokenizer_close(t);
    write_text(f, "generation_config.json", "{\"eos_token_id\": 99999}");
    must_refuse(f, GW_ERR_INPUT, "eos_token_id");
    write_text(f, "generation_config.json", "{\"eos_token_id\": [1, -1]}");
    must_refuse(f, GW_ERR_INPUT, "eos_token_id");
    write_text(f, "generation_config.json", "{\"eos_token_id\": ");
    must_refuse(f, GW_ERR_INPUT, "generation_config.json");
}

static void test_open_missing_or_broken_file_is_named(void **state)
{
    struct fixture *f = *state;
    struct gw_tokenizer *t = NULL;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_tokenizer_open(f->dir, &t, &ctx), GW_ERR_NOT_FOUND);
    assert_non_null(strstr(ctx.text, "tokenizer.json"));
    gw_err_reset(&ctx);
    write_text(f, "tokenizer.json", "{\"model\": {");
    assert_int_equal(gw_tokenizer_open(f->dir, &t, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "tokenizer.json"));
    assert_null(t);
}

/* One field of the shipped file is changed at a time. */
static const struct {
    const char *object, *field, *json, *why;
} refused[] = {
    {"", "model", "", "model.vocab"},
    {"", "model", "[]", "model.vocab"},
    {"", "model", "{\"type\":\"Unigram\"}", "Unigram"},
    {"model", "vocab", "[]", "model.vocab"},
    {"model", "vocab", "{}", "not in the vocabulary"},
    {"model", "vocab", "{\"a\":1.5}", "must be an integer"},
    {"model", "vocab", "{\"a\":-1}", "must be an integer"},
    {"model", "vocab", "{\"a\":99999999}", "must be an integer"},
    {"model", "vocab", "{\"a\":\"1\"}", "must be an integer"},
    {"model", "vocab", "{\"a\":1,\"b\":1}", "two tokens have the id 1"},
    {"model", "vocab", "{\"a\":1,\"a\":2}", "twice"},
    {"model", "merges", "{}", "model.merges"},
    {"model", "merges", "[1]", "merge 0"},
    {"model", "merges", "[\"a\"]", "merge 0"},
    {"model", "merges", "[\"a b c\"]", "merge 0"},
    {"model", "merges", "[[\"a\",\"b\",\"c\"]]", "merge 0"},
    {"model", "merges", "[[\"a\",1]]", "merge 0"},
    {"model", "merges", "[[\"h\",\"e\"],[\"qqqq\",\"e\"]]", "merge 1"},
    {"model", "merges", "[[\"\\u20ac\",\"e\"]]", "merge 0"},
    {"model", "dropout", "0.1", "model.dropout"},
    {"model", "byte_fallback", "true", "model.byte_fallback"},
    {"model", "continuing_subword_prefix", "\"##\"", "model.continuing_subword_prefix"},
    {"model", "end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix"},
    {"model", "ignore_merges", "1", "ignore_merges"},
    {"", "added_tokens", "[1]", "added token"},
    {"", "added_tokens", "[{\"id\":3000}]", "added token"},
    {"", "added_tokens", "[{\"content\":\"x\"}]", "must be an integer"},
    {"", "added_tokens", "[{\"id\":5000,\"content\":\"<t>\",\"lstrip\":true}]", "lstrip"},
    {"", "added_tokens", "[{\"id\":5000,\"content\":\"<t>\",\"rstrip\":true}]", "rstrip"},
    {"", "added_tokens", "[{\"id\":5000,\"content\":\"<t>\",\"single_word\":true}]", "single_word"},
    {"", "added_tokens", "[{\"id\":5,\"content\":\"<t>\"}]", "another's"},
    {"", "added_tokens", "[{\"id\":5000,\"content\":\"a\"}]", "has the ids"},
    {"", "added_tokens", "[{\"id\":5000,\"content\":\"<t>\"},{\"id\":5001,\"content\":\"<t>\"}]",
     "has the ids"},
    {"", "normalizer", "{\"type\":\"NFKC\"}", "NFKC"},
    {"", "normalizer",
     "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]}", "Sequence"},
    {"", "pre_tokenizer", "null", "ByteLevel"},
    {"", "pre_tokenizer", "{\"type\":\"Metaspace\"}", "ByteLevel"},
    {"", "pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":[]}", "ByteLevel"},
    {"", "pre_tokenizer",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}",
     "ByteLevel"},
    {"", "pre_tokenizer",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Punctuation\"},{\"type\":\"ByteLevel\"}]}",
     "Punctuation"},
    {"", "pre_tokenizer",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},"
     "\"behavior\":\"Removed\",\"invert\":false},{\"type\":\"ByteLevel\"}]}",
     "Isolated"},
    {"", "pre_tokenizer",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a(\"},"
     "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\"}]}",
     "pattern not understood"},
    {"", "pre_tokenizer",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},"
     "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\"}]}",
     "pattern.Regex"},
    {"", "post_processor", "{\"type\":\"BertProcessing\"}", "BertProcessing"},
    {"", "post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[]}", "exactly once"},
    {"", "post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"X\"}},{\"Sequence\":{}}]}",
     "no ids"},
    {"", "post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"X\"}},{\"Sequence\":{}}],"
     "\"special_tokens\":{\"X\":{\"ids\":[9999999]}}}",
     "out of range"},
    {"", "decoder", "null", "decoder"},
    {"", "decoder", "{\"type\":\"Metaspace\"}", "Metaspace"},
};

static void test_open_what_is_not_supported_or_broken_is_refused(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cJSON *whole = cJSON_Duplicate(f->root, true);
        put(*refused[i].object ? get(f->root, refused[i].object) : f->root, refused[i].field,
            refused[i].json);
        must_refuse(f, GW_ERR_INPUT, refused[i].why);
        cJSON_Delete(f->root);
        f->root = whole;
    }
}

static void test_open_limits_are_said(void **state)
{
    struct fixture *f = *state;
    char long_token[6000], json[6100];
    memset(long_token, 'a', sizeof long_token - 1);
    long_token[sizeof long_token - 1] = '\0';
    snprintf(json, sizeof json, "{\"%s\": 0}", long_token);
    cJSON *vocab = cJSON_Duplicate(get(get(f->root, "model"), "vocab"), true);
    put(get(f->root, "model"), "vocab", json);
    must_refuse(f, GW_ERR_LIMIT, "at most 4096");
    cJSON_ReplaceItemInObjectCaseSensitive(get(f->root, "model"), "vocab", vocab);
    long_token[600] = '\0';
    snprintf(json, sizeof json, "[{\"id\": 3000, \"content\": \"<%s\"}]", long_token);
    put(f->root, "added_tokens", json);
    must_refuse(f, GW_ERR_LIMIT, "at most 512");
}

/* An unknown token stands for bytes without a token: harmless only where there are none such. */
static void test_open_unknown_token_needs_all_bytes(void **state)
{
    struct fixture *f = *state;
    put(get(f->root, "model"), "unk_token", "\"a\"");
    gw_tokenizer_close(must_open(f));
    use_tiny_model(f, "[]", false);
    must_refuse(f, GW_ERR_INPUT, "model.unk_token");
}

#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_reads_what_the_model_says_of_bos_and_eos),
        WITH_FILES(test_open_merges_go_by_rank_then_from_the_left),
        WITH_FILES(test_open_ignore_merges_takes_whole_words_first),
        WITH_FILES(test_open_byte_level_alone_cuts_as_gpt2),
        WITH_FILES(test_open_splits_and_digits_cut_one_after_another),
        WITH_FILES(test_open_nfc_is_applied_before_splitting),
        WITH_FILES(test_open_added_tokens_longest_first_and_normalized_ones_later),
        WITH_FILES(test_open_template_puts_ids_on_both_sides),
        WITH_FILES(test_open_eos_falls_back_from_file_to_file),
        WITH_FILES(test_open_missing_or_broken_file_is_named),
        WITH_FILES(test_open_what_is_not_supported_or_broken_is_refused),
        WITH_FILES(test_open_limits_are_said),
        WITH_FILES(test_open_unknown_token_needs_all_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
