#include "controller/program.h"

#include "base/clock.h"
#include "base/failpoint.h"

/* A successor computes what our clients wait for; who waits longer has a request that never ends. */
#define GIVEN_GRACE_US (3600 * GW_US_PER_S)

static void on_asked_to_give(void *arg, int fds[GW_HANDOVER_FDS])
{
    const struct program *p = arg;
    fds[0] = gw_front_socket(p->front);
    fds[1] = gw_front_admin_socket(p->front);
    fds[2] = gw_links_socket(p->links);
}

static void give_request(void *arg, const struct gw_request *request, const struct gw_core_restored *branches,
                         const char *profile)
{
    gw_giver_put_request(arg, request, branches, profile);
}

/* The successor opens the journal as soon as it hears GO, and workers dial it as soon as our links are gone. */
static void on_given(void *arg)
{
    struct program *p = arg;
    gw_front_release(p->front, GIVEN_GRACE_US, program_on_stopped, p);
    gw_clouds_stop(p->clouds);
    gw_journal_close(p->journal);
    p->journal = NULL;
    gw_failpoint("place", "half given");
    gw_core_each_request(gw_hub_core(p->hub), give_request, p->giver);
    p->given = true;
    p->stopping = true; /* a signal ends us at once */
    gw_hub_stop(p->hub);
    gw_links_destroy(p->links);
    p->links = NULL;
}

static void on_given_action(void *arg, const struct gw_action *action)
{
    const struct program *p = arg;
    if (!p->taken || !gw_taken_on_action(p->taken, action)) gw_front_on_action(p->front, action);
}

static void post_from_predecessor(void *arg, const struct gw_event *event)
{
    const struct program *p = arg;
    if (p->given)
        gw_giver_post(p->giver, event);
    else
        gw_hub_post(p->hub, event);
}

static void on_predecessor_ended(void *arg)
{
    const struct program *p = arg;
    if (p->given && p->stopped) event_base_loopbreak(p->loop);
}

gw_err_t program_begin_taken(struct program *p, struct gw_err_ctx *ctx)
{
    const struct gw_taken_config config = {
        .log = &p->log, .post = post_from_predecessor, .ended = on_predecessor_ended, .arg = p};
    return p->taken ? gw_taken_begin(p->taken, p->loop, &config, ctx) : GW_OK;
}

static void on_successor_gone(void *arg)
{
    struct program *p = arg;
    gw_logf(&p->log, GW_LOG_ERROR, "ending: the successor is gone, and the requests with it");
    p->status = 1;
    event_base_loopbreak(p->loop);
}

gw_err_t program_listen_for_successor(struct program *p, struct gw_err_ctx *ctx)
{
    const struct gw_giver_config config = {.path = p->o.handover,
                                           .log = &p->log,
                                           .give = on_asked_to_give,
                                           .given = on_given,
                                           .action = on_given_action,
                                           .gone = on_successor_gone,
                                           .arg = p};
    return p->o.handover ? gw_giver_create(p->loop, &config, &p->giver, ctx) : GW_OK;
}
