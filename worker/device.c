#include "worker/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/device_memory.h"
#include "kernels/digest.h"
#include "migrate/profile.h"
#include "worker/prove.h"

#define PATH_MAX_BYTES 4096

static gw_err_t digest_of(struct gw_worker_device *d, struct gw_err_ctx *ctx)
{
    gw_err_t err = gw_ops_digest(d->ops, d->device, d->digest);
    if (err == GW_OK) return GW_OK;
    (void)!gw_device_finish(d->device, ctx); /* says what a device has found */
    return gw_fail(ctx, err, "no memory for the digest");
}

/* ---- processors ---- */

static gw_err_t open_cpu(const struct gw_worker_device_config *c, const char *profile,
                         struct gw_worker_device *d, struct gw_err_ctx *ctx)
{
    enum gw_isa isa;
    TRY(gw_prove_isa(profile, c->isa, c->log, &isa, ctx));
    TRY(gw_ops_cpu(profile, isa, &d->ops, ctx));
    TRY(gw_device_cpu_create(c->threads, c->pin, &d->cpu, ctx));
    gw_device_enter_thread();
    return GW_OK;
}

static gw_err_t be_cpu(struct gw_worker_device *d, struct gw_err_ctx *ctx)
{
    d->device = d->cpu;
    snprintf(d->about, sizeof d->about, "%s, %d threads", d->ops->name, gw_device_threads(d->device));
    return digest_of(d, ctx);
}

/* ---- a GPU ---- */

/* The library at this place, relative to the program's folder; NULL: it is not there, or cannot be loaded. */
static void *load_beside(const char *place)
{
    char path[PATH_MAX_BYTES];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path);
    if (len <= 0 || len == (ssize_t)sizeof path) return NULL;
    path[len] = '\0';
    char *folder = strrchr(path, '/');
    if (!folder) return NULL;
    size_t room = sizeof path - (size_t)(folder + 1 - path);
    if ((size_t)snprintf(folder + 1, room, "%s", place) >= room || access(path, R_OK) != 0) return NULL;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

/* It stays loaded: a runtime that has begun does not end well before its process. */
static gw_err_t load(struct gw_worker_device *d, const char *version, struct gw_err_ctx *ctx)
{
    void *handle = load_beside(GW_CUDA_LIBRARY_FILE);
    if (!handle) handle = load_beside("../lib/godwit/" GW_CUDA_LIBRARY_FILE);
    if (!handle) handle = dlopen(GW_CUDA_LIBRARY_FILE, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        return gw_fail(ctx, GW_ERR_NOT_FOUND,
                       "a GPU needs %s beside godwit-worker (make cuda), which cannot be loaded: %s",
                       GW_CUDA_LIBRARY_FILE, why ? why : "unknown");
    }
    d->library = dlsym(handle, GW_CUDA_LIBRARY_SYMBOL);
    if (!d->library) {
        dlclose(handle);
        return gw_fail(ctx, GW_ERR_NOT_FOUND, "%s is no library of godwit's", GW_CUDA_LIBRARY_FILE);
    }
    if (strcmp(d->library->version, version) == 0) return GW_OK;
    return gw_fail(ctx, GW_ERR_NOT_FOUND, "%s is of version %s, this is %s: both must be of one build",
                   GW_CUDA_LIBRARY_FILE, d->library->version, version);
}

static gw_err_t be_gpu(const struct gw_worker_device_config *c, struct gw_worker_device *d,
                       struct gw_err_ctx *ctx)
{
    enum gw_dtype act = c->f32 ? GW_F32 : GW_BF16;
    const struct gw_cuda_open_config config = {.ordinal = c->cuda,
                                               .host = d->cpu,
                                               .host_ops = d->ops,
                                               .act = act,
                                               .weight = gw_model_weight_type(act, c->weights),
                                               .kv = c->kv == GW_KV_INT8 ? GW_I8 : act,
                                               .deadline_us = c->step_timeout_us,
                                               .fast = c->fast,
                                               .fast_rows = c->fast_rows,
                                               .graphs = c->graphs};
    TRY(load(d, c->version, ctx));
    TRY(d->library->open(&config, &d->gpu, ctx));
    d->device = d->gpu.device;
    d->memory_bytes = d->gpu.free_bytes;
    d->table = *d->gpu.ops;
    d->ops = &d->table;
    TRY(digest_of(d, ctx));
    gw_profile_name(d->table.profile, d->digest, d->profile, sizeof d->profile);
    d->table.profile = d->profile;
    snprintf(d->about, sizeof d->about, "%s, %.40s", d->ops->name, d->gpu.model);
    return GW_OK;
}

static gw_err_t open_gpu(const struct gw_worker_device_config *c, struct gw_worker_device *d,
                         struct gw_err_ctx *ctx)
{
    gw_err_t err = open_cpu(c, GW_PROFILE_CPU_BF16, d, ctx);
    if (err == GW_OK) err = be_gpu(c, d, ctx);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "--device cuda:%d", c->cuda);
}

/* ---- either ---- */

gw_err_t gw_worker_device_open(const struct gw_worker_device_config *config, struct gw_worker_device *out,
                               struct gw_err_ctx *ctx)
{
    *out = (struct gw_worker_device){0};
    if (config->cuda >= 0) return open_gpu(config, out, ctx);
    TRY(open_cpu(config, config->profile, out, ctx));
    return be_cpu(out, ctx);
}

void gw_worker_device_close(struct gw_worker_device *d)
{
    if (d->gpu.device) d->library->close(&d->gpu);
    gw_device_destroy(d->cpu);
    *d = (struct gw_worker_device){0};
}

gw_err_t gw_worker_device_fits(const struct gw_worker_device *d, const struct gw_model_config *m,
                               struct gw_err_ctx *ctx)
{
    const struct gw_cuda_opened *g = &d->gpu;
    if (!g->device) return GW_OK;
    if (m->hidden > g->hidden_max)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "a GPU computes models with rows of %u numbers at most: this has %u", g->hidden_max,
                       m->hidden);
    if (m->head_dim <= g->head_dim_max && m->head_dim % 8 == 0) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "a GPU computes models with heads of 8, 16, … %u numbers: this has %u",
                   g->head_dim_max, m->head_dim);
}
