#include "migrate/wire_internal.h"

#include <string.h>

#include "base/hash.h"
#include "base/utf8.h"

#define HELLO_BYTES_MAX  1024 /* fixed fields and eight names: under 850 */
#define WELCOME_MAC_TEXT "welcome"

void wire_put_text(struct gw_buf *b, const char *text, size_t max)
{
    gw_buf_bytes(b, text, strnlen(text, max));
}

/* Marks the bytes read so far as what no honest peer sends. */
static void spoil(struct gw_reader *r)
{
    r->err = GW_ERR_PROTO;
    r->pos = r->len;
}

void wire_get_text(struct gw_reader *r, char *out, size_t max)
{
    const uint8_t *bytes;
    size_t len = gw_read_bytes(r, max, &bytes);
    if (len > 0 && (memchr(bytes, '\0', len) || !gw_utf8_valid((const char *)bytes, len))) {
        spoil(r);
        len = 0;
    }
    if (len > 0) memcpy(out, bytes, len);
    out[len] = '\0';
}

void wire_get_name(struct gw_reader *r, char out[GW_WIRE_NAME_MAX + 1], bool may_be_empty)
{
    wire_get_text(r, out, GW_WIRE_NAME_MAX);
    if (!may_be_empty && out[0] == '\0') spoil(r);
    for (const char *p = out; *p; p++)
        if (*p < 0x20 || *p > 0x7e) spoil(r);
}

void wire_get_raw(struct gw_reader *r, uint8_t *out, size_t len)
{
    const uint8_t *bytes = gw_read_raw(r, len);
    if (bytes) memcpy(out, bytes, len);
}

/* CHALLENGE
 *     0   2  proto_min
 *     2   2  proto_max    >= proto_min
 *     4  16  nonce */
void wire_put_challenge(const struct gw_msg *m, struct gw_buf *b)
{
    const struct gw_msg_challenge *c = &m->challenge;
    gw_buf_u16(b, c->proto_min);
    gw_buf_u16(b, c->proto_max);
    gw_buf_put(b, c->nonce, sizeof c->nonce);
}

gw_err_t wire_get_challenge(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_challenge *c = &m->challenge;
    c->proto_min = gw_read_u16(r);
    c->proto_max = gw_read_u16(r);
    wire_get_raw(r, c->nonce, sizeof c->nonce);
    return c->proto_min <= c->proto_max ? GW_OK : GW_ERR_PROTO;
}

/* HELLO
 *     0   32  mac           over everything behind it, see gw_hello_mac
 *    32    2  proto
 *    34   16  nonce         for the welcome's mac
 *    50  4+a  worker        text: u32 length, bytes; 1-64, printable ASCII
 *        4+b  instance      1-64
 *        4+c  build         0-64
 *        4+d  profile       1-64
 *         32  digest
 *         16  fingerprint
 *          8  max_term
 *          4  pid
 *          4  vocab         >= 1
 *          4  context       >= 1
 *          4  kv_tokens
 *          4  max_sequences
 *             if proto >= 2: what wire_layout.c says */
static void put_hello_behind_mac(const struct gw_msg_hello *h, struct gw_buf *b)
{
    gw_buf_u16(b, h->proto);
    gw_buf_put(b, h->nonce, sizeof h->nonce);
    wire_put_text(b, h->worker, GW_WIRE_NAME_MAX);
    wire_put_text(b, h->instance, GW_WIRE_NAME_MAX);
    wire_put_text(b, h->build, GW_WIRE_NAME_MAX);
    wire_put_text(b, h->profile, GW_WIRE_NAME_MAX);
    gw_buf_put(b, h->digest, sizeof h->digest);
    gw_buf_put(b, h->fingerprint, sizeof h->fingerprint);
    gw_buf_u64(b, h->max_term);
    gw_buf_u32(b, h->pid);
    gw_buf_u32(b, h->vocab);
    gw_buf_u32(b, h->context);
    gw_buf_u32(b, h->kv_tokens);
    gw_buf_u32(b, h->max_sequences);
    if (h->proto >= 2) wire_put_hello_layout(h, b);
}

void wire_put_hello(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_put(b, m->hello.mac, sizeof m->hello.mac);
    put_hello_behind_mac(&m->hello, b);
}

gw_err_t wire_get_hello(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_hello *h = &m->hello;
    wire_get_raw(r, h->mac, sizeof h->mac);
    h->proto = gw_read_u16(r);
    wire_get_raw(r, h->nonce, sizeof h->nonce);
    wire_get_name(r, h->worker, false);
    wire_get_name(r, h->instance, false);
    wire_get_name(r, h->build, true);
    wire_get_name(r, h->profile, false);
    wire_get_raw(r, h->digest, sizeof h->digest);
    wire_get_raw(r, h->fingerprint, sizeof h->fingerprint);
    h->max_term = gw_read_u64(r);
    h->pid = gw_read_u32(r);
    h->vocab = gw_read_u32(r);
    h->context = gw_read_u32(r);
    h->kv_tokens = gw_read_u32(r);
    h->max_sequences = gw_read_u32(r);
    if (h->proto >= 2) wire_get_hello_layout(r, h);
    return h->vocab > 0 && h->context > 0 ? GW_OK : GW_ERR_PROTO;
}

/* mac = HMAC(key, challenge's nonce ‖ HELLO's payload from byte 32 on) */
void gw_hello_mac(const void *key, size_t key_len, const uint8_t nonce[GW_WIRE_NONCE_BYTES],
                  const struct gw_msg_hello *hello, uint8_t mac[GW_WIRE_MAC_BYTES])
{
    uint8_t bytes[HELLO_BYTES_MAX];
    size_t len = GW_WIRE_NONCE_BYTES;
    struct gw_buf b;
    gw_buf_init(&b, sizeof bytes - GW_WIRE_NONCE_BYTES);
    put_hello_behind_mac(hello, &b);
    memcpy(bytes, nonce, GW_WIRE_NONCE_BYTES);
    /* Out of memory: the mac of a shorter text, which the other side refuses. */
    if (b.err == GW_OK) {
        memcpy(bytes + len, b.data, b.len);
        len += b.len;
    }
    gw_buf_fini(&b);
    gw_hmac_sha256(key, key_len, bytes, len, mac);
}

/* mac' = HMAC(key, HELLO's nonce ‖ "welcome") */
void gw_welcome_mac(const void *key, size_t key_len, const uint8_t nonce[GW_WIRE_NONCE_BYTES],
                    uint8_t mac[GW_WIRE_MAC_BYTES])
{
    uint8_t bytes[GW_WIRE_NONCE_BYTES + sizeof WELCOME_MAC_TEXT - 1];
    memcpy(bytes, nonce, GW_WIRE_NONCE_BYTES);
    memcpy(bytes + GW_WIRE_NONCE_BYTES, WELCOME_MAC_TEXT, sizeof WELCOME_MAC_TEXT - 1);
    gw_hmac_sha256(key, key_len, bytes, sizeof bytes, mac);
}

/* WELCOME (the frame's head carries term, pipeline and generation)
 *     0  32  mac
 *    32   4  heartbeat_ms           >= 1
 *    36   4  controller_timeout_ms  >= 1 */
void wire_put_welcome(const struct gw_msg *m, struct gw_buf *b)
{
    const struct gw_msg_welcome *w = &m->welcome;
    gw_buf_put(b, w->mac, sizeof w->mac);
    gw_buf_u32(b, w->heartbeat_ms);
    gw_buf_u32(b, w->controller_timeout_ms);
}

gw_err_t wire_get_welcome(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_welcome *w = &m->welcome;
    wire_get_raw(r, w->mac, sizeof w->mac);
    w->heartbeat_ms = gw_read_u32(r);
    w->controller_timeout_ms = gw_read_u32(r);
    return w->heartbeat_ms > 0 && w->controller_timeout_ms > 0 ? GW_OK : GW_ERR_PROTO;
}

/* REFUSE
 *     0    2  code   enum gw_refuse_code; any number, for a newer controller may know more
 *     2  4+n  text   n <= 256 */
void wire_put_refuse(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u16(b, m->refuse.code);
    wire_put_text(b, m->refuse.text, GW_WIRE_TEXT_MAX);
}

gw_err_t wire_get_refuse(struct gw_reader *r, struct gw_msg *m)
{
    m->refuse.code = gw_read_u16(r);
    wire_get_text(r, m->refuse.text, GW_WIRE_TEXT_MAX);
    return GW_OK;
}

/* HEARTBEAT
 *     0  8  steps
 *     8  8  step_us
 *    16  4  running
 *    20  4  waiting
 *    24  4  kv_used_tokens
 *    28  4  kv_total_tokens
 *    32  8  prefix_hit_tokens
 *    40  8  prefix_query_tokens
 *    48  8  preemptions
 *           from protocol 3 on, unless step_rows, kv_offered and what follows are 0:
 *    56  4  step_rows          0: no step is known; then the next two are 0, too
 *    60  4  step_sequences     1 … step_rows
 *    64  8  step_kv_tokens
 *    72  8  kv_offered
 *    80  8  kv_stored          <= kv_offered
 *    88  8  kv_stored_bytes
 *    96  8  kv_forged_pages
 *           from protocol 4 on, unless these and what follows are 0:
 *   104  8  weight_disk_bytes
 *   112  8  weight_peer_bytes
 *           from protocol 5 on, unless all are 0:
 *   120     per enum gw_traffic_kind (4)  8 near, 8 far */
static bool have_moved(const struct gw_msg_heartbeat *h)
{
    uint64_t any = 0;
    for (int k = 0; k < GW_TRAFFIC_KINDS; k++) any |= h->traffic.near[k] | h->traffic.far[k];
    return any > 0;
}

static bool have_loaded(const struct gw_msg_heartbeat *h)
{
    return h->weight_disk_bytes > 0 || h->weight_peer_bytes > 0;
}

void wire_put_heartbeat(const struct gw_msg *m, struct gw_buf *b)
{
    const struct gw_msg_heartbeat *h = &m->heartbeat;
    gw_buf_u64(b, h->steps);
    gw_buf_u64(b, h->step_us);
    gw_buf_u32(b, h->running);
    gw_buf_u32(b, h->waiting);
    gw_buf_u32(b, h->kv_used_tokens);
    gw_buf_u32(b, h->kv_total_tokens);
    gw_buf_u64(b, h->prefix_hit_tokens);
    gw_buf_u64(b, h->prefix_query_tokens);
    gw_buf_u64(b, h->preemptions);
    if (h->step_rows == 0 && h->kv_offered == 0 && !have_loaded(h) && !have_moved(h)) return;
    gw_buf_u32(b, h->step_rows);
    gw_buf_u32(b, h->step_sequences);
    gw_buf_u64(b, h->step_kv_tokens);
    gw_buf_u64(b, h->kv_offered);
    gw_buf_u64(b, h->kv_stored);
    gw_buf_u64(b, h->kv_stored_bytes);
    gw_buf_u64(b, h->kv_forged_pages);
    if (!have_loaded(h) && !have_moved(h)) return;
    gw_buf_u64(b, h->weight_disk_bytes);
    gw_buf_u64(b, h->weight_peer_bytes);
    if (!have_moved(h)) return;
    for (int k = 0; k < GW_TRAFFIC_KINDS; k++) {
        gw_buf_u64(b, h->traffic.near[k]);
        gw_buf_u64(b, h->traffic.far[k]);
    }
}

static bool steps_ok(const struct gw_msg_heartbeat *h)
{
    if (h->step_rows == 0) return h->step_sequences == 0 && h->step_kv_tokens == 0;
    return h->step_sequences >= 1 && h->step_sequences <= h->step_rows;
}

gw_err_t wire_get_heartbeat(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_heartbeat *h = &m->heartbeat;
    h->steps = gw_read_u64(r);
    h->step_us = gw_read_u64(r);
    h->running = gw_read_u32(r);
    h->waiting = gw_read_u32(r);
    h->kv_used_tokens = gw_read_u32(r);
    h->kv_total_tokens = gw_read_u32(r);
    h->prefix_hit_tokens = gw_read_u64(r);
    h->prefix_query_tokens = gw_read_u64(r);
    h->preemptions = gw_read_u64(r);
    if (!wire_more(r)) return GW_OK;
    h->step_rows = gw_read_u32(r);
    h->step_sequences = gw_read_u32(r);
    h->step_kv_tokens = gw_read_u64(r);
    h->kv_offered = gw_read_u64(r);
    h->kv_stored = gw_read_u64(r);
    h->kv_stored_bytes = gw_read_u64(r);
    h->kv_forged_pages = gw_read_u64(r);
    bool any = h->step_rows > 0 || h->kv_offered > 0;
    if (wire_more(r)) {
        h->weight_disk_bytes = gw_read_u64(r);
        h->weight_peer_bytes = gw_read_u64(r);
        any = have_loaded(h);
    }
    if (wire_more(r)) {
        for (int k = 0; k < GW_TRAFFIC_KINDS; k++) {
            h->traffic.near[k] = gw_read_u64(r);
            h->traffic.far[k] = gw_read_u64(r);
        }
        any = have_moved(h);
    }
    return any && steps_ok(h) && h->kv_stored <= h->kv_offered ? GW_OK : GW_ERR_PROTO;
}

/* PING
 *     0  8  sequence */
void wire_put_ping(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u64(b, m->ping.sequence);
}

gw_err_t wire_get_ping(struct gw_reader *r, struct gw_msg *m)
{
    m->ping.sequence = gw_read_u64(r);
    return GW_OK;
}

/* NOTICE
 *     0  1  kind         enum gw_notice_kind
 *     1  4  deadline_ms  from now; 0 if kind is CANCEL */
void wire_put_notice(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u8(b, m->notice.kind);
    gw_buf_u32(b, m->notice.deadline_ms);
}

gw_err_t wire_get_notice(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_notice *n = &m->notice;
    n->kind = gw_read_u8(r);
    n->deadline_ms = gw_read_u32(r);
    if (n->kind < GW_NOTICE_PREEMPT || n->kind > GW_NOTICE_CANCEL) return GW_ERR_PROTO;
    return n->kind == GW_NOTICE_CANCEL && n->deadline_ms != 0 ? GW_ERR_PROTO : GW_OK;
}

/* GOODBYE
 *     0  4+n  text  n <= 256 */
void wire_put_goodbye(const struct gw_msg *m, struct gw_buf *b)
{
    wire_put_text(b, m->goodbye.text, GW_WIRE_TEXT_MAX);
}

gw_err_t wire_get_goodbye(struct gw_reader *r, struct gw_msg *m)
{
    wire_get_text(r, m->goodbye.text, GW_WIRE_TEXT_MAX);
    return GW_OK;
}
