#include "controller/capacity_fleet.h"

#include <stdlib.h>
#include <string.h>

enum rank { RANK_DOOMED, RANK_COMING, RANK_EMPTY, RANK_ADVISED, RANK_BUSY };
#define REQUESTS_MAX 1000000

struct reader {
    struct gw_core_worker_view *workers;
    size_t workers_len;
    uint64_t *draining; /* generations of pipelines that are */
    size_t draining_len;
};

static int by_instance(const void *a, const void *b)
{
    const struct gw_core_worker_view *x = a, *y = b;
    return strcmp(x->instance, y->instance);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static gw_err_t read_draining(const struct gw_core *core, struct reader *r)
{
    struct gw_core_pipeline_view p;
    r->draining = calloc(r->workers_len + 1, sizeof *r->draining);
    if (!r->draining) return GW_ERR_MEMORY;
    for (size_t i = 0; gw_core_pipeline(core, i, &p) && r->draining_len < r->workers_len; i++)
        if (strcmp(p.state, "draining") == 0) r->draining[r->draining_len++] = p.generation;
    return GW_OK;
}

static bool is_draining(const struct reader *r, uint64_t generation)
{
    for (size_t i = 0; i < r->draining_len; i++)
        if (r->draining[i] == generation) return true;
    return false;
}

static void add_worker(const struct reader *r, const struct gw_core_worker_view *w,
                       struct gw_capacity_host *h)
{
    h->doomed |= strcmp(w->state, "doomed") == 0;
    h->advised |= w->advised;
    h->requests += w->requests;
    h->busy |= w->requests > 0 || (w->generation != 0 && !is_draining(r, w->generation));
    if (w->deadline_us && (h->deadline_us == 0 || w->deadline_us < h->deadline_us))
        h->deadline_us = w->deadline_us;
}

static gw_err_t make_hosts(const struct reader *r, struct gw_capacity_fleet *out)
{
    struct gw_capacity_host *hosts = calloc(r->workers_len + 1, sizeof *hosts);
    size_t len = 0;
    if (!hosts) return GW_ERR_MEMORY;
    for (size_t i = 0; i < r->workers_len; i++) {
        const struct gw_core_worker_view *w = &r->workers[i];
        if (i == 0 || strcmp(w->instance, r->workers[i - 1].instance) != 0)
            memcpy(hosts[len++].instance, w->instance, sizeof w->instance);
        add_worker(r, w, &hosts[len - 1]);
    }
    *out = (struct gw_capacity_fleet){.hosts = hosts, .len = len};
    return GW_OK;
}

gw_err_t gw_capacity_fleet_read(const struct gw_core *core, struct gw_capacity_fleet *out)
{
    struct reader r = {.workers_len = gw_core_workers(core, NULL, 0)};
    r.workers = calloc(r.workers_len + 1, sizeof *r.workers);
    gw_err_t err = r.workers ? GW_OK : GW_ERR_MEMORY;
    if (err == GW_OK) {
        (void)gw_core_workers(core, r.workers, r.workers_len);
        qsort(r.workers, r.workers_len, sizeof *r.workers, by_instance);
        err = read_draining(core, &r);
    }
    if (err == GW_OK) err = make_hosts(&r, out);
    free(r.workers);
    free(r.draining);
    return err;
}

void gw_capacity_fleet_fini(struct gw_capacity_fleet *fleet)
{
    free(fleet->hosts);
    *fleet = (struct gw_capacity_fleet){0};
}

/* ---- looking ------------------------------------------------------------------------------------------- */

static int by_name(const void *key, const void *item)
{
    return strcmp(key, ((const struct gw_capacity_host *)item)->instance);
}

const struct gw_capacity_host *gw_capacity_fleet_find(const struct gw_capacity_fleet *fleet,
                                                      const char *instance)
{
    if (fleet->len == 0) return NULL;
    return bsearch(instance, fleet->hosts, fleet->len, sizeof *fleet->hosts, by_name);
}

int gw_capacity_fleet_rank(void *arg, const struct gw_cloud_instance *in)
{
    const struct gw_capacity_host *h = gw_capacity_fleet_find(arg, in->id);
    if (!h) return in->state == GW_CLOUD_PENDING ? RANK_COMING : RANK_EMPTY;
    if (h->doomed) return RANK_DOOMED;
    if (h->advised) return RANK_ADVISED;
    return RANK_BUSY + (int)(h->requests < REQUESTS_MAX ? h->requests : REQUESTS_MAX);
}

void gw_capacity_fleet_count(const struct gw_capacity_fleet *fleet, uint32_t *serving, uint32_t *leaving)
{
    *serving = *leaving = 0;
    for (size_t i = 0; i < fleet->len; i++) {
        bool leaves = fleet->hosts[i].doomed || fleet->hosts[i].advised;
        *leaving += leaves;
        *serving += !leaves;
    }
}
