#include "controller/core/core_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define NOTICE_MAX_US (30 * 24 * 3600 * GW_US_PER_S) /* no cloud announces a reclaim earlier */
#define ADVICE_US                                                                                            \
    (24 * 3600 * GW_US_PER_S) /* a recommendation is not taken back; a day later it is news no more */

/* ---- the table of what was announced ---- */

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

/* Forgets all entries of that name; of one process if pid is not 0. */
static void notice_remove(struct gw_core *core, const char *name, uint32_t pid)
{
    for (size_t i = 0; i < CORE_NOTICES_MAX; i++) {
        struct core_notice *n = &core->notices[i];
        if (strcmp(n->name, name) == 0 && (pid == 0 || pid == n->pid)) n->name[0] = '\0';
    }
}

static struct core_notice *notice_put(struct gw_core *core, const char *name, uint32_t pid,
                                      int64_t deadline_us)
{
    notice_remove(core, name, pid);
    struct core_notice *n = victim(core);
    snprintf(n->name, sizeof n->name, "%s", name);
    n->pid = pid;
    n->advice = false;
    n->deadline_us = deadline_us;
    return n;
}

static bool is_about(const struct core_notice *n, const struct core_worker *w)
{
    if (n->pid == 0) return strcmp(n->name, w->hello.instance) == 0;
    return n->pid == w->hello.pid && strcmp(n->name, w->hello.worker) == 0;
}

/* The deadline that was announced for this worker and is still to come; 0 = none. */
static int64_t notice_find(const struct gw_core *core, const struct core_worker *w, int64_t now_us)
{
    int64_t deadline_us = 0;
    for (size_t i = 0; i < CORE_NOTICES_MAX; i++) {
        const struct core_notice *n = &core->notices[i];
        if (n->name[0] == '\0' || n->advice || n->deadline_us <= now_us) continue;
        if (is_about(n, w) && (deadline_us == 0 || n->deadline_us < deadline_us))
            deadline_us = n->deadline_us;
    }
    return deadline_us;
}

/* ---- advice ---- */

static void advise(struct gw_core *core, struct core_worker *w)
{
    if (w->advised) return;
    w->advised = true;
    core->review_due = true;
    core_note(core, GW_NOTE_WORKER_ADVISED, w, NULL, "its cloud recommends to leave its instance");
}

/* Does the table say anything of name already? */
static bool is_noticed(const struct gw_core *core, const char *name, int64_t now_us)
{
    for (size_t i = 0; i < CORE_NOTICES_MAX; i++)
        if (strcmp(core->notices[i].name, name) == 0 && core->notices[i].deadline_us > now_us) return true;
    return false;
}

/* A recommendation dooms nobody, and changes nothing about who is doomed. */
static void on_advice(struct gw_core *core, int64_t now_us, const char *name)
{
    bool is_worker = false;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        bool named = w && strcmp(w->hello.worker, name) == 0;
        is_worker = is_worker || named;
        if (named || (w && strcmp(w->hello.instance, name) == 0)) advise(core, w);
    }
    if (!is_worker && !is_noticed(core, name, now_us))
        notice_put(core, name, 0, now_us + ADVICE_US)->advice = true;
}

static bool is_advised(const struct gw_core *core, const struct core_worker *w, int64_t now_us)
{
    for (size_t i = 0; i < CORE_NOTICES_MAX; i++) {
        const struct core_notice *n = &core->notices[i];
        if (n->name[0] != '\0' && n->advice && n->deadline_us > now_us && is_about(n, w)) return true;
    }
    return false;
}

/* ---- doom ---- */

static void doom(struct gw_core *core, struct core_worker *w, int64_t now_us, int64_t deadline_us)
{
    bool news = w->state != CORE_DOOMED, moved = !news && w->notice_deadline_us != deadline_us;
    core_worker_set_state(core, w, CORE_DOOMED);
    w->notice_deadline_us = deadline_us;
    if (news || moved) {
        struct gw_note *n =
            core_note(core, GW_NOTE_WORKER_DOOMED, w, NULL, news ? "" : "the deadline was moved");
        n->announced = true;
        n->count = w->serving ? w->serving->requests.len : 0;
    }
    if (w->prepared) core_pipeline_end(core, w->prepared, now_us, "one of its workers will go", true);
    core->review_due = true;
    core_moves_due(core, deadline_us - core->config.cutover_margin_us);
}

void core_worker_undoom(struct gw_core *core, struct core_worker *w, const char *why)
{
    w->advised = false;
    core->review_due = true;
    if (w->state != CORE_DOOMED) return;
    w->notice_deadline_us = 0;
    core_worker_set_state(core, w, CORE_UP);
    core_note(core, GW_NOTE_NOTICE_CANCELLED, w, NULL, why)->announced = true;
}

static int64_t clamp_deadline(int64_t now_us, int64_t deadline_us)
{
    if (deadline_us < now_us) return now_us;
    return deadline_us > now_us + NOTICE_MAX_US ? now_us + NOTICE_MAX_US : deadline_us;
}

void core_on_notice(struct gw_core *core, int64_t now_us, const char *name, uint8_t kind, int64_t deadline_us)
{
    bool cancel = kind == GW_NOTICE_CANCEL, is_worker = false;
    if (kind == GW_NOTICE_REBALANCE) {
        on_advice(core, now_us, name);
        return;
    }
    deadline_us = clamp_deadline(now_us, deadline_us);
    notice_remove(core, name, 0);
    for (uint32_t i = 0; i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        if (!w) continue;
        bool named = strcmp(w->hello.worker, name) == 0;
        if (!named && strcmp(w->hello.instance, name) != 0) continue;
        if (cancel) {
            notice_remove(core, w->hello.worker, 0);
            core_worker_undoom(core, w, "the notice was cancelled");
            continue;
        }
        if (named) notice_put(core, name, w->hello.pid, deadline_us);
        is_worker = is_worker || named;
        doom(core, w, now_us, deadline_us);
    }
    if (!cancel && !is_worker) notice_put(core, name, 0, deadline_us);
}

void core_on_worker_notice(struct gw_core *core, struct core_worker *w, int64_t now_us,
                           const struct gw_msg_notice *m)
{
    int64_t deadline_us = clamp_deadline(now_us, now_us + (int64_t)m->deadline_ms * GW_US_PER_MS);
    if (m->kind == GW_NOTICE_CANCEL) {
        notice_remove(core, w->hello.worker, w->hello.pid);
        core_worker_undoom(core, w, "the worker took its notice back");
        return;
    }
    if (m->kind == GW_NOTICE_REBALANCE) {
        advise(core, w);
        return;
    }
    notice_put(core, w->hello.worker, w->hello.pid, deadline_us);
    doom(core, w, now_us, deadline_us);
}

void core_notices_greet(struct gw_core *core, struct core_worker *w, int64_t now_us)
{
    int64_t deadline_us = notice_find(core, w, now_us);
    if (is_advised(core, w, now_us)) advise(core, w);
    if (deadline_us != 0) doom(core, w, now_us, deadline_us);
}
