/* A real redis-server with TLS: pages and calls go over it, and a certificate that is not the right one is refused. */
#include "tests/lib/store_fixture.h"

#include <sys/mman.h>

#include "migrate/redis_call.h"
#include "migrate/store_redis.h"
#include "tests/lib/certificates.h"
#include "tests/lib/redis_server.h"

struct fixture {
    struct redis_server redis;
    uint16_t port;
    char url[64], ca[96], other_ca[96], server[96];
    int log_fd;
    struct gw_log log;
};

static void make_certificates(struct fixture *f, const char *whom, long days)
{
    struct authority ours = authority_make("ours"), other = authority_make("somebody else's");
    snprintf(f->ca, sizeof f->ca, "%s/ca.pem", f->redis.dir);
    snprintf(f->other_ca, sizeof f->other_ca, "%s/other.pem", f->redis.dir);
    snprintf(f->server, sizeof f->server, "%s/server.pem", f->redis.dir);
    certificate_write(f->ca, ours.cert, NULL);
    certificate_write(f->other_ca, other.cert, NULL);
    authority_issue(&ours, whom, days, f->server);
    authority_free(&ours);
    authority_free(&other);
}

/* A server whose certificate is for whom, and good for so many days. */
static void begin(struct fixture *f, const char *whom, long days)
{
    *f = (struct fixture){0};
    if (!redis_is_installed()) skip();
    f->redis = (struct redis_server){.dir = "/tmp/godwit-redis-XXXXXX"};
    assert_non_null(mkdtemp(f->redis.dir));
    snprintf(f->redis.socket, sizeof f->redis.socket, "%s/s", f->redis.dir);
    make_certificates(f, whom, days);
    char port[8];
    f->port = redis_free_port();
    snprintf(port, sizeof port, "%u", f->port);
    snprintf(f->url, sizeof f->url, "rediss://127.0.0.1:%u", f->port);
    const char *extras[] = {
        "--tls-port", port, "--tls-cert-file", f->server, "--tls-key-file", f->server, "--tls-auth-clients",
        "no",         NULL};
    redis_start(&f->redis, extras);
    f->log_fd = memfd_create("log", MFD_CLOEXEC);
    f->log = (struct gw_log){.fd = f->log_fd, .level = GW_LOG_DEBUG, .program = "test"};
}

static void end(struct fixture *f)
{
    unlink(f->ca);
    unlink(f->other_ca);
    unlink(f->server);
    redis_close(&f->redis);
    close(f->log_fd);
}

static struct gw_store *open_store(struct fixture *f, const char *url, const char *ca_file, const char *name)
{
    const char *servers[] = {url};
    const struct gw_store_redis_config config = {.common = {.seal = &store_seal, .log = &f->log},
                                                 .servers = servers,
                                                 .servers_len = 1,
                                                 .ca_file = ca_file,
                                                 .tls_name = name};
    struct gw_err_ctx ctx = {0};
    struct gw_store *store = NULL;
    if (gw_store_redis_create(&config, &store, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return store;
}

static void check_serves(struct fixture *f, const char *ca_file, const char *name)
{
    struct gw_store *store = open_store(f, f->url, ca_file, name);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(put_block(store, i, i % 2 ? SMALL_PAGE : BIG_PAGE, STORE_CALL_US), GW_STORE_OK);
    for (uint32_t i = 0; i < 6; i++) expect_block(store, i, i % 2 ? SMALL_PAGE : BIG_PAGE, ALL_PAGES);
    expect_block(store, 9, SMALL_PAGE, 0);
    gw_store_destroy(store);
}

static void check_refused(struct fixture *f, const char *url, const char *ca_file, const char *name,
                          const char *why)
{
    char log[8192];
    struct gw_store *store = open_store(f, url, ca_file, name);
    assert_int_equal(put_block(store, 1, SMALL_PAGE, STORE_CALL_US), GW_STORE_LOST);
    struct gw_store_stats stats;
    gw_store_stats(store, &stats);
    assert_int_equal(stats.connects, 0);
    gw_store_destroy(store);
    ssize_t n = pread(f->log_fd, log, sizeof log - 1, 0);
    log[n > 0 ? n : 0] = '\0';
    if (!strstr(log, why)) fail_msg("'%s' is not in: %s", why, log);
    assert_int_equal(ftruncate(f->log_fd, 0), 0);
    lseek(f->log_fd, 0, SEEK_SET);
}

static void test_store_certificate_for_the_address_serves(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "IP:127.0.0.1", 10);
    check_serves(&f, f.ca, NULL);
    check_refused(&f, f.url, f.other_ca, NULL, "unable to get local issuer certificate");
    check_refused(&f, f.url, NULL, NULL, "unable to get local issuer certificate"); /* nor does the system */
    check_refused(&f, f.url, f.ca, "redis.example", "hostname mismatch");
    end(&f);
}

static void test_store_certificate_for_a_name_serves_who_expects_it(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "DNS:redis.example", 10);
    check_serves(&f, f.ca, "redis.example");
    check_refused(&f, f.url, f.ca, NULL, "IP address mismatch");
    check_refused(&f, f.url, f.ca, "redis.example.org", "hostname mismatch");
    end(&f);
}

static void test_store_certificate_that_has_expired_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "IP:127.0.0.1", 0);
    check_refused(&f, f.url, f.ca, NULL, "certificate has expired");
    end(&f);
}

static void test_store_server_without_tls_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    char port[8], url[64];
    begin(&f, "IP:127.0.0.1", 10);
    redis_kill(&f.redis);
    snprintf(port, sizeof port, "%u", f.port);
    snprintf(url, sizeof url, "127.0.0.1:%u", f.port);
    const char *extras[] = {"--port", port, NULL};
    redis_start(&f.redis, extras);
    check_refused(&f, f.url, f.ca, NULL, "no TLS handshake in time");
    end(&f);
}

/* Many records, in pieces as they come. */
static void test_store_large_pages_come_back(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "IP:127.0.0.1", 10);
    struct gw_store *store = open_store(&f, f.url, f.ca, NULL);
    const uint32_t page = GW_PAGE_BYTES_MAX;
    assert_int_equal(put_block(store, 3, page, STORE_CALL_US), GW_STORE_OK);
    expect_block(store, 3, page, ALL_PAGES);
    gw_store_destroy(store);
    end(&f);
}

static void test_create_file_that_is_no_certificate_is_refused(void **state)
{
    static const char *const servers[] = {"rediss://127.0.0.1:1"};
    (void)state;
    struct gw_err_ctx ctx = {0};
    struct gw_store *store = NULL;
    const struct gw_store_redis_config config = {
        .servers = servers, .servers_len = 1, .ca_file = "/dev/null"};
    assert_int_equal(gw_store_redis_create(&config, &store, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "/dev/null"));
}

static gw_err_t call(struct fixture *f, const char *ca_file, const char *name, struct gw_redis_reply *reply,
                     struct gw_err_ctx *ctx)
{
    const struct gw_redis_config config = {.url = f->url, .ca_file = ca_file, .tls_name = name};
    const struct gw_redis_arg set[] = {gw_redis_word("SET"), gw_redis_word("key"), gw_redis_word("value")},
                              ask[] = {gw_redis_word("EXISTS"), gw_redis_word("key")};
    struct gw_redis *redis = NULL;
    assert_int_equal(gw_redis_open(&config, &redis, ctx), GW_OK);
    gw_err_t err = gw_redis_call(redis, set, 3, reply, ctx);
    if (err == GW_OK) err = gw_redis_call(redis, ask, 2, reply, ctx);
    gw_redis_close(redis);
    return err;
}

static void test_call_goes_over_tls_and_other_certificates_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_err_ctx ctx = {0};
    struct gw_redis_reply reply = {0};
    begin(&f, "IP:127.0.0.1", 10);
    if (call(&f, f.ca, NULL, &reply, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_int_equal(reply.answer.integer, 1);
    assert_int_equal(call(&f, f.other_ca, NULL, &reply, &ctx), GW_ERR_IO);
    assert_non_null(strstr(ctx.text, "unable to get local issuer certificate"));
    gw_err_reset(&ctx);
    assert_int_equal(call(&f, f.ca, "redis.example", &reply, &ctx), GW_ERR_IO);
    assert_non_null(strstr(ctx.text, "hostname mismatch"));
    end(&f);
}

/* "localhost" itself is taken for its address; written so, it is a name like others. */
static void test_call_name_is_resolved_and_the_certificate_must_be_for_it(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_err_ctx ctx = {0};
    struct gw_redis_reply reply = {0};
    begin(&f, "DNS:localhost", 10);
    snprintf(f.url, sizeof f.url, "rediss://LocalHost:%u", f.port);
    if (call(&f, f.ca, NULL, &reply, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_int_equal(reply.answer.integer, 1);
    assert_int_equal(call(&f, f.ca, "redis.example", &reply, &ctx), GW_ERR_IO);
    assert_non_null(strstr(ctx.text, "hostname mismatch"));
    end(&f);
}

static void test_call_name_that_nobody_has_fails_and_is_named(void **state)
{
    (void)state;
    struct gw_err_ctx ctx = {0};
    struct gw_redis_reply reply = {0};
    struct fixture f = {.url = "rediss://a..b:1"}; /* no server is asked for a name that cannot be */
    assert_int_equal(call(&f, NULL, NULL, &reply, &ctx), GW_ERR_IO);
    assert_non_null(strstr(ctx.text, "Redis: a..b: "));
}

static void test_open_name_needs_tls_or_leave_and_may_not_be_anything(void **state)
{
    static const struct {
        const char *url, *why;
    } wrong[] = {{"redis://LocalHost:1", "is not loopback"},
                 {"rediss://a_b:1", "neither an address nor a name"}};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct gw_err_ctx ctx = {0};
        struct gw_redis *redis = NULL;
        const struct gw_redis_config config = {.url = wrong[i].url};
        assert_int_equal(gw_redis_open(&config, &redis, &ctx), GW_ERR_INPUT);
        assert_non_null(strstr(ctx.text, wrong[i].why));
    }
}

/* After a failover the old master is a replica: the next call connects anew, to whoever the name is then. */
static void test_call_connection_to_a_replica_is_made_anew(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_err_ctx ctx = {0};
    struct gw_redis_reply reply = {0};
    struct gw_redis *redis = NULL;
    begin(&f, "IP:127.0.0.1", 10);
    const struct gw_redis_config config = {.url = f.url, .ca_file = f.ca};
    const struct gw_redis_arg set[] = {gw_redis_word("SET"), gw_redis_word("key"), gw_redis_word("value")},
                              demote[] = {gw_redis_word("REPLICAOF"), gw_redis_word("127.0.0.1"),
                                          gw_redis_word("1")},
                              promote[] = {gw_redis_word("REPLICAOF"), gw_redis_word("NO"),
                                           gw_redis_word("ONE")},
                              id[] = {gw_redis_word("CLIENT"), gw_redis_word("ID")};
    assert_int_equal(gw_redis_open(&config, &redis, &ctx), GW_OK);
    assert_int_equal(gw_redis_call(redis, id, 2, &reply, &ctx), GW_OK);
    int64_t before = reply.answer.integer;
    assert_int_equal(gw_redis_call(redis, demote, 3, &reply, &ctx), GW_OK);
    assert_int_equal(gw_redis_call(redis, set, 3, &reply, &ctx), GW_ERR_IO);
    assert_non_null(strstr(reply.answer.error, "READONLY"));
    gw_err_reset(&ctx);
    assert_int_equal(gw_redis_call(redis, promote, 3, &reply, &ctx), GW_OK);
    assert_int_equal(gw_redis_call(redis, set, 3, &reply, &ctx), GW_OK);
    assert_int_equal(gw_redis_call(redis, id, 2, &reply, &ctx), GW_OK);
    assert_true(reply.answer.integer != before);
    gw_redis_close(redis);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_certificate_for_the_address_serves),
        cmocka_unit_test(test_store_certificate_for_a_name_serves_who_expects_it),
        cmocka_unit_test(test_store_certificate_that_has_expired_is_refused),
        cmocka_unit_test(test_store_server_without_tls_is_refused),
        cmocka_unit_test(test_store_large_pages_come_back),
        cmocka_unit_test(test_create_file_that_is_no_certificate_is_refused),
        cmocka_unit_test(test_call_goes_over_tls_and_other_certificates_are_refused),
        cmocka_unit_test(test_call_name_is_resolved_and_the_certificate_must_be_for_it),
        cmocka_unit_test(test_call_name_that_nobody_has_fails_and_is_named),
        cmocka_unit_test(test_open_name_needs_tls_or_leave_and_may_not_be_anything),
        cmocka_unit_test(test_call_connection_to_a_replica_is_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
