#include "controller/core/core_internal.h"

/* The first frame of an attempt: its prefill is no longer waiting. */
static void mark_started(struct core_request *r)
{
    if (r->started) return;
    r->started = true;
    r->pipeline->prefill_tokens -= r->prefill_tokens;
    r->prefill_tokens = 0;
}

/* Would an honest worker with the right model say this about r? */
static bool plausible(const struct core_pipeline *p, const struct core_request *r,
                      const struct gw_msg_tokens *m)
{
    const struct gw_tokens *t = &m->tokens;
    if (m->branch >= r->request->n) return false;
    if (t->count > 0 && t->top_n != r->request->sampling.top_logprobs) return false;
    for (uint32_t i = 0; i < t->count; i++)
        if (t->ids[i] >= core_leader(p)->hello.vocab) return false;
    return true;
}

/* Appends records [skip, count) of t up to the branch's end, and says so. */
static void commit(struct gw_core *core, struct core_request *r, uint32_t branch, const struct gw_tokens *t,
                   uint32_t skip)
{
    const struct gw_sampling *s = &r->request->sampling;
    struct core_log *log = &r->logs[branch];
    uint32_t first = log->len, i = skip;
    enum gw_finish finish = GW_FINISH_NONE;
    if (core_log_reserve(log, t->count - skip, s->top_logprobs, s->max_tokens) != GW_OK) {
        core_request_fail(core, r, GW_ERR_MEMORY, "out of memory");
        return;
    }
    while (i < t->count && finish == GW_FINISH_NONE) {
        finish = gw_request_finish_at(s, log->len, t->ids[i]);
        core_log_append(log, t, i++);
    }
    r->progressed = true;
    r->idle_losses = 0;
    r->profile = r->pipeline->profile;
    core_plan_works(core, r->pipeline);
    core->stats.tokens += log->len - first;
    struct gw_action *a = core_act(core, GW_ACT_TOKENS);
    a->tokens.request = r->request->id;
    a->tokens.branch = branch;
    a->tokens.tokens = core_log_view(log, first, log->len - first, s->top_logprobs);
    a->tokens.profile = core->profiles[r->profile];
    if (finish == GW_FINISH_NONE) return;
    a = core_act(core, GW_ACT_FINISH);
    a->finish.request = r->request->id;
    a->finish.branch = branch;
    a->finish.reason = finish;
    /* Overshoot: the worker has not seen the end. */
    if (i < t->count) core_send_cancel(core, r, r->open == 1 ? GW_BRANCH_ALL : branch);
    core_branch_end(core, r, branch);
}

/* Frames of one link cannot be lost in between: this worker has lost its place. */
static void resubmit_gap(struct gw_core *core, struct core_request *r, int64_t now_us)
{
    core_send_cancel(core, r, GW_BRANCH_ALL);
    core_request_lost(core, r, now_us, false);
}

void core_on_tokens(struct gw_core *core, struct core_pipeline *p, int64_t now_us,
                    const struct gw_msg_tokens *m)
{
    const struct gw_tokens *t = &m->tokens;
    struct core_request *r = core_request_of(core, p, m->request, m->attempt);
    if (!r) return;
    if (!plausible(p, r, m)) {
        core_worker_lost(core, core_leader(p), now_us, "sent records that cannot be", true);
        return;
    }
    mark_started(r);
    struct core_log *log = &r->logs[m->branch];
    if (t->count == 0) return;
    if (log->done) {
        core->stats.stale_frames++;
        return;
    }
    if (t->first > log->len) {
        resubmit_gap(core, r, now_us);
        return;
    }
    uint32_t overlap = log->len - t->first;
    if (overlap > t->count) overlap = t->count;
    if (!core_log_equals(log, t, overlap)) {
        core->stats.diverged++;
        core_note(core, GW_NOTE_DIVERGED, core_leader(p), r, "its records differ from the log")->count =
            t->first;
        core_worker_lost(core, core_leader(p), now_us, "its records differ from the log", true);
        return;
    }
    if (overlap < t->count) commit(core, r, m->branch, t, overlap);
}
