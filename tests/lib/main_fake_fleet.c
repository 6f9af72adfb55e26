/* fake_fleet: many workers in one process that shake hands, beat and are ready at once, and compute nothing: for tests of what a
 * controller does with a large fleet. Worker w<k> is on instance i<k>. Ends when its standard input does. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/secret.h"
#include "base/sockaddr.h"
#include "migrate/fingerprint.h"
#include "worker/link.h"

#define WORKERS_MAX 128
#define LOOK_MS     5
#define KV_TOKENS   65536
#define SEQUENCES   64

struct fleet {
    const char *model, *key_file, *profile, *digest;
    int64_t port, workers, vocab, context;
    char *key;
    size_t key_len;
    struct gw_log log;
    struct gw_msg_hello hello;
    struct gw_link *links[WORKERS_MAX];
    uint64_t sessions[WORKERS_MAX];
};

static gw_err_t parse(int argc, char **argv, struct fleet *f, struct gw_err_ctx *ctx)
{
    bool help = false;
    const struct gw_flag flags[] = {
        {"model", GW_FLAG_STRING, &f->model, "DIR", "whose fingerprint they have", 0, 0},
        {"cluster-key-file", GW_FLAG_STRING, &f->key_file, "FILE", "the cluster key", 0, 0},
        {"profile", GW_FLAG_STRING, &f->profile, "NAME", "numerics profile", 0, 0},
        {"digest", GW_FLAG_STRING, &f->digest, "HEX", "of that profile", 0, 0},
        {"port", GW_FLAG_INT, &f->port, "PORT", "the controller's, for workers, on loopback", 1, 65535},
        {"workers", GW_FLAG_INT, &f->workers, "N", "how many", 1, WORKERS_MAX},
        {"vocab", GW_FLAG_INT, &f->vocab, "N", "of the model", 1, 1 << 24},
        {"context", GW_FLAG_INT, &f->context, "N", "of the model", 1, 1 << 24},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, &help, ctx));
    if (help || !f->model || !f->key_file || !f->profile || !f->digest || f->port == 0 || f->workers == 0)
        return gw_fail(ctx, GW_ERR_INPUT, "a flag is missing");
    return GW_OK;
}

static gw_err_t fill_hello(struct fleet *f, struct gw_err_ctx *ctx)
{
    struct gw_msg_hello *h = &f->hello;
    *h = (struct gw_msg_hello){.pid = (uint32_t)getpid(),
                               .vocab = (uint32_t)f->vocab,
                               .context = (uint32_t)f->context,
                               .max_sequences = SEQUENCES,
                               .memory_bytes = 1u << 30,
                               .bytes_s = (uint64_t)1 << 34,
                               .flop_s = (uint64_t)1 << 38};
    if (strlen(f->digest) != 2 * sizeof h->digest)
        return gw_fail(ctx, GW_ERR_INPUT, "--digest: not 64 digits");
    for (size_t i = 0; i < sizeof h->digest; i++) {
        const char byte[3] = {f->digest[2 * i], f->digest[2 * i + 1], 0};
        h->digest[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    snprintf(h->build, sizeof h->build, "fake");
    snprintf(h->profile, sizeof h->profile, "%s", f->profile);
    snprintf(h->data, sizeof h->data, "127.0.0.1:9"); /* nobody listens: no rank has another to find */
    snprintf(h->device, sizeof h->device, "fake");
    return gw_fingerprint_model(f->model, GW_WEIGHT_FILE, GW_KV_FILE, h->fingerprint, ctx);
}

static gw_err_t start(struct fleet *f, int64_t k, struct gw_err_ctx *ctx)
{
    struct gw_link_config config = {
        .controllers_len = 1, .key = f->key, .key_len = f->key_len, .hello = f->hello, .log = &f->log};
    struct gw_link_endpoint *e = &config.controllers[0];
    TRY(gw_sockaddr_parse("127.0.0.1", (uint16_t)f->port, &e->addr, &e->len, ctx));
    snprintf(config.hello.worker, sizeof config.hello.worker, "w%d", (int)k);
    snprintf(config.hello.instance, sizeof config.hello.instance, "i%d", (int)k);
    config.hello.machine[0] = (uint8_t)k;
    return gw_link_create(&config, &f->links[k], ctx);
}

static void be_ready(struct fleet *f, int64_t k, const struct gw_msg *assign)
{
    struct gw_msg m = {
        .type = GW_MSG_READY,
        .pipeline = assign->pipeline,
        .generation = assign->generation,
        .ready = {.kv_tokens = KV_TOKENS, .context = (uint32_t)f->context, .max_sequences = SEQUENCES}};
    gw_link_send(f->links[k], f->sessions[k], &m);
}

/* False: the worker's time is over. */
static bool hear(struct fleet *f, int64_t k, struct gw_link_item *item)
{
    if (item->type == GW_LINK_UP) f->sessions[k] = item->session;
    if (item->type == GW_LINK_REFUSED) return false;
    if (item->type != GW_LINK_MSG) return true;
    bool stays = item->msg.type != GW_MSG_GOODBYE;
    if (item->msg.type == GW_MSG_ASSIGN) be_ready(f, k, &item->msg);
    gw_msg_fini(&item->msg);
    return stays;
}

static void look(struct fleet *f)
{
    struct gw_link_item item;
    for (int64_t k = 0; k < f->workers; k++) {
        bool stays = true;
        while (stays && f->links[k] && gw_link_receive(f->links[k], 0, &item)) stays = hear(f, k, &item);
        if (stays) continue;
        gw_link_destroy(f->links[k]);
        f->links[k] = NULL;
    }
}

static bool input_is_open(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&in, 1, LOOK_MS) == 0;
}

static gw_err_t run(struct fleet *f, struct gw_err_ctx *ctx)
{
    TRY(gw_secret_read(f->key_file, &f->key, &f->key_len, ctx));
    TRY(fill_hello(f, ctx));
    for (int64_t k = 0; k < f->workers; k++) TRY(start(f, k, ctx));
    while (input_is_open()) look(f);
    return GW_OK;
}

int main(int argc, char **argv)
{
    struct fleet f = {.log = {.fd = STDERR_FILENO, .level = GW_LOG_INFO, .program = "fleet"}};
    struct gw_err_ctx ctx = {0};
    gw_err_t err = parse(argc, argv, &f, &ctx);
    if (err == GW_OK) err = run(&f, &ctx);
    for (int64_t k = 0; k < f.workers; k++)
        if (f.links[k]) gw_link_destroy(f.links[k]);
    gw_secret_free(f.key, f.key_len);
    if (err != GW_OK) fprintf(stderr, "fake_fleet: %s\n", ctx.text);
    return err != GW_OK;
}
