/* Vocabulary: the bytes of each token id, and the id of a run of bytes.
 *
 * Tokens are put once each while loading; afterwards it is immutable. Ids may have holes (no bytes).
 *
 * Owner: init/fini, caller memory. Thread: any, once loaded. Units: bytes, token ids.
 * Errors: GW_ERR_MEMORY, GW_ERR_INPUT (an id or word that is there already). Source: own design. */
#ifndef GW_CONTROLLER_VOCAB_H
#define GW_CONTROLLER_VOCAB_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define GW_VOCAB_MAX       (1u << 20)  /* ids; the largest released vocabularies have 2^18 */
#define GW_VOCAB_BYTES_MAX (64u << 20) /* of all tokens together; Llama-3's have 1 MB */
#define GW_VOCAB_NONE      UINT32_MAX  /* no such token */

struct gw_vocab_entry {
    uint32_t offset, len; /* in bytes */
    bool used, special;
};

struct gw_vocab {
    uint32_t size; /* one above the highest id */
    struct gw_vocab_entry *entries;
    struct gw_buf bytes;
    uint32_t *slots; /* open addressing over words: id, or GW_VOCAB_NONE */
    uint32_t mask;   /* slots - 1 */
    uint64_t seed;   /* secret: a file cannot choose colliding words */
    size_t longest;  /* bytes of the longest word */
};

/* Room for ids below size (1..GW_VOCAB_MAX). */
gw_err_t gw_vocab_init(struct gw_vocab *v, uint32_t size) GW_MUST_USE;
void gw_vocab_fini(struct gw_vocab *v);

/* Gives id < size its bytes. A word can be found by gw_vocab_find, a token that is none cannot. */
gw_err_t gw_vocab_put(struct gw_vocab *v, uint32_t id, const void *bytes, size_t len, bool word) GW_MUST_USE;

/* The id of the word with these bytes, or GW_VOCAB_NONE. */
uint32_t gw_vocab_find(const struct gw_vocab *v, const void *bytes, size_t len);

/* The bytes of id; NULL and len 0 if there is none. */
const char *gw_vocab_bytes(const struct gw_vocab *v, uint32_t id, size_t *len);

#endif
