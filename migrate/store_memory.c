#include "migrate/store_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/hash.h"
#include "base/id_map.h"
#include "base/rng.h"

struct block {
    struct gw_block_name name;
    uint64_t id;
    struct gw_memory_page *pages;
    size_t bytes; /* with costs */
    TAILQ_ENTRY(block) used;
};
TAILQ_HEAD(blocks, block);

struct gw_store_memory {
    size_t max_bytes, bytes;
    uint64_t seed;
    struct gw_id_map map;
    struct blocks used; /* least recently first */
    uint64_t evicted;
};

struct gw_memory_page *gw_memory_page_create(struct gw_page_id id, uint32_t len)
{
    struct gw_memory_page *p = malloc(sizeof *p + len);
    if (p) *p = (struct gw_memory_page){.id = id, .refs = 1, .len = len};
    return p;
}

void gw_memory_page_ref(struct gw_memory_page *page)
{
    page->refs++;
}

void gw_memory_page_unref(struct gw_memory_page *page)
{
    if (--page->refs == 0) free(page);
}

gw_err_t gw_store_memory_create(size_t max_bytes, struct gw_store_memory **out)
{
    struct gw_store_memory *m = calloc(1, sizeof *m);
    if (!m) return GW_ERR_MEMORY;
    m->max_bytes = max_bytes;
    gw_random_bytes(&m->seed, sizeof m->seed);
    TAILQ_INIT(&m->used);
    *out = m;
    return GW_OK;
}

static size_t cost(const struct gw_memory_page *page)
{
    return page->len + GW_STORE_MEMORY_PAGE_COST;
}

static void drop(struct gw_store_memory *m, struct block *b)
{
    struct gw_memory_page *next;
    for (struct gw_memory_page *p = b->pages; p; p = next) {
        next = p->next;
        gw_memory_page_unref(p);
    }
    TAILQ_REMOVE(&m->used, b, used);
    gw_id_map_remove(&m->map, b->id);
    m->bytes -= b->bytes;
    free(b);
}

void gw_store_memory_destroy(struct gw_store_memory *m)
{
    if (!m) return;
    while (!TAILQ_EMPTY(&m->used)) drop(m, TAILQ_FIRST(&m->used));
    gw_id_map_fini(&m->map);
    free(m);
}

static uint64_t id_of(const struct gw_store_memory *m, const struct gw_block_name *name)
{
    return gw_hash64(name->bytes, sizeof name->bytes, m->seed) | 1; /* ids are never 0 */
}

static struct block *find(struct gw_store_memory *m, const struct gw_block_name *name)
{
    struct block *b = gw_id_map_get(&m->map, id_of(m, name));
    if (!b || memcmp(&b->name, name, sizeof *name) != 0) return NULL;
    TAILQ_REMOVE(&m->used, b, used);
    TAILQ_INSERT_TAIL(&m->used, b, used);
    return b;
}

/* Two names may have one id, in about 2^31 blocks once: the older goes. */
static struct block *add_block(struct gw_store_memory *m, const struct gw_block_name *name)
{
    struct block *b = calloc(1, sizeof *b), *twin = gw_id_map_get(&m->map, id_of(m, name));
    if (!b) return NULL;
    if (twin) drop(m, twin);
    *b = (struct block){.name = *name, .id = id_of(m, name), .bytes = GW_STORE_MEMORY_BLOCK_COST};
    if (gw_id_map_put(&m->map, b->id, b) != GW_OK) {
        free(b);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&m->used, b, used);
    m->bytes += b->bytes;
    return b;
}

static struct gw_memory_page **slot_of(struct block *b, struct gw_page_id id)
{
    struct gw_memory_page **at = &b->pages;
    while (*at && ((*at)->id.group != id.group || (*at)->id.head != id.head)) at = &(*at)->next;
    return at;
}

static void add_page(struct gw_store_memory *m, struct block *b, struct gw_memory_page *page)
{
    struct gw_memory_page **at = slot_of(b, page->id), *old = *at;
    page->next = old ? old->next : NULL;
    *at = page;
    b->bytes += cost(page);
    m->bytes += cost(page);
    if (!old) return;
    b->bytes -= cost(old);
    m->bytes -= cost(old);
    gw_memory_page_unref(old);
}

gw_err_t gw_store_memory_put(struct gw_store_memory *m, const struct gw_block_name *name,
                             struct gw_memory_page *const *pages, uint32_t pages_len)
{
    size_t bytes = GW_STORE_MEMORY_BLOCK_COST;
    for (uint32_t i = 0; i < pages_len; i++) bytes += cost(pages[i]);
    struct block *b = find(m, name), *oldest;
    if (bytes + (b ? b->bytes : 0) > m->max_bytes) return GW_ERR_LIMIT;
    while ((oldest = TAILQ_FIRST(&m->used)) && oldest != b && m->bytes + bytes > m->max_bytes) {
        drop(m, oldest);
        m->evicted++;
    }
    if (!b) b = add_block(m, name);
    if (!b) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < pages_len; i++) add_page(m, b, pages[i]);
    return GW_OK;
}

struct gw_memory_page *gw_store_memory_get(struct gw_store_memory *m, const struct gw_block_name *name,
                                           struct gw_page_id id)
{
    struct block *b = find(m, name);
    return b ? *slot_of(b, id) : NULL;
}

void gw_store_memory_stats(const struct gw_store_memory *m, struct gw_store_memory_stats *out)
{
    *out = (struct gw_store_memory_stats){.blocks = m->map.len, .bytes = m->bytes, .evicted = m->evicted};
}
