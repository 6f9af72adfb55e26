#include "migrate/store_internal.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/thread.h"

void store_count(struct gw_store *s, uint64_t *counter, uint64_t n)
{
    pthread_mutex_lock(&s->lock);
    *counter += n;
    pthread_mutex_unlock(&s->lock);
}

/* ---- the end of calls ---- */

static void count_call(const struct store_call *c)
{
    struct gw_store *s = c->store;
    uint64_t us = (uint64_t)(gw_clock_mono_us() - c->begun_us);
    pthread_mutex_lock(&s->lock);
    struct gw_store_verb_stats *v = store_verb_stats(s, c->verb);
    v->outcomes[c->outcome]++;
    if (c->outcome == GW_STORE_OK) {
        for (uint32_t i = 0; i < c->pages_len; i++)
            if (c->verb == STORE_PUT || (c->verb == STORE_GET && c->got[i])) v->bytes += c->pages[i].len;
        v->us_sum += us;
        v->us_max = us > v->us_max ? us : v->us_max;
    }
    s->stats.waiting_ops -= c->ops_len;
    s->stats.waiting_bytes -= c->bytes;
    pthread_mutex_unlock(&s->lock);
}

static void detach(struct store_op *op)
{
    if (op->state == OP_QUEUED && op->server)
        TAILQ_REMOVE(op->call->verb == STORE_PUT ? &op->server->background : &op->server->urgent, op, queued);
    if (op->slot) op->slot->op = NULL;
    op->slot = NULL;
    op->state = OP_OVER;
}

static void call_over(struct store_call *c)
{
    for (uint32_t i = 0; i < c->ops_len; i++)
        if (c->ops[i].state != OP_OVER) detach(&c->ops[i]);
    TAILQ_REMOVE(&c->store->calls, c, all);
    count_call(c);
    c->then.done(c->then.arg, c->outcome, c->got_len ? c->got : NULL, c->got_len);
    store_call_free(c);
}

/* A has is as good as the worst of its names' answers. */
void store_op_over(struct store_op *op, enum gw_store_outcome outcome)
{
    struct store_call *c = op->call;
    detach(op);
    if (outcome > c->outcome) c->outcome = outcome;
    if (--c->ops_left == 0) call_over(c);
}

static void cut_short(struct store_call *c, enum gw_store_outcome outcome)
{
    c->outcome = outcome;
    call_over(c);
}

/* ---- routing ---- */

static bool takes_ops(const struct store_server *server)
{
    return server->state == SERVER_UP || !server->tried;
}

/* Rendezvous: the server that scores highest for this name; NULL when none takes any. */
static struct store_server *route(const struct gw_store *s, const struct gw_block_name *name)
{
    struct store_server *best = NULL;
    uint64_t best_score = 0;
    for (uint32_t i = 0; i < s->servers_len; i++) {
        struct store_server *server = s->servers[i];
        uint64_t score = gw_hash64(name->bytes, sizeof name->bytes, server->seed);
        if (!takes_ops(server) || (best && score < best_score)) continue;
        best = server;
        best_score = score;
    }
    return best;
}

static void start_op(struct store_op *op, int64_t now_us)
{
    bool put = op->call->verb == STORE_PUT;
    struct store_server *server = route(op->call->store, &op->name);
    if (!server || (put && now_us < server->full_until_us)) {
        store_op_over(op, server ? GW_STORE_REFUSED : GW_STORE_LOST);
        return;
    }
    op->server = server;
    TAILQ_INSERT_TAIL(put ? &server->background : &server->urgent, op, queued);
}

/* The call may be over, and freed, with its last op. */
static void start_call(struct store_call *c, int64_t now_us)
{
    struct gw_store *s = c->store;
    uint32_t ops_len = c->ops_len;
    TAILQ_INSERT_TAIL(&s->calls, c, all);
    if (c->then.deadline_us <= now_us) {
        cut_short(c, GW_STORE_LATE);
        return;
    }
    if (c->then.deadline_us < s->next_deadline_us) s->next_deadline_us = c->then.deadline_us;
    store_timer_wants(s, c->then.deadline_us);
    for (uint32_t i = 0; i < ops_len; i++) start_op(&c->ops[i], now_us);
}

static struct store_call *take_call(struct gw_store *s)
{
    pthread_mutex_lock(&s->lock);
    struct store_call *c = TAILQ_FIRST(&s->inbox);
    if (c) TAILQ_REMOVE(&s->inbox, c, all);
    pthread_mutex_unlock(&s->lock);
    return c;
}

static struct gw_socket take_attached(struct gw_store *s, uint32_t i)
{
    pthread_mutex_lock(&s->lock);
    struct gw_socket socket = s->attached[i];
    s->attached[i] = gw_socket_none();
    pthread_mutex_unlock(&s->lock);
    return socket;
}

void store_on_wake(evutil_socket_t wake_fd, short what, void *arg)
{
    (void)what;
    struct gw_store *s = arg;
    struct store_call *c;
    uint64_t wakes;
    ssize_t ignored = read(wake_fd, &wakes, sizeof wakes);
    (void)ignored;
    for (uint32_t i = 0; i < s->servers_len; i++) {
        struct gw_socket socket = take_attached(s, i);
        if (socket.fd >= 0) store_server_attach(s->servers[i], socket);
    }
    for (uint64_t n = 0; n < s->queue_ops && (c = take_call(s)); n++) start_call(c, gw_clock_mono_us());
    for (uint32_t i = 0; i < s->servers_len; i++) store_server_pump(s->servers[i]);
}

/* ---- time ---- */

void store_timer_wants(struct gw_store *s, int64_t due_us)
{
    if (due_us == INT64_MAX || (s->timer_us != 0 && s->timer_us <= due_us)) return;
    int64_t wait_us = due_us - gw_clock_mono_us();
    if (wait_us < 0) wait_us = 0;
    const struct timeval t = {.tv_sec = wait_us / GW_US_PER_S, .tv_usec = wait_us % GW_US_PER_S};
    s->timer_us = due_us;
    evtimer_add(s->timer, &t);
}

static void expire_calls(struct gw_store *s, int64_t now_us)
{
    struct store_call *c, *next;
    if (now_us < s->next_deadline_us) return;
    s->next_deadline_us = INT64_MAX;
    for (c = TAILQ_FIRST(&s->calls); c; c = next) {
        next = TAILQ_NEXT(c, all);
        if (c->then.deadline_us <= now_us)
            cut_short(c, GW_STORE_LATE);
        else if (c->then.deadline_us < s->next_deadline_us)
            s->next_deadline_us = c->then.deadline_us;
    }
}

void store_on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gw_store *s = arg;
    int64_t now_us = gw_clock_mono_us();
    s->timer_us = 0;
    expire_calls(s, now_us);
    for (uint32_t i = 0; i < s->servers_len; i++) {
        int64_t due_us = store_server_tend(s->servers[i], now_us);
        store_timer_wants(s, due_us);
    }
    store_timer_wants(s, s->next_deadline_us);
}

/* ---- the thread ---- */

static bool is_ending(struct gw_store *s)
{
    pthread_mutex_lock(&s->lock);
    bool ending = s->ending;
    pthread_mutex_unlock(&s->lock);
    return ending;
}

/* Once ending is set, nothing comes into the inbox any more. */
static void end_calls(struct gw_store *s)
{
    struct store_call *c;
    while ((c = take_call(s))) TAILQ_INSERT_TAIL(&s->calls, c, all);
    while ((c = TAILQ_FIRST(&s->calls))) cut_short(c, GW_STORE_ENDED);
}

void *store_io(void *arg)
{
    struct gw_store *s = arg;
    gw_thread_name("gw-store");
    store_on_timer(-1, 0, s); /* the first dials */
    while (!is_ending(s)) event_base_loop(s->loop, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    end_calls(s);
    for (uint32_t i = 0; i < s->servers_len; i++) store_server_leave(s->servers[i], NULL);
    return NULL;
}
