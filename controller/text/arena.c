#include "controller/text/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)64 << 10)
#define CHUNK_SLACK ((size_t)4 << 10) /* behind a piece that is larger than a chunk, for extending it */
#define ALIGNMENT   alignof(max_align_t)

struct gw_arena_chunk {
    struct gw_arena_chunk *below;
    size_t used, size;
    alignas(max_align_t) char bytes[];
};

void gw_arena_init(struct gw_arena *a, size_t max)
{
    *a = (struct gw_arena){.max = max};
}

void gw_arena_fini(struct gw_arena *a)
{
    for (struct gw_arena_chunk *c = a->top, *below; c; c = below) {
        below = c->below;
        free(c);
    }
    *a = (struct gw_arena){.max = a->max};
}

static bool add_chunk(struct gw_arena *a, size_t size)
{
    size_t bytes = size > CHUNK_BYTES ? size + CHUNK_SLACK : CHUNK_BYTES;
    if (size > a->max || bytes > a->max - a->taken) {
        a->err = GW_ERR_LIMIT;
        return false;
    }
    struct gw_arena_chunk *c = malloc(sizeof *c + bytes);
    if (!c) {
        a->err = GW_ERR_MEMORY;
        return false;
    }
    *c = (struct gw_arena_chunk){.below = a->top, .size = bytes};
    a->top = c;
    a->taken += bytes;
    return true;
}

void *gw_arena_alloc(struct gw_arena *a, size_t size)
{
    if (a->err != GW_OK) return NULL;
    size_t used = a->top ? (a->top->used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : 0;
    if (!a->top || used > a->top->size || size > a->top->size - used) {
        if (!add_chunk(a, size)) return NULL;
        used = 0;
    }
    a->top->used = used + size;
    return a->top->bytes + used;
}

char *gw_arena_extend(struct gw_arena *a, const char *piece, size_t len, size_t more)
{
    struct gw_arena_chunk *c = a->top;
    if (a->err == GW_OK && c && len > 0 && piece + len == c->bytes + c->used && len <= c->used &&
        more <= c->size - c->used) {
        c->used += more;
        return c->bytes + c->used - more - len;
    }
    if (more > SIZE_MAX - len) more = SIZE_MAX - len;
    char *copy = gw_arena_alloc(a, len + more);
    if (copy && len) memcpy(copy, piece, len);
    return copy;
}
