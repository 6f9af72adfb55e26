/* base/sockaddr: numeric addresses and HOST:PORT, nothing resolved, nothing guessed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "base/sockaddr.h"

static void test_split_good_text_gives_host_and_port(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        uint16_t port;
    } cases[] = {
        {"127.0.0.1:8080", "127.0.0.1", 8080},
        {"localhost:0", "localhost", 0},
        {"[::1]:65535", "::1", 65535},
        {"::1:80", "::1", 80},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char host[16];
        uint16_t port = 1;
        assert_int_equal(gw_sockaddr_split(cases[i].text, host, sizeof host, &port, NULL), GW_OK);
        assert_string_equal(host, cases[i].host);
        assert_int_equal(port, cases[i].port);
    }
}

static void test_split_bad_text_is_an_input_error(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      ":",
                                      "host",
                                      "host:",
                                      ":80",
                                      "host:65536",
                                      "host:-1",
                                      "host:+1",
                                      "host: 1",
                                      "host:8x",
                                      "host:99999999999999999999",
                                      "[]:80",
                                      "[::1]",
                                      "0123456789abcdef:80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char host[16];
        uint16_t port;
        struct gw_err_ctx ctx = {0};
        if (gw_sockaddr_split(bad[i], host, sizeof host, &port, &ctx) != GW_ERR_INPUT)
            fail_msg("not refused: %s", bad[i]);
        assert_non_null(strstr(ctx.text, "HOST:PORT"));
    }
}

static void test_parse_knows_numeric_addresses_only(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        int family;
        bool loopback;
    } good[] = {
        {"127.0.0.1", AF_INET, true}, {"127.9.9.9", AF_INET, true}, {"localhost", AF_INET, true},
        {"0.0.0.0", AF_INET, false},  {"::1", AF_INET6, true},      {"::", AF_INET6, false},
        {"10.0.0.7", AF_INET, false},
    };
    static const char *const bad[] = {"",          "example.org", "1.2.3", "1.2.3.4.5",
                                      "256.1.1.1", "127.0.0.1 ",  "[::1]", ":::"};
    struct sockaddr_storage addr;
    socklen_t len;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(gw_sockaddr_parse(good[i].host, 80, &addr, &len, NULL), GW_OK);
        assert_int_equal(addr.ss_family, good[i].family);
        assert_int_equal(gw_sockaddr_is_loopback(&addr), good[i].loopback);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (gw_sockaddr_parse(bad[i], 80, &addr, &len, NULL) != GW_ERR_INPUT)
            fail_msg("not refused: %s", bad[i]);
}

static void test_local_port_of_a_bound_socket_is_what_it_got(void **state)
{
    (void)state;
    struct sockaddr_storage addr;
    socklen_t len = 0;
    int first = socket(AF_INET, SOCK_STREAM, 0), second = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", 0, &addr, &len, NULL), GW_OK);
    assert_int_equal(bind(first, (struct sockaddr *)&addr, len), 0);
    uint16_t port = gw_sockaddr_local_port(first);
    assert_true(port > 0);
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", port, &addr, &len, NULL), GW_OK);
    assert_int_not_equal(bind(second, (struct sockaddr *)&addr, len), 0); /* it is really taken */
    close(first);
    close(second);
    assert_int_equal(gw_sockaddr_local_port(-1), 0);
}

/* Connects to this machine by that address; whether the accepted end says that it stays here. */
static bool stays_here_by(const struct sockaddr_storage *host)
{
    struct sockaddr_storage addr = *host;
    socklen_t len = sizeof addr;
    int listener = socket(host->ss_family, SOCK_STREAM, 0), dialled = socket(host->ss_family, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    assert_int_equal(connect(dialled, (struct sockaddr *)&addr, len), 0);
    int accepted = accept(listener, NULL, NULL);
    assert_true(accepted >= 0);
    assert_false(gw_sockaddr_stays_here(listener)); /* it has no peer */
    bool stays = gw_sockaddr_stays_here(accepted);
    assert_int_equal(gw_sockaddr_stays_here(dialled), stays);
    close(accepted);
    close(dialled);
    close(listener);
    return stays;
}

static void test_connection_to_an_own_address_stays_here(void **state)
{
    (void)state;
    struct sockaddr_storage addr = {0};
    struct ifaddrs *all = NULL;
    socklen_t len;
    int pair[2];
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", 0, &addr, &len, NULL), GW_OK);
    assert_true(stays_here_by(&addr));
    assert_int_equal(getifaddrs(&all), 0);
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET) continue;
        memcpy(&addr, i->ifa_addr, sizeof(struct sockaddr_in));
        assert_true(stays_here_by(&addr)); /* also by an interface's own */
    }
    freeifaddrs(all);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_false(gw_sockaddr_stays_here(pair[0])); /* not by TCP */
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_good_text_gives_host_and_port),
        cmocka_unit_test(test_split_bad_text_is_an_input_error),
        cmocka_unit_test(test_parse_knows_numeric_addresses_only),
        cmocka_unit_test(test_connection_to_an_own_address_stays_here),
        cmocka_unit_test(test_local_port_of_a_bound_socket_is_what_it_got),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
