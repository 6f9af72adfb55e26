/* worker/mesh with TLS: ranks meet as without it; who speaks it alone, or with another key, is told, counted and not met. */
#include <poll.h>

#include "tests/lib/mesh_fixture.h"

#define REACH_US (300 * GW_US_PER_MS)

static struct gw_tls *make_tls(const char *key)
{
    const struct gw_tls_config config = {.key = key, .key_len = strlen(key), .everywhere = true};
    struct gw_tls *tls = NULL;
    assert_int_equal(gw_tls_create(&config, &tls, NULL), GW_OK);
    return tls;
}

static void say(struct gw_socket *s, const char *text)
{
    struct iovec one = {(void *)(uintptr_t)text, strlen(text)};
    size_t wrote = 0;
    assert_non_null(s->tls);
    assert_int_equal(gw_socket_writev(s, &one, 1, 0, &wrote, NULL), GW_OK);
    assert_int_equal(wrote, strlen(text));
}

static void check_hears(struct gw_socket *s, const char *text)
{
    char got[64] = "";
    size_t n = 0;
    struct pollfd polled = {.fd = s->fd, .events = POLLIN};
    if (!gw_socket_has_more(s)) assert_int_equal(poll(&polled, 1, (int)(DEADLINE_US / GW_US_PER_MS)), 1);
    assert_int_equal(gw_socket_read(s, got, sizeof got - 1, &n, NULL), GW_OK);
    assert_string_equal(got, text);
}

static void check_meet(struct mesh_fixture *f, uint32_t ranks)
{
    for (uint32_t i = 0; i < ranks; i++) start_gather(&f->r[i]);
    for (uint32_t i = 0; i < ranks; i++) join_ok(&f->r[i]);
    for (uint32_t i = 0; i < ranks; i++)
        for (uint32_t j = 0; j < i; j++) {
            say(&f->r[i].sockets[j], "from the dialer");
            check_hears(&f->r[j].sockets[i], "from the dialer");
            say(&f->r[j].sockets[i], "from the listener");
            check_hears(&f->r[i].sockets[j], "from the listener");
        }
    for (uint32_t i = 0; i < ranks; i++) close_fds(&f->r[i]);
}

static void test_gather_eight_ranks_meet_under_tls(void **state)
{
    struct gw_tls *tls = make_tls(KEY);
    mesh_tls = tls;
    open_ranks(*state, MESH_RANKS, "127.0.0.1");
    check_meet(*state, MESH_RANKS);
    tear_down_meshes(*state);
    gw_tls_destroy(tls);
}

static void test_gather_again_after_a_rank_has_gone_meets_anew(void **state)
{
    struct mesh_fixture *f = *state;
    struct gw_tls *tls = make_tls(KEY);
    mesh_tls = tls;
    open_ranks(f, 3, "127.0.0.1");
    /* Rank 2 joins, leaves before rank 1 has come, and joins again. */
    start_gather(&f->r[0]);
    f->r[2].deadline_us = SHORT_US;
    gather(&f->r[2]);
    assert_int_equal(f->r[2].err, GW_ERR_IO);
    gw_err_reset(&f->r[2].ctx);
    f->r[2].deadline_us = DEADLINE_US;
    start_gather(&f->r[1]);
    start_gather(&f->r[2]);
    for (int i = 0; i < 3; i++) join_ok(&f->r[i]);
    say(&f->r[2].sockets[0], "here again");
    check_hears(&f->r[0].sockets[2], "here again");
    for (int i = 0; i < 3; i++) close_fds(&f->r[i]);
    tear_down_meshes(f);
    gw_tls_destroy(tls);
}

/* Rank 0 listens with one kind, rank 1 dials with the other: neither gets a socket, each counts, the dialer says why. */
static void expect_strangers(struct mesh_fixture *f, const struct gw_tls *listener,
                             const struct gw_tls *dialer, const char *why)
{
    mesh_tls = listener;
    open_mesh(&f->r[0], "127.0.0.1", KEY, 0, 0);
    mesh_tls = dialer;
    open_mesh(&f->r[1], "127.0.0.1", KEY, 0, 0);
    open_ranks(f, 2, "127.0.0.1");
    for (int i = 0; i < 2; i++) f->r[i].deadline_us = REACH_US;
    for (int i = 0; i < 2; i++) start_gather(&f->r[i]);
    for (int i = 0; i < 2; i++) {
        pthread_join(f->r[i].thread, NULL);
        assert_int_equal(f->r[i].err, GW_ERR_IO);
        check_none_open(&f->r[i]);
    }
    if (!strstr(f->r[1].ctx.text, why)) fail_msg("%s", f->r[1].ctx.text);
    assert_true(gw_mesh_strangers(f->r[0].mesh) >= 1);
}

static void test_gather_tls_of_the_dialer_alone_is_told_and_counted(void **state)
{
    struct gw_tls *tls = make_tls(KEY);
    expect_strangers(*state, NULL, tls, "it does not hold the cluster key or speaks plaintext");
    tear_down_meshes(*state);
    gw_tls_destroy(tls);
}

static void test_gather_tls_of_the_listener_alone_is_told_and_counted(void **state)
{
    struct gw_tls *tls = make_tls(KEY);
    expect_strangers(*state, tls, NULL, "closed during the handshake");
    tear_down_meshes(*state);
    gw_tls_destroy(tls);
}

static void test_gather_tls_of_another_key_is_told_and_counted(void **state)
{
    struct gw_tls *ours = make_tls(KEY), *others = make_tls("sixteen other bytes");
    expect_strangers(*state, ours, others, "does not hold the cluster key");
    tear_down_meshes(*state);
    gw_tls_destroy(ours);
    gw_tls_destroy(others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(test_gather_eight_ranks_meet_under_tls),
        MESH_TEST(test_gather_again_after_a_rank_has_gone_meets_anew),
        MESH_TEST(test_gather_tls_of_the_dialer_alone_is_told_and_counted),
        MESH_TEST(test_gather_tls_of_the_listener_alone_is_told_and_counted),
        MESH_TEST(test_gather_tls_of_another_key_is_told_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
