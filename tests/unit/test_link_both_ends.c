/* worker/link and controller/worker_links against each other, over loopback: sessions begin, end, and begin
 * anew; with TLS and without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <string.h>

#include "base/clock.h"
#include "base/sockaddr.h"
#include "controller/worker_links.h"
#include "worker/link.h"

#define DEADLINE_US  (20 * GW_US_PER_S)
#define HEARTBEAT_MS 20

struct fixture {
    struct event_base *loop;
    struct gw_links *links;
    struct gw_link *link;
    struct gw_tls *controller_tls, *worker_tls; /* NULL: plaintext */
    struct gw_log controller_log, worker_log;
    uint64_t id; /* the controller's name of the link */
    int hellos, heartbeats, tokens, downs;
    uint64_t last_max_term, last_steps, last_generation;
    uint32_t last_token;
    bool jumped; /* a token that was not the one behind the last */
};

static void on_msg(struct fixture *f, const struct gw_msg *msg)
{
    f->last_generation = msg->generation;
    if (msg->type == GW_MSG_HEARTBEAT) {
        f->heartbeats++;
        f->last_steps = msg->heartbeat.steps;
    } else if (msg->type == GW_MSG_TOKENS) {
        f->jumped |= f->tokens++ > 0 && msg->tokens.tokens.ids[0] != f->last_token + 1;
        f->last_token = msg->tokens.tokens.ids[0];
    }
}

static void on_event(void *arg, const struct gw_event *event)
{
    struct fixture *f = arg;
    if (event->type == GW_EV_HELLO) {
        f->hellos++;
        f->id = event->link.link;
        f->last_max_term = event->link.msg->hello.max_term;
    } else if (event->type == GW_EV_LINK_DOWN) {
        f->downs++;
    } else {
        on_msg(f, event->link.msg);
    }
}

static void start_controller(struct fixture *f, uint16_t port)
{
    const struct gw_links_config config = {.host = "127.0.0.1",
                                           .port = port,
                                           .key = "key",
                                           .key_len = 3,
                                           .tls = f->controller_tls,
                                           .max_links = 8,
                                           .log = &f->controller_log,
                                           .event = on_event,
                                           .arg = f};
    struct gw_err_ctx ctx = {0};
    if (gw_links_create(f->loop, &config, &f->links, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

static void add_controller(struct gw_link_config *config, uint16_t port)
{
    struct gw_link_endpoint *e = &config->controllers[config->controllers_len++];
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", port, &e->addr, &e->len, NULL), GW_OK);
}

/* standby: a port that comes first in its list; 0 = none. */
static void start_worker_behind(struct fixture *f, const char *key, uint16_t standby)
{
    struct gw_link_config config = {
        .key = key, .key_len = strlen(key), .tls = f->worker_tls, .log = &f->worker_log};
    struct gw_err_ctx ctx = {0};
    if (standby) add_controller(&config, standby);
    add_controller(&config, gw_links_port(f->links));
    strcpy(config.hello.worker, "w0");
    strcpy(config.hello.instance, "i0");
    strcpy(config.hello.build, "test");
    strcpy(config.hello.profile, "cpu-f32-1");
    strcpy(config.hello.data, "127.0.0.1:1");
    strcpy(config.hello.device, "test");
    config.hello.vocab = config.hello.context = config.hello.kv_tokens = config.hello.max_sequences = 16;
    assert_int_equal(gw_link_create(&config, &f->link, &ctx), GW_OK);
}

static void start_worker(struct fixture *f, const char *key)
{
    start_worker_behind(f, key, 0);
}

static struct gw_log log_to_memory(const char *program)
{
    return (struct gw_log){
        .fd = memfd_create(program, MFD_CLOEXEC), .level = GW_LOG_WARN, .program = program};
}

static struct gw_tls *tls_of(const char *key)
{
    struct gw_tls *tls = NULL;
    if (!key) return NULL;
    const struct gw_tls_config config = {.key = key, .key_len = strlen(key), .everywhere = true};
    assert_int_equal(gw_tls_create(&config, &tls, NULL), GW_OK);
    return tls;
}

/* Keys of TLS; NULL: plaintext. */
static int set_up_with(void **state, const char *controller_key, const char *worker_key)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->loop = event_base_new();
    f->controller_log = log_to_memory("controller");
    f->worker_log = log_to_memory("worker");
    f->controller_tls = tls_of(controller_key);
    f->worker_tls = tls_of(worker_key);
    start_controller(f, 0);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, NULL, NULL);
}

static int set_up_tls(void **state)
{
    return set_up_with(state, "key", "key");
}

static int set_up_tls_worker(void **state)
{
    return set_up_with(state, NULL, "key");
}

static int set_up_tls_controller(void **state)
{
    return set_up_with(state, "key", NULL);
}

static int set_up_wrong_key(void **state)
{
    return set_up_with(state, "key", "another key");
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_link_destroy(f->link);
    gw_links_destroy(f->links);
    event_base_free(f->loop);
    gw_tls_destroy(f->controller_tls);
    gw_tls_destroy(f->worker_tls);
    close(f->controller_log.fd);
    close(f->worker_log.fd);
    free(f);
    return 0;
}

static void spin(struct fixture *f)
{
    event_base_loop(f->loop, EVLOOP_NONBLOCK);
    usleep(500);
}

static void until_at_least(struct fixture *f, const int *counter, int value)
{
    int64_t deadline = gw_clock_mono_us() + DEADLINE_US;
    while (*counter < value && gw_clock_mono_us() < deadline) spin(f);
    assert_true(*counter >= value);
}

static void until_logged(struct fixture *f, const struct gw_log *log, const char *text)
{
    char all[8192] = "";
    int64_t deadline = gw_clock_mono_us() + DEADLINE_US;
    while (!strstr(all, text)) {
        if (gw_clock_mono_us() > deadline) fail_msg("'%s' was not logged, but: %s", text, all);
        spin(f);
        ssize_t n = pread(log->fd, all, sizeof all - 1, 0);
        all[n > 0 ? n : 0] = '\0';
    }
}

static struct gw_link_item next_item(struct fixture *f)
{
    struct gw_link_item item = {0};
    int64_t deadline = gw_clock_mono_us() + DEADLINE_US;
    while (!gw_link_receive(f->link, 0, &item)) {
        if (gw_clock_mono_us() > deadline) fail_msg("no item came");
        spin(f);
    }
    return item;
}

static void welcome(struct fixture *f, uint64_t term, uint64_t generation, uint32_t timeout_ms)
{
    struct gw_msg msg = {.type = GW_MSG_WELCOME,
                         .term = term,
                         .pipeline = 1,
                         .generation = generation,
                         .welcome = {.heartbeat_ms = HEARTBEAT_MS, .controller_timeout_ms = timeout_ms}};
    gw_links_send(f->links, f->id, &msg);
}

static uint64_t begin_session(struct fixture *f, uint64_t term, uint64_t generation)
{
    until_at_least(f, &f->hellos, f->hellos + 1);
    welcome(f, term, generation, 60000);
    struct gw_link_item item = next_item(f);
    assert_int_equal(item.type, GW_LINK_UP);
    return item.session;
}

static void send_cancel(struct fixture *f, uint64_t term, uint64_t generation, uint64_t request)
{
    struct gw_msg msg = {.type = GW_MSG_CANCEL,
                         .term = term,
                         .pipeline = 1,
                         .generation = generation,
                         .cancel = {.request = request, .attempt = 1, .branch = GW_BRANCH_ALL}};
    gw_links_send(f->links, f->id, &msg);
}

static void send_token(struct fixture *f, uint64_t session, uint32_t id)
{
    float logprob = 0;
    struct gw_msg msg = {
        .type = GW_MSG_TOKENS,
        .generation = 9, /* of the pipeline */
        .tokens = {.request = 1, .attempt = 1, .tokens = {.count = 1, .ids = &id, .logprobs = &logprob}}};
    gw_link_send(f->link, session, &msg);
    gw_link_flush(f->link);
}

static void test_session_carries_messages_both_ways_and_beats(void **state)
{
    struct fixture *f = *state;
    start_worker(f, "key");
    uint64_t session = begin_session(f, 5, 9);
    const struct gw_msg_heartbeat progress = {.steps = 77};
    gw_link_set_progress(f->link, &progress);
    send_cancel(f, 5, 9, 42);
    struct gw_link_item item = next_item(f);
    assert_int_equal(item.type, GW_LINK_MSG);
    assert_int_equal(item.session, session);
    assert_int_equal(item.msg.cancel.request, 42);
    send_token(f, session, 11);
    until_at_least(f, &f->tokens, 1);
    assert_int_equal(f->last_token, 11);
    assert_int_equal(f->last_generation, 9);
    until_at_least(f, &f->heartbeats, 3);
    assert_int_equal(f->last_steps, 77);
}

/* More than the sockets hold, while the controller does not read; heartbeats, which the I/O thread writes, come between. */
static void test_burst_arrives_whole_and_in_order(void **state)
{
    enum { BURST = 100000, PAUSE = 20000 };
    struct fixture *f = *state;
    start_worker(f, "key");
    uint64_t session = begin_session(f, 5, 9);
    for (uint32_t id = 0; id < BURST; id++) {
        send_token(f, session, id);
        if (id % PAUSE == 0) usleep(3 * HEARTBEAT_MS * 1000);
    }
    until_at_least(f, &f->tokens, BURST);
    for (uint32_t id = BURST; id < 2 * BURST;
         id++) { /* read meanwhile: now the one thread writes, now the other */
        send_token(f, session, id);
        if (id % 64 == 0) event_base_loop(f->loop, EVLOOP_NONBLOCK);
    }
    until_at_least(f, &f->tokens, 2 * BURST);
    assert_false(f->jumped);
    assert_int_equal(f->last_token, 2 * BURST - 1);
    assert_true(f->heartbeats >= 3);
    assert_int_equal(f->downs, 0);
}

static void test_message_of_an_older_term_is_dropped(void **state)
{
    struct fixture *f = *state;
    start_worker(f, "key");
    begin_session(f, 5, 9);
    send_cancel(f, 4, 9, 2);
    send_cancel(f, 5, 9, 3);
    struct gw_link_item item = next_item(f);
    assert_int_equal(item.msg.cancel.request, 3);
}

static void test_lost_controller_is_redialled_and_old_sessions_messages_are_dropped(void **state)
{
    struct fixture *f = *state;
    start_worker(f, "key");
    uint64_t old = begin_session(f, 5, 9);
    gw_links_close(f->links, f->id, "test");
    struct gw_link_item item = next_item(f);
    assert_int_equal(item.type, GW_LINK_LOST);
    assert_int_equal(item.session, old);
    uint64_t fresh = begin_session(f, 6, 10);
    assert_true(fresh > old);
    assert_int_equal(f->last_max_term, 5);
    send_token(f, old, 1);
    send_token(f, fresh, 2);
    until_at_least(f, &f->tokens, 1);
    assert_int_equal(f->last_token, 2);
}

static void test_lower_term_is_not_served(void **state)
{
    struct fixture *f = *state;
    start_worker(f, "key");
    begin_session(f, 5, 9);
    gw_links_close(f->links, f->id, "test");
    assert_int_equal(next_item(f).type, GW_LINK_LOST);
    until_at_least(f, &f->hellos, 2);
    welcome(f, 4, 10, 60000); /* the worker hangs up and dials again */
    begin_session(f, 5, 11);
}

static void test_silent_controller_is_lost_after_its_timeout(void **state)
{
    struct fixture *f = *state;
    start_worker(f, "key");
    until_at_least(f, &f->hellos, 1);
    welcome(f, 5, 9, 200);
    assert_int_equal(next_item(f).type, GW_LINK_UP);
    assert_int_equal(next_item(f).type, GW_LINK_LOST);
    until_at_least(f, &f->hellos, 2);
}

static void test_wrong_key_is_refused_for_good(void **state)
{
    struct fixture *f = *state;
    start_worker(f, "another key");
    struct gw_link_item item = next_item(f);
    assert_int_equal(item.type, GW_LINK_REFUSED);
    assert_int_equal(item.msg.refuse.code, GW_REFUSE_AUTH);
}

static void test_controller_that_comes_later_is_found(void **state)
{
    struct fixture *f = *state;
    uint16_t port = gw_links_port(f->links);
    start_worker(f, "key");
    begin_session(f, 5, 9);
    gw_links_destroy(f->links);
    assert_int_equal(next_item(f).type, GW_LINK_LOST);
    usleep(200 * 1000); /* a few dials fail meanwhile */
    start_controller(f, port);
    begin_session(f, 6, 1);
}

/* Nobody listens at the first one's port: it stands by. */
static void test_next_controller_of_the_list_is_tried(void **state)
{
    struct fixture *f = *state;
    struct gw_links *links = f->links;
    start_controller(f, 0);
    uint16_t nobody = gw_links_port(f->links);
    gw_links_destroy(f->links);
    f->links = links;
    start_worker_behind(f, "key", nobody);
    begin_session(f, 5, 9);
}

/* One side has --insecure-plaintext, or another key: both say it, and go on trying. */
static void test_tls_of_the_worker_alone_is_told_by_both(void **state)
{
    struct fixture *f = *state;
    start_worker(f, "key");
    until_logged(f, &f->controller_log, "the other side speaks TLS and this one plaintext");
    until_logged(f, &f->worker_log, "the other side speaks plaintext");
    assert_true(gw_links_turned_away(f->links) >= 1);
    assert_int_equal(f->hellos, 0);
}

static void test_tls_of_the_controller_alone_is_told_by_both(void **state)
{
    struct fixture *f = *state;
    start_worker(f, "key");
    until_logged(f, &f->controller_log, "does not hold the cluster key or speaks plaintext");
    until_logged(f, &f->worker_log, "it may speak TLS and this worker plaintext");
    assert_true(gw_links_turned_away(f->links) >= 1);
    assert_int_equal(f->hellos, 0);
}

static void test_tls_of_another_key_is_told_by_both(void **state)
{
    struct fixture *f = *state;
    start_worker(f, "another key");
    until_logged(f, &f->controller_log, "does not hold the cluster key");
    until_logged(f, &f->worker_log, "does not hold the cluster key");
    assert_true(gw_links_turned_away(f->links) >= 1);
    assert_int_equal(f->hellos, 0);
}

#define WITH_TLS(test) cmocka_unit_test_setup_teardown(test, set_up_tls, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_session_carries_messages_both_ways_and_beats, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_burst_arrives_whole_and_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_message_of_an_older_term_is_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_lost_controller_is_redialled_and_old_sessions_messages_are_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lower_term_is_not_served, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_silent_controller_is_lost_after_its_timeout, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_key_is_refused_for_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_controller_that_comes_later_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_next_controller_of_the_list_is_tried, set_up, tear_down),
        WITH_TLS(test_session_carries_messages_both_ways_and_beats),
        WITH_TLS(test_burst_arrives_whole_and_in_order),
        WITH_TLS(test_lost_controller_is_redialled_and_old_sessions_messages_are_dropped),
        WITH_TLS(test_silent_controller_is_lost_after_its_timeout),
        WITH_TLS(test_wrong_key_is_refused_for_good), /* of the hello's proof */
        WITH_TLS(test_controller_that_comes_later_is_found),
        WITH_TLS(test_next_controller_of_the_list_is_tried),
        cmocka_unit_test_setup_teardown(test_tls_of_the_worker_alone_is_told_by_both, set_up_tls_worker,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_tls_of_the_controller_alone_is_told_by_both,
                                        set_up_tls_controller, tear_down),
        cmocka_unit_test_setup_teardown(test_tls_of_another_key_is_told_by_both, set_up_wrong_key, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
