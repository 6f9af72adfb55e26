/* Page codec: the frames of the page port, by which a rank asks another one for KV pages and gets them, or tells one to, and
 * a worker gets packed weights (their tables: cell_codec.h).
 *
 *     destination                                        source
 *     ── REQUEST(names × pages, which of them) ──────────►
 *     ◄───── PAGES(entries, then their bytes) ──              as often as it takes, 1 MiB or more of bytes each but the last
 *     ◄───────────────── ABSENT(entries) ──                   what it does not have
 *     ◄───────── DONE(status, counts) ──                      each wanted page was in one of them before
 *
 *     leader of a pipeline                               rank of it
 *     ── PULL(blocks, slots, holders, budget) ───────────►    fetch these (peer_pull.h)
 *     ◄──── PULLED(status, what became of each) ──
 *
 *     worker that lacks weights                          worker that has them
 *     ── CELL_ASK(part, from where on) ──────────────────►    (cell_codec.h)
 *     ◄─────── CELL_PIECE(where, then its bytes) ──           as often as it takes
 *     ◄───────────────── CELL_END(status) ──
 *
 * Every frame: HEAD, table, and for PAGES and CELL_PIECE the bytes. Integers are little-endian; KV lies as in memory.
 *
 *     HEAD                                                    REQUEST table
 *     byte  size  field                                       byte  size  field
 *        0     4  magic "GWK2"                                   0     2  names N, 1-512
 *        4     1  kind                                           2     2  pages P, 1-512; N × P <= 65536
 *        5     3  0                                              4     4  0
 *        8     4  table bytes                                    8    16  each name, N times
 *       12     4  payload bytes: PAGES, CELL_PIECE only               4  each page: group (2), KV head (2), P times
 *       16     8  term        \                                       ⌈N·P/8⌉  bit n·P + p: page p of block n is wanted;
 *       24     8  generation   } of the destination                            the least significant bit first
 *       32     4  pipeline    /                               PAGES table, 1-512 times
 *       36     4  request     the destination's count            0    16  name
 *       40    16  model fingerprint                              16     2  group
 *       56     8  numerics    of profile and KV type             18     2  KV head
 *       64     4  layer bytes of a page, per layer               20     4  bytes in the payload, in this order
 *       68     4  0                                              24     8  their checksum
 *       72     8  checksum    of bytes 0-71 and the table     ABSENT table, 1-512 times
 *                                                                0    16  name
 *     DONE table                                                16     2  group    \ both 0xFFFF: every wanted page
 *        0     4  status                                        18     2  KV head  / of the block
 *        4     4  pages given
 *        8     4  pages absent
 *
 *     PULL table (pull_codec.h)                               PULLED table (pull_codec.h)
 *        0     2  names N, 1-4096                                0     4  status
 *        2     1  holders H, 0-63                                4     1  where from, N times when served, else none:
 *        3     1  1: in the background, 0: not                            0 lost, 1 had, 2 peer, 3 store
 *        4     4  budget, ms
 *        8     8  after step
 *       16    16  each name, N times, all different
 *              4  each slot, N times, all different
 *             84  each holder, H times:
 *                  0   4  its rank
 *                  4   8  pages: groups from, to, KV heads from, to (2 each), not empty
 *                 12  72  address, a NUL and zeros behind it
 *
 * Term, generation, pipeline and request of an answer are those of the question, so a late or repeated answer is known as
 * such. A head that is wrong in itself (magic, kind, lengths, checksum) ends the connection: nobody knows where the next one
 * begins. All else that can be wrong is the reader's to judge, frame by frame: it knows how much to skip.
 *
 * Owner: plain data. Thread: any. Units: bytes. Errors: GW_ERR_PROTO; on error *out is undefined. Nothing is allocated.
 * Compatibility: the magic's digit is raised by any change of what was there; who does not know a kind ends the connection,
 * which is an answer to who can do without. Source: own design; DESIGN parts 5 and 6. */
#ifndef GW_MIGRATE_PAGE_CODEC_H
#define GW_MIGRATE_PAGE_CODEC_H

#include "migrate/block_name.h"
#include "migrate/geometry.h"
#include "migrate/page.h"
#include "migrate/wire.h"

#define GW_PAGE_HEAD_BYTES   80
#define GW_PAGE_ENTRY_BYTES  32
#define GW_PAGE_ABSENT_BYTES 20
#define GW_PAGE_DONE_BYTES   12
#define GW_PAGE_NAMES_MAX    512
#define GW_PAGE_IDS_MAX      512
#define GW_PAGE_ITEMS_MAX    65536      /* of one request */
#define GW_PAGE_ENTRIES_MAX  512        /* of one frame: with a head below IOV_MAX; 1 MiB in pages of 2 KiB */
#define GW_PAGE_BATCH_BYTES  (1u << 20) /* pieces of which plain senders are as fast as they get, too */
#define GW_PAGE_PAYLOAD_MAX  (GW_PAGE_BATCH_BYTES + GW_PAGE_BYTES_MAX)
#define GW_PAGE_TABLE_MAX                                                                                    \
    (8 + GW_PAGE_NAMES_MAX * GW_BLOCK_NAME_BYTES + GW_PAGE_IDS_MAX * 4 + GW_PAGE_ITEMS_MAX / 8)
#define GW_PAGE_ALL 0xFFFF /* group and head of an ABSENT block */

enum gw_page_kind {
    GW_PAGE_REQUEST = 1,
    GW_PAGE_PAGES,
    GW_PAGE_ABSENT,
    GW_PAGE_DONE,
    GW_PAGE_PULL,
    GW_PAGE_PULLED,
    GW_PAGE_CELL_ASK,
    GW_PAGE_CELL_PIECE,
    GW_PAGE_CELL_END
};

enum gw_page_status {
    GW_PAGE_SERVED,  /* look at the counts */
    GW_PAGE_STALE,   /* the asking term or generation is over */
    GW_PAGE_FOREIGN, /* another model, profile, KV type or page size */
    GW_PAGE_REFUSED, /* PULLED: this rank fetches for nobody */
    GW_PAGE_STATUSES
};

/* What may be mixed: pages of equal names have equal bytes iff all of this is equal. */
struct gw_page_model {
    uint8_t fingerprint[GW_FINGERPRINT_BYTES];
    uint64_t numerics;
    uint32_t layer_bytes;
};

struct gw_page_fence {
    uint64_t term, generation;
    uint32_t pipeline;
};

struct gw_page_head {
    enum gw_page_kind kind;
    uint32_t table_bytes, payload_bytes;
    uint32_t request;
    struct gw_page_fence fence;
    struct gw_page_model model;
};

struct gw_page_request {
    uint16_t names_len, pages_len;
    struct gw_block_name names[GW_PAGE_NAMES_MAX];
    struct gw_page_id pages[GW_PAGE_IDS_MAX];
    uint8_t wanted[GW_PAGE_ITEMS_MAX / 8]; /* bit n · pages_len + p */
};

struct gw_page_entry {
    struct gw_block_name name;
    struct gw_page_id id;
    uint32_t bytes;
    uint64_t checksum;
};

struct gw_page_absent {
    struct gw_block_name name;
    struct gw_page_id id;
};

struct gw_page_done {
    enum gw_page_status status;
    uint32_t given, absent;
};

/* profile and kv_type are names ("cpu-bf16dot-1", "bf16"). */
uint64_t gw_page_numerics(const char *profile, const char *kv_type);

bool gw_page_model_equal(const struct gw_page_model *a, const struct gw_page_model *b);
bool gw_page_fence_equal(const struct gw_page_fence *a, const struct gw_page_fence *b);

/* Writes a head; its checksum covers table[head->table_bytes] too. */
void gw_page_head_put(uint8_t out[GW_PAGE_HEAD_BYTES], const struct gw_page_head *head, const uint8_t *table);
/* Lengths are within their kind's limits then, but nothing is known to be as it was sent until gw_page_check. */
gw_err_t gw_page_head_get(const uint8_t in[GW_PAGE_HEAD_BYTES], struct gw_page_head *out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
/* Does the head's checksum fit it and its table? */
gw_err_t gw_page_check(const uint8_t in[GW_PAGE_HEAD_BYTES], const struct gw_page_head *head,
                       const uint8_t *table, struct gw_err_ctx *ctx) GW_MUST_USE;

static inline bool gw_page_wanted(const struct gw_page_request *r, uint32_t name, uint32_t page)
{
    uint32_t bit = name * r->pages_len + page;
    return r->wanted[bit / 8] >> (bit % 8) & 1;
}
static inline void gw_page_want(struct gw_page_request *r, uint32_t name, uint32_t page)
{
    uint32_t bit = name * r->pages_len + page;
    r->wanted[bit / 8] |= (uint8_t)(1u << (bit % 8));
}

static inline void gw_page_unwant(struct gw_page_request *r, uint32_t name, uint32_t page)
{
    uint32_t bit = name * r->pages_len + page;
    r->wanted[bit / 8] &= (uint8_t) ~(1u << (bit % 8));
}

/* Bytes written to out[GW_PAGE_TABLE_MAX]. */
uint32_t gw_page_request_put(uint8_t *out, const struct gw_page_request *request);
gw_err_t gw_page_request_get(const uint8_t *table, uint32_t len, struct gw_page_request *out,
                             struct gw_err_ctx *ctx) GW_MUST_USE;

void gw_page_entry_put(uint8_t out[GW_PAGE_ENTRY_BYTES], const struct gw_page_entry *entry);
/* All entries of a PAGES table; their bytes add up to the head's payload. */
gw_err_t gw_page_entries_get(const struct gw_page_head *head, const uint8_t *table,
                             struct gw_page_entry out[GW_PAGE_ENTRIES_MAX], uint32_t *out_len,
                             struct gw_err_ctx *ctx) GW_MUST_USE;

void gw_page_absent_put(uint8_t out[GW_PAGE_ABSENT_BYTES], const struct gw_page_absent *absent);
/* Entry i of an ABSENT table; there are head->table_bytes / GW_PAGE_ABSENT_BYTES. */
struct gw_page_absent gw_page_absent_get(const uint8_t *table, uint32_t i);

void gw_page_done_put(uint8_t out[GW_PAGE_DONE_BYTES], const struct gw_page_done *done);
gw_err_t gw_page_done_get(const uint8_t table[GW_PAGE_DONE_BYTES], struct gw_page_done *out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
