#include "controller/journal_table.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/id_map.h"

struct entry {
    TAILQ_ENTRY(entry) link;
    uint64_t id;
    struct gw_buf pieces;
};
TAILQ_HEAD(entry_list, entry);

struct gw_journal_table {
    struct gw_id_map map;
    struct entry_list entries; /* in the order in which they began */
    size_t bytes;
};

struct gw_journal_table *gw_journal_table_create(void)
{
    struct gw_journal_table *t = calloc(1, sizeof *t);
    if (t) TAILQ_INIT(&t->entries);
    return t;
}

static void entry_end(struct gw_journal_table *t, struct entry *e)
{
    gw_id_map_remove(&t->map, e->id);
    TAILQ_REMOVE(&t->entries, e, link);
    t->bytes -= e->pieces.len;
    gw_buf_fini(&e->pieces);
    free(e);
}

void gw_journal_table_destroy(struct gw_journal_table *t)
{
    if (!t) return;
    while (!TAILQ_EMPTY(&t->entries)) entry_end(t, TAILQ_FIRST(&t->entries));
    gw_id_map_fini(&t->map);
    free(t);
}

static gw_err_t entry_begin(struct gw_journal_table *t, uint64_t id, struct entry **out)
{
    struct entry *e = calloc(1, sizeof *e);
    if (!e) return GW_ERR_MEMORY;
    e->id = id;
    gw_buf_init(&e->pieces, GW_JOURNAL_LIVE_MAX);
    gw_err_t err = gw_id_map_put(&t->map, id, e);
    if (err != GW_OK) {
        free(e);
        return err;
    }
    TAILQ_INSERT_TAIL(&t->entries, e, link);
    *out = e;
    return GW_OK;
}

gw_err_t gw_journal_table_change(void *arg, const struct gw_change *change)
{
    struct gw_journal_table *t = arg;
    struct entry *e = gw_id_map_get(&t->map, change->entry);
    if (change->kind == GW_CHANGE_END) {
        if (e) entry_end(t, e);
        return GW_OK;
    }
    if (change->len > GW_JOURNAL_LIVE_MAX - t->bytes) return GW_ERR_LIMIT;
    if (!e) TRY(entry_begin(t, change->entry, &e));
    size_t before = e->pieces.len;
    gw_buf_bytes(&e->pieces, change->piece, change->len);
    t->bytes += e->pieces.len - before;
    return e->pieces.err;
}

size_t gw_journal_table_len(const struct gw_journal_table *t)
{
    return t->map.len;
}

size_t gw_journal_table_bytes(const struct gw_journal_table *t)
{
    return t->bytes;
}

gw_err_t gw_journal_table_each(const struct gw_journal_table *t,
                               gw_err_t (*each)(void *arg, uint64_t entry, const void *pieces, size_t len),
                               void *arg)
{
    struct entry *e;
    TAILQ_FOREACH(e, &t->entries, link) TRY(each(arg, e->id, e->pieces.data, e->pieces.len));
    return GW_OK;
}
