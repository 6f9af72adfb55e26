#include "controller/text/bpe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"

#define NIL         UINT32_MAX
#define IDS_FIRST   64
#define HEAP_FIRST  64
#define SYMBOLS_MIN 64

struct gw_bpe_symbol {
    uint32_t id; /* GW_VOCAB_NONE: merged into its left neighbour */
    uint32_t prev, next;
};

struct gw_bpe_candidate {
    uint32_t rank, pos; /* pos: the left symbol */
    uint32_t id;        /* what the pair became when it was seen */
};

gw_err_t gw_bpe_init(struct gw_bpe *b, const struct gw_vocab *vocab, uint32_t merges, bool ignore_merges)
{
    *b = (struct gw_bpe){.vocab = vocab, .ignore_merges = ignore_merges};
    gw_random_bytes(&b->seed, sizeof b->seed);
    uint32_t slots = 16;
    while (slots / 3 * 2 < merges) slots *= 2;
    b->mask = slots - 1;
    b->slots = malloc(slots * sizeof *b->slots);
    if (!b->slots) return GW_ERR_MEMORY;
    memset(b->slots, 0xFF, slots * sizeof *b->slots);
    b->all_bytes = true;
    for (int i = 0; i < 256; i++) {
        b->byte_ids[i] = gw_vocab_find(vocab, &(uint8_t){(uint8_t)i}, 1);
        if (b->byte_ids[i] == GW_VOCAB_NONE) b->all_bytes = false;
    }
    return GW_OK;
}

void gw_bpe_fini(struct gw_bpe *b)
{
    free(b->slots);
    *b = (struct gw_bpe){0};
}

static struct gw_merge *slot_of(const struct gw_bpe *b, uint32_t left, uint32_t right)
{
    uint32_t at = (uint32_t)gw_mix64(((uint64_t)left << 32 | right) ^ b->seed) & b->mask;
    for (;; at = (at + 1) & b->mask) {
        struct gw_merge *m = &b->slots[at];
        if (m->left == GW_VOCAB_NONE || (m->left == left && m->right == right)) return m;
    }
}

void gw_bpe_put(struct gw_bpe *b, struct gw_merge merge)
{
    *slot_of(b, merge.left, merge.right) = merge;
}

gw_err_t gw_ids_put(struct gw_ids *out, uint32_t id)
{
    if (out->len >= out->max) return GW_ERR_LIMIT;
    if (out->len == out->cap) {
        size_t cap = out->cap ? out->cap * 2 : IDS_FIRST;
        uint32_t *ids = realloc(out->ids, cap * sizeof *ids);
        if (!ids) return GW_ERR_MEMORY;
        out->ids = ids;
        out->cap = cap;
    }
    out->ids[out->len++] = id;
    return GW_OK;
}

void gw_bpe_scratch_fini(struct gw_bpe_scratch *s)
{
    free(s->symbols);
    free(s->heap);
    *s = (struct gw_bpe_scratch){0};
}

static bool before(const struct gw_bpe_candidate *a, const struct gw_bpe_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static gw_err_t heap_push(struct gw_bpe_scratch *s, struct gw_bpe_candidate c)
{
    if (s->heap_len == s->heap_cap) {
        size_t cap = s->heap_cap ? s->heap_cap * 2 : HEAP_FIRST;
        struct gw_bpe_candidate *heap = realloc(s->heap, cap * sizeof *heap);
        if (!heap) return GW_ERR_MEMORY;
        s->heap = heap;
        s->heap_cap = cap;
    }
    size_t at = s->heap_len++;
    while (at > 0 && before(&c, &s->heap[(at - 1) / 2])) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->heap[at] = c;
    return GW_OK;
}

static struct gw_bpe_candidate heap_pop(struct gw_bpe_scratch *s)
{
    struct gw_bpe_candidate top = s->heap[0], last = s->heap[--s->heap_len];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < s->heap_len) {
        if (child + 1 < s->heap_len && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = last;
    return top;
}

/* If the symbols at pos and behind it can merge, that becomes a candidate. */
static gw_err_t consider(const struct gw_bpe *b, struct gw_bpe_scratch *s, uint32_t pos)
{
    if (pos == NIL || s->symbols[pos].next == NIL) return GW_OK;
    const struct gw_merge *m = slot_of(b, s->symbols[pos].id, s->symbols[s->symbols[pos].next].id);
    if (m->left == GW_VOCAB_NONE) return GW_OK;
    return heap_push(s, (struct gw_bpe_candidate){.rank = m->rank, .pos = pos, .id = m->id});
}

/* One symbol per byte that has a token. Returns how many. */
static gw_err_t spread(const struct gw_bpe *b, const uint8_t *word, size_t len, struct gw_bpe_scratch *s,
                       uint32_t *count)
{
    if (len > s->symbols_cap) {
        size_t cap = len < SYMBOLS_MIN ? SYMBOLS_MIN : len;
        struct gw_bpe_symbol *symbols = realloc(s->symbols, cap * sizeof *symbols);
        if (!symbols) return GW_ERR_MEMORY;
        s->symbols = symbols;
        s->symbols_cap = cap;
    }
    uint32_t n = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t id = b->byte_ids[word[i]];
        if (id == GW_VOCAB_NONE) continue;
        s->symbols[n] = (struct gw_bpe_symbol){.id = id, .prev = n ? n - 1 : NIL, .next = n + 1};
        n++;
    }
    if (n > 0) s->symbols[n - 1].next = NIL;
    *count = n;
    return GW_OK;
}

static gw_err_t merge_all(const struct gw_bpe *b, struct gw_bpe_scratch *s, uint32_t count)
{
    s->heap_len = 0;
    for (uint32_t i = 0; i < count; i++) TRY(consider(b, s, i));
    while (s->heap_len > 0) {
        struct gw_bpe_candidate c = heap_pop(s);
        struct gw_bpe_symbol *left = &s->symbols[c.pos];
        if (left->id == GW_VOCAB_NONE || left->next == NIL) continue;
        struct gw_bpe_symbol *right = &s->symbols[left->next];
        const struct gw_merge *m = slot_of(b, left->id, right->id);
        if (m->left == GW_VOCAB_NONE || m->id != c.id) continue; /* a neighbour has changed since */
        left->id = c.id;
        left->next = right->next;
        right->id = GW_VOCAB_NONE;
        if (left->next != NIL) s->symbols[left->next].prev = c.pos;
        TRY(consider(b, s, left->prev));
        TRY(consider(b, s, c.pos));
    }
    return GW_OK;
}

gw_err_t gw_bpe_encode(const struct gw_bpe *b, const uint8_t *word, size_t len, struct gw_bpe_scratch *s,
                       struct gw_ids *out)
{
    assert(len < NIL / 2);
    if (b->ignore_merges) {
        uint32_t id = gw_vocab_find(b->vocab, word, len);
        if (id != GW_VOCAB_NONE) return gw_ids_put(out, id);
    }
    uint32_t count = 0;
    if (b->all_bytes && len / b->vocab->longest > out->max - out->len) return GW_ERR_LIMIT;
    TRY(spread(b, word, len, s, &count));
    if (count == 0) return GW_OK;
    TRY(merge_all(b, s, count));
    for (uint32_t i = 0; i != NIL; i = s->symbols[i].next) TRY(gw_ids_put(out, s->symbols[i].id));
    return GW_OK;
}
