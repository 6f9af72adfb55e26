/* kernels/coll against a peer that is played by the test: frames, fences, bounds, and ends of the peer. */
#include "tests/lib/kernels_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>

#include "kernels/cpu/coll_frame.h"
#include "kernels/cpu/coll_in.h"
#include "tests/lib/coll_fixture.h"

#define STEP     11u
#define ELEMS    64u
#define DEADLINE (200 * GW_US_PER_MS)

static const struct gw_coll_fence fence = {.term = 7, .generation = 3, .pipeline = 5};

/* Rank 0 of two, with one share each; the test has the other end. */
struct pair {
    struct gw_coll *coll;
    struct gw_device *dev;
    int peer;
};

static struct pair open_pair(bool tcp, int64_t deadline_us)
{
    static const uint16_t cuts[] = {0, 1, 2};
    struct pair p = {.dev = device_with(1)};
    struct coll_mesh mesh;
    assert_int_equal(coll_mesh_open(&mesh, 2, tcp), 0);
    struct gw_coll_config config = coll_config(&mesh, 0, 2, 2, cuts, ELEMS);
    config.deadline_us = deadline_us;
    assert_int_equal(gw_coll_create(&config, &p.coll, NULL), GW_OK);
    p.peer = mesh.sockets[1][0].fd;
    gw_coll_begin(p.coll, STEP);
    return p;
}

static void close_pair(struct pair *p)
{
    gw_coll_destroy(p->coll);
    gw_device_destroy(p->dev);
    if (p->peer >= 0) close(p->peer);
}

static void put(int fd, const void *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void put_frame(int fd, const struct gw_coll_fence *f, uint8_t kind, uint64_t step, const void *payload,
                      uint32_t bytes)
{
    uint8_t head[GW_COLL_HEAD_BYTES];
    gw_coll_head_put(head, f, &(struct gw_coll_head){.kind = kind, .bytes = bytes, .step = step});
    put(fd, head, sizeof head);
    if (bytes > 0) put(fd, payload, bytes);
}

static void test_recv_takes_frames_of_its_step_in_order(void **state)
{
    (void)state;
    struct pair p = open_pair(true, DEADLINE);
    char got[4] = {0};
    put_frame(p.peer, &fence, GW_COLL_DATA, STEP, "abcd", 4);
    put_frame(p.peer, &fence, GW_COLL_DATA, STEP, "ef", 2);
    put_frame(p.peer, &fence, GW_COLL_DATA, STEP + 1, "ghi", 3);
    assert_int_equal(gw_coll_recv(p.coll, 1, got, 4, NULL), GW_OK);
    assert_memory_equal(got, "abcd", 4);
    assert_int_equal(gw_coll_recv(p.coll, 1, got, 2, NULL), GW_OK);
    assert_memory_equal(got, "ef", 2);
    gw_coll_begin(p.coll, STEP + 1);
    assert_int_equal(gw_coll_recv(p.coll, 1, got, 3, NULL), GW_OK);
    assert_memory_equal(got, "ghi", 3);
    close_pair(&p);
}

/* Control frames overtake data, keep their own order, and say their step and length. */
static void test_wait_and_take_give_control_frames(void **state)
{
    (void)state;
    struct pair p = open_pair(false, DEADLINE);
    char got[4];
    bool there;
    uint64_t step;
    size_t bytes;
    put_frame(p.peer, &fence, GW_COLL_DATA, STEP, "abcd", 4);
    put_frame(p.peer, &fence, GW_COLL_CONTROL, 99, "xyz", 3);
    put_frame(p.peer, &fence, GW_COLL_CONTROL, 100, NULL, 0);
    assert_int_equal(gw_coll_wait(p.coll, 1, GW_COLL_CONTROL, GW_US_PER_S, &there, &step, &bytes, NULL),
                     GW_OK);
    assert_true(there && step == 99 && bytes == 3);
    assert_int_equal(gw_coll_take(p.coll, 1, got, 3, NULL), GW_OK);
    assert_memory_equal(got, "xyz", 3);
    assert_int_equal(gw_coll_wait(p.coll, 1, GW_COLL_CONTROL, GW_US_PER_S, &there, &step, &bytes, NULL),
                     GW_OK);
    assert_true(there && step == 100 && bytes == 0);
    assert_int_equal(gw_coll_take(p.coll, 1, got, 0, NULL), GW_OK);
    assert_int_equal(gw_coll_wait(p.coll, 1, GW_COLL_CONTROL, 0, &there, &step, &bytes, NULL), GW_OK);
    assert_false(there);
    assert_int_equal(gw_coll_wait(p.coll, 1, GW_COLL_DATA, 0, &there, &step, &bytes, NULL), GW_OK);
    assert_true(there && step == STEP && bytes == 4);
    assert_int_equal(gw_coll_recv(p.coll, 1, got, 4, NULL), GW_OK);
    close_pair(&p);
}

/* recv must fail with this category and word, and so must every call after it. */
static void assert_recv_fails(struct pair *p, gw_err_t code, const char *word)
{
    char got[4];
    bool there;
    uint64_t step;
    size_t bytes;
    float residual[ELEMS];
    for (int i = 0; i < 5; i++) {
        struct gw_err_ctx ctx = {0};
        gw_err_t err = i == 0   ? gw_coll_recv(p->coll, 1, got, sizeof got, &ctx)
                       : i == 1 ? gw_coll_send(p->coll, 1, GW_COLL_DATA, got, 1, &ctx)
                       : i == 2 ? gw_coll_wait(p->coll, 1, GW_COLL_CONTROL, 0, &there, &step, &bytes, &ctx)
                       : i == 3 ? gw_coll_tree_add(p->coll, p->dev, residual, ELEMS, &ctx)
                                : gw_coll_take(p->coll, 1, got, 4, &ctx);
        assert_int_equal(err, code);
        assert_int_equal(ctx.code, code);
        if (!strstr(ctx.text, word)) fail_msg("call %d: \"%s\" does not say \"%s\"", i, ctx.text, word);
    }
}

static void test_frame_that_is_stale_or_wrong_is_refused(void **state)
{
    (void)state;
    static const struct {
        struct gw_coll_fence fence;
        uint8_t kind;
        uint64_t step;
        uint32_t bytes;
        const char *word;
    } cases[] = {
        {{.term = 6, .generation = 3, .pipeline = 5}, GW_COLL_DATA, STEP, 4, "term 6"},
        {{.term = 7, .generation = 2, .pipeline = 5}, GW_COLL_DATA, STEP, 4, "generation 2"},
        {{.term = 7, .generation = 3, .pipeline = 4}, GW_COLL_DATA, STEP, 4, "pipeline 4"},
        {{.term = 7, .generation = 3, .pipeline = 5}, GW_COLL_DATA, STEP - 1, 4, "step 10"},
        {{.term = 7, .generation = 3, .pipeline = 5}, GW_COLL_DATA, STEP + 1, 4, "step 12"},
        {{.term = 7, .generation = 3, .pipeline = 5}, GW_COLL_DATA, STEP, 3, "3 bytes"},
        {{.term = 7, .generation = 3, .pipeline = 5}, GW_COLL_DATA, STEP, 0, "0 bytes"},
        {{.term = 7, .generation = 3, .pipeline = 5}, 9, STEP, 4, "kind 9"},
        {{.term = 7, .generation = 3, .pipeline = 5}, 0, STEP, 4, "kind 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pair p = open_pair(i % 2, DEADLINE);
        put_frame(p.peer, &cases[i].fence, cases[i].kind, cases[i].step, "abcd", cases[i].bytes);
        assert_recv_fails(&p, GW_ERR_PROTO, cases[i].word);
        close_pair(&p);
    }
}

/* The same of a frame that came before it was asked for. */
static void test_frame_in_the_queue_of_another_step_is_refused(void **state)
{
    (void)state;
    struct pair p = open_pair(true, DEADLINE);
    bool there;
    uint64_t step;
    size_t bytes;
    put_frame(p.peer, &fence, GW_COLL_DATA, STEP - 1, "abcd", 4);
    assert_int_equal(gw_coll_wait(p.coll, 1, GW_COLL_DATA, GW_US_PER_S, &there, &step, &bytes, NULL), GW_OK);
    assert_true(there && step == STEP - 1);
    assert_recv_fails(&p, GW_ERR_PROTO, "step 10");
    close_pair(&p);
}

static void test_head_with_any_bit_wrong_is_refused_or_another_frame(void **state)
{
    (void)state;
    uint8_t head[GW_COLL_HEAD_BYTES];
    struct gw_coll_head want = {.kind = GW_COLL_CONTROL, .bytes = 12345, .step = 77}, got;
    gw_coll_head_put(head, &fence, &want);
    assert_int_equal(gw_coll_head_get(head, &fence, &got, NULL), GW_OK);
    assert_true(got.kind == want.kind && got.bytes == want.bytes && got.step == want.step);
    for (size_t bit = 0; bit < 8 * sizeof head; bit++) {
        head[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (gw_coll_head_get(head, &fence, &got, NULL) == GW_OK)
            assert_false(got.kind == want.kind && got.bytes == want.bytes && got.step == want.step);
        head[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_head_of_too_many_bytes_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t kind;
        size_t max;
    } kinds[] = {{GW_COLL_DATA, GW_COLL_DATA_MAX},
                 {GW_COLL_CONTROL, GW_COLL_CONTROL_MAX},
                 {GW_COLL_SETUP, GW_COLL_SETUP_BYTES}};
    for (size_t i = 0; i < 3; i++)
        for (uint32_t more = 0; more < 2; more++) {
            uint8_t head[GW_COLL_HEAD_BYTES];
            struct gw_coll_head h = {.kind = kinds[i].kind, .bytes = (uint32_t)kinds[i].max + more}, got;
            gw_coll_head_put(head, &fence, &h);
            assert_int_equal(gw_coll_head_get(head, &fence, &got, NULL), more ? GW_ERR_PROTO : GW_OK);
        }
}

/* Bytes as they would come from a socket, in pieces of any size. */
static gw_err_t feed(struct gw_coll_in *in, const uint8_t *bytes, size_t len, struct gw_err_ctx *ctx)
{
    while (len > 0) {
        struct iovec iov[2];
        int iov_len = gw_coll_in_room(in, iov);
        size_t took = 0;
        for (int i = 0; i < iov_len && took < len; i++) {
            size_t n = iov[i].iov_len < len - took ? iov[i].iov_len : len - took;
            memcpy(iov[i].iov_base, bytes + took, n);
            took += n;
        }
        TRY(gw_coll_in_got(in, took, ctx));
        bytes += took, len -= took;
    }
    return GW_OK;
}

/* Payload bytes are only counted, not written: 256 MiB are reserved, not touched. */
static gw_err_t feed_unwritten(struct gw_coll_in *in, uint32_t bytes, struct gw_err_ctx *ctx)
{
    uint8_t head[GW_COLL_HEAD_BYTES];
    struct iovec iov[2];
    gw_coll_head_put(head, &fence,
                     &(struct gw_coll_head){.kind = GW_COLL_DATA, .bytes = bytes, .step = STEP});
    TRY(feed(in, head, sizeof head, ctx));
    assert_int_equal(gw_coll_in_room(in, iov), 2);
    assert_int_equal(iov[0].iov_len, bytes);
    return gw_coll_in_got(in, bytes, ctx);
}

static void test_queue_over_its_maximum_is_an_error(void **state)
{
    (void)state;
    struct gw_coll_in in;
    struct gw_err_ctx ctx = {0};
    uint32_t eighth = (uint32_t)(GW_COLL_QUEUE_MAX / 8);
    assert_int_equal(gw_coll_in_init(&in, &fence), GW_OK);
    for (int i = 0; i < 7; i++) assert_int_equal(feed_unwritten(&in, eighth, &ctx), GW_OK);
    assert_int_equal(feed_unwritten(&in, eighth, &ctx), GW_ERR_LIMIT); /* the frames themselves count too */
    gw_coll_in_fini(&in);
}

/* What was taken makes room again. */
static void test_queue_that_is_emptied_goes_on(void **state)
{
    (void)state;
    struct gw_coll_in in;
    struct gw_err_ctx ctx = {0};
    uint32_t most = (uint32_t)(GW_COLL_CONTROL_MAX);
    uint8_t *payload = calloc(1, most), head[GW_COLL_HEAD_BYTES];
    assert_int_equal(gw_coll_in_init(&in, &fence), GW_OK);
    gw_coll_head_put(head, &fence,
                     &(struct gw_coll_head){.kind = GW_COLL_CONTROL, .bytes = most, .step = STEP});
    for (int i = 0; i < 20; i++) {
        struct gw_coll_head got;
        assert_int_equal(feed(&in, head, sizeof head, &ctx), GW_OK);
        assert_int_equal(feed(&in, payload, most, &ctx), GW_OK);
        assert_true(gw_coll_in_first(&in, GW_COLL_CONTROL, &got));
        gw_coll_in_take(&in, GW_COLL_CONTROL, payload);
    }
    assert_int_equal(in.queued, 0);
    gw_coll_in_fini(&in);
    free(payload);
}

static void test_peer_that_closes_fails_the_wait_at_once(void **state)
{
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++)
        for (int part = 0; part < 3; part++) {
            struct pair p = open_pair(tcp, 60 * GW_US_PER_S);
            int64_t start = gw_clock_mono_us();
            uint8_t head[GW_COLL_HEAD_BYTES];
            gw_coll_head_put(head, &fence,
                             &(struct gw_coll_head){.kind = GW_COLL_DATA, .bytes = 4, .step = STEP});
            if (part > 0) put(p.peer, head, part == 1 ? 17 : sizeof head);
            if (part > 1) put(p.peer, "abc", 3);
            close(p.peer);
            p.peer = -1;
            assert_recv_fails(&p, GW_ERR_IO, "rank 1 closed");
            assert_true(gw_clock_mono_us() - start < 30 * GW_US_PER_S);
            close_pair(&p);
        }
}

/* What it sent before counts. */
static void test_peer_that_closes_behind_its_frame_gives_the_frame(void **state)
{
    (void)state;
    struct pair p = open_pair(true, DEADLINE);
    char got[4];
    put_frame(p.peer, &fence, GW_COLL_DATA, STEP, "abcd", 4);
    close(p.peer);
    p.peer = -1;
    assert_int_equal(gw_coll_recv(p.coll, 1, got, 4, NULL), GW_OK);
    assert_recv_fails(&p, GW_ERR_IO, "rank 1");
    close_pair(&p);
}

static void test_peer_that_is_frozen_fails_the_wait_by_the_deadline(void **state)
{
    (void)state;
    for (int part = 0; part < 2; part++) {
        struct pair p = open_pair(true, 50 * GW_US_PER_MS);
        int64_t start = gw_clock_mono_us();
        if (part) put(p.peer, "GWC1", 4);
        assert_recv_fails(&p, GW_ERR_IO, "rank 1 is slow");
        assert_true(gw_clock_mono_us() - start >= 50 * GW_US_PER_MS);
        close_pair(&p);
    }
}

/* A peer that takes nothing: the sockets fill up, then the backlog, then the deadline passes. */
static void test_peer_that_reads_nothing_fails_the_sender_by_the_deadline(void **state)
{
    (void)state;
    struct pair p = open_pair(false, 50 * GW_US_PER_MS);
    size_t bytes = (size_t)8 << 20;
    char *data = calloc(1, bytes);
    struct gw_err_ctx ctx = {0};
    gw_err_t err = GW_OK;
    int sent = 0;
    while (err == GW_OK && ++sent < 64) err = gw_coll_send(p.coll, 1, GW_COLL_DATA, data, bytes, &ctx);
    assert_int_equal(err, GW_ERR_IO);
    assert_non_null(strstr(ctx.text, "rank 1 is slow"));
    assert_in_range(sent, 2, 10); /* some are taken: the sender does not wait for a reader that computes */
    free(data);
    close_pair(&p);
}

struct trickle {
    int fd;
    const uint8_t *bytes;
    size_t len;
    int64_t pause_us;
};

static void *trickle_main(void *arg)
{
    struct trickle *t = arg;
    for (size_t i = 0; i < t->len; i++) {
        if (send(t->fd, t->bytes + i, 1, MSG_NOSIGNAL) != 1) return NULL;
        if (t->pause_us) poll(NULL, 0, (int)(t->pause_us / GW_US_PER_MS));
    }
    return NULL;
}

/* A kind of data frame and one of control, byte by byte; for longer than the deadline, which each byte puts off. */
static void test_frames_that_come_byte_by_byte_are_whole(void **state)
{
    (void)state;
    struct pair p = open_pair(true, DEADLINE);
    uint8_t bytes[2 * GW_COLL_HEAD_BYTES + 4 + 3];
    pthread_t thread;
    char got[4];
    bool there;
    uint64_t step;
    size_t len;
    gw_coll_head_put(bytes, &fence, &(struct gw_coll_head){GW_COLL_DATA, 4, STEP});
    memcpy(bytes + GW_COLL_HEAD_BYTES, "abcd", 4);
    gw_coll_head_put(bytes + GW_COLL_HEAD_BYTES + 4, &fence, &(struct gw_coll_head){GW_COLL_CONTROL, 3, 5});
    memcpy(bytes + 2 * GW_COLL_HEAD_BYTES + 4, "xyz", 3);
    struct trickle t = {.fd = p.peer, .bytes = bytes, .len = sizeof bytes, .pause_us = 8 * GW_US_PER_MS};
    assert_int_equal(pthread_create(&thread, NULL, trickle_main, &t), 0);
    assert_int_equal(gw_coll_recv(p.coll, 1, got, 4, NULL), GW_OK);
    assert_memory_equal(got, "abcd", 4);
    assert_int_equal(gw_coll_wait(p.coll, 1, GW_COLL_CONTROL, 60 * GW_US_PER_S, &there, &step, &len, NULL),
                     GW_OK);
    assert_true(there && step == 5 && len == 3);
    assert_int_equal(gw_coll_take(p.coll, 1, got, 3, NULL), GW_OK);
    assert_memory_equal(got, "xyz", 3);
    pthread_join(thread, NULL);
    close_pair(&p);
}

static void test_take_of_another_length_is_refused(void **state)
{
    (void)state;
    struct pair p = open_pair(true, DEADLINE);
    char got[4];
    bool there;
    uint64_t step;
    size_t bytes;
    put_frame(p.peer, &fence, GW_COLL_CONTROL, STEP, "abc", 3);
    assert_int_equal(gw_coll_wait(p.coll, 1, GW_COLL_CONTROL, GW_US_PER_S, &there, &step, &bytes, NULL),
                     GW_OK);
    assert_int_equal(gw_coll_take(p.coll, 1, got, 4, NULL), GW_ERR_PROTO);
    close_pair(&p);
}

struct offer {
    uint32_t pid, fd;
    uint64_t bytes, nonce;
};

/* Rank 0 of two makes the segment, and the other answers "no": both use sockets. The offer that was made. */
static struct offer declined_offer(void)
{
    static const uint16_t cuts[] = {0, 1, 2};
    struct coll_mesh mesh;
    struct gw_coll *coll;
    uint8_t bytes[GW_COLL_HEAD_BYTES + sizeof(struct offer)], verdict[GW_COLL_HEAD_BYTES + 4];
    assert_int_equal(coll_mesh_open(&mesh, 2, true), 0);
    struct gw_coll_config config = coll_config(&mesh, 0, 2, 2, cuts, ELEMS);
    config.try_shm = true;
    put_frame(mesh.sockets[1][0].fd, &fence, GW_COLL_SETUP, 0, "\0\0\0", 4);
    assert_int_equal(gw_coll_create(&config, &coll, NULL), GW_OK);
    assert_string_equal(gw_coll_transport(coll), "tcp");
    assert_int_equal(recv(mesh.sockets[1][0].fd, bytes, sizeof bytes, MSG_WAITALL), sizeof bytes);
    assert_int_equal(recv(mesh.sockets[1][0].fd, verdict, sizeof verdict, MSG_WAITALL), sizeof verdict);
    assert_memory_equal(verdict + GW_COLL_HEAD_BYTES, "\0\0\0", 4);
    gw_coll_destroy(coll);
    close(mesh.sockets[1][0].fd);
    struct offer offer;
    memcpy(&offer, bytes + GW_COLL_HEAD_BYTES, sizeof offer);
    return offer;
}

static void test_segment_that_a_rank_cannot_map_is_not_used(void **state)
{
    (void)state;
    struct offer offer = declined_offer();
    assert_int_equal(offer.pid, getpid());
    assert_true(offer.bytes > 2 * ELEMS * sizeof(float));
}

/* Rank 1 of two answers what the test, as rank 0, offers. */
static bool accepts(const struct offer *offer)
{
    static const uint16_t cuts[] = {0, 1, 2};
    struct coll_mesh mesh;
    struct gw_coll *coll;
    uint8_t answer[GW_COLL_HEAD_BYTES + 4];
    assert_int_equal(coll_mesh_open(&mesh, 2, false), 0);
    struct gw_coll_config config = coll_config(&mesh, 1, 2, 2, cuts, ELEMS);
    config.try_shm = true;
    put_frame(mesh.sockets[0][1].fd, &fence, GW_COLL_SETUP, 0, offer, sizeof *offer);
    put_frame(mesh.sockets[0][1].fd, &fence, GW_COLL_SETUP, 0, "\0\0\0", 4);
    assert_int_equal(gw_coll_create(&config, &coll, NULL), GW_OK);
    assert_string_equal(gw_coll_transport(coll), "tcp");
    assert_int_equal(recv(mesh.sockets[0][1].fd, answer, sizeof answer, MSG_WAITALL), sizeof answer);
    gw_coll_destroy(coll);
    close(mesh.sockets[0][1].fd);
    return answer[GW_COLL_HEAD_BYTES] == 1;
}

static int make_file(size_t bytes, int seals)
{
    int fd = memfd_create("not a stage", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void test_segment_that_is_not_what_was_offered_is_declined(void **state)
{
    (void)state;
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    const struct offer good = {.pid = (uint32_t)getpid(), .bytes = declined_offer().bytes};
    int sealed = make_file(good.bytes, seals), open_ended = make_file(good.bytes, F_SEAL_GROW | F_SEAL_SEAL),
        shorter = make_file(good.bytes - 4096, seals);
    struct offer offers[7];
    for (int i = 0; i < 7; i++) offers[i] = good, offers[i].fd = (uint32_t)sealed;
    assert_true(accepts(&offers[0])); /* what makes an offer good: the cases below lack one thing each */
    offers[0].pid = 0;
    offers[1].pid = UINT32_MAX;
    offers[2].fd = 1000000;
    offers[3].fd = (uint32_t)open_ended;
    offers[4].fd = (uint32_t)shorter;
    offers[5].bytes++;
    offers[6].nonce = 1;
    for (int i = 0; i < 7; i++)
        if (accepts(&offers[i])) fail_msg("offer %d is taken", i);
    close(sealed), close(open_ended), close(shorter);
}

static void test_create_with_a_wrong_config_fails_and_closes_the_sockets(void **state)
{
    (void)state;
    static const uint16_t cuts[] = {0, 1, 2}, gap[] = {0, 0, 2}, short_of[] = {0, 1, 1}, late[] = {1, 1, 2};
    for (int i = 0; i < 9; i++) {
        struct coll_mesh mesh;
        struct gw_coll *coll = NULL;
        char byte;
        assert_int_equal(coll_mesh_open(&mesh, 2, false), 0);
        struct gw_coll_config config = coll_config(&mesh, 0, 2, 2, cuts, ELEMS);
        if (i == 0) config.shares = 0;
        if (i == 1) config.shares = GW_SHARES_MAX + 1;
        if (i == 2) config.share_at = gap;
        if (i == 3) config.share_at = short_of;
        if (i == 4) config.share_at = late;
        if (i == 5) config.stage_first = 1;
        if (i == 6) config.stage_ranks = 3;
        if (i == 7) config.max_elems = 0;
        if (i == 8) config.self = 2;
        assert_int_equal(gw_coll_create(&config, &coll, NULL), GW_ERR_INPUT);
        assert_null(coll);
        assert_int_equal(recv(mesh.sockets[1][0].fd, &byte, 1, 0), 0);
        close(mesh.sockets[1][0].fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recv_takes_frames_of_its_step_in_order),
        cmocka_unit_test(test_wait_and_take_give_control_frames),
        cmocka_unit_test(test_frame_that_is_stale_or_wrong_is_refused),
        cmocka_unit_test(test_frame_in_the_queue_of_another_step_is_refused),
        cmocka_unit_test(test_head_with_any_bit_wrong_is_refused_or_another_frame),
        cmocka_unit_test(test_head_of_too_many_bytes_is_refused),
        cmocka_unit_test(test_queue_over_its_maximum_is_an_error),
        cmocka_unit_test(test_queue_that_is_emptied_goes_on),
        cmocka_unit_test(test_peer_that_closes_fails_the_wait_at_once),
        cmocka_unit_test(test_peer_that_closes_behind_its_frame_gives_the_frame),
        cmocka_unit_test(test_peer_that_is_frozen_fails_the_wait_by_the_deadline),
        cmocka_unit_test(test_peer_that_reads_nothing_fails_the_sender_by_the_deadline),
        cmocka_unit_test(test_frames_that_come_byte_by_byte_are_whole),
        cmocka_unit_test(test_take_of_another_length_is_refused),
        cmocka_unit_test(test_segment_that_a_rank_cannot_map_is_not_used),
        cmocka_unit_test(test_segment_that_is_not_what_was_offered_is_declined),
        cmocka_unit_test(test_create_with_a_wrong_config_fails_and_closes_the_sockets),
    };
    return cmocka_run_group_tests_name("coll_frames", tests, NULL, NULL);
}
