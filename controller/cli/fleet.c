#include "controller/cli/fleet.h"

#include <stdio.h>
#include <string.h>

void fleet_init(struct fleet *fleet, int64_t replace_after_us)
{
    *fleet = (struct fleet){.replace_after_us = replace_after_us, .changed = true};
}

static struct fleet_worker *free_slot(struct fleet *fleet)
{
    for (size_t i = 0; i < fleet->len; i++)
        if (fleet->workers[i].state == FLEET_FREE) return &fleet->workers[i];
    return fleet->len < FLEET_MAX ? &fleet->workers[fleet->len++] : NULL;
}

gw_err_t fleet_add(struct fleet *fleet, const char *id, struct fleet_worker **out)
{
    struct fleet_worker *w = free_slot(fleet);
    if (!w) return GW_ERR_LIMIT;
    *w = (struct fleet_worker){.state = FLEET_STARTING};
    snprintf(w->id, sizeof w->id, "%s", id);
    fleet->changed = true;
    *out = w;
    return GW_OK;
}

static void set_state(struct fleet *fleet, struct fleet_worker *w, enum fleet_state state)
{
    if (w->state == state) return;
    w->state = state;
    fleet->changed = true;
}

struct fleet_worker *fleet_on_exit(struct fleet *fleet, pid_t pid, int64_t now_us)
{
    for (size_t i = 0; i < fleet->len; i++) {
        struct fleet_worker *w = &fleet->workers[i];
        if (w->state == FLEET_FREE || w->pid != pid) continue;
        w->pid = 0;
        fleet->changed = true;
        if (w->state == FLEET_STARTING) w->fast_exits++;
        if (w->replaced) {
            w->state = FLEET_FREE;
        } else {
            if (w->state != FLEET_LOST) w->replace_at_us = now_us + fleet->replace_after_us;
            w->state = FLEET_EXITED;
        }
        return w;
    }
    return NULL;
}

static void view_one(struct fleet *fleet, struct fleet_worker *w, const char *listed, int64_t now_us)
{
    bool was_up = w->state == FLEET_UP || w->state == FLEET_DOOMED;
    if (listed) {
        w->fast_exits = 0;
        set_state(fleet, w, strcmp(listed, "doomed") == 0 ? FLEET_DOOMED : FLEET_UP);
    } else if (was_up && w->replaced) {
        set_state(fleet, w, FLEET_REPLACED);
    } else if (was_up) {
        w->replace_at_us = now_us + fleet->replace_after_us;
        set_state(fleet, w, FLEET_LOST);
    }
}

void fleet_on_view(struct fleet *fleet, const char *(*state_of)(void *arg, const char *id), void *arg,
                   int64_t now_us)
{
    for (size_t i = 0; i < fleet->len; i++) {
        struct fleet_worker *w = &fleet->workers[i];
        if (w->state != FLEET_FREE && w->state != FLEET_EXITED)
            view_one(fleet, w, state_of(arg, w->id), now_us);
    }
}

static const struct fleet_seen *find_seen(const struct fleet_seen *seen, size_t len, const char *id)
{
    for (size_t i = 0; i < len; i++)
        if (strcmp(seen[i].id, id) == 0) return &seen[i];
    return NULL;
}

static bool has(const struct fleet *fleet, const char *id)
{
    for (size_t i = 0; i < fleet->len; i++)
        if (fleet->workers[i].state != FLEET_FREE && strcmp(fleet->workers[i].id, id) == 0) return true;
    return false;
}

void fleet_follow(struct fleet *fleet, const struct fleet_seen *seen, size_t len)
{
    for (size_t i = 0; i < fleet->len; i++) {
        struct fleet_worker *w = &fleet->workers[i];
        if (w->state == FLEET_FREE || find_seen(seen, len, w->id)) continue;
        set_state(fleet, w, FLEET_FREE);
        w->pid = 0;
    }
    for (size_t i = 0; i < len; i++) {
        struct fleet_worker *w;
        if (has(fleet, seen[i].id) || fleet_add(fleet, seen[i].id, &w) != GW_OK) continue;
        w->pid = seen[i].pid;
        snprintf(w->group, sizeof w->group, "%s", seen[i].group);
    }
}

/* The lost worker's process may be frozen or cut off, not dead: its replacement needs a name of its own. It is replaced once:
 * should it come back and be lost again, there is one for it already. */
static struct fleet_worker *replace_lost(struct fleet *fleet, struct fleet_worker *w)
{
    char id[FLEET_ID_MAX];
    struct fleet_worker *fresh = NULL;
    const char *root_end = strrchr(w->id, 'r');
    int root_len = root_end && root_end > w->id ? (int)(root_end - w->id) : (int)strlen(w->id);
    int number = w->replacements + 1;
    snprintf(id, sizeof id, "%.*sr%d", root_len, w->id, number);
    if (fleet_add(fleet, id, &fresh) != GW_OK) return NULL;
    fresh->replacements = number;
    w->replaced = true;
    set_state(fleet, w, FLEET_REPLACED);
    return fresh;
}

struct fleet_worker *fleet_next_start(struct fleet *fleet, int64_t now_us)
{
    for (size_t i = 0; i < fleet->len; i++) {
        struct fleet_worker *w = &fleet->workers[i];
        if (w->state == FLEET_STARTING && w->pid == 0) return w;
        bool due = w->replace_at_us <= now_us;
        if (w->state == FLEET_EXITED && due) {
            set_state(fleet, w, FLEET_STARTING);
            return w;
        }
        if (w->state == FLEET_LOST && due) return replace_lost(fleet, w);
    }
    return NULL;
}

const char *fleet_state_name(enum fleet_state state)
{
    static const char *const names[] = {"free", "starting", "up", "doomed", "lost", "replaced", "exited"};
    return names[state];
}

size_t fleet_up(const struct fleet *fleet)
{
    size_t up = 0;
    for (size_t i = 0; i < fleet->len; i++)
        if (fleet->workers[i].state == FLEET_UP || fleet->workers[i].state == FLEET_DOOMED) up++;
    return up;
}
