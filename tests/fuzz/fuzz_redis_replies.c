/* migrate/redis_replies: whatever a "Redis" says is an answer within the limits or an error, however it is cut into reads. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "migrate/redis_replies.h"
#include "migrate/store.h"
#include "tests/fuzz/fuzz.h"

struct heard {
    uint64_t hash; /* of all that was told */
    uint32_t next; /* element that may come next */
};

static void mix(struct heard *h, const void *bytes, size_t len)
{
    h->hash = gw_hash64(bytes, len, h->hash);
}

static gw_err_t on_element(void *arg, uint32_t index, const char *bytes, size_t len)
{
    struct heard *h = arg;
    assert(index >= h->next && index < GW_STORE_PAGES_MAX);
    h->next = index + 1;
    mix(h, &index, sizeof index);
    if (bytes) mix(h, bytes, len);
    return GW_OK;
}

static gw_err_t on_answer(void *arg, const struct redis_answer *a, struct gw_err_ctx *ctx)
{
    struct heard *h = arg;
    (void)ctx;
    assert(a->elements <= GW_STORE_PAGES_MAX && h->next <= a->elements);
    assert(a->type == REDIS_ANSWER_ARRAY || (a->elements == 0 && h->next == 0));
    assert(strlen(a->error) <= REDIS_ERROR_TEXT_MAX);
    h->next = 0;
    mix(h, &a->type, sizeof a->type);
    mix(h, &a->integer, sizeof a->integer);
    mix(h, a->error, strlen(a->error));
    return GW_OK;
}

static gw_err_t feed(const uint8_t *bytes, size_t len, size_t step, struct heard *heard)
{
    const struct redis_listener listener = {heard, on_element, on_answer};
    struct redis_replies *r = redis_replies_create(&listener);
    gw_err_t err = GW_OK;
    assert(r);
    for (size_t at = 0; at < len && err == GW_OK; at += step)
        err = redis_replies_feed(r, bytes + at, len - at < step ? len - at : step, NULL);
    redis_replies_destroy(r);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct heard whole = {0}, cut = {0};
    gw_err_t err = feed(bytes, len, len + 1, &whole);
    gw_err_t cut_err = feed(bytes, len, 1 + len / 7, &cut);
    assert(err == cut_err);
    assert(err != GW_OK || (whole.hash == cut.hash && whole.next == cut.next));
    return 0;
}
