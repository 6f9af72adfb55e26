/* controller/journal over files: what was said to be durable is there after any end of the process; one holder at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "controller/journal_file.h"

#define KEY         "0123456789abcdef0123456789abcdef"
#define WAIT_US     (20 * GW_US_PER_S)
#define ENTRIES_MAX 4096
#define KILLS       12
#define SMALL       4096 /* bytes of a segment: compacted all the time */

struct fixture {
    struct event_base *loop;
    struct gw_journal *journal;
    struct gw_journal_config config;
    char dir[64];
    int told, failed; /* by durable */
    /* what a replay gave */
    int entries;
    uint64_t ids[ENTRIES_MAX];
    char pieces[ENTRIES_MAX][64]; /* joined, with '|' between */
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->loop = event_base_new();
    snprintf(f->dir, sizeof f->dir, "/tmp/godwit-journal-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->config = (struct gw_journal_config){
        .where = f->dir, .key = KEY, .key_len = sizeof KEY - 1, .term_min = 100, .compact_bytes = 1 << 20};
    *state = f;
    return 0;
}

/* The path of the one segment. */
static void segment_path(const struct fixture *f, char path[400])
{
    int found = 0;
    DIR *dir = opendir(f->dir);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        if (strncmp(e->d_name, "segment-", 8) != 0) continue;
        snprintf(path, 400, "%s/%s", f->dir, e->d_name);
        found++;
    }
    closedir(dir);
    assert_int_equal(found, 1);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[128];
    gw_journal_close(f->journal);
    event_base_free(f->loop);
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static gw_err_t on_entry(void *arg, uint64_t entry, const void *pieces, size_t len)
{
    struct fixture *f = arg;
    struct gw_reader r;
    assert_true(f->entries < ENTRIES_MAX);
    char *out = f->pieces[f->entries];
    f->ids[f->entries++] = entry;
    out[0] = '\0';
    gw_reader_init(&r, pieces, len);
    while (r.pos < r.len) {
        const uint8_t *piece;
        size_t n = gw_read_bytes(&r, 32, &piece), at = strlen(out);
        assert_int_equal(r.err, GW_OK);
        if (at + n + 2 < sizeof f->pieces[0]) snprintf(out + at, 64 - at, "%.*s|", (int)n, piece);
    }
    return GW_OK;
}

static void open_journal(struct fixture *f)
{
    struct gw_err_ctx ctx = {0};
    gw_err_t err = gw_journal_open(f->loop, &gw_journal_file, &f->config, &f->journal, &ctx);
    if (err != GW_OK) fail_msg("%s", ctx.text);
    f->entries = 0;
    assert_int_equal(gw_journal_replay(f->journal, on_entry, f), GW_OK);
}

static void close_journal(struct fixture *f)
{
    gw_journal_close(f->journal);
    f->journal = NULL;
}

static void reopen(struct fixture *f)
{
    close_journal(f);
    open_journal(f);
}

static void on_durable(void *arg, gw_err_t err)
{
    struct fixture *f = arg;
    f->told++;
    f->failed += err != GW_OK;
}

static void append(struct fixture *f, uint64_t entry, const char *text)
{
    assert_int_equal(gw_journal_append(f->journal, entry, text, strlen(text), NULL, NULL), GW_OK);
}

static void append_and_wait(struct fixture *f, uint64_t entry, const char *text)
{
    int wanted = f->told + 1;
    int64_t deadline_us = gw_clock_mono_us() + WAIT_US;
    assert_int_equal(gw_journal_append(f->journal, entry, text, strlen(text), on_durable, f), GW_OK);
    assert_int_equal(f->told, wanted - 1); /* never from inside the call */
    while (f->told < wanted && gw_clock_mono_us() < deadline_us) event_base_loop(f->loop, EVLOOP_ONCE);
    assert_int_equal(f->told, wanted);
}

/* ---- entries ---- */

static void test_open_gives_back_what_had_not_ended(void **state)
{
    struct fixture *f = *state;
    open_journal(f);
    assert_int_equal(f->entries, 0);
    append_and_wait(f, 7, "begin");
    append(f, 7, "more");
    append(f, 9, "other");
    append(f, 11, "third");
    gw_journal_end(f->journal, 9);
    reopen(f);
    assert_int_equal(f->entries, 2);
    assert_int_equal(f->ids[0], 7);
    assert_string_equal(f->pieces[0], "begin|more|");
    assert_string_equal(f->pieces[1], "third|");
    assert_int_equal(f->failed, 0);
    gw_journal_end(f->journal, 7);
    reopen(f);
    assert_int_equal(f->entries, 1);
    assert_int_equal(f->ids[0], 11);
}

static void test_open_raises_the_term_each_time(void **state)
{
    struct fixture *f = *state;
    open_journal(f);
    assert_int_equal(gw_journal_term(f->journal), 100);
    reopen(f);
    assert_int_equal(gw_journal_term(f->journal), 101);
    f->config.term_min = 5000;
    reopen(f);
    assert_int_equal(gw_journal_term(f->journal), 5000);
}

static void test_open_held_by_another_is_refused_until_it_goes(void **state)
{
    struct fixture *f = *state;
    struct gw_journal *second = NULL;
    struct gw_err_ctx ctx = {0};
    open_journal(f);
    assert_int_equal(gw_journal_open(f->loop, &gw_journal_file, &f->config, &second, &ctx), GW_ERR_LIMIT);
    assert_non_null(strstr(ctx.text, f->dir));
    close_journal(f);
    open_journal(f);
}

static void test_files_are_private(void **state)
{
    struct fixture *f = *state;
    char path[400];
    struct stat st;
    snprintf(path, sizeof path, "%s/inner", f->dir);
    f->config.where = path;
    open_journal(f);
    append_and_wait(f, 1, "secret words");
    close_journal(f);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    char outer[64];
    memcpy(outer, f->dir, sizeof outer);
    snprintf(f->dir, sizeof f->dir, "%s/inner", outer);
    segment_path(f, path);
    memcpy(f->dir, outer, sizeof outer);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    char bytes[4096];
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, bytes, sizeof bytes);
    close(fd);
    assert_true(n > 100);
    assert_null(memmem(bytes, (size_t)n, "secret", 6));
}

static void test_append_beyond_the_maximum_is_refused(void **state)
{
    struct fixture *f = *state;
    open_journal(f);
    char *large = calloc(1, GW_JOURNAL_PIECE_MAX + 1);
    assert_non_null(large);
    assert_int_equal(gw_journal_append(f->journal, 1, large, GW_JOURNAL_PIECE_MAX + 1, on_durable, f),
                     GW_ERR_LIMIT);
    free(large);
    append_and_wait(f, 2, "small");
    assert_int_equal(f->told, 1);
    assert_int_equal(f->failed, 0);
}

/* ---- compaction ---- */

static void test_compaction_keeps_what_is_live(void **state)
{
    struct fixture *f = *state;
    char text[16], path[400];
    struct stat st;
    f->config.compact_bytes = SMALL;
    open_journal(f);
    for (uint64_t i = 1; i <= 300; i++) {
        snprintf(text, sizeof text, "e%d", (int)i);
        append_and_wait(f, i, text);
        if (i % 10) gw_journal_end(f->journal, i);
    }
    segment_path(f, path);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 4 * SMALL);
    reopen(f);
    assert_int_equal(f->entries, 30);
    assert_string_equal(f->pieces[29], "e300|");
}

/* ---- ends of the process ---- */

/* A child appends entries 1, 2, 3 … with tiny segments, ends every second one, and says each number once it is durable. */
static void child_writes(struct fixture *f, int out)
{
    f->config.compact_bytes = SMALL;
    open_journal(f);
    for (uint64_t i = 1 + (f->entries > 0 ? f->ids[f->entries - 1] : 0);; i++) {
        append_and_wait(f, i, "x");
        if (f->failed || write(out, &i, sizeof i) != sizeof i) _exit(1);
        if (i % 2 == 0) gw_journal_end(f->journal, i);
    }
}

/* Kills the child after so long; returns the last number that it said. */
static uint64_t kill_child(struct fixture *f, int64_t after_us)
{
    int pipe_fds[2], status;
    uint64_t last = 0, i;
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(pipe_fds[0]);
        child_writes(f, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], &last, sizeof last), sizeof last);
    usleep((useconds_t)after_us);
    kill(pid, SIGKILL);
    while (read(pipe_fds[0], &i, sizeof i) == sizeof i) last = i;
    close(pipe_fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    return last;
}

static bool replayed(const struct fixture *f, uint64_t id)
{
    for (int i = 0; i < f->entries; i++)
        if (f->ids[i] == id) return true;
    return false;
}

static void test_killed_anywhere_loses_nothing_durable(void **state)
{
    struct fixture *f = *state;
    struct gw_rng rng;
    gw_rng_init(&rng, 5);
    for (int k = 0; k < KILLS; k++) {
        uint64_t last = kill_child(f, (int64_t)gw_rng_below(&rng, 60000));
        open_journal(f);
        for (uint64_t i = 1; i <= last; i += 2)
            if (!replayed(f, i)) fail_msg("kill %d: entry %d of %d is missing", k, (int)i, (int)last);
        if (f->entries > ENTRIES_MAX / 2)
            for (int i = 0; i < f->entries - 1; i++) gw_journal_end(f->journal, f->ids[i]);
        if (f->entries > ENTRIES_MAX / 2) break;
        close_journal(f);
    }
}

static void change_byte(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void test_open_torn_tail_is_dropped(void **state)
{
    struct fixture *f = *state;
    char path[400];
    struct stat st;
    open_journal(f);
    append_and_wait(f, 1, "one");
    append_and_wait(f, 2, "two");
    close_journal(f);
    segment_path(f, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 5), 0);
    open_journal(f);
    assert_int_equal(f->entries, 1);
    assert_string_equal(f->pieces[0], "one|");
}

static void test_open_damaged_middle_says_what_to_do(void **state)
{
    struct fixture *f = *state;
    struct gw_err_ctx ctx = {0};
    char path[400];
    open_journal(f);
    append_and_wait(f, 1, "one");
    append_and_wait(f, 2, "two");
    close_journal(f);
    segment_path(f, path);
    change_byte(path, GW_SEGMENT_HEAD_BYTES + GW_SEGMENT_FRAME_BYTES + 30);
    assert_int_equal(gw_journal_open(f->loop, &gw_journal_file, &f->config, &f->journal, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, strrchr(path, '/') + 1));
    assert_non_null(strstr(ctx.text, "move it away"));
    assert_non_null(strstr(ctx.text, "damaged at byte"));
    assert_int_equal(unlink(path), 0); /* as it says */
    open_journal(f);
    assert_int_equal(f->entries, 0);
}

/* ---- a full disk ---- */

/* RLIMIT_FSIZE plays the full disk: writes beyond it fail, cutting back works. */
static void test_full_disk_refuses_and_recovers(void **state)
{
    struct fixture *f = *state;
    struct rlimit old, tight;
    struct gw_journal_stats stats;
    char path[400];
    struct stat st;
    signal(SIGXFSZ, SIG_IGN);
    open_journal(f);
    append_and_wait(f, 1, "before");
    segment_path(f, path);
    assert_int_equal(stat(path, &st), 0);
    getrlimit(RLIMIT_FSIZE, &old);
    tight = old;
    tight.rlim_cur = (rlim_t)st.st_size + 20; /* half a frame fits */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    append_and_wait(f, 2, "meanwhile");
    gw_journal_stats(f->journal, &stats);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(f->failed, 1);
    assert_true(stats.failing);
    append_and_wait(f, 3, "after");
    assert_int_equal(f->failed, 1);
    gw_journal_stats(f->journal, &stats);
    assert_false(stats.failing);
    assert_int_equal(stats.failures, 1);
    reopen(f);
    assert_int_equal(f->entries, 2);
    assert_string_equal(f->pieces[0], "before|");
    assert_string_equal(f->pieces[1], "after|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_open_gives_back_what_had_not_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_raises_the_term_each_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_held_by_another_is_refused_until_it_goes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_files_are_private, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_append_beyond_the_maximum_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_compaction_keeps_what_is_live, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed_anywhere_loses_nothing_durable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_torn_tail_is_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_damaged_middle_says_what_to_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk_refuses_and_recovers, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
