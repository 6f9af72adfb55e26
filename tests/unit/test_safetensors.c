/* worker/safetensors and migrate/model_files: whole files are read, lying and truncated ones are refused in one line. */
#include "tests/lib/tiny_model.h"

#include <sys/mman.h>

#include "base/file.h"
#include "migrate/model_files.h"
#include "tests/lib/seeded_rng.h"
#include "worker/safetensors.h"

#define FILE_NAME "model.safetensors"

static const float four[4] = {1, 2, 3, 4};

static struct tiny_dir dir;

static int setup(void **state)
{
    (void)state;
    tiny_dir_make(&dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_dir_remove(&dir);
    return 0;
}

static void expect_refused(const char *header, size_t data_len, const char *word)
{
    struct gw_err_ctx ctx = {0};
    struct gw_safetensors *f = NULL;
    tiny_write_safetensors(&dir, FILE_NAME, header, four, data_len);
    assert_int_not_equal(gw_safetensors_open(dir.path, &f, &ctx), GW_OK);
    assert_null(f);
    if (!strstr(ctx.text, word)) fail_msg("'%s' does not speak of '%s'", ctx.text, word);
    assert_non_null(strstr(ctx.text, dir.path));
    assert_null(strchr(ctx.text, '\n'));
}

static void test_open_good_file_finds_tensors(void **state)
{
    (void)state;
    struct gw_safetensors *f;
    tiny_write_safetensors(&dir, FILE_NAME,
                           "{\"__metadata__\":{\"format\":\"pt\"},"
                           "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[8,16]},"
                           "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                           "\"none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]}}  ",
                           four, sizeof four);
    assert_int_equal(gw_safetensors_open(dir.path, &f, NULL), GW_OK);
    const struct gw_tensor *a = gw_safetensors_find(f, "a"), *b = gw_safetensors_find(f, "b");
    assert_int_equal(a->type, GW_F32);
    assert_int_equal(a->dims, 1);
    assert_int_equal(a->shape[0], 2);
    assert_memory_equal(a->data, four, 8);
    assert_int_equal(b->type, GW_BF16);
    assert_int_equal(b->dims, 2);
    assert_int_equal(b->bytes, 8);
    assert_memory_equal(b->data, four + 2, 8);
    assert_null(gw_safetensors_find(f, "c"));
    assert_null(gw_safetensors_find(f, "__metadata__"));
    gw_safetensors_close(f);
}

/* Old writers did not pad the header: the data section begins anywhere. */
static void test_open_odd_header_length_gives_aligned_data(void **state)
{
    (void)state;
    char header[128];
    for (int pad = 0; pad < 9; pad++) {
        struct gw_safetensors *f;
        snprintf(header, sizeof header,
                 "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}%*s", pad, "");
        tiny_write_safetensors(&dir, FILE_NAME, header, four, sizeof four);
        assert_int_equal(gw_safetensors_open(dir.path, &f, NULL), GW_OK);
        const struct gw_tensor *a = gw_safetensors_find(f, "a");
        assert_int_equal((uintptr_t)a->data % sizeof(float), 0);
        assert_memory_equal(a->data, four, sizeof four);
        gw_safetensors_close(f);
    }
}

#define A_WITH(fields) "{\"a\":{" fields "}}"

static void test_open_lying_headers_are_refused(void **state)
{
    (void)state;
    expect_refused("[]", 0, "object");
    expect_refused("{\"a\":", 0, "JSON");
    expect_refused("{\"a\":7}", 0, "dtype");
    expect_refused(A_WITH("\"shape\":[4],\"data_offsets\":[0,16]"), 16, "dtype");
    expect_refused(A_WITH("\"dtype\":\"Q4\",\"shape\":[4],\"data_offsets\":[0,16]"), 16, "dtype");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"data_offsets\":[0,16]"), 16, "shape");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]"), 16, "shape");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[4.5],\"data_offsets\":[0,16]"), 16, "shape");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,16]"), 16,
                   "dimensions");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,16]"), 16,
                   "large");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[4]"), 16, "data_offsets");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]"), 16, "data_offsets");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]"), 16, "data_offsets");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]"), 16, "outside");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,17]"), 16, "outside");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,1e300]"), 16, "data_offsets");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]"), 16, "12 bytes");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]"), 16, "aligned");
    expect_refused(A_WITH("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"), 16, "end at byte");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                   "\"b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[4,16]}}",
                   16, "overlap");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                   "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
                   16, "twice");
    expect_refused("{\"\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "name");
}

static void test_open_every_truncation_is_refused(void **state)
{
    (void)state;
    char path[TINY_PATH_MAX], *whole;
    size_t len;
    snprintf(path, sizeof path, "%s/" FILE_NAME, dir.path);
    tiny_write_safetensors(&dir, FILE_NAME, A_WITH("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]"),
                           four, sizeof four);
    assert_int_equal(gw_file_read(path, 1000, &whole, &len, NULL), GW_OK);
    for (size_t cut = 0; cut < len; cut++) {
        struct gw_safetensors *f = NULL;
        struct gw_err_ctx ctx = {0};
        tiny_write(&dir, FILE_NAME, whole, cut);
        assert_int_not_equal(gw_safetensors_open(dir.path, &f, &ctx), GW_OK);
        assert_null(f);
        assert_non_null(strstr(ctx.text, FILE_NAME));
    }
    free(whole);
}

/* Random bytes changed: refused, or every tensor still lies inside the file (ASan sees what does not). */
static void test_open_random_damage_never_reads_outside(void **state)
{
    (void)state;
    char path[TINY_PATH_MAX], *whole;
    size_t len;
    struct gw_rng r = seeded_rng(__func__);
    snprintf(path, sizeof path, "%s/" FILE_NAME, dir.path);
    tiny_write_safetensors(&dir, FILE_NAME,
                           "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                           "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[8,16]}}",
                           four, sizeof four);
    assert_int_equal(gw_file_read(path, 1000, &whole, &len, NULL), GW_OK);
    for (int round = 0; round < 600; round++) {
        char damaged[512];
        struct gw_safetensors *f = NULL;
        volatile uint8_t sum = 0;
        memcpy(damaged, whole, len);
        for (uint64_t n = 1 + gw_rng_below(&r, 3); n > 0; n--)
            damaged[gw_rng_below(&r, len)] =
                (char)(gw_rng_below(&r, 2) ? '0' + gw_rng_below(&r, 10) : gw_rng_next(&r));
        tiny_write(&dir, FILE_NAME, damaged, len);
        if (gw_safetensors_open(dir.path, &f, NULL) != GW_OK) continue;
        const struct gw_tensor *t = gw_safetensors_find(f, "a");
        for (uint64_t i = 0; t && i < t->bytes; i++) sum = (uint8_t)(sum + ((const uint8_t *)t->data)[i]);
        gw_safetensors_close(f);
    }
    free(whole);
}

static void write_index(const char *text)
{
    tiny_write(&dir, "model.safetensors.index.json", text, strlen(text));
}

static void test_open_shards_are_joined(void **state)
{
    (void)state;
    struct gw_safetensors *f;
    tiny_write_safetensors(&dir, "m-1.safetensors",
                           A_WITH("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]"), four,
                           sizeof four);
    tiny_write_safetensors(&dir, "m-2.safetensors",
                           "{\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", four,
                           sizeof four);
    write_index("{\"weight_map\": {\"b\": \"m-2.safetensors\", \"a\": \"m-1.safetensors\", \"b2\": "
                "\"m-2.safetensors\"}}");
    assert_int_equal(gw_safetensors_open(dir.path, &f, NULL), GW_OK);
    assert_non_null(gw_safetensors_find(f, "a"));
    assert_non_null(gw_safetensors_find(f, "b"));
    gw_safetensors_close(f);
    tiny_write_safetensors(&dir, "m-2.safetensors",
                           A_WITH("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]"), four,
                           sizeof four);
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_safetensors_open(dir.path, &f, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "twice"));
}

static void expect_index_refused(const char *text, const char *word)
{
    struct gw_err_ctx ctx = {0};
    struct gw_model_files files = {0};
    write_index(text);
    assert_int_not_equal(gw_model_files_find(dir.path, &files, &ctx), GW_OK);
    assert_null(files.names);
    if (!strstr(ctx.text, word)) fail_msg("'%s' does not speak of '%s'", ctx.text, word);
}

static void test_model_files_names_with_paths_are_refused(void **state)
{
    (void)state;
    expect_index_refused("{\"weight_map\": {\"a\": \"../m.safetensors\"}}", "plain file name");
    expect_index_refused("{\"weight_map\": {\"a\": \"/etc/m.safetensors\"}}", "plain file name");
    expect_index_refused("{\"weight_map\": {\"a\": \"..\\\\m.safetensors\"}}", "plain file name");
    expect_index_refused("{\"weight_map\": {\"a\": \".hidden.safetensors\"}}", "plain file name");
    expect_index_refused("{\"weight_map\": {\"a\": \"pytorch_model.bin\"}}", "plain file name");
    expect_index_refused("{\"weight_map\": {\"a\": \".safetensors\"}}", "plain file name");
    expect_index_refused("{\"weight_map\": {\"a\": 1}}", "string");
    expect_index_refused("{\"weight_map\": {}}", "empty");
    expect_index_refused("{\"weight_map\": []}", "weight_map");
    expect_index_refused("{", "JSON");
}

static void test_model_files_too_many_shards_are_refused(void **state)
{
    (void)state;
    static char text[64 * (GW_MODEL_SHARDS_MAX + 2)];
    size_t len = (size_t)sprintf(text, "{\"weight_map\": {");
    for (int i = 0; i <= GW_MODEL_SHARDS_MAX; i++)
        len += (size_t)sprintf(text + len, "%s\"t%d\": \"s%d.safetensors\"", i ? "," : "", i, i);
    strcpy(text + len, "}}");
    expect_index_refused(text, "shards");
}

static void test_open_missing_file_is_not_found(void **state)
{
    (void)state;
    struct gw_safetensors *f = NULL;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_safetensors_open(dir.path, &f, &ctx), GW_ERR_NOT_FOUND);
    assert_non_null(strstr(ctx.text, FILE_NAME));
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(test_open_good_file_finds_tensors),
        WITH_DIR(test_open_odd_header_length_gives_aligned_data),
        WITH_DIR(test_open_lying_headers_are_refused),
        WITH_DIR(test_open_every_truncation_is_refused),
        WITH_DIR(test_open_random_damage_never_reads_outside),
        WITH_DIR(test_open_shards_are_joined),
        WITH_DIR(test_model_files_names_with_paths_are_refused),
        WITH_DIR(test_model_files_too_many_shards_are_refused),
        WITH_DIR(test_open_missing_file_is_not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
