#include "controller/core/core_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What one step can say, see core_actions_reserve. Per request: moved, submit, alone, cancel, failed, warm,
 * cancel of a copy. Per worker: lost or left, close, doomed, cancelled, ping, up, STORES; as a rank RELEASE (of the prepared and the serving
 * pipeline), ASSIGN, START; as a leader CUTOVER and the notes of three pipelines. The rest: one frame's own outcome. */
#define ACTIONS_PER_REQUEST 7
#define ACTIONS_PER_WORKER  21
#define ACTIONS_PER_STEP    64

struct core_arena_block {
    struct core_arena_block *next;
    max_align_t bytes[];
};

void core_actions_reset(struct gw_core *core)
{
    core->actions_len = 0;
    while (core->arena) {
        struct core_arena_block *next = core->arena->next;
        free(core->arena);
        core->arena = next;
    }
    while (core->dead_requests) {
        struct core_request *next = core->dead_requests->next;
        core_request_free(core->dead_requests);
        core->dead_requests = next;
    }
    while (core->dead_workers) {
        struct core_worker *next = core->dead_workers->next_dead;
        free(core->dead_workers);
        core->dead_workers = next;
    }
    while (core->dead_pipelines) {
        struct core_pipeline *next = core->dead_pipelines->next;
        free(core->dead_pipelines);
        core->dead_pipelines = next;
    }
}

static gw_err_t grow_to(struct gw_core *core, size_t cap)
{
    if (cap <= core->actions_cap) return GW_OK;
    struct gw_action *actions = realloc(core->actions, cap * sizeof *actions);
    if (!actions) return GW_ERR_MEMORY;
    core->actions = actions;
    core->actions_cap = cap;
    return GW_OK;
}

gw_err_t core_actions_reserve(struct gw_core *core, size_t requests, size_t workers)
{
    size_t need = ACTIONS_PER_STEP + requests * ACTIONS_PER_REQUEST + workers * ACTIONS_PER_WORKER +
                  requests / GW_WIRE_CUTOVER_MAX;
    if (need <= core->actions_cap) return GW_OK;
    return grow_to(core, need * 2);
}

struct gw_action *core_act(struct gw_core *core, enum gw_action_type type)
{
    if (core->actions_len == core->actions_cap) {
        gw_err_t err = grow_to(core, core->actions_cap * 2);
        assert(err == GW_OK); /* our bug first: the reservation was too small */
    }
    struct gw_action *a = &core->actions[core->actions_len++];
    memset(a, 0, sizeof *a);
    a->type = type;
    return a;
}

void *core_arena_alloc(struct gw_core *core, size_t bytes)
{
    struct core_arena_block *block = calloc(1, sizeof *block + bytes);
    if (!block) return NULL;
    block->next = core->arena;
    core->arena = block;
    return block->bytes;
}

struct gw_msg *core_send(struct gw_core *core, const struct core_worker *w, const struct core_pipeline *p,
                         enum gw_msg_type type)
{
    struct gw_msg *m = core_arena_alloc(core, sizeof *m);
    if (!m) return NULL;
    m->type = type;
    m->term = core->config.term;
    /* To a worker of protocol 1 everything is about its one pipeline. */
    if (!p && w->serving && w->serving->single) p = w->serving;
    m->pipeline = p ? p->number : 0;
    m->generation = p ? p->generation : 0;
    struct gw_action *a = core_act(core, GW_ACT_SEND);
    a->link.link = w->link;
    a->link.msg = m;
    return m;
}

void core_send_cancel(struct gw_core *core, const struct core_request *r, uint32_t branch)
{
    struct gw_msg *m = core_send(core, core_leader(r->pipeline), r->pipeline, GW_MSG_CANCEL);
    if (!m) return;
    m->cancel.request = r->request->id;
    m->cancel.attempt = r->attempt;
    m->cancel.branch = branch;
}

struct gw_note *core_note(struct gw_core *core, enum gw_note_kind kind, const struct core_worker *w,
                          const struct core_request *r, const char *text)
{
    struct gw_note *n = &core_act(core, GW_ACT_NOTE)->note;
    n->kind = kind;
    n->worker = w ? w->hello.worker : "";
    n->generation = w && w->serving ? w->serving->generation : 0;
    n->request = r ? r->request->id : 0;
    n->attempt = r ? r->attempt : 0;
    n->text = text;
    return n;
}

struct gw_note *core_note_pipeline(struct gw_core *core, enum gw_note_kind kind,
                                   const struct core_pipeline *p, const char *text)
{
    struct gw_note *n = core_note(core, kind, core_leader(p), NULL, text);
    n->generation = p->generation;
    return n;
}
