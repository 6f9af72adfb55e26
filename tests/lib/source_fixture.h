/* A notice source in virtual time: the test is the clock and the metadata service. */
#ifndef GW_TESTS_SOURCE_FIXTURE_H
#define GW_TESTS_SOURCE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cloud/source.h"
#include "cloud/times.h"

#define NOTICES_MAX 64
#define START_US    (1000 * GW_US_PER_S)
#define START_TEXT  "2026-11-20T12:00:00Z"

struct source_fixture {
    const struct gw_source_ops *ops;
    void *source;
    struct gw_source_now now;
    int64_t start_unix_ms;
    struct gw_web_request request; /* the last one */
    struct gw_cloud_notice notices[NOTICES_MAX];
    int notices_len;
    FILE *log_file;
    struct gw_log log;
};

static void keep_notice(void *arg, const struct gw_cloud_notice *n)
{
    struct source_fixture *f = arg;
    assert_true(f->notices_len < NOTICES_MAX);
    f->notices[f->notices_len++] = *n;
}

static void source_open(struct source_fixture *f, const struct gw_source_ops *ops,
                        struct gw_source_config config)
{
    *f = (struct source_fixture){.ops = ops, .now = {.mono_us = START_US}, .log_file = tmpfile()};
    assert_int_equal(gw_time_parse_iso(START_TEXT, &f->start_unix_ms), GW_OK);
    f->now.unix_ms = f->start_unix_ms;
    f->log = (struct gw_log){.fd = fileno(f->log_file), .level = GW_LOG_DEBUG, .program = "test"};
    config.seed = 7;
    config.log = &f->log;
    config.sink = (struct gw_source_sink){keep_notice, f};
    assert_int_equal(ops->create(&config, &f->source), GW_OK);
}

static void source_close(struct source_fixture *f)
{
    f->ops->destroy(f->source);
    fclose(f->log_file);
}

static inline void pass_us(struct source_fixture *f, int64_t us)
{
    f->now.mono_us += us;
    f->now.unix_ms = f->start_unix_ms + (f->now.mono_us - START_US) / GW_US_PER_MS;
}

/* Lets time pass until the lane's question is due; returns how long that was. */
static inline int64_t ask(struct source_fixture *f, int lane)
{
    int64_t due_us = f->ops->next(f->source, lane, f->now, &f->request);
    assert_true(due_us < INT64_MAX);
    int64_t wait_us = due_us > f->now.mono_us ? due_us - f->now.mono_us : 0;
    pass_us(f, wait_us);
    (void)f->ops->next(f->source, lane, f->now, &f->request);
    return wait_us;
}

static inline bool asked_for(const struct source_fixture *f, const char *part)
{
    return strstr(f->request.url, part) != NULL;
}

static inline struct gw_web_reply reply_of(int status, const char *body)
{
    return (struct gw_web_reply){.why = "", .status = status, .body = body, .body_len = strlen(body)};
}

static inline void hear(struct source_fixture *f, int lane, struct gw_web_reply reply)
{
    f->ops->hear(f->source, lane, f->now, &reply);
}

static inline void hear_nothing(struct source_fixture *f, int lane)
{
    hear(f, lane, (struct gw_web_reply){.err = GW_ERR_IO, .why = "timed out", .body = ""});
}

/* Exactly one notice since the last call, of that kind. */
static inline struct gw_cloud_notice one_notice(struct source_fixture *f, enum gw_cloud_notice_kind kind,
                                                bool cancel)
{
    assert_int_equal(f->notices_len, 1);
    f->notices_len = 0;
    assert_int_equal(f->notices[0].kind, kind);
    assert_int_equal(f->notices[0].cancel, cancel);
    return f->notices[0];
}

/* Wall clocks count milliseconds. */
static inline void assert_about(int64_t got_us, int64_t want_us)
{
    assert_in_range(got_us - want_us + GW_US_PER_MS, 0, 2 * GW_US_PER_MS);
}

/* Lines in the log that hold the text. */
static inline int logged(struct source_fixture *f, const char *text)
{
    char line[GW_LOG_LINE_MAX + 1];
    int count = 0;
    rewind(f->log_file);
    while (fgets(line, sizeof line, f->log_file)) count += strstr(line, text) != NULL;
    fseek(f->log_file, 0, SEEK_END);
    return count;
}

#endif
