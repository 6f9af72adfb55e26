/* Byte-pair encoding: one word's bytes become token ids by merging neighbours, lowest rank first.
 *
 *     "hello" ─ a symbol per byte ─► h e l l o ─ merge (l,l)? (h,e)? by rank ─► he llo ─► hello
 *
 * Symbols are a linked list; a heap holds the possible merges by (rank, position), so that a word of n bytes
 * takes O(n log n) whatever it looks like. Entries that a merge made stale are recognised when they are
 * popped.
 *
 * Owner: init/fini; the scratch is the caller's, one per thread, reused from word to word. Thread: the merges
 * are immutable once loaded. Units: bytes, token ids. Errors: GW_ERR_MEMORY, GW_ERR_LIMIT.
 * Source: Sennrich et al. 2016; order of merges as in Hugging Face `tokenizers` (models/bpe/word.rs). */
#ifndef GW_CONTROLLER_BPE_H
#define GW_CONTROLLER_BPE_H

#include "controller/text/vocab.h"

#define GW_BPE_MERGES_MAX (1u << 21) /* Llama-3 has 280,147 */

struct gw_merge {
    uint32_t left, right; /* left GW_VOCAB_NONE = free slot */
    uint32_t rank;        /* lower goes first */
    uint32_t id;          /* what the two become */
};

struct gw_bpe {
    const struct gw_vocab *vocab;
    uint32_t byte_ids[256]; /* GW_VOCAB_NONE: this byte has no token and is dropped, as the reference does */
    struct gw_merge *slots; /* open addressing by (left, right) */
    uint32_t mask;
    bool all_bytes;     /* every byte has a token */
    bool ignore_merges; /* a word that is in the vocabulary whole is taken as it is */
    uint64_t seed;
};

/* Room for merges pairs (at most GW_BPE_MERGES_MAX). vocab must be loaded and outlive it. */
gw_err_t gw_bpe_init(struct gw_bpe *b, const struct gw_vocab *vocab, uint32_t merges,
                     bool ignore_merges) GW_MUST_USE;
void gw_bpe_fini(struct gw_bpe *b);

/* Adds one pair; a pair that is there already gets the new rank. At most as many as init was told. */
void gw_bpe_put(struct gw_bpe *b, struct gw_merge merge);

/* Growing list of ids, with a maximum. */
struct gw_ids {
    uint32_t *ids;
    size_t len, cap, max;
};

gw_err_t gw_ids_put(struct gw_ids *out, uint32_t id) GW_MUST_USE;

struct gw_bpe_symbol;
struct gw_bpe_candidate;

struct gw_bpe_scratch {
    struct gw_bpe_symbol *symbols;
    size_t symbols_cap;
    struct gw_bpe_candidate *heap;
    size_t heap_len, heap_cap;
};

void gw_bpe_scratch_fini(struct gw_bpe_scratch *s);

/* Appends the ids of one word (len < 2^31). Start with a zeroed scratch. A word that must give more ids than out
 * may hold is refused before any work. */
gw_err_t gw_bpe_encode(const struct gw_bpe *b, const uint8_t *word, size_t len, struct gw_bpe_scratch *s,
                       struct gw_ids *out) GW_MUST_USE;

#endif
