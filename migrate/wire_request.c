#include "migrate/wire_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void put_ids(struct gw_buf *b, const uint32_t *ids, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) gw_buf_u32(b, ids[i]);
}

/* len ids, whose bytes gw_read_count has seen; NULL for none. */
static gw_err_t get_ids(struct gw_reader *r, uint32_t len, uint32_t **out)
{
    if (len == 0) return GW_OK;
    uint32_t *ids = malloc(len * sizeof *ids);
    if (!ids) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < len; i++) ids[i] = gw_read_u32(r);
    *out = ids;
    return GW_OK;
}

static gw_err_t get_bool(struct gw_reader *r, bool *out)
{
    uint8_t v = gw_read_u8(r);
    *out = v == 1;
    return v <= 1 ? GW_OK : GW_ERR_PROTO;
}

/* Sampling, inside SUBMIT:
 *        4  temperature          f32
 *        4  top_k
 *        4  top_p                f32
 *        4  min_p                f32
 *        4  presence_penalty     f32
 *        4  frequency_penalty    f32
 *        4  repetition_penalty   f32
 *        8  seed
 *        4  max_tokens
 *        4  min_tokens
 *        1  logprobs             0 or 1
 *        1  top_logprobs         <= 20
 *    4+4*i  stop_ids             u32 count <= 64, ids
 *    4+8*j  bias                 u32 count <= 1024, (u32 id, f32 bias) each */
static void put_sampling(const struct gw_sampling *s, struct gw_buf *b)
{
    gw_buf_f32(b, s->temperature);
    gw_buf_u32(b, s->top_k);
    gw_buf_f32(b, s->top_p);
    gw_buf_f32(b, s->min_p);
    gw_buf_f32(b, s->presence_penalty);
    gw_buf_f32(b, s->frequency_penalty);
    gw_buf_f32(b, s->repetition_penalty);
    gw_buf_u64(b, s->seed);
    gw_buf_u32(b, s->max_tokens);
    gw_buf_u32(b, s->min_tokens);
    gw_buf_u8(b, s->logprobs);
    gw_buf_u8(b, (uint8_t)s->top_logprobs);
    gw_buf_u32(b, s->stop_ids_len);
    put_ids(b, s->stop_ids, s->stop_ids_len);
    gw_buf_u32(b, s->bias_len);
    for (uint32_t i = 0; i < s->bias_len; i++) {
        gw_buf_u32(b, s->bias[i].id);
        gw_buf_f32(b, s->bias[i].bias);
    }
}

static gw_err_t get_bias(struct gw_reader *r, struct gw_sampling *s)
{
    s->bias_len = gw_read_count(r, GW_REQUEST_BIAS_MAX, 8);
    if (s->bias_len == 0) return GW_OK;
    s->bias = malloc(s->bias_len * sizeof *s->bias);
    if (!s->bias) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < s->bias_len; i++) {
        s->bias[i].id = gw_read_u32(r);
        s->bias[i].bias = gw_read_f32(r);
    }
    return GW_OK;
}

static gw_err_t get_sampling(struct gw_reader *r, struct gw_sampling *s)
{
    s->temperature = gw_read_f32(r);
    s->top_k = gw_read_u32(r);
    s->top_p = gw_read_f32(r);
    s->min_p = gw_read_f32(r);
    s->presence_penalty = gw_read_f32(r);
    s->frequency_penalty = gw_read_f32(r);
    s->repetition_penalty = gw_read_f32(r);
    s->seed = gw_read_u64(r);
    s->max_tokens = gw_read_u32(r);
    s->min_tokens = gw_read_u32(r);
    TRY(get_bool(r, &s->logprobs));
    s->top_logprobs = gw_read_u8(r);
    s->stop_ids_len = gw_read_count(r, GW_REQUEST_STOP_IDS_MAX, 4);
    TRY(get_ids(r, s->stop_ids_len, &s->stop_ids));
    return get_bias(r, s);
}

#define HOLDER_BYTES_MIN 13 /* with an address of one byte */

static void put_holders(const struct gw_msg_submit *s, struct gw_buf *b)
{
    if (s->holders_len == 0) return;
    gw_buf_u32(b, s->holders_len);
    for (uint32_t i = 0; i < s->holders_len; i++) {
        wire_put_text(b, s->holders[i].pages, GW_WIRE_NAME_MAX);
        wire_put_rect(b, s->holders[i].cells);
    }
}

static gw_err_t get_holders(struct gw_reader *r, struct gw_msg_submit *s)
{
    if (!wire_more(r)) return GW_OK;
    s->holders_len = gw_read_count(r, GW_WIRE_HOLDERS_MAX, HOLDER_BYTES_MIN);
    if (s->holders_len == 0) return GW_ERR_PROTO;
    s->holders = calloc(s->holders_len, sizeof *s->holders);
    if (!s->holders) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < s->holders_len; i++) {
        struct gw_page_holder *h = &s->holders[i];
        wire_get_name(r, h->pages, false);
        h->cells = wire_get_rect(r);
        if (h->cells.g0 >= h->cells.g1 || h->cells.s0 >= h->cells.s1) return GW_ERR_PROTO;
    }
    return GW_OK;
}

/* SUBMIT, WARM
 *     0      4  attempt     >= 1
 *     4      8  id
 *    12      4  n           1-128
 *    16     16  tenant
 *    32  4+4*p  prompt      u32 count 1..2^20, ids
 *               sampling    see above
 *               logs        n times:
 *            1    done      0 or 1
 *        4+4*k    ids       u32 count <= max_tokens, ids
 *               holders     if there are any, from protocol 3 on: u32 count 1-63, then each
 *          4+a    pages     1-64 bytes, printable ASCII
 *            8    cells     u16 each: g0, g1, s0, s1; g0 < g1, s0 < s1 */
void wire_put_submit(const struct gw_msg *m, struct gw_buf *b)
{
    const struct gw_request *q = &m->submit.request;
    gw_buf_u32(b, m->submit.attempt);
    gw_buf_u64(b, q->id);
    gw_buf_u32(b, q->n);
    gw_buf_put(b, q->tenant, sizeof q->tenant);
    gw_buf_u32(b, q->prompt_len);
    put_ids(b, q->prompt, q->prompt_len);
    put_sampling(&q->sampling, b);
    for (uint32_t i = 0; i < q->n; i++) {
        const struct gw_branch_log *log = &m->submit.logs[i];
        gw_buf_u8(b, log->done);
        gw_buf_u32(b, log->len);
        put_ids(b, log->ids, log->len);
    }
    put_holders(&m->submit, b);
}

static gw_err_t get_logs(struct gw_reader *r, struct gw_msg_submit *s)
{
    s->logs = calloc(s->request.n, sizeof *s->logs);
    if (!s->logs) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < s->request.n; i++) {
        struct gw_branch_log *log = &s->logs[i];
        TRY(get_bool(r, &log->done));
        log->len = gw_read_count(r, s->request.sampling.max_tokens, 4);
        TRY(get_ids(r, log->len, &log->ids));
    }
    return GW_OK;
}

gw_err_t wire_get_submit(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_request *q = &m->submit.request;
    m->submit.attempt = gw_read_u32(r);
    q->id = gw_read_u64(r);
    q->n = gw_read_u32(r);
    const uint8_t *tenant = gw_read_raw(r, sizeof q->tenant);
    if (tenant) memcpy(q->tenant, tenant, sizeof q->tenant);
    q->prompt_len = gw_read_count(r, GW_REQUEST_PROMPT_MAX, 4);
    TRY(get_ids(r, q->prompt_len, &q->prompt));
    TRY(get_sampling(r, &q->sampling));
    /* n is checked here, before anything is allocated by it; which model it is for, the worker knows. */
    if (r->err != GW_OK || m->submit.attempt == 0) return GW_ERR_PROTO;
    if (gw_request_check(q, UINT32_MAX, UINT32_MAX, NULL) != GW_OK) return GW_ERR_PROTO;
    TRY(get_logs(r, &m->submit));
    return get_holders(r, &m->submit);
}

void wire_fini_submit(struct gw_msg *m)
{
    struct gw_msg_submit *s = &m->submit;
    if (s->logs)
        for (uint32_t i = 0; i < s->request.n; i++) free(s->logs[i].ids);
    free(s->logs);
    free(s->holders);
    gw_request_fini(&s->request);
}

/* CANCEL
 *     0  8  request
 *     8  4  attempt
 *    12  4  branch   < 128, or 2^32 - 1 for all */
void wire_put_cancel(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u64(b, m->cancel.request);
    gw_buf_u32(b, m->cancel.attempt);
    gw_buf_u32(b, m->cancel.branch);
}

gw_err_t wire_get_cancel(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_cancel *c = &m->cancel;
    c->request = gw_read_u64(r);
    c->attempt = gw_read_u32(r);
    c->branch = gw_read_u32(r);
    return c->branch < GW_REQUEST_BRANCHES_MAX || c->branch == GW_BRANCH_ALL ? GW_OK : GW_ERR_PROTO;
}

/* TOKENS
 *     0      8  request
 *     8      4  attempt
 *    12      4  branch    < 128
 *    16      1  top_n     <= 20
 *    17      4  first     position of the first record
 *    21      4  count     first + count <= 2^20; 0 = a step with this request has begun
 *    25    4*c  ids
 *          4*c  logprobs  f32, finite
 *      8*c*top  top       (u32 id, f32 logprob) best first, top_n for each record */
void wire_put_tokens(const struct gw_msg *m, struct gw_buf *b)
{
    const struct gw_tokens *t = &m->tokens.tokens;
    uint32_t top_n = t->top ? t->top_n : 0;
    gw_buf_u64(b, m->tokens.request);
    gw_buf_u32(b, m->tokens.attempt);
    gw_buf_u32(b, m->tokens.branch);
    gw_buf_u8(b, (uint8_t)top_n);
    gw_buf_u32(b, t->first);
    gw_buf_u32(b, t->count);
    put_ids(b, t->ids, t->count);
    for (uint32_t i = 0; i < t->count; i++) gw_buf_f32(b, t->logprobs ? t->logprobs[i] : 0.0f);
    for (uint32_t i = 0; i < t->count * top_n; i++) {
        gw_buf_u32(b, t->top[i].id);
        gw_buf_f32(b, t->top[i].logprob);
    }
}

/* The probabilities of count records; their bytes have been seen. Not finite = the worker's arithmetic is
 * broken, and no JSON could carry it. */
static gw_err_t get_logprobs(struct gw_reader *r, struct gw_tokens *t)
{
    size_t pairs = (size_t)t->count * t->top_n;
    t->logprobs = malloc(t->count * sizeof *t->logprobs);
    if (pairs > 0) t->top = malloc(pairs * sizeof *t->top);
    if (!t->logprobs || (pairs > 0 && !t->top)) return GW_ERR_MEMORY;
    bool finite = true;
    for (uint32_t i = 0; i < t->count; i++) {
        t->logprobs[i] = gw_read_f32(r);
        finite = finite && isfinite(t->logprobs[i]);
    }
    for (size_t i = 0; i < pairs; i++) {
        t->top[i].id = gw_read_u32(r);
        t->top[i].logprob = gw_read_f32(r);
        finite = finite && isfinite(t->top[i].logprob);
    }
    return finite ? GW_OK : GW_ERR_PROTO;
}

gw_err_t wire_get_tokens(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_tokens *t = &m->tokens.tokens;
    m->tokens.request = gw_read_u64(r);
    m->tokens.attempt = gw_read_u32(r);
    m->tokens.branch = gw_read_u32(r);
    t->top_n = gw_read_u8(r);
    t->first = gw_read_u32(r);
    if (m->tokens.branch >= GW_REQUEST_BRANCHES_MAX || t->top_n > GW_REQUEST_TOP_MAX) return GW_ERR_PROTO;
    if (t->first > GW_REQUEST_TOKENS_MAX) return GW_ERR_PROTO;
    t->count = gw_read_count(r, GW_REQUEST_TOKENS_MAX - t->first, 8 + 8 * (size_t)t->top_n);
    if (t->count == 0) return GW_OK;
    TRY(get_ids(r, t->count, &t->ids));
    return get_logprobs(r, t);
}

void wire_fini_tokens(struct gw_msg *m)
{
    free(m->tokens.tokens.ids);
    free(m->tokens.tokens.logprobs);
    free(m->tokens.tokens.top);
}

/* REJECT
 *     0    8  request
 *     8    4  attempt
 *    12    2  code     a gw_err_t that is no GW_OK
 *    14  4+n  text     n <= 256 */
void wire_put_reject(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u64(b, m->reject.request);
    gw_buf_u32(b, m->reject.attempt);
    gw_buf_u16(b, m->reject.code);
    wire_put_text(b, m->reject.text, GW_WIRE_TEXT_MAX);
}

gw_err_t wire_get_reject(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_reject *j = &m->reject;
    j->request = gw_read_u64(r);
    j->attempt = gw_read_u32(r);
    j->code = gw_read_u16(r);
    wire_get_text(r, j->text, GW_WIRE_TEXT_MAX);
    return j->code > GW_OK && j->code <= GW_ERR_INTERNAL ? GW_OK : GW_ERR_PROTO;
}

/* CUTOVER
 *     0     4  count    1-4096
 *     4  12*c  items    (u64 request, u32 attempt) each */
void wire_put_cutover(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u32(b, m->cutover.count);
    for (uint32_t i = 0; i < m->cutover.count; i++) {
        gw_buf_u64(b, m->cutover.items[i].request);
        gw_buf_u32(b, m->cutover.items[i].attempt);
    }
}

gw_err_t wire_get_cutover(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_cutover *c = &m->cutover;
    c->count = gw_read_count(r, GW_WIRE_CUTOVER_MAX, 12);
    if (c->count == 0) return GW_ERR_PROTO;
    c->items = malloc(c->count * sizeof *c->items);
    if (!c->items) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < c->count; i++) {
        c->items[i].request = gw_read_u64(r);
        c->items[i].attempt = gw_read_u32(r);
    }
    return GW_OK;
}

void wire_fini_cutover(struct gw_msg *m)
{
    free(m->cutover.items);
}

/* RESYNC (from protocol 6 on)
 *     0    4  count     1-4096
 *     4  8*c  requests  u64 each */
void wire_put_resync(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u32(b, m->resync.count);
    for (uint32_t i = 0; i < m->resync.count; i++) gw_buf_u64(b, m->resync.requests[i]);
}

gw_err_t wire_get_resync(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_resync *s = &m->resync;
    s->count = gw_read_count(r, GW_WIRE_RESYNC_MAX, 8);
    if (s->count == 0) return GW_ERR_PROTO;
    s->requests = malloc(s->count * sizeof *s->requests);
    if (!s->requests) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < s->count; i++) s->requests[i] = gw_read_u64(r);
    return GW_OK;
}

void wire_fini_resync(struct gw_msg *m)
{
    free(m->resync.requests);
}

/* HANDOFF
 *     0    8  request
 *     8    4  attempt
 *    12    4  n        1-128
 *    16  4*n  log_len  <= 2^20 each */
void wire_put_handoff(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u64(b, m->handoff.request);
    gw_buf_u32(b, m->handoff.attempt);
    gw_buf_u32(b, m->handoff.n);
    put_ids(b, m->handoff.log_len, m->handoff.n);
}

gw_err_t wire_get_handoff(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_handoff *h = &m->handoff;
    h->request = gw_read_u64(r);
    h->attempt = gw_read_u32(r);
    h->n = gw_read_count(r, GW_REQUEST_BRANCHES_MAX, 4);
    if (h->n == 0) return GW_ERR_PROTO;
    TRY(get_ids(r, h->n, &h->log_len));
    for (uint32_t i = 0; i < h->n; i++)
        if (h->log_len[i] > GW_REQUEST_TOKENS_MAX) return GW_ERR_PROTO;
    return GW_OK;
}

void wire_fini_handoff(struct gw_msg *m)
{
    free(m->handoff.log_len);
}

/* WARMED
 *     0  8  request
 *     8  4  attempt
 *    12  4  tokens   <= 2^21: a prompt and a branch's log */
void wire_put_warmed(const struct gw_msg *m, struct gw_buf *b)
{
    gw_buf_u64(b, m->warmed.request);
    gw_buf_u32(b, m->warmed.attempt);
    gw_buf_u32(b, m->warmed.tokens);
}

gw_err_t wire_get_warmed(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_warmed *w = &m->warmed;
    w->request = gw_read_u64(r);
    w->attempt = gw_read_u32(r);
    w->tokens = gw_read_u32(r);
    return w->tokens <= GW_REQUEST_PROMPT_MAX + GW_REQUEST_TOKENS_MAX ? GW_OK : GW_ERR_PROTO;
}

/* ORIGIN
 *     0  8  request
 *     8  4  attempt
 *    12  4  total_tokens
 *    16  4  cached_tokens
 *    20  4  moved_tokens
 *    24  4  stored_tokens   cached + moved + stored <= total */
void wire_put_origin(const struct gw_msg *m, struct gw_buf *b)
{
    const struct gw_msg_origin *o = &m->origin;
    gw_buf_u64(b, o->request);
    gw_buf_u32(b, o->attempt);
    gw_buf_u32(b, o->total_tokens);
    gw_buf_u32(b, o->cached_tokens);
    gw_buf_u32(b, o->moved_tokens);
    gw_buf_u32(b, o->stored_tokens);
}

gw_err_t wire_get_origin(struct gw_reader *r, struct gw_msg *m)
{
    struct gw_msg_origin *o = &m->origin;
    o->request = gw_read_u64(r);
    o->attempt = gw_read_u32(r);
    o->total_tokens = gw_read_u32(r);
    o->cached_tokens = gw_read_u32(r);
    o->moved_tokens = gw_read_u32(r);
    o->stored_tokens = gw_read_u32(r);
    uint64_t had = (uint64_t)o->cached_tokens + o->moved_tokens + o->stored_tokens;
    return had <= o->total_tokens ? GW_OK : GW_ERR_PROTO;
}
