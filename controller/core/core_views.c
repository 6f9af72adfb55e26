#include "controller/core/core_internal.h"

#include <string.h>

void gw_core_stats(const struct gw_core *core, struct gw_core_stats *out)
{
    *out = core->stats;
    out->workers_up = core->workers_up;
    out->workers_doomed = core->workers_len - core->workers_up;
    out->queued = core_queues_len(core);
    out->running = (uint32_t)core->requests.len - out->queued;
}

static void view_of(const struct gw_core *core, const struct core_worker *w, struct gw_core_worker_view *v)
{
    memset(v, 0, sizeof *v);
    memcpy(v->worker, w->hello.worker, sizeof v->worker);
    memcpy(v->instance, w->hello.instance, sizeof v->instance);
    memcpy(v->profile, w->hello.profile, sizeof v->profile);
    v->state = w->state == CORE_UP ? "up" : "doomed";
    v->pid = w->hello.pid;
    v->advised = w->advised;
    v->waited_for = core->retry[w->profile].len > 0 && !core->config.profile_loss_continue;
    v->deadline_us = w->notice_deadline_us;
    v->last = w->last;
    if (!w->serving) return;
    v->pipeline = w->serving->number;
    v->generation = w->serving->generation;
    v->requests = w->serving->requests.len;
}

size_t gw_core_workers(const struct gw_core *core, struct gw_core_worker_view *out, size_t max)
{
    size_t count = 0;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        if (!core->workers[i]) continue;
        if (count < max) view_of(core, core->workers[i], &out[count]);
        count++;
    }
    return count;
}

static void device_of(const struct core_worker *w, struct gw_core_device_view *v)
{
    memset(v, 0, sizeof *v);
    v->link = w->link;
    v->proto = w->hello.proto;
    memcpy(v->device, w->hello.device, sizeof v->device);
    memcpy(v->zone, w->hello.zone, sizeof v->zone);
    memcpy(v->machine, w->hello.machine, sizeof v->machine);
    v->memory_bytes = w->hello.memory_bytes;
    v->bytes_s = w->hello.bytes_s;
    v->flop_s = w->hello.flop_s;
    v->holds = w->holds;
}

size_t gw_core_devices(const struct gw_core *core, struct gw_core_device_view *out, size_t max)
{
    size_t count = 0;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        if (!core->workers[i]) continue;
        if (count < max) device_of(core->workers[i], &out[count]);
        count++;
    }
    return count;
}

static void rank_of(const struct core_rank *r, struct gw_core_rank_view *v)
{
    memcpy(v->worker, r->worker->hello.worker, sizeof v->worker);
    v->link = r->worker->link;
    v->stage = r->stage;
    v->cells = r->cells;
    v->ready = r->ready;
    v->loaded_bytes = r->loaded_bytes;
}

bool gw_core_pipeline(const struct gw_core *core, size_t index, struct gw_core_pipeline_view *out)
{
    static const char *const states[] = {[CORE_FORMING] = "forming",
                                         [CORE_READY] = "ready",
                                         [CORE_SERVING] = "serving",
                                         [CORE_DRAINING] = "draining"};
    const struct core_pipeline *p = core->pipelines;
    while (p && index-- > 0) p = p->next;
    if (!p) return false;
    memset(out, 0, sizeof *out);
    out->pipeline = p->number;
    out->generation = p->generation;
    out->epoch = p->epoch;
    out->state = states[p->state];
    out->requests = p->requests.len;
    out->kv_tokens = p->kv_tokens;
    out->context = p->context;
    out->ranks_len = p->ranks_len;
    for (uint32_t i = 0; i < p->ranks_len; i++) rank_of(&p->ranks[i], &out->ranks[i]);
    return true;
}

uint64_t gw_core_epoch(const struct gw_core *core)
{
    return core->epoch;
}

uint64_t gw_core_fleet(const struct gw_core *core)
{
    return core->fleet;
}

bool gw_core_log(const struct gw_core *core, uint64_t request, uint32_t branch, struct gw_tokens *out)
{
    const struct core_request *r = gw_id_map_get(&core->requests, request);
    if (!r || branch >= r->request->n) return false;
    const struct core_log *log = &r->logs[branch];
    *out = core_log_view(log, 0, log->len, r->request->sampling.top_logprobs);
    return true;
}
