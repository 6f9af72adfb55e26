#include "migrate/shake.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <poll.h>

#include "base/buf.h"
#include "base/rng.h"

/* HELLO, dialer → listener
 *     0   4  magic       the purpose: "GWM1" mesh, "GWP1" pages, "GWS1" store
 *     4   8  term
 *    12   4  pipeline
 *    16   8  generation
 *    24   4  from        the dialer's rank, 0-63
 *    28   4  to          0-63; mesh: < from
 *    32  16  nonce
 * CHALLENGE, listener → dialer
 *     0  16  nonce'
 * PROOF, either way
 *     0  32  HMAC-SHA-256(cluster key, label ‖ HELLO ‖ nonce'); two labels: a proof sent back proves nothing
 * Integers are little-endian. The cluster key's other macs (migrate/wire.h, block_name.h) never cover bytes that begin
 * with a label and the magic. */
#define NONCE_AT  32
#define LABEL_MAX 32

static const struct purpose {
    uint32_t magic;
    const char *dial_label, *listen_label;
} purposes[] = {
    [GW_SHAKE_MESH] = {0x314D5747u, "godwit mesh dial", "godwit mesh listen"},
    [GW_SHAKE_PAGES] = {0x31505747u, "godwit pages dial", "godwit pages listen"},
    [GW_SHAKE_STORE] = {0x31535747u, "godwit store dial", "godwit store listen"},
};

static void make_proof(const struct gw_shake *s, bool by_dialer, const struct gw_shake_key *key,
                       uint8_t out[GW_SHA256_BYTES])
{
    uint8_t text[LABEL_MAX + sizeof s->said];
    const struct purpose *p = &purposes[s->purpose];
    const char *label = by_dialer ? p->dial_label : p->listen_label;
    size_t len = strlen(label);
    memcpy(text, label, len);
    memcpy(text + len, s->said, sizeof s->said);
    gw_hmac_sha256(key->bytes, key->len, text, len + sizeof s->said, out);
}

static void make_hello(struct gw_shake *s)
{
    const struct gw_shake_pair *p = &s->pair;
    uint8_t *at = gw_put_le(s->said, purposes[s->purpose].magic, 4);
    at = gw_put_le(at, p->term, 8);
    at = gw_put_le(at, p->pipeline, 4);
    at = gw_put_le(at, p->generation, 8);
    at = gw_put_le(at, p->from, 4);
    gw_put_le(at, p->to, 4);
    gw_random_bytes(s->said + NONCE_AT, GW_SHAKE_NONCE_BYTES);
}

/* False for what no honest dialer sends. */
static bool read_hello(struct gw_shake *s)
{
    struct gw_reader r;
    gw_reader_init(&r, s->said, NONCE_AT);
    uint32_t magic = gw_read_u32(&r);
    s->pair.term = gw_read_u64(&r);
    s->pair.pipeline = gw_read_u32(&r);
    s->pair.generation = gw_read_u64(&r);
    s->pair.from = gw_read_u32(&r);
    s->pair.to = gw_read_u32(&r);
    if (s->purpose == GW_SHAKE_PAGES && magic == purposes[GW_SHAKE_STORE].magic) s->purpose = GW_SHAKE_STORE;
    if (magic != purposes[s->purpose].magic) return false;
    if (s->pair.from >= GW_WIRE_RANKS_MAX || s->pair.to >= GW_WIRE_RANKS_MAX) return false;
    return s->purpose != GW_SHAKE_MESH || s->pair.to < s->pair.from;
}

static enum gw_shake_result failed(struct gw_shake *s, const char *why, int error)
{
    s->why = why;
    s->why_errno = error;
    return GW_SHAKE_FAILED;
}

static enum gw_shake_result failed_strange(struct gw_shake *s, const char *why)
{
    s->strange = true;
    return failed(s, why, 0);
}

/* A fresh socket's buffer has room for every message of a handshake: one that has none is not waited for. */
static enum gw_shake_result say(struct gw_shake *s, const void *bytes, size_t len)
{
    struct iovec one = {(void *)(uintptr_t)bytes, len}; /* only read */
    size_t wrote = 0;
    if (gw_socket_writev(&s->socket, &one, 1, 0, &wrote, NULL) == GW_OK && wrote == len) return GW_SHAKE_MORE;
    return failed(s, "the connection broke during the handshake", 0);
}

/* A listener that waits for TLS closes without a word. */
static enum gw_shake_result closed(struct gw_shake *s)
{
    bool unanswered = s->stage == GW_SHAKE_WANTS_CHALLENGE && !s->tls_due;
    return failed(
        s,
        unanswered ? "the peer closed during the handshake (if it speaks TLS: --insecure-plaintext must be "
                     "given to both or to none)"
                   : "the peer closed during the handshake",
        0);
}

/* Reads what is there of `need` bytes, never more. GW_SHAKE_PROVEN here: they are complete. */
static enum gw_shake_result hear(struct gw_shake *s, uint8_t *to, size_t need)
{
    size_t n = 0;
    if (gw_socket_read(&s->socket, to + s->got, need - s->got, &n, NULL) != GW_OK) return closed(s);
    s->got += n;
    if (s->got < need) return GW_SHAKE_MORE;
    s->got = 0;
    return GW_SHAKE_PROVEN;
}

static enum gw_shake_result say_hello(struct gw_shake *s)
{
    make_hello(s);
    s->stage = GW_SHAKE_WANTS_CHALLENGE;
    return say(s, s->said, GW_SHAKE_HELLO_BYTES);
}

static enum gw_shake_result on_tls(struct gw_shake *s, const struct gw_shake_key *key)
{
    const char *why = "";
    if (gw_socket_shake(&s->socket, key->tls, s->dials, &s->tls_events, &why) != GW_OK)
        return failed_strange(s, why);
    if (s->tls_events != 0) return GW_SHAKE_MORE;
    if (s->dials) return say_hello(s);
    s->stage = GW_SHAKE_WANTS_HELLO;
    return GW_SHAKE_MORE;
}

static enum gw_shake_result on_connected(struct gw_shake *s, const struct gw_shake_key *key)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(s->socket.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) error = errno;
    if (error != 0) return failed(s, "no connection", error);
    if (!s->tls_due) return say_hello(s);
    s->stage = GW_SHAKE_TLS;
    return on_tls(s, key);
}

static enum gw_shake_result on_hello(struct gw_shake *s)
{
    if (!s->tls_due && gw_tls_is_record(s->said, GW_SHAKE_HELLO_BYTES))
        return failed_strange(s, GW_TLS_NOT_DUE);
    if (!read_hello(s)) return failed(s, "not the HELLO of a rank", 0);
    gw_random_bytes(s->said + GW_SHAKE_HELLO_BYTES, GW_SHAKE_NONCE_BYTES);
    s->stage = GW_SHAKE_WANTS_PROOF;
    return say(s, s->said + GW_SHAKE_HELLO_BYTES, GW_SHAKE_NONCE_BYTES);
}

static enum gw_shake_result on_challenge(struct gw_shake *s, const struct gw_shake_key *key)
{
    uint8_t proof[GW_SHA256_BYTES];
    make_proof(s, true, key, proof);
    s->stage = GW_SHAKE_WANTS_PROOF;
    s->deadline_us = 0;
    return say(s, proof, sizeof proof);
}

static enum gw_shake_result on_proof(struct gw_shake *s, const struct gw_shake_key *key)
{
    uint8_t proof[GW_SHA256_BYTES];
    make_proof(s, !s->dials, key, proof);
    if (gw_bytes_equal_ct(proof, s->proof, sizeof proof)) return GW_SHAKE_PROVEN;
    return failed_strange(s, "the peer does not hold the cluster key");
}

bool gw_shake_admit(struct gw_shake *s, const struct gw_shake_key *key)
{
    uint8_t proof[GW_SHA256_BYTES];
    make_proof(s, false, key, proof);
    return say(s, proof, sizeof proof) == GW_SHAKE_MORE;
}

static enum gw_shake_result step(struct gw_shake *s, const struct gw_shake_key *key)
{
    enum gw_shake_result result;
    switch (s->stage) {
    case GW_SHAKE_CONNECTING: return on_connected(s, key);
    case GW_SHAKE_TLS: return on_tls(s, key);
    case GW_SHAKE_WANTS_HELLO:
        result = hear(s, s->said, GW_SHAKE_HELLO_BYTES);
        return result == GW_SHAKE_PROVEN ? on_hello(s) : result;
    case GW_SHAKE_WANTS_CHALLENGE:
        result = hear(s, s->said + GW_SHAKE_HELLO_BYTES, GW_SHAKE_NONCE_BYTES);
        return result == GW_SHAKE_PROVEN ? on_challenge(s, key) : result;
    case GW_SHAKE_WANTS_PROOF:
        result = hear(s, s->proof, sizeof s->proof);
        return result == GW_SHAKE_PROVEN ? on_proof(s, key) : result;
    }
    return failed(s, "no such stage", 0);
}

enum gw_shake_result gw_shake_step(struct gw_shake *s, const struct gw_shake_key *key)
{
    enum gw_shake_result result;
    do result = step(s, key);
    while (result == GW_SHAKE_MORE && gw_socket_has_more(&s->socket)); /* poll does not see these */
    return result;
}

void gw_shake_accept(struct gw_shake *s, int fd, enum gw_shake_purpose purpose,
                     const struct gw_shake_key *key, int64_t deadline_us)
{
    bool tls_due = gw_tls_is_due_at(key->tls, fd);
    *s = (struct gw_shake){.socket = gw_socket_plain(fd),
                           .purpose = purpose,
                           .tls_due = tls_due,
                           .tls_events = POLLIN,
                           .stage = tls_due ? GW_SHAKE_TLS : GW_SHAKE_WANTS_HELLO,
                           .deadline_us = deadline_us};
}

/* A listener whose machine vanishes while a dialer waits to be admitted is noticed after 15 s; later the collective's own
 * deadlines are shorter. */
static bool set_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 5},
        {IPPROTO_TCP, TCP_KEEPINTVL, 5}, {IPPROTO_TCP, TCP_KEEPCNT, 2},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) != 0)
            return false;
    return true;
}

bool gw_shake_dial(struct gw_shake *s, const struct sockaddr_storage *addr, socklen_t addr_len,
                   enum gw_shake_purpose purpose, const struct gw_shake_pair *pair,
                   const struct gw_shake_key *key, int64_t deadline_us)
{
    *s = (struct gw_shake){.dials = true,
                           .tls_due = gw_tls_is_due(key->tls, addr),
                           .purpose = purpose,
                           .stage = GW_SHAKE_CONNECTING,
                           .pair = *pair,
                           .deadline_us = deadline_us};
    int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    s->socket = gw_socket_plain(fd);
    if (fd >= 0 && (addr->ss_family == AF_UNIX || set_options(fd)) &&
        (connect(fd, (const struct sockaddr *)addr, addr_len) == 0 || errno == EINPROGRESS))
        return true;
    failed(s, "no connection", errno);
    gw_shake_close(s);
    return false;
}

short gw_shake_events(const struct gw_shake *s)
{
    if (s->stage == GW_SHAKE_TLS) return s->tls_events;
    return s->stage == GW_SHAKE_CONNECTING ? POLLOUT : POLLIN;
}

void gw_shake_close(struct gw_shake *s)
{
    gw_socket_close(&s->socket);
}
