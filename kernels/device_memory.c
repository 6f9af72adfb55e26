#include "kernels/device_memory.h"

#include <string.h>
#include <sys/mman.h>

#include "kernels/device_backend.h"

/* Pages that nobody has written take no memory, and are zeros. flags: MAP_NORESERVE of what may never be written. */
static gw_err_t map_host(size_t bytes, int flags, void **out, struct gw_err_ctx *ctx)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (p == MAP_FAILED) return gw_fail(ctx, GW_ERR_MEMORY, "no %zu bytes of memory", bytes);
    *out = p;
    return GW_OK;
}

gw_err_t gw_memory_alloc(struct gw_device *dev, size_t bytes, enum gw_memory_kind kind, struct gw_memory *out,
                         struct gw_err_ctx *ctx)
{
    const struct gw_device_backend *b = gw_device_backend(dev);
    struct gw_memory m = {.owner = dev, .kind = kind, .bytes = bytes};
    if (bytes == 0) {
        *out = m;
        return GW_OK;
    }
    if (!b) TRY(map_host(bytes, 0, &m.host, ctx));
    if (b && kind == GW_MEMORY_MIRRORED) TRY(map_host(bytes, MAP_NORESERVE, &m.host, ctx));
    if (!b) m.device = m.host;
    gw_err_t err = b ? b->alloc(dev, &m, ctx) : GW_OK;
    if (err == GW_OK)
        *out = m;
    else if (m.host)
        munmap(m.host, bytes);
    return err;
}

void gw_memory_free(struct gw_memory *m)
{
    const struct gw_device_backend *b = gw_device_backend(m->owner);
    if (m->bytes == 0) return;
    if (b) b->free(m->owner, m);
    if (!b || m->kind == GW_MEMORY_MIRRORED) munmap(m->host, m->bytes);
    *m = (struct gw_memory){0};
}

void gw_memory_put(struct gw_device *dev, void *device, const void *host, size_t bytes)
{
    const struct gw_device_backend *b = gw_device_backend(dev);
    if (device == host) return;
    if (b)
        b->put(dev, device, host, bytes);
    else
        memcpy(device, host, bytes);
}

void gw_memory_put_now(struct gw_device *dev, void *device, const void *host, size_t bytes)
{
    const struct gw_device_backend *b = gw_device_backend(dev);
    if (device == host) return;
    if (b)
        b->put_now(dev, device, host, bytes);
    else
        memcpy(device, host, bytes);
}

void gw_memory_get(struct gw_device *dev, void *host, const void *device, size_t bytes)
{
    const struct gw_device_backend *b = gw_device_backend(dev);
    if (device == host) return;
    if (b)
        b->get(dev, host, device, bytes);
    else
        memcpy(host, device, bytes);
}

void gw_memory_move(struct gw_device *dev, void *to, const void *from, size_t bytes)
{
    const struct gw_device_backend *b = gw_device_backend(dev);
    if (b)
        b->move(dev, to, from, bytes);
    else
        memcpy(to, from, bytes);
}

void gw_memory_fill(struct gw_device *dev, void *device, uint8_t byte, size_t bytes)
{
    const struct gw_device_backend *b = gw_device_backend(dev);
    if (b)
        b->fill(dev, device, byte, bytes);
    else
        memset(device, byte, bytes);
}

bool gw_device_is_host(const struct gw_device *dev)
{
    return gw_device_backend(dev) == NULL;
}

struct gw_device *gw_device_host(struct gw_device *dev)
{
    return gw_device_is_host(dev) ? dev : ((struct gw_device_base *)(void *)dev)->host;
}

gw_err_t gw_device_finish(struct gw_device *dev, struct gw_err_ctx *ctx)
{
    const struct gw_device_backend *b = gw_device_backend(dev);
    return b ? b->finish(dev, ctx) : GW_OK;
}
