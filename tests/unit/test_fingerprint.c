/* migrate/fingerprint: every byte that matters changes it, and the cache is used only while nothing has changed. */
#include "tests/lib/tiny_model.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "migrate/fingerprint.h"

#define CACHE ".godwit-fingerprint"

static struct tiny_dir dir;

static int setup(void **state)
{
    (void)state;
    tiny_dir_make(&dir);
    unsetenv("XDG_CACHE_HOME");
    tiny_write(&dir, "config.json", "{\"a\": 1}", 8);
    tiny_write(&dir, "model.safetensors", "weights!", 8);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_dir_remove(&dir);
    return 0;
}

static void print_of(uint8_t out[GW_FINGERPRINT_BYTES])
{
    struct gw_err_ctx ctx = {0};
    if (gw_fingerprint_dir(dir.path, out, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

static bool exists(const char *dir_path, const char *name)
{
    char path[TINY_PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir_path, name);
    return stat(path, &st) == 0;
}

static void test_dir_same_files_give_the_same_print(void **state)
{
    (void)state;
    uint8_t a[GW_FINGERPRINT_BYTES], b[GW_FINGERPRINT_BYTES];
    print_of(a);
    tiny_write(&dir, "README.md", "no matter", 9);
    tiny_write(&dir, "other.safetensors", "no shard", 8);
    print_of(b);
    assert_memory_equal(a, b, sizeof a);
    assert_false(exists(dir.path, CACHE)); /* too small to be worth a file */
}

static void test_dir_any_change_gives_another_print(void **state)
{
    (void)state;
    uint8_t a[GW_FINGERPRINT_BYTES], b[GW_FINGERPRINT_BYTES];
    static const char index[] = "{\"weight_map\": {\"t\": \"other.safetensors\"}}";
    print_of(a);
    tiny_write(&dir, "model.safetensors", "weightz!", 8);
    print_of(b);
    assert_memory_not_equal(a, b, sizeof a);
    tiny_write(&dir, "model.safetensors", "weights!", 8);
    tiny_write(&dir, "config.json", "{\"a\": 2}", 8);
    print_of(b);
    assert_memory_not_equal(a, b, sizeof a);
    tiny_write(&dir, "config.json", "{\"a\": 1}", 8);
    print_of(b);
    assert_memory_equal(a, b, sizeof a);
    tiny_write(&dir, "other.safetensors", "weights!", 8);
    tiny_write(&dir, "model.safetensors.index.json", index, sizeof index - 1);
    print_of(b);
    assert_memory_not_equal(a, b, sizeof a);
}

static void test_dir_missing_files_are_named(void **state)
{
    (void)state;
    uint8_t out[GW_FINGERPRINT_BYTES] = {42};
    struct gw_err_ctx ctx = {0};
    char path[TINY_PATH_MAX];
    snprintf(path, sizeof path, "%s/model.safetensors", dir.path);
    unlink(path);
    assert_int_equal(gw_fingerprint_dir(dir.path, out, &ctx), GW_ERR_NOT_FOUND);
    assert_non_null(strstr(ctx.text, "model.safetensors"));
    assert_int_equal(out[0], 42);
}

/* A sparse file is large enough for the cache and quick to hash. */
static void make_large(void)
{
    char path[TINY_PATH_MAX];
    snprintf(path, sizeof path, "%s/model.safetensors", dir.path);
    assert_int_equal(truncate(path, GW_FINGERPRINT_CACHE_MIN_BYTES + 1), 0);
}

/* Rewrites the cached value: the next call shows whether it was believed. */
static void tamper(const char *dir_path, const char *name)
{
    char path[TINY_PATH_MAX], *text;
    size_t len;
    snprintf(path, sizeof path, "%s/%s", dir_path, name);
    assert_int_equal(gw_file_read(path, 1000, &text, &len, NULL), GW_OK);
    memset(text + len - 1 - 2 * GW_FINGERPRINT_BYTES, 'a', 2 * GW_FINGERPRINT_BYTES);
    assert_int_equal(gw_file_replace(path, text, len, 0644, NULL), GW_OK);
    free(text);
}

static void test_dir_large_model_is_cached_until_a_file_changes(void **state)
{
    (void)state;
    uint8_t a[GW_FINGERPRINT_BYTES], b[GW_FINGERPRINT_BYTES], all_a[GW_FINGERPRINT_BYTES];
    char path[TINY_PATH_MAX];
    memset(all_a, 0xaa, sizeof all_a);
    make_large();
    print_of(a);
    print_of(b);
    assert_memory_equal(a, b, sizeof a);
    tamper(dir.path, CACHE);
    print_of(b);
    assert_memory_equal(b, all_a, sizeof b);
    struct timespec times[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000, .tv_nsec = 1}};
    snprintf(path, sizeof path, "%s/model.safetensors", dir.path);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    print_of(b);
    assert_memory_equal(a, b, sizeof a);
    tiny_write(&dir, CACHE, "rubbish", 7);
    print_of(b);
    assert_memory_equal(a, b, sizeof a);
}

static void test_model_of_another_weight_format_is_another(void **state)
{
    (void)state;
    uint8_t files[GW_FINGERPRINT_BYTES], plain[GW_FINGERPRINT_BYTES], int8[GW_FINGERPRINT_BYTES];
    uint8_t again[GW_FINGERPRINT_BYTES];
    print_of(files);
    assert_int_equal(gw_fingerprint_model(dir.path, GW_WEIGHT_FILE, GW_KV_FILE, plain, NULL), GW_OK);
    assert_memory_equal(plain, files, sizeof files); /* streams and pages of before are gone on with */
    assert_int_equal(gw_fingerprint_model(dir.path, GW_WEIGHT_INT8, GW_KV_FILE, int8, NULL), GW_OK);
    assert_memory_not_equal(int8, files, sizeof files);
    tiny_write(&dir, "model.safetensors", "weightz!", 8);
    assert_int_equal(gw_fingerprint_model(dir.path, GW_WEIGHT_INT8, GW_KV_FILE, again, NULL), GW_OK);
    assert_memory_not_equal(int8, again, sizeof again);
}

static void test_model_of_another_kv_format_is_another(void **state)
{
    (void)state;
    uint8_t prints[3][2][GW_FINGERPRINT_BYTES];
    for (int weights = 0; weights < 3; weights++)
        for (int kv = 0; kv < 2; kv++)
            assert_int_equal(gw_fingerprint_model(dir.path, (enum gw_weight_format)weights,
                                                  (enum gw_kv_format)kv, prints[weights][kv], NULL),
                             GW_OK);
    for (int a = 0; a < 6; a++)
        for (int b = a + 1; b < 6; b++)
            assert_memory_not_equal(prints[a / 2][a % 2], prints[b / 2][b % 2], GW_FINGERPRINT_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dir_same_files_give_the_same_print, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dir_any_change_gives_another_print, setup, teardown),
        cmocka_unit_test_setup_teardown(test_model_of_another_weight_format_is_another, setup, teardown),
        cmocka_unit_test_setup_teardown(test_model_of_another_kv_format_is_another, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dir_missing_files_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dir_large_model_is_cached_until_a_file_changes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
