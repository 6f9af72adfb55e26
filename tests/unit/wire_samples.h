/* What the tests of the wire messages share: a message of each type with every field set, and how it is coded.
 *
 * Helpers assert by cmocka. Owner: samples point to static arrays; buffers are the caller's. Thread: one.
 * Units: bytes. Source: own design. */
#ifndef GW_TESTS_UNIT_WIRE_SAMPLES_H
#define GW_TESTS_UNIT_WIRE_SAMPLES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/wire.h"

#define FIRST GW_MSG_CHALLENGE
#define LAST  GW_MSG_RESYNC

static uint32_t ids[8] = {1, 2, 3, 70000, 5, 0, UINT32_MAX - 1, 8};
static float logprobs[3] = {-0.5f, -1.25f, 0};
static struct gw_top top[6] = {{1, -0.5f}, {4, -2}, {2, -1.25f}, {9, -3}, {3, 0}, {6, -9}};
static uint32_t stop_ids[2] = {2, 3};
static struct gw_logit_bias bias[2] = {{7, -100}, {8, 1.5f}};
static struct gw_branch_log logs[2] = {{3, false, ids}, {0, true, NULL}};
static struct gw_assign_rank ranks[3] = {
    {"w1", "127.0.0.1:4001", "machine one", 0, {0, 2, 0, 3}, "127.0.0.1:5001"},
    {"w2", "127.0.0.1:4002", "machine one", 0, {0, 2, 3, 8}, ""},
    {"w3", "[fd00::1]:4003", "machine two", 1, {2, 3, 0, 8}, "[fd00::1]:5003"},
};
static struct gw_page_holder holders[2] = {{"127.0.0.1:5001", {0, 2, 0, 3}},
                                           {"[fd00::1]:5003", {2, 3, 0, 8}}};
static struct gw_store_host hosts[2] = {{"127.0.0.1:5001", "i-0a"}, {"[fd00::1]:5003", "i-0b"}};
static struct gw_worker_zone zones[2] = {{"127.0.0.1:4001", "z-a"}, {"[fd00::1]:5003", ""}};
static struct gw_cell_holder cell_sources[2] = {{"127.0.0.1:5001", {0, 1, 0, 8}},
                                                {"[fd00::1]:5003", {0, 2, 3, 8}}};
static uint64_t requests[3] = {77, UINT64_MAX, 1};
static struct gw_cutover_item items[3] = {{1, 2}, {3, 4}, {UINT64_MAX, UINT32_MAX}};

static void fill_session(struct gw_msg *m)
{
    switch (m->type) {
    case GW_MSG_CHALLENGE: m->challenge = (struct gw_msg_challenge){1, 3, "0123456789abcde"}; break;
    case GW_MSG_HELLO:
        m->hello = (struct gw_msg_hello){.mac = "mac",
                                         .proto = 3,
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
                                         .max_sequences = 64,
                                         .data = "127.0.0.1:4711",
                                         .device = "cpu-avx512 2 threads",
                                         .machine = "0123456789abcde",
                                         .memory_bytes = 1ull << 34,
                                         .bytes_s = 1ull << 35,
                                         .flop_s = 1ull << 36,
                                         .holds = {1, 2, 3, 8},
                                         .pages = "127.0.0.1:4712",
                                         .store_bytes = 1ull << 30};
        break;
    case GW_MSG_WELCOME: m->welcome = (struct gw_msg_welcome){"mac", 250, 5000}; break;
    case GW_MSG_REFUSE: m->refuse = (struct gw_msg_refuse){GW_REFUSE_MODEL, "other model"}; break;
    case GW_MSG_HEARTBEAT:
        m->heartbeat = (struct gw_msg_heartbeat){1,
                                                 2,
                                                 3,
                                                 4,
                                                 5,
                                                 6,
                                                 7,
                                                 8,
                                                 9,
                                                 10,
                                                 9,
                                                 12,
                                                 14,
                                                 13,
                                                 15,
                                                 16,
                                                 17,
                                                 18,
                                                 {{19, 20, 21, 22}, {23, 24, 25, 26}}};
        break;
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
    s->holders_len = 2;
    s->holders = holders;
}

/* A message of each type with every field set; its arrays are static. */
static struct gw_msg sample(enum gw_msg_type type)
{
    struct gw_msg m = {.type = type, .term = 5, .pipeline = 6, .generation = 7};
    switch (type) {
    case GW_MSG_SUBMIT:
    case GW_MSG_WARM: fill_submit(&m.submit); break;
    case GW_MSG_WARMED: m.warmed = (struct gw_msg_warmed){77, 2, 48}; break;
    case GW_MSG_ORIGIN: m.origin = (struct gw_msg_origin){77, 2, 100, 16, 48, 32}; break;
    case GW_MSG_CANCEL: m.cancel = (struct gw_msg_cancel){77, 2, GW_BRANCH_ALL}; break;
    case GW_MSG_TOKENS: m.tokens = (struct gw_msg_tokens){77, 2, 1, {10, 3, 2, ids, logprobs, top}}; break;
    case GW_MSG_REJECT: m.reject = (struct gw_msg_reject){77, 2, GW_ERR_LIMIT, "too long"}; break;
    case GW_MSG_CUTOVER: m.cutover = (struct gw_msg_cutover){3, items}; break;
    case GW_MSG_ASSIGN: m.assign = (struct gw_msg_assign){1ull << 33, 1, 3, ranks, 2, cell_sources}; break;
    case GW_MSG_READY: m.ready = (struct gw_msg_ready){65536, 4096, 64, 1ull << 40, true}; break;
    case GW_MSG_BROKEN: m.broken = (struct gw_msg_broken){2, GW_ERR_IO, "rank 2 is gone"}; break;
    case GW_MSG_STORES: m.stores = (struct gw_msg_stores){2, hosts}; break;
    case GW_MSG_ZONES: m.zones = (struct gw_msg_zones){2, zones}; break;
    case GW_MSG_RESYNC: m.resync = (struct gw_msg_resync){3, requests}; break;
    case GW_MSG_START:
    case GW_MSG_RELEASE: break;
    case GW_MSG_HANDOFF: m.handoff = (struct gw_msg_handoff){77, 2, 2, ids}; break;
    default: fill_session(&m);
    }
    return m;
}

static struct gw_assign_rank ranks_without[3];

/* Leaves of it what protocol 4 has; false: that is all of it. */
static bool without_protocol_5(struct gw_msg *m)
{
    if (m->type != GW_MSG_HEARTBEAT) return false;
    m->heartbeat.traffic = (struct gw_traffic_bytes){0};
    return true;
}

/* … what protocol 3 has. */
static bool without_protocol_4(struct gw_msg *m)
{
    (void)without_protocol_5(m);
    switch (m->type) {
    case GW_MSG_HEARTBEAT: m->heartbeat.weight_disk_bytes = m->heartbeat.weight_peer_bytes = 0; return true;
    case GW_MSG_ASSIGN: m->assign.sources_len = 0; return true;
    default: return false;
    }
}

/* … what protocol 2, 3 or 4 has. */
static bool without_extension(struct gw_msg *m, int proto)
{
    if (proto == 4) return without_protocol_5(m);
    bool less = without_protocol_4(m);
    if (proto == 3) return less;
    switch (m->type) {
    case GW_MSG_HELLO: m->hello.pages[0] = '\0'; return true;
    case GW_MSG_HEARTBEAT:
        m->heartbeat.step_rows = 0;
        m->heartbeat.kv_offered = 0;
        return true;
    case GW_MSG_SUBMIT:
    case GW_MSG_WARM: m->submit.holders_len = 0; return true;
    case GW_MSG_ASSIGN:
        memcpy(ranks_without, ranks, sizeof ranks);
        for (int i = 0; i < 3; i++) ranks_without[i].pages[0] = '\0';
        m->assign.ranks = ranks_without;
        return true;
    default: return less;
    }
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

#endif
