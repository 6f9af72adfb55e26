#include "cloud/calls.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

struct call {
    struct gw_calls *calls;
    struct call *next, **link;
    const struct gw_cloud_ask *ask;
    gw_calls_done done;
    void *arg;
    int64_t deadline_us, wait_us;
    struct event *timer; /* waits for its turn to ask (again) */
    struct gw_cloud_http http;
    struct gw_cloud_answer answer;
    char page[GW_CLOUD_TOKEN_MAX];
    int pages;
    bool renewed, starved; /* credentials were, once; there are none to ask with */
    /* An answer on its way through the pool. */
    char *body;
    size_t body_len;
    int status;
    enum gw_cloud_verdict verdict;
    struct gw_err_ctx ctx;
};

struct gw_calls {
    struct gw_calls_config config;
    void *auth;
    struct event *auth_timer;
    bool auth_asking, ending;
    struct call *list;
    int len;
    struct gw_rng rng;
};

static struct gw_source_now now_of(void)
{
    return (struct gw_source_now){.mono_us = gw_clock_mono_us(), .unix_ms = gw_clock_unix_ms()};
}

static void set_timer(struct event *timer, int64_t in_us)
{
    if (in_us < 0) in_us = 0;
    struct timeval tv = {.tv_sec = in_us / GW_US_PER_S, .tv_usec = in_us % GW_US_PER_S};
    event_add(timer, &tv);
}

/* ---- the end of a call --------------------------------------------------------------------------------- */

static void free_call(struct call *c)
{
    if (c->timer) event_free(c->timer);
    gw_cloud_http_fini(&c->http);
    gw_cloud_answer_fini(&c->answer);
    free(c->body);
    free(c);
}

static void finish(struct call *c, gw_err_t err)
{
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->calls->len--;
    c->done(c->arg, err, err == GW_OK ? "" : c->ctx.text, &c->answer);
    free_call(c);
}

/* ---- waiting ------------------------------------------------------------------------------------------- */

/* The text of the last refusal stays for whoever is told in the end. */
static void again(struct call *c)
{
    struct gw_calls *calls = c->calls;
    int64_t now_us = gw_clock_mono_us(), half_us = c->wait_us / 2;
    int64_t wait_us = half_us + (int64_t)gw_rng_below(&calls->rng, (uint64_t)half_us + 1);
    c->wait_us = c->wait_us * 2 < GW_CALLS_WAIT_MAX_US ? c->wait_us * 2 : GW_CALLS_WAIT_MAX_US;
    if (calls->ending || now_us + wait_us >= c->deadline_us)
        finish(c, GW_ERR_CLOUD);
    else
        set_timer(c->timer, wait_us);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static void next_page(struct call *c)
{
    if (c->answer.next[0] == '\0') {
        finish(c, GW_OK);
    } else if (++c->pages == GW_CALLS_PAGES_MAX) {
        finish(c, gw_fail(&c->ctx, GW_ERR_LIMIT, "%s: more pages than can be right",
                          gw_cloud_question_name(c->ask->question)));
    } else {
        memcpy(c->page, c->answer.next, sizeof c->page);
        set_timer(c->timer, 0);
    }
}

static void renew(struct call *c)
{
    if (c->renewed) {
        finish(c, GW_ERR_CLOUD);
        return;
    }
    c->renewed = true;
    c->calls->config.auth->expired(c->calls->auth);
    set_timer(c->calls->auth_timer, 0);
    again(c);
}

static void read_work(void *arg)
{
    struct call *c = arg;
    gw_err_reset(&c->ctx);
    c->verdict =
        c->calls->config.provider->read(c->ask, c->status, c->body, c->body_len, &c->answer, &c->ctx);
    free(c->body); /* here, because giving megabytes back to the kernel takes the loop's millisecond */
    c->body = NULL;
}

static void read_done(void *arg, bool skipped)
{
    struct call *c = arg;
    free(c->body);
    c->body = NULL;
    if (skipped)
        finish(c, gw_fail(&c->ctx, GW_ERR_IO, "the program ends"));
    else if (c->verdict == GW_CLOUD_OK)
        next_page(c);
    else if (c->verdict == GW_CLOUD_AGAIN)
        again(c);
    else if (c->verdict == GW_CLOUD_EXPIRED)
        renew(c);
    else
        finish(c, GW_ERR_CLOUD);
}

static void on_reply(void *arg, const struct gw_web_reply *reply)
{
    struct call *c = arg;
    const struct gw_job job = {.work = read_work, .done = read_done, .arg = c};
    if (reply->err != GW_OK) {
        gw_err_reset(&c->ctx);
        (void)gw_fail(&c->ctx, GW_ERR_CLOUD, "%s: %s: %s", c->calls->config.provider->name,
                      gw_cloud_question_name(c->ask->question), reply->why);
        if (reply->cancelled)
            finish(c, GW_ERR_IO);
        else
            again(c);
        return;
    }
    c->status = reply->status;
    c->body_len = reply->body_len;
    c->body = gw_web_take_body(reply);
    if (!c->body || gw_pool_submit(c->calls->config.pool, job) != GW_OK) {
        (void)gw_fail(&c->ctx, GW_ERR_LIMIT, "no room to read the answer");
        free(c->body);
        c->body = NULL;
        again(c);
    }
}

/* ---- asking -------------------------------------------------------------------------------------------- */

static gw_err_t ask(struct call *c, const struct gw_cloud_credentials *credentials)
{
    const struct gw_calls_config *config = &c->calls->config;
    struct gw_web_flight *fetch;
    gw_cloud_http_fini(&c->http);
    gw_cloud_http_init(&c->http);
    TRY(config->provider->write(&config->place, c->ask, c->page, credentials, &c->http, &c->ctx));
    gw_err_t err = config->fetcher.start(config->fetcher.arg, &c->http.request, on_reply, c, &fetch);
    return err == GW_OK ? GW_OK : gw_fail(&c->ctx, err, "no room for a request");
}

static bool changes_something(enum gw_cloud_question q)
{
    return q == GW_CLOUD_SET_DESIRED || q == GW_CLOUD_DELETE_INSTANCE || q == GW_CLOUD_COMPLETE_LIFECYCLE;
}

static bool may_ask(const struct call *c)
{
    const struct gw_calls_config *config = &c->calls->config;
    return !config->may_write || !changes_something(c->ask->question) ||
           config->may_write(config->may_write_arg);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct call *c = arg;
    struct gw_calls *calls = c->calls;
    (void)fd;
    (void)what;
    if (!may_ask(c)) {
        gw_err_reset(&c->ctx);
        finish(c, gw_fail(&c->ctx, GW_ERR_CLOUD, "%s: %s: this is another controller's to decide now",
                          calls->config.provider->name, gw_cloud_question_name(c->ask->question)));
        return;
    }
    const struct gw_cloud_credentials *credentials = calls->config.auth->get(calls->auth, now_of());
    c->starved = !credentials;
    if (!credentials) {
        if (c->ctx.code == GW_OK)
            (void)gw_fail(&c->ctx, GW_ERR_CLOUD, "%s: %s: no credentials", calls->config.provider->name,
                          gw_cloud_question_name(c->ask->question));
        again(c);
        return;
    }
    gw_err_reset(&c->ctx);
    gw_err_t err = ask(c, credentials);
    if (err != GW_OK) finish(c, err);
}

/* ---- credentials --------------------------------------------------------------------------------------- */

static void on_auth_reply(void *arg, const struct gw_web_reply *reply)
{
    struct gw_calls *calls = arg;
    calls->auth_asking = false;
    if (reply->cancelled) return;
    calls->config.auth->hear(calls->auth, now_of(), reply);
    set_timer(calls->auth_timer, 0);
    if (!calls->config.auth->get(calls->auth, now_of())) return;
    for (struct call *c = calls->list; c; c = c->next) /* who waited for them need not wait longer */
        if (c->starved) set_timer(c->timer, 0);
}

static void on_auth_turn(evutil_socket_t fd, short what, void *arg)
{
    struct gw_calls *calls = arg;
    struct gw_web_request request;
    struct gw_web_flight *fetch;
    struct gw_source_now now = now_of();
    (void)fd;
    (void)what;
    if (calls->auth_asking) return;
    int64_t due_us = calls->config.auth->next(calls->auth, now, &request);
    if (due_us == INT64_MAX) return;
    if (due_us > now.mono_us) {
        set_timer(calls->auth_timer, due_us - now.mono_us);
        return;
    }
    calls->auth_asking = calls->config.fetcher.start(calls->config.fetcher.arg, &request, on_auth_reply,
                                                     calls, &fetch) == GW_OK;
    if (!calls->auth_asking) set_timer(calls->auth_timer, GW_CALLS_WAIT_US);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

gw_err_t gw_calls_start(struct gw_calls *calls, const struct gw_cloud_ask *ask, gw_calls_done done, void *arg)
{
    if (calls->len == GW_CALLS_MAX || calls->ending) return GW_ERR_LIMIT;
    struct call *c = calloc(1, sizeof *c);
    if (!c) return GW_ERR_MEMORY;
    *c = (struct call){.calls = calls, .ask = ask, .done = done, .arg = arg, .wait_us = GW_CALLS_WAIT_US};
    gw_cloud_http_init(&c->http);
    c->deadline_us = gw_clock_mono_us() + GW_CALLS_DEADLINE_US;
    c->timer = evtimer_new(calls->config.loop, on_turn, c);
    if (!c->timer) {
        free_call(c);
        return GW_ERR_MEMORY;
    }
    c->next = calls->list;
    c->link = &calls->list;
    if (c->next) c->next->link = &c->next;
    calls->list = c;
    calls->len++;
    set_timer(c->timer, 0);
    return GW_OK;
}

gw_err_t gw_calls_create(const struct gw_calls_config *config, struct gw_calls **out, struct gw_err_ctx *ctx)
{
    struct gw_calls *calls = calloc(1, sizeof *calls);
    if (!calls) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    calls->config = *config;
    gw_rng_init(&calls->rng, config->seed);
    calls->auth_timer = evtimer_new(config->loop, on_auth_turn, calls);
    gw_err_t err =
        calls->auth_timer ? config->auth->create(&config->auth_config, &calls->auth) : GW_ERR_MEMORY;
    if (err != GW_OK) {
        gw_calls_destroy(calls);
        return gw_fail(ctx, err, "cannot prepare calls to %s", config->provider->name);
    }
    set_timer(calls->auth_timer, 0);
    *out = calls;
    return GW_OK;
}

void gw_calls_destroy(struct gw_calls *calls)
{
    if (!calls) return;
    calls->ending = true;
    while (calls->list) {
        gw_err_reset(&calls->list->ctx);
        finish(calls->list, gw_fail(&calls->list->ctx, GW_ERR_IO, "the program ends"));
    }
    if (calls->auth_timer) event_free(calls->auth_timer);
    if (calls->auth) calls->config.auth->destroy(calls->auth);
    free(calls);
}
