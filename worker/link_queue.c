#include "worker/link_queue.h"

#include <stdlib.h>
#include <time.h>

gw_err_t link_queue_init(struct link_queue *q)
{
    pthread_condattr_t attr;
    *q = (struct link_queue){.items = calloc(LINK_QUEUE_MAX, sizeof(struct gw_link_item))};
    if (!q->items) return GW_ERR_MEMORY;
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->wake, &attr);
    pthread_condattr_destroy(&attr);
    return GW_OK;
}

static struct gw_link_item pop_front(struct link_queue *q)
{
    struct gw_link_item item = q->items[q->head];
    q->head = (q->head + 1) % LINK_QUEUE_MAX;
    q->len--;
    return item;
}

static void empty(struct link_queue *q)
{
    while (q->len > 0) {
        struct gw_link_item item = pop_front(q);
        gw_msg_fini(&item.msg);
    }
}

void link_queue_fini(struct link_queue *q)
{
    if (!q->items) return;
    empty(q);
    free(q->items);
    pthread_cond_destroy(&q->wake);
    pthread_mutex_destroy(&q->lock);
    q->items = NULL;
}

static bool push_locked(struct link_queue *q, const struct gw_link_item *item)
{
    if (q->len == LINK_QUEUE_MAX) return false;
    q->items[(q->head + q->len++) % LINK_QUEUE_MAX] = *item;
    pthread_cond_signal(&q->wake);
    return true;
}

bool link_queue_push(struct link_queue *q, const struct gw_link_item *item)
{
    pthread_mutex_lock(&q->lock);
    bool pushed = push_locked(q, item);
    pthread_mutex_unlock(&q->lock);
    return pushed;
}

void link_queue_push_always(struct link_queue *q, const struct gw_link_item *item)
{
    pthread_mutex_lock(&q->lock);
    if (!push_locked(q, item)) {
        empty(q);
        push_locked(q, item);
    }
    pthread_mutex_unlock(&q->lock);
}

static struct timespec after_us(int64_t us)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ns = t.tv_nsec + us % 1000000 * 1000;
    t.tv_sec += us / 1000000 + ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    return t;
}

bool link_queue_pop(struct link_queue *q, int64_t wait_us, struct gw_link_item *out)
{
    pthread_mutex_lock(&q->lock);
    if (q->len == 0 && wait_us > 0) {
        struct timespec until = after_us(wait_us);
        int rc = 0;
        while (q->len == 0 && !q->woken && rc == 0) rc = pthread_cond_timedwait(&q->wake, &q->lock, &until);
    }
    bool any = q->len > 0;
    if (any) *out = pop_front(q);
    q->woken = false;
    pthread_mutex_unlock(&q->lock);
    return any;
}

void link_queue_wake(struct link_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->woken = true;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
}
