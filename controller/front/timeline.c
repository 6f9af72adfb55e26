#include "controller/front/timeline.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/json.h"

#define EVENT_BYTES_MAX 4096

struct watcher {
    LIST_ENTRY(watcher) link;
    struct gw_timeline *timeline;
    struct gw_http_conn *conn;
};

LIST_HEAD(watcher_list, watcher);

/* Event id i lies in kept[i % GW_TIMELINE_KEPT]; ids begin with 1. */
struct gw_timeline {
    uint64_t last;
    struct gw_buf kept[GW_TIMELINE_KEPT];
    struct watcher_list watchers;
    int watchers_len;
};

static const char *const kind_names[] = {
    [GW_NOTE_WORKER_UP] = "worker_up",
    [GW_NOTE_WORKER_REFUSED] = "worker_refused",
    [GW_NOTE_WORKER_DOOMED] = "worker_doomed",
    [GW_NOTE_NOTICE_CANCELLED] = "notice_cancelled",
    [GW_NOTE_WORKER_LOST] = "worker_lost",
    [GW_NOTE_WORKER_LEFT] = "worker_left",
    [GW_NOTE_REQUEST_MOVED] = "request_moved",
    [GW_NOTE_REQUEST_ALONE] = "request_alone",
    [GW_NOTE_DIVERGED] = "diverged",
    [GW_NOTE_EPOCH] = "epoch",
    [GW_NOTE_PIPELINE_FORMING] = "pipeline_forming",
    [GW_NOTE_PIPELINE_SERVING] = "pipeline_serving",
    [GW_NOTE_PIPELINE_DRAINING] = "pipeline_draining",
    [GW_NOTE_WORKERS_APART] = "workers_apart",
    [GW_NOTE_PIPELINE_DEAD] = "pipeline_dead",
    [GW_NOTE_WORKER_ADVISED] = "worker_advised",
    [GW_NOTE_PIPELINE_WARMING] = "pipeline_warming",
    [GW_NOTE_REQUEST_ORIGIN] = "request_origin",
};

static const char *kind_name(enum gw_note_kind kind)
{
    size_t i = (size_t)kind;
    bool known = i < sizeof kind_names / sizeof kind_names[0] && kind_names[i];
    return known ? kind_names[i] : "unknown";
}

gw_err_t gw_timeline_create(struct gw_timeline **out)
{
    struct gw_timeline *t = calloc(1, sizeof *t);
    if (!t) return GW_ERR_MEMORY;
    for (int i = 0; i < GW_TIMELINE_KEPT; i++) gw_buf_init(&t->kept[i], EVENT_BYTES_MAX);
    LIST_INIT(&t->watchers);
    *out = t;
    return GW_OK;
}

void gw_timeline_destroy(struct gw_timeline *t)
{
    if (!t) return;
    for (int i = 0; i < GW_TIMELINE_KEPT; i++) gw_buf_fini(&t->kept[i]);
    free(t);
}

static void put_text(struct gw_buf *b, const char *field, const char *text)
{
    gw_buf_printf(b, ",\"%s\":", field);
    gw_json_put_string(b, text ? text : "", text ? strlen(text) : 0);
}

static void put_origin(struct gw_buf *b, const struct gw_kv_origin *o)
{
    gw_buf_printf(
        b, ",\"kv_tokens\":{\"total\":%llu,\"cache\":%llu,\"peer\":%llu,\"store\":%llu,\"recompute\":%llu}",
        (unsigned long long)o->total, (unsigned long long)o->cached, (unsigned long long)o->moved,
        (unsigned long long)o->stored, (unsigned long long)gw_kv_recomputed(o));
}

/* Request ids are strings: they do not fit the numbers of JavaScript. */
static void put_event(struct gw_buf *b, uint64_t id, const struct gw_note *n, int64_t time_ms)
{
    gw_buf_printf(b, "id: %llu\ndata: {\"id\":%llu,\"time_ms\":%lld,\"kind\":\"%s\"", (unsigned long long)id,
                  (unsigned long long)id, (long long)time_ms, kind_name(n->kind));
    put_text(b, "worker", n->worker);
    gw_buf_printf(b, ",\"generation\":%llu", (unsigned long long)n->generation);
    if (n->request)
        gw_buf_printf(b, ",\"request\":\"%llu\",\"attempt\":%u", (unsigned long long)n->request, n->attempt);
    gw_buf_printf(b, ",\"count\":%u,\"announced\":%s", n->count, n->announced ? "true" : "false");
    if (n->left) gw_buf_printf(b, ",\"left\":%llu", (unsigned long long)n->left);
    if (n->kind == GW_NOTE_REQUEST_ORIGIN) put_origin(b, &n->origin);
    put_text(b, "text", n->text);
    gw_buf_puts(b, "}\n\n");
}

void gw_timeline_add(struct gw_timeline *t, const struct gw_note *note, int64_t time_ms)
{
    struct watcher *w, *next;
    struct gw_buf *b = &t->kept[++t->last % GW_TIMELINE_KEPT];
    gw_buf_reset(b);
    put_event(b, t->last, note, time_ms);
    if (b->err != GW_OK) gw_buf_reset(b);
    for (w = LIST_FIRST(&t->watchers); w; w = next) {
        next = LIST_NEXT(w, link);
        gw_http_conn_stream_write(w->conn, b->data, b->len);
    }
}

static void forget(struct watcher *w)
{
    LIST_REMOVE(w, link);
    w->timeline->watchers_len--;
    free(w);
}

static void on_gone(void *arg)
{
    forget(arg);
}

static void send_kept(const struct gw_timeline *t, struct gw_http_conn *conn, uint64_t after)
{
    uint64_t oldest = t->last > GW_TIMELINE_KEPT ? t->last - GW_TIMELINE_KEPT + 1 : 1;
    uint64_t first = after >= oldest && after <= t->last ? after + 1 : oldest;
    for (uint64_t id = first; id <= t->last; id++) {
        const struct gw_buf *b = &t->kept[id % GW_TIMELINE_KEPT];
        gw_http_conn_stream_write(conn, b->data, b->len);
    }
}

gw_err_t gw_timeline_watch(struct gw_timeline *t, struct gw_http_conn *conn, uint64_t after, int64_t ping_us)
{
    static const struct gw_http_header headers[] = {{"Cache-Control", "no-cache"},
                                                    {"X-Accel-Buffering", "no"}};
    const struct gw_http_answer answer = {
        .status = 200, .content_type = "text/event-stream", .headers = headers, .headers_len = 2};
    if (t->watchers_len == GW_TIMELINE_WATCHERS) return GW_ERR_LIMIT;
    struct watcher *w = calloc(1, sizeof *w);
    if (!w) return GW_ERR_MEMORY;
    *w = (struct watcher){.timeline = t, .conn = conn};
    LIST_INSERT_HEAD(&t->watchers, w, link);
    t->watchers_len++;
    gw_http_conn_hold(conn, on_gone, w);
    gw_http_conn_stream_begin(conn, &answer, ping_us);
    send_kept(t, conn, after);
    return GW_OK;
}
