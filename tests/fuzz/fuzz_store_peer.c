/* migrate/store_peer_wire: whatever a peer says is a frame within the limits or an error, however it is cut into reads. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "migrate/store_peer_wire.h"
#include "tests/fuzz/fuzz.h"

struct heard {
    const struct peer_reader *reader;
    uint8_t *page;
    uint32_t page_len;
    uint64_t bytes; /* of the frame's pages so far */
    uint64_t hash;  /* of all that was told */
};

static void mix(struct heard *h, const void *bytes, size_t len)
{
    h->hash = gw_hash64(bytes, len, h->hash);
}

static gw_err_t on_frame(void *arg, const struct peer_frame *f)
{
    struct heard *h = arg;
    assert(f->items_len >= 1 && f->items_len <= GW_STORE_PAGES_MAX && f->bytes <= PEER_BYTES_MAX);
    assert(f->type >= PEER_PUT && f->type <= PEER_ANSWER);
    assert(f->bytes == 0 || f->type == PEER_PUT || f->type == PEER_ANSWER);
    mix(h, &f->name, sizeof f->name);
    mix(h, f->items, f->items_len * sizeof *f->items);
    h->bytes = 0;
    return GW_OK;
}

/* A heap block of exactly that length, so that a byte too many is seen. */
static uint8_t *on_page(void *arg, uint32_t i)
{
    struct heard *h = arg;
    h->page_len = h->reader->items[i].len;
    assert(h->page_len > 0 && h->page_len <= GW_PAGE_BYTES_MAX + GW_PAGE_SEAL_BYTES);
    free(h->page);
    h->page = malloc(h->page_len);
    return h->page;
}

static void on_page_over(void *arg, uint32_t i)
{
    struct heard *h = arg;
    assert(h->reader->items[i].len == h->page_len);
    mix(h, h->page, h->page_len);
    h->bytes += h->page_len;
}

static gw_err_t on_frame_over(void *arg)
{
    struct heard *h = arg;
    assert(h->bytes == h->reader->frame.bytes);
    return GW_OK;
}

static gw_err_t feed(const uint8_t *bytes, size_t len, size_t step, struct heard *h)
{
    struct peer_reader *r = malloc(sizeof *r);
    const struct peer_listener listener = {h, on_frame, on_page, on_page_over, on_frame_over};
    gw_err_t err = GW_OK;
    assert(r);
    peer_reader_init(r, &listener);
    h->reader = r;
    for (size_t at = 0; at < len && err == GW_OK; at += step)
        err = peer_reader_feed(r, bytes + at, len - at < step ? len - at : step, NULL);
    free(h->page);
    free(r);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct heard whole = {0}, cut = {0};
    gw_err_t err = feed(bytes, len, len + 1, &whole);
    gw_err_t cut_err = feed(bytes, len, 1 + len / 7, &cut);
    assert(err == cut_err && whole.hash == cut.hash);
    return 0;
}
