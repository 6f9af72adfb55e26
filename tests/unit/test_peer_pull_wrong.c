/* migrate/peer_pull against ranks that lie and leaders that do: no wrong answer is believed, nothing wrong is done. */
#include <sched.h>

#include "tests/lib/page_socket.h"
#include "tests/lib/pull_fixture.h"

#define FRAME_MAX  (GW_PAGE_HEAD_BYTES + GW_PULL_TABLE_MAX + 1)
#define MESSAGE_US (150 * GW_US_PER_MS)

/* A frame that is about to be sent. */
struct frame {
    struct gw_page_head head;
    uint8_t bytes[FRAME_MAX];
};

static uint8_t *table_of(struct frame *f)
{
    return f->bytes + GW_PAGE_HEAD_BYTES;
}

static size_t size_of(const struct frame *f)
{
    return GW_PAGE_HEAD_BYTES + f->head.table_bytes;
}

/* The head as it is now, with the sum that the frame must have. */
static void seal(struct frame *f)
{
    gw_page_head_put(f->bytes, &f->head, table_of(f));
}

/* ---- a rank that lies ---- */

struct liar {
    int listener;
    char address[64];
    pthread_t thread;
    bool (*answer)(struct liar *liar, int fd); /* false: closes */
    struct gw_page_head asked;
    struct gw_pull_table pull;
    uint32_t connections, pulls;
    struct frame frame, kept;
};

static struct frame *right_answer(struct liar *l)
{
    struct frame *f = &l->frame;
    uint8_t from[GW_PULL_NAMES_MAX];
    for (uint32_t i = 0; i < l->pull.pull.names_len; i++) from[i] = pull_answer(i);
    f->head = l->asked;
    f->head.kind = GW_PAGE_PULLED;
    f->head.table_bytes = gw_pulled_put(table_of(f), GW_PAGE_SERVED, from, l->pull.pull.names_len);
    seal(f);
    return f;
}

static bool say_frame(int fd, struct frame *f)
{
    return say(fd, f->bytes, size_of(f));
}

static bool say_sealed(int fd, struct frame *f)
{
    seal(f);
    return say_frame(fd, f);
}

static bool hear_pull(struct liar *l, int fd)
{
    static _Thread_local uint8_t head[GW_PAGE_HEAD_BYTES], table[GW_PULL_TABLE_MAX];
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    struct gw_socket socket = gw_socket_plain(fd);
    if (gw_peer_io_read(&socket, head, sizeof head, until_us, NULL) != GW_OK ||
        gw_page_head_get(head, &l->asked, NULL) != GW_OK ||
        gw_peer_io_read(&socket, table, l->asked.table_bytes, until_us, NULL) != GW_OK ||
        gw_pull_get(&l->asked, table, &l->pull, NULL) != GW_OK)
        return false;
    l->pulls++;
    return true;
}

static void *liar_main(void *arg)
{
    struct liar *l = arg;
    for (int fd; (fd = accept(l->listener, NULL, NULL)) >= 0; close(fd)) {
        l->connections++;
        if (hear_handshake(fd))
            while (hear_pull(l, fd) && l->answer(l, fd)) continue;
    }
    return NULL;
}

static bool say_right(struct liar *l, int fd)
{
    return say_frame(fd, right_answer(l));
}

static bool say_other_request(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    f->head.request++;
    return say_sealed(fd, f);
}

static bool say_other_generation(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    f->head.fence.generation--;
    return say_sealed(fd, f);
}

static bool say_other_model(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    f->head.model.numerics++;
    return say_sealed(fd, f);
}

static bool say_one_short(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    f->head.table_bytes--;
    return say_sealed(fd, f);
}

static bool say_one_more(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    table_of(f)[f->head.table_bytes++] = GW_PULL_HAD;
    return say_sealed(fd, f);
}

static bool say_from_nowhere(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    table_of(f)[6] = GW_PULL_FROMS;
    return say_sealed(fd, f);
}

static bool say_no_status(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    table_of(f)[0] = GW_PAGE_STATUSES;
    return say_sealed(fd, f);
}

static bool say_answers_of_a_refusal(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    table_of(f)[0] = GW_PAGE_REFUSED;
    return say_sealed(fd, f);
}

static bool say_wrong_sum(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    table_of(f)[5] ^= 1;
    return say_frame(fd, f);
}

static bool say_done(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    const struct gw_page_done done = {GW_PAGE_SERVED, 0, 0};
    f->head.kind = GW_PAGE_DONE;
    f->head.table_bytes = GW_PAGE_DONE_BYTES;
    gw_page_done_put(table_of(f), &done);
    return say_sealed(fd, f);
}

static bool say_http(struct liar *l, int fd)
{
    uint8_t bytes[GW_PAGE_HEAD_BYTES] = "HTTP/1.1 200 OK";
    (void)l;
    return say(fd, bytes, sizeof bytes);
}

static bool say_half(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    say(fd, f->bytes, size_of(f) - 1);
    return false;
}

static bool say_nothing(struct liar *l, int fd)
{
    (void)l;
    (void)fd;
    return false;
}

static bool say_byte_by_byte(struct liar *l, int fd)
{
    struct frame *f = right_answer(l);
    say_slowly(fd, f->bytes, size_of(f), 900 * GW_US_PER_MS);
    return false;
}

static bool say_twice(struct liar *l, int fd)
{
    return say_right(l, fd) && say_right(l, fd);
}

/* Keeps the answer to the first pull, and says it where that to the second is due. */
static bool say_again(struct liar *l, int fd)
{
    if (l->pulls == 1) {
        l->kept = *right_answer(l);
        return say_frame(fd, &l->kept);
    }
    return l->pulls == 2 ? say_frame(fd, &l->kept) && say_right(l, fd) : say_right(l, fd);
}

/* ---- fixture ---- */

static void open_liar(struct pull_fixture *f, struct liar *l)
{
    l->listener = listen_local(l->address);
    assert_int_equal(pthread_create(&l->thread, NULL, liar_main, l), 0);
    struct gw_puller_config config = puller_config(l->address);
    gw_puller_destroy(f->puller);
    f->puller = puller_open(&config);
    f->pull.budget_ms = 1;
}

static void close_liar(struct pull_fixture *f, struct liar *l)
{
    gw_puller_destroy(f->puller);
    f->puller = NULL;
    shutdown(l->listener, SHUT_RDWR);
    pthread_join(l->thread, NULL);
    close(l->listener);
    free(l);
}

/* The lie is not believed; the truth is, right behind it, by a new connection. */
static void check_lie(struct pull_fixture *f, struct liar *l, bool (*answer)(struct liar *, int),
                      gw_err_t err, const char *words)
{
    uint32_t before = l->connections;
    l->answer = answer;
    expect_lost(f, err, words);
    l->answer = say_right;
    expect_pulled(f);
    assert_int_equal(l->connections, before + 1 + (before == 0));
}

static void test_run_wrong_answers_are_not_believed(void **state)
{
    static const struct {
        bool (*answer)(struct liar *, int);
        gw_err_t err;
        const char *words;
    } lies[] = {
        {say_other_request, GW_ERR_PROTO, "not the answer"},
        {say_other_generation, GW_ERR_PROTO, "not the answer"},
        {say_other_model, GW_ERR_PROTO, "another model"},
        {say_one_short, GW_ERR_PROTO, "wrong length"},
        {say_one_more, GW_ERR_PROTO, "wrong length"},
        {say_from_nowhere, GW_ERR_PROTO, "from nowhere"},
        {say_no_status, GW_ERR_PROTO, "no status"},
        {say_answers_of_a_refusal, GW_ERR_PROTO, "wrong length"},
        {say_wrong_sum, GW_ERR_PROTO, "wrong checksum"},
        {say_done, GW_ERR_PROTO, "not the answer"},
        {say_http, GW_ERR_PROTO, "wrong magic"},
        {say_half, GW_ERR_IO, "closed"},
        {say_nothing, GW_ERR_IO, "closed"},
    };
    struct pull_fixture *f = *state;
    struct liar *l = calloc(1, sizeof *l);
    open_liar(f, l);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
        check_lie(f, l, lies[i].answer, lies[i].err, lies[i].words);
    assert_int_equal(l->pulls, 2 * sizeof lies / sizeof *lies); /* none was sent twice */
    close_liar(f, l);
}

static void test_run_byte_now_and_then_is_not_waited_for(void **state)
{
    struct pull_fixture *f = *state;
    struct liar *l = calloc(1, sizeof *l);
    open_liar(f, l);
    l->answer = say_byte_by_byte;
    expect_lost(f, GW_ERR_LIMIT, "slow");
    assert_true(f->took_us < PAGE_LATE_US);
    close_liar(f, l);
}

static void test_run_replayed_answer_of_an_earlier_pull_is_not_believed(void **state)
{
    struct pull_fixture *f = *state;
    struct liar *l = calloc(1, sizeof *l);
    open_liar(f, l);
    l->answer = say_again;
    expect_pulled(f);
    expect_lost(f, GW_ERR_PROTO, "not the answer");
    expect_pulled(f);
    assert_int_equal(l->connections, 2);
    close_liar(f, l);
}

static void test_run_repeated_answer_ends_the_connection_alone(void **state)
{
    struct pull_fixture *f = *state;
    struct liar *l = calloc(1, sizeof *l);
    open_liar(f, l);
    l->answer = say_twice;
    expect_pulled(f);
    l->answer = say_right;
    /* The second answer is there before the next pull, or comes in place of its own. */
    gw_err_t err = run_pull(f);
    assert_true(err == GW_OK || err == GW_ERR_PROTO);
    expect_pulled(f);
    assert_int_equal(l->connections, 2);
    close_liar(f, l);
}

/* ---- a leader that lies ---- */

static void make_pull(struct pull_fixture *f, struct frame *out)
{
    struct gw_buf b;
    gw_buf_init(&b, GW_PULL_TABLE_MAX);
    assert_int_equal(gw_pull_put(&b, &f->pull), GW_OK);
    memcpy(table_of(out), b.data, b.len);
    out->head = (struct gw_page_head){GW_PAGE_PULL, (uint32_t)b.len, 0, 1, f->pull.fence, PAGE_MODEL};
    seal(out);
    gw_buf_fini(&b);
}

static void put16(uint8_t *at, uint32_t v)
{
    at[0] = (uint8_t)v;
    at[1] = (uint8_t)(v >> 8);
}

#define NAMES_AT   16
#define HOLDERS_AT (NAMES_AT + PULL_BLOCKS * (GW_BLOCK_NAME_BYTES + 4))

static void spoil_no_names(struct frame *f)
{
    put16(table_of(f), 0);
}

static void spoil_too_many_names(struct frame *f)
{
    put16(table_of(f), GW_PULL_NAMES_MAX + 1);
    f->head.table_bytes = GW_PULL_TABLE_MAX;
}

static void spoil_too_many_holders(struct frame *f)
{
    put16(table_of(f) + 2, GW_FETCH_SOURCES_MAX + 1);
    f->head.table_bytes = GW_PULL_TABLE_MAX;
}

static void spoil_one_name_more(struct frame *f)
{
    put16(table_of(f), PULL_BLOCKS + 1);
}

static void spoil_budget(struct frame *f)
{
    table_of(f)[7] = 0xFF;
}

static void spoil_name_twice(struct frame *f)
{
    memcpy(table_of(f) + NAMES_AT, table_of(f) + NAMES_AT + GW_BLOCK_NAME_BYTES, GW_BLOCK_NAME_BYTES);
}

static void spoil_slot_twice(struct frame *f)
{
    uint8_t *slots = table_of(f) + NAMES_AT + PULL_BLOCKS * GW_BLOCK_NAME_BYTES;
    memcpy(slots + 4, slots, 4);
}

static void spoil_holder_rank(struct frame *f)
{
    table_of(f)[HOLDERS_AT] = GW_WIRE_RANKS_MAX;
}

static void spoil_holder_empty(struct frame *f)
{
    put16(table_of(f) + HOLDERS_AT + 6, 0);
}

static void spoil_holder_too_wide(struct frame *f)
{
    put16(table_of(f) + HOLDERS_AT + 10, GW_GEOMETRY_HEADS_MAX + 1);
}

static void spoil_address_endless(struct frame *f)
{
    memset(table_of(f) + HOLDERS_AT + 12, '1', GW_FETCH_ADDRESS_BYTES);
}

static void spoil_address_tail(struct frame *f)
{
    table_of(f)[HOLDERS_AT + GW_PULL_HOLDER_BYTES - 1] = 'x';
}

static void spoil_cut(struct frame *f)
{
    f->head.table_bytes--;
}

static void spoil_longer(struct frame *f)
{
    table_of(f)[f->head.table_bytes++] = 0;
}

static void spoil_kind(struct frame *f)
{
    f->head.kind = GW_PAGE_PULLED;
    f->head.table_bytes = 4 + PULL_BLOCKS;
}

static void wait_for_bad(struct pull_fixture *f, uint64_t bad)
{
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    while (gw_peer_server_stats(f->server).bad < bad && gw_clock_mono_us() < until_us) sched_yield();
    assert_int_equal(gw_peer_server_stats(f->server).bad, bad);
}

static void test_server_wrong_pulls_end_the_connection_and_are_not_done(void **state)
{
    static void (*const spoils[])(struct frame *) = {
        spoil_no_names,         spoil_too_many_names,
        spoil_too_many_holders, spoil_one_name_more,
        spoil_budget,           spoil_name_twice,
        spoil_slot_twice,       spoil_holder_rank,
        spoil_holder_empty,     spoil_cut,
        spoil_longer,           spoil_kind,
        spoil_holder_too_wide,  spoil_address_tail,
        spoil_address_endless,
    };
    struct pull_fixture *f = *state;
    struct frame *frame = calloc(1, sizeof *frame);
    for (size_t i = 0; i < sizeof spoils / sizeof *spoils; i++) {
        int fd = connect_proven(gw_peer_server_address(f->server));
        make_pull(f, frame);
        spoils[i](frame);
        say_sealed(fd, frame);
        if (!sees_end(fd)) fail_msg("wrong pull %zu is waited for", i);
        close(fd);
        wait_for_bad(f, i + 1);
    }
    assert_int_equal(rank_calls(&f->rank), 0);
    free(frame);
}

static void test_server_corrupt_pull_ends_the_connection(void **state)
{
    struct pull_fixture *f = *state;
    struct frame *frame = calloc(1, sizeof *frame);
    int fd = connect_proven(gw_peer_server_address(f->server));
    make_pull(f, frame);
    table_of(frame)[9] ^= 4; /* another name */
    say_frame(fd, frame);
    assert_true(sees_end(fd));
    close(fd);
    wait_for_bad(f, 1);
    assert_int_equal(rank_calls(&f->rank), 0);
    free(frame);
}

static void test_server_slow_pulls_are_dropped_in_time(void **state)
{
    struct pull_fixture *f = *state;
    struct frame *frame = calloc(1, sizeof *frame);
    struct gw_peer_server_config server = rank_server(f);
    server.message_us = MESSAGE_US;
    gw_peer_server_destroy(f->server);
    f->server = server_open(&server);
    make_pull(f, frame);
    int half = connect_proven(gw_peer_server_address(f->server));
    int slow = connect_proven(gw_peer_server_address(f->server));
    assert_true(say(half, frame->bytes, size_of(frame) - 1));
    say_slowly(slow, frame->bytes, size_of(frame), MESSAGE_US / 3);
    assert_true(sees_end(slow));
    assert_true(sees_end(half));
    close(half);
    close(slow);
    assert_int_equal(gw_peer_server_stats(f->server).slow, 2);
    assert_int_equal(rank_calls(&f->rank), 0);
    free(frame);
}

static enum gw_page_status hear_status(int fd)
{
    uint8_t head_bytes[GW_PAGE_HEAD_BYTES], table[GW_PULLED_TABLE_MAX], from[PULL_BLOCKS];
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    struct gw_page_head head;
    enum gw_page_status status = GW_PAGE_STATUSES;
    struct gw_socket socket = gw_socket_plain(fd);
    assert_int_equal(gw_peer_io_read(&socket, head_bytes, sizeof head_bytes, until_us, NULL), GW_OK);
    assert_int_equal(gw_page_head_get(head_bytes, &head, NULL), GW_OK);
    assert_int_equal(head.kind, GW_PAGE_PULLED);
    assert_int_equal(head.request, 1);
    assert_int_equal(gw_peer_io_read(&socket, table, head.table_bytes, until_us, NULL), GW_OK);
    assert_int_equal(gw_page_check(head_bytes, &head, table, NULL), GW_OK);
    assert_int_equal(gw_pulled_get(table, head.table_bytes, &status, from, PULL_BLOCKS, NULL), GW_OK);
    return status;
}

/* A zombie of the older generation says again what it said in it. */
static void test_server_replayed_pull_of_an_older_generation_is_stale(void **state)
{
    struct pull_fixture *f = *state;
    struct frame *frame = calloc(1, sizeof *frame);
    int fd = connect_proven(gw_peer_server_address(f->server));
    make_pull(f, frame);
    assert_true(say_frame(fd, frame));
    assert_int_equal(hear_status(fd), GW_PAGE_SERVED);
    gw_peer_server_set_term(f->server, PAGE_FENCE.term);
    gw_peer_server_cancel(f->server, PAGE_FENCE.generation);
    assert_true(say_frame(fd, frame));
    assert_int_equal(hear_status(fd), GW_PAGE_STALE);
    assert_int_equal(rank_calls(&f->rank), 1);
    close(fd);
    free(frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PULL_TEST(test_run_wrong_answers_are_not_believed),
        PULL_TEST(test_run_byte_now_and_then_is_not_waited_for),
        PULL_TEST(test_run_replayed_answer_of_an_earlier_pull_is_not_believed),
        PULL_TEST(test_run_repeated_answer_ends_the_connection_alone),
        PULL_TEST(test_server_wrong_pulls_end_the_connection_and_are_not_done),
        PULL_TEST(test_server_corrupt_pull_ends_the_connection),
        PULL_TEST(test_server_slow_pulls_are_dropped_in_time),
        PULL_TEST(test_server_replayed_pull_of_an_older_generation_is_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
