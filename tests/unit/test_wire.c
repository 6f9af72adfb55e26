/* migrate/wire: every message comes back as it went, from peers of this protocol and of the one before. */
#include "tests/unit/wire_samples.h"

#include <event2/buffer.h>

#include "base/hash.h"

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
    assert_int_equal(out.submit.holders_len, 2);
    assert_memory_equal(out.submit.holders, holders, sizeof holders);
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
    assert_string_equal(out.hello.pages, "127.0.0.1:4712");
    assert_true(out.hello.store_bytes == 1ull << 30);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_hello_of_protocol_1_has_no_layout(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_HELLO), out;
    struct gw_buf b;
    in.hello.proto = 1;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_HELLO, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.hello.max_sequences, 64);
    assert_string_equal(out.hello.data, "");
    assert_string_equal(out.hello.pages, "");
    gw_buf_fini(&b);
}

static void test_decode_hello_of_protocol_2_fields_are_the_sender_s(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_HELLO), out;
    struct gw_buf b;
    memcpy(in.hello.machine, "0123456789abcdef", GW_MACHINE_BYTES);
    in.hello.proto = 2;
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
    assert_string_equal(out.hello.pages, ""); /* of protocol 3 */
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
    assert_int_equal(out.assign.sources_len, 2);
    assert_memory_equal(out.assign.sources, cell_sources, sizeof cell_sources);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_stores_fields_are_the_sender_s(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_STORES), out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_STORES, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.stores.len, 2);
    assert_memory_equal(out.stores.hosts, hosts, sizeof hosts);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_stores_of_nobody_is_an_empty_list(void **state)
{
    (void)state;
    struct gw_msg in = {.type = GW_MSG_STORES}, out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_STORES, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.stores.len, 0);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_stores_with_an_address_twice_is_refused(void **state)
{
    (void)state;
    struct gw_store_host twice[2] = {hosts[0], hosts[0]};
    struct gw_msg in = {.type = GW_MSG_STORES, .stores = {2, twice}}, out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_STORES, b.data, b.len, &out), GW_ERR_PROTO);
    gw_buf_fini(&b);
}

static void test_decode_heartbeat_of_a_rank_without_steps_keeps_what_it_stored(void **state)
{
    (void)state;
    struct gw_msg in = {.type = GW_MSG_HEARTBEAT, .heartbeat = {.kv_offered = 9, .kv_stored = 8}}, out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_HEARTBEAT, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.heartbeat.kv_offered, 9);
    assert_int_equal(out.heartbeat.kv_stored, 8);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
    in.heartbeat.kv_stored = 10; /* more than there are */
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_HEARTBEAT, b.data, b.len, &out), GW_ERR_PROTO);
    gw_buf_fini(&b);
}

static void test_decode_heartbeat_keeps_traffic_alone_and_refuses_a_tail_of_zeros(void **state)
{
    (void)state;
    struct gw_msg in = {.type = GW_MSG_HEARTBEAT,
                        .heartbeat = {.traffic = {.far = {[GW_TRAFFIC_WEIGHTS] = 7}}}},
                  out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_HEARTBEAT, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.heartbeat.traffic.far[GW_TRAFFIC_WEIGHTS], 7);
    assert_int_equal(out.heartbeat.traffic.near[GW_TRAFFIC_STEPS], 0);
    gw_msg_fini(&out);
    memset(b.data + b.len - 8, 0, 8); /* what was there is nothing: a sender leaves such a tail out */
    assert_int_equal(decode_exact(GW_MSG_HEARTBEAT, b.data, b.len, &out), GW_ERR_PROTO);
    gw_buf_fini(&b);
}

static void test_decode_zones_fields_are_the_sender_s(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_ZONES), out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_ZONES, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.zones.len, 2);
    assert_string_equal(out.zones.workers[0].address, "127.0.0.1:4001");
    assert_string_equal(out.zones.workers[0].zone, "z-a");
    assert_string_equal(out.zones.workers[1].zone, "");
    gw_msg_fini(&out);
    gw_buf_fini(&b);
}

static void test_decode_resync_requests_are_the_sender_s(void **state)
{
    (void)state;
    static uint64_t many[GW_WIRE_RESYNC_MAX + 1];
    struct gw_msg in = sample(GW_MSG_RESYNC), out;
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_RESYNC, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.resync.count, 3);
    assert_memory_equal(out.resync.requests, requests, sizeof requests);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
    for (uint32_t count = 0; count <= GW_WIRE_RESYNC_MAX + 1; count += GW_WIRE_RESYNC_MAX + 1) {
        in.resync = (struct gw_msg_resync){count, many};
        encode(&in, &b);
        assert_int_equal(decode_exact(GW_MSG_RESYNC, b.data, b.len, &out), GW_ERR_PROTO);
        gw_buf_fini(&b);
    }
}

static void assert_zones_refused(const struct gw_worker_zone *list, uint32_t len)
{
    struct gw_msg out, in = {.type = GW_MSG_ZONES, .zones = {len, (struct gw_worker_zone *)(uintptr_t)list}};
    struct gw_buf b;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_ZONES, b.data, b.len, &out), GW_ERR_PROTO);
    gw_buf_fini(&b);
}

/* Of nobody, of more than a message has, without an address, with bytes that no name has. */
static void test_decode_zones_that_no_controller_tells_are_refused(void **state)
{
    (void)state;
    static struct gw_worker_zone many[GW_WIRE_ZONES_MAX + 1];
    for (size_t i = 0; i <= GW_WIRE_ZONES_MAX; i++) strcpy(many[i].address, "1.2.3.4:5");
    assert_zones_refused(NULL, 0);
    assert_zones_refused(many, GW_WIRE_ZONES_MAX + 1);
    assert_zones_refused(&(struct gw_worker_zone){"", "z"}, 1);
    assert_zones_refused(&(struct gw_worker_zone){"1.2.3.4:5", "z\n"}, 1);
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

static void test_decode_assign_with_a_source_of_no_cells_or_too_many_is_refused(void **state)
{
    (void)state;
    struct gw_cell_holder many[GW_WIRE_SOURCES_MAX + 1];
    struct gw_msg in = sample(GW_MSG_ASSIGN);
    in.assign.sources = many;
    for (uint32_t i = 0; i <= GW_WIRE_SOURCES_MAX; i++) many[i] = cell_sources[0];
    in.assign.sources_len = GW_WIRE_SOURCES_MAX + 1;
    assert_assign_refused(&in);
    in.assign.sources_len = 1;
    many[0].cells.s1 = many[0].cells.s0;
    assert_assign_refused(&in);
    many[0] = cell_sources[0];
    many[0].pages[0] = '\0';
    assert_assign_refused(&in);
}

static void test_decode_assign_without_pages_keeps_its_sources(void **state)
{
    (void)state;
    struct gw_msg in = sample(GW_MSG_ASSIGN), out;
    struct gw_assign_rank bare[3];
    struct gw_buf b;
    memcpy(bare, ranks, sizeof ranks);
    for (int i = 0; i < 3; i++) bare[i].pages[0] = '\0';
    in.assign.ranks = bare;
    encode(&in, &b);
    assert_int_equal(decode_exact(GW_MSG_ASSIGN, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.assign.sources_len, 2);
    assert_string_equal(out.assign.ranks[0].pages, "");
    gw_msg_fini(&out);
    gw_buf_fini(&b);
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

/* Is what an older peer sends of it a message without the rest? */
static void check_without_extension(unsigned type, const struct gw_msg *older)
{
    struct gw_msg in = sample(type), out;
    struct gw_buf b, want, again;
    encode(&in, &b);
    encode(older, &want);
    assert_true(want.len < b.len);
    assert_memory_equal(b.data, want.data, want.len);
    assert_int_equal(decode_exact(type, b.data, want.len, &out), GW_OK);
    encode(&out, &again);
    assert_int_equal(again.len, want.len);
    assert_memory_equal(again.data, want.data, want.len);
    gw_msg_fini(&out);
    gw_buf_fini(&b);
    gw_buf_fini(&want);
    gw_buf_fini(&again);
}

/* N and N-1, and those before: what an older peer sends ends before the fields that it does not know. */
static void test_decode_without_extension_is_a_message_without(void **state)
{
    (void)state;
    int extended[5] = {0};
    for (unsigned type = FIRST; type <= LAST; type++)
        for (int proto = 2; proto <= 4; proto++) {
            struct gw_msg older = sample(type);
            if (!without_extension(&older, proto)) continue;
            extended[proto]++;
            check_without_extension(type, &older);
        }
    assert_int_equal(extended[2], 5); /* HELLO, SUBMIT, WARM, ASSIGN, HEARTBEAT */
    assert_int_equal(extended[3], 2); /* ASSIGN, HEARTBEAT */
    assert_int_equal(extended[4], 1); /* HEARTBEAT */
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
    struct gw_page_holder most[GW_WIRE_HOLDERS_MAX];
    for (int i = 0; i < GW_WIRE_HOLDERS_MAX; i++) most[i] = holders[1];
    m.submit.holders = most;
    m.submit.holders_len = GW_WIRE_HOLDERS_MAX;
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
        cmocka_unit_test(test_decode_hello_of_protocol_1_has_no_layout),
        cmocka_unit_test(test_decode_hello_of_protocol_2_fields_are_the_sender_s),
        cmocka_unit_test(test_decode_assign_fields_are_the_sender_s),
        cmocka_unit_test(test_decode_stores_fields_are_the_sender_s),
        cmocka_unit_test(test_decode_stores_of_nobody_is_an_empty_list),
        cmocka_unit_test(test_decode_stores_with_an_address_twice_is_refused),
        cmocka_unit_test(test_decode_heartbeat_of_a_rank_without_steps_keeps_what_it_stored),
        cmocka_unit_test(test_decode_heartbeat_keeps_traffic_alone_and_refuses_a_tail_of_zeros),
        cmocka_unit_test(test_decode_zones_fields_are_the_sender_s),
        cmocka_unit_test(test_decode_resync_requests_are_the_sender_s),
        cmocka_unit_test(test_decode_zones_that_no_controller_tells_are_refused),
        cmocka_unit_test(test_decode_assign_with_ranks_out_of_order_is_refused),
        cmocka_unit_test(test_decode_assign_with_a_source_of_no_cells_or_too_many_is_refused),
        cmocka_unit_test(test_decode_assign_without_pages_keeps_its_sources),
        cmocka_unit_test(test_put_tokens_without_logprobs_carries_zeros),
        cmocka_unit_test(test_decode_without_extension_is_a_message_without),
        cmocka_unit_test(test_put_more_than_a_frame_holds_is_a_limit),
        cmocka_unit_test(test_put_largest_request_fits_one_frame),
        cmocka_unit_test(test_hello_mac_covers_nonce_and_all_behind_the_mac),
        cmocka_unit_test(test_welcome_mac_depends_on_key_and_nonce),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
