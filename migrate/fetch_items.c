#include "migrate/fetch_items.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* An item's byte: its state, and how many sources could not give it. */
enum item_state { MISSING, ASKED, COMING, THERE };
#define STATE_BITS 2

#define ASK_NAMES_MAX (GW_PAGE_ITEMS_MAX / GW_PAGE_IDS_MAX) /* so that any pages may be wanted of each */

enum block_state { OPEN, CLAIMED, DONE, LOST };

struct fetch_block {
    uint32_t slot;   /* while claimed */
    uint32_t left;   /* pages that are not there */
    uint32_t flying; /* pages that are asked or coming: streams may write to the slot */
    enum block_state state;
    bool hopeless; /* some page of it will not come: lost when nothing flies */
};

static enum item_state state_of(uint8_t item)
{
    return item & ((1 << STATE_BITS) - 1);
}

static uint32_t tries_of(uint8_t item)
{
    return item >> STATE_BITS;
}

static uint8_t item_of(enum item_state state, uint32_t tries)
{
    return (uint8_t)(tries << STATE_BITS | state);
}

static uint8_t *item_at(struct fetch_items *it, uint32_t block, uint32_t page)
{
    return &it->items[(size_t)block * it->pages_len + page];
}

static struct gw_page_id id_of(const struct fetch_items *it, uint32_t page)
{
    struct gw_page_rect want = it->config->want;
    uint32_t heads = gw_page_rect_heads(want);
    return (struct gw_page_id){(uint16_t)(want.g0 + page / heads), (uint16_t)(want.h0 + page % heads)};
}

/* The source to ask after `tries` could not give the page; steps over dead ones. GW_GEOMETRY_NONE: none is left. */
static uint32_t source_after(const struct fetch_items *it, uint32_t page, uint32_t *tries)
{
    struct gw_page_id id = id_of(it, page);
    uint32_t len = it->config->sources_len, planned = it->config->from[page], nth = 0;
    if (planned == GW_GEOMETRY_NONE) return GW_GEOMETRY_NONE;
    for (uint32_t i = 0; i < len; i++) {
        uint32_t s = (planned + i) % len;
        if (!gw_page_rect_has(it->config->sources[s].pages, id.group, id.head)) continue;
        if (nth++ < *tries) continue;
        if (!it->dead[s]) return s;
        ++*tries;
    }
    return GW_GEOMETRY_NONE;
}

/* ---- blocks ---- */

static void settle(struct fetch_items *it, struct fetch_block *b, enum block_state state)
{
    b->state = state;
    it->unsettled--;
}

/* Some page of it will not come. */
static void lose(struct fetch_items *it, struct fetch_block *b)
{
    b->hopeless = true;
    if (b->flying > 0) return; /* its last page that is on its way ends it */
    if (b->state == CLAIMED) it->config->sink.abandon(it->config->sink.arg, b->slot);
    it->result->absent++;
    settle(it, b, LOST);
}

static void complete(struct fetch_items *it, uint32_t block)
{
    struct fetch_block *b = &it->blocks[block];
    it->config->sink.commit(it->config->sink.arg, b->slot, &it->names[block],
                            it->sums + (size_t)block * it->pages_len);
    it->there[block] = true;
    it->result->blocks++;
    settle(it, b, DONE);
}

static bool is_open(const struct fetch_block *b)
{
    return (b->state == OPEN || b->state == CLAIMED) && !b->hopeless;
}

/* A missing page looks for its source. */
static void look_again(struct fetch_items *it, uint32_t block, uint32_t page)
{
    uint32_t tries = tries_of(*item_at(it, block, page));
    uint32_t source = source_after(it, page, &tries);
    if (source == GW_GEOMETRY_NONE)
        lose(it, &it->blocks[block]);
    else if (block < it->first[source])
        it->first[source] = block;
}

static void look_at_all(struct fetch_items *it)
{
    for (uint32_t block = 0; block < it->names_len; block++)
        for (uint32_t page = 0; page < it->pages_len && is_open(&it->blocks[block]); page++)
            if (state_of(*item_at(it, block, page)) == MISSING) look_again(it, block, page);
}

/* ---- life ---- */

static void free_arrays(struct fetch_items *it)
{
    free(it->items);
    free(it->sums);
    free(it->blocks);
}

gw_err_t fetch_items_init(struct fetch_items *it, const struct gw_peer_fetch_config *config,
                          const struct gw_block_name *names, uint32_t len, bool *there,
                          struct gw_fetch_result *result)
{
    *it = (struct fetch_items){.config = config, .names = names, .names_len = len};
    it->pages_len = gw_page_rect_pages(config->want);
    it->there = there;
    it->result = result;
    it->items = calloc(len, it->pages_len);
    it->sums = calloc((size_t)len * it->pages_len, sizeof *it->sums);
    it->blocks = calloc(len, sizeof *it->blocks);
    if (!it->items || !it->sums || !it->blocks) {
        free_arrays(it);
        return GW_ERR_MEMORY;
    }
    it->unsettled = len;
    for (uint32_t i = 0; i < len; i++) it->blocks[i].left = it->pages_len;
    look_at_all(it);
    return GW_OK;
}

void fetch_items_fini(struct fetch_items *it)
{
    for (uint32_t i = 0; i < it->names_len; i++) {
        struct fetch_block *b = &it->blocks[i];
        assert(b->flying == 0);
        if (b->state == CLAIMED) it->config->sink.abandon(it->config->sink.arg, b->slot);
    }
    free_arrays(it);
}

/* ---- asking ---- */

static bool is_for(struct fetch_items *it, uint32_t source, uint32_t block, uint32_t page)
{
    uint8_t *item = item_at(it, block, page);
    uint32_t tries = tries_of(*item);
    return state_of(*item) == MISSING && source_after(it, page, &tries) == source;
}

static bool any_of(struct fetch_items *it, uint32_t source, uint32_t block)
{
    for (uint32_t page = 0; page < it->pages_len; page++)
        if (is_for(it, source, block, page)) return true;
    return false;
}

bool fetch_items_any(struct fetch_items *it, uint32_t source)
{
    for (; it->first[source] < it->names_len; it->first[source]++)
        if (is_open(&it->blocks[it->first[source]]) && any_of(it, source, it->first[source])) return true;
    return false;
}

/* A slot for the block, if it has none. */
static bool claim(struct fetch_items *it, uint32_t block)
{
    struct fetch_block *b = &it->blocks[block];
    const struct gw_page_sink *sink = &it->config->sink;
    if (b->state == CLAIMED) return true;
    if (sink->claim(sink->arg, &it->names[block], &b->slot) != GW_OK) {
        it->result->no_room++;
        settle(it, b, LOST);
        return false;
    }
    b->state = CLAIMED;
    return true;
}

/* Where the request has the page; adds it. FETCH_NOWHERE: there is no room. */
static uint16_t place(const struct fetch_items *it, struct fetch_ask *ask, uint32_t page)
{
    struct gw_page_request *r = &ask->request;
    if (ask->page_at[page] == FETCH_NOWHERE && r->pages_len < GW_PAGE_IDS_MAX) {
        r->pages[r->pages_len] = id_of(it, page);
        ask->page_at[page] = r->pages_len++;
    }
    return ask->page_at[page];
}

/* The items of a request are wanted by place; its bitmap is made when all places are known. */
static void put_wanted(struct fetch_items *it, struct fetch_ask *ask)
{
    struct gw_page_request *r = &ask->request;
    memset(r->wanted, 0, sizeof r->wanted);
    for (uint32_t name = 0; name < r->names_len; name++)
        for (uint32_t page = 0; page < it->pages_len; page++) {
            uint8_t *item = item_at(it, ask->blocks[name], page);
            uint32_t tries = tries_of(*item);
            if (ask->page_at[page] == FETCH_NOWHERE || state_of(*item) != MISSING ||
                source_after(it, page, &tries) != ask->source)
                continue;
            gw_page_want(r, name, ask->page_at[page]);
            *item = item_of(ASKED, tries); /* with those that were passed over */
            it->blocks[ask->blocks[name]].flying++;
        }
}

/* Makes room in the request for the block's pages of that source. False: the request is full. */
static bool add_block(struct fetch_items *it, struct fetch_ask *ask, uint32_t block)
{
    struct gw_page_request *r = &ask->request;
    const struct gw_page_sink *sink = &it->config->sink;
    bool whole = true;
    if (r->names_len == ASK_NAMES_MAX || ask->bytes >= GW_FETCH_ASK_BYTES) return false;
    if (!claim(it, block)) return true;
    for (uint32_t page = 0; page < it->pages_len; page++) {
        uint32_t bytes = 0;
        if (!is_for(it, ask->source, block, page)) continue;
        if (place(it, ask, page) == FETCH_NOWHERE) {
            whole = false;
            continue;
        }
        sink->page(sink->arg, it->blocks[block].slot, id_of(it, page), &bytes);
        ask->bytes += bytes;
    }
    ask->blocks[r->names_len] = block;
    r->names[r->names_len++] = it->names[block];
    return whole;
}

bool fetch_items_ask(struct fetch_items *it, uint32_t source, struct fetch_ask *ask)
{
    struct gw_page_request *r = &ask->request;
    ask->source = source;
    ask->bytes = 0;
    ask->last_name = 0;
    r->names_len = r->pages_len = 0;
    memset(ask->page_at, 0xFF, it->pages_len * sizeof *ask->page_at); /* FETCH_NOWHERE */
    if (!fetch_items_any(it, source)) return false;
    for (uint32_t b = it->first[source]; b < it->names_len; b++) {
        if (is_open(&it->blocks[b]) && any_of(it, source, b) && !add_block(it, ask, b)) break;
    }
    put_wanted(it, ask);
    ask->used = r->names_len > 0;
    return ask->used;
}

/* ---- answers ---- */

/* The request's name; a source answers in the order of the request, so it is mostly the one of the last call. */
static bool name_at(const struct fetch_ask *ask, const struct gw_block_name *name, uint32_t *at)
{
    for (uint32_t i = 0; i < ask->request.names_len; i++, *at = (*at + 1) % ask->request.names_len)
        if (memcmp(&ask->request.names[*at], name, sizeof *name) == 0) return true;
    return false;
}

/* Is the request waiting for that page of its name? */
static bool waits_for(const struct fetch_ask *ask, uint32_t name, uint32_t page)
{
    uint16_t at = ask->page_at[page];
    return at != FETCH_NOWHERE && gw_page_wanted(&ask->request, name, at);
}

bool fetch_items_take(struct fetch_items *it, struct fetch_ask *ask, const struct gw_page_entry *entry,
                      uint32_t *name, uint32_t *page, uint8_t **to)
{
    const struct gw_page_sink *sink = &it->config->sink;
    uint32_t bytes = 0;
    if (!gw_page_rect_has(it->config->want, entry->id.group, entry->id.head)) return false;
    if (!name_at(ask, &entry->name, &ask->last_name)) return false;
    *name = ask->last_name;
    *page = gw_page_rect_index(it->config->want, entry->id.group, entry->id.head);
    if (!waits_for(ask, *name, *page)) return false;
    uint8_t *item = item_at(it, ask->blocks[*name], *page);
    if (state_of(*item) != ASKED) return false; /* twice in one frame */
    *to = sink->page(sink->arg, it->blocks[ask->blocks[*name]].slot, entry->id, &bytes);
    if (!*to || bytes != entry->bytes) return false;
    *item = item_of(COMING, tries_of(*item));
    return true;
}

/* The page of the ask is not on its way any more; returns its item. */
static uint8_t *land(struct fetch_items *it, struct fetch_ask *ask, uint32_t name, uint32_t page)
{
    uint32_t block = ask->blocks[name];
    uint8_t *item = item_at(it, block, page);
    assert(state_of(*item) == ASKED || state_of(*item) == COMING);
    gw_page_unwant(&ask->request, name, ask->page_at[page]);
    it->blocks[block].flying--;
    return item;
}

void fetch_items_give(struct fetch_items *it, struct fetch_ask *ask, uint32_t name, uint32_t page,
                      uint64_t checksum)
{
    uint32_t block = ask->blocks[name];
    struct fetch_block *b = &it->blocks[block];
    *land(it, ask, name, page) = item_of(THERE, 0);
    it->sums[(size_t)block * it->pages_len + page] = checksum;
    it->result->pages++;
    if (--b->left == 0)
        complete(it, block);
    else if (b->hopeless && b->state == CLAIMED)
        lose(it, b);
}

void fetch_items_end(struct fetch_items *it, struct fetch_ask *ask, uint32_t name, uint32_t page,
                     enum fetch_end end)
{
    uint32_t block = ask->blocks[name];
    struct fetch_block *b = &it->blocks[block];
    uint8_t *item = land(it, ask, name, page);
    *item = item_of(MISSING, tries_of(*item) + (end == FETCH_REFUSED));
    it->result->refused += end == FETCH_REFUSED;
    look_again(it, block, page);
    if (b->hopeless && b->state == CLAIMED) lose(it, b);
}

bool fetch_items_absent(struct fetch_items *it, struct fetch_ask *ask, const struct gw_page_absent *absent)
{
    struct gw_page_id id = absent->id;
    bool any = false, all = id.group == GW_PAGE_ALL && id.head == GW_PAGE_ALL;
    if (!all && !gw_page_rect_has(it->config->want, id.group, id.head)) return false;
    if (!name_at(ask, &absent->name, &ask->last_name)) return false;
    uint32_t first = all ? 0 : gw_page_rect_index(it->config->want, id.group, id.head);
    uint32_t end = all ? it->pages_len : first + 1;
    for (uint32_t page = first; page < end; page++) {
        if (!waits_for(ask, ask->last_name, page)) continue;
        fetch_items_end(it, ask, ask->last_name, page, FETCH_REFUSED);
        any = true;
    }
    return any;
}

void fetch_items_finish(struct fetch_items *it, struct fetch_ask *ask, enum fetch_end end)
{
    for (uint32_t name = 0; name < ask->request.names_len; name++)
        for (uint32_t page = 0; page < it->pages_len; page++)
            if (waits_for(ask, name, page)) fetch_items_end(it, ask, name, page, end);
    ask->used = false;
}

void fetch_items_kill(struct fetch_items *it, uint32_t source)
{
    if (it->dead[source]) return;
    it->dead[source] = true;
    look_at_all(it);
}
