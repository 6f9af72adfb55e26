#include "worker/cell_source.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "migrate/cell_codec.h"
#include "migrate/checksum.h"
#include "worker/cell_store_internal.h"

uint64_t gw_cell_store_packing(const struct gw_cell_store *s)
{
    const struct gw_ops *ops = s->packer.ops;
    uint64_t h = gw_hash64(ops->profile, strlen(ops->profile), GW_CELL_PACKING);
    return gw_mix64(h ^ (uint64_t)ops->weight);
}

static const uint8_t *pin(void *arg, uint32_t number, uint64_t bytes)
{
    struct gw_cell_store *s = ((struct gw_cell_giver *)arg)->store;
    const uint8_t *memory = NULL;
    if (number >= s->parts_len) return NULL;
    pthread_mutex_lock(&s->lock);
    struct cell_part *p = &s->parts[number];
    bool here = p->memory && p->bytes == bytes;
    if (here && !p->sums) p->sums = calloc(gw_cell_pieces(bytes), sizeof *p->sums);
    if (here && p->sums) {
        p->pins++;
        memory = p->memory;
    }
    pthread_mutex_unlock(&s->lock);
    return memory;
}

static void unpin(void *arg, uint32_t number)
{
    struct gw_cell_store *s = ((struct gw_cell_giver *)arg)->store;
    pthread_mutex_lock(&s->lock);
    struct cell_part *p = &s->parts[number];
    assert(p->pins > 0);
    p->pins--;
    if (p->pins == 0 && p->refs == 0 && p->unwanted) cell_part_drop(p);
    pthread_mutex_unlock(&s->lock);
}

/* Two connections may take the same sum at once: the same value. A sum that is 0 is taken each time. */
static uint64_t sum(void *arg, uint32_t number, uint64_t at)
{
    struct cell_part *p = &((struct gw_cell_giver *)arg)->store->parts[number];
    uint64_t *kept = &p->sums[at / GW_CELL_PIECE_BYTES], value = __atomic_load_n(kept, __ATOMIC_RELAXED);
    if (value != 0) return value;
    value = gw_checksum((const uint8_t *)p->memory + at, gw_cell_piece_bytes(p->bytes, at));
    __atomic_store_n(kept, value, __ATOMIC_RELAXED);
    return value;
}

static double rate(void *arg)
{
    const struct gw_cell_giver *giver = arg;
    return atomic_load_explicit(&giver->busy, memory_order_relaxed) ? giver->bytes_s : 0;
}

struct gw_cell_source gw_cell_source(struct gw_cell_giver *giver)
{
    return (struct gw_cell_source){.arg = giver,
                                   .packing = gw_cell_store_packing(giver->store),
                                   .pin = pin,
                                   .unpin = unpin,
                                   .sum = sum,
                                   .rate = rate};
}
