#include "worker/page_dir.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

struct entry {
    struct gw_block_name name;
    uint32_t chain; /* next slot in the same bucket */
    bool named;
};

struct gw_page_dir {
    pthread_mutex_t lock; /* guards all below */
    struct entry *entries;
    uint64_t *sums; /* [slots][pages] */
    uint32_t *buckets;
    uint32_t bucket_mask, slots, pages, named;
};

gw_err_t gw_page_dir_create(uint32_t slots, uint32_t pages, struct gw_page_dir **out)
{
    uint32_t buckets = 16;
    while (buckets < slots) buckets *= 2;
    struct gw_page_dir *dir = calloc(1, sizeof *dir);
    if (!dir) return GW_ERR_MEMORY;
    pthread_mutex_init(&dir->lock, NULL);
    dir->entries = calloc(slots, sizeof *dir->entries);
    dir->sums = calloc((size_t)slots * pages, sizeof *dir->sums);
    dir->buckets = malloc(buckets * sizeof *dir->buckets);
    if (!dir->entries || !dir->sums || !dir->buckets) {
        gw_page_dir_destroy(dir);
        return GW_ERR_MEMORY;
    }
    memset(dir->buckets, 0xFF, buckets * sizeof *dir->buckets); /* NONE */
    dir->bucket_mask = buckets - 1;
    dir->slots = slots;
    dir->pages = pages;
    *out = dir;
    return GW_OK;
}

void gw_page_dir_destroy(struct gw_page_dir *dir)
{
    if (!dir) return;
    pthread_mutex_destroy(&dir->lock);
    free(dir->entries);
    free(dir->sums);
    free(dir->buckets);
    free(dir);
}

/* Names are HMACs: any of their bytes are a good hash. */
static uint32_t *bucket_of(struct gw_page_dir *dir, const struct gw_block_name *name)
{
    uint32_t h;
    memcpy(&h, name->bytes, sizeof h);
    return &dir->buckets[h & dir->bucket_mask];
}

static uint32_t lookup(struct gw_page_dir *dir, const struct gw_block_name *name)
{
    uint32_t slot = *bucket_of(dir, name);
    while (slot != NONE && memcmp(&dir->entries[slot].name, name, sizeof *name) != 0)
        slot = dir->entries[slot].chain;
    return slot;
}

static void drop(struct gw_page_dir *dir, uint32_t slot)
{
    struct entry *e = &dir->entries[slot];
    if (!e->named) return;
    uint32_t *link = bucket_of(dir, &e->name);
    while (*link != slot) link = &dir->entries[*link].chain;
    *link = e->chain;
    e->named = false;
    dir->named--;
}

void gw_page_dir_publish(struct gw_page_dir *dir, uint32_t slot, const struct gw_block_name *name,
                         const uint64_t *sums)
{
    struct entry *e = &dir->entries[slot];
    pthread_mutex_lock(&dir->lock);
    uint32_t twin = lookup(dir, name);
    if (twin != NONE) drop(dir, twin);
    drop(dir, slot);
    uint32_t *bucket = bucket_of(dir, name);
    *e = (struct entry){.name = *name, .chain = *bucket, .named = true};
    *bucket = slot;
    dir->named++;
    memcpy(dir->sums + (size_t)slot * dir->pages, sums, dir->pages * sizeof *sums);
    pthread_mutex_unlock(&dir->lock);
}

void gw_page_dir_forget(struct gw_page_dir *dir, uint32_t slot)
{
    pthread_mutex_lock(&dir->lock);
    drop(dir, slot);
    pthread_mutex_unlock(&dir->lock);
}

uint32_t gw_page_dir_len(struct gw_page_dir *dir)
{
    pthread_mutex_lock(&dir->lock);
    uint32_t len = dir->named;
    pthread_mutex_unlock(&dir->lock);
    return len;
}

uint32_t gw_page_dir_list(struct gw_page_dir *dir, struct gw_page_dir_block *out, uint32_t max)
{
    uint32_t len = 0;
    pthread_mutex_lock(&dir->lock);
    for (uint32_t i = 0; i < dir->slots && len < max; i++)
        if (dir->entries[i].named) out[len++] = (struct gw_page_dir_block){i, dir->entries[i].name};
    pthread_mutex_unlock(&dir->lock);
    return len;
}

bool gw_page_dir_find(struct gw_page_dir *dir, const struct gw_block_name *name, uint32_t *slot,
                      uint64_t *sums)
{
    pthread_mutex_lock(&dir->lock);
    uint32_t at = lookup(dir, name);
    if (at != NONE) {
        *slot = at;
        if (sums) memcpy(sums, dir->sums + (size_t)at * dir->pages, dir->pages * sizeof *sums);
    }
    pthread_mutex_unlock(&dir->lock);
    return at != NONE;
}

bool gw_page_dir_sum(struct gw_page_dir *dir, uint32_t slot, const struct gw_block_name *name, uint32_t page,
                     uint64_t *sum)
{
    pthread_mutex_lock(&dir->lock);
    bool there = lookup(dir, name) == slot;
    if (there) *sum = dir->sums[(size_t)slot * dir->pages + page];
    pthread_mutex_unlock(&dir->lock);
    return there;
}
