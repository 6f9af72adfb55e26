#include "controller/core/core_internal.h"

#include <assert.h>

/* BACKGROUND: a controller that was started again, or took over, has its requests from a journal: each with the records
 * that were durable. Nothing else of them is left: the workers forget all requests when they register with it.
 *
 * BEHAVIOR: such a request is one that has lost its pipeline without anyone to blame. It waits in the queue of those that
 * are served first, for a worker of the profile that its records were computed with, and goes on from its logs. Under an
 * exact profile what the journal had not yet is generated again bit for bit; of other profiles the front has sent
 * nothing that is not in the logs.
 *
 * The worker that ran it has its pages still, and says so when it registers (RESYNC): the request goes back to that worker, if
 * it leads a pipeline that may take it. The same helps one whose worker lost this controller for a moment. It is a hint: whoever
 * names what it does not have computes it. */

static gw_err_t fill_log(struct core_log *log, const struct gw_core_restored *branch,
                         const struct gw_sampling *s)
{
    const struct gw_tokens *t = &branch->tokens;
    assert(t->first == 0 && t->count <= s->max_tokens && (t->count == 0 || t->top_n == s->top_logprobs));
    TRY(core_log_reserve(log, t->count, s->top_logprobs, s->max_tokens));
    for (uint32_t i = 0; i < t->count; i++) core_log_append(log, t, i);
    return GW_OK;
}

static gw_err_t fill_logs(struct core_request *r, const struct gw_core_restored *branches)
{
    for (uint32_t b = 0; b < r->request->n; b++) {
        TRY(fill_log(&r->logs[b], &branches[b], &r->request->sampling));
        if (!branches[b].done) continue;
        r->logs[b].done = true;
        r->open--;
    }
    assert(r->open > 0);
    return GW_OK;
}

static void fail(struct gw_core *core, uint64_t request)
{
    struct gw_action *a = core_act(core, GW_ACT_FAILED);
    a->failed.request = request;
    a->failed.code = GW_ERR_MEMORY;
    a->failed.text = "out of memory";
    core->stats.failed++;
}

void core_on_restore(struct gw_core *core, int64_t now_us, struct gw_request *request,
                     const struct gw_core_restored *branches, const char *profile)
{
    struct core_request *r = NULL;
    assert(request->id != 0 && request->n >= 1 && !gw_id_map_get(&core->requests, request->id));
    if (core_request_admit(core, request, &r) != GW_OK) {
        fail(core, request->id);
        gw_request_destroy(request);
        return;
    }
    if (fill_logs(r, branches) != GW_OK) {
        core_request_fail(core, r, GW_ERR_MEMORY, "out of memory");
        return;
    }
    if (profile[0] && (r->profile = core_profile_number(core, profile)) == CORE_PROFILE_NONE) {
        core_request_fail(core, r, GW_ERR_LIMIT, "too many numerics profiles");
        return;
    }
    core->stats.accepted++;
    core_act(core, GW_ACT_ACCEPTED)->accepted.request = request->id;
    r->wait_until_us = now_us + core->config.max_queue_wait_us;
    core_list_push(&core->retry[r->profile], r);
    core->dispatch_due = true;
}

void core_on_resync(struct gw_core *core, const struct core_worker *w, const struct gw_msg_resync *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        struct core_request *r = gw_id_map_get(&core->requests, m->requests[i]);
        if (r && !r->pipeline) r->home = w->link;
    }
}

void gw_core_each_request(const struct gw_core *core,
                          void (*each)(void *arg, const struct gw_request *request,
                                       const struct gw_core_restored *branches, const char *profile),
                          void *arg)
{
    struct gw_core_restored branches[GW_REQUEST_BRANCHES_MAX];
    for (size_t i = 0; i < core->requests.cap; i++) {
        const struct core_request *r = core->requests.slots[i].value;
        if (core->requests.slots[i].id == 0) continue;
        for (uint32_t b = 0; b < r->request->n; b++)
            branches[b] = (struct gw_core_restored){
                core_log_view(&r->logs[b], 0, r->logs[b].len, r->request->sampling.top_logprobs),
                r->logs[b].done};
        each(arg, r->request, branches, core->profiles[r->profile]);
    }
}
