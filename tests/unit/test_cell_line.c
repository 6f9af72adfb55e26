/* migrate/cell_line, peer_conn_cells, cell_codec: parts come whole and as they are, or the caller learns how far they came. */
#include "tests/lib/page_socket.h"
#include "tests/lib/relay.h"

#include "migrate/cell_line.h"

#define PARTS      3
#define PART_BYTES ((uint64_t)5 * GW_CELL_PIECE_BYTES / 2) /* three pieces, the last one half */
#define PIECES     3
#define PACKING    77
#define STALL_US   (400 * GW_US_PER_MS) /* of what is meant to stall */

struct parts {
    uint8_t *bytes[PARTS];
    bool absent[PARTS];
    atomic_int pins, sums;
};

struct fixture {
    struct parts parts;
    struct gw_peer_server *server;
    struct gw_cell_line *line;
    struct relay relay;
    bool relayed;
    uint8_t *to;
    uint64_t sums[PIECES], whole;
    struct gw_cell_want want;
    struct gw_err_ctx ctx;
};

static const uint8_t *pin_part(void *arg, uint32_t part, uint64_t bytes)
{
    struct parts *p = arg;
    if (part >= PARTS || p->absent[part] || bytes != PART_BYTES) return NULL;
    atomic_fetch_add(&p->pins, 1);
    return p->bytes[part];
}

static void unpin_part(void *arg, uint32_t part)
{
    (void)part;
    atomic_fetch_sub(&((struct parts *)arg)->pins, 1);
}

static uint64_t sum_part(void *arg, uint32_t part, uint64_t at)
{
    struct parts *p = arg;
    atomic_fetch_add(&p->sums, 1);
    return gw_checksum(p->bytes[part] + at, gw_cell_piece_bytes(PART_BYTES, at));
}

static struct gw_peer_server_config config_of(struct fixture *f)
{
    static const struct gw_log silent = {.level = GW_LOG_NONE};
    return (struct gw_peer_server_config){.host = "127.0.0.1",
                                          .unix_socket = true,
                                          .key = PAGE_KEY,
                                          .key_len = strlen(PAGE_KEY),
                                          .model = PAGE_MODEL,
                                          .cells = {&f->parts, PACKING, pin_part, unpin_part, sum_part, NULL},
                                          .log = &silent};
}

static void open_server(struct fixture *f, const struct gw_peer_server_config *config)
{
    assert_int_equal(gw_peer_server_create(config, &f->server, NULL), GW_OK);
    gw_peer_server_set_term(f->server, PAGE_FENCE.term);
}

static struct gw_cell_line *line_to(const char *address, struct gw_page_fence fence, uint64_t packing)
{
    const struct gw_cell_line_config config = {.address = address,
                                               .key = PAGE_KEY,
                                               .key_len = strlen(PAGE_KEY),
                                               .fence = fence,
                                               .model = PAGE_MODEL,
                                               .packing = packing,
                                               .stall_us = STALL_US};
    struct gw_cell_line *line;
    assert_int_equal(gw_cell_line_create(&config, &line, NULL), GW_OK);
    return line;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    for (uint32_t p = 0; p < PARTS; p++) {
        f->parts.bytes[p] = malloc(PART_BYTES);
        for (uint64_t i = 0; i < PART_BYTES / 8; i++)
            ((uint64_t *)(void *)f->parts.bytes[p])[i] = gw_mix64(i * PARTS + p);
    }
    f->to = calloc(1, PART_BYTES);
    f->want = (struct gw_cell_want){.part = 1, .bytes = PART_BYTES, .to = f->to, .sums = f->sums};
    *state = f;
    return 0;
}

/* Whatever happened, nothing stays pinned. */
static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_cell_line_destroy(f->line);
    if (f->relayed) relay_close(&f->relay);
    gw_peer_server_destroy(f->server);
    assert_int_equal(atomic_load(&f->parts.pins), 0);
    for (uint32_t p = 0; p < PARTS; p++) free(f->parts.bytes[p]);
    free(f->to);
    free(f);
    return 0;
}

static void open_both(struct fixture *f)
{
    const struct gw_peer_server_config config = config_of(f);
    open_server(f, &config);
    f->line = line_to(gw_peer_server_address(f->server), PAGE_FENCE, PACKING);
}

/* The line goes through a relay that does wrong at that byte of what the server says. */
static void open_relayed(struct fixture *f, enum relay_wrong wrong, size_t at)
{
    const struct gw_peer_server_config config = config_of(f);
    open_server(f, &config);
    relay_open(&f->relay, gw_peer_server_address(f->server), wrong, at);
    f->relayed = true;
    f->line = line_to(f->relay.address, PAGE_FENCE, PACKING);
}

static gw_err_t get(struct fixture *f, uint32_t part)
{
    f->want.part = part;
    gw_err_reset(&f->ctx);
    return gw_cell_line_get(f->line, &f->want, &f->whole, &f->ctx);
}

static void check_part(const struct fixture *f, uint32_t part)
{
    assert_int_equal(f->whole, PART_BYTES);
    assert_memory_equal(f->to, f->parts.bytes[part], PART_BYTES);
    for (uint64_t i = 0; i < PIECES; i++)
        assert_int_equal(f->sums[i], gw_checksum(f->to + i * GW_CELL_PIECE_BYTES,
                                                 gw_cell_piece_bytes(PART_BYTES, i * GW_CELL_PIECE_BYTES)));
}

static void test_get_parts_one_after_another_come_over_one_connection(void **state)
{
    struct fixture *f = *state;
    open_relayed(f, RELAY_PASSES, 0);
    for (uint32_t part = 0; part < PARTS; part++) {
        f->whole = 0;
        assert_int_equal(get(f, part), GW_OK);
        check_part(f, part);
    }
    assert_int_equal(atomic_load(&f->relay.accepted), 1);
    assert_int_equal(gw_peer_server_stats(f->server).cell_asks, PARTS);
    assert_int_equal(gw_peer_server_stats(f->server).cell_bytes, PARTS * PART_BYTES);
}

static void test_get_rest_of_a_part_brings_the_rest_alone(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    memcpy(f->to, f->parts.bytes[1], GW_CELL_PIECE_BYTES);
    f->sums[0] = gw_checksum(f->to, GW_CELL_PIECE_BYTES);
    f->whole = GW_CELL_PIECE_BYTES;
    assert_int_equal(get(f, 1), GW_OK);
    check_part(f, 1);
    assert_int_equal(gw_peer_server_stats(f->server).cell_bytes, PART_BYTES - GW_CELL_PIECE_BYTES);
}

static void test_get_absent_part_leaves_the_line_good(void **state)
{
    struct fixture *f = *state;
    open_relayed(f, RELAY_PASSES, 0);
    f->parts.absent[1] = true;
    assert_int_equal(get(f, 1), GW_ERR_NOT_FOUND);
    assert_int_equal(get(f, PARTS), GW_ERR_NOT_FOUND);
    f->want.bytes = PART_BYTES - 8; /* reckoned otherwise there */
    assert_int_equal(get(f, 0), GW_ERR_NOT_FOUND);
    f->want.bytes = PART_BYTES;
    assert_int_equal(get(f, 2), GW_OK);
    check_part(f, 2);
    assert_int_equal(atomic_load(&f->relay.accepted), 1);
}

static void test_get_of_another_packing_model_or_time_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct gw_peer_server_config config = config_of(f);
    struct gw_page_fence old = PAGE_FENCE;
    old.term--;
    open_server(f, &config);
    const char *address = gw_peer_server_address(f->server);
    f->line = line_to(address, PAGE_FENCE, PACKING + 1);
    assert_int_equal(get(f, 1), GW_ERR_INPUT);
    assert_non_null(strstr(f->ctx.text, "packing"));
    gw_cell_line_destroy(f->line);
    f->line = line_to(address, old, PACKING);
    assert_int_equal(get(f, 1), GW_ERR_INPUT);
    assert_non_null(strstr(f->ctx.text, "over"));
    assert_int_equal(gw_peer_server_stats(f->server).stale, 1);
    assert_int_equal(f->whole, 0);
}

static void test_get_where_nobody_gives_weights_is_refused(void **state)
{
    struct fixture *f = *state;
    struct gw_peer_server_config config = config_of(f);
    config.cells = (struct gw_cell_source){0};
    open_server(f, &config);
    f->line = line_to(gw_peer_server_address(f->server), PAGE_FENCE, PACKING);
    assert_int_equal(get(f, 1), GW_ERR_INPUT);
}

static void test_get_of_one_peer_too_many_is_told_so_until_one_leaves(void **state)
{
    struct fixture *f = *state;
    struct gw_cell_line *others[GW_CELL_PEERS_MAX];
    open_both(f);
    for (int i = 0; i < GW_CELL_PEERS_MAX; i++) {
        struct gw_cell_line *own = f->line;
        others[i] = line_to(gw_peer_server_address(f->server), PAGE_FENCE, PACKING);
        f->line = others[i];
        f->whole = 0;
        assert_int_equal(get(f, 0), GW_OK);
        f->line = own;
    }
    f->whole = 0;
    assert_int_equal(get(f, 1), GW_ERR_INPUT);
    assert_non_null(strstr(f->ctx.text, "others"));
    for (int i = 0; i < GW_CELL_PEERS_MAX; i++) gw_cell_line_destroy(others[i]);
    gw_err_t err = GW_ERR_INPUT;
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    while (err == GW_ERR_INPUT && gw_clock_mono_us() < until_us)
        err = get(f, 1); /* their threads see it soon */
    assert_int_equal(err, GW_OK);
    check_part(f, 1);
}

/* Behind the handshake (80 bytes at most) and a head there is the first piece. */
static void test_get_flipped_byte_is_found_and_the_pieces_before_stay(void **state)
{
    struct fixture *f = *state;
    open_relayed(f, RELAY_FLIPS, GW_CELL_PIECE_BYTES + 1000);
    assert_int_equal(get(f, 1), GW_ERR_PROTO);
    assert_non_null(strstr(f->ctx.text, "checksum"));
    assert_int_equal(f->whole, GW_CELL_PIECE_BYTES);
    assert_memory_equal(f->to, f->parts.bytes[1], GW_CELL_PIECE_BYTES);
    atomic_store(&f->relay.wrong, RELAY_PASSES); /* no connection is open */
    assert_int_equal(get(f, 1), GW_OK);
    check_part(f, 1);
}

static void test_get_of_a_source_that_falls_silent_ends_in_time(void **state)
{
    struct fixture *f = *state;
    open_relayed(f, RELAY_STOPS, GW_CELL_PIECE_BYTES + 1000);
    assert_int_equal(get(f, 1), GW_ERR_LIMIT);
    assert_int_equal(f->whole, GW_CELL_PIECE_BYTES);
}

static void test_get_of_a_source_that_dies_keeps_what_came(void **state)
{
    struct fixture *f = *state;
    open_relayed(f, RELAY_CLOSES, 2 * GW_CELL_PIECE_BYTES + 1000);
    assert_int_equal(get(f, 1), GW_ERR_IO);
    assert_int_equal(f->whole, 2 * GW_CELL_PIECE_BYTES);
    atomic_store(&f->relay.wrong, RELAY_PASSES);
    assert_int_equal(get(f, 1), GW_OK);
    check_part(f, 1);
}

static bool no_more(void *arg, uint32_t bytes)
{
    *(uint32_t *)arg += bytes;
    return false;
}

static void test_get_that_is_given_up_can_go_on_later(void **state)
{
    struct fixture *f = *state;
    uint32_t bytes = 0;
    open_both(f);
    f->want.goes_on = no_more;
    f->want.arg = &bytes;
    assert_int_equal(get(f, 1), GW_ERR_LIMIT);
    assert_int_equal(bytes, GW_CELL_PIECE_BYTES);
    assert_int_equal(f->whole, GW_CELL_PIECE_BYTES);
    f->want.goes_on = NULL;
    assert_int_equal(get(f, 1), GW_OK);
    check_part(f, 1);
}

static void test_cut_ends_all_that_would_follow(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    gw_cell_line_cut(f->line);
    assert_int_equal(get(f, 1), GW_ERR_IO);
}

static void test_get_from_nobody_fails_at_once(void **state)
{
    struct fixture *f = *state;
    char address[64];
    int fd = listen_local(address);
    close(fd);
    f->line = line_to(address, PAGE_FENCE, PACKING);
    assert_int_equal(get(f, 1), GW_ERR_IO);
    gw_cell_line_destroy(f->line);
    f->line = line_to("nowhere", PAGE_FENCE, PACKING);
    assert_int_equal(get(f, 1), GW_ERR_INPUT);
}

static double slowly(void *arg)
{
    (void)arg;
    return 10e6;
}

/* Before the third piece goes, two MiB are to be paid for. */
static void test_server_gives_no_faster_than_its_rate(void **state)
{
    struct fixture *f = *state;
    struct gw_peer_server_config config = config_of(f);
    config.cells.rate = slowly;
    open_server(f, &config);
    f->line = line_to(gw_peer_server_address(f->server), PAGE_FENCE, PACKING);
    int64_t start_us = gw_clock_mono_us();
    assert_int_equal(get(f, 1), GW_OK);
    assert_true(gw_clock_mono_us() - start_us >= 2 * (int64_t)GW_CELL_PIECE_BYTES / 10);
    check_part(f, 1);
}

/* What any program with the key may say. */
static void say_ask(int fd, const struct gw_cell_ask *ask)
{
    uint8_t head_bytes[GW_PAGE_HEAD_BYTES], table[GW_CELL_ASK_BYTES];
    const struct gw_page_head head = {.kind = GW_PAGE_CELL_ASK,
                                      .table_bytes = sizeof table,
                                      .request = 1,
                                      .fence = PAGE_FENCE,
                                      .model = PAGE_MODEL};
    gw_cell_ask_put(table, ask);
    gw_page_head_put(head_bytes, &head, table);
    assert_true(say(fd, head_bytes, sizeof head_bytes));
    assert_true(say(fd, table, sizeof table));
}

static void test_server_asks_that_cannot_be_right_end_the_connection(void **state)
{
    struct fixture *f = *state;
    static const struct gw_cell_ask wrong[] = {
        {PACKING, 1, PART_BYTES, PART_BYTES},
        {PACKING, 1, PART_BYTES, 17},
        {PACKING, 1, 0, 0},
        {PACKING, 1, PART_BYTES, UINT64_MAX - GW_CELL_PIECE_BYTES + 1}};
    const struct gw_peer_server_config config = config_of(f);
    open_server(f, &config);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int fd = connect_proven(gw_peer_server_address(f->server));
        say_ask(fd, &wrong[i]);
        assert_true(sees_end(fd));
        close(fd);
    }
    assert_int_equal(gw_peer_server_stats(f->server).cell_bytes, 0);
}

static void test_server_peer_that_takes_no_bytes_is_dropped_and_the_part_is_free(void **state)
{
    struct fixture *f = *state;
    struct gw_peer_server_config config = config_of(f);
    config.lease_us = STALL_US;
    open_server(f, &config);
    int fd = connect_proven(gw_peer_server_address(f->server)); /* its buffer takes 4 KiB */
    /* More than its end's buffer and ours hold. */
    for (int i = 0; i < 16; i++) say_ask(fd, &(struct gw_cell_ask){PACKING, 1, PART_BYTES, 0});
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    while (gw_peer_server_stats(f->server).slow == 0 && gw_clock_mono_us() < until_us) poll(NULL, 0, 10);
    assert_int_equal(gw_peer_server_stats(f->server).slow, 1);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_get_parts_one_after_another_come_over_one_connection),
        TEST(test_get_rest_of_a_part_brings_the_rest_alone),
        TEST(test_get_absent_part_leaves_the_line_good),
        TEST(test_get_of_another_packing_model_or_time_is_refused),
        TEST(test_get_where_nobody_gives_weights_is_refused),
        TEST(test_get_of_one_peer_too_many_is_told_so_until_one_leaves),
        TEST(test_get_flipped_byte_is_found_and_the_pieces_before_stay),
        TEST(test_get_of_a_source_that_falls_silent_ends_in_time),
        TEST(test_get_of_a_source_that_dies_keeps_what_came),
        TEST(test_get_that_is_given_up_can_go_on_later),
        TEST(test_cut_ends_all_that_would_follow),
        TEST(test_get_from_nobody_fails_at_once),
        TEST(test_server_gives_no_faster_than_its_rate),
        TEST(test_server_asks_that_cannot_be_right_end_the_connection),
        TEST(test_server_peer_that_takes_no_bytes_is_dropped_and_the_part_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
