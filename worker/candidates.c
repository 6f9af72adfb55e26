#include "worker/candidates.h"

static bool is_better(const struct gw_pick_entry *a, const struct gw_pick_entry *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

bool gw_candidates_next(struct gw_candidates *c, struct gw_pick_entry *out)
{
    const struct gw_pick_entry *best = NULL;
    uint32_t from = 0;
    for (uint32_t i = 0; i < c->parts_len; i++) {
        const struct gw_pick_part *part = &c->parts[i];
        if (c->at[i] == part->entries_len) {
            if (part->all) continue;
            c->ran_out = true; /* its next one is no better than its last, but may be than the others' */
            return false;
        }
        const struct gw_pick_entry *head = &part->entries[c->at[i]];
        if (best && !is_better(head, best)) continue;
        best = head;
        from = i;
    }
    if (!best) return false;
    c->at[from]++;
    *out = *best;
    return true;
}
