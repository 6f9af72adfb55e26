/* Arena: memory that is taken in small pieces and given back all at once, with a maximum.
 *
 * The first failure (memory, maximum) is sticky. Pieces are aligned for any type and not zeroed.
 *
 * Owner: init/fini, caller memory; all pieces die in fini. Thread: one. Units: bytes. Errors: sticky `err`
 * (GW_ERR_LIMIT, GW_ERR_MEMORY). Source: own design. */
#ifndef GW_CONTROLLER_ARENA_H
#define GW_CONTROLLER_ARENA_H

#include <stdint.h>

#include "base/err.h"

struct gw_arena_chunk;

struct gw_arena {
    struct gw_arena_chunk *top;
    size_t taken, max; /* bytes of all chunks */
    gw_err_t err;
};

void gw_arena_init(struct gw_arena *a, size_t max);
void gw_arena_fini(struct gw_arena *a);

/* NULL after a failure, now and ever after. */
void *gw_arena_alloc(struct gw_arena *a, size_t size);

/* A piece that holds the len bytes at piece (anywhere in memory), with room for more bytes behind them. If
 * they end where the arena ends, they stay where they are: appending again and again costs what is appended.
 */
char *gw_arena_extend(struct gw_arena *a, const char *piece, size_t len, size_t more);

#endif
