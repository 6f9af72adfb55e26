#include "worker/block_manager.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

struct slot {
    struct gw_block_name name;
    uint32_t refs;
    uint32_t chain;      /* next slot in the same bucket of the name table */
    uint32_t prev, next; /* in the LRU list, while cached */
    bool named;
};

struct gw_blocks {
    struct gw_blocks_pages pages; /* without functions: nobody */
    struct slot *slots;
    uint32_t *free_stack;
    uint32_t *buckets; /* name → first slot of a chain */
    uint32_t total, limit, free_len, cached_len, bucket_mask;
    uint32_t oldest, newest; /* LRU list */
};

static uint32_t bucket_count(uint32_t slots)
{
    uint32_t n = 16;
    while (n < slots) n *= 2;
    return n;
}

gw_err_t gw_blocks_create(uint32_t slots, const struct gw_blocks_pages *pages, struct gw_blocks **out)
{
    assert(slots > 0 && slots <= GW_BLOCKS_MAX);
    uint32_t buckets = bucket_count(slots);
    struct gw_blocks *b = calloc(1, sizeof *b);
    if (!b) return GW_ERR_MEMORY;
    b->slots = calloc(slots, sizeof *b->slots);
    b->free_stack = calloc(slots, sizeof *b->free_stack);
    b->buckets = calloc(buckets, sizeof *b->buckets);
    if (!b->slots || !b->free_stack || !b->buckets) {
        gw_blocks_destroy(b);
        return GW_ERR_MEMORY;
    }
    if (pages) b->pages = *pages;
    b->total = b->limit = slots;
    b->bucket_mask = buckets - 1;
    b->oldest = b->newest = NONE;
    memset(b->buckets, 0xFF, buckets * sizeof *b->buckets); /* NONE */
    for (uint32_t i = 0; i < slots; i++) b->free_stack[b->free_len++] = slots - 1 - i;
    *out = b;
    return GW_OK;
}

void gw_blocks_destroy(struct gw_blocks *b)
{
    if (!b) return;
    free(b->slots);
    free(b->free_stack);
    free(b->buckets);
    free(b);
}

uint32_t gw_blocks_total(const struct gw_blocks *b)
{
    return b->total;
}

/* Free slots that may be used. */
static uint32_t takeable(const struct gw_blocks *b)
{
    uint32_t used = b->total - b->free_len;
    uint32_t room = b->limit > used ? b->limit - used : 0;
    return room < b->free_len ? room : b->free_len;
}

uint32_t gw_blocks_available(const struct gw_blocks *b)
{
    return takeable(b) + b->cached_len;
}

void gw_blocks_set_limit(struct gw_blocks *b, uint32_t slots)
{
    b->limit = slots < b->total ? slots : b->total;
}

/* Names are HMACs: any of their bytes are a good hash. */
static uint32_t *bucket_of(const struct gw_blocks *b, const struct gw_block_name *name)
{
    uint32_t h;
    memcpy(&h, name->bytes, sizeof h);
    return &b->buckets[h & b->bucket_mask];
}

bool gw_blocks_find(const struct gw_blocks *b, const struct gw_block_name *name, uint32_t *slot)
{
    for (uint32_t i = *bucket_of(b, name); i != NONE; i = b->slots[i].chain) {
        if (memcmp(b->slots[i].name.bytes, name->bytes, sizeof name->bytes) != 0) continue;
        *slot = i;
        return true;
    }
    return false;
}

static void drop_name(struct gw_blocks *b, uint32_t slot)
{
    uint32_t *link = bucket_of(b, &b->slots[slot].name);
    while (*link != slot) link = &b->slots[*link].chain;
    *link = b->slots[slot].chain;
    b->slots[slot].named = false;
}

static void lru_remove(struct gw_blocks *b, uint32_t slot)
{
    const struct slot *s = &b->slots[slot];
    *(s->prev == NONE ? &b->oldest : &b->slots[s->prev].next) = s->next;
    *(s->next == NONE ? &b->newest : &b->slots[s->next].prev) = s->prev;
    b->cached_len--;
}

static void lru_append(struct gw_blocks *b, uint32_t slot)
{
    struct slot *s = &b->slots[slot];
    s->prev = b->newest;
    s->next = NONE;
    *(s->prev == NONE ? &b->oldest : &b->slots[s->prev].next) = slot;
    b->newest = slot;
    b->cached_len++;
}

gw_err_t gw_blocks_take(struct gw_blocks *b, uint32_t *out)
{
    uint32_t slot;
    if (takeable(b) > 0) {
        slot = b->free_stack[--b->free_len];
    } else if (b->oldest != NONE) {
        slot = b->oldest;
        lru_remove(b, slot);
        drop_name(b, slot);
    } else {
        return GW_ERR_LIMIT;
    }
    if (b->pages.forget) b->pages.forget(b->pages.arg, slot);
    b->slots[slot].refs = 1;
    *out = slot;
    return GW_OK;
}

void gw_blocks_ref(struct gw_blocks *b, uint32_t slot)
{
    struct slot *s = &b->slots[slot];
    assert(s->refs > 0 || s->named);
    if (s->refs++ == 0) lru_remove(b, slot);
}

void gw_blocks_unref(struct gw_blocks *b, uint32_t slot)
{
    struct slot *s = &b->slots[slot];
    assert(s->refs > 0);
    if (--s->refs > 0) return;
    if (s->named) {
        lru_append(b, slot);
        return;
    }
    b->free_stack[b->free_len++] = slot;
}

uint32_t gw_blocks_refs(const struct gw_blocks *b, uint32_t slot)
{
    return b->slots[slot].refs;
}

void gw_blocks_copy(struct gw_blocks *b, uint32_t from, uint32_t to)
{
    if (b->pages.copy) b->pages.copy(b->pages.arg, from, to);
}

static void give_name(struct gw_blocks *b, uint32_t slot, const struct gw_block_name *name)
{
    struct slot *s = &b->slots[slot];
    uint32_t *bucket = bucket_of(b, name);
    s->name = *name;
    s->named = true;
    s->chain = *bucket;
    *bucket = slot;
}

void gw_blocks_restore(struct gw_blocks *b, const struct gw_page_dir_block *list, uint32_t len)
{
    assert(b->free_len == b->total);
    while (len-- > 0) {
        give_name(b, list[len].slot, &list[len].name);
        lru_append(b, list[len].slot);
    }
    b->free_len = 0;
    for (uint32_t slot = b->total; slot-- > 0;)
        if (!b->slots[slot].named) b->free_stack[b->free_len++] = slot;
}

uint32_t gw_blocks_adopt(struct gw_blocks *b, uint32_t slot, const struct gw_block_name *name)
{
    struct slot *s = &b->slots[slot];
    uint32_t twin;
    assert(s->refs > 0 && !s->named);
    if (gw_blocks_find(b, name, &twin)) {
        gw_blocks_ref(b, twin);
        gw_blocks_unref(b, slot);
        return twin;
    }
    give_name(b, slot, name);
    return slot;
}

uint32_t gw_blocks_seal(struct gw_blocks *b, uint32_t slot, const struct gw_block_name *name)
{
    uint32_t kept = gw_blocks_adopt(b, slot, name);
    if (kept == slot && b->pages.sealed) b->pages.sealed(b->pages.arg, slot, name);
    return kept;
}
