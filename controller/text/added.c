#include "controller/text/added.h"

#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/rng.h"

#define ROOT 0u

gw_err_t gw_added_init(struct gw_added *a, size_t total_bytes)
{
    assert(total_bytes <= GW_ADDED_ALL_MAX);
    *a = (struct gw_added){.nodes = 1, .capacity = (uint32_t)total_bytes + 1};
    gw_random_bytes(&a->seed, sizeof a->seed);
    uint32_t slots = 16;
    while (slots < 2 * a->capacity) slots *= 2;
    a->mask = slots - 1;
    a->slots = calloc(slots, sizeof *a->slots);
    a->token_at = calloc(a->capacity, sizeof *a->token_at);
    if (a->slots && a->token_at) return GW_OK;
    gw_added_fini(a);
    return GW_ERR_MEMORY;
}

void gw_added_fini(struct gw_added *a)
{
    free(a->slots);
    free(a->token_at);
    *a = (struct gw_added){0};
}

/* The slot of the edge from node by byte, or the free one where it would go. */
static struct gw_added_node *edge(const struct gw_added *a, uint32_t node, uint8_t byte)
{
    uint64_t key = ((uint64_t)node << 8 | byte) + 1;
    uint32_t at = (uint32_t)gw_mix64(key ^ a->seed) & a->mask;
    while (a->slots[at].key != 0 && a->slots[at].key != key) at = (at + 1) & a->mask;
    return &a->slots[at];
}

void gw_added_put(struct gw_added *a, const char *text, size_t len, uint32_t id)
{
    uint32_t node = ROOT;
    for (size_t i = 0; i < len; i++) {
        struct gw_added_node *e = edge(a, node, (uint8_t)text[i]);
        if (e->key == 0) {
            assert(a->nodes < a->capacity);
            *e = (struct gw_added_node){.key = ((uint64_t)node << 8 | (uint8_t)text[i]) + 1,
                                        .node = a->nodes++};
        }
        node = e->node;
    }
    a->token_at[node] = id + 1;
}

/* Longest token that begins at text[0]; 0 if none. */
static size_t match_here(const struct gw_added *a, const char *text, size_t len, uint32_t *id)
{
    size_t best = 0;
    uint32_t node = ROOT;
    for (size_t i = 0; i < len; i++) {
        const struct gw_added_node *e = edge(a, node, (uint8_t)text[i]);
        if (e->key == 0) break;
        node = e->node;
        if (a->token_at[node] == 0) continue;
        best = i + 1;
        *id = a->token_at[node] - 1;
    }
    return best;
}

bool gw_added_find(const struct gw_added *a, const char *text, size_t len, size_t from, size_t *start,
                   size_t *match_len, uint32_t *id)
{
    if (a->nodes <= 1) return false;
    for (size_t i = from; i < len; i++) {
        size_t n = match_here(a, text + i, len - i, id);
        if (n == 0) continue;
        *start = i;
        *match_len = n;
        return true;
    }
    return false;
}
