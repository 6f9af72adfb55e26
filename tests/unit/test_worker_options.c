/* worker/options: what must be given, what is refused and why, names by default. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "worker/options.h"

#define ARGS_MAX 12

/* Parses `godwit-worker` and the NULL-ended words. */
static gw_err_t parse(const char *const *words, struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    char *argv[ARGS_MAX + 1] = {"godwit-worker"};
    int argc = 1;
    bool help;
    for (; words[argc - 1]; argc++) argv[argc] = (char *)words[argc - 1];
    return gw_worker_options_parse(argc, argv, o, &help, ctx);
}

static void expect_refused(const char *const *words, const char *text)
{
    struct gw_worker_options o = {.threads = 4711};
    struct gw_err_ctx ctx = {0};
    assert_int_equal(parse(words, &o, &ctx), GW_ERR_INPUT);
    if (!strstr(ctx.text, text)) fail_msg("'%s' does not speak of '%s'", ctx.text, text);
    assert_int_equal(o.threads, 4711);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NEEDED     "--model", "m", "--cluster-key-file", "k"

static void test_parse_needed_flags_alone_give_defaults(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(parse(WORDS(NEEDED), &o, NULL), GW_OK);
    assert_string_equal(o.model, "m");
    assert_int_equal(o.max_batch_tokens, 512);
    assert_int_equal(o.max_sequences, 256);
    assert_int_equal(o.isa, GW_ISA_AUTO);
    assert_int_equal(o.log_level, GW_LOG_INFO);
    assert_true(o.term_grace_s == 30);
    assert_true(o.worker_name[0] != '\0' && o.instance_name[0] != '\0');
}

static void test_parse_names_and_isa_are_taken(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(
        parse(WORDS(NEEDED, "--worker-id", "w1", "--instance-id", "i:2_3.4", "--isa", "c"), &o, NULL), GW_OK);
    assert_string_equal(o.worker_name, "w1");
    assert_string_equal(o.instance_name, "i:2_3.4");
    assert_int_equal(o.isa, GW_ISA_C);
}

static void test_parse_stores_are_peers_or_redis(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(parse(WORDS(NEEDED), &o, NULL), GW_OK);
    assert_int_equal(o.redis_len, 0);
    assert_true(o.checkpoint_share == 0.03 && o.store_memory_bytes == -1);
    assert_int_equal(parse(WORDS(NEEDED, "--store", "redis://127.0.0.1:6379,redis+unix:/run/r"), &o, NULL),
                     GW_OK);
    assert_int_equal(o.redis_len, 2);
    assert_string_equal(o.redis[0], "127.0.0.1:6379");
    assert_string_equal(o.redis[1], "/run/r");
    assert_int_equal(parse(WORDS(NEEDED, "--store", "rediss://10.0.0.1:6379"), &o, NULL), GW_OK);
    assert_string_equal(o.redis[0], "rediss://10.0.0.1:6379");
    expect_refused(WORDS(NEEDED, "--store", "http://127.0.0.1:6379"), "--store");
    expect_refused(WORDS(NEEDED, "--store", "redis://"), "--store");
    expect_refused(WORDS(NEEDED, "--store", "redis+unix:relative"), "--store");
    expect_refused(WORDS(NEEDED, "--checkpoint-share", "1.5"), "checkpoint-share");
}

/* 0.036 USD/h at 0.01 USD per 10^9 bytes: a million bytes each second. What is free has no limit. */
static void test_parse_budget_between_zones_becomes_bytes(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(parse(WORDS(NEEDED), &o, NULL), GW_OK);
    assert_true(o.checkpoint_far_bytes_s == 0);
    assert_int_equal(parse(WORDS(NEEDED, "--checkpoint-max-usd-h", "0.036"), &o, NULL), GW_OK);
    assert_true(o.checkpoint_far_bytes_s > 999999 && o.checkpoint_far_bytes_s < 1000001);
    assert_int_equal(
        parse(WORDS(NEEDED, "--checkpoint-max-usd-h", "0.036", "--egress-usd-gb", "0"), &o, NULL), GW_OK);
    assert_true(o.checkpoint_far_bytes_s == 0);
    expect_refused(WORDS(NEEDED, "--checkpoint-max-usd-h", "-1"), "checkpoint-max-usd-h");
}

static void test_parse_wrong_values_are_refused_by_name(void **state)
{
    (void)state;
    static const char long_name[] = "12345678901234567890123456789012345678901234567890123456789012345";
    expect_refused(WORDS("--cluster-key-file", "k"), "--model");
    expect_refused(WORDS("--model", "m"), "--cluster-key-file");
    expect_refused(WORDS(NEEDED, "--isa", "sse"), "--isa");
    expect_refused(WORDS(NEEDED, "--log-level", "loud"), "--log-level");
    expect_refused(WORDS(NEEDED, "--worker-id", "two words"), "--worker-id");
    expect_refused(WORDS(NEEDED, "--worker-id", ""), "--worker-id");
    expect_refused(WORDS(NEEDED, "--instance-id", long_name), "--instance-id");
    expect_refused(WORDS(NEEDED, "--threads", "-1"), "threads");
    expect_refused(WORDS(NEEDED, "--max-batch-tokens", "0"), "max-batch-tokens");
    expect_refused(WORDS(NEEDED, "--memory-limit", "-5"), "--memory-limit");
    expect_refused(WORDS(NEEDED, "--controller", "nonsense"), "--controller");
}

/* TLS is spoken off loopback, unless somebody says otherwise. */
static void test_parse_addresses_off_loopback_are_taken_and_secure(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(
        parse(WORDS(NEEDED, "--controller", "10.0.0.1:8002", "--data-listen", "10.0.0.2:0"), &o, NULL),
        GW_OK);
    assert_false(o.insecure_plaintext);
    assert_int_equal(parse(WORDS(NEEDED, "--controller", "10.0.0.1:8002", "--insecure-plaintext"), &o, NULL),
                     GW_OK);
    assert_true(o.insecure_plaintext);
    assert_int_equal(parse(WORDS(NEEDED, "--controller", "[::1]:8002"), &o, NULL), GW_OK);
    assert_int_equal(parse(WORDS(NEEDED, "--controller", "localhost:8002"), &o, NULL), GW_OK);
}

static void test_parse_controllers_are_taken_in_order(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(parse(WORDS(NEEDED, "--controller", "127.0.0.1:1,[::1]:2"), &o, NULL), GW_OK);
    assert_int_equal(o.controllers_len, 2);
    assert_int_equal(o.controllers[0].addr.ss_family, AF_INET);
    assert_int_equal(o.controllers[1].addr.ss_family, AF_INET6);
    expect_refused(WORDS(NEEDED, "--controller", "127.0.0.1:1,"), "--controller");
    expect_refused(WORDS(NEEDED, "--controller", "127.0.0.1:1,10.0.0.1:2x"), "10.0.0.1:2x");
    expect_refused(WORDS(NEEDED, "--controller", "[::1]:1,[::1]:2,[::1]:3,[::1]:4,[::1]:5"), "more than 4");
}

static void test_parse_weights_format_and_source_are_two_flags(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(parse(WORDS(NEEDED), &o, NULL), GW_OK);
    assert_true(o.weight_format == GW_WEIGHT_FILE && o.weights_from == GW_WEIGHTS_AUTO);
    assert_int_equal(parse(WORDS(NEEDED, "--weights", "int8", "--weights-from", "disk"), &o, NULL), GW_OK);
    assert_true(o.weight_format == GW_WEIGHT_INT8 && o.weights_from == GW_WEIGHTS_DISK);
    assert_int_equal(parse(WORDS(NEEDED, "--weights", "fp8"), &o, NULL), GW_OK);
    assert_true(o.weight_format == GW_WEIGHT_FP8);
    expect_refused(WORDS(NEEDED, "--weights", "disk"), "--weights-from");
    expect_refused(WORDS(NEEDED, "--weights-from", "int8"), "--weights-from");
}

static void test_parse_kv_format(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(parse(WORDS(NEEDED), &o, NULL), GW_OK);
    assert_true(o.kv_format == GW_KV_FILE);
    assert_int_equal(parse(WORDS(NEEDED, "--kv", "int8"), &o, NULL), GW_OK);
    assert_true(o.kv_format == GW_KV_INT8 && o.weight_format == GW_WEIGHT_FILE);
    expect_refused(WORDS(NEEDED, "--kv", "fp8"), "--kv fp8: expected file or int8");
}

static void test_parse_device_is_the_cpu_or_a_gpu(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(parse(WORDS(NEEDED), &o, NULL), GW_OK);
    assert_int_equal(o.cuda, -1);
    assert_int_equal(parse(WORDS(NEEDED, "--device", "cuda:12"), &o, NULL), GW_OK);
    assert_int_equal(o.cuda, 12);
    expect_refused(WORDS(NEEDED, "--device", "cuda"), "--device cuda: expected cpu, or cuda:N");
    expect_refused(WORDS(NEEDED, "--device", "cuda:-1"), "expected cpu, or cuda:N");
    expect_refused(WORDS(NEEDED, "--device", "cuda:1000"), "expected cpu, or cuda:N");
    assert_int_equal(
        parse(WORDS(NEEDED, "--device", "cuda:0", "--weights", "int8", "--kv", "int8"), &o, NULL), GW_OK);
    assert_true(o.weight_format == GW_WEIGHT_INT8 && o.kv_format == GW_KV_INT8);
    expect_refused(WORDS(NEEDED, "--device", "cuda:0", "--weights", "fp4"),
                   "--weights fp4: expected file, int8 or fp8");
    assert_int_equal(
        parse(WORDS(NEEDED, "--device", "cuda:0", "--profile", "fast", "--weights", "int8"), &o, NULL),
        GW_OK);
    expect_refused(WORDS(NEEDED, "--device", "cuda:0", "--profile", "cpu-f32-2"), "expected exact or fast");
    expect_refused(WORDS(NEEDED, "--device", "cuda:0", "--isa", "c"), "--isa");
}

static void test_parse_speed_of_a_gpu_is_exact_with_graphs_unless_told(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(parse(WORDS(NEEDED, "--device", "cuda:0"), &o, NULL), GW_OK);
    assert_true(!o.fast && o.graphs);
    assert_int_equal(parse(WORDS(NEEDED, "--device", "cuda:0", "--profile", "exact"), &o, NULL), GW_OK);
    assert_false(o.fast);
    assert_int_equal(
        parse(WORDS(NEEDED, "--device", "cuda:0", "--profile", "fast", "--cuda-graphs", "off"), &o, NULL),
        GW_OK);
    assert_true(o.fast && !o.graphs);
    expect_refused(WORDS(NEEDED, "--cuda-graphs", "maybe"), "--cuda-graphs maybe: expected on or off");
}

static void test_parse_digest_needs_no_model(void **state)
{
    (void)state;
    struct gw_worker_options o;
    assert_int_equal(parse(WORDS("--digest"), &o, NULL), GW_OK);
    assert_true(o.digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_needed_flags_alone_give_defaults),
        cmocka_unit_test(test_parse_names_and_isa_are_taken),
        cmocka_unit_test(test_parse_stores_are_peers_or_redis),
        cmocka_unit_test(test_parse_budget_between_zones_becomes_bytes),
        cmocka_unit_test(test_parse_wrong_values_are_refused_by_name),
        cmocka_unit_test(test_parse_addresses_off_loopback_are_taken_and_secure),
        cmocka_unit_test(test_parse_controllers_are_taken_in_order),
        cmocka_unit_test(test_parse_weights_format_and_source_are_two_flags),
        cmocka_unit_test(test_parse_kv_format),
        cmocka_unit_test(test_parse_device_is_the_cpu_or_a_gpu),
        cmocka_unit_test(test_parse_speed_of_a_gpu_is_exact_with_graphs_unless_told),
        cmocka_unit_test(test_parse_digest_needs_no_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
