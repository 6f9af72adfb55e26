/* worker/link with controllers of earlier, the same and later protocols: what it says to each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/buffer.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sockaddr.h"
#include "worker/link.h"

#define KEY          "key"
#define DEADLINE_S   20
#define HEARTBEAT_MS 10

/* A controller of one connection. */
struct controller {
    int listener, fd;
    struct evbuffer *in;
    struct gw_link *link;
};

static void open_controller(struct controller *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    struct gw_link_config config = {.key = KEY, .key_len = strlen(KEY), .controllers_len = 1};
    struct gw_err_ctx ctx = {0};
    *c = (struct controller){.listener = socket(AF_INET, SOCK_STREAM, 0), .in = evbuffer_new()};
    assert_int_equal(bind(c->listener, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(c->listener, 1), 0);
    assert_int_equal(getsockname(c->listener, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", ntohs(a.sin_port), &config.controllers[0].addr,
                                       &config.controllers[0].len, &ctx),
                     GW_OK);
    strcpy(config.hello.worker, "w0");
    strcpy(config.hello.instance, "i0");
    strcpy(config.hello.profile, "cpu-f32-1");
    strcpy(config.hello.data, "127.0.0.1:1");
    strcpy(config.hello.device, "test");
    strcpy(config.hello.pages, "127.0.0.1:2");
    config.hello.vocab = config.hello.context = config.hello.kv_tokens = config.hello.max_sequences = 16;
    assert_int_equal(gw_link_create(&config, &c->link, &ctx), GW_OK);
    struct timeval wait = {.tv_sec = DEADLINE_S};
    c->fd = accept(c->listener, NULL, NULL);
    assert_true(c->fd >= 0);
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
}

static void close_controller(struct controller *c)
{
    gw_link_destroy(c->link);
    close(c->fd);
    close(c->listener);
    evbuffer_free(c->in);
}

static void say(struct controller *c, const struct gw_msg *msg)
{
    struct evbuffer *out = evbuffer_new();
    assert_int_equal(gw_msg_put(msg, out), GW_OK);
    while (evbuffer_get_length(out) > 0) assert_true(evbuffer_write(out, c->fd) > 0);
    evbuffer_free(out);
}

/* The next message, and how many bytes of payload it had. False at the connection's end. */
static bool hear(struct controller *c, struct gw_msg *msg, uint32_t *len)
{
    struct gw_frame frame;
    bool ready = false;
    while (!ready) {
        assert_int_equal(gw_frame_take(c->in, GW_FRAME_PAYLOAD_MAX, &frame, &ready, NULL), GW_OK);
        if (!ready && evbuffer_read(c->in, c->fd, 4096) <= 0) return false;
    }
    *len = frame.len;
    assert_int_equal(gw_msg_decode(&frame, msg, NULL), GW_OK);
    gw_frame_drop(c->in, &frame);
    return true;
}

/* Offers protocols; returns the HELLO. */
static struct gw_msg_hello greet(struct controller *c, uint16_t min, uint16_t max)
{
    struct gw_msg challenge = {.type = GW_MSG_CHALLENGE, .challenge = {min, max, "a nonce of 16 by"}}, hello;
    uint32_t len;
    uint8_t mac[GW_WIRE_MAC_BYTES];
    say(c, &challenge);
    assert_true(hear(c, &hello, &len));
    assert_int_equal(hello.type, GW_MSG_HELLO);
    gw_hello_mac(KEY, strlen(KEY), challenge.challenge.nonce, &hello.hello, mac);
    assert_memory_equal(mac, hello.hello.mac, sizeof mac);
    return hello.hello;
}

static void welcome(struct controller *c, const struct gw_msg_hello *hello)
{
    struct gw_msg m = {.type = GW_MSG_WELCOME, .term = 5, .pipeline = 1, .generation = 9};
    m.welcome.heartbeat_ms = HEARTBEAT_MS;
    m.welcome.controller_timeout_ms = 60000;
    gw_welcome_mac(KEY, strlen(KEY), hello->nonce, m.welcome.mac);
    say(c, &m);
}

/* Waits for a heartbeat that tells of those steps; returns its length. */
static uint32_t next_beat(struct controller *c, uint64_t steps, struct gw_msg_heartbeat *out)
{
    struct gw_msg m = {0};
    uint32_t len = 0;
    while (m.type != GW_MSG_HEARTBEAT || m.heartbeat.steps != steps) assert_true(hear(c, &m, &len));
    *out = m.heartbeat;
    return len;
}

static void test_session_of_each_protocol_says_what_that_knows(void **state)
{
    (void)state;
    static const struct {
        uint16_t min, max, chosen;
        bool pages;
        uint32_t beat_bytes;
    } cases[] = {{1, 1, 1, false, 56}, {1, 2, 2, false, 56}, {1, 3, 3, true, 104},
                 {1, 4, 4, true, 120}, {1, 5, 5, true, 184}, {2, 9, 6, true, 184}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct gw_msg_heartbeat progress = {.steps = 7,
                                                  .step_us = 900,
                                                  .step_rows = 4,
                                                  .step_sequences = 3,
                                                  .step_kv_tokens = 100,
                                                  .kv_offered = 6,
                                                  .kv_stored = 5,
                                                  .weight_disk_bytes = 11,
                                                  .weight_peer_bytes = 12,
                                                  .traffic = {.far = {13}}};
        struct controller c;
        struct gw_link_item item;
        struct gw_msg_heartbeat beat;
        open_controller(&c);
        struct gw_msg_hello hello = greet(&c, cases[i].min, cases[i].max);
        assert_int_equal(hello.proto, cases[i].chosen);
        assert_string_equal(hello.pages, cases[i].pages ? "127.0.0.1:2" : "");
        assert_string_equal(hello.data, cases[i].chosen > 1 ? "127.0.0.1:1" : "");
        assert_int_equal(hello.kv_tokens, cases[i].chosen > 1 ? 0 : 16);
        welcome(&c, &hello);
        assert_true(gw_link_receive(c.link, DEADLINE_S * 1000000ll, &item));
        assert_int_equal(item.type, GW_LINK_UP);
        assert_int_equal(item.proto, cases[i].chosen);
        gw_link_set_progress(c.link, &progress);
        assert_int_equal(next_beat(&c, 7, &beat), cases[i].beat_bytes);
        assert_int_equal(beat.step_us, 900);
        assert_int_equal(beat.step_rows, cases[i].chosen > 2 ? 4 : 0);
        assert_int_equal(beat.weight_disk_bytes, cases[i].chosen > 3 ? 11 : 0);
        assert_int_equal(beat.weight_peer_bytes, cases[i].chosen > 3 ? 12 : 0);
        assert_int_equal(beat.traffic.far[0], cases[i].chosen > 4 ? 13 : 0);
        close_controller(&c);
    }
}

static void test_controller_of_later_protocols_alone_is_hung_up_on(void **state)
{
    (void)state;
    struct controller c;
    struct gw_msg challenge = {.type = GW_MSG_CHALLENGE, .challenge = {GW_WIRE_PROTO + 1, 99, ""}}, none;
    uint32_t len;
    open_controller(&c);
    say(&c, &challenge);
    assert_false(hear(&c, &none, &len));
    close_controller(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_of_each_protocol_says_what_that_knows),
        cmocka_unit_test(test_controller_of_later_protocols_alone_is_hung_up_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
