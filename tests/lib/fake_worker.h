/* Workers that shake hands, beat and are ready at once, and compute nothing: for programs that want a controller's side of it.
 *
 * Owner: the caller's. Thread: one. Units: none. Errors: GW_ERR_INPUT of flags and files. Source: own design. */
#ifndef GW_TESTS_FAKE_WORKER_H
#define GW_TESTS_FAKE_WORKER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/secret.h"
#include "base/sockaddr.h"
#include "migrate/fingerprint.h"
#include "worker/link.h"

#define FAKE_WORKER_KV_TOKENS 65536
#define FAKE_WORKER_SEQUENCES 64

/* What all of a program's workers have in common. */
struct fake_worker {
    const char *model, *key_file, *profile, *digest;
    int64_t port, vocab, context;
    char *key; /* once fake_worker_prepare() has read it; gw_secret_free() is the caller's */
    size_t key_len;
    struct gw_log log;
    struct gw_msg_hello hello;
};

#define FAKE_WORKER_FLAGS(w)                                                                                 \
    {"model", GW_FLAG_STRING, &(w)->model, "DIR", "whose fingerprint they have", 0, 0},                      \
        {"cluster-key-file", GW_FLAG_STRING, &(w)->key_file, "FILE", "the cluster key", 0, 0},               \
        {"profile", GW_FLAG_STRING, &(w)->profile, "NAME", "numerics profile", 0, 0},                        \
        {"digest", GW_FLAG_STRING, &(w)->digest, "HEX", "of that profile", 0, 0},                            \
        {"port", GW_FLAG_INT, &(w)->port, "PORT", "the controller's, for workers, on loopback", 1, 65535},   \
        {"vocab", GW_FLAG_INT, &(w)->vocab, "N", "of the model", 1, 1 << 24},                                \
    {                                                                                                        \
        "context", GW_FLAG_INT, &(w)->context, "N", "of the model", 1, 1 << 24                               \
    }

static inline bool fake_worker_is_whole(const struct fake_worker *w)
{
    return w->model && w->key_file && w->profile && w->digest && w->port && w->vocab && w->context;
}

/* Reads the key and fills the hello. */
static inline gw_err_t fake_worker_prepare(struct fake_worker *w, struct gw_err_ctx *ctx)
{
    struct gw_msg_hello *h = &w->hello;
    gw_err_t err = gw_secret_read(w->key_file, &w->key, &w->key_len, ctx);
    if (err != GW_OK) return err;
    *h = (struct gw_msg_hello){.pid = (uint32_t)getpid(),
                               .vocab = (uint32_t)w->vocab,
                               .context = (uint32_t)w->context,
                               .max_sequences = FAKE_WORKER_SEQUENCES,
                               .memory_bytes = 1u << 30,
                               .bytes_s = (uint64_t)1 << 34,
                               .flop_s = (uint64_t)1 << 38};
    if (strlen(w->digest) != 2 * sizeof h->digest)
        return gw_fail(ctx, GW_ERR_INPUT, "--digest: not 64 digits");
    for (size_t i = 0; i < sizeof h->digest; i++) {
        const char byte[3] = {w->digest[2 * i], w->digest[2 * i + 1], 0};
        h->digest[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    snprintf(h->build, sizeof h->build, "fake");
    snprintf(h->profile, sizeof h->profile, "%s", w->profile);
    snprintf(h->data, sizeof h->data, "127.0.0.1:9"); /* nobody listens: no rank has another to find */
    snprintf(h->device, sizeof h->device, "fake");
    return gw_fingerprint_model(w->model, GW_WEIGHT_FILE, GW_KV_FILE, h->fingerprint, ctx);
}

/* The link of worker w<k>, on instance i<k>. */
static inline gw_err_t fake_worker_dial(const struct fake_worker *w, int k, struct gw_link **out,
                                        struct gw_err_ctx *ctx)
{
    struct gw_link_config config = {
        .controllers_len = 1, .key = w->key, .key_len = w->key_len, .hello = w->hello, .log = &w->log};
    struct gw_link_endpoint *e = &config.controllers[0];
    gw_err_t err = gw_sockaddr_parse("127.0.0.1", (uint16_t)w->port, &e->addr, &e->len, ctx);
    if (err != GW_OK) return err;
    snprintf(config.hello.worker, sizeof config.hello.worker, "w%d", k);
    snprintf(config.hello.instance, sizeof config.hello.instance, "i%d", k);
    config.hello.machine[0] = (uint8_t)k;
    return gw_link_create(&config, out, ctx);
}

/* The answer to an ASSIGN. */
static inline void fake_worker_be_ready(const struct fake_worker *w, struct gw_link *link, uint64_t session,
                                        const struct gw_msg *assign)
{
    struct gw_msg m = {.type = GW_MSG_READY,
                       .pipeline = assign->pipeline,
                       .generation = assign->generation,
                       .ready = {.kv_tokens = FAKE_WORKER_KV_TOKENS,
                                 .context = (uint32_t)w->context,
                                 .max_sequences = FAKE_WORKER_SEQUENCES}};
    gw_link_send(link, session, &m);
    gw_link_flush(link);
}

#endif
