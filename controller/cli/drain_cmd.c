#include "controller/cli/drain_cmd.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/args.h"
#include "base/clock.h"
#include "controller/cli/cluster_view.h"
#include "controller/cli/signals.h"

#define LOOK_MS     250
#define LINE_MAX    1000
#define GRACE_S     30 /* of the controller: behind its deadline an instance that lives counts as back */
#define EXIT_LEFT   2
#define EXIT_SIGNAL 130
#define LAST_LOOK_S 2 /* behind the deadline: what was cut over then must have been seen to end */

struct drain_options {
    struct admin_options admin;
    double timeout_s;
    bool cancel;
    const char *instance;
};

struct drain {
    struct drain_options o;
    struct admin_client *client;
    int signals;
    int64_t begun_us;
    char last[LINE_MAX]; /* what was said last */
};

static gw_err_t parse(int argc, char **argv, struct drain_options *o, bool *help, struct gw_err_ctx *ctx)
{
    int words = 0;
    const struct gw_flag flags[] = {
        {"timeout", GW_FLAG_DOUBLE, &o->timeout_s, "S",
         "the notice's deadline: what has not moved by then is cut over all the same", 1, 86400},
        {"cancel", GW_FLAG_BOOL, &o->cancel, NULL, "take an earlier notice back: the instance stays", 0, 0},
        {"admin", GW_FLAG_STRING, &o->admin.admin, "HOST:PORT", "the controller's admin listener", 0, 0},
        {"admin-token-file", GW_FLAG_STRING, &o->admin.token_file, "FILE", "its bearer token", 0, 0},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, &o->instance, 1, &words, help, ctx));
    if (*help) {
        gw_args_help("godwit drain INSTANCE [flags]",
                     "Tells the controller that an instance will go (notice scale-in), and waits until no "
                     "pipeline and no\n"
                     "request is on it any more: then the machine may be taken away. Its requests go on "
                     "elsewhere, clients\n"
                     "see nothing. Ctrl-C cancels the notice.\n\n"
                     "INSTANCE is an id as `godwit status` lists it.\n"
                     "Exit status: 0 empty, 1 wrong flags or no controller, 2 something is left at "
                     "--timeout, 130 cancelled.",
                     flags);
        return GW_OK;
    }
    if (words != 1)
        return gw_fail(ctx, GW_ERR_INPUT, "which instance? godwit drain INSTANCE (godwit status lists them)");
    return GW_OK;
}

static double elapsed_s(const struct drain *d)
{
    return (double)(gw_clock_mono_us() - d->begun_us) / (double)GW_US_PER_S;
}

static void say(struct drain *d, const char *line)
{
    if (strcmp(d->last, line) == 0) return;
    snprintf(d->last, sizeof d->last, "%s", line);
    printf("[%6.1f s] %s\n", elapsed_s(d), line);
    fflush(stdout);
}

/* ---- the notice ---- */

static gw_err_t send_notice(struct drain *d, const char *kind, struct gw_err_ctx *ctx)
{
    struct gw_buf b;
    cJSON *answer = NULL;
    gw_buf_init(&b, 4096);
    gw_buf_puts(&b, "{\"instance\":");
    gw_json_put_string(&b, d->o.instance, strlen(d->o.instance));
    gw_buf_printf(&b, ",\"kind\":\"%s\",\"deadline_s\":%.3f}", kind, d->o.timeout_s);
    const char *body = gw_buf_cstr(&b);
    gw_err_t err = body ? admin_call(d->client, "/admin/notice", body, &answer, ctx)
                        : gw_fail(ctx, GW_ERR_INPUT, "the instance's id is too long");
    gw_buf_fini(&b);
    cJSON_Delete(answer);
    return err;
}

/* A name that nobody has: say which there are. */
static gw_err_t check_instance(const struct drain *d, const struct cluster_view *v, struct gw_err_ctx *ctx)
{
    char list[320] = "";
    size_t len = 0;
    for (uint32_t i = 0; i < v->workers_len; i++) {
        const char *id = v->workers[i].instance;
        if (strcmp(id, d->o.instance) == 0) return GW_OK;
        bool again = i && strcmp(v->workers[i - 1].instance, id) == 0; /* they are sorted */
        if (!again && len + strlen(id) + 4 < sizeof list)
            len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", len ? ", " : "", id);
    }
    return gw_fail(ctx, GW_ERR_INPUT, "there is no instance '%.80s'; %s%s", d->o.instance,
                   len ? "there are: " : "no worker is registered", list);
}

/* ---- what is left ---- */

struct left {
    uint32_t workers, pipelines, requests;
    char line[LINE_MAX];
};

/* Ranks of the pipeline on that instance. */
static uint32_t ranks_on(const struct view_pipeline *p, const char *instance)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->ranks_len; i++) n += strcmp(p->ranks[i].instance, instance) == 0;
    return n;
}

static void put(char *line, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(char *line, const char *fmt, ...)
{
    size_t len = strlen(line);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line + len, LINE_MAX - len, fmt, ap);
    va_end(ap);
}

static void put_pipeline(char *line, const struct view_pipeline *p)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < p->ranks_len; i++) ready += p->ranks[i].ready;
    put(line, "%spipeline %u %s", *line ? "; " : "", p->pipeline, p->state);
    if (strcmp(p->state, "forming") == 0)
        put(line, " (%u of %u ranks ready)", ready, p->ranks_len);
    else
        put(line, " with %u request%s", p->requests, p->requests == 1 ? "" : "s");
}

static bool is_coming(const struct view_pipeline *p)
{
    return strcmp(p->state, "forming") == 0 || strcmp(p->state, "ready") == 0;
}

/* A drained pipeline ends with the start of those that replace it; where none does, it stays as it is: empty. */
static bool is_over(const struct view_pipeline *p, bool others_come)
{
    return strcmp(p->state, "draining") == 0 && p->requests == 0 && !others_come;
}

/* The pipelines that are on the instance, then those that are to take over. */
static void look_what_is_left(const struct drain *d, const struct cluster_view *v, struct left *left)
{
    bool others = false, others_come = false;
    *left = (struct left){0};
    for (uint32_t i = 0; i < v->workers_len; i++)
        left->workers += strcmp(v->workers[i].instance, d->o.instance) == 0;
    for (uint32_t i = 0; i < v->pipelines_len; i++) {
        bool here = ranks_on(&v->pipelines[i], d->o.instance) > 0;
        others |= !here;
        others_come |= !here && is_coming(&v->pipelines[i]);
    }
    for (uint32_t i = 0; i < v->pipelines_len; i++) {
        const struct view_pipeline *p = &v->pipelines[i];
        if (!ranks_on(p, d->o.instance) || is_over(p, others_come)) continue;
        left->pipelines++;
        left->requests += p->requests;
        put_pipeline(left->line, p);
    }
    for (uint32_t i = 0; left->pipelines && i < v->pipelines_len; i++)
        if (is_coming(&v->pipelines[i]) && !ranks_on(&v->pipelines[i], d->o.instance))
            put_pipeline(left->line, &v->pipelines[i]);
    if (left->pipelines && !others && v->plan_pipelines == 0 && !v->planning)
        put(left->line, "; nothing can take over: %.200s", v->reason);
}

/* ---- waiting ---- */

static int cancelled(struct drain *d)
{
    struct gw_err_ctx ctx = {0};
    if (send_notice(d, "cancel", &ctx) == GW_OK)
        printf("[%6.1f s] cancelled: %s stays\n", elapsed_s(d), d->o.instance);
    else
        fprintf(stderr, "godwit drain: the notice could not be cancelled: %s\n", ctx.text);
    return EXIT_SIGNAL;
}

static int emptied(struct drain *d, const struct left *left)
{
    double until_s = d->o.timeout_s + GRACE_S - elapsed_s(d);
    if (left->workers == 0)
        printf("[%6.1f s] %s has gone\n", elapsed_s(d), d->o.instance);
    else
        printf("[%6.1f s] %s is empty: take it away within %.0f s (then it counts as back)\n", elapsed_s(d),
               d->o.instance, until_s > 0 ? until_s : 0);
    return 0;
}

static int timed_out(const struct drain *d, const struct left *left, const struct gw_err_ctx *trouble)
{
    if (trouble->code != GW_OK)
        fprintf(stderr, "godwit drain: %s\n", trouble->text);
    else
        fprintf(stderr, "godwit drain: %u pipeline%s and %u request%s are still on %s after %.0f s\n",
                left->pipelines, left->pipelines == 1 ? "" : "s", left->requests,
                left->requests == 1 ? "" : "s", d->o.instance, elapsed_s(d));
    return trouble->code != GW_OK ? 1 : EXIT_LEFT;
}

static int wait_until_empty(struct drain *d)
{
    struct left left = {0};
    for (;;) {
        struct cluster_view v;
        struct gw_err_ctx ctx = {0};
        if (cluster_look(d->client, &v, &ctx) == GW_OK) {
            look_what_is_left(d, &v, &left);
            cluster_view_fini(&v);
            if (left.pipelines == 0) return emptied(d, &left);
            say(d, left.line);
        } else {
            say(d, ctx.text);
        }
        if (elapsed_s(d) > d->o.timeout_s + LAST_LOOK_S) return timed_out(d, &left, &ctx);
        int signal = signals_wait(d->signals, -1, LOOK_MS);
        if (signal == SIGINT || signal == SIGTERM || signal == SIGHUP) return cancelled(d);
    }
}

static gw_err_t begin(struct drain *d, struct gw_err_ctx *ctx)
{
    struct cluster_view v;
    TRY(admin_open(&d->o.admin, &d->client, ctx));
    TRY(cluster_look(d->client, &v, ctx));
    gw_err_t err = check_instance(d, &v, ctx);
    cluster_view_fini(&v);
    TRY(err);
    TRY(signals_open(&d->signals, ctx));
    d->begun_us = gw_clock_mono_us();
    return send_notice(d, d->o.cancel ? "cancel" : "scale-in", ctx);
}

int gw_drain_main(int argc, char **argv)
{
    struct gw_err_ctx ctx = {0};
    struct drain d = {.o = {.admin.admin = ADMIN_DEFAULT, .timeout_s = 300}, .signals = -1};
    bool help = false;
    int status = 0;
    gw_err_t err = parse(argc, argv, &d.o, &help, &ctx);
    if (err == GW_OK && !help) {
        err = begin(&d, &ctx);
        if (err == GW_OK && d.o.cancel)
            printf("the notice is cancelled: %s stays\n", d.o.instance);
        else if (err == GW_OK)
            status = wait_until_empty(&d);
    }
    signals_close(d.signals);
    admin_close(d.client);
    if (err == GW_OK) return status;
    fprintf(stderr, "godwit drain: %s\n", ctx.text);
    return 1;
}
