/* migrate/wire: every message comes back as it went, and no bytes whatever do harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"
#include "migrate/wire.h"

#define FIRST     GW_MSG_CHALLENGE
#define LAST      GW_MSG_BROKEN
#define MUTATIONS 4000 /* per message type: a second under ASan for all */

static uint32_t ids[8] = {1, 2, 3, 70000, 5, 0, UINT32_MAX - 1, 8};
static float logprobs[3] = {-0.5f, -1.25f, 0};
static struct gw_top top[6] = {{1, -0.5f}, {4, -2}, {2, -1.25f}, {9, -3}, {3, 0}, {6, -9}};
static uint32_t stop_ids[2] = {2, 3};
static struct gw_logit_bias bias[2] = {{7, -100}, {8, 1.5f}};
static struct gw_branch_log logs[2] = {{3, false, ids}, {0, true, NULL}};
static struct gw_assign_rank ranks[3] = {
    {"w1", "127.0.0.1:4001", "machine one", 0, {0, 2, 0, 3}},
    {"w2", "127.0.0.1:4002", "machine one", 0, {0, 2, 3, 8}},
    {"w3", "[fd00::1]:4003", "machine two", 1, {2, 3, 0, 8}},
};
static struct gw_cutover_item items[3] = {{1, 2}, {3, 4}, {UINT64_MAX, UINT32_MAX}};

static void fill_session(struct gw_msg *m)
{
    switch (m->type) {
    case GW_MSG_CHALLENGE: m->challenge = (struct gw_msg_challenge){1, 3, "0123456789abcde"}; break;
    case GW_MSG_HELLO:
        m->hello = (struct gw_msg_hello){.mac = "mac",
                                         .proto = 1,
                                         .nonce = "nonce",
                                         .worker = "w1",
                                         .instance = "i-0a",
                                         .build = "",
                                         .profile = "cpu-f32-1",
                                         .digest = "digest",
                                         .fingerprint = "fingerprint",
                                         .max_term = 1ull << 40,
                                         .pid = 4711,
                                         .vocab = 1024,
                                         .context = 2048,
                                         .kv_tokens = 65536,
                                         .max_sequences = 64};
        break;
    case GW_MSG_WELCOME: m->welcome = (struct gw_msg_welcome){"mac", 250, 5000}; break;
    case GW_MSG_REFUSE: m->refuse = (struct gw_msg_refuse){GW_REFUSE_MODEL, "other model"}; break;
    case GW_MSG_HEARTBEAT: m->heartbeat = (struct gw_msg_heartbeat){1, 2, 3, 4, 5, 6, 7, 8, 9}; break;
    case GW_MSG_PING: m->ping.sequence = 1ull << 63; break;
    case GW_MSG_NOTICE: m->notice = (struct gw_msg_notice){GW_NOTICE_PREEMPT, 120000}; break;
    default:
        m->goodbye = (struct gw_msg_goodbye){"gr\xc3\xbc\xc3\x9f"
                                             "e"};
    }
}

static void fill_submit(struct gw_msg_submit *s)
{
    s->attempt = 3;
    s->request = (struct gw_request){.id = 77, .n = 2, .prompt = ids, .prompt_len = 8, .tenant = "tenant"};
    s->request.sampling = (struct gw_sampling){.temperature = 0.7f,
                                               .top_k = 40,
                                               .top_p = 0.9f,
                                               .min_p = 0.05f,
                                               .presence_penalty = -1,
                                               .frequency_penalty = 2,
                                               .repetition_penalty = 1.1f,
                                               .seed = 0xfeedfacecafebeef,
                                               .max_tokens = 16,
                                               .min_tokens = 2,
                                               .logprobs = true,
                                               .top_logprobs = 2,
                                               .stop_ids = stop_ids,
                                               .stop_ids_len = 2,
                                               .bias = bias,
                                               .bias_len = 2};
    s->logs = logs;
}

/* A message of each type with every field set; its arrays are static. */
static struct gw_msg sample(enum gw_msg_type type)
{
    struct gw_msg m = {.type = type, .term = 5, .pipeline = 6, .generation = 7};
    switch (type) {
    case GW_MSG_SUBMIT: fill_submit(&m.submit); break;
    case GW_MSG_CANCEL: m.cancel = (struct gw_msg_cancel){77, 2, GW_BRANCH_ALL}; break;
    case GW_MSG_TOKENS: m.tokens = (struct gw_msg_tokens){77, 2, 1, {10, 3, 2, ids, logprobs, top}}; break;
    case GW_MSG_REJECT: m.reject = (struct gw_msg_reject){77, 2, GW_ERR_LIMIT, "too long"}; break;
    case GW_MSG_CUTOVER: m.cutover = (struct gw_msg_cutover){3, items}; break;
    case GW_MSG_ASSIGN: m.assign = (struct gw_msg_assign){1ull << 33, 1, 3, ranks}; break;
    case GW_MSG_READY: m.ready = (struct gw_msg_ready){65536, 4096, 64, 1ull << 40, true}; break;
    case GW_MSG_BROKEN: m.broken = (struct gw_msg_broken){2, GW_ERR_IO, "rank 2 is gone"}; break;
    case GW_MSG_START:
    case GW_MSG_RELEASE: break;
    case GW_MSG_HANDOFF: m.handoff = (struct gw_msg_handoff){77, 2, 2, ids}; break;
    default: fill_session(&m);
    }
    return m;
}

static struct gw_frame frame_of(unsigned type, const void *payload, size_t len)
{
    return (struct gw_frame){.type = (uint16_t)type,
                             .len = (uint32_t)len,
                             .term = 5,
                             .pipeline = 6,
                             .generation = 7,
                             .payload = payload};
}

static void encode(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_init(b, GW_FRAME_PAYLOAD_MAX);
    gw_msg_encode(m, b);
    assert_int_equal(b->err, GW_OK);
}

/* Decodes from an exact heap copy, so that ASan sees one byte too many. */
static gw_err_t decode_exact(unsigned type, const void *bytes, size_t len, struct gw_msg *out)
{
    uint8_t *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    if (len) memcpy(copy, bytes, len);
    struct gw_frame f = frame_of(type, copy, len);
    gw_err_t err = gw_msg_decode(&f, out, NULL);
    free(copy);
    return err;
}

static void test_put_decode_every_message_returns_its_bytes(void **state)
{
    (void)state;
    for (unsigned type = FIRST; type <= LAST; type++) {
        struct gw_msg in = sample(type), out;
        struct gw_buf first, again;
        struct evbuffer *link = evbuffer_new();
        struct gw_frame frame;
        bool ready;
        encode(&in, &first);
        assert_int_equal(gw_msg_put(&in, link), GW_OK);
        assert_int_equal(gw_frame_take(link, GW_FRAME_PAYLOAD_MAX, &frame, &ready, NULL), GW_OK);
        assert_true(ready);
        assert_int_equal(gw_msg_decode(&frame, &out, NULL), GW_OK);
        assert_int_equal(out.type, type);
        assert_int_equal(out.term, 5);
        assert_int_equal(out.pipeline, 6);
        assert_int_equal(out.generation, 7);
        encode(&out, &again);
        assert_int_equal(first.len, again.len);
        assert_memory_equal(first.data, again.data, first.len);
        gw_msg_fini(&out);
        gw_buf_fini(&first);
        gw_buf_fini(&again);
        evbuffer_free(link);
    }
}

/* The bytes of the test above prove fields only if encoder and decoder do not err alike. */
static void test_decode_submit_fields_are_the_sender_s(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_SUBMIT), out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_SUBMIT, b.data, b.len, &out), GW_OK);
    const struct gw_request *q = &out.submit.request;
    const struct gw_sampling *s = &q->sampling;
    assert_int_equal(out.submit.attempt, 3);
    assert_int_equal(q->id, 77);
    assert_int_equal(q->n, 2);
    assert_int_equal(q->prompt_len, 8);
    assert_memory_equal(q->prompt, ids, sizeof ids);
    assert_string_equal((const char *)q->tenant, "tenant");
    assert_true(s->temperature == 0.7f && s->top_p == 0.9f && s->min_p == 0.05f);
    assert_true(s->presence_penalty == -1 && s->frequency_penalty == 2 && s->repetition_penalty == 1.1f);
    assert_int_equal(s->top_k, 40);
    assert_true(s->seed == 0xfeedfacecafebeef);
    assert_int_equal(s->max_tokens, 16);
    assert_int_equal(s->min_tokens, 2);
    assert_true(s->logprobs);
    assert_int_equal(s->top_logprobs, 2);
    assert_memory_equal(s->stop_ids, stop_ids, sizeof stop_ids);
    assert_int_equal(s->bias[0].id, 7);
    assert_true(s->bias[1].bias == 1.5f);
    assert_int_equal(out.submit.logs[0].len, 3);
    assert_false(out.submit.logs[0].done);
    assert_memory_equal(out.submit.logs[0].ids, ids, 3 * sizeof ids[0]);
    assert_int_equal(out.submit.logs[1].len, 0);
    assert_true(out.submit.logs[1].done);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_tokens_fields_are_the_sender_s(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_TOKENS), out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_TOKENS, b.data, b.len, &out), GW_OK);
    const struct gw_tokens *t = &out.tokens.tokens;
    assert_int_equal(out.tokens.request, 77);
    assert_int_equal(out.tokens.attempt, 2);
    assert_int_equal(out.tokens.branch, 1);
    assert_int_equal(t->first, 10);
    assert_int_equal(t->count, 3);
    assert_int_equal(t->top_n, 2);
    assert_memory_equal(t->ids, ids, 3 * sizeof ids[0]);
    assert_memory_equal(t->logprobs, logprobs, sizeof logprobs);
    assert_memory_equal(t->top, top, sizeof top);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_hello_fields_are_the_sender_s(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_HELLO), out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_HELLO, b.data, b.len, &out), GW_OK);
    assert_string_equal(out.hello.worker, "w1");
    assert_string_equal(out.hello.instance, "i-0a");
    assert_string_equal(out.hello.build, "");
    assert_string_equal(out.hello.profile, "cpu-f32-1");
    assert_memory_equal(&out.hello.digest, in.hello.digest, GW_DIGEST_BYTES);
    assert_memory_equal(&out.hello.fingerprint, in.hello.fingerprint, GW_FINGERPRINT_BYTES);
    assert_true(out.hello.max_term == 1ull << 40);
    assert_int_equal(out.hello.pid, 4711);
    assert_int_equal(out.hello.vocab, 1024);
    assert_int_equal(out.hello.context, 2048);
    assert_int_equal(out.hello.kv_tokens, 65536);
    assert_int_equal(out.hello.max_sequences, 64);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_hello_of_protocol_2_fields_are_the_sender_s(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_HELLO), out;
    struct gw_buf b;
    in.hello.proto = 2;
    strcpy(in.hello.data, "127.0.0.1:4711");
    strcpy(in.hello.device, "cpu-avx512 2 threads");
    memcpy(in.hello.machine, "0123456789abcdef", GW_MACHINE_BYTES);
    in.hello.memory_bytes = 1ull << 34;
    in.hello.bytes_s = 1ull << 35;
    in.hello.flop_s = 1ull << 36;
    in.hello.holds = (struct gw_cell_rect){1, 2, 3, 8};
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_HELLO, b.data, b.len, &out), GW_OK);
    assert_string_equal(out.hello.data, "127.0.0.1:4711");
    assert_string_equal(out.hello.device, "cpu-avx512 2 threads");
    assert_string_equal(out.hello.zone, "");
    assert_memory_equal(out.hello.machine, "0123456789abcdef", GW_MACHINE_BYTES);
    assert_true(out.hello.memory_bytes == 1ull << 34);
    assert_true(out.hello.bytes_s == 1ull << 35);
    assert_true(out.hello.flop_s == 1ull << 36);
    assert_memory_equal(&out.hello.holds, &in.hello.holds, sizeof in.hello.holds);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_assign_fields_are_the_sender_s(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_ASSIGN), out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_ASSIGN, b.data, b.len, &out), GW_OK);
    assert_true(out.assign.epoch == 1ull << 33);
    assert_int_equal(out.assign.self, 1);
    assert_int_equal(out.assign.ranks_len, 3);
    assert_memory_equal(out.assign.ranks, ranks, sizeof ranks);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void assert_assign_refused(const struct gw_msg *in)
{
    struct gw_msg out;
    struct gw_buf b;
    encode(in, &b);
    assert_int_equal(decode_exact(GW_MSG_ASSIGN, b.data, b.len, &out), GW_ERR_PROTO);
    gw_buf_fini(&b);
}

static void test_decode_assign_with_ranks_out_of_order_is_refused(void **state)
{
    (void)state;
    struct gw_assign_rank changed[3];
    struct gw_msg in = sample(GW_MSG_ASSIGN);
    in.assign.ranks = changed;
    memcpy(changed, ranks, sizeof ranks);
    in.assign.self = 3;
    assert_assign_refused(&in);
    in.assign.self = 0;
    changed[1].cells.s0 = 2; /* overlaps its neighbour */
    assert_assign_refused(&in);
    changed[1].cells = (struct gw_cell_rect){0, 2, 8, 8};
    assert_assign_refused(&in);
    memcpy(changed, ranks, sizeof ranks);
    changed[2].stage = 2;
    assert_assign_refused(&in);
    changed[2].stage = 1;
    changed[0].stage = changed[1].stage = 1;
    assert_assign_refused(&in);
}

static void test_put_tokens_without_logprobs_carries_zeros(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_TOKENS), out;
    struct gw_buf b;
    in.tokens.tokens.logprobs = NULL;
    in.tokens.tokens.top = NULL;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_TOKENS, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.tokens.tokens.top_n, 0);
    assert_true(out.tokens.tokens.logprobs[2] == 0);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_truncated_anywhere_is_refused(void **state)
{
    (void)state;
    for (unsigned type = FIRST; type <= LAST; type++) {
        struct gw_msg in = sample(type), out;
        struct gw_buf b;
        encode(&in, &b);
        for (size_t len = 0; len < b.len; len++)
            assert_int_equal(decode_exact(type, b.data, len, &out), GW_ERR_PROTO);
        gw_buf_fini(&b);
    }
}

static void test_decode_with_a_byte_too_many_is_refused(void **state)
{
    (void)state;
    for (unsigned type = FIRST; type <= LAST; type++) {
        struct gw_msg in = sample(type), out;
        struct gw_buf b;
        encode(&in, &b);
        gw_buf_u8(&b, 0);
        assert_int_equal(decode_exact(type, b.data, b.len, &out), GW_ERR_PROTO);
        gw_buf_fini(&b);
    }
}

static void test_decode_unknown_type_is_refused(void **state)
{
    (void)state;
    struct gw_msg out;
    assert_int_equal(decode_exact(0, "", 0, &out), GW_ERR_PROTO);
    assert_int_equal(decode_exact(LAST + 1, "", 0, &out), GW_ERR_PROTO);
    assert_int_equal(decode_exact(65535, "", 0, &out), GW_ERR_PROTO);
    assert_string_equal(gw_msg_name(0), "?");
    assert_string_equal(gw_msg_name(LAST + 1), "?");
    assert_string_equal(gw_msg_name(GW_MSG_TOKENS), "TOKENS");
}

/* Overwrites the u32 at `at` and decodes. */
static gw_err_t decode_with_u32(unsigned type, size_t at, uint32_t value)
{
    struct gw_msg in = sample(type), out;
    struct gw_buf b;
    encode(&in, &b);
    assert_true(at + 4 <= b.len);
    for (size_t i = 0; i < 4; i++) b.data[at + i] = (uint8_t)(value >> (8 * i));
    gw_err_t err = decode_exact(type, b.data, b.len, &out);
    if (err == GW_OK) gw_msg_fini(&out);
    gw_buf_fini(&b);
    return err;
}

/* Every count field, by its place in the byte tables, with lies small and large. */
static void test_decode_lying_counts_are_refused(void **state)
{
    (void)state;
    static const struct {
        unsigned type;
        size_t at;
        uint32_t honest;
    } counts[] = {
        {GW_MSG_SUBMIT, 12, 2},  /* n */
        {GW_MSG_SUBMIT, 32, 8},  /* prompt */
        {GW_MSG_SUBMIT, 114, 2}, /* stop ids: 36 + 32 of prompt + 46 */
        {GW_MSG_SUBMIT, 126, 2}, /* bias */
        {GW_MSG_SUBMIT, 147, 3}, /* first log */
        {GW_MSG_TOKENS, 21, 3},  /* records */
        {GW_MSG_CUTOVER, 0, 3},  /* items */
        {GW_MSG_HANDOFF, 12, 2}, /* branches */
        {GW_MSG_HELLO, 50, 2},   /* worker's name */
        {GW_MSG_REFUSE, 2, 11},  /* text */
        {GW_MSG_REJECT, 14, 8},  /* text */
        {GW_MSG_GOODBYE, 0, 7},  /* text */
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        const uint32_t lies[] = {
            0,        counts[i].honest - 1, counts[i].honest + 1, 129,       5000, 1u << 20, (1u << 20) + 1,
            1u << 30, UINT32_MAX,           0x20000000,           0x40000001};
        assert_int_equal(decode_with_u32(counts[i].type, counts[i].at, counts[i].honest), GW_OK);
        for (size_t j = 0; j < sizeof lies / sizeof lies[0]; j++)
            assert_int_equal(decode_with_u32(counts[i].type, counts[i].at, lies[j]), GW_ERR_PROTO);
    }
}

static void test_decode_values_out_of_range_are_refused(void **state)
{
    (void)state;
    assert_int_equal(decode_with_u32(GW_MSG_SUBMIT, 0, 0), GW_ERR_PROTO);           /* attempt 0 */
    assert_int_equal(decode_with_u32(GW_MSG_SUBMIT, 68, 0x7fc00000), GW_ERR_PROTO); /* temperature NaN */
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 12, 128), GW_ERR_PROTO);        /* branch */
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 17, 1u << 20), GW_ERR_PROTO);   /* first + count */
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 17, UINT32_MAX), GW_ERR_PROTO);
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 37, 0x7f800000), GW_ERR_PROTO); /* logprob infinite */
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 53, 0x7fc00000), GW_ERR_PROTO); /* top logprob NaN */
    assert_int_equal(decode_with_u32(GW_MSG_CANCEL, 12, 128), GW_ERR_PROTO);        /* branch */
    assert_int_equal(decode_with_u32(GW_MSG_HANDOFF, 16, (1u << 20) + 1), GW_ERR_PROTO);
    assert_int_equal(decode_with_u32(GW_MSG_WELCOME, 32, 0), GW_ERR_PROTO);           /* heartbeat */
    assert_int_equal(decode_with_u32(GW_MSG_CHALLENGE, 0, 0x00010002), GW_ERR_PROTO); /* max < min */
}

static void test_decode_names_with_odd_bytes_are_refused(void **state)
{
    (void)state;
    const char odd[] = {'\0', '\n', '\x7f', '\x80', '\xff'};
    for (size_t i = 0; i < sizeof odd; i++) {
        struct gw_msg in = sample(GW_MSG_HELLO), out;
        struct gw_buf b;
        encode(&in, &b);
        b.data[54] = (uint8_t)odd[i]; /* first byte of the worker's name */
        assert_int_equal(decode_exact(GW_MSG_HELLO, b.data, b.len, &out), GW_ERR_PROTO);
        gw_buf_fini(&b);
    }
}

/* One to four random changes: bytes, bits, cuts, repeats. What still decodes must encode and decode again. */
static void mutate_once(struct gw_rng *rng, unsigned type, const struct gw_buf *honest)
{
    struct gw_msg out, out2;
    struct gw_buf b;
    gw_buf_init(&b, GW_FRAME_PAYLOAD_MAX);
    gw_buf_put(&b, honest->data, honest->len);
    if (b.len == 0) gw_buf_u8(&b, 0); /* of messages without a payload */
    for (uint64_t n = 1 + gw_rng_below(rng, 4); n > 0; n--) {
        size_t at = gw_rng_below(rng, b.len);
        uint64_t how = gw_rng_below(rng, 4);
        if (how == 0) b.data[at] = (uint8_t)gw_rng_next(rng);
        if (how == 1) b.data[at] ^= (uint8_t)(1u << gw_rng_below(rng, 8));
        if (how == 2) b.data[at] = gw_rng_below(rng, 2) ? 0xff : 0;
        if (how == 3 && b.len > 1) b.len -= gw_rng_below(rng, 2);
    }
    gw_err_t err = decode_exact(type, b.data, b.len, &out);
    assert_true(err == GW_OK || err == GW_ERR_PROTO);
    if (err == GW_OK) {
        struct gw_buf again;
        encode(&out, &again);
        assert_int_equal(decode_exact(type, again.data, again.len, &out2), GW_OK);
        gw_msg_fini(&out2);
        gw_msg_fini(&out);
        gw_buf_fini(&again);
    }
    gw_buf_fini(&b);
}

static void test_decode_mutated_bytes_do_no_harm(void **state)
{
    (void)state;
    const char *given = getenv("WIRE_SEED");
    uint64_t seed;
    gw_random_bytes(&seed, sizeof seed);
    if (given) seed = strtoull(given, NULL, 10);
    printf("# WIRE_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    struct gw_rng rng;
    gw_rng_init(&rng, seed);
    for (unsigned type = FIRST; type <= LAST; type++) {
        struct gw_msg in = sample(type);
        struct gw_buf honest;
        encode(&in, &honest);
        for (int i = 0; i < MUTATIONS; i++) mutate_once(&rng, type, &honest);
        gw_buf_fini(&honest);
    }
}

static void test_put_more_than_a_frame_holds_is_a_limit(void **state)
{
    (void)state;
    struct gw_msg m = sample(GW_MSG_TOKENS);
    struct evbuffer *link = evbuffer_new();
    uint32_t *many = calloc(GW_REQUEST_TOKENS_MAX * 5, sizeof *many);
    assert_non_null(many);
    m.tokens.tokens = (struct gw_tokens){.count = GW_REQUEST_TOKENS_MAX * 5, .ids = many};
    assert_int_equal(gw_msg_put(&m, link), GW_ERR_LIMIT);
    assert_int_equal(evbuffer_get_length(link), 0);
    free(many);
    evbuffer_free(link);
}

/* The largest request that gw_request_check lets pass goes into one frame with all its logs full. */
static void test_put_largest_request_fits_one_frame(void **state)
{
    (void)state;
    enum { N = 128, EACH = 31249, PROMPT = 128 };
    struct gw_msg m = sample(GW_MSG_SUBMIT), out;
    struct gw_branch_log full[N];
    uint32_t *zeros = calloc(EACH, sizeof *zeros);
    struct gw_buf b;
    assert_non_null(zeros);
    for (int i = 0; i < N; i++) full[i] = (struct gw_branch_log){EACH, false, zeros};
    m.submit.request.n = N;
    m.submit.request.prompt = zeros;
    m.submit.request.prompt_len = PROMPT;
    m.submit.request.sampling.max_tokens = EACH;
    m.submit.logs = full;
    assert_int_equal(PROMPT + N * EACH, GW_REQUEST_TOTAL_MAX);
    encode(&m, &b);
    assert_int_equal(decode_exact(GW_MSG_SUBMIT, b.data, b.len, &out), GW_OK);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
    free(zeros);
}

/* HMAC-SHA-256 over nonce and payload, computed here by hand from the published bytes. */
static void test_hello_mac_covers_nonce_and_all_behind_the_mac(void **state)
{
    (void)state;
    struct gw_msg m = sample(GW_MSG_HELLO);
    uint8_t nonce[GW_WIRE_NONCE_BYTES] = "a nonce of the c", mac[32], want[32], bytes[1024];
    struct gw_buf b;
    encode(&m, &b);
    memcpy(bytes, nonce, sizeof nonce);
    memcpy(bytes + sizeof nonce, b.data + 32, b.len - 32);
    gw_hmac_sha256("key", 3, bytes, sizeof nonce + b.len - 32, want);
    gw_hello_mac("key", 3, nonce, &m.hello, mac);
    assert_memory_equal(mac, want, 32);
    m.hello.mac[0] ^= 1;
    gw_hello_mac("key", 3, nonce, &m.hello, mac);
    assert_memory_equal(mac, want, 32);
    m.hello.pid++;
    gw_hello_mac("key", 3, nonce, &m.hello, mac);
    assert_memory_not_equal(mac, want, 32);
    gw_buf_fini(&b);
}

static void test_welcome_mac_depends_on_key_and_nonce(void **state)
{
    (void)state;
    uint8_t nonce[GW_WIRE_NONCE_BYTES] = "0123456789abcdef", mac[32], want[32], other[32];
    gw_hmac_sha256("key", 3, "0123456789abcdefwelcome", 23, want);
    gw_welcome_mac("key", 3, nonce, mac);
    assert_memory_equal(mac, want, 32);
    gw_welcome_mac("kez", 3, nonce, other);
    assert_memory_not_equal(other, want, 32);
    nonce[0] ^= 1;
    gw_welcome_mac("key", 3, nonce, other);
    assert_memory_not_equal(other, want, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_decode_every_message_returns_its_bytes),
        cmocka_unit_test(test_decode_submit_fields_are_the_sender_s),
        cmocka_unit_test(test_decode_tokens_fields_are_the_sender_s),
        cmocka_unit_test(test_decode_hello_fields_are_the_sender_s),
        cmocka_unit_test(test_decode_hello_of_protocol_2_fields_are_the_sender_s),
        cmocka_unit_test(test_decode_assign_fields_are_the_sender_s),
        cmocka_unit_test(test_decode_assign_with_ranks_out_of_order_is_refused),
        cmocka_unit_test(test_put_tokens_without_logprobs_carries_zeros),
        cmocka_unit_test(test_decode_truncated_anywhere_is_refused),
        cmocka_unit_test(test_decode_with_a_byte_too_many_is_refused),
        cmocka_unit_test(test_decode_unknown_type_is_refused),
        cmocka_unit_test(test_decode_lying_counts_are_refused),
        cmocka_unit_test(test_decode_values_out_of_range_are_refused),
        cmocka_unit_test(test_decode_names_with_odd_bytes_are_refused),
        cmocka_unit_test(test_decode_mutated_bytes_do_no_harm),
        cmocka_unit_test(test_put_more_than_a_frame_holds_is_a_limit),
        cmocka_unit_test(test_put_largest_request_fits_one_frame),
        cmocka_unit_test(test_hello_mac_covers_nonce_and_all_behind_the_mac),
        cmocka_unit_test(test_welcome_mac_depends_on_key_and_nonce),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
