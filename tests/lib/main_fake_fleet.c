/* fake_fleet: many workers in one process that shake hands, beat and are ready at once, and compute nothing: for tests of what a
 * controller does with a large fleet. Worker w<k> is on instance i<k>. Ends when its standard input does. */
#include <poll.h>

#include "tests/lib/fake_worker.h"

#define WORKERS_MAX 128
#define LOOK_MS     5

struct fleet {
    struct fake_worker common;
    int64_t workers;
    struct gw_link *links[WORKERS_MAX];
    uint64_t sessions[WORKERS_MAX];
};

static gw_err_t parse(int argc, char **argv, struct fleet *f, struct gw_err_ctx *ctx)
{
    bool help = false;
    const struct gw_flag flags[] = {FAKE_WORKER_FLAGS(&f->common),
                                    {"workers", GW_FLAG_INT, &f->workers, "N", "how many", 1, WORKERS_MAX},
                                    {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, &help, ctx));
    if (help || !fake_worker_is_whole(&f->common) || f->workers == 0)
        return gw_fail(ctx, GW_ERR_INPUT, "a flag is missing");
    return GW_OK;
}

/* False: the worker's time is over. */
static bool hear(struct fleet *f, int64_t k, struct gw_link_item *item)
{
    if (item->type == GW_LINK_UP) f->sessions[k] = item->session;
    if (item->type == GW_LINK_REFUSED) return false;
    if (item->type != GW_LINK_MSG) return true;
    bool stays = item->msg.type != GW_MSG_GOODBYE;
    if (item->msg.type == GW_MSG_ASSIGN)
        fake_worker_be_ready(&f->common, f->links[k], f->sessions[k], &item->msg);
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
    TRY(fake_worker_prepare(&f->common, ctx));
    for (int k = 0; k < f->workers; k++) TRY(fake_worker_dial(&f->common, k, &f->links[k], ctx));
    while (input_is_open()) look(f);
    return GW_OK;
}

int main(int argc, char **argv)
{
    struct fleet f = {.common.log = {.fd = STDERR_FILENO, .level = GW_LOG_INFO, .program = "fleet"}};
    struct gw_err_ctx ctx = {0};
    gw_err_t err = parse(argc, argv, &f, &ctx);
    if (err == GW_OK) err = run(&f, &ctx);
    for (int64_t k = 0; k < f.workers; k++)
        if (f.links[k]) gw_link_destroy(f.links[k]);
    gw_secret_free(f.common.key, f.common.key_len);
    if (err != GW_OK) fprintf(stderr, "fake_fleet: %s\n", ctx.text);
    return err != GW_OK;
}
