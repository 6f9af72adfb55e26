/* worker/step_desc, worker/wish: whatever bytes a leader sends, what is accepted of them stays within tables, batch,
 * vocabulary and room; several descriptors follow each other (u16 length each), for tables are kept between them. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "worker/step_desc.h"

static const struct gw_step_limits limits = {
    .rows = 64, .sequences = 4, .positions = 160, .slots = 50, .vocab = 100};

static void check_seqs(const struct gw_step_desc *d)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < d->seqs_len; i++) {
        const struct gw_step_seq *s = &d->seqs[i];
        assert(s->lane < limits.sequences && (uint64_t)s->position + s->rows <= limits.positions);
        for (uint32_t k = 0; k <= (s->position + s->rows - 1) / GW_BLOCK_TOKENS; k++)
            assert(s->blocks[k] < limits.slots);
        rows += s->rows;
    }
    assert(rows == d->rows);
}

static void check_wish(const struct gw_wish *wish)
{
    const struct gw_pick_want *w = &wish->want;
    const struct gw_pick_edits *e = &w->edits;
    assert(w->keep <= GW_PICK_KEEP_MAX && w->top <= GW_PICK_TOP_MAX && isfinite(w->inverse) &&
           w->inverse >= 0);
    assert(e->added_len + e->taken_len <= GW_WISH_CHANGES_MAX &&
           e->repeated_len + e->masked_len <= GW_WISH_IDS_MAX);
    for (uint32_t i = 0; i < e->added_len; i++) assert(e->added[i].id < limits.vocab);
    for (uint32_t i = 0; i < e->repeated_len; i++) assert(e->repeated[i] < limits.vocab);
    for (uint32_t i = 0; i < e->taken_len; i++) assert(e->taken[i].id < limits.vocab);
    for (uint32_t i = 0; i < e->masked_len; i++) assert(e->masked[i] < limits.vocab);
}

static void check(const struct gw_step_desc *d)
{
    assert(d->rows <= limits.rows && d->seqs_len <= limits.sequences && d->samples_len <= d->seqs_len);
    for (uint32_t i = 0; i < d->rows; i++) assert(d->ids[i] < limits.vocab);
    check_seqs(d);
    for (uint32_t i = 0; i < d->samples_len; i++) {
        assert(d->samples[i].row < d->rows);
        check_wish(&d->samples[i].wish);
    }
    for (uint32_t i = 0; i < d->copies_len; i++)
        assert(d->copies[i].from < limits.slots && d->copies[i].to < limits.slots);
    for (uint32_t i = 0; i < d->sealed_len; i++) assert(d->sealed[i].slot < limits.slots);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct gw_step_reader *reader;
    assert(gw_step_reader_create(&limits, &reader) == GW_OK);
    while (len >= 2) {
        size_t own = (size_t)bytes[0] | (size_t)bytes[1] << 8;
        struct gw_step_desc desc;
        bytes += 2;
        len -= 2;
        if (own > len) own = len;
        uint8_t *exact = malloc(own ? own : 1);
        assert(exact);
        memcpy(exact, bytes, own);
        if (gw_step_reader_get(reader, exact, own, &desc, NULL) == GW_OK) check(&desc);
        free(exact);
        bytes += own;
        len -= own;
    }
    gw_step_reader_destroy(reader);
    return 0;
}
