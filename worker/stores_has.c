/* Asking stores about many names at once. */
#include "worker/stores_internal.h"

#include <stdlib.h>

#include "base/clock.h"

struct asking {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t pending;
    bool *got;
};

/* Names of one place. */
struct question {
    struct asking *asking;
    uint32_t len;
    struct gw_block_name names[GW_STORE_NAMES_MAX];
    uint32_t at[GW_STORE_NAMES_MAX]; /* where they are in the whole list */
};

static void end_question(struct question *q)
{
    struct asking *a = q->asking;
    pthread_mutex_lock(&a->lock);
    if (--a->pending == 0) pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    free(q);
}

static void on_answer(void *arg, enum gw_store_outcome outcome, const bool *got, uint32_t got_len)
{
    struct question *q = arg;
    (void)outcome; /* what is said to be there is there */
    for (uint32_t i = 0; i < got_len; i++)
        if (got[i]) q->asking->got[q->at[i]] = true; /* nobody else writes at this index */
    end_question(q);
}

static void ask(struct gw_stores *s, struct place *p, struct question *q, struct gw_page_id id,
                int64_t deadline_us)
{
    const struct gw_store_then then = {.deadline_us = deadline_us, .done = on_answer, .arg = q};
    struct gw_store_then ours;
    struct call *c =
        q->len > 0 && stores_is_up(s, p, gw_clock_mono_us()) ? stores_call_new(p, &then, &ours) : NULL;
    if (c && gw_store_has(p->store, q->names, q->len, id, &ours) == GW_OK) return;
    free(c);
    end_question(q);
}

/* Asks a place about those names from *from on that are its (places[]). False: there are more. */
static bool ask_place(struct gw_stores *s, struct place *p, struct asking *a, struct place *const *places,
                      const struct gw_block_name *names, uint32_t names_len, uint32_t *from,
                      struct gw_page_id id, int64_t deadline_us)
{
    struct question *q = malloc(sizeof *q);
    if (!q) return true;
    q->asking = a;
    q->len = 0;
    pthread_mutex_lock(&a->lock);
    a->pending++;
    pthread_mutex_unlock(&a->lock);
    for (; *from < names_len && q->len < GW_STORE_NAMES_MAX; (*from)++) {
        if (places[*from] != p) continue;
        q->names[q->len] = names[*from];
        q->at[q->len++] = *from;
    }
    ask(s, p, q, id, deadline_us);
    return *from == names_len;
}

void gw_stores_has(struct gw_stores *s, uint32_t turn, const struct gw_block_name *names, uint32_t names_len,
                   struct gw_page_id id, int64_t deadline_us, bool *got)
{
    struct asking a = {.got = got};
    struct place **places = calloc(names_len, sizeof *places);
    if (!places) return;
    pthread_mutex_init(&a.lock, NULL);
    pthread_cond_init(&a.changed, NULL);
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < names_len; i++) places[i] = stores_place_for(s, &names[i], turn);
    for (uint32_t i = 0; i < s->places_len && !s->ending; i++) {
        uint32_t from = 0;
        while (!ask_place(s, s->places[i], &a, places, names, names_len, &from, id, deadline_us)) continue;
    }
    pthread_mutex_unlock(&s->lock);
    free(places);
    pthread_mutex_lock(&a.lock);
    while (a.pending > 0) pthread_cond_wait(&a.changed, &a.lock); /* each is answered by its deadline */
    pthread_mutex_unlock(&a.lock);
    pthread_cond_destroy(&a.changed);
    pthread_mutex_destroy(&a.lock);
}
