#include "controller/core/core_internal.h"

#include <stdio.h>
#include <string.h>

/* The entry to overwrite: a free one, else the one whose time comes first. */
static struct core_notice *victim(struct gw_core *core)
{
    struct core_notice *best = &core->notices[0];
    for (size_t i = 0; i < CORE_NOTICES_MAX; i++) {
        struct core_notice *n = &core->notices[i];
        if (n->name[0] == '\0') return n;
        if (n->deadline_us < best->deadline_us) best = n;
    }
    return best;
}

void core_notice_put(struct gw_core *core, const char *name, uint32_t pid, int64_t deadline_us)
{
    core_notice_remove(core, name, pid);
    struct core_notice *n = victim(core);
    snprintf(n->name, sizeof n->name, "%s", name);
    n->pid = pid;
    n->deadline_us = deadline_us;
}

void core_notice_remove(struct gw_core *core, const char *name, uint32_t pid)
{
    for (size_t i = 0; i < CORE_NOTICES_MAX; i++) {
        struct core_notice *n = &core->notices[i];
        if (strcmp(n->name, name) == 0 && (pid == 0 || pid == n->pid)) n->name[0] = '\0';
    }
}

int64_t core_notice_find(const struct gw_core *core, const struct core_worker *w, int64_t now_us)
{
    int64_t deadline_us = 0;
    for (size_t i = 0; i < CORE_NOTICES_MAX; i++) {
        const struct core_notice *n = &core->notices[i];
        if (n->name[0] == '\0' || n->deadline_us <= now_us) continue;
        bool mine = n->pid == 0 ? strcmp(n->name, w->hello.instance) == 0
                                : n->pid == w->hello.pid && strcmp(n->name, w->hello.worker) == 0;
        if (mine && (deadline_us == 0 || n->deadline_us < deadline_us)) deadline_us = n->deadline_us;
    }
    return deadline_us;
}
