/* What the tests of the core share: a core, a clock, workers that say hello, and looks at the last actions.
 *
 * Helpers assert by cmocka. Owner: fixture_open / fixture_close. Thread: one. Units: microseconds.
 * Source: own design. */
#ifndef GW_TESTS_UNIT_CORE_FIXTURE_H
#define GW_TESTS_UNIT_CORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/core/core.h"

#define MS    ((int64_t)1000)
#define S     ((int64_t)1000000)
#define VOCAB 100
#ifndef LINKS_MAX
#define LINKS_MAX 64
#endif
#define TERM 5

struct fixture {
    struct gw_core_config config;
    struct gw_core *core;
    int64_t now_us;
    const struct gw_action *actions;
    size_t len;
    uint64_t links;                   /* so many were opened: 1, 2, … */
    uint16_t proto[LINKS_MAX + 1];    /* by link, from its HELLO */
    uint32_t pipeline[LINKS_MAX + 1]; /* that it serves in: from its WELCOME, later ones from START */
    uint64_t generation[LINKS_MAX + 1];
    uint32_t prepared[LINKS_MAX + 1]; /* from its last ASSIGN */
    uint64_t prepared_generation[LINKS_MAX + 1];
    bool beats[LINKS_MAX + 1]; /* run() sends its heartbeats */
};

static inline void fixture_open(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    gw_core_config_default(&f->config);
    f->config.term = TERM;
    f->now_us = 1000 * S;
}

/* After changes to f->config. */
static inline void fixture_start(struct fixture *f)
{
    assert_int_equal(gw_core_create(&f->config, &f->core), GW_OK);
}

static inline void fixture_close(struct fixture *f)
{
    gw_core_destroy(f->core);
}

/* ---- looking ---- */

static inline const struct gw_action *find(const struct fixture *f, enum gw_action_type type, size_t nth)
{
    for (size_t i = 0; i < f->len; i++)
        if (f->actions[i].type == type && nth-- == 0) return &f->actions[i];
    return NULL;
}

static inline size_t count(const struct fixture *f, enum gw_action_type type)
{
    size_t n = 0;
    while (find(f, type, n)) n++;
    return n;
}

/* The nth message of that type that was sent to link; NULL if there is none. */
static inline const struct gw_msg *sent(const struct fixture *f, uint64_t link, enum gw_msg_type type,
                                        size_t nth)
{
    for (size_t i = 0; i < f->len; i++) {
        const struct gw_action *a = &f->actions[i];
        if (a->type == GW_ACT_SEND && a->link.link == link && a->link.msg->type == type && nth-- == 0)
            return a->link.msg;
    }
    return NULL;
}

static inline const struct gw_note *noted(const struct fixture *f, enum gw_note_kind kind, size_t nth)
{
    for (size_t i = 0; i < f->len; i++)
        if (f->actions[i].type == GW_ACT_NOTE && f->actions[i].note.kind == kind && nth-- == 0)
            return &f->actions[i].note;
    return NULL;
}

static inline bool closed(const struct fixture *f, uint64_t link)
{
    for (size_t i = 0; i < f->len; i++)
        if (f->actions[i].type == GW_ACT_CLOSE && f->actions[i].link.link == link) return true;
    return false;
}

static inline struct gw_core_stats stats(const struct fixture *f)
{
    struct gw_core_stats s;
    gw_core_stats(f->core, &s);
    return s;
}

/* "up", "doomed", or "" if no worker has that name. */
static inline const char *state_of(const struct fixture *f, const char *worker)
{
    static struct gw_core_worker_view views[LINKS_MAX];
    size_t n = gw_core_workers(f->core, views, LINKS_MAX);
    for (size_t i = 0; i < n; i++)
        if (strcmp(views[i].worker, worker) == 0) return views[i].state;
    return "";
}

/* ---- events ---- */

/* What a worker learns of the fences under which it speaks. */
static inline void learn(struct fixture *f, uint64_t link, const struct gw_msg *m)
{
    if (m->type == GW_MSG_WELCOME || m->type == GW_MSG_START) {
        f->pipeline[link] = m->pipeline;
        f->generation[link] = m->generation;
        f->beats[link] = true;
    }
    if (m->type == GW_MSG_ASSIGN) {
        f->prepared[link] = m->pipeline;
        f->prepared_generation[link] = m->generation;
    }
}

static inline void step(struct fixture *f, const struct gw_event *e)
{
    gw_core_step(f->core, f->now_us, e);
    f->actions = gw_core_actions(f->core, &f->len);
    for (size_t i = 0; i < f->len; i++)
        if (f->actions[i].type == GW_ACT_SEND) learn(f, f->actions[i].link.link, f->actions[i].link.msg);
}

static inline void tick(struct fixture *f)
{
    const struct gw_event e = {.type = GW_EV_TICK};
    step(f, &e);
}

static inline struct gw_msg hello_msg(const char *worker, const char *instance)
{
    struct gw_msg m = {.type = GW_MSG_HELLO};
    m.hello.proto = 1;
    snprintf(m.hello.worker, sizeof m.hello.worker, "%s", worker);
    snprintf(m.hello.instance, sizeof m.hello.instance, "%s", instance);
    snprintf(m.hello.profile, sizeof m.hello.profile, "test-1");
    m.hello.pid = 100;
    m.hello.vocab = VOCAB;
    m.hello.context = 4096;
    return m;
}

/* Returns the new link; WELCOME's fences are kept if there was one. */
static inline uint64_t hello(struct fixture *f, const struct gw_msg *m)
{
    uint64_t link = ++f->links;
    assert_true(link <= LINKS_MAX);
    const struct gw_event e = {.type = GW_EV_HELLO, .link = {.link = link, .msg = m}};
    f->proto[link] = m->hello.proto;
    step(f, &e);
    return link;
}

static inline uint64_t join(struct fixture *f, const char *worker, const char *instance)
{
    struct gw_msg m = hello_msg(worker, instance);
    uint64_t link = hello(f, &m);
    assert_non_null(sent(f, link, GW_MSG_WELCOME, 0));
    return link;
}

static inline bool about_pipeline(enum gw_msg_type type)
{
    return type == GW_MSG_TOKENS || type == GW_MSG_REJECT || type == GW_MSG_HANDOFF || type == GW_MSG_READY ||
           type == GW_MSG_BROKEN || type == GW_MSG_WARMED || type == GW_MSG_ORIGIN;
}

/* A message on link with the right fences. */
static inline void say(struct fixture *f, uint64_t link, struct gw_msg *m)
{
    bool fenced = f->proto[link] == 1 || about_pipeline(m->type);
    m->term = TERM;
    m->pipeline = fenced ? f->pipeline[link] : 0;
    m->generation = fenced ? f->generation[link] : 0;
    const struct gw_event e = {.type = GW_EV_MSG, .link = {.link = link, .msg = m}};
    step(f, &e);
}

static inline void beat(struct fixture *f, uint64_t link)
{
    struct gw_msg m = {.type = GW_MSG_HEARTBEAT};
    say(f, link, &m);
}

static inline void link_down(struct fixture *f, uint64_t link)
{
    const struct gw_event e = {.type = GW_EV_LINK_DOWN, .link = {.link = link}};
    f->beats[link] = false;
    step(f, &e);
}

/* Lets time pass in steps of 50 ms with a heartbeat of each link that beats, then a TICK; stops after the first
 * step whose actions hold what `until` looks for (NULL: never). The actions of the last step remain. */
static inline bool run(struct fixture *f, int64_t us, bool (*until)(const struct fixture *f))
{
    for (int64_t end_us = f->now_us + us; f->now_us < end_us;) {
        f->now_us += 50 * MS;
        for (uint64_t link = 1; link <= f->links; link++)
            if (f->beats[link]) {
                beat(f, link);
                if (until && until(f)) return true;
            }
        tick(f);
        if (until && until(f)) return true;
    }
    return false;
}

static inline struct gw_request *make_request(uint64_t id, uint32_t n, uint32_t prompt_len,
                                              uint32_t max_tokens)
{
    struct gw_request *q = calloc(1, sizeof *q);
    assert_non_null(q);
    q->id = id;
    q->n = n;
    q->prompt_len = prompt_len;
    q->prompt = calloc(prompt_len, sizeof *q->prompt);
    assert_non_null(q->prompt);
    q->sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = max_tokens};
    return q;
}

static inline void submit_request(struct fixture *f, struct gw_request *q)
{
    const struct gw_event e = {.type = GW_EV_SUBMIT, .submit = {.request = q}};
    step(f, &e);
}

static inline void submit(struct fixture *f, uint64_t id, uint32_t n, uint32_t max_tokens)
{
    submit_request(f, make_request(id, n, 3, max_tokens));
}

/* Records of branch 0 … with id = position % 50 + 1: any worker's right answer in these tests. */
static inline void tokens_of(struct fixture *f, uint64_t link, uint64_t request, uint32_t attempt,
                             uint32_t branch, uint32_t first, uint32_t n)
{
    uint32_t ids[64];
    float logprobs[64] = {0};
    assert_true(n <= 64);
    for (uint32_t i = 0; i < n; i++) ids[i] = (first + i) % 50 + 1;
    struct gw_msg m = {.type = GW_MSG_TOKENS};
    m.tokens = (struct gw_msg_tokens){request, attempt, branch, {first, n, 0, ids, logprobs, NULL}};
    say(f, link, &m);
}

static inline void tokens(struct fixture *f, uint64_t link, uint64_t request, uint32_t attempt,
                          uint32_t first, uint32_t n)
{
    tokens_of(f, link, request, attempt, 0, first, n);
}

/* "A step with this request has begun." */
static inline void begin(struct fixture *f, uint64_t link, uint64_t request, uint32_t attempt)
{
    tokens_of(f, link, request, attempt, 0, 0, 0);
}

static inline void stop(struct fixture *f, uint64_t request, uint32_t branch, uint32_t keep)
{
    const struct gw_event e = {.type = GW_EV_STOP, .stop = {request, branch, keep}};
    step(f, &e);
}

static inline void cancel(struct fixture *f, uint64_t request)
{
    const struct gw_event e = {.type = GW_EV_CANCEL, .cancel = {.request = request}};
    step(f, &e);
}

static inline void notice(struct fixture *f, const char *name, enum gw_notice_kind kind, int64_t in_us)
{
    const struct gw_event e = {
        .type = GW_EV_NOTICE,
        .notice = {.name = name, .kind = (uint8_t)kind, .deadline_us = f->now_us + in_us}};
    step(f, &e);
}

static inline void handoff(struct fixture *f, uint64_t link, uint64_t request, uint32_t attempt)
{
    uint32_t log_len = 0;
    struct gw_msg m = {.type = GW_MSG_HANDOFF};
    m.handoff = (struct gw_msg_handoff){request, attempt, 1, &log_len};
    say(f, link, &m);
}

/* ---- pipelines of several ranks ---- */

#define GROUPS 4 /* of the tests' grid */
#define SHARES 8

/* A core for a model of GROUPS x SHARES cells. */
static inline void fixture_start_grid(struct fixture *f)
{
    f->config.groups = GROUPS;
    f->config.shares = SHARES;
    fixture_start(f);
}

static inline struct gw_msg member_msg(const char *worker, const char *instance)
{
    struct gw_msg m = hello_msg(worker, instance);
    m.hello.proto = 2;
    snprintf(m.hello.data, sizeof m.hello.data, "10.0.0.1:7000");
    snprintf(m.hello.device, sizeof m.hello.device, "cpu");
    m.hello.memory_bytes = 1 << 30;
    return m;
}

/* A worker of protocol 2 on an instance of its own: "m1" on "i-m1" and so on, by link. */
static inline uint64_t member(struct fixture *f)
{
    char name[16], instance[16];
    snprintf(name, sizeof name, "m%u", (unsigned)f->links + 1);
    snprintf(instance, sizeof instance, "i-m%u", (unsigned)f->links + 1);
    struct gw_msg m = member_msg(name, instance);
    uint64_t link = hello(f, &m);
    assert_non_null(sent(f, link, GW_MSG_WELCOME, 0));
    return link;
}

static inline void members(struct fixture *f, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) member(f);
}

/* The same of protocol 3: it serves its pages at "10.0.0.LINK:9000". */
static inline uint64_t keeper(struct fixture *f)
{
    char name[16], instance[16];
    snprintf(name, sizeof name, "m%u", (unsigned)f->links + 1);
    snprintf(instance, sizeof instance, "i-m%u", (unsigned)f->links + 1);
    struct gw_msg m = member_msg(name, instance);
    m.hello.proto = 3;
    snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.%u:9000", (unsigned)f->links + 1);
    return hello(f, &m);
}

static inline void keepers(struct fixture *f, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) keeper(f);
}

static inline struct gw_core_plan_rank rank(uint32_t pipeline, uint64_t link, uint16_t stage, uint16_t g0,
                                            uint16_t g1, uint16_t s0, uint16_t s1)
{
    return (struct gw_core_plan_rank){link, pipeline, stage, {g0, g1, s0, s1}};
}

/* The rank of a pipeline of one stage whose n ranks have about equally many shares. */
static inline struct gw_core_plan_rank wide(uint32_t pipeline, uint64_t link, uint32_t i, uint32_t n)
{
    return rank(pipeline, link, 0, 0, GROUPS, (uint16_t)(i * SHARES / n), (uint16_t)((i + 1) * SHARES / n));
}

static inline void plan_of(struct fixture *f, uint64_t fleet, const struct gw_core_plan_rank *ranks,
                           uint32_t n)
{
    const struct gw_core_plan plan = {fleet, ranks, n};
    const struct gw_event e = {.type = GW_EV_PLAN, .plan = &plan};
    step(f, &e);
}

/* A plan for the fleet as it is. */
static inline void plan(struct fixture *f, const struct gw_core_plan_rank *ranks, uint32_t n)
{
    plan_of(f, gw_core_fleet(f->core), ranks, n);
}

/* A plan of pipelines of one stage each: links[] are dealt out by widths[], 0-terminated. */
static inline void plan_wide(struct fixture *f, const uint64_t *links, const uint32_t *widths)
{
    struct gw_core_plan_rank ranks[LINKS_MAX];
    uint32_t n = 0;
    for (uint32_t p = 0; widths[p]; p++)
        for (uint32_t i = 0; i < widths[p]; i++, n++) ranks[n] = wide(p, links[n], i, widths[p]);
    plan(f, ranks, n);
}

static inline void ready_as(struct fixture *f, uint64_t link, uint32_t pipeline, uint64_t generation)
{
    struct gw_msg m = {.type = GW_MSG_READY, .term = TERM, .pipeline = pipeline, .generation = generation};
    m.ready = (struct gw_msg_ready){.kv_tokens = 1000, .context = 500, .max_sequences = 8, .loaded_bytes = 7};
    const struct gw_event e = {.type = GW_EV_MSG, .link = {.link = link, .msg = &m}};
    step(f, &e);
}

/* "I am READY for what I was last ASSIGNed." */
static inline void ready(struct fixture *f, uint64_t link)
{
    ready_as(f, link, f->prepared[link], f->prepared_generation[link]);
}

static inline void ready_all(struct fixture *f, uint64_t first, uint64_t last)
{
    for (uint64_t link = first; link <= last; link++) ready(f, link);
}

static inline void broken_as(struct fixture *f, uint64_t link, uint32_t pipeline, uint64_t generation)
{
    struct gw_msg m = {.type = GW_MSG_BROKEN, .term = TERM, .pipeline = pipeline, .generation = generation};
    m.broken = (struct gw_msg_broken){.rank = GW_RANK_NONE, .code = GW_ERR_IO, .text = "a peer is gone"};
    const struct gw_event e = {.type = GW_EV_MSG, .link = {.link = link, .msg = &m}};
    step(f, &e);
}

/* n members, links 1 … n, serve as one pipeline of n ranks; time: 0. */
static inline void serve_wide(struct fixture *f, uint32_t n)
{
    uint64_t links[LINKS_MAX] = {0};
    for (uint32_t i = 0; i < n; i++) links[i] = member(f);
    plan_wide(f, links, (const uint32_t[]){n, 0});
    ready_all(f, 1, n);
    assert_non_null(sent(f, 1, GW_MSG_START, 0));
}

/* "serving 1 2 3; forming 4 5": states and links of all pipelines, by generation. */
static inline const char *picture(const struct fixture *f)
{
    static char text[1024];
    static struct gw_core_pipeline_view v;
    size_t len = 0;
    text[0] = 0;
    for (size_t i = 0; gw_core_pipeline(f->core, i, &v); i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i > 0 ? "; " : "", v.state);
        for (uint32_t k = 0; k < v.ranks_len; k++)
            len += (size_t)snprintf(text + len, sizeof text - len, " %u", (unsigned)v.ranks[k].link);
        assert_true(len < sizeof text);
    }
    return text;
}

/* "1 2 4": links of the holders that m names, in order. */
static inline const char *holders(const struct gw_msg *m)
{
    static char text[512];
    size_t len = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < m->submit.holders_len; i++) {
        unsigned link;
        assert_int_equal(sscanf(m->submit.holders[i].pages, "10.0.0.%u:9000", &link), 1);
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%u", i > 0 ? " " : "", link);
    }
    return text;
}

/* "What I was told to copy is here", about what link was last ASSIGNed. */
static inline void warmed(struct fixture *f, uint64_t link, uint64_t request, uint32_t attempt)
{
    struct gw_msg m = {.type = GW_MSG_WARMED,
                       .term = TERM,
                       .pipeline = f->prepared[link],
                       .generation = f->prepared_generation[link],
                       .warmed = {request, attempt, 16}};
    const struct gw_event e = {.type = GW_EV_MSG, .link = {.link = link, .msg = &m}};
    step(f, &e);
}

static inline void origin(struct fixture *f, uint64_t link, uint64_t request, uint32_t attempt,
                          uint32_t total, uint32_t cached, uint32_t moved, uint32_t stored)
{
    struct gw_msg m = {.type = GW_MSG_ORIGIN, .origin = {request, attempt, total, cached, moved, stored}};
    say(f, link, &m);
}

static inline bool plan_wanted(const struct fixture *f)
{
    return count(f, GW_ACT_PLAN_WANTED) > 0;
}

#endif
