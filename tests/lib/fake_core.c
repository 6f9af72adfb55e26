#include "tests/lib/fake_core.h"

#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/hash.h"

#define BATCH_MAX 64
#define TOP_MAX   GW_REQUEST_TOP_MAX
#define PLAIN_IDS 200

struct branch {
    uint32_t len;
    bool done;
};

struct live {
    TAILQ_ENTRY(live) link;
    struct gw_request *request;
    struct branch branches[GW_REQUEST_BRANCHES_MAX];
};

TAILQ_HEAD(live_list, live);

struct fake_core {
    struct gw_front *front;
    struct event *turn;
    struct live_list live;
    int live_len;
    struct fake_core_plan plan;
    struct fake_core_seen seen;
};

static uint32_t plain_token(const struct gw_request *r, uint32_t branch, uint32_t position)
{
    return (uint32_t)(gw_mix64(r->sampling.seed ^ gw_mix64(((uint64_t)branch << 32) | position)) % PLAIN_IDS);
}

static uint32_t token_at(const struct fake_core *c, const struct gw_request *r, uint32_t branch,
                         uint32_t position)
{
    return c->plan.token ? c->plan.token(c->plan.arg, r, branch, position) : plain_token(r, branch, position);
}

static void tell(struct fake_core *c, struct gw_action action)
{
    gw_front_on_action(c->front, &action);
}

static void end(struct fake_core *c, struct live *l)
{
    TAILQ_REMOVE(&c->live, l, link);
    c->live_len--;
    gw_request_destroy(l->request);
    free(l);
}

static bool all_done(const struct live *l)
{
    for (uint32_t b = 0; b < l->request->n; b++)
        if (!l->branches[b].done) return false;
    return true;
}

static void emit(struct fake_core *c, struct live *l, uint32_t b)
{
    uint32_t ids[BATCH_MAX], n = 0, max = c->plan.batch ? c->plan.batch : 1;
    float logprobs[BATCH_MAX];
    struct gw_top top[BATCH_MAX * TOP_MAX];
    const struct gw_sampling *s = &l->request->sampling;
    struct branch *branch = &l->branches[b];
    enum gw_finish finish = GW_FINISH_NONE;
    uint32_t first = branch->len;
    assert(max <= BATCH_MAX);
    while (n < max && finish == GW_FINISH_NONE) {
        ids[n] = token_at(c, l->request, b, branch->len);
        logprobs[n] = -0.25f * (float)(1 + branch->len);
        for (uint32_t k = 0; k < s->top_logprobs; k++)
            top[n * s->top_logprobs + k] = (struct gw_top){ids[n] + k, logprobs[n] - (float)k};
        finish = gw_request_finish_at(s, branch->len++, ids[n++]);
    }
    tell(c, (struct gw_action){.type = GW_ACT_TOKENS,
                               .tokens = {.request = l->request->id,
                                          .branch = b,
                                          .profile = c->plan.profile ? c->plan.profile : "test",
                                          .tokens = {.first = first,
                                                     .count = n,
                                                     .top_n = s->top_logprobs,
                                                     .ids = ids,
                                                     .logprobs = logprobs,
                                                     .top = s->top_logprobs ? top : NULL}}});
    if (finish == GW_FINISH_NONE) return;
    branch->done = true;
    tell(c, (struct gw_action){.type = GW_ACT_FINISH,
                               .finish = {.request = l->request->id, .branch = b, .reason = finish}});
}

static bool must_fail(const struct fake_core *c, const struct live *l)
{
    for (uint32_t b = 0; b < l->request->n; b++)
        if (l->branches[b].len >= c->plan.fail_at) return true;
    return false;
}

static void step(struct fake_core *c, struct live *l)
{
    uint64_t id = l->request->id;
    if (must_fail(c, l)) {
        tell(c,
             (struct gw_action){.type = GW_ACT_FAILED,
                                .failed = {.request = id, .code = c->plan.fail_code, .text = "as planned"}});
        end(c, l);
        return;
    }
    for (uint32_t b = 0; b < l->request->n && !c->plan.held; b++)
        if (!l->branches[b].done) emit(c, l, b);
    if (!all_done(l)) return;
    tell(c, (struct gw_action){.type = GW_ACT_DONE, .done.request = id});
    end(c, l);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct fake_core *c = arg;
    struct live *l, *next;
    struct timeval soon = {.tv_usec = 200};
    for (l = TAILQ_FIRST(&c->live); l; l = next) {
        next = TAILQ_NEXT(l, link);
        step(c, l);
    }
    if (!TAILQ_EMPTY(&c->live) && !c->plan.held) event_add(c->turn, &soon);
}

static void on_submit(struct fake_core *c, struct gw_request *r)
{
    struct fake_core_seen *s = &c->seen;
    s->submits++;
    s->last_id = r->id;
    s->last_n = r->n;
    s->last_prompt_len = r->prompt_len;
    s->last_max_tokens = r->sampling.max_tokens;
    s->last_seed = r->sampling.seed;
    memcpy(s->last_tenant, r->tenant, sizeof s->last_tenant);
    if (c->plan.full) {
        tell(c, (struct gw_action){.type = GW_ACT_FAILED,
                                   .failed = {.request = r->id, .code = GW_ERR_LIMIT, .text = "queue full"}});
        gw_request_destroy(r);
        return;
    }
    struct live *l = calloc(1, sizeof *l);
    assert(l);
    l->request = r;
    TAILQ_INSERT_TAIL(&c->live, l, link);
    c->live_len++;
    tell(c, (struct gw_action){.type = GW_ACT_ACCEPTED, .accepted.request = r->id});
    fake_core_release(c);
}

static void on_restore(struct fake_core *c, struct gw_request *r, const struct gw_core_restored *branches)
{
    struct live *l = calloc(1, sizeof *l);
    assert(l);
    c->seen.restores++;
    c->seen.last_id = r->id;
    l->request = r;
    for (uint32_t b = 0; b < r->n; b++)
        l->branches[b] = (struct branch){.len = branches[b].tokens.count, .done = branches[b].done};
    TAILQ_INSERT_TAIL(&c->live, l, link);
    c->live_len++;
    tell(c, (struct gw_action){.type = GW_ACT_ACCEPTED, .accepted.request = r->id});
    fake_core_release(c);
}

static struct live *find(const struct fake_core *c, uint64_t id)
{
    for (struct live *l = TAILQ_FIRST(&c->live); l; l = TAILQ_NEXT(l, link))
        if (l->request->id == id) return l;
    return NULL;
}

static void on_stop(struct fake_core *c, uint64_t id, uint32_t branch, uint32_t keep)
{
    struct live *l = find(c, id);
    c->seen.stops++;
    c->seen.stop_branch = branch;
    c->seen.stop_keep = keep;
    if (l) l->branches[branch].done = true;
}

static void post(void *arg, const struct gw_event *e)
{
    struct fake_core *c = arg;
    struct live *l;
    switch (e->type) {
    case GW_EV_SUBMIT: on_submit(c, e->submit.request); return;
    case GW_EV_RESTORE: on_restore(c, e->restore.request, e->restore.branches); return;
    case GW_EV_CANCEL:
        c->seen.cancels++;
        if ((l = find(c, e->cancel.request))) end(c, l);
        return;
    case GW_EV_STOP: on_stop(c, e->stop.request, e->stop.branch, e->stop.keep); return;
    case GW_EV_NOTICE:
        c->seen.notices++;
        snprintf(c->seen.notice_name, sizeof c->seen.notice_name, "%s", e->notice.name);
        c->seen.notice_kind = e->notice.kind;
        c->seen.notice_deadline_us = e->notice.deadline_us;
        return;
    default: return;
    }
}

static void stats(void *arg, struct gw_core_stats *out)
{
    const struct fake_core *c = arg;
    *out = (struct gw_core_stats){.workers_up = c->plan.workers_up,
                                  .running = (uint32_t)c->live_len,
                                  .losses = 3,
                                  .kv = {100, 10, 60, 20}};
}

static size_t workers(void *arg, struct gw_core_worker_view *out, size_t max)
{
    const struct fake_core *c = arg;
    for (size_t i = 0; i < c->plan.workers_up && i < max; i++) {
        out[i] = (struct gw_core_worker_view){.state = "up", .pid = (uint32_t)(100 + i), .generation = 1};
        snprintf(out[i].worker, sizeof out[i].worker, "w%zu", i);
        snprintf(out[i].instance, sizeof out[i].instance, "i-%zu", i);
        snprintf(out[i].profile, sizeof out[i].profile, "test");
    }
    return c->plan.workers_up;
}

/* Two groups of eight shares. */
static const struct gw_plan_model grid = {.layers = 4,
                                          .group_layers = 2,
                                          .groups = 2,
                                          .shares = 8,
                                          .kv_heads = 8,
                                          .ffn_units = 8,
                                          .vocab = 8,
                                          .attn_share_bytes = 1000};

static void put_rank(struct gw_core_pipeline_view *p, uint32_t worker, uint16_t s0, uint16_t s1)
{
    struct gw_core_rank_view *r = &p->ranks[p->ranks_len++];
    *r = (struct gw_core_rank_view){
        .link = 1 + worker, .cells = {0, 2, s0, s1}, .ready = true, .loaded_bytes = 5};
    snprintf(r->worker, sizeof r->worker, "w%u", worker);
}

static bool pipeline(void *arg, size_t index, struct gw_core_pipeline_view *out)
{
    const struct fake_core *c = arg;
    bool there = c->plan.one_pipeline ? index == 0 && c->plan.workers_up > 0 : index < c->plan.workers_up;
    if (!there || c->plan.layout_reason) return false;
    *out = (struct gw_core_pipeline_view){.pipeline = (uint32_t)index + 1,
                                          .generation = index + 4,
                                          .epoch = 3,
                                          .state = "serving",
                                          .requests = (uint32_t)c->live_len,
                                          .kv_tokens = 640,
                                          .context = 512};
    for (uint32_t w = 0; c->plan.one_pipeline && w < c->plan.workers_up && w < 8; w++)
        put_rank(out, w, (uint16_t)w, (uint16_t)(w + 1 == c->plan.workers_up ? 8 : w + 1));
    if (!c->plan.one_pipeline) put_rank(out, (uint32_t)index, 0, 8);
    return true;
}

static uint64_t epoch(void *arg)
{
    (void)arg;
    return 3;
}

static void layout(void *arg, struct gw_layout_view *out)
{
    const struct fake_core *c = arg;
    const char *reason = c->plan.layout_reason;
    *out = (struct gw_layout_view){.model = &grid,
                                   .pipelines = reason ? 0 : c->plan.workers_up,
                                   .missing_bytes = reason ? 1234 : 0,
                                   .plans = 2,
                                   .plans_us = 1500,
                                   .plan_us = 500};
    snprintf(out->layout, sizeof out->layout, "%s", c->seen.layout[0] ? c->seen.layout : "auto");
    snprintf(out->reason, sizeof out->reason, "%s", reason ? reason : "it fits");
}

static const char *why(void *arg, const char *worker)
{
    (void)arg;
    return strcmp(worker, "w0") == 0 ? "it is \"first\"" : "spare";
}

static gw_err_t force(void *arg, const char *text, uint64_t *ticket, struct gw_err_ctx *ctx)
{
    struct fake_core *c = arg;
    if (strncmp(text, "tp", 2) != 0) return gw_fail(ctx, GW_ERR_INPUT, "layout '%s': expected tp", text);
    snprintf(c->seen.layout, sizeof c->seen.layout, "%s", text);
    *ticket = ++c->seen.ticket;
    return GW_OK;
}

struct fake_core *fake_core_create(struct event_base *loop)
{
    struct fake_core *c = calloc(1, sizeof *c);
    assert(c);
    TAILQ_INIT(&c->live);
    c->turn = evtimer_new(loop, on_turn, c);
    c->plan = (struct fake_core_plan){.fail_at = UINT32_MAX, .workers_up = 2};
    return c;
}

void fake_core_destroy(struct fake_core *c)
{
    while (!TAILQ_EMPTY(&c->live)) end(c, TAILQ_FIRST(&c->live));
    event_free(c->turn);
    free(c);
}

void fake_core_attach(struct fake_core *c, struct gw_front *front)
{
    c->front = front;
}

struct gw_front_port fake_core_port(struct fake_core *c)
{
    return (struct gw_front_port){.post = post,
                                  .stats = stats,
                                  .workers = workers,
                                  .pipeline = pipeline,
                                  .epoch = epoch,
                                  .layout = layout,
                                  .why = why,
                                  .force = force,
                                  .arg = c};
}

struct fake_core_plan *fake_core_plan(struct fake_core *c)
{
    return &c->plan;
}

struct fake_core_seen *fake_core_seen(struct fake_core *c)
{
    return &c->seen;
}

int fake_core_live(const struct fake_core *c)
{
    return c->live_len;
}

void fake_core_release(struct fake_core *c)
{
    event_active(c->turn, EV_TIMEOUT, 0);
}
