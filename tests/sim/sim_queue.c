#include "tests/sim/sim.h"

#include <stdlib.h>

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(struct sim_event *a, struct sim_event *b)
{
    struct sim_event t = *a;
    *a = *b;
    *b = t;
}

void sim_queue_push(struct sim *sim, struct sim_event e)
{
    if (sim->queue_len == sim->queue_cap) {
        sim->queue_cap = sim->queue_cap ? sim->queue_cap * 2 : 256;
        sim->queue = realloc(sim->queue, sim->queue_cap * sizeof *sim->queue);
        if (!sim->queue) abort();
    }
    if (e.order == 0) e.order = ++sim->next_order; /* postponed ones keep theirs: links stay FIFO */
    size_t i = sim->queue_len++;
    sim->queue[i] = e;
    while (i > 0 && before(&sim->queue[i], &sim->queue[(i - 1) / 2])) {
        swap(&sim->queue[i], &sim->queue[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
}

bool sim_queue_pop(struct sim *sim, struct sim_event *out)
{
    if (sim->queue_len == 0) return false;
    *out = sim->queue[0];
    sim->queue[0] = sim->queue[--sim->queue_len];
    for (size_t i = 0;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < sim->queue_len && before(&sim->queue[left], &sim->queue[least])) least = left;
        if (right < sim->queue_len && before(&sim->queue[right], &sim->queue[least])) least = right;
        if (least == i) return true;
        swap(&sim->queue[i], &sim->queue[least]);
        i = least;
    }
}

int64_t sim_queue_next_us(const struct sim *sim)
{
    return sim->queue_len > 0 ? sim->queue[0].at_us : INT64_MAX;
}
