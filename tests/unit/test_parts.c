/* worker/wish, worker/part, worker/candidates, worker/sampler: what ranks tell of their shares of a row decides the same record
 * as the whole row, for every cut, or nothing; and bytes that nobody honest sends are refused. */
#include "tests/lib/sampler_reference.h"

#include "tests/lib/seeded_rng.h"
#include "worker/candidates.h"
#include "worker/part.h"

#define VOCAB 3000 /* a part of an eighth has no more candidates than it may hold, one of a half has */

static const uint16_t cuts[][REFERENCE_SHARES + 1] = {
    {0, 8}, {0, 4, 8}, {0, 3, 6, 8}, {0, 1, 8}, {0, 2, 4, 6, 8}, {0, 1, 2, 3, 4, 5, 6, 7, 8}};
#define CUTS (sizeof cuts / sizeof *cuts)

static uint32_t ranks_of(const uint16_t *cut)
{
    uint32_t n = 0;
    while (cut[n] < REFERENCE_SHARES) n++;
    return n;
}

static struct gw_part_of part_of(const uint16_t *cut, uint32_t rank)
{
    uint32_t first = gw_pick_share_at(VOCAB, REFERENCE_SHARES, cut[rank]);
    return (struct gw_part_of){.first = first,
                               .columns = gw_pick_share_at(VOCAB, REFERENCE_SHARES, cut[rank + 1]) - first,
                               .shares = (uint32_t)(cut[rank + 1] - cut[rank])};
}

/* The wish as a rank reads it. */
static struct gw_wish over_the_wire(const struct gw_wish *wish, struct gw_wish_room *room)
{
    struct gw_wish got;
    struct gw_buf b;
    struct gw_reader r;
    gw_buf_init(&b, 1 << 20);
    gw_wish_put(wish, &b);
    assert_int_equal(b.err, GW_OK);
    gw_reader_init(&r, b.data, b.len);
    gw_wish_room_clear(room);
    assert_true(gw_wish_get(&r, VOCAB, room, &got));
    assert_int_equal(gw_reader_finish(&r), GW_OK);
    gw_buf_fini(&b);
    return got;
}

/* What a rank tells, as the leader reads it. */
static void tell(struct test_sampler *t, float *row, const uint16_t *cut, uint32_t rank,
                 const struct gw_wish *wish, float *kept, struct gw_pick_part *out)
{
    static struct gw_pick_part part;
    static float wire[GW_PART_WORDS_MAX];
    struct gw_part_of of = part_of(cut, rank);
    const struct gw_pick_row pick = {.x = row + of.first,
                                     .vocab = VOCAB,
                                     .shares = REFERENCE_SHARES,
                                     .share_first = cut[rank],
                                     .share_last = cut[rank + 1],
                                     .want = &wish->want,
                                     .kept = kept,
                                     .part = &part};
    t->ops->pick(t->device, &pick, 1);
    gw_part_put(&part, &wish->want, &of, wire);
    memset(out, 0xA5, sizeof *out);
    assert_true(gw_part_get(wire, &wish->want, &of, out));
    assert_int_equal(out->all, part.all);
}

/* Draws by parts of that cut; false if they cannot decide. A rank that is alone has the whole row, too. */
static bool draw_by_parts(struct test_sampler *t, float *row, const uint16_t *cut,
                          const struct gw_sample_in *in, struct gw_sample_out *out)
{
    static struct gw_pick_part parts[REFERENCE_SHARES];
    static float kept[4 * VOCAB];
    struct gw_wish_room room, theirs;
    struct gw_wish wish, read;
    assert_int_equal(gw_wish_room_init(&room, VOCAB, VOCAB), GW_OK);
    assert_int_equal(gw_wish_room_init(&theirs, VOCAB, VOCAB), GW_OK);
    gw_sampler_wish(t->sampler, in, &room, &wish);
    read = over_the_wire(&wish, &theirs);
    assert_int_equal(read.whole, wish.whole);
    for (uint32_t i = 0; !wish.whole && i < ranks_of(cut); i++) tell(t, row, cut, i, &read, kept, &parts[i]);
    bool decided = !wish.whole && gw_sampler_decide(in, &wish.want, parts, ranks_of(cut), out);
    if (!decided && !wish.whole && ranks_of(cut) == 1) {
        gw_sampler_draw(t->sampler, in, row, parts, out);
        decided = true;
    }
    gw_wish_room_fini(&room);
    gw_wish_room_fini(&theirs);
    return decided;
}

static void assert_same_record(const struct gw_sample_in *in, const struct gw_sample_out *a,
                               const struct gw_sample_out *b)
{
    assert_int_equal(a->id, b->id);
    assert_memory_equal(&a->logprob, &b->logprob, sizeof a->logprob);
    assert_memory_equal(a->top, b->top, in->params->top_logprobs * sizeof *a->top);
}

static void test_decide_every_cut_gives_the_record_of_the_whole_row(void **state)
{
    (void)state;
    static float row[VOCAB], before[VOCAB];
    struct test_sampler t = test_sampler_open(VOCAB, GW_ISA_AUTO);
    struct random_draw d;
    uint32_t decided = 0, not_decided = 0;
    struct gw_rng r = seeded_rng(__func__);
    for (int round = 0; round < 1500; round++) {
        struct gw_sample_out want, got;
        random_row(&r, row, VOCAB);
        random_draw_fill(&r, VOCAB, &d);
        memcpy(before, row, sizeof row);
        gw_sampler_draw(t.sampler, &d.in, row, NULL, &want);
        bool did = draw_by_parts(&t, row, cuts[(uint32_t)round % CUTS], &d.in, &got);
        assert_memory_equal(row, before, sizeof row);
        decided += did;
        not_decided += !did;
        if (did) assert_same_record(&d.in, &want, &got);
    }
    print_message("# %u decided, %u not\n", decided, not_decided);
    assert_true(decided > 1000 && not_decided > 10);
    test_sampler_close(&t);
}

/* Without truncation, greedy, and with top-k that parts hold, parts always decide. */
static void test_decide_what_parts_hold_is_always_decided(void **state)
{
    (void)state;
    static float row[VOCAB];
    struct test_sampler t = test_sampler_open(VOCAB, GW_ISA_AUTO);
    struct gw_rng r;
    gw_rng_init(&r, 8);
    for (uint32_t round = 0; round < 300; round++) {
        struct gw_sampling p = plain_sampling();
        const struct gw_sample_in in = {.params = &p};
        struct gw_sample_out out;
        random_row(&r, row, VOCAB);
        p.seed = round;
        p.temperature = round % 3 ? 3 : 0;
        if (round % 3 == 2) p.top_k = 1 + (uint32_t)gw_rng_below(&r, GW_PICK_KEEP_MAX);
        if (round % 6 == 2) p.top_p = 0.999f;
        assert_true(draw_by_parts(&t, row, cuts[round % CUTS], &in, &out));
    }
    test_sampler_close(&t);
}

/* Logits beside which random numbers vanish. */
static void test_decide_of_equal_scores_the_lowest_id_wins(void **state)
{
    (void)state;
    static float row[VOCAB];
    struct test_sampler t = test_sampler_open(VOCAB, GW_ISA_AUTO);
    for (uint32_t round = 0; round < 4 * CUTS; round++) {
        struct gw_sampling p = plain_sampling();
        const struct gw_sample_in in = {.params = &p};
        struct gw_sample_out out;
        for (uint32_t i = 0; i < VOCAB; i++) row[i] = -1;
        row[77] = row[78] = row[VOCAB / 2] = row[VOCAB - 1] = 1e30f;
        p.temperature = 1;
        p.top_k = round % 2 ? 9 : 0;
        p.seed = round;
        assert_true(draw_by_parts(&t, row, cuts[round % CUTS], &in, &out));
        assert_int_equal(out.id, 77);
        gw_sampler_draw(t.sampler, &in, row, NULL, &out);
        assert_int_equal(out.id, 77);
    }
    test_sampler_close(&t);
}

/* ---- wishes ---- */

static void test_make_edits_beyond_the_room_ask_for_the_whole(void **state)
{
    (void)state;
    struct gw_wish_room room;
    struct gw_wisher *w;
    struct gw_wish wish;
    uint32_t prompt[] = {1, 2, 3, 2};
    struct gw_sampling p = plain_sampling();
    const struct gw_sample_in in = {.params = &p, .prompt = prompt, .prompt_len = 4};
    p.repetition_penalty = 2;
    assert_int_equal(gw_wisher_create(10, &w), GW_OK);
    assert_int_equal(gw_wish_room_init(&room, 5, 5), GW_OK);
    gw_wish_make(w, &in, &room, &wish);
    assert_false(wish.whole);
    assert_int_equal(wish.want.edits.repeated_len, 3);
    gw_wish_make(w, &in, &room, &wish); /* two more fit, three do not */
    assert_true(wish.whole);
    assert_int_equal(room.ids_len, 3);
    assert_int_equal(gw_pick_edits_len(&wish.want.edits), 0);
    gw_wish_room_fini(&room);
    gw_wisher_destroy(w);
}

static void put_all_kinds(struct gw_buf *b)
{
    static const uint32_t ids[] = {3, VOCAB - 1};
    static const struct gw_pick_change changes[] = {{7, 0.5f}, {VOCAB - 1, -3}};
    const struct gw_wish wish = {.want = {.stream = 77,
                                          .inverse = 1.25f,
                                          .keep = GW_PICK_KEEP_MAX,
                                          .top = GW_PICK_TOP_MAX,
                                          .weights = true,
                                          .stats = true,
                                          .edits = {.added = changes,
                                                    .repeated = ids,
                                                    .taken = changes,
                                                    .masked = ids,
                                                    .added_len = 2,
                                                    .repeated_len = 2,
                                                    .taken_len = 1,
                                                    .masked_len = 1,
                                                    .repetition = 1.5f}}};
    gw_buf_init(b, 4096);
    gw_wish_put(&wish, b);
}

static bool read_wish(const void *bytes, size_t len, struct gw_wish_room *room, struct gw_wish *out)
{
    struct gw_reader r;
    uint8_t *exact = malloc(len ? len : 1);
    memcpy(exact, bytes, len);
    gw_reader_init(&r, exact, len);
    gw_wish_room_clear(room);
    bool ok = gw_wish_get(&r, VOCAB, room, out) && gw_reader_finish(&r) == GW_OK;
    free(exact);
    return ok;
}

static void test_get_returns_what_was_put(void **state)
{
    (void)state;
    struct gw_wish_room room;
    struct gw_wish got;
    struct gw_buf b;
    put_all_kinds(&b);
    assert_int_equal(gw_wish_room_init(&room, 100, 100), GW_OK);
    assert_true(read_wish(b.data, b.len, &room, &got));
    const struct gw_pick_want *w = &got.want;
    assert_false(got.whole);
    assert_true(w->stream == 77 && w->inverse == 1.25f && w->weights && w->stats);
    assert_true(w->keep == GW_PICK_KEEP_MAX && w->top == GW_PICK_TOP_MAX && w->edits.repetition == 1.5f);
    assert_true(w->edits.added_len == 2 && w->edits.added[1].id == VOCAB - 1 &&
                w->edits.added[0].value == 0.5f);
    assert_true(w->edits.repeated_len == 2 && w->edits.repeated[1] == VOCAB - 1);
    assert_true(w->edits.taken_len == 1 && w->edits.taken[0].id == 7);
    assert_true(w->edits.masked_len == 1 && w->edits.masked[0] == 3);
    gw_buf_fini(&b);
    gw_wish_room_fini(&room);
}

static void test_get_truncated_anywhere_or_without_room_is_refused(void **state)
{
    (void)state;
    struct gw_wish_room room, small;
    struct gw_wish got;
    struct gw_buf b;
    put_all_kinds(&b);
    assert_int_equal(gw_wish_room_init(&room, 100, 100), GW_OK);
    assert_int_equal(gw_wish_room_init(&small, 2, 2), GW_OK);
    for (size_t len = 0; len < b.len; len++) assert_false(read_wish(b.data, len, &room, &got));
    assert_false(read_wish(b.data, b.len, &small, &got));
    gw_buf_fini(&b);
    gw_wish_room_fini(&room);
    gw_wish_room_fini(&small);
}

/* What is accepted stays within the limits, whatever the bytes. */
static void check_within(const struct gw_wish *got, const struct gw_wish_room *room)
{
    const struct gw_pick_edits *e = &got->want.edits;
    assert_true(got->want.keep <= GW_PICK_KEEP_MAX && got->want.top <= GW_PICK_TOP_MAX);
    assert_true(isfinite(got->want.inverse) && got->want.inverse >= 0);
    assert_true(e->added_len + e->taken_len == room->changes_len && room->changes_len <= room->changes_max);
    assert_true(e->repeated_len + e->masked_len == room->ids_len && room->ids_len <= room->ids_max);
    for (uint32_t i = 0; i < room->ids_len; i++) assert_true(room->ids[i] < VOCAB);
    for (uint32_t i = 0; i < room->changes_len; i++) assert_true(room->changes[i].id < VOCAB);
}

static void test_get_mutated_bytes_stay_within_the_limits(void **state)
{
    (void)state;
    struct gw_wish_room room;
    struct gw_wish got;
    struct gw_rng r;
    struct gw_buf b;
    uint32_t accepted = 0;
    gw_rng_init(&r, 9);
    put_all_kinds(&b);
    assert_int_equal(gw_wish_room_init(&room, 100, 100), GW_OK);
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[512];
        memcpy(bytes, b.data, b.len);
        for (uint64_t k = 1 + gw_rng_below(&r, 3); k > 0; k--)
            bytes[gw_rng_below(&r, b.len)] = (uint8_t)gw_rng_next(&r);
        if (!read_wish(bytes, b.len, &room, &got)) continue;
        accepted++;
        check_within(&got, &room);
    }
    assert_true(accepted > 0);
    gw_buf_fini(&b);
    gw_wish_room_fini(&room);
}

/* ---- parts ---- */

static void test_get_of_a_foreign_id_is_refused(void **state)
{
    (void)state;
    static struct gw_pick_part part = {.entries_len = 2, .top_len = 1, .shares = 1};
    const struct gw_pick_want want = {.keep = 2, .top = 1};
    const struct gw_part_of of = {.first = 300, .columns = 500, .shares = 1};
    static const uint32_t foreign[] = {299, 800, 0, UINT32_MAX - 1};
    float wire[8];
    uint32_t *at[] = {&part.entries[0].id, &part.entries[1].id, &part.top[0].id};
    struct gw_pick_part got;
    assert_int_equal(gw_part_words(&want, &of), 8);
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++) {
            part.entries[0].id = 300;
            part.entries[1].id = 799;
            part.top[0].id = 500;
            gw_part_put(&part, &want, &of, wire);
            assert_true(gw_part_get(wire, &want, &of, &got));
            *at[i] = foreign[k];
            gw_part_put(&part, &want, &of, wire);
            assert_false(gw_part_get(wire, &want, &of, &got));
        }
}

/* Two that have told all they may, one of which has told all there is. */
static void test_next_runs_out_where_a_part_may_have_a_better_one(void **state)
{
    (void)state;
    static struct gw_pick_part parts[2] = {
        {.entries_len = 2, .entries = {{.id = 1, .logit = 5}, {.id = 0, .logit = 3}}},
        {.entries_len = 3, .entries = {{.id = 9, .logit = 5}, {.id = 8, .logit = 4}, {.id = 7, .logit = 2}}}};
    static const uint32_t order[] = {1, 9, 8, 0};
    struct gw_pick_entry e;
    struct gw_candidates c = {.parts = parts, .parts_len = 2};
    for (size_t i = 0; i < 4; i++) {
        assert_true(gw_candidates_next(&c, &e));
        assert_int_equal(e.id, order[i]);
    }
    struct gw_candidates copy = c;
    assert_false(gw_candidates_next(&c, &e));
    assert_true(c.ran_out);
    parts[0].all = true;
    assert_true(gw_candidates_next(&copy, &e));
    assert_int_equal(e.id, 7);
    assert_false(gw_candidates_next(&copy, &e));
    assert_true(copy.ran_out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decide_every_cut_gives_the_record_of_the_whole_row),
        cmocka_unit_test(test_decide_what_parts_hold_is_always_decided),
        cmocka_unit_test(test_decide_of_equal_scores_the_lowest_id_wins),
        cmocka_unit_test(test_make_edits_beyond_the_room_ask_for_the_whole),
        cmocka_unit_test(test_get_returns_what_was_put),
        cmocka_unit_test(test_get_truncated_anywhere_or_without_room_is_refused),
        cmocka_unit_test(test_get_mutated_bytes_stay_within_the_limits),
        cmocka_unit_test(test_get_of_a_foreign_id_is_refused),
        cmocka_unit_test(test_next_runs_out_where_a_part_may_have_a_better_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
