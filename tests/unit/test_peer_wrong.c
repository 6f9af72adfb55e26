/* migrate/peer_fetch against a source that lies, stutters, repeats itself or falls silent: nothing wrong is ever committed,
 * and what it did not give comes from an honest one. */
#include "tests/lib/page_socket.h"

#define BLOCKS    4u
#define ITEMS     (BLOCKS * PAGE_GROUPS * PAGE_HEADS)
#define FRAME_MAX (GW_PAGE_HEAD_BYTES + GW_PAGE_TABLE_MAX + GW_PAGE_PAYLOAD_MAX)
#define STALL_US  (150 * GW_US_PER_MS)

static const struct gw_page_rect ALL = {0, PAGE_GROUPS, 0, PAGE_HEADS};

/* A frame that is about to be sent. */
struct frame {
    struct gw_page_head head;
    struct gw_page_entry entries[ITEMS];
    uint32_t len;
    uint8_t bytes[FRAME_MAX];
    size_t size;
};

struct liar {
    int listener;
    char address[64];
    pthread_t thread;
    /* Answers one request; false: closes the connection. */
    bool (*answer)(struct liar *liar, int fd);
    struct gw_page_head asked;
    struct gw_page_request request;
    uint32_t connections, requests, wanted; /* wanted: pages of the last request */
    struct frame frame, kept;
};

struct fixture {
    struct liar liar;
    struct page_pool honest_pool, to;
    struct gw_peer_server *honest;
    struct gw_fetch_source sources[2];
    struct page_run run;
};

/* ---- what a source says ---- */

/* All wanted pages of the request as entries of one frame, right as they can be. */
static struct frame *right_frame(struct liar *l)
{
    struct frame *f = &l->frame;
    f->head = l->asked;
    f->head.kind = GW_PAGE_PAGES;
    f->len = 0;
    for (uint32_t n = 0; n < l->request.names_len; n++)
        for (uint32_t p = 0; p < l->request.pages_len; p++) {
            if (!gw_page_wanted(&l->request, n, p)) continue;
            uint8_t page[PAGE_LAYERS * PAGE_LAYER_BYTES];
            struct gw_page_id id = l->request.pages[p];
            page_fill(page, &l->request.names[n], id);
            f->entries[f->len++] = (struct gw_page_entry){l->request.names[n], id, page_bytes(id.group),
                                                          gw_checksum(page, page_bytes(id.group))};
        }
    return f;
}

/* The bytes of the frame as its entries are now. */
static void seal(struct frame *f)
{
    uint8_t *table = f->bytes + GW_PAGE_HEAD_BYTES;
    f->head.table_bytes = f->len * GW_PAGE_ENTRY_BYTES;
    uint8_t *payload = table + f->head.table_bytes;
    f->head.payload_bytes = 0;
    for (uint32_t i = 0; i < f->len; i++) {
        gw_page_entry_put(table + (size_t)i * GW_PAGE_ENTRY_BYTES, &f->entries[i]);
        if (f->entries[i].id.group < PAGE_GROUPS)
            page_fill(payload + f->head.payload_bytes, &f->entries[i].name, f->entries[i].id);
        f->head.payload_bytes += f->entries[i].bytes;
    }
    gw_page_head_put(f->bytes, &f->head, table);
    f->size = GW_PAGE_HEAD_BYTES + f->head.table_bytes + f->head.payload_bytes;
}

static bool say_frame(int fd, struct frame *f)
{
    seal(f);
    return say(fd, f->bytes, f->size);
}

static bool say_done(struct liar *l, int fd, enum gw_page_status status)
{
    uint8_t bytes[GW_PAGE_HEAD_BYTES + GW_PAGE_DONE_BYTES];
    struct gw_page_head head = l->asked;
    const struct gw_page_done done = {status, 0, 0};
    head.kind = GW_PAGE_DONE;
    head.table_bytes = GW_PAGE_DONE_BYTES;
    gw_page_done_put(bytes + GW_PAGE_HEAD_BYTES, &done);
    gw_page_head_put(bytes, &head, bytes + GW_PAGE_HEAD_BYTES);
    return say(fd, bytes, sizeof bytes);
}

static bool say_all(struct liar *l, int fd)
{
    return say_frame(fd, right_frame(l)) && say_done(l, fd, GW_PAGE_SERVED);
}

/* ---- the source's thread ---- */

static bool hear_request(struct liar *l, int fd)
{
    static _Thread_local uint8_t head[GW_PAGE_HEAD_BYTES], table[GW_PAGE_TABLE_MAX];
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    struct gw_socket socket = gw_socket_plain(fd);
    if (gw_peer_io_read(&socket, head, sizeof head, until_us, NULL) != GW_OK ||
        gw_page_head_get(head, &l->asked, NULL) != GW_OK ||
        gw_peer_io_read(&socket, table, l->asked.table_bytes, until_us, NULL) != GW_OK ||
        gw_page_request_get(table, l->asked.table_bytes, &l->request, NULL) != GW_OK)
        return false;
    l->requests++;
    l->wanted = right_frame(l)->len;
    return true;
}

static void *liar_main(void *arg)
{
    struct liar *l = arg;
    for (int fd; (fd = accept(l->listener, NULL, NULL)) >= 0; close(fd)) {
        l->connections++;
        if (hear_handshake(fd))
            while (hear_request(l, fd) && l->answer(l, fd)) continue;
    }
    return NULL;
}

static void open_liar(struct liar *l)
{
    l->listener = listen_local(l->address);
    assert_int_equal(pthread_create(&l->thread, NULL, liar_main, l), 0);
}

/* ---- fixture ---- */

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    static const uint8_t from_liar[PAGE_GROUPS * PAGE_HEADS] = {0};
    open_liar(&f->liar);
    pool_open(&f->honest_pool, ALL);
    pool_open(&f->to, ALL);
    for (uint32_t i = 0; i < 2 * BLOCKS; i++) pool_seal(&f->honest_pool, i, i);
    struct gw_peer_server_config server = server_config(&f->honest_pool);
    f->honest = server_open(&server);
    f->sources[0] = fetch_source(f->liar.address, ALL);
    f->sources[1] = fetch_source(gw_peer_server_address(f->honest), ALL);
    struct gw_peer_fetch_config config = fetch_config(&f->to, f->sources, 2);
    config.from = from_liar;
    config.stall_us = STALL_US;
    open_fetch(&f->run, &config);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_peer_fetch_destroy(f->run.fetch);
    shutdown(f->liar.listener, SHUT_RDWR);
    pthread_join(f->liar.thread, NULL);
    close(f->liar.listener);
    gw_peer_server_destroy(f->honest);
    assert_int_equal(pool_count(&f->to, POOLED_CLAIMED), 0);
    pool_close(&f->honest_pool);
    pool_close(&f->to);
    free(f);
    return 0;
}

/* The liar answers so; every block comes all the same, and is right. */
static struct gw_fetch_result run_with(struct fixture *f, bool (*answer)(struct liar *, int))
{
    f->liar.answer = answer;
    run_fetch(&f->run, 0, BLOCKS);
    if (f->run.err != GW_OK) fail_msg("%s", f->run.ctx.text);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_true(f->run.there[i]);
        assert_true(pool_has(&f->to, i));
    }
    assert_int_equal(f->run.result.pages, ITEMS);
    return f->run.result;
}

static uint64_t from_honest(struct fixture *f)
{
    return gw_peer_server_stats(f->honest).pages;
}

/* ---- right, but unusual ---- */

static void test_run_right_answers_need_no_other_source(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_all);
    assert_int_equal(r.corrupt + r.unasked + r.stale + r.foreign + r.bad + r.broken + r.refused, 0);
    assert_int_equal(from_honest(*state), 0);
}

static bool say_reversed(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    for (uint32_t i = 0; i < f->len / 2; i++) {
        struct gw_page_entry e = f->entries[i];
        f->entries[i] = f->entries[f->len - 1 - i];
        f->entries[f->len - 1 - i] = e;
    }
    return say_frame(fd, f) && say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_reordered_pages_find_their_places(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_reversed);
    assert_int_equal(r.unasked + r.refused + r.broken, 0);
    assert_int_equal(from_honest(*state), 0);
}

static bool say_without_done(struct liar *l, int fd)
{
    return say_frame(fd, right_frame(l));
}

static void test_run_lost_done_costs_the_connection_alone(void **state)
{
    struct fixture *f = *state;
    struct gw_fetch_result r = run_with(f, say_without_done);
    assert_int_equal(r.broken, 1);
    assert_int_equal(from_honest(f), 0);
    assert_true(f->run.took_us < PAGE_LATE_US / 2);
}

/* The pages in two frames, the second one first. */
static bool say_halves_reversed(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    struct gw_page_entry first[ITEMS / 2];
    uint32_t half = f->len / 2, rest = f->len - half;
    assert_true(half <= ITEMS / 2);
    memcpy(first, f->entries, half * sizeof *first);
    memmove(f->entries, f->entries + half, rest * sizeof *first);
    f->len = rest;
    if (!say_frame(fd, f)) return false;
    memcpy(f->entries, first, half * sizeof *first);
    f->len = half;
    return say_frame(fd, f) && say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_reordered_frames_find_their_places(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_halves_reversed);
    assert_int_equal(r.unasked + r.refused + r.broken, 0);
    assert_int_equal(from_honest(*state), 0);
}

/* What DONE has not seen before it is absent, and is nobody's when it comes. */
static bool say_done_first(struct liar *l, int fd)
{
    return say_done(l, fd, GW_PAGE_SERVED) && say_frame(fd, right_frame(l));
}

static void test_run_pages_behind_their_done_are_dropped(void **state)
{
    struct fixture *f = *state;
    struct gw_fetch_result r = run_with(f, say_done_first);
    assert_int_equal(r.refused, ITEMS);
    assert_int_equal(from_honest(f), ITEMS);
    f->liar.answer =
        say_all; /* the next run finds them there and connects anew, or drops them as another request's */
    run_fetch(&f->run, BLOCKS, BLOCKS);
    assert_int_equal(f->run.err, GW_OK);
    for (uint32_t i = BLOCKS; i < 2 * BLOCKS; i++) assert_true(pool_has(&f->to, i));
    assert_true(f->run.result.stale <= 1);
    assert_int_equal(f->run.result.unasked, 0);
}

/* ---- broken connections ---- */

/* The first time half of the pages and half of a page, then the end. */
static bool say_half(struct liar *l, int fd)
{
    if (l->connections > 1) return say_all(l, fd);
    struct frame *f = right_frame(l);
    seal(f);
    say(fd, f->bytes, f->size - f->head.payload_bytes / 2 + 100);
    return false;
}

static void test_run_cut_in_the_middle_goes_on_with_what_is_missing(void **state)
{
    struct fixture *f = *state;
    struct gw_fetch_result r = run_with(f, say_half);
    assert_int_equal(r.broken, 1);
    assert_int_equal(f->liar.requests, 2);
    assert_true(f->liar.wanted < ITEMS); /* it is not asked for what it gave */
    assert_int_equal(from_honest(f), 0);
}

static bool say_nothing(struct liar *l, int fd)
{
    (void)l;
    (void)fd;
    return false;
}

static void test_run_source_that_always_closes_is_given_up(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_nothing);
    assert_int_equal(r.broken, GW_FETCH_FAILS_MAX);
    assert_int_equal(from_honest(*state), ITEMS);
}

/* A byte, and again one, each sooner than the deadline of a message: none of them ever ends. */
static bool say_byte_by_byte(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    seal(f);
    say_slowly(fd, f->bytes, f->size, STALL_US / 3);
    return false;
}

static void test_run_byte_now_and_then_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct gw_fetch_result r = run_with(f, say_byte_by_byte);
    assert_int_equal(r.broken, GW_FETCH_FAILS_MAX);
    assert_int_equal(from_honest(f), ITEMS);
}

/* ---- wrong bytes ---- */

static bool say_corrupt(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    seal(f);
    f->bytes[f->size - 1] ^= 1;
    f->bytes[f->size - f->head.payload_bytes + 5] ^= 0x80;
    return say(fd, f->bytes, f->size) && say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_corrupt_pages_come_from_elsewhere(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_corrupt);
    assert_int_equal(r.corrupt, 2);
    assert_int_equal(r.broken, 0);
    assert_int_equal(from_honest(*state), 2);
}

static bool say_corrupt_table(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    seal(f);
    f->bytes[GW_PAGE_HEAD_BYTES + 3] ^= 1;
    return say(fd, f->bytes, f->size) && say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_corrupt_table_ends_the_connection(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_corrupt_table);
    assert_int_equal(r.bad, GW_FETCH_FAILS_MAX);
    assert_int_equal(r.broken, GW_FETCH_FAILS_MAX);
    assert_int_equal(from_honest(*state), ITEMS);
}

static bool say_request(struct liar *l, int fd)
{
    uint8_t bytes[GW_PAGE_HEAD_BYTES + 64] = {0};
    struct gw_page_head head = l->asked;
    head.table_bytes = 64;
    gw_page_head_put(bytes, &head, bytes + GW_PAGE_HEAD_BYTES);
    return say(fd, bytes, sizeof bytes);
}

static void test_run_request_for_an_answer_ends_the_connection(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_request);
    assert_int_equal(r.bad, GW_FETCH_FAILS_MAX);
    assert_int_equal(from_honest(*state), ITEMS);
}

/* ---- pages that nobody asked for ---- */

static bool say_twice(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    return say_frame(fd, f) && say_frame(fd, f) && say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_repeated_frame_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct gw_fetch_result r = run_with(f, say_twice);
    /* The run may be over before the second one is looked at. */
    assert_true(r.unasked == ITEMS || r.unasked == 0);
    assert_int_equal(from_honest(f), 0);
}

/* The first page twice in a frame, in place of the second. */
static bool say_twin(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    f->entries[1] = f->entries[0];
    return say_frame(fd, f) && say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_page_twice_in_a_frame_is_taken_once(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_twin);
    assert_int_equal(r.unasked, 1);
    assert_int_equal(r.refused, 1);
    assert_int_equal(from_honest(*state), 1);
}

/* Another block, another head, a group that there is not, another length. */
static bool say_others(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    f->entries[0].name = page_name(77);
    f->entries[1].id.head = PAGE_HEADS;
    f->entries[2].id.group = 0xFFFF;
    f->entries[3].bytes += 8;
    return say_frame(fd, f) && say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_pages_of_others_are_skipped(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_others);
    assert_int_equal(r.unasked, 4);
    assert_int_equal(r.corrupt, 0);
    assert_int_equal(from_honest(*state), 4);
}

static bool say_other_absent(struct liar *l, int fd)
{
    uint8_t bytes[GW_PAGE_HEAD_BYTES + 2 * GW_PAGE_ABSENT_BYTES], *table = bytes + GW_PAGE_HEAD_BYTES;
    struct gw_page_head head = l->asked;
    const struct gw_page_absent other = {page_name(77), {GW_PAGE_ALL, GW_PAGE_ALL}};
    const struct gw_page_absent outside = {l->request.names[0], {0, PAGE_HEADS}};
    head.kind = GW_PAGE_ABSENT;
    head.table_bytes = 2 * GW_PAGE_ABSENT_BYTES;
    gw_page_absent_put(table, &other);
    gw_page_absent_put(table + GW_PAGE_ABSENT_BYTES, &outside);
    gw_page_head_put(bytes, &head, table);
    return say(fd, bytes, sizeof bytes) && say_all(l, fd);
}

static void test_run_absent_ones_nobody_asked_for_are_skipped(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_other_absent);
    assert_int_equal(r.unasked, 2);
    assert_int_equal(from_honest(*state), 0);
}

static bool say_done_only(struct liar *l, int fd)
{
    return say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_done_without_pages_means_absent(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_done_only);
    assert_int_equal(r.refused, ITEMS);
    assert_int_equal(r.broken, 0);
    assert_int_equal(from_honest(*state), ITEMS);
}

/* ---- fences, models, replays ---- */

static bool say_older(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    f->head.fence.term--;
    if (!say_frame(fd, f)) return false;
    f->head.fence = l->asked.fence;
    f->head.fence.generation--;
    if (!say_frame(fd, f)) return false;
    f->head.fence = l->asked.fence;
    f->head.fence.pipeline++;
    return say_frame(fd, f) && say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_frames_of_another_fence_are_dropped(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_older);
    assert_int_equal(r.stale, 3);
    assert_int_equal(r.refused, ITEMS);
    assert_int_equal(from_honest(*state), ITEMS);
}

static bool say_foreign(struct liar *l, int fd)
{
    struct frame *f = right_frame(l);
    f->head.model.fingerprint[0] ^= 1;
    if (!say_frame(fd, f)) return false;
    f->head.model = l->asked.model;
    f->head.model.numerics++;
    if (!say_frame(fd, f)) return false;
    f->head.model = l->asked.model;
    f->head.model.layer_bytes *= 2;
    return say_frame(fd, f) && say_done(l, fd, GW_PAGE_SERVED);
}

static void test_run_pages_of_another_model_are_dropped(void **state)
{
    struct gw_fetch_result r = run_with(*state, say_foreign);
    assert_int_equal(r.foreign, 3);
    assert_int_equal(from_honest(*state), ITEMS);
}

/* Keeps its first frame, and says it before the answer to the second request. */
static bool say_again(struct liar *l, int fd)
{
    if (l->requests == 1) {
        struct frame *f = right_frame(l);
        seal(f);
        l->kept = *f;
        return say(fd, f->bytes, f->size) && say_done(l, fd, GW_PAGE_SERVED);
    }
    return say(fd, l->kept.bytes, l->kept.size) && say_all(l, fd);
}

static void test_run_replayed_frame_of_an_earlier_request_is_dropped(void **state)
{
    struct fixture *f = *state;
    run_with(f, say_again);
    run_fetch(&f->run, BLOCKS, BLOCKS);
    assert_int_equal(f->run.err, GW_OK);
    for (uint32_t i = BLOCKS; i < 2 * BLOCKS; i++) assert_true(pool_has(&f->to, i));
    assert_int_equal(f->run.result.stale, 1);
    assert_int_equal(f->run.result.broken, 0);
    assert_int_equal(from_honest(f), 0);
}

static bool say_stale(struct liar *l, int fd)
{
    return say_done(l, fd, GW_PAGE_STALE);
}

static void test_run_source_that_refuses_our_generation_is_dead(void **state)
{
    struct fixture *f = *state;
    struct gw_fetch_result r = run_with(f, say_stale);
    assert_int_equal(r.stale, 1);
    assert_int_equal(f->liar.requests, 1);
    assert_int_equal(from_honest(f), ITEMS);
}

#define WRONG_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WRONG_TEST(test_run_right_answers_need_no_other_source),
        WRONG_TEST(test_run_reordered_pages_find_their_places),
        WRONG_TEST(test_run_reordered_frames_find_their_places),
        WRONG_TEST(test_run_pages_behind_their_done_are_dropped),
        WRONG_TEST(test_run_lost_done_costs_the_connection_alone),
        WRONG_TEST(test_run_cut_in_the_middle_goes_on_with_what_is_missing),
        WRONG_TEST(test_run_source_that_always_closes_is_given_up),
        WRONG_TEST(test_run_byte_now_and_then_is_dropped),
        WRONG_TEST(test_run_corrupt_pages_come_from_elsewhere),
        WRONG_TEST(test_run_corrupt_table_ends_the_connection),
        WRONG_TEST(test_run_request_for_an_answer_ends_the_connection),
        WRONG_TEST(test_run_repeated_frame_changes_nothing),
        WRONG_TEST(test_run_page_twice_in_a_frame_is_taken_once),
        WRONG_TEST(test_run_pages_of_others_are_skipped),
        WRONG_TEST(test_run_absent_ones_nobody_asked_for_are_skipped),
        WRONG_TEST(test_run_done_without_pages_means_absent),
        WRONG_TEST(test_run_frames_of_another_fence_are_dropped),
        WRONG_TEST(test_run_pages_of_another_model_are_dropped),
        WRONG_TEST(test_run_replayed_frame_of_an_earlier_request_is_dropped),
        WRONG_TEST(test_run_source_that_refuses_our_generation_is_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
