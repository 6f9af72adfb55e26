/* controller/journal_segment: what is written is read; what is torn is dropped; what is damaged or forged is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/journal_segment.h"

#define KEY      "0123456789abcdef0123456789abcdef"
#define CHANGES  64
#define FILE_MAX (1u << 20)
#define FRAMES   3

struct fixture {
    struct gw_record_sealer *sealer;
    struct gw_segment_head head;
    struct gw_buf file;
    size_t ends[FRAMES + 1]; /* of the head, and of each frame */
    int seen;
    uint64_t entries[CHANGES];
    char pieces[CHANGES][16];
};

static struct gw_record_sealer *sealer_of(const char *key)
{
    struct gw_record_sealer *sealer = NULL;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_record_sealer_create(key, strlen(key), &sealer, &ctx), GW_OK);
    return sealer;
}

static void put_frame(struct fixture *f, uint64_t sequence, const char *text)
{
    struct gw_buf batch;
    gw_buf_init(&batch, 1024);
    gw_change_put(&batch, &(struct gw_change){.kind = GW_CHANGE_APPEND,
                                              .entry = sequence + 1,
                                              .piece = (const uint8_t *)text,
                                              .len = strlen(text)});
    gw_change_put(&batch, &(struct gw_change){.kind = GW_CHANGE_END, .entry = 77});
    assert_int_equal(
        gw_segment_put_frame(&f->file, f->sealer, &f->head, sequence, f->file.len, batch.data, batch.len),
        GW_OK);
    gw_buf_fini(&batch);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->sealer = sealer_of(KEY);
    f->head = (struct gw_segment_head){.number = 3, .term = 41};
    memset(f->head.writer.bytes, 7, sizeof f->head.writer.bytes);
    gw_buf_init(&f->file, FILE_MAX);
    gw_segment_put_head(&f->file, &f->head);
    assert_int_equal(f->file.len, GW_SEGMENT_HEAD_BYTES);
    f->ends[0] = f->file.len;
    static const char *const texts[FRAMES] = {"one", "two", "three"};
    for (uint64_t i = 0; i < FRAMES; i++) {
        put_frame(f, i, texts[i]);
        f->ends[i + 1] = f->file.len;
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_record_sealer_destroy(f->sealer);
    gw_buf_fini(&f->file);
    free(f);
    return 0;
}

static gw_err_t on_change(void *arg, const struct gw_change *c)
{
    struct fixture *f = arg;
    if (c->kind == GW_CHANGE_END) return c->entry == 77 ? GW_OK : GW_ERR_INTERNAL;
    assert_true(f->seen < CHANGES && c->len < sizeof f->pieces[0]);
    f->entries[f->seen] = c->entry;
    memcpy(f->pieces[f->seen], c->piece, c->len);
    f->pieces[f->seen++][c->len] = '\0';
    return GW_OK;
}

static gw_err_t read_with(struct fixture *f, struct gw_record_sealer *sealer, size_t len, size_t *torn,
                          struct gw_err_ctx *ctx)
{
    const struct gw_segment_reader reader = {on_change, f};
    struct gw_segment_head head = {0};
    f->seen = 0;
    /* exactly len bytes on the heap, so that reading past them is seen */
    uint8_t *bytes = malloc(len ? len : 1);
    assert_non_null(bytes);
    memcpy(bytes, f->file.data, len);
    gw_err_t err = gw_segment_read(bytes, len, sealer, &reader, &head, torn, ctx);
    if (err == GW_OK) assert_int_equal(head.term, 41);
    free(bytes);
    return err;
}

static void expect_refused(struct fixture *f, size_t len, const char *text)
{
    struct gw_err_ctx ctx = {0};
    size_t torn;
    assert_int_equal(read_with(f, f->sealer, len, &torn, &ctx), GW_ERR_INPUT);
    if (!strstr(ctx.text, text)) fail_msg("no '%s' in: %s", text, ctx.text);
}

static void expect_torn(struct fixture *f, size_t len, int pieces, size_t wanted)
{
    struct gw_err_ctx ctx = {0};
    size_t torn = 9999;
    gw_err_t err = read_with(f, f->sealer, len, &torn, &ctx);
    if (err != GW_OK) fail_msg("at length %zu: %s", len, ctx.text);
    assert_int_equal(f->seen, pieces);
    assert_int_equal(torn, wanted);
}

static void test_read_whole_gives_all_changes_in_order(void **state)
{
    struct fixture *f = *state;
    expect_torn(f, f->file.len, FRAMES, 0);
    assert_string_equal(f->pieces[0], "one");
    assert_string_equal(f->pieces[2], "three");
    assert_int_equal(f->entries[2], 3);
}

static void test_read_cut_anywhere_drops_the_last_frame_alone(void **state)
{
    struct fixture *f = *state;
    for (size_t len = f->ends[0]; len <= f->file.len; len++) {
        int whole = len >= f->ends[3] ? 3 : len >= f->ends[2] ? 2 : len >= f->ends[1] ? 1 : 0;
        expect_torn(f, len, whole, len - f->ends[whole]);
    }
}

static void test_read_without_a_whole_head_is_refused(void **state)
{
    struct fixture *f = *state;
    for (size_t len = 0; len < f->ends[0]; len++) expect_refused(f, len, "journal");
    f->file.data[9] ^= 1;
    expect_refused(f, f->file.len, "head is damaged");
}

static void test_read_flipped_bit_in_the_middle_names_the_byte(void **state)
{
    struct fixture *f = *state;
    char where[64];
    snprintf(where, sizeof where, "damaged at byte %zu", f->ends[1]);
    for (size_t at = f->ends[1]; at < f->ends[2]; at++) {
        f->file.data[at] ^= 0x10;
        expect_refused(f, f->file.len, where);
        f->file.data[at] ^= 0x10;
    }
}

static void test_read_flipped_bit_in_the_last_frame_is_torn(void **state)
{
    struct fixture *f = *state;
    for (size_t at = f->ends[2]; at < f->ends[3]; at++) {
        f->file.data[at] ^= 0x10;
        expect_torn(f, f->file.len, 2, f->ends[3] - f->ends[2]);
        f->file.data[at] ^= 0x10;
    }
}

static void test_read_zeros_behind_the_end_are_torn(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zeros[500];
    gw_buf_put(&f->file, zeros, sizeof zeros);
    expect_torn(f, f->file.len, FRAMES, sizeof zeros);
}

static void test_read_with_another_key_says_so(void **state)
{
    struct fixture *f = *state;
    struct gw_record_sealer *other = sealer_of("another cluster key");
    struct gw_err_ctx ctx = {0};
    size_t torn;
    assert_int_equal(read_with(f, other, f->file.len, &torn, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "another cluster key"));
    gw_record_sealer_destroy(other);
}

/* A writer without the key can copy frames and make checksums, and nothing more. */
static void test_read_frame_taken_out_or_repeated_is_refused(void **state)
{
    struct fixture *f = *state;
    size_t len = f->ends[2] - f->ends[1], rest = f->ends[3] - f->ends[2];
    struct gw_buf copy;
    gw_buf_init(&copy, FILE_MAX);
    gw_buf_put(&copy, f->file.data + f->ends[1], len);
    gw_buf_put(&f->file, copy.data, len);
    expect_refused(f, f->file.len, "damaged or forged");
    memmove(f->file.data + f->ends[1], f->file.data + f->ends[2], rest);
    expect_refused(f, f->ends[1] + rest, "damaged or forged");
    gw_buf_fini(&copy);
}

static void test_read_sequence_that_does_not_ascend_is_refused(void **state)
{
    struct fixture *f = *state;
    put_frame(f, 2, "again");
    expect_refused(f, f->file.len, "damaged or forged");
}

static void test_read_changes_that_cannot_be_are_refused(void **state)
{
    struct fixture *f = *state;
    static const uint8_t nonsense[] = {3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(
        gw_segment_put_frame(&f->file, f->sealer, &f->head, 9, f->file.len, nonsense, sizeof nonsense),
        GW_OK);
    expect_refused(f, f->file.len, "cannot be");
}

static void test_put_frame_shows_nothing_of_its_batch(void **state)
{
    struct fixture *f = *state;
    assert_null(memmem(f->file.data, f->file.len, "three", 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read_whole_gives_all_changes_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_cut_anywhere_drops_the_last_frame_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_without_a_whole_head_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_flipped_bit_in_the_middle_names_the_byte, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_read_flipped_bit_in_the_last_frame_is_torn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_zeros_behind_the_end_are_torn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_with_another_key_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_frame_taken_out_or_repeated_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_sequence_that_does_not_ascend_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_read_changes_that_cannot_be_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_frame_shows_nothing_of_its_batch, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
