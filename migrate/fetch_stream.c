/* One stream of a fetch: a connection to a source, requests out, frames in. */
#include "migrate/peer_fetch_internal.h"

#include <assert.h>

#include "base/thread.h"
#include "migrate/checksum.h"
#include "migrate/peer_io.h"

bool fetch_is_over(const struct gw_peer_fetch *f)
{
    return f->cancelled || f->failed || f->items.unsettled == 0 || gw_clock_mono_us() >= f->deadline_us;
}

static void lock(struct fetch_stream *s)
{
    pthread_mutex_lock(&s->fetch->lock);
}

static void unlock(struct fetch_stream *s)
{
    pthread_mutex_unlock(&s->fetch->lock);
}

/* A whole message has this long. */
static int64_t stall_deadline(const struct fetch_stream *s)
{
    int64_t stall_us = gw_clock_mono_us() + s->patience_us;
    return stall_us < s->fetch->deadline_us ? stall_us : s->fetch->deadline_us;
}

/* ---- requests out ---- */

static struct fetch_ask *free_ask(struct fetch_stream *s)
{
    for (int i = 0; i < GW_FETCH_ASKS_MAX; i++)
        if (!s->asks[i].used) return &s->asks[i];
    return NULL;
}

static bool any_asked(const struct fetch_stream *s)
{
    for (int i = 0; i < GW_FETCH_ASKS_MAX; i++)
        if (s->asks[i].used) return true;
    return false;
}

static struct fetch_ask *ask_of(struct fetch_stream *s, uint32_t request)
{
    for (int i = 0; i < GW_FETCH_ASKS_MAX; i++)
        if (s->asks[i].used && s->asks[i].id == request) return &s->asks[i];
    return NULL;
}

static gw_err_t send_request(struct fetch_stream *s, const struct fetch_ask *ask)
{
    const struct gw_peer_fetch_config *c = &s->fetch->config;
    struct gw_page_head head = {
        .kind = GW_PAGE_REQUEST, .request = ask->id, .fence = c->fence, .model = c->model};
    head.table_bytes = gw_page_request_put(s->table, &ask->request);
    gw_page_head_put(s->head_bytes, &head, s->table);
    struct iovec iov[] = {{s->head_bytes, sizeof s->head_bytes}, {s->table, head.table_bytes}};
    return gw_peer_io_writev(&s->line.socket, iov, 2, stall_deadline(s), &s->ctx);
}

/* Asks for more, as far as there is something to ask for and the rate allows it. */
static gw_err_t ask_more(struct fetch_stream *s)
{
    struct gw_peer_fetch *f = s->fetch;
    for (struct fetch_ask *ask; (ask = free_ask(s));) {
        int64_t now_us = gw_clock_mono_us();
        lock(s);
        bool asks =
            f->rate.due_us <= now_us && !fetch_is_over(f) && fetch_items_ask(&f->items, s->source, ask);
        if (asks) gw_rate_charge(&f->rate, ask->bytes, now_us);
        if (f->items.unsettled == 0)
            pthread_cond_broadcast(&f->changed); /* the pool had no room for the rest */
        unlock(s);
        if (!asks) return GW_OK;
        ask->id = ++s->next_request;
        TRY(send_request(s, ask));
    }
    return GW_OK;
}

/* ---- frames in ---- */

static void count(struct fetch_stream *s, uint64_t *counter)
{
    lock(s);
    ++*counter;
    unlock(s);
}

static gw_err_t skip(struct fetch_stream *s, size_t bytes, int64_t deadline_us)
{
    for (size_t n; bytes > 0; bytes -= n) {
        n = bytes < sizeof s->skipped ? bytes : sizeof s->skipped;
        TRY(gw_peer_io_read(&s->line.socket, s->skipped, n, deadline_us, &s->ctx));
    }
    return GW_OK;
}

/* Finds the place of each entry before a byte of the payload is read. */
static void take_entries(struct fetch_stream *s, struct fetch_ask *ask)
{
    struct gw_peer_fetch *f = s->fetch;
    lock(s);
    for (uint32_t i = 0; i < s->entries_len; i++) {
        struct fetch_entry *e = &s->entries[i];
        *e = (struct fetch_entry){.page = s->raw[i]};
        if (!fetch_items_take(&f->items, ask, &e->page, &e->name, &e->at, &e->to)) {
            e->to = NULL;
            f->result.unasked++;
        }
    }
    unlock(s);
}

/* Entries [first, end) lie in the pool: are they what their source says? */
static void end_entries(struct fetch_stream *s, struct fetch_ask *ask, uint32_t first, uint32_t end)
{
    struct gw_peer_fetch *f = s->fetch;
    bool right[FETCH_SPAN_PAGES] = {false};
    uint64_t bytes = 0;
    for (uint32_t i = first; i < end; i++)
        right[i - first] =
            gw_checksum(s->entries[i].to, s->entries[i].page.bytes) == s->entries[i].page.checksum;
    lock(s);
    for (uint32_t i = first; i < end; i++) {
        const struct fetch_entry *e = &s->entries[i];
        if (right[i - first]) {
            f->result.bytes += e->page.bytes;
            bytes += e->page.bytes;
            fetch_items_give(&f->items, ask, e->name, e->at, e->page.checksum);
        } else {
            f->result.corrupt++;
            fetch_items_end(&f->items, ask, e->name, e->at, FETCH_REFUSED);
        }
    }
    if (f->config.came[s->source])
        atomic_fetch_add_explicit(f->config.came[s->source], bytes, memory_order_relaxed);
    f->fails[s->source] = 0;
    pthread_cond_broadcast(&f->changed);
    unlock(s);
}

/* Reads the next entries at once: those from *at on that have a place. */
static gw_err_t read_span(struct fetch_stream *s, struct fetch_ask *ask, uint32_t *at, int64_t deadline_us)
{
    struct iovec iov[FETCH_SPAN_PAGES];
    uint32_t first = *at, len = 0;
    size_t bytes = 0;
    while (*at < s->entries_len && s->entries[*at].to && len < FETCH_SPAN_PAGES && bytes < FETCH_SPAN_BYTES) {
        const struct fetch_entry *e = &s->entries[(*at)++];
        iov[len++] = (struct iovec){e->to, e->page.bytes};
        bytes += e->page.bytes;
    }
    TRY(gw_peer_io_readv(&s->line.socket, iov, len, deadline_us, &s->ctx));
    end_entries(s, ask, first, *at);
    return GW_OK;
}

static gw_err_t on_pages(struct fetch_stream *s, struct fetch_ask *ask, int64_t deadline_us)
{
    if (gw_page_entries_get(&s->head, s->table, s->raw, &s->entries_len, NULL) != GW_OK) {
        count(s, &s->fetch->result.bad);
        return skip(s, s->head.payload_bytes, deadline_us);
    }
    take_entries(s, ask);
    for (uint32_t at = 0; at < s->entries_len;) {
        if (s->entries[at].to)
            TRY(read_span(s, ask, &at, deadline_us));
        else
            TRY(skip(s, s->entries[at++].page.bytes, deadline_us));
    }
    return GW_OK;
}

static void on_absent(struct fetch_stream *s, struct fetch_ask *ask)
{
    struct gw_peer_fetch *f = s->fetch;
    lock(s);
    for (uint32_t i = 0; i < s->head.table_bytes / GW_PAGE_ABSENT_BYTES; i++) {
        const struct gw_page_absent absent = gw_page_absent_get(s->table, i);
        if (!fetch_items_absent(&f->items, ask, &absent)) f->result.unasked++;
    }
    pthread_cond_broadcast(&f->changed);
    unlock(s);
}

static void on_done(struct fetch_stream *s, struct fetch_ask *ask)
{
    struct gw_peer_fetch *f = s->fetch;
    struct gw_page_done done;
    if (gw_page_done_get(s->table, &done, NULL) != GW_OK) {
        count(s, &f->result.bad);
        return;
    }
    lock(s);
    f->result.stale += done.status == GW_PAGE_STALE;
    f->result.foreign += done.status == GW_PAGE_FOREIGN;
    fetch_items_finish(&f->items, ask, FETCH_REFUSED);
    if (done.status != GW_PAGE_SERVED) fetch_items_kill(&f->items, s->source);
    pthread_cond_broadcast(&f->changed);
    unlock(s);
}

/* What the frame says of itself, but for its entries: NULL if it is no answer of ours. */
static struct fetch_ask *judge(struct fetch_stream *s)
{
    struct gw_peer_fetch *f = s->fetch;
    struct fetch_ask *ask = ask_of(s, s->head.request);
    if (!ask || !gw_page_fence_equal(&s->head.fence, &f->config.fence)) {
        count(s, &f->result.stale);
        return NULL;
    }
    /* A source that refuses us says so with its own model. */
    if (s->head.kind != GW_PAGE_DONE && !gw_page_model_equal(&s->head.model, &f->config.model)) {
        count(s, &f->result.foreign);
        return NULL;
    }
    return ask;
}

static bool is_answer(enum gw_page_kind kind)
{
    return kind == GW_PAGE_PAGES || kind == GW_PAGE_ABSENT || kind == GW_PAGE_DONE;
}

static gw_err_t read_frame(struct fetch_stream *s)
{
    int64_t deadline_us = stall_deadline(s);
    TRY(gw_peer_io_read(&s->line.socket, s->head_bytes, sizeof s->head_bytes, deadline_us, &s->ctx));
    TRY(gw_page_head_get(s->head_bytes, &s->head, &s->ctx));
    if (!is_answer(s->head.kind))
        return gw_fail(&s->ctx, GW_ERR_PROTO, "pages: kind %d where an answer was due", s->head.kind);
    TRY(gw_peer_io_read(&s->line.socket, s->table, s->head.table_bytes, deadline_us, &s->ctx));
    TRY(gw_page_check(s->head_bytes, &s->head, s->table, &s->ctx));
    struct fetch_ask *ask = judge(s);
    if (!ask) return skip(s, s->head.payload_bytes, deadline_us);
    switch (s->head.kind) {
    case GW_PAGE_PAGES: return on_pages(s, ask, deadline_us);
    case GW_PAGE_ABSENT: on_absent(s, ask); return GW_OK;
    default: on_done(s, ask); return GW_OK;
    }
}

/* ---- the stream ---- */

/* The connection is no more: what it was to bring is asked again. */
static void on_broken(struct fetch_stream *s, gw_err_t err)
{
    struct gw_peer_fetch *f = s->fetch;
    peer_line_close(&s->line);
    gw_logf(f->config.log, GW_LOG_DEBUG, "pages: source %u (%s): %s", s->source,
            f->config.sources[s->source].address, s->ctx.text);
    gw_err_reset(&s->ctx);
    lock(s);
    f->result.broken++;
    f->result.bad += err == GW_ERR_PROTO;
    for (int i = 0; i < GW_FETCH_ASKS_MAX; i++)
        if (s->asks[i].used) fetch_items_finish(&f->items, &s->asks[i], FETCH_RETURNED);
    bool hopeless =
        s->connecting || err == GW_ERR_LIMIT; /* LIMIT: it was silent for so long as is waited at most */
    uint32_t fails_max = hopeless && f->config.fast_fail ? 1 : GW_FETCH_FAILS_MAX;
    if (++f->fails[s->source] >= fails_max) fetch_items_kill(&f->items, s->source);
    pthread_cond_broadcast(&f->changed);
    unlock(s);
}

static void wait_until(struct gw_peer_fetch *f, int64_t until_us)
{
    if (until_us > f->deadline_us) until_us = f->deadline_us;
    const struct timespec t = {.tv_sec = until_us / GW_US_PER_S, .tv_nsec = until_us % GW_US_PER_S * 1000};
    pthread_cond_timedwait(&f->changed, &f->lock, &t);
}

/* Waits until the source may be dialed again. Under the lock. */
static void back_off(struct fetch_stream *s)
{
    struct gw_peer_fetch *f = s->fetch;
    uint32_t fails = f->fails[s->source];
    if (fails == 0) return;
    int64_t until_us = gw_clock_mono_us() + (GW_FETCH_BACKOFF_US << (fails - 1));
    while (!fetch_is_over(f) && !f->items.dead[s->source] && gw_clock_mono_us() < until_us)
        wait_until(f, until_us);
}

/* Waits until there is something to do for this stream. False: the run is over. */
static bool wait_for_work(struct fetch_stream *s)
{
    struct gw_peer_fetch *f = s->fetch;
    bool any = any_asked(s);
    lock(s);
    while (!any && !fetch_is_over(f)) {
        bool has = fetch_items_any(&f->items, s->source);
        int64_t due_us = has ? f->rate.due_us : f->deadline_us;
        any = has && due_us <= gw_clock_mono_us();
        if (!any) wait_until(f, due_us);
    }
    if (any && s->line.socket.fd < 0) back_off(s);
    bool goes_on = !fetch_is_over(f);
    unlock(s);
    return goes_on;
}

static gw_err_t connect_line(struct fetch_stream *s)
{
    const struct gw_peer_fetch_config *c = &s->fetch->config;
    const struct gw_fetch_source *source = &c->sources[s->source];
    const struct peer_line_to to = {
        source->address,
        c->try_unix,
        &s->fetch->key,
        {c->fence.term, c->fence.generation, c->fence.pipeline, c->rank, source->rank}};
    int64_t deadline_us = stall_deadline(s), fast_us = gw_clock_mono_us() + FETCH_FAST_US;
    if (c->fast_fail && fast_us < deadline_us) deadline_us = fast_us;
    s->connecting = true;
    TRY(peer_line_open(&s->line, &to, deadline_us, &s->ctx));
    s->connecting = false;
    return GW_OK;
}

/* The next request, or the next frame. */
static gw_err_t step(struct fetch_stream *s)
{
    if (s->line.socket.fd >= 0 && !any_asked(s) && gw_peer_io_idle_broken(&s->line.socket))
        peer_line_close(&s->line);
    if (s->line.socket.fd < 0) TRY(connect_line(s));
    TRY(ask_more(s));
    return any_asked(s) ? read_frame(s) : GW_OK;
}

/* All pages may be there before the last DONE is: a connection that is to serve again has to bring it. */
static void drain(struct fetch_stream *s)
{
    gw_err_t err = GW_OK;
    lock(s);
    s->patience_us = s->fetch->items.unsettled == 0 ? FETCH_DRAIN_US : 0;
    unlock(s);
    while (err == GW_OK && any_asked(s)) err = read_frame(s);
    if (err != GW_OK) on_broken(s, err);
}

void *fetch_stream_main(void *arg)
{
    struct fetch_stream *s = arg;
    gw_thread_name("gw-fetch");
    s->patience_us = s->fetch->config.stall_us;
    while (wait_for_work(s)) {
        gw_err_t err = step(s);
        if (err != GW_OK) on_broken(s, err);
    }
    drain(s);
    return NULL;
}
