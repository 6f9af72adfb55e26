/* base/file and base/secret: files read whole within a bound, replaced whole or not at all, secrets kept from
 * others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/secret.h"

/* Each test gets an empty folder of its own. */
struct folder {
    char path[64];
    char file[96];
};

static int folder_setup(void **state)
{
    struct folder *f = calloc(1, sizeof *f);
    if (!f) return -1;
    *state = f;
    snprintf(f->path, sizeof f->path, "/tmp/gw-test-file-XXXXXX");
    if (!mkdtemp(f->path)) return -1;
    snprintf(f->file, sizeof f->file, "%s/file", f->path);
    return 0;
}

static int folder_entries(const struct folder *f, bool remove)
{
    int n = 0;
    DIR *dir = opendir(f->path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        n++;
        if (remove) unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir) closedir(dir);
    return n;
}

static int folder_teardown(void **state)
{
    struct folder *f = *state;
    folder_entries(f, true);
    rmdir(f->path);
    free(f);
    return 0;
}

static void put(const struct folder *f, const void *bytes, size_t len, mode_t mode)
{
    int fd = open(f->file, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void test_read_returns_all_bytes_and_a_nul_behind(void **state)
{
    struct folder *f = *state;
    char *text = NULL;
    size_t len = 99;
    put(f, "a\0b\n", 4, 0600);
    assert_int_equal(gw_file_read(f->file, 4, &text, &len, NULL), GW_OK);
    assert_int_equal(len, 4);
    assert_memory_equal(text, "a\0b\n\0", 5);
    free(text);
    put(f, "", 0, 0600);
    assert_int_equal(gw_file_read(f->file, 0, &text, &len, NULL), GW_OK);
    assert_int_equal(len, 0);
    assert_string_equal(text, "");
    free(text);
}

static void test_read_errors_have_their_category_name_the_file_and_change_nothing(void **state)
{
    struct folder *f = *state;
    char *text = (char *)"untouched", missing[128], fifo[128];
    size_t len = 99;
    struct gw_err_ctx ctx = {0};
    put(f, "12345", 5, 0600);
    assert_int_equal(gw_file_read(f->file, 4, &text, &len, &ctx), GW_ERR_LIMIT);
    assert_non_null(strstr(ctx.text, f->file));
    assert_int_equal(gw_file_read(f->path, 100, &text, &len, NULL), GW_ERR_IO);
    snprintf(missing, sizeof missing, "%s/missing", f->path);
    gw_err_reset(&ctx);
    assert_int_equal(gw_file_read(missing, 100, &text, &len, &ctx), GW_ERR_NOT_FOUND);
    assert_non_null(strstr(ctx.text, missing));
    snprintf(missing, sizeof missing, "%s/below", f->file);
    assert_int_equal(gw_file_read(missing, 100, &text, &len, NULL), GW_ERR_IO);
    snprintf(fifo, sizeof fifo, "%s/fifo", f->path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(gw_file_read(fifo, 100, &text, &len, NULL),
                     GW_ERR_IO); /* and does not wait for a writer */
    assert_string_equal(text, "untouched");
    assert_int_equal(len, 99);
}

static void test_replace_makes_and_overwrites_with_the_mode_asked_for(void **state)
{
    struct folder *f = *state;
    struct stat st;
    char *text;
    size_t len;
    assert_int_equal(gw_file_replace(f->file, "old content", 11, 0644, NULL), GW_OK);
    assert_int_equal(gw_file_replace(f->file, "new", 3, 0600, NULL), GW_OK);
    assert_int_equal(gw_file_read(f->file, 100, &text, &len, NULL), GW_OK);
    assert_string_equal(text, "new");
    free(text);
    assert_int_equal(stat(f->file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(folder_entries(f, false), 1);
}

static void test_replace_that_fails_leaves_the_old_file_and_no_temporary(void **state)
{
    struct folder *f = *state;
    char below[128], *text, *too_long = malloc(PATH_MAX + 1);
    size_t len;
    struct gw_err_ctx ctx = {0};
    assert_non_null(too_long);
    put(f, "old", 3, 0600);
    snprintf(below, sizeof below, "%s/below", f->file);
    assert_int_equal(gw_file_replace(below, "x", 1, 0600, &ctx), GW_ERR_IO);
    assert_non_null(strstr(ctx.text, below));
    assert_int_equal(gw_file_replace(f->path, "x", 1, 0600, NULL),
                     GW_ERR_IO); /* a folder cannot be replaced */
    memset(too_long, 'x', PATH_MAX);
    too_long[PATH_MAX] = '\0';
    assert_int_equal(gw_file_replace(too_long, "x", 1, 0600, NULL), GW_ERR_LIMIT);
    free(too_long);
    assert_int_equal(gw_file_read(f->file, 100, &text, &len, NULL), GW_OK);
    assert_string_equal(text, "old");
    free(text);
    assert_int_equal(folder_entries(f, false), 1);
}

static void test_secret_is_read_without_the_white_space_at_its_end(void **state)
{
    struct folder *f = *state;
    char *secret = NULL;
    size_t len = 0;
    put(f, " s3 cret\r\n\n", 11, 0600);
    assert_int_equal(gw_secret_read(f->file, &secret, &len, NULL), GW_OK);
    assert_int_equal(len, 8);
    assert_string_equal(secret, " s3 cret");
    gw_secret_free(secret, len);
    gw_secret_free(NULL, 0);
}

static void test_secret_that_others_may_touch_is_refused(void **state)
{
    struct folder *f = *state;
    static const mode_t modes[] = {0640, 0604, 0620, 0602, 0610, 0601, 0644};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        char *secret = NULL;
        size_t len = 0;
        struct gw_err_ctx ctx = {0};
        put(f, "secret", 6, modes[i]);
        assert_int_equal(gw_secret_read(f->file, &secret, &len, &ctx), GW_ERR_INPUT);
        assert_non_null(strstr(ctx.text, "chmod 600"));
        assert_null(strstr(ctx.text, "secret\n"));
        assert_null(secret);
    }
}

static void test_secret_empty_missing_or_huge_is_refused(void **state)
{
    struct folder *f = *state;
    static char big[GW_SECRET_MAX + 1];
    char *secret = NULL;
    size_t len = 0;
    put(f, " \n\t", 3, 0600);
    assert_int_equal(gw_secret_read(f->file, &secret, &len, NULL), GW_ERR_INPUT);
    memset(big, 'x', sizeof big);
    put(f, big, sizeof big, 0600);
    assert_int_equal(gw_secret_read(f->file, &secret, &len, NULL), GW_ERR_LIMIT);
    unlink(f->file);
    assert_int_equal(gw_secret_read(f->file, &secret, &len, NULL), GW_ERR_NOT_FOUND);
    assert_null(secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read_returns_all_bytes_and_a_nul_behind, folder_setup,
                                        folder_teardown),
        cmocka_unit_test_setup_teardown(test_read_errors_have_their_category_name_the_file_and_change_nothing,
                                        folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(test_replace_makes_and_overwrites_with_the_mode_asked_for,
                                        folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(test_replace_that_fails_leaves_the_old_file_and_no_temporary,
                                        folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(test_secret_is_read_without_the_white_space_at_its_end, folder_setup,
                                        folder_teardown),
        cmocka_unit_test_setup_teardown(test_secret_that_others_may_touch_is_refused, folder_setup,
                                        folder_teardown),
        cmocka_unit_test_setup_teardown(test_secret_empty_missing_or_huge_is_refused, folder_setup,
                                        folder_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
