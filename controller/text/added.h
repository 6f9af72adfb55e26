/* Added tokens: finds the literal tokens (special or not) that are cut out of a text before it is split.
 *
 * Of the tokens that match at the leftmost place, the longest wins. The matcher is a trie of bytes whose
 * edges live in one hash table.
 *
 * Owner: init/fini, caller memory. Thread: immutable once loaded. Units: bytes. Errors: GW_ERR_MEMORY.
 * Source: `tokenizers` (added_vocabulary.rs), which uses Aho-Corasick with leftmost-longest semantics. */
#ifndef GW_CONTROLLER_ADDED_H
#define GW_CONTROLLER_ADDED_H

#include <stdint.h>

#include "base/err.h"

#define GW_ADDED_MAX       65536u     /* tokens */
#define GW_ADDED_BYTES_MAX 512u       /* of one token: bounds the cost per byte of text */
#define GW_ADDED_ALL_MAX   (4u << 20) /* bytes of all of them */

struct gw_added_node {
    uint64_t key; /* parent << 8 | byte, plus 1; 0 = free slot */
    uint32_t node;
};

struct gw_added {
    struct gw_added_node *slots;
    uint32_t mask, nodes;
    uint32_t *token_at; /* per node: id + 1 of the token that ends there, 0 = none */
    uint32_t capacity;  /* nodes */
    uint64_t seed;
};

/* Room for tokens of total_bytes (<= GW_ADDED_ALL_MAX) together. */
gw_err_t gw_added_init(struct gw_added *a, size_t total_bytes) GW_MUST_USE;
void gw_added_fini(struct gw_added *a);

/* Adds a token of 1..GW_ADDED_BYTES_MAX bytes. */
void gw_added_put(struct gw_added *a, const char *text, size_t len, uint32_t id);

/* Finds the first match at or behind from. False if there is none. */
bool gw_added_find(const struct gw_added *a, const char *text, size_t len, size_t from, size_t *start,
                   size_t *match_len, uint32_t *id);

#endif
