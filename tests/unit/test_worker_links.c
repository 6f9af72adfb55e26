/* controller/worker_links: the handshake and the end of links, over real sockets with a hand-made worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sockaddr.h"
#include "controller/worker_links.h"

#define KEY        "the cluster key"
#define DEADLINE_S 10

struct heard {
    int hellos, msgs, downs;
    uint64_t link;
    enum gw_msg_type last;
};

struct fixture {
    struct event_base *loop;
    struct gw_links *links;
    struct heard heard;
};

static void on_event(void *arg, const struct gw_event *event)
{
    struct heard *h = arg;
    h->link = event->link.link;
    if (event->type == GW_EV_HELLO) h->hellos++;
    if (event->type == GW_EV_MSG) h->msgs++;
    if (event->type == GW_EV_LINK_DOWN) h->downs++;
    if (event->link.msg) h->last = event->link.msg->type;
}

static int set_up(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    f.loop = event_base_new();
    struct gw_links_config config = {.host = "127.0.0.1",
                                     .key = KEY,
                                     .key_len = strlen(KEY),
                                     .max_links = 3,
                                     .event = on_event,
                                     .arg = &f.heard};
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_links_create(f.loop, &config, &f.links, &ctx), GW_OK);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_links_destroy(f->links);
    event_base_free(f->loop);
    return 0;
}

/* ---- the hand-made worker ---- */

struct peer {
    int fd;
    struct evbuffer *in;
    bool eof;
};

static struct peer dial(struct fixture *f)
{
    struct peer p = {.fd = socket(AF_INET, SOCK_STREAM, 0), .in = evbuffer_new()};
    struct sockaddr_storage addr;
    socklen_t len;
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", gw_links_port(f->links), &addr, &len, NULL), GW_OK);
    assert_int_equal(connect(p.fd, (struct sockaddr *)&addr, len), 0);
    fcntl(p.fd, F_SETFL, O_NONBLOCK);
    return p;
}

static void hang_up(struct peer *p)
{
    close(p->fd);
    evbuffer_free(p->in);
}

/* Runs the loop until the peer has a whole message (returns true) or has been closed (false). */
static bool hear(struct fixture *f, struct peer *p, struct gw_msg *msg)
{
    int64_t deadline = gw_clock_mono_us() + DEADLINE_S * GW_US_PER_S;
    while (gw_clock_mono_us() < deadline) {
        struct gw_frame frame;
        bool ready;
        event_base_loop(f->loop, EVLOOP_NONBLOCK);
        int n = evbuffer_read(p->in, p->fd, -1);
        assert_int_equal(gw_frame_take(p->in, GW_FRAME_PAYLOAD_MAX, &frame, &ready, NULL), GW_OK);
        if (ready) {
            assert_int_equal(gw_msg_decode(&frame, msg, NULL), GW_OK);
            gw_frame_drop(p->in, &frame);
            return true;
        }
        if (n == 0) return false;
    }
    fail_msg("nothing was heard in %d s", DEADLINE_S);
    return false;
}

static void say(struct peer *p, const struct gw_msg *msg)
{
    struct evbuffer *out = evbuffer_new();
    assert_int_equal(gw_msg_put(msg, out), GW_OK);
    while (evbuffer_get_length(out) > 0) assert_true(evbuffer_write(out, p->fd) > 0);
    evbuffer_free(out);
}

static void say_hello(struct fixture *f, struct peer *p, const char *key)
{
    struct gw_msg challenge, hello = {.type = GW_MSG_HELLO};
    assert_true(hear(f, p, &challenge));
    assert_int_equal(challenge.type, GW_MSG_CHALLENGE);
    hello.hello.proto = 1;
    strcpy(hello.hello.worker, "w7");
    strcpy(hello.hello.instance, "i-7");
    strcpy(hello.hello.build, "test");
    strcpy(hello.hello.profile, "cpu-f32-1");
    hello.hello.vocab = hello.hello.context = hello.hello.kv_tokens = hello.hello.max_sequences = 16;
    memset(hello.hello.nonce, 7, sizeof hello.hello.nonce);
    gw_hello_mac(key, strlen(key), challenge.challenge.nonce, &hello.hello, hello.hello.mac);
    say(p, &hello);
}

static void run_until(struct fixture *f, const int *counter, int value)
{
    int64_t deadline = gw_clock_mono_us() + DEADLINE_S * GW_US_PER_S;
    while (*counter < value && gw_clock_mono_us() < deadline) event_base_loop(f->loop, EVLOOP_NONBLOCK);
    assert_int_equal(*counter, value);
}

/* ---- tests ---- */

static void test_hello_with_the_key_reaches_the_core_and_welcome_proves_ours(void **state)
{
    struct fixture *f = *state;
    struct peer p = dial(f);
    struct gw_msg msg,
        welcome = {.type = GW_MSG_WELCOME, .welcome = {.heartbeat_ms = 250, .controller_timeout_ms = 5000}};
    uint8_t nonce[GW_WIRE_NONCE_BYTES], mac[GW_WIRE_MAC_BYTES];
    say_hello(f, &p, KEY);
    run_until(f, &f->heard.hellos, 1);
    gw_links_send(f->links, f->heard.link, &welcome);
    assert_true(hear(f, &p, &msg));
    assert_int_equal(msg.type, GW_MSG_WELCOME);
    memset(nonce, 7, sizeof nonce);
    gw_welcome_mac(KEY, strlen(KEY), nonce, mac);
    assert_memory_equal(msg.welcome.mac, mac, sizeof mac);
    hang_up(&p);
    run_until(f, &f->heard.downs, 1);
}

static void test_hello_with_another_key_is_refused_and_the_core_hears_nothing(void **state)
{
    struct fixture *f = *state;
    struct peer p = dial(f);
    struct gw_msg msg;
    say_hello(f, &p, "some other key");
    assert_true(hear(f, &p, &msg));
    assert_int_equal(msg.type, GW_MSG_REFUSE);
    assert_int_equal(msg.refuse.code, GW_REFUSE_AUTH);
    assert_false(hear(f, &p, &msg));
    assert_int_equal(f->heard.hellos + f->heard.msgs + f->heard.downs, 0);
    hang_up(&p);
}

static void test_message_before_hello_closes_the_link(void **state)
{
    struct fixture *f = *state;
    struct peer p = dial(f);
    struct gw_msg msg, heartbeat = {.type = GW_MSG_HEARTBEAT};
    assert_true(hear(f, &p, &msg));
    say(&p, &heartbeat);
    assert_false(hear(f, &p, &msg));
    assert_int_equal(f->heard.msgs + f->heard.downs, 0);
    hang_up(&p);
}

static void test_garbage_after_hello_is_one_link_down(void **state)
{
    struct fixture *f = *state;
    struct peer p = dial(f);
    struct gw_msg msg, heartbeat = {.type = GW_MSG_HEARTBEAT};
    say_hello(f, &p, KEY);
    run_until(f, &f->heard.hellos, 1);
    say(&p, &heartbeat);
    run_until(f, &f->heard.msgs, 1);
    assert_int_equal(f->heard.last, GW_MSG_HEARTBEAT);
    assert_int_equal(write(p.fd, "0123456789012345678901234567890123456789", 40), 40);
    assert_false(hear(f, &p, &msg));
    assert_int_equal(f->heard.downs, 1);
    hang_up(&p);
}

/* A byte now and then does not keep it open. */
static void test_hello_that_trickles_is_cut_off(void **state)
{
    struct fixture *f = *state;
    struct peer p = dial(f);
    struct gw_msg msg;
    int64_t end = gw_clock_mono_us() + DEADLINE_S * GW_US_PER_S, next = 0;
    assert_true(hear(f, &p, &msg));
    for (uint8_t byte; gw_clock_mono_us() < end;) {
        event_base_loop(f->loop, EVLOOP_NONBLOCK);
        if (gw_clock_mono_us() >= next && send(p.fd, "G", 1, MSG_NOSIGNAL) != 1) break;
        if (recv(p.fd, &byte, 1, MSG_DONTWAIT) == 0) break;
        if (gw_clock_mono_us() >= next) next = gw_clock_mono_us() + GW_US_PER_S;
        usleep(1000);
    }
    assert_true(gw_clock_mono_us() < end);
    assert_int_equal(f->heard.hellos + f->heard.msgs + f->heard.downs, 0);
    hang_up(&p);
}

static void test_second_hello_closes_the_link(void **state)
{
    struct fixture *f = *state;
    struct peer p = dial(f);
    struct gw_msg hello = {.type = GW_MSG_HELLO,
                           .hello = {.proto = 1, .worker = "w", .instance = "i", .profile = "p"}};
    say_hello(f, &p, KEY);
    run_until(f, &f->heard.hellos, 1);
    say(&p, &hello);
    run_until(f, &f->heard.downs, 1);
    hang_up(&p);
}

static void test_close_sends_what_was_queued_and_no_event_follows(void **state)
{
    struct fixture *f = *state;
    struct peer p = dial(f);
    struct gw_msg msg, bye = {.type = GW_MSG_GOODBYE, .goodbye = {.text = "that was all"}};
    say_hello(f, &p, KEY);
    run_until(f, &f->heard.hellos, 1);
    gw_links_send(f->links, f->heard.link, &bye);
    gw_links_close(f->links, f->heard.link, "test");
    assert_true(hear(f, &p, &msg));
    assert_string_equal(msg.goodbye.text, "that was all");
    assert_false(hear(f, &p, &msg));
    assert_int_equal(f->heard.downs, 0);
    gw_links_send(f->links, f->heard.link, &bye); /* a dead link is ignored */
    hang_up(&p);
}

static void test_accept_more_than_max_links_turns_the_last_away(void **state)
{
    struct fixture *f = *state;
    struct peer p[4];
    struct gw_msg msg;
    for (int i = 0; i < 4; i++) p[i] = dial(f);
    for (int i = 0; i < 3; i++) assert_true(hear(f, &p[i], &msg));
    assert_false(hear(f, &p[3], &msg));
    for (int i = 0; i < 4; i++) hang_up(&p[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello_with_the_key_reaches_the_core_and_welcome_proves_ours,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hello_with_another_key_is_refused_and_the_core_hears_nothing,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_message_before_hello_closes_the_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_garbage_after_hello_is_one_link_down, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_second_hello_closes_the_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hello_that_trickles_is_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_close_sends_what_was_queued_and_no_event_follows, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_accept_more_than_max_links_turns_the_last_away, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
