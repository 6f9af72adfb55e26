#include "worker/cell_store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/convert.h"
#include "worker/cell_store_internal.h"

#define PACK_ALIGN 64 /* bytes; gw_weight.data */

enum kind { NORMS, FINAL, SHARE, KV, HEAD };

/* Which part: of a layer group, and of a share or KV head where there are several. */
struct key {
    enum kind kind;
    uint32_t group, index;
};

static uint32_t parts_of(const struct gw_cells *c)
{
    return c->groups * (1 + c->shares + c->kv_heads) + 1 + c->shares;
}

static uint32_t part_index(const struct gw_cells *c, struct key k)
{
    uint32_t per_group = 1 + c->shares + c->kv_heads;
    switch (k.kind) {
    case NORMS: return k.group * per_group;
    case SHARE: return k.group * per_group + 1 + k.index;
    case KV: return k.group * per_group + 1 + c->shares + k.index;
    case FINAL: return c->groups * per_group;
    default: return c->groups * per_group + 1 + k.index;
    }
}

static struct key key_of(const struct gw_cells *c, uint32_t number)
{
    uint32_t per_group = 1 + c->shares + c->kv_heads, group = number / per_group, i = number % per_group;
    if (group < c->groups) {
        if (i > c->shares) return (struct key){KV, group, i - 1 - c->shares};
        return i > 0 ? (struct key){SHARE, group, i - 1} : (struct key){.kind = NORMS, .group = group};
    }
    return i > 0 ? (struct key){.kind = HEAD, .index = i - 1} : (struct key){.kind = FINAL};
}

static const struct cell_part *part_at(const struct gw_cell_store *s, enum kind kind, uint32_t group,
                                       uint32_t index)
{
    return &s->parts[part_index(&s->packer.model->cells, (struct key){kind, group, index})];
}

/* ---- a rectangle's parts, one after another ---- */

/* The nth part of r; false when there are no more. */
static bool nth_part(const struct gw_cells *c, struct gw_cell_rect r, uint32_t n, struct key *out)
{
    uint32_t shares = r.s1 - r.s0, kv_first = gw_cells_kv_first(c, r.s0);
    uint32_t kvs = gw_cells_kv_end(c, r.s1) - kv_first, per_group = 1 + shares + kvs;
    uint32_t group = n / per_group, i = n % per_group;
    if (group < (uint32_t)(r.g1 - r.g0)) {
        *out = (struct key){.kind = NORMS, .group = r.g0 + group};
        if (i >= 1 + shares)
            *out = (struct key){.kind = KV, .group = r.g0 + group, .index = kv_first + i - 1 - shares};
        else if (i >= 1)
            *out = (struct key){.kind = SHARE, .group = r.g0 + group, .index = r.s0 + i - 1};
        return true;
    }
    i = n - per_group * (r.g1 - r.g0);
    if (r.g1 != c->groups || i > shares) return false;
    if (i == 0)
        *out = (struct key){.kind = FINAL};
    else
        *out = (struct key){.kind = HEAD, .index = r.s0 + i - 1};
    return true;
}

/* ---- shapes ---- */

struct shape {
    uint32_t n, k;
};

static uint32_t group_layers(const struct gw_cells *c, uint32_t group)
{
    return gw_cells_layer(c, group + 1) - gw_cells_layer(c, group);
}

static uint32_t head_rows(const struct gw_model *m, uint32_t share, uint32_t *first)
{
    uint32_t vocab = m->config.vocab, shares = m->cells.shares;
    *first = gw_cells_cut(share, vocab, shares);
    return gw_cells_cut(share + 1, vocab, shares) - *first;
}

static uint32_t matrices_of(const struct gw_model *m, struct key k)
{
    switch (k.kind) {
    case SHARE: return group_layers(&m->cells, k.group) * gw_share_matrices(&m->config);
    case KV: return group_layers(&m->cells, k.group) * GW_KV_HEAD_MATRICES;
    case NORMS: return m->config.experts ? group_layers(&m->cells, k.group) : 0;
    case HEAD: return 1;
    default: return 0;
    }
}

static struct shape share_shape(const struct gw_model *m, uint32_t matrix)
{
    const struct gw_model_config *c = &m->config;
    uint32_t heads = m->cells.share_heads * c->head_dim, cols = m->cells.share_cols;
    switch (matrix) {
    case GW_SHARE_Q: return (struct shape){heads, c->hidden};
    case GW_SHARE_O: return (struct shape){c->hidden, heads};
    default: break;
    }
    bool is_down = (matrix - GW_SHARE_GATE_UP) % GW_SHARE_FFN_MATRICES;
    return is_down ? (struct shape){c->hidden, cols} : (struct shape){2 * cols, c->hidden};
}

static struct shape matrix_shape(const struct gw_model *m, struct key k, uint32_t i)
{
    uint32_t first;
    switch (k.kind) {
    case SHARE: return share_shape(m, i % gw_share_matrices(&m->config));
    case KV: return (struct shape){m->config.head_dim, m->config.hidden};
    case NORMS: return (struct shape){m->config.experts, m->config.hidden};
    default: return (struct shape){head_rows(m, k.index, &first), m->config.hidden};
    }
}

static size_t padded(size_t bytes)
{
    return (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

/* f32 numbers of a part: norms, biases. */
static size_t vector_floats(const struct gw_model *m, struct key k)
{
    const struct gw_model_config *c = &m->config;
    size_t layers = k.kind == FINAL || k.kind == HEAD ? 0 : group_layers(&m->cells, k.group);
    switch (k.kind) {
    case NORMS: return layers * gw_cell_store_norm_floats(c);
    case FINAL: return c->hidden;
    case SHARE: return c->qkv_bias ? layers * m->cells.share_heads * c->head_dim : 0;
    case KV: return c->qkv_bias ? layers * GW_KV_HEAD_MATRICES * c->head_dim : 0;
    default: return 0;
    }
}

static size_t part_bytes(const struct gw_model *m, const struct gw_ops *ops, struct key k)
{
    size_t bytes = vector_floats(m, k) * sizeof(float);
    for (uint32_t i = 0; i < matrices_of(m, k); i++) {
        struct shape s = matrix_shape(m, k, i);
        bytes += padded(ops->pack_bytes(s.n, s.k));
    }
    return bytes;
}

/* ---- loading a part ---- */

/* Numbers [first, first + count) of a vector; returns the end of what was written. */
static float *load_some(float *to, const struct gw_tensor *t, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) to[i] = gw_f32_at(t->data, t->type, first + i);
    return to + count;
}

static float *load_whole(float *to, const struct gw_tensor *t)
{
    return load_some(to, t, 0, t->shape[0]);
}

/* What a layer adds to the part's vectors; returns their end. */
static float *load_layer_vectors(const struct gw_model *m, struct key k, const struct gw_model_layer *l,
                                 float *to)
{
    const struct gw_model_config *c = &m->config;
    size_t head_dim = c->head_dim, share_floats = m->cells.share_heads * head_dim;
    if (k.kind == NORMS) {
        to = load_whole(load_whole(to, l->norm_attn), l->norm_ffn);
        if (c->qk_norm) to = load_whole(load_whole(to, l->q_norm), l->k_norm);
    } else if (k.kind == SHARE && c->qkv_bias) {
        to = load_some(to, l->q_bias, k.index * share_floats, share_floats);
    } else if (k.kind == KV && c->qkv_bias) {
        to = load_some(to, l->k_bias, k.index * head_dim, head_dim);
        to = load_some(to, l->v_bias, k.index * head_dim, head_dim);
    }
    return to;
}

static void load_vectors(const struct gw_model *m, struct key k, float *to)
{
    if (vector_floats(m, k) == 0) return;
    if (k.kind == FINAL) {
        load_whole(to, m->norm_final);
        return;
    }
    for (uint32_t l = gw_cells_layer(&m->cells, k.group); l < gw_cells_layer(&m->cells, k.group + 1); l++)
        to = load_layer_vectors(m, k, &m->layers[l], to);
}

/* Rows [first, first + w->n) of a tensor of w->k columns. */
static void pack_rows(const struct gw_ops *ops, const struct gw_tensor *t, size_t first, struct gw_weight *w)
{
    size_t row = gw_dtype_bytes(t->type) * w->k;
    ops->pack(w->data, (const uint8_t *)t->data + row * first, t->type, w->n, w->k, w->k);
}

/* The FFN columns [*first, *first + result) of a share. */
static uint32_t ffn_columns(const struct gw_model *m, uint32_t share, uint32_t *first)
{
    uint32_t units = m->config.intermediate / GW_CELLS_FFN_UNIT, shares = m->cells.shares;
    uint32_t begin = gw_cells_cut(share, units, shares), end = gw_cells_cut(share + 1, units, shares);
    *first = begin * GW_CELLS_FFN_UNIT;
    return (end - begin) * GW_CELLS_FFN_UNIT;
}

static void pack_gate_up(const struct cell_packer *s, const struct gw_model_ffn *src, uint32_t share,
                         struct gw_weight *w)
{
    uint32_t first, count = ffn_columns(s->model, share, &first);
    size_t row = gw_dtype_bytes(src->gate->type) * w->k;
    memset(s->stage, 0, row * w->n);
    memcpy(s->stage, (const uint8_t *)src->gate->data + row * first, row * count);
    memcpy(s->stage + row * s->model->cells.share_cols, (const uint8_t *)src->up->data + row * first,
           row * count);
    s->ops->pack(w->data, s->stage, src->gate->type, w->n, w->k, w->k);
}

static void pack_down(const struct cell_packer *s, const struct gw_tensor *down, uint32_t share,
                      struct gw_weight *w)
{
    uint32_t first, count = ffn_columns(s->model, share, &first);
    size_t item = gw_dtype_bytes(down->type), row = item * s->model->config.intermediate;
    memset(s->stage, 0, item * w->n * w->k);
    for (uint32_t n = 0; n < w->n; n++)
        memcpy(s->stage + item * n * w->k, (const uint8_t *)down->data + row * n + item * first,
               item * count);
    s->ops->pack(w->data, s->stage, down->type, w->n, w->k, w->k);
}

static void pack_share(const struct cell_packer *s, uint32_t layer, uint32_t share, uint32_t matrix,
                       struct gw_weight *w)
{
    const struct gw_model_layer *src = &s->model->layers[layer];
    const struct gw_model_config *c = &s->model->config;
    uint32_t in_ffns = matrix < GW_SHARE_GATE_UP ? 0 : matrix - GW_SHARE_GATE_UP;
    const struct gw_model_ffn *ffn = &src->ffn[in_ffns / GW_SHARE_FFN_MATRICES];
    switch (matrix) {
    case GW_SHARE_Q: pack_rows(s->ops, src->q, (size_t)share * w->n, w); break;
    case GW_SHARE_O:
        s->ops->pack(w->data, (const uint8_t *)src->o->data + gw_dtype_bytes(src->o->type) * share * w->k,
                     src->o->type, w->n, w->k, (size_t)c->heads * c->head_dim);
        break;
    default:
        if (in_ffns % GW_SHARE_FFN_MATRICES == 0)
            pack_gate_up(s, ffn, share, w);
        else
            pack_down(s, ffn->down, share, w);
    }
}

static void pack_matrix(const struct cell_packer *s, struct key k, uint32_t i, struct gw_weight *w)
{
    const struct gw_model *m = s->model;
    uint32_t layer = gw_cells_layer(&m->cells, k.group), first;
    if (k.kind == SHARE) {
        uint32_t per_layer = gw_share_matrices(&m->config);
        pack_share(s, layer + i / per_layer, k.index, i % per_layer, w);
    } else if (k.kind == KV) {
        const struct gw_model_layer *src = &m->layers[layer + i / GW_KV_HEAD_MATRICES];
        pack_rows(s->ops, i % GW_KV_HEAD_MATRICES == GW_KV_HEAD_K ? src->k : src->v, (size_t)k.index * w->n,
                  w);
    } else if (k.kind == NORMS) {
        pack_rows(s->ops, m->layers[layer + i].router, 0, w);
    } else {
        head_rows(m, k.index, &first);
        pack_rows(s->ops, m->head, first, w);
    }
}

static gw_err_t map_part(struct cell_part *p, struct gw_err_ctx *ctx)
{
    void *memory = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return gw_fail(ctx, GW_ERR_MEMORY, "no %zu bytes of memory for weights", p->bytes);
    madvise(memory, p->bytes,
            MADV_HUGEPAGE); /* fewer TLB misses where the kernel has huge pages; else no matter */
    p->memory = memory;
    return GW_OK;
}

static gw_err_t open_part(const struct cell_packer *s, struct key k, struct cell_part *out,
                          struct gw_err_ctx *ctx)
{
    uint32_t count = matrices_of(s->model, k);
    struct cell_part part = {.bytes = part_bytes(s->model, s->ops, k)};
    TRY(map_part(&part, ctx));
    part.matrices = calloc(count + 1, sizeof *part.matrices);
    if (!part.matrices) {
        cell_part_drop(&part);
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    uint8_t *at = part.memory;
    for (uint32_t i = 0; i < count; i++) {
        struct shape shape = matrix_shape(s->model, k, i);
        part.matrices[i] = (struct gw_weight){.n = shape.n, .k = shape.k, .data = at};
        at += padded(s->ops->pack_bytes(shape.n, shape.k));
    }
    part.vectors = (float *)(void *)at;
    *out = part;
    return GW_OK;
}

static bool fill_part(const struct cell_packer *s, struct key k, struct cell_part *part,
                      const struct cell_while *goes_on)
{
    load_vectors(s->model, k, part->vectors);
    for (uint32_t i = 0; i < matrices_of(s->model, k); i++) {
        uint64_t done = (uint64_t)((uint8_t *)part->matrices[i].data - (uint8_t *)part->memory);
        if (goes_on && !goes_on->ask(goes_on->arg, done)) return false;
        pack_matrix(s, k, i, &part->matrices[i]);
    }
    return true;
}

/* ---- for the files beside this one ---- */

bool cell_nth_part(const struct gw_cell_store *s, struct gw_cell_rect r, uint32_t n, uint32_t *number)
{
    const struct gw_cells *c = &s->packer.model->cells;
    struct key k;
    if (!nth_part(c, r, n, &k)) return false;
    *number = part_index(c, k);
    return true;
}

uint64_t cell_part_bytes(const struct gw_cell_store *s, uint32_t number)
{
    const struct gw_model *m = s->packer.model;
    return part_bytes(m, s->packer.ops, key_of(&m->cells, number));
}

gw_err_t cell_part_open(const struct gw_cell_store *s, uint32_t number, struct cell_part *out,
                        struct gw_err_ctx *ctx)
{
    return open_part(&s->packer, key_of(&s->packer.model->cells, number), out, ctx);
}

bool cell_part_fill(const struct cell_packer *packer, uint32_t number, struct cell_part *part,
                    const struct cell_while *goes_on)
{
    return fill_part(packer, key_of(&packer->model->cells, number), part, goes_on);
}

void cell_part_drop(struct cell_part *p)
{
    munmap(p->memory, p->bytes);
    free(p->matrices);
    free(p->sums);
    *p = (struct cell_part){0};
}

bool cell_store_has(struct gw_cell_store *s, uint32_t number)
{
    pthread_mutex_lock(&s->lock);
    bool here = s->parts[number].memory != NULL;
    pthread_mutex_unlock(&s->lock);
    return here;
}

void cell_store_put(struct gw_cell_store *s, uint32_t number, struct cell_part *part)
{
    pthread_mutex_lock(&s->lock);
    bool here = s->parts[number].memory != NULL;
    if (!here) s->parts[number] = *part;
    pthread_mutex_unlock(&s->lock);
    if (here) cell_part_drop(part);
}

gw_err_t cell_packer_init(struct cell_packer *packer, const struct gw_model *model, const struct gw_ops *ops)
{
    size_t gate_up = 2 * (size_t)model->cells.share_cols * model->config.hidden; /* DOWN has half of that */
    *packer = (struct cell_packer){model, ops, malloc(gate_up * sizeof(float))};
    return packer->stage ? GW_OK : GW_ERR_MEMORY;
}

void cell_packer_fini(struct cell_packer *packer)
{
    free(packer->stage);
}

/* ---- the store ---- */

gw_err_t gw_cell_store_create(const struct gw_model *model, const struct gw_ops *ops,
                              struct gw_cell_store **out, struct gw_err_ctx *ctx)
{
    if (ops->weight == GW_BF16 && !model->all_bf16)
        return gw_fail(ctx, GW_ERR_INPUT, "profile %s needs a model whose matrices are all bf16",
                       ops->profile);
    uint32_t parts = parts_of(&model->cells);
    struct gw_cell_store *s = calloc(1, sizeof *s + parts * sizeof *s->parts);
    if (!s || cell_packer_init(&s->packer, model, ops) != GW_OK) {
        free(s);
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    s->parts_len = parts;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return GW_OK;
}

void gw_cell_store_destroy(struct gw_cell_store *s)
{
    if (!s) return;
    for (uint32_t i = 0; i < s->parts_len; i++) {
        assert(s->parts[i].refs == 0 && s->parts[i].pins == 0);
        if (s->parts[i].memory) cell_part_drop(&s->parts[i]);
    }
    pthread_mutex_destroy(&s->lock);
    cell_packer_fini(&s->packer);
    free(s);
}

uint64_t gw_cell_store_bytes_of(const struct gw_cell_store *s, struct gw_cell_rect r)
{
    struct key k;
    uint64_t bytes = 0;
    for (uint32_t n = 0; nth_part(&s->packer.model->cells, r, n, &k); n++)
        bytes += part_bytes(s->packer.model, s->packer.ops, k);
    return bytes;
}

uint64_t gw_cell_store_missing(struct gw_cell_store *s, struct gw_cell_rect r)
{
    struct key k;
    uint64_t bytes = 0;
    pthread_mutex_lock(&s->lock);
    for (uint32_t n = 0; nth_part(&s->packer.model->cells, r, n, &k); n++)
        if (!s->parts[part_index(&s->packer.model->cells, k)].memory)
            bytes += part_bytes(s->packer.model, s->packer.ops, k);
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

uint64_t gw_cell_store_bytes(struct gw_cell_store *s)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->parts_len; i++) bytes += s->parts[i].bytes;
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

/* Counts a part that is here. */
static bool ref_if_here(struct gw_cell_store *s, struct cell_part *p)
{
    pthread_mutex_lock(&s->lock);
    bool here = p->memory != NULL;
    if (here) {
        p->refs++;
        p->unwanted = false;
    }
    pthread_mutex_unlock(&s->lock);
    return here;
}

static gw_err_t acquire_part(struct gw_cell_store *s, struct key k, uint64_t *loaded, struct gw_err_ctx *ctx)
{
    struct cell_part *p = &s->parts[part_index(&s->packer.model->cells, k)], fresh;
    if (ref_if_here(s, p)) return GW_OK;
    TRY(open_part(&s->packer, k, &fresh, ctx));
    fill_part(&s->packer, k, &fresh, NULL);
    fresh.refs = 1;
    *loaded += fresh.bytes;
    pthread_mutex_lock(&s->lock);
    *p = fresh;
    pthread_mutex_unlock(&s->lock);
    return GW_OK;
}

/* Releases the first `count` parts of r. */
static void release_first(struct gw_cell_store *s, struct gw_cell_rect r, uint32_t count)
{
    struct key k;
    pthread_mutex_lock(&s->lock);
    for (uint32_t n = 0; n < count && nth_part(&s->packer.model->cells, r, n, &k); n++) {
        struct cell_part *p = &s->parts[part_index(&s->packer.model->cells, k)];
        assert(p->refs > 0);
        p->refs--;
    }
    pthread_mutex_unlock(&s->lock);
}

gw_err_t gw_cell_store_acquire(struct gw_cell_store *s, struct gw_cell_rect r, const atomic_bool *stop,
                               uint64_t *loaded, struct gw_err_ctx *ctx)
{
    struct key k;
    uint64_t bytes = 0;
    for (uint32_t n = 0; nth_part(&s->packer.model->cells, r, n, &k); n++) {
        gw_err_t err = GW_OK;
        if (stop && atomic_load(stop)) err = gw_fail(ctx, GW_ERR_IO, "loading of weights was stopped");
        if (err == GW_OK) err = acquire_part(s, k, &bytes, ctx);
        if (err != GW_OK) {
            release_first(s, r, n);
            return err;
        }
    }
    *loaded = bytes;
    return GW_OK;
}

void gw_cell_store_release(struct gw_cell_store *s, struct gw_cell_rect r)
{
    release_first(s, r, UINT32_MAX);
}

void gw_cell_store_trim(struct gw_cell_store *s, struct gw_cell_rect keep)
{
    struct key k;
    pthread_mutex_lock(&s->lock);
    for (uint32_t n = 0; nth_part(&s->packer.model->cells, keep, n, &k); n++) {
        struct cell_part *p = &s->parts[part_index(&s->packer.model->cells, k)];
        p->refs++;
        p->unwanted = false;
    }
    for (uint32_t i = 0; i < s->parts_len; i++) {
        struct cell_part *p = &s->parts[i];
        if (!p->memory || p->refs > 0) continue;
        p->unwanted = true;
        if (p->pins == 0) cell_part_drop(p);
    }
    for (uint32_t n = 0; nth_part(&s->packer.model->cells, keep, n, &k); n++)
        s->parts[part_index(&s->packer.model->cells, k)].refs--;
    pthread_mutex_unlock(&s->lock);
}

const struct gw_weight *gw_cell_store_share(const struct gw_cell_store *s, uint32_t group, uint32_t share)
{
    return part_at(s, SHARE, group, share)->matrices;
}

const struct gw_weight *gw_cell_store_kv(const struct gw_cell_store *s, uint32_t group, uint32_t kv_head)
{
    return part_at(s, KV, group, kv_head)->matrices;
}

const struct gw_weight *gw_cell_store_routers(const struct gw_cell_store *s, uint32_t group)
{
    return part_at(s, NORMS, group, 0)->matrices;
}

const float *gw_cell_store_share_bias(const struct gw_cell_store *s, uint32_t group, uint32_t share)
{
    return part_at(s, SHARE, group, share)->vectors;
}

const float *gw_cell_store_kv_bias(const struct gw_cell_store *s, uint32_t group, uint32_t kv_head)
{
    return part_at(s, KV, group, kv_head)->vectors;
}

const float *gw_cell_store_norms(const struct gw_cell_store *s, uint32_t group)
{
    return part_at(s, NORMS, group, 0)->vectors;
}

const struct gw_weight *gw_cell_store_head(const struct gw_cell_store *s, uint32_t share)
{
    return part_at(s, HEAD, 0, share)->matrices;
}

const float *gw_cell_store_final(const struct gw_cell_store *s)
{
    return part_at(s, FINAL, 0, 0)->vectors;
}
