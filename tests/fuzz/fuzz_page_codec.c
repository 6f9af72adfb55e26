/* migrate/page_codec, pull_codec, cell_codec: whatever a peer sends as a frame is refused, or is within the limits that its readers rely on. The
 * checksum of a head is not looked at first, so that what it keeps out is read, too. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/cell_codec.h"
#include "migrate/pull_codec.h"
#include "tests/fuzz/fuzz.h"

static void read_request(const uint8_t *table, uint32_t len)
{
    static _Thread_local struct gw_page_request r; /* 18 KiB */
    static _Thread_local uint8_t again[GW_PAGE_TABLE_MAX];
    if (gw_page_request_get(table, len, &r, NULL) != GW_OK) return;
    assert(r.names_len >= 1 && r.names_len <= GW_PAGE_NAMES_MAX);
    assert(r.pages_len >= 1 && r.pages_len <= GW_PAGE_IDS_MAX);
    assert((uint32_t)r.names_len * r.pages_len <= GW_PAGE_ITEMS_MAX);
    assert(gw_page_request_put(again, &r) == len && memcmp(again, table, len) == 0);
}

static void read_pages(const struct gw_page_head *head, const uint8_t *table)
{
    static _Thread_local struct gw_page_entry entries[GW_PAGE_ENTRIES_MAX];
    uint8_t again[GW_PAGE_ENTRY_BYTES];
    uint32_t len = 0;
    uint64_t bytes = 0;
    if (gw_page_entries_get(head, table, entries, &len, NULL) != GW_OK) return;
    assert(len >= 1 && len <= GW_PAGE_ENTRIES_MAX);
    for (uint32_t i = 0; i < len; i++) {
        assert(entries[i].bytes >= 1 && entries[i].bytes <= GW_PAGE_BYTES_MAX);
        bytes += entries[i].bytes;
        gw_page_entry_put(again, &entries[i]);
        assert(memcmp(again, table + (size_t)i * GW_PAGE_ENTRY_BYTES, sizeof again) == 0);
    }
    assert(bytes == head->payload_bytes && bytes <= GW_PAGE_PAYLOAD_MAX);
}

static void read_absents(const struct gw_page_head *head, const uint8_t *table)
{
    uint8_t again[GW_PAGE_ABSENT_BYTES];
    for (uint32_t i = 0; i < head->table_bytes / GW_PAGE_ABSENT_BYTES; i++) {
        const struct gw_page_absent absent = gw_page_absent_get(table, i);
        gw_page_absent_put(again, &absent);
        assert(memcmp(again, table + (size_t)i * GW_PAGE_ABSENT_BYTES, sizeof again) == 0);
    }
}

static bool is_twin(const struct gw_pull *p, uint32_t i, uint32_t k)
{
    return memcmp(&p->names[i], &p->names[k], sizeof *p->names) == 0 || p->slots[i] == p->slots[k];
}

static void read_pull(const struct gw_page_head *head, const uint8_t *table)
{
    static _Thread_local struct gw_pull_table read; /* 88 KiB */
    if (gw_pull_get(head, table, &read, NULL) != GW_OK) return;
    const struct gw_pull *p = &read.pull;
    assert(p->names_len >= 1 && p->names_len <= GW_PULL_NAMES_MAX && p->budget_ms <= GW_PULL_BUDGET_MAX);
    assert(p->holders_len <= GW_FETCH_SOURCES_MAX);
    for (uint32_t i = 1; i < p->names_len && i < 64; i++)
        for (uint32_t k = 0; k < i; k++) assert(!is_twin(p, i, k));
    for (uint32_t i = 0; i < p->holders_len; i++) assert(gw_page_rect_pages(p->holders[i].pages) > 0);
    struct gw_buf again;
    gw_buf_init(&again, GW_PULL_TABLE_MAX);
    assert(gw_pull_put(&again, p) == GW_OK);
    assert(again.len == head->table_bytes && memcmp(again.data, table, again.len) == 0);
    gw_buf_fini(&again);
}

static void read_pulled(const struct gw_page_head *head, const uint8_t *table)
{
    static _Thread_local uint8_t from[GW_PULL_NAMES_MAX], again[GW_PULLED_TABLE_MAX];
    enum gw_page_status status = GW_PAGE_STATUSES;
    uint32_t len = head->table_bytes < 4 ? 0 : head->table_bytes - 4;
    if (gw_pulled_get(table, head->table_bytes, &status, from, len, NULL) != GW_OK) return;
    assert(status < GW_PAGE_STATUSES && (status == GW_PAGE_SERVED || len == 0));
    for (uint32_t i = 0; i < len; i++) assert(from[i] < GW_PULL_FROMS);
    assert(gw_pulled_put(again, status, from, len) == head->table_bytes);
    assert(memcmp(again, table, head->table_bytes) == 0);
}

static void read_cell_ask(const uint8_t *table)
{
    struct gw_cell_ask ask;
    uint8_t again[GW_CELL_ASK_BYTES];
    if (gw_cell_ask_get(table, &ask, NULL) != GW_OK) return;
    assert(ask.from < ask.bytes && gw_cell_piece_bytes(ask.bytes, ask.from) >= 1);
    gw_cell_ask_put(again, &ask);
    assert(memcmp(again, table, sizeof again) == 0);
}

static void read_cell_piece(const struct gw_page_head *head, const uint8_t *table)
{
    uint8_t again[GW_CELL_PIECE_HEAD_BYTES];
    const struct gw_cell_piece piece = gw_cell_piece_get(table);
    gw_cell_piece_put(again, &piece);
    assert(memcmp(again, table, sizeof again) == 0);
    assert(head->payload_bytes >= 1 && head->payload_bytes <= GW_CELL_PIECE_BYTES);
}

static void read_cell_end(const uint8_t *table)
{
    enum gw_cell_status status = GW_CELL_STATUSES;
    uint8_t again[GW_CELL_END_BYTES];
    if (gw_cell_end_get(table, &status, NULL) != GW_OK) return;
    assert(status < GW_CELL_STATUSES);
    gw_cell_end_put(again, status);
    assert(memcmp(again, table, sizeof again) == 0);
}

static uint32_t table_max(enum gw_page_kind kind)
{
    if (kind == GW_PAGE_PULL) return GW_PULL_TABLE_MAX;
    return kind == GW_PAGE_PULLED ? GW_PULLED_TABLE_MAX : GW_PAGE_TABLE_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct gw_page_head head;
    struct gw_page_done done;
    uint8_t again[GW_PAGE_HEAD_BYTES];
    if (len < GW_PAGE_HEAD_BYTES || gw_page_head_get(bytes, &head, NULL) != GW_OK) return 0;
    const uint8_t *table = bytes + GW_PAGE_HEAD_BYTES;
    assert(head.table_bytes >= 1 && head.table_bytes <= table_max(head.kind));
    if (len - GW_PAGE_HEAD_BYTES < head.table_bytes) return 0;
    gw_page_head_put(again, &head, table);
    assert(memcmp(again, bytes, GW_PAGE_HEAD_BYTES - 8) == 0);
    assert((memcmp(again, bytes, sizeof again) == 0) == (gw_page_check(bytes, &head, table, NULL) == GW_OK));
    switch (head.kind) {
    case GW_PAGE_REQUEST: read_request(table, head.table_bytes); break;
    case GW_PAGE_PAGES: read_pages(&head, table); break;
    case GW_PAGE_ABSENT: read_absents(&head, table); break;
    case GW_PAGE_DONE:
        if (gw_page_done_get(table, &done, NULL) == GW_OK) assert(done.status < GW_PAGE_STATUSES);
        break;
    case GW_PAGE_PULL: read_pull(&head, table); break;
    case GW_PAGE_PULLED: read_pulled(&head, table); break;
    case GW_PAGE_CELL_ASK: read_cell_ask(table); break;
    case GW_PAGE_CELL_PIECE: read_cell_piece(&head, table); break;
    case GW_PAGE_CELL_END: read_cell_end(table); break;
    }
    return 0;
}
