#include "controller/core/core_internal.h"

#include <string.h>

#include "migrate/plan.h"

/* BACKGROUND: a rank that lacks cells can have their weights from any worker that has them (worker/cell_load.h). Who that is
 * depends on what workers have served last, and on trims that nobody reports: a hint.
 *
 * BEHAVIOR: of those that may help, the nearest are named: the same instance, the same zone, the others; among equals those
 * whose slots follow the asking worker's, so that many newcomers do not all ask the same. One that will go soon is as good as
 * any: it is there now. */

#define MAX GW_WIRE_SOURCES_MAX

static bool is_within(struct gw_cell_rect inner, struct gw_cell_rect outer)
{
    return gw_rect_equal(gw_rect_meet(inner, outer), inner);
}

static bool can_give(const struct core_worker *w, const struct core_worker *to, struct gw_cell_rect cells)
{
    const struct gw_msg_hello *h = &w->hello;
    return w != to && w->profile == to->profile && h->proto >= CORE_PROTO_CELLS && h->pages[0] != '\0' &&
           !gw_rect_empty(gw_rect_meet(w->holds, cells));
}

/* The less, the nearer; different for any two. */
static uint64_t distance(const struct gw_core *core, const struct core_worker *w,
                         const struct core_worker *to)
{
    uint64_t far = strcmp(w->hello.instance, to->hello.instance) == 0 ? 0
                   : strcmp(w->hello.zone, to->hello.zone) == 0       ? 1
                                                                      : 2;
    uint64_t behind = (w->slot + core->workers_end - to->slot) % core->workers_end;
    return far << 32 | behind;
}

uint32_t core_sources_for(struct gw_core *core, const struct core_pipeline *p, uint32_t self,
                          struct gw_cell_holder **out)
{
    const struct core_worker *to = p->ranks[self].worker, *list[MAX];
    struct gw_cell_rect cells = p->ranks[self].cells;
    uint32_t len = 0;
    *out = NULL;
    if (to->hello.proto < CORE_PROTO_CELLS || is_within(cells, to->holds)) return 0;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        const struct core_worker *w = core->workers[i];
        if (!w || !can_give(w, to, cells)) continue;
        uint32_t at = len;
        for (; at > 0 && distance(core, w, to) < distance(core, list[at - 1], to); at--)
            if (at < MAX) list[at] = list[at - 1];
        if (at < MAX) list[at] = w;
        if (len < MAX) len++;
    }
    struct gw_cell_holder *sources = len > 0 ? core_arena_alloc(core, len * sizeof *sources) : NULL;
    if (!sources) return 0;
    for (uint32_t i = 0; i < len; i++) {
        memcpy(sources[i].pages, list[i]->hello.pages, sizeof sources[i].pages);
        sources[i].cells = list[i]->holds;
    }
    *out = sources;
    return len;
}
