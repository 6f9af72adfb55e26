#include "controller/core/core_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

void gw_core_config_default(struct gw_core_config *config)
{
    *config = (struct gw_core_config){.heartbeat_us = GW_US_PER_S / 4,
                                      .heartbeat_timeout_us = GW_US_PER_S,
                                      .mass_loss_recheck_us = 2 * GW_US_PER_S,
                                      .controller_timeout_us = 5 * GW_US_PER_S,
                                      .cutover_margin_us = GW_US_PER_S,
                                      .handoff_timeout_us = 2 * GW_US_PER_S,
                                      .doom_grace_us = 30 * GW_US_PER_S,
                                      .max_queue_wait_us = 600 * GW_US_PER_S,
                                      .max_queued = 4096,
                                      .max_workers = 1024,
                                      .worker_branches_target = 4096,
                                      .groups = 1,
                                      .shares = 1,
                                      .prepare_timeout_us = 600 * GW_US_PER_S,
                                      .replan_wait_us = 100 * GW_US_PER_MS,
                                      .warm_timeout_us = 10 * GW_US_PER_S};
}

static bool config_good(const struct gw_core_config *c)
{
    return c->term > 0 && c->heartbeat_us >= 1000 && c->heartbeat_timeout_us >= c->heartbeat_us * 3 &&
           c->controller_timeout_us > c->heartbeat_us * CORE_PING_EVERY && c->mass_loss_recheck_us >= 0 &&
           c->cutover_margin_us >= 0 && c->handoff_timeout_us >= 0 && c->doom_grace_us >= 0 &&
           c->max_queue_wait_us > 0 && c->max_queued > 0 && c->max_workers > 0 &&
           c->worker_branches_target > 0 && c->groups > 0 && c->groups <= UINT16_MAX && c->shares > 0 &&
           c->shares <= UINT16_MAX && c->prepare_timeout_us > 0 && c->replan_wait_us > 0 &&
           c->warm_timeout_us >= 0;
}

gw_err_t gw_core_create(const struct gw_core_config *config, struct gw_core **out)
{
    if (!config_good(config)) return GW_ERR_INPUT;
    struct gw_core *core = calloc(1, sizeof *core);
    if (!core) return GW_ERR_MEMORY;
    core->config = *config;
    core->silence_due_us = core->moves_due_us = core->ping_due_us = core->replan_at_us = INT64_MAX;
    core->workers = calloc(config->max_workers, sizeof(struct core_worker *));
    core->numbers =
        calloc((size_t)config->max_workers * CORE_PIPELINES_PER_WORKER, sizeof(struct core_pipeline *));
    if (!core->workers || !core->numbers || core_actions_reserve(core, 0, 0) != GW_OK) {
        gw_core_destroy(core);
        return GW_ERR_MEMORY;
    }
    *out = core;
    return GW_OK;
}

static void list_free(struct core_list *list)
{
    while (list->first) {
        struct core_request *r = list->first;
        core_list_remove(r);
        core_request_free(r);
    }
}

void gw_core_destroy(struct gw_core *core)
{
    if (!core) return;
    core_actions_reset(core);
    list_free(&core->fresh);
    list_free(&core->alone);
    list_free(&core->held);
    for (size_t p = 0; p <= CORE_PROFILES_MAX; p++) list_free(&core->retry[p]);
    while (core->pipelines) {
        struct core_pipeline *p = core->pipelines;
        core->pipelines = p->next;
        list_free(&p->requests);
        free(p);
    }
    for (uint32_t i = 0; i < core->workers_end; i++) free(core->workers[i]);
    gw_id_map_fini(&core->requests);
    gw_id_map_fini(&core->links);
    free(core->workers);
    free(core->numbers);
    free(core->actions);
    free(core);
}

/* While there are workers, a step is due each heartbeat at the latest. A gap of over half the timeout means
 * that we did not run (a late loop, a suspended machine) and heard nobody: that is not the workers' silence.
 */
static void forgive_lateness(struct gw_core *core, int64_t now_us)
{
    int64_t gap_us = now_us - core->stepped_us;
    if (core->workers_len > 0 && gap_us > core->config.heartbeat_timeout_us / 2)
        core_silence_extend(core, gap_us);
    core->stepped_us = now_us;
}

static void on_event(struct gw_core *core, int64_t now_us, const struct gw_event *e)
{
    switch (e->type) {
    case GW_EV_TICK: core_silence_tick(core, now_us); break;
    case GW_EV_HELLO: core_on_hello(core, now_us, e->link.link, e->link.msg); break;
    case GW_EV_MSG: core_on_msg(core, now_us, e->link.link, e->link.msg); break;
    case GW_EV_LINK_DOWN: core_on_link_down(core, now_us, e->link.link); break;
    case GW_EV_SUBMIT: core_on_submit(core, now_us, e->submit.request); break;
    case GW_EV_RESTORE:
        core_on_restore(core, now_us, e->restore.request, e->restore.branches, e->restore.profile);
        break;
    case GW_EV_CANCEL: core_on_cancel(core, e->cancel.request); break;
    case GW_EV_STOP: core_on_stop(core, e->stop.request, e->stop.branch, e->stop.keep); break;
    case GW_EV_NOTICE:
        core_on_notice(core, now_us, e->notice.name, e->notice.kind, e->notice.deadline_us);
        break;
    case GW_EV_PLAN: core_on_plan(core, now_us, e->plan); break;
    }
}

void gw_core_step(struct gw_core *core, int64_t now_us, const struct gw_event *event)
{
    core_actions_reset(core);
    forgive_lateness(core, now_us);
    on_event(core, now_us, event);
    core_moves_tick(core, now_us);
    core_queues_tick(core, now_us);
    core_ping_tick(core, now_us);
    bool reviewed = core->review_due || core->moves_due_us <= now_us;
    while (core->dispatch_due || core->review_due) {
        core_transitions_review(core, now_us);
        core_dispatch(core);
    }
    if (reviewed) core_moves_rearm(core);
    core_stores_say(core);
    core_zones_say(core);
    core_plan_say(core);
}

const struct gw_action *gw_core_actions(const struct gw_core *core, size_t *count)
{
    *count = core->actions_len;
    return core->actions;
}

static int64_t min_us(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t gw_core_next_deadline_us(const struct gw_core *core)
{
    int64_t due_us = min_us(core->silence_due_us, core->moves_due_us);
    if (core->workers_len > 0) due_us = min_us(due_us, core->stepped_us + core->config.heartbeat_us);
    return min_us(due_us, min_us(core->ping_due_us, core_queues_due_us(core)));
}
