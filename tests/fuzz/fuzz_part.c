/* worker/part, worker/sampler: whatever words a rank sends as its part of a row, ids that are not its own are refused, and
 * the leader draws some token of the vocabulary or none.
 *
 *     byte  size  field
 *        0     2  keep       modulo GW_PICK_KEEP_MAX + 1
 *        2     1  top        modulo GW_PICK_TOP_MAX + 1
 *        3     1  flags      1 weights, 2 stats, 4 top-p, 8 min-p, 16 greedy
 *        4        words of both ranks' parts; zeros where there are no more */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "worker/part.h"
#include "worker/sampler.h"

#define VOCAB      600u
#define RANKS      2
#define HEAD_BYTES 4

static const struct gw_part_of ranks[RANKS] = {{.first = 0, .columns = 225, .shares = 3},
                                               {.first = 225, .columns = 375, .shares = 5}};

static bool get(const uint8_t **bytes, size_t *len, const struct gw_pick_want *want,
                const struct gw_part_of *of, struct gw_pick_part *out)
{
    size_t need = gw_part_words(want, of) * sizeof(float), have = *len < need ? *len : need;
    float *words = calloc(1, need ? need : 1); /* of the exact size */
    assert(words && need <= GW_PART_WORDS_MAX * sizeof(float));
    memcpy(words, *bytes, have);
    *bytes += have;
    *len -= have;
    bool ok = gw_part_get(words, want, of, out);
    free(words);
    if (!ok) return false;
    for (uint32_t i = 0; i < out->entries_len; i++) assert(out->entries[i].id - of->first < of->columns);
    for (uint32_t i = 0; i < out->top_len; i++) assert(out->top[i].id - of->first < of->columns);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct gw_pick_part parts[RANKS];
    struct gw_sample_out out;
    if (len < HEAD_BYTES) return 0;
    uint8_t flags = bytes[3];
    struct gw_pick_want want = {.stream = 1,
                                .inverse = flags & 16 ? 0 : 1.5f,
                                .keep = (uint32_t)(bytes[0] | bytes[1] << 8) % (GW_PICK_KEEP_MAX + 1),
                                .top = bytes[2] % (GW_PICK_TOP_MAX + 1),
                                .weights = flags & 1,
                                .stats = flags & 2};
    if (flags & 16) want.keep = 1;
    const struct gw_sampling params = {.temperature = flags & 16 ? 0 : 1 / 1.5f,
                                       .top_p = flags & 4 ? 0.9f : 1,
                                       .min_p = flags & 8 ? 0.1f : 0,
                                       .top_k = want.weights ? 0 : want.keep,
                                       .logprobs = want.stats,
                                       .top_logprobs = want.stats ? want.top : 0};
    const struct gw_sample_in in = {.params = &params};
    bytes += HEAD_BYTES;
    len -= HEAD_BYTES;
    for (int i = 0; i < RANKS; i++)
        if (!get(&bytes, &len, &want, &ranks[i], &parts[i])) return 0;
    if (gw_sampler_decide(&in, &want, parts, RANKS, &out)) assert(out.id < VOCAB);
    return 0;
}
