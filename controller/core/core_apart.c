#include "controller/core/core_internal.h"

#include <string.h>

/* BACKGROUND: a rank that cannot reach another says so in BROKEN. The others see its sockets close, and their BROKEN may
 * be here first: it ends the pipeline, and the one that knows why comes late.
 *
 * BEHAVIOR: who reaches whom is noted whenever it is heard of a pipeline that is there or was among the last
 * CORE_FALLEN_MAX that BROKEN ended. */

/* One that goes, or has gone, is no news. */
static void note_apart(struct gw_core *core, const struct core_worker *w, const struct core_worker *other)
{
    if (!other || other == w || other->state != CORE_UP || w->state != CORE_UP) return;
    core_note(core, GW_NOTE_WORKERS_APART, w, NULL, other->hello.worker);
}

void core_apart_blame(struct gw_core *core, const struct core_pipeline *p, const struct core_worker *w,
                      uint32_t rank)
{
    struct core_fallen *fallen = &core->fallen[core->fallen_next++ % CORE_FALLEN_MAX];
    fallen->generation = p->generation;
    fallen->len = p->ranks_len;
    for (uint32_t i = 0; i < p->ranks_len; i++) fallen->links[i] = p->ranks[i].worker->link;
    if (rank < p->ranks_len) note_apart(core, w, p->ranks[rank].worker);
}

void core_apart_late(struct gw_core *core, int64_t now_us, const struct core_worker *w,
                     const struct gw_msg *msg)
{
    const struct core_fallen *fallen = NULL;
    bool of_it = false;
    for (uint32_t i = 0; i < CORE_FALLEN_MAX; i++)
        if (msg->generation != 0 && core->fallen[i].generation == msg->generation) fallen = &core->fallen[i];
    for (uint32_t i = 0; fallen && i < fallen->len; i++) of_it |= fallen->links[i] == w->link;
    if (!of_it || msg->broken.rank >= fallen->len) return;
    note_apart(core, w, gw_id_map_get(&core->links, fallen->links[msg->broken.rank]));
    core_want_plan_later(core, now_us);
}
