#include "controller/core/core_internal.h"

#include <stdlib.h>
#include <string.h>

#include "migrate/plan.h"

/* BACKGROUND: pages are named by content, so anybody who has served a request, or one with the same prefix, may still
 * have some of its pages. Who they are is only a hint: whoever is asked for a page may not have it, and then it comes
 * from elsewhere or is computed.
 *
 * BEHAVIOR: a request remembers workers by their links, the last pipeline's first, at most as many as a message may
 * name; the oldest are forgotten. A link is one incarnation of a process: when it is gone, so are the pages. That is
 * looked up when a message is made. */

/* A list being made; each holder is in it once. */
struct list {
    struct core_holder items[GW_WIRE_HOLDERS_MAX];
    uint32_t len;
};

static void list_add(struct list *list, struct core_holder h)
{
    if (list->len == GW_WIRE_HOLDERS_MAX) return;
    for (uint32_t i = 0; i < list->len; i++)
        if (list->items[i].link == h.link && gw_rect_equal(list->items[i].cells, h.cells)) return;
    list->items[list->len++] = h;
}

static void list_add_pipeline(struct list *list, const struct core_pipeline *p)
{
    for (uint32_t i = 0; i < p->ranks_len; i++)
        list_add(list, (struct core_holder){p->ranks[i].worker->link, p->ranks[i].cells});
}

static void list_add_known(struct list *list, const struct core_request *r)
{
    for (uint32_t i = 0; i < r->holders_len; i++) list_add(list, r->holders[i]);
}

void core_holders_add(struct core_request *r, const struct core_pipeline *p, bool last)
{
    struct list list = {.len = 0};
    if (core_leader(p)->hello.proto < CORE_PROTO_KV) return;
    if (last) list_add_pipeline(&list, p);
    list_add_known(&list, r);
    if (!last) list_add_pipeline(&list, p);
    struct core_holder *holders = realloc(r->holders, list.len * sizeof *holders);
    if (!holders) return;
    memcpy(holders, list.items, list.len * sizeof *holders);
    r->holders = holders;
    r->holders_len = (uint8_t)list.len;
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

uint32_t core_holders_for(struct gw_core *core, const struct core_request *r, const struct core_pipeline *p,
                          struct gw_page_holder **out)
{
    struct list list = {.len = 0};
    uint32_t len = 0;
    *out = NULL;
    if (core_leader(p)->hello.proto < CORE_PROTO_KV) return 0;
    if (r->pipeline && r->pipeline != p) list_add_pipeline(&list, r->pipeline);
    list_add_known(&list, r);
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
    uint32_t holders_len = core_holders_for(core, r, p, &holders);
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
