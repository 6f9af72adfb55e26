#include "controller/core/core_internal.h"

#include <string.h>

#include "base/hash.h"

/* BACKGROUND: workers keep KV pages of workers on other instances, and find the place of a page by hashing its name over a
 * list of them (worker/stores.h). So all workers need the same list.
 *
 * BEHAVIOR: it has the workers that keep pages and will stay, in the order of a hash of (instance, worker); of more than a
 * message may name, the first ones, so that one that comes or goes changes one place in the list. It is made anew when a
 * worker comes, goes, or its notice does, and sent to those who have not been told this version of it. What could not be
 * said for want of memory is said in a later step. */

#define MAX GW_WIRE_STORES_MAX

static uint64_t rank_of(const struct core_worker *w)
{
    const struct gw_msg_hello *h = &w->hello;
    return gw_hash64(h->worker, strlen(h->worker), gw_hash64(h->instance, strlen(h->instance), 0));
}

static bool keeps_pages(const struct core_worker *w)
{
    const struct gw_msg_hello *h = &w->hello;
    return w->state == CORE_UP && h->proto >= CORE_PROTO_KV && h->pages[0] != '\0' && h->store_bytes > 0;
}

/* Has nobody in the list its address? A worker that came back may be here twice for a moment. */
static bool is_new(struct core_worker *const *list, uint32_t len, const struct core_worker *w)
{
    for (uint32_t i = 0; i < len; i++)
        if (strcmp(list[i]->hello.pages, w->hello.pages) == 0) return false;
    return true;
}

static uint32_t make_list(const struct gw_core *core, struct core_worker **list)
{
    uint32_t len = 0;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        if (!w || !keeps_pages(w) || !is_new(list, len, w)) continue;
        uint32_t at = len;
        for (; at > 0 && rank_of(w) < rank_of(list[at - 1]); at--)
            if (at < MAX) list[at] = list[at - 1];
        if (at < MAX) list[at] = w;
        if (len < MAX) len++;
    }
    return len;
}

static void remake_list(struct gw_core *core)
{
    struct core_worker *list[MAX] = {0};
    uint32_t len = make_list(core, list);
    bool same = len == core->stores_len;
    for (uint32_t i = 0; i < len; i++) {
        struct gw_store_host *h = &core->stores[i];
        const struct gw_msg_hello *now = &list[i]->hello;
        same = same && strcmp(h->address, now->pages) == 0 && strcmp(h->instance, now->instance) == 0;
        memcpy(h->address, now->pages, sizeof h->address);
        memcpy(h->instance, now->instance, sizeof h->instance);
    }
    core->stores_len = len;
    if (!same) core->stores_version++;
}

static bool say_list(struct gw_core *core, struct core_worker *w, struct gw_store_host *hosts)
{
    struct gw_msg *m = core_send(core, w, NULL, GW_MSG_STORES);
    if (!m) return false;
    m->stores.hosts = hosts;
    m->stores.len = core->stores_len;
    w->stores_version = core->stores_version;
    return true;
}

void core_stores_say(struct gw_core *core)
{
    if (!core->stores_due) return;
    core->stores_due = false;
    remake_list(core);
    struct gw_store_host *hosts = core_arena_alloc(core, core->stores_len * sizeof *hosts + 1);
    core->stores_due = !hosts;
    if (hosts) memcpy(hosts, core->stores, core->stores_len * sizeof *hosts);
    for (uint32_t i = 0; hosts && i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        if (!w || w->hello.proto < CORE_PROTO_KV || w->stores_version == core->stores_version) continue;
        if (w->stores_version == 0 && core->stores_len == 0) continue; /* it knows of nobody already */
        core->stores_due |= !say_list(core, w, hosts);
    }
}
