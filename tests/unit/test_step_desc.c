/* worker/step_desc: descriptors come back as they went, tables are kept between them, and no bytes whatever reach outside
 * of table, pool or batch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/block_name.h"
#include "tests/lib/seeded_rng.h"
#include "worker/step_desc.h"

static const struct gw_step_limits limits = {
    .rows = 64, .sequences = 4, .positions = 160, .slots = 50, .vocab = 100};

static uint32_t ids[64];
static uint32_t blocks[2][10] = {{7, 3, 9, 1, 40, 41, 42, 43, 44, 45},
                                 {11, 12, 13, 14, 15, 16, 17, 18, 19, 49}};
static const struct gw_slot_copy copies[2] = {{3, 4}, {49, 0}};
static const uint32_t masked[] = {5, 99};
static const struct gw_step_sample samples[2] = {
    {.row = 32, .wish = {.want = {.keep = 1, .edits = {.masked = masked, .masked_len = 2, .repetition = 1}}}},
    {.row = 33, .wish = {.whole = true}}};

/* Two sequences: 33 rows from position 0 in lane 2, one row at position 100 in lane 0. */
static struct gw_step_desc sample_desc(struct gw_step_seq seqs[2])
{
    seqs[0] = (struct gw_step_seq){.rows = 33, .lane = 2, .blocks = blocks[0], .blocks_to = 3};
    seqs[1] =
        (struct gw_step_seq){.rows = 1, .position = 100, .lane = 0, .blocks = blocks[1], .blocks_to = 7};
    for (uint32_t i = 0; i < 34; i++) ids[i] = i * 2;
    return (struct gw_step_desc){.rows = 34,
                                 .seqs_len = 2,
                                 .samples_len = 2,
                                 .copies_len = 2,
                                 .ids = ids,
                                 .seqs = seqs,
                                 .samples = samples,
                                 .copies = copies};
}

static void encode(const struct gw_step_desc *d, struct gw_buf *b)
{
    gw_buf_init(b, 1 << 20);
    gw_step_desc_put(d, b);
    assert_int_equal(b->err, GW_OK);
}

static gw_err_t read_exact(struct gw_step_reader *r, const uint8_t *bytes, size_t len,
                           struct gw_step_desc *out)
{
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, bytes, len);
    gw_err_t err = gw_step_reader_get(r, copy, len, out, NULL);
    free(copy);
    return err;
}

static void test_get_fields_are_the_leader_s(void **state)
{
    (void)state;
    struct gw_step_seq seqs[2];
    struct gw_step_desc in = sample_desc(seqs), out;
    struct gw_step_reader *r;
    struct gw_buf b;
    assert_int_equal(gw_step_reader_create(&limits, &r), GW_OK);
    encode(&in, &b);
    assert_int_equal(read_exact(r, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.rows, 34);
    assert_memory_equal(out.ids, ids, 34 * sizeof *ids);
    assert_memory_equal(out.copies, copies, sizeof copies);
    assert_true(out.samples_len == 2 && out.samples[0].row == 32 && out.samples[1].row == 33);
    assert_true(!out.samples[0].wish.whole && out.samples[1].wish.whole &&
                out.samples[0].wish.want.keep == 1);
    assert_int_equal(out.samples[0].wish.want.edits.masked_len, 2);
    assert_memory_equal(out.samples[0].wish.want.edits.masked, masked, sizeof masked);
    assert_int_equal(out.seqs[0].rows, 33);
    assert_memory_equal(out.seqs[0].blocks, blocks[0], 3 * sizeof(uint32_t));
    assert_int_equal(out.seqs[1].position, 100);
    assert_memory_equal(out.seqs[1].blocks, blocks[1], 7 * sizeof(uint32_t));
    gw_buf_fini(&b);
    gw_step_reader_destroy(r);
}

/* What was told before is not told again; what changed is. */
static void test_get_keeps_tables_between_steps(void **state)
{
    (void)state;
    struct gw_step_seq seqs[2];
    struct gw_step_desc in = sample_desc(seqs), out;
    struct gw_step_reader *r;
    struct gw_buf b;
    assert_int_equal(gw_step_reader_create(&limits, &r), GW_OK);
    encode(&in, &b);
    assert_int_equal(read_exact(r, b.data, b.len, &out), GW_OK);
    gw_buf_fini(&b);
    seqs[0] = (struct gw_step_seq){
        .rows = 1, .position = 20, .lane = 2, .blocks = blocks[1], .blocks_at = 1, .blocks_to = 2};
    in.rows = in.seqs_len = 1;
    in.samples_len = in.copies_len = 0;
    encode(&in, &b);
    assert_int_equal(read_exact(r, b.data, b.len, &out), GW_OK);
    assert_int_equal(out.seqs[0].blocks[0], blocks[0][0]);
    assert_int_equal(out.seqs[0].blocks[1], blocks[1][1]);
    gw_buf_fini(&b);
    seqs[0].position =
        33; /* the third block is none of the table's any more: what is told is told to the end */
    encode(&in, &b);
    assert_int_equal(read_exact(r, b.data, b.len, &out), GW_ERR_PROTO);
    gw_buf_fini(&b);
    gw_step_reader_destroy(r);
}

static void expect_refused(const struct gw_step_desc *d)
{
    struct gw_step_reader *r;
    struct gw_step_desc out;
    struct gw_buf b;
    assert_int_equal(gw_step_reader_create(&limits, &r), GW_OK);
    encode(d, &b);
    assert_int_equal(read_exact(r, b.data, b.len, &out), GW_ERR_PROTO);
    gw_buf_fini(&b);
    gw_step_reader_destroy(r);
}

static void test_get_beyond_a_limit_is_refused(void **state)
{
    (void)state;
    struct gw_step_seq seqs[2];
    const struct gw_slot_copy far = {3, 50};
    const struct gw_step_sample row = {.row = 34, .wish = {.whole = true}};
    struct gw_step_desc d = sample_desc(seqs);
    seqs[0].lane = 4;
    expect_refused(&d);
    d = sample_desc(seqs);
    seqs[1].position = 160;
    expect_refused(&d);
    d = sample_desc(seqs);
    seqs[1].position = UINT32_MAX;
    expect_refused(&d);
    d = sample_desc(seqs);
    seqs[0].rows = 32; /* not what the batch has */
    expect_refused(&d);
    d = sample_desc(seqs);
    seqs[0].blocks_at = 1; /* a gap */
    expect_refused(&d);
    d = sample_desc(seqs);
    seqs[0].blocks_to = 2; /* the last row is not covered */
    expect_refused(&d);
    d = sample_desc(seqs);
    ids[5] = 100;
    expect_refused(&d);
    d = sample_desc(seqs);
    d.copies = &far;
    d.copies_len = 1;
    expect_refused(&d);
    d = sample_desc(seqs);
    d.samples = &row;
    d.samples_len = 1;
    expect_refused(&d);
    d = sample_desc(seqs);
    blocks[0][1] = 50;
    expect_refused(&d);
    blocks[0][1] = 3;
}

static void test_get_truncated_anywhere_is_refused(void **state)
{
    (void)state;
    struct gw_step_seq seqs[2];
    struct gw_step_desc in = sample_desc(seqs), out;
    struct gw_step_reader *r;
    struct gw_buf b;
    assert_int_equal(gw_step_reader_create(&limits, &r), GW_OK);
    encode(&in, &b);
    for (size_t len = 0; len < b.len; len++) assert_int_equal(read_exact(r, b.data, len, &out), GW_ERR_PROTO);
    gw_buf_u8(&b, 0);
    assert_int_equal(read_exact(r, b.data, b.len, &out), GW_ERR_PROTO);
    gw_buf_fini(&b);
    gw_step_reader_destroy(r);
}

/* What is accepted stays within the limits, whatever the bytes. */
static void check_within(const struct gw_step_desc *d)
{
    uint32_t rows = 0;
    assert_true(d->rows >= 1 && d->rows <= limits.rows && d->seqs_len <= limits.sequences);
    for (uint32_t i = 0; i < d->rows; i++) assert_true(d->ids[i] < limits.vocab);
    for (uint32_t i = 0; i < d->seqs_len; i++) {
        const struct gw_step_seq *s = &d->seqs[i];
        assert_true(s->lane < limits.sequences && (uint64_t)s->position + s->rows <= limits.positions);
        for (uint32_t k = 0; k <= (s->position + s->rows - 1) / GW_BLOCK_TOKENS; k++)
            assert_true(s->blocks[k] < limits.slots);
        rows += s->rows;
    }
    assert_int_equal(rows, d->rows);
    for (uint32_t i = 0; i < d->samples_len; i++) assert_true(d->samples[i].row < d->rows);
}

static void test_get_mutated_bytes_stay_within_the_limits(void **state)
{
    (void)state;
    struct gw_rng rng = seeded_rng(__func__);
    struct gw_step_reader *r;
    assert_int_equal(gw_step_reader_create(&limits, &r), GW_OK);
    for (int round = 0; round < 20000; round++) {
        struct gw_step_seq seqs[2];
        struct gw_step_desc in = sample_desc(seqs), out;
        struct gw_buf b;
        encode(&in, &b);
        for (uint64_t n = gw_rng_below(&rng, 4); n > 0; n--)
            b.data[gw_rng_below(&rng, b.len)] =
                (uint8_t)(gw_rng_below(&rng, 2) ? gw_rng_below(&rng, 256) : 0xFF);
        if (read_exact(r, b.data, b.len, &out) == GW_OK) check_within(&out);
        gw_buf_fini(&b);
    }
    gw_step_reader_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get_fields_are_the_leader_s),
        cmocka_unit_test(test_get_keeps_tables_between_steps),
        cmocka_unit_test(test_get_beyond_a_limit_is_refused),
        cmocka_unit_test(test_get_truncated_anywhere_is_refused),
        cmocka_unit_test(test_get_mutated_bytes_stay_within_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
