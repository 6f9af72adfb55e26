#include "controller/core/core_internal.h"

#include <stdlib.h>
#include <string.h>

#include "migrate/plan.h"

/* BACKGROUND: pages are named by content, so anybody who has served a request, or one with the same prefix, may still
 * have some of its pages. Who they are is only a hint: whoever is asked for a page may not have it, and then it comes
 * from elsewhere or is computed.
 *
 * BEHAVIOR: a request remembers workers by their links, the last pipeline's first, at most as many as a message may
 * name; the oldest are forgotten. Who has the prefix of a new prompt is known by the pipeline that last got it, also for a
 * while after that has ended; who has what an earlier controller's requests left is not known: everybody. A link is one incarnation of a process: when it is gone, so are the pages. That is
 * looked up when a message is made. */

/* A list being made; each holder is in it once. */
struct list {
    struct core_holder items[GW_WIRE_HOLDERS_MAX];
    uint32_t len;
};

static void list_add(struct list *list, const struct core_holder *holders, uint32_t len)
{
    for (uint32_t k = 0; k < len && list->len < GW_WIRE_HOLDERS_MAX; k++) {
        const struct core_holder *h = &holders[k];
        uint32_t i = 0;
        while (i < list->len &&
               (list->items[i].link != h->link || !gw_rect_equal(list->items[i].cells, h->cells)))
            i++;
        if (i == list->len) list->items[list->len++] = *h;
    }
}

static void list_add_pipeline(struct list *list, const struct core_pipeline *p)
{
    for (uint32_t i = 0; i < p->ranks_len; i++) {
        const struct core_holder h = {p->ranks[i].worker->link, p->ranks[i].cells};
        list_add(list, &h, 1);
    }
}

/* Without memory r remembers what it did. */
static void remember(struct core_request *r, const struct list *list)
{
    if (list->len == 0) return;
    struct core_holder *holders = realloc(r->holders, list->len * sizeof *holders);
    if (!holders) return;
    memcpy(holders, list->items, list->len * sizeof *holders);
    r->holders = holders;
    r->holders_len = (uint8_t)list->len;
}

void core_holders_left(struct core_request *r, const struct core_pipeline *p)
{
    struct list list = {.len = 0};
    if (core_leader(p)->hello.proto < CORE_PROTO_KV) return;
    list_add_pipeline(&list, p);
    list_add(&list, r->holders, r->holders_len);
    remember(r, &list);
}

/* ---- pipelines of the past ---- */

void core_holders_bury(struct gw_core *core, const struct core_pipeline *p)
{
    struct list list = {.len = 0};
    if (core_leader(p)->hello.proto < CORE_PROTO_KV) return;
    list_add_pipeline(&list, p);
    struct core_past *past = &core->past[core->past_next++ % CORE_PAST_MAX];
    past->generation = p->generation;
    past->len = list.len;
    memcpy(past->holders, list.items, list.len * sizeof *past->holders);
}

bool core_holders_prefix(const struct gw_core *core, struct core_request *r, const struct core_affinity *a)
{
    const struct core_pipeline *p = core_pipeline_find(core, a->pipeline, a->generation);
    struct list list = {.len = 0};
    list_add(&list, r->holders, r->holders_len);
    uint32_t before = list.len;
    if (p && core_leader(p)->hello.proto >= CORE_PROTO_KV) list_add_pipeline(&list, p);
    for (uint32_t i = 0; !p && i < CORE_PAST_MAX; i++)
        if (core->past[i].generation == a->generation)
            list_add(&list, core->past[i].holders, core->past[i].len);
    remember(r, &list);
    return list.len > before;
}

/* ---- messages ---- */

/* A request of an earlier controller, sent for the first time: whoever has cells may have been where it ran. */
static void list_add_everybody(struct list *list, const struct gw_core *core)
{
    for (uint32_t i = 0; i < core->workers_end; i++) {
        const struct core_worker *w = core->workers[i];
        if (!w || gw_rect_empty(w->hello.holds)) continue;
        const struct core_holder h = {w->link, w->hello.holds};
        list_add(list, &h, 1);
    }
}

/* p's rank with these very cells looks at its own pages first. */
static bool is_own(const struct core_pipeline *p, const struct core_holder *h)
{
    for (uint32_t i = 0; i < p->ranks_len; i++)
        if (p->ranks[i].worker->link == h->link && gw_rect_equal(p->ranks[i].cells, h->cells)) return true;
    return false;
}

static bool can_serve(const struct core_worker *w, const struct core_pipeline *p)
{
    return w && w->hello.proto >= CORE_PROTO_KV && w->hello.pages[0] != '\0' && w->profile == p->profile;
}

/* Those whom r's message to p should name: alive, of p's profile, serving pages, and not p's own ranks with the cells
 * that they have there. Returns how many; *out lives until the next step. */
static uint32_t holders_for(struct gw_core *core, const struct core_request *r, const struct core_pipeline *p,
                            struct gw_page_holder **out)
{
    struct list list = {.len = 0};
    uint32_t len = 0;
    *out = NULL;
    if (core_leader(p)->hello.proto < CORE_PROTO_KV) return 0;
    bool moves = r->pipeline != p; /* a WARM: it runs on */
    if (moves) list_add_pipeline(&list, r->pipeline);
    list_add(&list, r->holders, r->holders_len);
    if (!moves && r->attempt == 1 && core_request_committed(r) > 0) list_add_everybody(&list, core);
    struct gw_page_holder *holders = list.len > 0 ? core_arena_alloc(core, list.len * sizeof *holders) : NULL;
    for (uint32_t i = 0; holders && i < list.len; i++) {
        const struct core_holder *h = &list.items[i];
        const struct core_worker *w = gw_id_map_get(&core->links, h->link);
        if (!can_serve(w, p) || is_own(p, h)) continue;
        memcpy(holders[len].pages, w->hello.pages, sizeof holders[len].pages);
        holders[len++].cells = h->cells;
    }
    if (len > 0) *out = holders;
    return len;
}

/* A view of r for the wire: shares all arrays with the core's own. A WARM without holders would fetch nothing. */
gw_err_t core_send_request(struct gw_core *core, struct core_request *r, const struct core_pipeline *p,
                           enum gw_msg_type type)
{
    struct gw_page_holder *holders;
    uint32_t holders_len = holders_for(core, r, p, &holders);
    if (type == GW_MSG_WARM && holders_len == 0) return GW_ERR_NOT_FOUND;
    struct gw_branch_log *logs = core_arena_alloc(core, r->request->n * sizeof *logs);
    struct gw_msg *m = logs ? core_send(core, core_leader(p), p, type) : NULL;
    if (!m) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < r->request->n; i++)
        logs[i] = (struct gw_branch_log){r->logs[i].len, r->logs[i].done, r->logs[i].ids};
    m->submit.attempt = r->attempt;
    m->submit.request = *r->request;
    m->submit.logs = logs;
    m->submit.holders_len = holders_len;
    m->submit.holders = holders;
    if (type == GW_MSG_SUBMIT) r->helped = holders_len > 0;
    return GW_OK;
}
