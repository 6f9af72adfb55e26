/* kernels/cpu/coll_in: any byte stream, in pieces of any size, is cut into frames or refused; what is delivered is what
 * was sent, in order, and queues stay within their bound.
 *
 * The first byte seeds the sizes of the pieces and when data is wanted; the others are the stream. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/cpu/coll_in.h"
#include "tests/fuzz/fuzz.h"

#define WANT_BYTES 8
#define PAYLOAD_MAX                                                                                          \
    (1u << 20) /* larger frames are refused by the harness: the queue's bound has a test of its own */

static const struct gw_coll_fence fence = {.term = 1, .generation = 2, .pipeline = 3};

/* Where each kind's next frame begins in the stream: found again without the code under test. */
struct oracle {
    const uint8_t *bytes;
    size_t len;
    size_t at[GW_COLL_KINDS];
};

static size_t frame_bytes(const struct oracle *o, size_t at, struct gw_coll_head *head)
{
    if (o->len - at < GW_COLL_HEAD_BYTES) return 0;
    if (gw_coll_head_get(o->bytes + at, &fence, head, NULL) != GW_OK) return 0;
    if (o->len - at - GW_COLL_HEAD_BYTES < head->bytes) return 0;
    return GW_COLL_HEAD_BYTES + head->bytes;
}

/* The payload of the next frame of that kind, which must be there. */
static const uint8_t *oracle_next(struct oracle *o, uint8_t kind, struct gw_coll_head *head)
{
    for (size_t *at = &o->at[kind - 1];;) {
        size_t bytes = frame_bytes(o, *at, head), here = *at;
        assert(bytes > 0);
        *at += bytes;
        if (head->kind == kind) return o->bytes + here + GW_COLL_HEAD_BYTES;
    }
}

/* No frame in the stream asks for so much memory that fuzzing is slow. */
static bool sizes_fit(const uint8_t *bytes, size_t len)
{
    struct gw_coll_head head;
    for (size_t at = 0; len - at >= GW_COLL_HEAD_BYTES; at += GW_COLL_HEAD_BYTES + head.bytes) {
        if (gw_coll_head_get(bytes + at, &fence, &head, NULL) != GW_OK) return true;
        if (head.bytes > PAYLOAD_MAX) return false;
        if (len - at - GW_COLL_HEAD_BYTES < head.bytes) return true;
    }
    return true;
}

static void check_queues(struct gw_coll_in *in, struct oracle *o)
{
    struct gw_coll_head head, want;
    assert(in->queued <= GW_COLL_QUEUE_MAX);
    for (uint8_t kind = GW_COLL_CONTROL; kind <= GW_COLL_KINDS; kind++)
        while (gw_coll_in_first(in, kind, &head)) {
            const uint8_t *payload = oracle_next(o, kind, &want);
            uint8_t *got = malloc(head.bytes ? head.bytes : 1);
            assert(got && head.bytes == want.bytes && head.step == want.step);
            gw_coll_in_take(in, kind, got);
            assert(memcmp(got, payload, head.bytes) == 0);
            free(got);
        }
}

/* A want that was served holds the next data frame. */
static void check_want(uint8_t got[WANT_BYTES], struct oracle *o)
{
    struct gw_coll_head head;
    const uint8_t *payload = oracle_next(o, GW_COLL_DATA, &head);
    assert(head.bytes == WANT_BYTES && head.step == 0 && memcmp(got, payload, WANT_BYTES) == 0);
}

static gw_err_t feed_piece(struct gw_coll_in *in, const uint8_t *bytes, size_t len, size_t *took)
{
    struct iovec iov[2];
    int iov_len = gw_coll_in_room(in, iov);
    *took = 0;
    for (int i = 0; i < iov_len && *took < len; i++) {
        size_t n = iov[i].iov_len < len - *took ? iov[i].iov_len : len - *took;
        memcpy(iov[i].iov_base, bytes + *took, n);
        *took += n;
    }
    return gw_coll_in_got(in, *took, NULL);
}

static void run(struct gw_coll_in *in, const uint8_t *bytes, size_t len, struct gw_rng *r)
{
    struct oracle o = {.bytes = bytes, .len = len};
    uint8_t want[WANT_BYTES];
    bool wanted = false;
    for (size_t at = 0, took; at < len; at += took) {
        size_t piece = 1 + gw_rng_next(r) % (gw_rng_next(r) % 2 ? 8 : len);
        if (!wanted && gw_rng_next(r) % 2) {
            wanted = true;
            if (gw_coll_in_want(in, want, sizeof want, 0, NULL) != GW_OK) return;
        } else if (feed_piece(in, bytes + at, piece < len - at ? piece : len - at, &took) != GW_OK) {
            return;
        } else {
            check_queues(in, &o);
            if (!wanted || in->want.to) continue;
            check_want(want, &o);
            wanted = false;
            continue;
        }
        took = 0;
        if (in->want.to) continue;
        check_want(want, &o);
        wanted = false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct gw_coll_in in;
    struct gw_rng r;
    if (len < 1 || !sizes_fit(bytes + 1, len - 1)) return 0;
    gw_rng_init(&r, bytes[0]);
    assert(gw_coll_in_init(&in, &fence) == GW_OK);
    run(&in, bytes + 1, len - 1, &r);
    gw_coll_in_fini(&in);
    return 0;
}
