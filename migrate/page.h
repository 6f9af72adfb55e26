/* Page: which one it is, and how large one can be.
 *
 * A page is block ∩ cell (DESIGN part 2): the KV of a block's tokens, of one KV head, in the layers of one group. Pool,
 * wire and store name it by its block's name and this id.
 *
 * Owner: plain values. Thread: any. Units: bytes. Errors: none. Source: DESIGN part 2. */
#ifndef GW_MIGRATE_PAGE_H
#define GW_MIGRATE_PAGE_H

#include <stdint.h>

/* 8 layers × K, V × 16 tokens × 1024 elements of f32; twice what models may have (512 × f32 is 512 KiB). */
#define GW_PAGE_BYTES_MAX (1u << 20)

struct gw_page_id {
    uint16_t group, head; /* layer group, KV head */
};

#endif
