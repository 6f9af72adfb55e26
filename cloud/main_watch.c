/* godwit-watch: one per instance; it hears the cloud's notices for this machine and makes the controller know. */
#include <curl/curl.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/secret.h"
#include "cloud/report.h"
#include "cloud/watch.h"
#include "cloud/watch_options.h"

struct program {
    struct gw_watch_options o;
    struct gw_log log;
    char *token; /* NULL: none */
    size_t token_len;
    struct event_base *loop;
    struct event *sigint, *sigterm;
    struct gw_web_client *fetch;
    struct gw_report *report;
    struct gw_watch *watch;
};

static void on_notice(void *arg, const struct gw_cloud_notice *notice)
{
    struct program *p = arg;
    gw_report_notice(p->report, notice);
}

static void on_drained(void *arg)
{
    struct program *p = arg;
    gw_watch_drained(p->watch);
}

static void on_sees(void *arg, bool sees)
{
    struct program *p = arg;
    gw_report_sees(p->report, gw_watch_instance(p->watch), sees);
    if (sees)
        gw_logf(&p->log, GW_LOG_INFO, "the metadata service of %s answers again", p->o.cloud);
    else
        gw_logf(&p->log, GW_LOG_ERROR,
                "the metadata service of %s has not answered for %.0f s: notices would not be heard "
                "(containers need "
                "the host's network)",
                p->o.cloud, p->o.blind_s);
}

static void on_end_signal(evutil_socket_t sig, short what, void *arg)
{
    struct program *p = arg;
    (void)what;
    gw_logf(&p->log, GW_LOG_INFO, "signal %d: ending", (int)sig);
    event_base_loopbreak(p->loop);
}

static gw_err_t open_loop(struct program *p, struct gw_err_ctx *ctx)
{
    p->loop = event_base_new();
    if (!p->loop) return gw_fail(ctx, GW_ERR_MEMORY, "cannot make an event loop");
    p->sigint = evsignal_new(p->loop, SIGINT, on_end_signal, p);
    p->sigterm = evsignal_new(p->loop, SIGTERM, on_end_signal, p);
    if (!p->sigint || !p->sigterm || event_add(p->sigint, NULL) != 0 || event_add(p->sigterm, NULL) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "cannot listen for signals");
    return gw_web_client_create(p->loop, &p->fetch, ctx);
}

static gw_err_t open_report(struct program *p, struct gw_err_ctx *ctx)
{
    struct gw_report_config config = {.loop = p->loop,
                                      .fetcher = gw_web_client_table(p->fetch),
                                      .token = p->token,
                                      .log = &p->log,
                                      .drained = p->o.source->drained ? on_drained : NULL,
                                      .arg = p};
    memcpy(config.urls, p->o.urls, sizeof config.urls);
    return gw_report_create(&config, &p->report, ctx);
}

static gw_err_t open_watch(struct program *p, struct gw_err_ctx *ctx)
{
    struct gw_watch_config config = {
        .loop = p->loop,
        .fetcher = gw_web_client_table(p->fetch),
        .ops = p->o.source,
        .source = {.base_url = p->o.metadata_url,
                   .instance = p->o.instance_id,
                   .gcp_notice_us = (int64_t)(p->o.gcp_notice_s * (double)GW_US_PER_S),
                   .hook_us = (int64_t)(p->o.aws_hook_s * (double)GW_US_PER_S),
                   .log = &p->log,
                   .sink = {.notice = on_notice, .arg = p}},
        .blind_us = (int64_t)(p->o.blind_s * (double)GW_US_PER_S),
        .sees = on_sees,
        .arg = p};
    gw_random_bytes(&config.source.seed, sizeof config.source.seed);
    return gw_watch_create(&config, &p->watch, ctx);
}

static gw_err_t start(struct program *p, struct gw_err_ctx *ctx)
{
    if (p->o.admin_token_file) TRY(gw_secret_read(p->o.admin_token_file, &p->token, &p->token_len, ctx));
    TRY(open_loop(p, ctx));
    TRY(open_report(p, ctx));
    return open_watch(p, ctx);
}

static void stop(struct program *p)
{
    gw_web_client_destroy(p->fetch); /* first: what is in flight ends in the others */
    gw_watch_destroy(p->watch);
    gw_report_destroy(p->report);
    if (p->sigint) event_free(p->sigint);
    if (p->sigterm) event_free(p->sigterm);
    if (p->loop) event_base_free(p->loop);
    gw_secret_free(p->token, p->token_len);
}

static gw_err_t run(struct program *p, struct gw_err_ctx *ctx)
{
    p->log = (struct gw_log){.fd = STDERR_FILENO, .level = p->o.log_level, .program = "watch"};
    if (!p->o.source) {
        gw_logf(&p->log, GW_LOG_INFO, "no cloud whose notices could be heard: nothing to do");
        return GW_OK;
    }
    gw_err_t err = start(p, ctx);
    if (err == GW_OK) {
        gw_logf(&p->log, GW_LOG_INFO, "%s: listening for notices of %s, telling %s", GW_VERSION, p->o.cloud,
                p->o.controller);
        event_base_dispatch(p->loop);
    }
    stop(p);
    return err;
}

int main(int argc, char **argv)
{
    struct program p = {0};
    struct gw_err_ctx ctx = {0};
    bool help = false;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("godwit-watch %s\n", GW_VERSION);
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    gw_err_t err = gw_watch_options_parse(argc, argv, &p.o, &help, &ctx);
    if (err == GW_OK && !help) err = run(&p, &ctx);
    if (err != GW_OK) fprintf(stderr, "godwit-watch: %s\n", ctx.text);
    return err == GW_OK ? 0 : 1;
}
