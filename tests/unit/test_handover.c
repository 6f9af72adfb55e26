/* controller/handover: messages come back as they were, strangers get nothing, and a place is given whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "controller/handover_give.h"
#include "controller/handover_take.h"

#define WAIT_US (20 * GW_US_PER_S)

static uint32_t prompt[] = {1, 2, 3};
static uint32_t ids[] = {4, 5};
static const struct gw_request request = {.id = 77,
                                          .n = 2,
                                          .prompt = prompt,
                                          .prompt_len = 3,
                                          .sampling = {.temperature = 1,
                                                       .top_p = 1,
                                                       .repetition_penalty = 1,
                                                       .max_tokens = 9,
                                                       .top_logprobs = 1,
                                                       .logprobs = true}};
static const struct gw_core_restored logs[] = {{.tokens = {.count = 2, .ids = ids}}, {.done = true}};

/* ---- messages ---- */

static void get(struct evbuffer *b, struct gw_handover_msg *m)
{
    bool ready = false;
    struct gw_err_ctx ctx = {0};
    if (gw_handover_get(b, m, &ready, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_true(ready);
}

static void test_messages_come_back_as_they_were(void **state)
{
    (void)state;
    struct evbuffer *b = evbuffer_new();
    struct gw_handover_msg m = {
        .type = GW_HANDOVER_FINISH, .request = 5, .branch = 1, .reason = GW_FINISH_LENGTH};
    assert_int_equal(gw_handover_put(b, &m), GW_OK);
    m = (struct gw_handover_msg){.type = GW_HANDOVER_STOP, .request = 6, .branch = 2, .keep = 9};
    assert_int_equal(gw_handover_put(b, &m), GW_OK);
    m = (struct gw_handover_msg){.type = GW_HANDOVER_DONE, .request = 7};
    assert_int_equal(gw_handover_put(b, &m), GW_OK);
    assert_int_equal(gw_handover_put_request(b, &request, logs, "cpu-f32-1"), GW_OK);
    get(b, &m);
    assert_int_equal(m.type, GW_HANDOVER_FINISH);
    assert_int_equal(m.reason, GW_FINISH_LENGTH);
    get(b, &m);
    assert_int_equal(m.keep, 9);
    get(b, &m);
    assert_int_equal(m.request, 7);
    get(b, &m);
    assert_string_equal(m.profile, "cpu-f32-1");
    get(b, &m);
    assert_int_equal(m.wire.type, GW_MSG_SUBMIT);
    assert_int_equal(m.wire.submit.request.id, 77);
    assert_int_equal(m.wire.submit.logs[0].ids[1], 5);
    assert_true(m.wire.submit.logs[1].done);
    gw_handover_msg_fini(&m);
    assert_int_equal(evbuffer_get_length(b), 0);
    evbuffer_free(b);
}

static void refuse(uint16_t type, const void *payload, uint32_t len)
{
    struct evbuffer *b = evbuffer_new();
    struct gw_handover_msg m;
    bool ready;
    const struct gw_frame frame = {.type = type, .len = len, .payload = payload};
    assert_int_equal(gw_frame_put(b, &frame), GW_OK);
    assert_int_equal(gw_handover_get(b, &m, &ready, NULL), GW_ERR_PROTO);
    evbuffer_free(b);
}

static void test_messages_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const uint8_t zeros[100];
    refuse(GW_HANDOVER_FINISH, zeros, 13); /* no reason */
    refuse(GW_HANDOVER_FINISH, zeros, 12);
    refuse(GW_HANDOVER_STOP, zeros, 17);
    refuse(GW_HANDOVER_DONE, zeros, 7);
    refuse(GW_HANDOVER_GO, zeros, 1);
    refuse(GW_HANDOVER_PROFILE, zeros, 65);
    refuse(GW_HANDOVER_PROFILE, zeros, 1);
    refuse(GW_HANDOVER_WIRE, zeros, 0);
    refuse(GW_MSG_PING, zeros, 8);
    refuse(GW_MSG_SUBMIT, zeros, 50);
}

/* ---- both ends ---- */

struct fixture {
    struct event_base *loop;
    struct gw_giver *giver;
    char dir[64], path[96];
    int sockets[GW_HANDOVER_FDS];
    int given, gone, restored, cancels, ended;
    enum gw_action_type actions[8];
    int actions_len;
    struct gw_taken *taken;
    gw_err_t err;
    struct gw_err_ctx ctx;
    bool taker_done;
};

static void on_give(void *arg, int fds[GW_HANDOVER_FDS])
{
    const struct fixture *f = arg;
    memcpy(fds, f->sockets, sizeof f->sockets);
}

static void on_given(void *arg)
{
    struct fixture *f = arg;
    f->given++;
    gw_giver_put_request(f->giver, &request, logs, "test-1");
}

static void on_action(void *arg, const struct gw_action *a)
{
    struct fixture *f = arg;
    assert_true(f->actions_len < 8);
    if (a->type == GW_ACT_TOKENS) assert_int_equal(a->tokens.tokens.first, 2);
    if (a->type == GW_ACT_FAILED) assert_string_equal(a->failed.text, "why");
    f->actions[f->actions_len++] = a->type;
}

static void on_gone(void *arg)
{
    ((struct fixture *)arg)->gone++;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct gw_err_ctx ctx = {0};
    assert_non_null(f);
    f->loop = event_base_new();
    snprintf(f->dir, sizeof f->dir, "/tmp/godwit-handover-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/s", f->dir);
    for (int i = 0; i < GW_HANDOVER_FDS; i++) f->sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
    const struct gw_giver_config config = {
        .path = f->path, .give = on_give, .given = on_given, .action = on_action, .gone = on_gone, .arg = f};
    if (gw_giver_create(f->loop, &config, &f->giver, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_taken_destroy(f->taken);
    gw_giver_destroy(f->giver);
    event_base_loop(f->loop, EVLOOP_NONBLOCK);
    event_base_free(f->loop);
    for (int i = 0; i < GW_HANDOVER_FDS; i++) close(f->sockets[i]);
    unlink(f->path);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void run_until(struct fixture *f, const int *value, int wanted)
{
    int64_t deadline_us = gw_clock_mono_us() + WAIT_US;
    const struct timeval poll = {.tv_usec = 5000};
    while (*value < wanted && gw_clock_mono_us() < deadline_us) {
        event_base_loopexit(f->loop, &poll);
        event_base_dispatch(f->loop);
    }
    assert_true(*value >= wanted);
}

static void *taker(void *arg)
{
    struct fixture *f = arg;
    f->err = gw_handover_take(f->path, &f->taken, &f->ctx);
    __atomic_store_n(&f->taker_done, true, __ATOMIC_RELEASE);
    return NULL;
}

static void on_posted(void *arg, const struct gw_event *e)
{
    struct fixture *f = arg;
    if (e->type == GW_EV_CANCEL) f->cancels++;
    if (e->type != GW_EV_RESTORE) return;
    f->restored++;
    assert_int_equal(e->restore.request->id, 77);
    assert_int_equal(e->restore.branches[0].tokens.count, 2);
    assert_int_equal(e->restore.branches[0].tokens.top_n, 1);
    assert_true(e->restore.branches[1].done);
    assert_string_equal(e->restore.profile, "test-1");
    gw_request_destroy(e->restore.request);
}

static void on_ended(void *arg)
{
    ((struct fixture *)arg)->ended++;
}

/* The successor asks from a thread: it waits for the predecessor, which is on our loop. */
static void take(struct fixture *f)
{
    pthread_t thread;
    const struct gw_taken_config config = {.post = on_posted, .ended = on_ended, .arg = f};
    struct gw_err_ctx ctx = {0};
    int64_t deadline_us = gw_clock_mono_us() + WAIT_US;
    assert_int_equal(pthread_create(&thread, NULL, taker, f), 0);
    while (!__atomic_load_n(&f->taker_done, __ATOMIC_ACQUIRE) && gw_clock_mono_us() < deadline_us) {
        const struct timeval poll = {.tv_usec = 5000};
        event_base_loopexit(f->loop, &poll);
        event_base_dispatch(f->loop);
    }
    pthread_join(thread, NULL);
    if (f->err != GW_OK) fail_msg("%s", f->ctx.text);
    assert_non_null(f->taken);
    assert_int_equal(gw_taken_begin(f->taken, f->loop, &config, &ctx), GW_OK);
}

static void test_place_is_given_whole(void **state)
{
    struct fixture *f = *state;
    struct stat mine, theirs;
    take(f);
    assert_int_equal(f->given, 1);
    assert_int_equal(f->restored, 1);
    for (int i = 0; i < GW_HANDOVER_FDS; i++) {
        int fd = gw_taken_socket(f->taken, i);
        assert_int_equal(fstat(f->sockets[i], &mine), 0);
        assert_int_equal(fstat(fd, &theirs), 0);
        assert_int_equal(mine.st_ino, theirs.st_ino);
        close(fd);
    }
    float logprobs[] = {-1, -1};
    struct gw_top top[] = {{1, -1}, {2, -1}};
    const struct gw_action says[] = {
        {.type = GW_ACT_TOKENS,
         .tokens =
             {.request = 77,
              .tokens = {.first = 2, .count = 2, .top_n = 1, .ids = ids, .logprobs = logprobs, .top = top}}},
        {.type = GW_ACT_FINISH, .finish = {.request = 77, .reason = GW_FINISH_STOP}},
        {.type = GW_ACT_FAILED, .failed = {.request = 77, .code = GW_ERR_LIMIT, .text = "why"}}};
    for (int i = 0; i < 3; i++) assert_true(gw_taken_on_action(f->taken, &says[i]));
    assert_false(gw_taken_on_action(f->taken, &says[0])); /* it has ended */
    run_until(f, &f->actions_len, 3);
    assert_int_equal(f->actions[0], GW_ACT_TOKENS);
    assert_int_equal(f->actions[1], GW_ACT_FINISH);
    assert_int_equal(f->actions[2], GW_ACT_FAILED);
}

static void test_cancel_and_the_predecessor_s_end_reach_the_core(void **state)
{
    struct fixture *f = *state;
    take(f);
    const struct gw_event cancel = {.type = GW_EV_CANCEL, .cancel.request = 77};
    gw_giver_post(f->giver, &cancel);
    run_until(f, &f->cancels, 1);
    struct gw_request *copy = NULL;
    assert_int_equal(gw_request_copy(&request, &copy), GW_OK);
    const struct gw_event again = {.type = GW_EV_RESTORE,
                                   .restore = {.request = copy, .branches = logs, .profile = "test-1"}};
    gw_giver_post(f->giver, &again);
    run_until(f, &f->restored, 2);
    gw_giver_destroy(f->giver);
    f->giver = NULL;
    run_until(f, &f->ended, 1);
    assert_int_equal(f->cancels, 2);
    assert_true(gw_taken_is_over(f->taken));
}

static void test_successor_s_end_is_told(void **state)
{
    struct fixture *f = *state;
    take(f);
    gw_taken_destroy(f->taken);
    f->taken = NULL;
    run_until(f, &f->gone, 1);
}

static void test_take_where_nobody_listens_takes_nothing(void **state)
{
    struct fixture *f = *state;
    struct gw_taken *taken;
    char path[128];
    snprintf(path, sizeof path, "%s/none", f->dir);
    assert_int_equal(gw_handover_take(path, &taken, &f->ctx), GW_OK);
    assert_null(taken);
    gw_giver_destroy(f->giver); /* its file stays, as after a crash */
    f->giver = NULL;
    assert_int_equal(gw_handover_take(f->path, &taken, &f->ctx), GW_OK);
    assert_null(taken);
}

static void test_stranger_gets_nothing(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char answer[8];
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", f->path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(write(fd, "GET / HTTP/1.1\r\n", 16), 16);
    const struct timeval poll = {.tv_usec = 100000};
    event_base_loopexit(f->loop, &poll);
    event_base_dispatch(f->loop);
    assert_true(read(fd, answer, sizeof answer) <= 0);
    close(fd);
    assert_int_equal(f->given + f->gone, 0);
    take(f); /* and the next one gets all */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_come_back_as_they_were),
        cmocka_unit_test(test_messages_that_cannot_be_are_refused),
        TEST(test_place_is_given_whole),
        TEST(test_cancel_and_the_predecessor_s_end_reach_the_core),
        TEST(test_successor_s_end_is_told),
        TEST(test_take_where_nobody_listens_takes_nothing),
        TEST(test_stranger_gets_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
