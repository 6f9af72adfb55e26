/* migrate/page_codec, migrate/checksum: what was written is read again, and nothing else is. */
#include "tests/lib/page_fixture.h"

#include "base/rng.h"
#include "migrate/checksum.h"

#define BYTES_MAX 4096

static struct gw_page_head head_of(enum gw_page_kind kind, uint32_t table_bytes, uint32_t payload_bytes)
{
    return (struct gw_page_head){kind, table_bytes, payload_bytes, 42, PAGE_FENCE, PAGE_MODEL};
}

/* ---- checksum ---- */

static void test_checksum_all_variants_agree_for_any_length(void **state)
{
    (void)state;
    uint8_t bytes[BYTES_MAX];
    struct gw_rng rng;
    gw_rng_init(&rng, 1);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)gw_rng_next(&rng);
    for (size_t len = 0; len < 700; len++) {
        const uint8_t *at = bytes + gw_rng_below(&rng, 64);
        uint64_t sum = gw_checksum(at, len);
        for (int variant = 0; variant < 3; variant++) assert_true(gw_checksum_by(variant, at, len) == sum);
    }
}

/* By a reading of the header alone (Python): the value is part of the wire. */
static void test_checksum_known_bytes_have_the_documented_value(void **state)
{
    (void)state;
    uint8_t bytes[200];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7);
    assert_true(gw_checksum(bytes, sizeof bytes) == 0xB4BF04677BEDF47C);
    assert_true(gw_checksum(bytes, 0) == 0x7F4081EEF340E920);
}

static void test_checksum_any_wrong_bit_or_place_is_found(void **state)
{
    (void)state;
    uint8_t bytes[512], swapped[512];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 31 + (i >> 5));
    uint64_t sum = gw_checksum(bytes, sizeof bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(gw_checksum(bytes, sizeof bytes) != sum);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t a = 0; a < 8; a++) /* stripes that change places */
        for (size_t b = 0; b < a; b++) {
            memcpy(swapped, bytes, sizeof bytes);
            memcpy(swapped + 64 * a, bytes + 64 * b, 64);
            memcpy(swapped + 64 * b, bytes + 64 * a, 64);
            assert_true(gw_checksum(swapped, sizeof swapped) != sum);
        }
    memset(swapped, 0, sizeof swapped);
    assert_true(gw_checksum(swapped, 64) != gw_checksum(swapped, 63)); /* what fills up counts, too */
}

/* Sign bits of many words at once: sums alone would not see an even number of them. */
static void test_checksum_high_bits_of_two_words_are_found(void **state)
{
    (void)state;
    uint8_t bytes[1024] = {0};
    uint64_t sum = gw_checksum(bytes, sizeof bytes);
    for (size_t a = 0; a < sizeof bytes / 8; a++)
        for (size_t b = 0; b < a; b++) {
            bytes[8 * a + 7] ^= 0x80;
            bytes[8 * b + 7] ^= 0x80;
            assert_true(gw_checksum(bytes, sizeof bytes) != sum);
            bytes[8 * a + 7] ^= 0x80;
            bytes[8 * b + 7] ^= 0x80;
        }
}

/* ---- heads ---- */

static void test_head_put_get_is_the_same(void **state)
{
    (void)state;
    uint8_t bytes[GW_PAGE_HEAD_BYTES], table[GW_PAGE_ENTRY_BYTES] = {5};
    struct gw_page_head head = head_of(GW_PAGE_PAGES, sizeof table, 4096), got;
    gw_page_head_put(bytes, &head, table);
    assert_memory_equal(
        bytes, "GWK2\2\0\0\0\x20\0\0\0\0\x10\0\0\7\0\0\0\0\0\0\0\13\0\0\0\0\0\0\0\3\0\0\0\x2A\0\0\0\1\2\3",
        43);
    assert_int_equal(gw_page_head_get(bytes, &got, NULL), GW_OK);
    assert_int_equal(gw_page_check(bytes, &got, table, NULL), GW_OK);
    assert_int_equal(got.kind, GW_PAGE_PAGES);
    assert_int_equal(got.payload_bytes, 4096);
    assert_int_equal(got.request, 42);
    assert_true(gw_page_fence_equal(&got.fence, &head.fence));
    assert_true(gw_page_model_equal(&got.model, &head.model));
}

static void test_head_any_wrong_bit_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[GW_PAGE_HEAD_BYTES + GW_PAGE_ENTRY_BYTES] = {0}, *table = bytes + GW_PAGE_HEAD_BYTES;
    struct gw_page_head head = head_of(GW_PAGE_PAGES, GW_PAGE_ENTRY_BYTES, 100), got;
    gw_page_head_put(bytes, &head, table);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        bool good = gw_page_head_get(bytes, &got, NULL) == GW_OK;
        if (good && got.table_bytes == head.table_bytes) /* another length would be read otherwise */
            assert_int_equal(gw_page_check(bytes, &got, table, NULL), GW_ERR_PROTO);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_head_lengths_over_the_limits_are_refused(void **state)
{
    (void)state;
    static const struct gw_page_head bad[] = {
        {GW_PAGE_REQUEST, GW_PAGE_TABLE_MAX + 1, 0, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_REQUEST, 8, 0, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_REQUEST, 100, 1, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_PAGES, 0, 1, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_PAGES, 33, 1, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_PAGES, 32, 0, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_PAGES, 32, GW_PAGE_PAYLOAD_MAX + 1, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_PAGES, 32 * (GW_PAGE_ENTRIES_MAX + 1), 1, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_ABSENT, 0, 0, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_ABSENT, 21, 0, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_ABSENT, 20 * (GW_PAGE_ENTRIES_MAX + 1), 0, 1, {0}, {{0}, 0, 0}},
        {GW_PAGE_DONE, 11, 0, 1, {0}, {{0}, 0, 0}},
        {0, 12, 0, 1, {0}, {{0}, 0, 0}},
        {7, 12, 0, 1, {0}, {{0}, 0, 0}},
    };
    uint8_t bytes[GW_PAGE_HEAD_BYTES], *table = calloc(1, GW_PAGE_TABLE_MAX + 1);
    struct gw_page_head got;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gw_page_head_put(bytes, &bad[i], table);
        assert_int_equal(gw_page_head_get(bytes, &got, NULL), GW_ERR_PROTO);
    }
    free(table);
}

/* ---- tables ---- */

static struct gw_page_request *some_request(uint16_t names, uint16_t pages)
{
    struct gw_page_request *r = calloc(1, sizeof *r);
    r->names_len = names;
    r->pages_len = pages;
    for (uint32_t i = 0; i < names; i++) r->names[i] = page_name(i);
    for (uint32_t i = 0; i < pages; i++) r->pages[i] = (struct gw_page_id){(uint16_t)i, (uint16_t)(i + 1)};
    for (uint32_t i = 0; i < (uint32_t)names * pages; i += 3) gw_page_want(r, i / pages, i % pages);
    return r;
}

static void test_request_put_get_is_the_same_and_no_other_length_is(void **state)
{
    (void)state;
    static const uint16_t sizes[][2] = {{1, 1}, {3, 5}, {GW_PAGE_NAMES_MAX, 128}, {128, GW_PAGE_IDS_MAX}};
    uint8_t *table = malloc(GW_PAGE_TABLE_MAX + 1);
    struct gw_page_request *got = malloc(sizeof *got);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct gw_page_request *r = some_request(sizes[i][0], sizes[i][1]);
        uint32_t len = gw_page_request_put(table, r);
        assert_true(len <= GW_PAGE_TABLE_MAX);
        memset(got, 0, sizeof *got);
        assert_int_equal(gw_page_request_get(table, len, got, NULL), GW_OK);
        assert_memory_equal(got, r, sizeof *r);
        assert_int_equal(gw_page_request_get(table, len - 1, got, NULL), GW_ERR_PROTO);
        assert_int_equal(gw_page_request_get(table, len + 1, got, NULL), GW_ERR_PROTO);
        free(r);
    }
    free(got);
    free(table);
}

static void test_request_counts_out_of_bounds_are_refused(void **state)
{
    (void)state;
    static const uint16_t sizes[][2] = {{0, 1}, {1, 0}, {513, 1}, {1, 513}, {512, 512}, {65535, 65535}};
    uint8_t *table = calloc(1, GW_PAGE_TABLE_MAX);
    struct gw_page_request *got = malloc(sizeof *got);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memcpy(table, sizes[i], 4);
        assert_int_equal(gw_page_request_get(table, GW_PAGE_TABLE_MAX, got, NULL), GW_ERR_PROTO);
    }
    struct gw_page_request *r = some_request(1, 1);
    uint32_t len = gw_page_request_put(table, r);
    table[len - 1] |= 2; /* wants an item that is none */
    assert_int_equal(gw_page_request_get(table, len, got, NULL), GW_ERR_PROTO);
    free(r);
    free(got);
    free(table);
}

static void test_entries_get_lengths_must_add_up(void **state)
{
    (void)state;
    uint8_t table[2 * GW_PAGE_ENTRY_BYTES];
    struct gw_page_entry *got = calloc(GW_PAGE_ENTRIES_MAX, sizeof *got);
    uint32_t len = 0;
    struct gw_page_entry a = {page_name(1), {2, 3}, 100, 0x1122334455667788},
                         b = {page_name(2), {4, 5}, 200, 9};
    gw_page_entry_put(table, &a);
    gw_page_entry_put(table + GW_PAGE_ENTRY_BYTES, &b);
    struct gw_page_head head = head_of(GW_PAGE_PAGES, sizeof table, 300);
    assert_int_equal(gw_page_entries_get(&head, table, got, &len, NULL), GW_OK);
    assert_int_equal(len, 2);
    assert_memory_equal(&got[0].name, &a.name, sizeof a.name);
    assert_int_equal(got[1].id.group, 4);
    assert_int_equal(got[1].id.head, 5);
    assert_true(got[0].checksum == a.checksum && got[1].bytes == 200);
    head.payload_bytes = 301;
    assert_int_equal(gw_page_entries_get(&head, table, got, &len, NULL), GW_ERR_PROTO);
    head.payload_bytes = 200;
    a.bytes = 0;
    gw_page_entry_put(table, &a);
    assert_int_equal(gw_page_entries_get(&head, table, got, &len, NULL), GW_ERR_PROTO);
    a.bytes = GW_PAGE_BYTES_MAX + 1;
    gw_page_entry_put(table, &a);
    head.payload_bytes = a.bytes + 200;
    assert_int_equal(gw_page_entries_get(&head, table, got, &len, NULL), GW_ERR_PROTO);
    free(got);
}

static void test_done_and_absent_put_get_are_the_same(void **state)
{
    (void)state;
    uint8_t table[GW_PAGE_ABSENT_BYTES * 2];
    struct gw_page_done done = {GW_PAGE_STALE, 5, 6}, got;
    gw_page_done_put(table, &done);
    assert_int_equal(gw_page_done_get(table, &got, NULL), GW_OK);
    assert_int_equal(got.status, GW_PAGE_STALE);
    assert_int_equal(got.given, 5);
    assert_int_equal(got.absent, 6);
    table[0] = GW_PAGE_STATUSES;
    assert_int_equal(gw_page_done_get(table, &got, NULL), GW_ERR_PROTO);
    struct gw_page_absent a = {page_name(9), {GW_PAGE_ALL, 7}};
    gw_page_absent_put(table + GW_PAGE_ABSENT_BYTES, &a);
    struct gw_page_absent b = gw_page_absent_get(table, 1);
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_numerics_profile_and_kv_type_both_count(void **state)
{
    (void)state;
    uint64_t a = gw_page_numerics("cpu-bf16dot-1", "bf16");
    assert_true(a == gw_page_numerics("cpu-bf16dot-1", "bf16"));
    assert_true(a != gw_page_numerics("cpu-bf16dot-1", "f32"));
    assert_true(a != gw_page_numerics("cpu-bf16dot-2", "bf16"));
    assert_true(gw_page_numerics("ab", "c") != gw_page_numerics("a", "bc"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum_all_variants_agree_for_any_length),
        cmocka_unit_test(test_checksum_known_bytes_have_the_documented_value),
        cmocka_unit_test(test_checksum_any_wrong_bit_or_place_is_found),
        cmocka_unit_test(test_checksum_high_bits_of_two_words_are_found),
        cmocka_unit_test(test_head_put_get_is_the_same),
        cmocka_unit_test(test_head_any_wrong_bit_is_refused),
        cmocka_unit_test(test_head_lengths_over_the_limits_are_refused),
        cmocka_unit_test(test_request_put_get_is_the_same_and_no_other_length_is),
        cmocka_unit_test(test_request_counts_out_of_bounds_are_refused),
        cmocka_unit_test(test_entries_get_lengths_must_add_up),
        cmocka_unit_test(test_done_and_absent_put_get_are_the_same),
        cmocka_unit_test(test_numerics_profile_and_kv_type_both_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
