#include "controller/cli/top_cmd.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/args.h"
#include "base/clock.h"
#include "controller/cli/cluster_picture.h"
#include "controller/cli/signals.h"
#include "controller/cli/terminal.h"

#define SCREEN_MAX (1u << 20)
#define FOOT_ROWS  2 /* an empty one and the last */

struct top_options {
    struct admin_options admin;
    double interval_s;
    bool ascii;
};

struct top {
    struct top_options o;
    struct admin_client *client;
    struct terminal terminal;
    int signals;
    struct cluster_view view; /* the last one that was had */
    struct cluster_rates rates;
    int64_t seen_us;           /* 0: never */
    struct gw_err_ctx trouble; /* of the last look */
    bool ended;
};

static gw_err_t parse(int argc, char **argv, struct top_options *o, bool *help, struct gw_err_ctx *ctx)
{
    const struct gw_flag flags[] = {
        {"admin", GW_FLAG_STRING, &o->admin.admin, "HOST:PORT", "the controller's admin listener", 0, 0},
        {"admin-token-file", GW_FLAG_STRING, &o->admin.token_file, "FILE", "its bearer token", 0, 0},
        {"interval", GW_FLAG_DOUBLE, &o->interval_s, "S", "between two looks", 0.1, 3600},
        {"ascii", GW_FLAG_BOOL, &o->ascii, NULL, "draw with + - | # (so does a locale that is not UTF-8)", 0,
         0},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, help, ctx));
    if (*help)
        gw_args_help("godwit top [flags]",
                     "The cluster, live: pipelines as grids of cells, workers, rates. q or Ctrl-C ends it.",
                     flags);
    return GW_OK;
}

/* ---- looking ---- */

static void look(struct top *t)
{
    struct cluster_view view;
    struct gw_err_ctx ctx = {0};
    gw_err_t err = cluster_look(t->client, &view, &ctx);
    int64_t now_us = gw_clock_mono_us();
    t->trouble = ctx;
    if (err != GW_OK) return;
    double s = (double)(now_us - t->seen_us) / (double)GW_US_PER_S;
    /* a controller that was restarted counts from 0 again */
    t->rates.measured = t->seen_us && view.tokens >= t->view.tokens && view.accepted >= t->view.accepted;
    if (t->rates.measured) {
        t->rates.tokens_s = (double)(view.tokens - t->view.tokens) / s;
        t->rates.requests_s = (double)(view.accepted - t->view.accepted) / s;
    }
    cluster_view_fini(&t->view);
    t->view = view;
    t->seen_us = now_us;
}

/* ---- drawing ---- */

static void draw_foot(const struct top *t, struct canvas *c, uint32_t y)
{
    if (t->trouble.code == GW_OK)
        canvas_printf(c, 0, y, CANVAS_DIM, "q quits · %s · each %g s", t->o.admin.admin, t->o.interval_s);
    else
        canvas_printf(c, 0, y, CANVAS_RED, "%s", t->trouble.text);
}

/* Pipelines get what the workers leave, and at least half. */
static void draw(const struct top *t)
{
    struct gw_buf b;
    struct canvas c;
    struct terminal_size size = terminal_size(STDOUT_FILENO);
    const struct canvas_print how = {.utf8 = !t->o.ascii && terminal_is_utf8(),
                                     .colours = true,
                                     .line_end = "\033[K\r\n",
                                     .rows = size.rows - 1};
    uint32_t y = 0, rows = size.rows > FOOT_ROWS ? size.rows - FOOT_ROWS : 1;
    canvas_init(&c, size.columns);
    if (t->seen_us) {
        y = cluster_picture_head(&c, 0, &t->view, &t->rates) + 1;
        uint32_t left = rows > y ? rows - y : 0, workers = t->view.workers_len + 1;
        uint32_t pipelines = left > workers && left - workers > left / 2 ? left - workers : left / 2;
        if (pipelines) y = cluster_picture_pipelines(&c, y, pipelines, &t->view);
        if (rows > y + 1) cluster_picture_workers(&c, y, rows - y, &t->view);
    }
    draw_foot(t, &c, size.rows > 1 ? size.rows - 2 : 0);
    gw_buf_init(&b, SCREEN_MAX);
    gw_buf_puts(&b, "\033[H");
    canvas_put(&c, &how, &b);
    gw_buf_puts(&b, "\033[J");
    if (b.err == GW_OK && c.err == GW_OK) fwrite(b.data, 1, b.len, stdout);
    fflush(stdout);
    gw_buf_fini(&b);
    canvas_fini(&c);
}

/* ---- waiting ---- */

static void on_keys(struct top *t)
{
    char keys[64];
    ssize_t n = read(STDIN_FILENO, keys, sizeof keys);
    if (n <= 0) t->ended = true; /* the terminal has gone */
    for (ssize_t i = 0; i < n; i++) t->ended |= keys[i] == 'q' || keys[i] == 'Q';
}

/* Until the next look is due; a changed size is drawn at once. */
static void wait_for_next(struct top *t)
{
    int64_t due_us = gw_clock_mono_us() + (int64_t)(t->o.interval_s * 1e6);
    for (int64_t now_us = gw_clock_mono_us(); !t->ended && now_us < due_us; now_us = gw_clock_mono_us()) {
        int signal = signals_wait(t->signals, STDIN_FILENO, (due_us - now_us) / GW_US_PER_MS + 1);
        if (signal == SIGWINCH) draw(t);
        if (signal == 0) on_keys(t);
        if (signal == SIGINT || signal == SIGTERM || signal == SIGHUP) t->ended = true;
    }
}

/* The first look is before the screen is taken: what is wrong then, stays to be read. */
static gw_err_t run(struct top *t, struct gw_err_ctx *ctx)
{
    TRY(admin_open(&t->o.admin, &t->client, ctx));
    look(t);
    if (t->trouble.code != GW_OK) return gw_fail(ctx, t->trouble.code, "%s", t->trouble.text);
    TRY(signals_open(&t->signals, ctx));
    TRY(terminal_open(&t->terminal, ctx));
    while (!t->ended) {
        draw(t);
        wait_for_next(t);
        if (!t->ended) look(t);
    }
    return GW_OK;
}

int gw_top_main(int argc, char **argv)
{
    struct gw_err_ctx ctx = {0};
    struct top t = {.o = {.admin.admin = ADMIN_DEFAULT, .interval_s = 1}, .signals = -1};
    bool help = false;
    gw_err_t err = parse(argc, argv, &t.o, &help, &ctx);
    if (err == GW_OK && !help) err = run(&t, &ctx);
    terminal_close(&t.terminal);
    signals_close(t.signals);
    cluster_view_fini(&t.view);
    admin_close(t.client);
    if (err == GW_OK) return 0;
    fprintf(stderr, "godwit top: %s\n", ctx.text);
    return 1;
}
