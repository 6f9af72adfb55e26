#include "controller/text/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"

gw_err_t gw_vocab_init(struct gw_vocab *v, uint32_t size)
{
    *v = (struct gw_vocab){.size = size};
    gw_buf_init(&v->bytes, GW_VOCAB_BYTES_MAX);
    gw_random_bytes(&v->seed, sizeof v->seed);
    uint32_t slots = 16;
    while (slots < 2 * size) slots *= 2; /* at most half full: short probes */
    v->mask = slots - 1;
    v->entries = calloc(size, sizeof *v->entries);
    v->slots = malloc(slots * sizeof *v->slots);
    if (!v->entries || !v->slots) {
        gw_vocab_fini(v);
        return GW_ERR_MEMORY;
    }
    memset(v->slots, 0xFF, slots * sizeof *v->slots);
    return GW_OK;
}

void gw_vocab_fini(struct gw_vocab *v)
{
    free(v->entries);
    free(v->slots);
    gw_buf_fini(&v->bytes);
    *v = (struct gw_vocab){0};
}

/* The slot that holds the word, or the free one where it would go. */
static uint32_t *slot_of(const struct gw_vocab *v, const void *bytes, size_t len)
{
    uint32_t at = (uint32_t)gw_hash64(bytes, len, v->seed) & v->mask;
    for (;; at = (at + 1) & v->mask) {
        uint32_t id = v->slots[at];
        if (id == GW_VOCAB_NONE) return &v->slots[at];
        const struct gw_vocab_entry *e = &v->entries[id];
        if (e->len == len && memcmp(v->bytes.data + e->offset, bytes, len) == 0) return &v->slots[at];
    }
}

gw_err_t gw_vocab_put(struct gw_vocab *v, uint32_t id, const void *bytes, size_t len, bool word)
{
    struct gw_vocab_entry *e = &v->entries[id];
    if (e->used || (word && len == 0)) return GW_ERR_INPUT;
    uint32_t *slot = word ? slot_of(v, bytes, len) : NULL;
    if (slot && *slot != GW_VOCAB_NONE) return GW_ERR_INPUT;
    uint32_t offset = (uint32_t)v->bytes.len;
    gw_buf_put(&v->bytes, bytes, len);
    TRY(v->bytes.err);
    *e = (struct gw_vocab_entry){.offset = offset, .len = (uint32_t)len, .used = true};
    if (!slot) return GW_OK;
    *slot = id;
    if (len > v->longest) v->longest = len;
    return GW_OK;
}

uint32_t gw_vocab_find(const struct gw_vocab *v, const void *bytes, size_t len)
{
    return len ? *slot_of(v, bytes, len) : GW_VOCAB_NONE;
}

const char *gw_vocab_bytes(const struct gw_vocab *v, uint32_t id, size_t *len)
{
    if (id >= v->size || !v->entries[id].used) {
        *len = 0;
        return NULL;
    }
    *len = v->entries[id].len;
    return *len ? (const char *)v->bytes.data + v->entries[id].offset : "";
}
