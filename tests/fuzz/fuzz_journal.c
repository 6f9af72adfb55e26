/* controller/journal_segment and its table: any file is read, dropped from its torn tail on, or refused, and what holds
 * the seal of our key is read no less carefully.
 *
 *     input   0  1  even: the rest is a file; odd: a batch, which is put into a file under our seal first
 *             1     the rest */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "controller/journal_table.h"
#include "tests/fuzz/fuzz.h"

#define KEY "fuzz cluster key fuzz cluster key"

static const struct gw_segment_head fixed_head = {.number = 1, .term = 2, .writer = {{7}}};

static gw_err_t look(void *arg, uint64_t entry, const void *pieces, size_t len)
{
    size_t *bytes = arg;
    struct gw_reader r;
    const uint8_t *piece;
    assert(entry != 0);
    gw_reader_init(&r, pieces, len);
    while (r.pos < r.len) gw_read_bytes(&r, len, &piece);
    assert(r.err == GW_OK);
    *bytes += len;
    return GW_OK;
}

static void read_file(struct gw_record_sealer *sealer, const uint8_t *bytes, size_t len)
{
    struct gw_journal_table *table = gw_journal_table_create();
    const struct gw_segment_reader reader = {gw_journal_table_change, table};
    struct gw_segment_head head;
    struct gw_err_ctx ctx = {0};
    size_t torn = 0, seen = 0;
    assert(table);
    gw_err_t err = gw_segment_read(bytes, len, sealer, &reader, &head, &torn, &ctx);
    assert(err == GW_OK || err == GW_ERR_INPUT || err == GW_ERR_MEMORY || err == GW_ERR_LIMIT);
    assert(err == GW_OK ? torn <= len - GW_SEGMENT_HEAD_BYTES : ctx.text[0] != '\0');
    assert(gw_journal_table_each(table, look, &seen) == GW_OK);
    assert(seen == gw_journal_table_bytes(table));
    gw_journal_table_destroy(table);
}

static void read_batch(struct gw_record_sealer *sealer, const uint8_t *batch, size_t len)
{
    struct gw_buf file;
    gw_buf_init(&file, 1 << 24);
    gw_segment_put_head(&file, &fixed_head);
    if (gw_segment_put_frame(&file, sealer, &fixed_head, 0, file.len, batch, len) == GW_OK)
        read_file(sealer, file.data, file.len);
    gw_buf_fini(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct gw_record_sealer *sealer = NULL;
    if (len == 0) return 0;
    assert(gw_record_sealer_create(KEY, sizeof KEY - 1, &sealer, NULL) == GW_OK);
    if (bytes[0] % 2 == 0)
        read_file(sealer, bytes + 1, len - 1);
    else
        read_batch(sealer, bytes + 1, len - 1);
    gw_record_sealer_destroy(sealer);
    return 0;
}
