#include "worker/cell_part.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/convert.h"

#define PACK_ALIGN 64 /* bytes; gw_weight.data */

/* Which part: of a layer group, and of a share or CELL_KV head where there are several. */
struct key {
    enum cell_kind kind;
    uint32_t group, index;
};

uint32_t cell_parts_of(const struct gw_cells *c)
{
    return c->groups * (1 + c->shares + c->kv_heads) + 1 + c->shares;
}

static uint32_t part_index(const struct gw_cells *c, struct key k)
{
    uint32_t per_group = 1 + c->shares + c->kv_heads;
    switch (k.kind) {
    case CELL_NORMS: return k.group * per_group;
    case CELL_SHARE: return k.group * per_group + 1 + k.index;
    case CELL_KV: return k.group * per_group + 1 + c->shares + k.index;
    case CELL_FINAL: return c->groups * per_group;
    default: return c->groups * per_group + 1 + k.index;
    }
}

static struct key key_of(const struct gw_cells *c, uint32_t number)
{
    uint32_t per_group = 1 + c->shares + c->kv_heads, group = number / per_group, i = number % per_group;
    if (group < c->groups) {
        if (i > c->shares) return (struct key){CELL_KV, group, i - 1 - c->shares};
        return i > 0 ? (struct key){CELL_SHARE, group, i - 1}
                     : (struct key){.kind = CELL_NORMS, .group = group};
    }
    return i > 0 ? (struct key){.kind = CELL_HEAD, .index = i - 1} : (struct key){.kind = CELL_FINAL};
}

/* ---- a rectangle's parts, one after another ---- */

/* The nth part of r; false when there are no more. */
static bool nth_part(const struct gw_cells *c, struct gw_cell_rect r, uint32_t n, struct key *out)
{
    uint32_t shares = r.s1 - r.s0, kv_first = gw_cells_kv_first(c, r.s0);
    uint32_t kvs = gw_cells_kv_end(c, r.s1) - kv_first, per_group = 1 + shares + kvs;
    uint32_t group = n / per_group, i = n % per_group;
    if (group < (uint32_t)(r.g1 - r.g0)) {
        *out = (struct key){.kind = CELL_NORMS, .group = r.g0 + group};
        if (i >= 1 + shares)
            *out = (struct key){.kind = CELL_KV, .group = r.g0 + group, .index = kv_first + i - 1 - shares};
        else if (i >= 1)
            *out = (struct key){.kind = CELL_SHARE, .group = r.g0 + group, .index = r.s0 + i - 1};
        return true;
    }
    i = n - per_group * (r.g1 - r.g0);
    if (r.g1 != c->groups || i > shares) return false;
    if (i == 0)
        *out = (struct key){.kind = CELL_FINAL};
    else
        *out = (struct key){.kind = CELL_HEAD, .index = r.s0 + i - 1};
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
    uint32_t first = gw_cells_layer(&m->cells, k.group), end = gw_cells_layer(&m->cells, k.group + 1);
    switch (k.kind) {
    case CELL_SHARE: return gw_share_matrices_before(&m->config, first, end);
    case CELL_KV: return group_layers(&m->cells, k.group) * GW_KV_HEAD_MATRICES;
    case CELL_NORMS: return gw_routers_before(&m->config, first, end);
    case CELL_HEAD: return 1;
    default: return 0;
    }
}

/* Layer and matrix in it of a share's i-th matrix in a group. */
struct place_in_share {
    uint32_t layer, matrix;
};

static struct place_in_share place_in_share(const struct gw_model *m, uint32_t group, uint32_t i)
{
    struct place_in_share p = {gw_cells_layer(&m->cells, group), i};
    for (; p.matrix >= gw_share_matrices(&m->config, p.layer); p.layer++)
        p.matrix -= gw_share_matrices(&m->config, p.layer);
    return p;
}

/* The layer that the i-th router of a group is of. */
static uint32_t layer_of_router(const struct gw_model *m, uint32_t group, uint32_t i)
{
    uint32_t layer = gw_cells_layer(&m->cells, group);
    while (!m->config.sparse[layer] || i-- > 0) layer++;
    return layer;
}

static struct shape share_shape(const struct gw_model *m, struct place_in_share at)
{
    const struct gw_model_config *c = &m->config;
    uint32_t heads = m->cells.share_heads * c->head_dim, cols = gw_model_share_cols(m, at.layer);
    switch (at.matrix) {
    case GW_SHARE_Q: return (struct shape){heads, c->hidden};
    case GW_SHARE_O: return (struct shape){c->hidden, heads};
    default: break;
    }
    bool is_down = (at.matrix - GW_SHARE_GATE_UP) % GW_SHARE_FFN_MATRICES;
    return is_down ? (struct shape){c->hidden, cols} : (struct shape){2 * cols, c->hidden};
}

static struct shape matrix_shape(const struct gw_model *m, struct key k, uint32_t i)
{
    uint32_t first;
    switch (k.kind) {
    case CELL_SHARE: return share_shape(m, place_in_share(m, k.group, i));
    case CELL_KV: return (struct shape){m->config.head_dim, m->config.hidden};
    case CELL_NORMS: return (struct shape){m->config.experts, m->config.hidden};
    default: return (struct shape){head_rows(m, k.index, &first), m->config.hidden};
    }
}

/* Routers are never quantized. */
static size_t matrix_bytes(const struct gw_ops *ops, struct key k, struct shape s)
{
    return k.kind == CELL_NORMS ? ops->pack_bytes_plain(s.n, s.k) : ops->pack_bytes(s.n, s.k);
}

static size_t padded(size_t bytes)
{
    return (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

/* f32 numbers of a part: norms, biases. */
static size_t vector_floats(const struct gw_model *m, struct key k)
{
    const struct gw_model_config *c = &m->config;
    size_t layers = k.kind == CELL_FINAL || k.kind == CELL_HEAD ? 0 : group_layers(&m->cells, k.group);
    switch (k.kind) {
    case CELL_NORMS: return layers * gw_cell_store_norm_floats(c);
    case CELL_FINAL: return c->hidden;
    case CELL_SHARE: return c->qkv_bias ? layers * m->cells.share_heads * c->head_dim : 0;
    case CELL_KV: return c->qkv_bias ? layers * GW_KV_HEAD_MATRICES * c->head_dim : 0;
    default: return 0;
    }
}

static size_t part_bytes(const struct gw_model *m, const struct gw_ops *ops, struct key k)
{
    size_t bytes = vector_floats(m, k) * sizeof(float);
    for (uint32_t i = 0; i < matrices_of(m, k); i++) {
        bytes += padded(matrix_bytes(ops, k, matrix_shape(m, k, i)));
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
    if (k.kind == CELL_NORMS) {
        to = load_whole(load_whole(to, l->norm_attn), l->norm_ffn);
        if (c->qk_norm) to = load_whole(load_whole(to, l->q_norm), l->k_norm);
    } else if (k.kind == CELL_SHARE && c->qkv_bias) {
        to = load_some(to, l->q_bias, k.index * share_floats, share_floats);
    } else if (k.kind == CELL_KV && c->qkv_bias) {
        to = load_some(to, l->k_bias, k.index * head_dim, head_dim);
        to = load_some(to, l->v_bias, k.index * head_dim, head_dim);
    }
    return to;
}

static void load_vectors(const struct gw_model *m, struct key k, float *to)
{
    if (vector_floats(m, k) == 0) return;
    if (k.kind == CELL_FINAL) {
        load_whole(to, m->norm_final);
        return;
    }
    for (uint32_t l = gw_cells_layer(&m->cells, k.group); l < gw_cells_layer(&m->cells, k.group + 1); l++)
        to = load_layer_vectors(m, k, &m->layers[l], to);
}

/* Rows [first, first + w->n) of a tensor of w->k columns. Here and below w->data is on the host's side. */
static void pack_rows(const struct gw_ops *ops, const struct gw_tensor *t, size_t first,
                      const struct gw_weight *w)
{
    size_t row = gw_dtype_bytes(t->type) * w->k;
    ops->pack(w->data, (const uint8_t *)t->data + row * first, t->type, w->n, w->k, w->k);
}

/* Of a layer's FFNs the columns [*first, *first + result) of a share. */
static uint32_t ffn_columns(const struct gw_model *m, uint32_t layer, uint32_t share, uint32_t *first)
{
    uint32_t units = gw_model_ffn_cols(&m->config, layer) / GW_CELLS_FFN_UNIT, shares = m->cells.shares;
    uint32_t begin = gw_cells_cut(share, units, shares), end = gw_cells_cut(share + 1, units, shares);
    *first = begin * GW_CELLS_FFN_UNIT;
    return (end - begin) * GW_CELLS_FFN_UNIT;
}

static void pack_gate_up(const struct cell_packer *s, const struct gw_model_ffn *src, uint32_t layer,
                         uint32_t share, const struct gw_weight *w)
{
    uint32_t first, count = ffn_columns(s->model, layer, share, &first);
    size_t row = gw_dtype_bytes(src->gate->type) * w->k;
    memset(s->stage, 0, row * w->n);
    memcpy(s->stage, (const uint8_t *)src->gate->data + row * first, row * count);
    memcpy(s->stage + row * gw_model_share_cols(s->model, layer),
           (const uint8_t *)src->up->data + row * first, row * count);
    s->ops->pack(w->data, s->stage, src->gate->type, w->n, w->k, w->k);
}

static void pack_down(const struct cell_packer *s, const struct gw_tensor *down, uint32_t layer,
                      uint32_t share, const struct gw_weight *w)
{
    uint32_t first, count = ffn_columns(s->model, layer, share, &first);
    size_t item = gw_dtype_bytes(down->type), row = item * gw_model_ffn_cols(&s->model->config, layer);
    memset(s->stage, 0, item * w->n * w->k);
    for (uint32_t n = 0; n < w->n; n++)
        memcpy(s->stage + item * n * w->k, (const uint8_t *)down->data + row * n + item * first,
               item * count);
    s->ops->pack(w->data, s->stage, down->type, w->n, w->k, w->k);
}

static void pack_share(const struct cell_packer *s, struct place_in_share at, uint32_t share,
                       const struct gw_weight *w)
{
    const struct gw_model_layer *src = &s->model->layers[at.layer];
    const struct gw_model_config *c = &s->model->config;
    uint32_t in_ffns = at.matrix < GW_SHARE_GATE_UP ? 0 : at.matrix - GW_SHARE_GATE_UP;
    const struct gw_model_ffn *ffn = &src->ffn[in_ffns / GW_SHARE_FFN_MATRICES];
    switch (at.matrix) {
    case GW_SHARE_Q: pack_rows(s->ops, src->q, (size_t)share * w->n, w); break;
    case GW_SHARE_O:
        s->ops->pack(w->data, (const uint8_t *)src->o->data + gw_dtype_bytes(src->o->type) * share * w->k,
                     src->o->type, w->n, w->k, (size_t)c->heads * c->head_dim);
        break;
    default:
        if (in_ffns % GW_SHARE_FFN_MATRICES == 0)
            pack_gate_up(s, ffn, at.layer, share, w);
        else
            pack_down(s, ffn->down, at.layer, share, w);
    }
}

static void pack_matrix(const struct cell_packer *s, struct key k, uint32_t i, const struct gw_weight *w)
{
    const struct gw_model *m = s->model;
    uint32_t layer = gw_cells_layer(&m->cells, k.group), first;
    if (k.kind == CELL_SHARE) {
        pack_share(s, place_in_share(m, k.group, i), k.index, w);
    } else if (k.kind == CELL_KV) {
        const struct gw_model_layer *src = &m->layers[layer + i / GW_KV_HEAD_MATRICES];
        pack_rows(s->ops, i % GW_KV_HEAD_MATRICES == GW_KV_HEAD_K ? src->k : src->v, (size_t)k.index * w->n,
                  w);
    } else if (k.kind == CELL_NORMS) {
        const struct gw_tensor *router = m->layers[layer_of_router(m, k.group, i)].router;
        s->ops->pack_plain(w->data, router->data, router->type, w->n, w->k, w->k);
    } else {
        head_rows(m, k.index, &first);
        pack_rows(s->ops, m->head, first, w);
    }
}

static gw_err_t map_part(const struct cell_packer *s, struct cell_part *p, struct gw_err_ctx *ctx)
{
    gw_err_t err = gw_memory_alloc(s->device, p->bytes, GW_MEMORY_MIRRORED, &p->sides, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "weights");
    p->memory = p->sides.host;
    madvise(p->memory, p->bytes,
            MADV_HUGEPAGE); /* fewer TLB misses where the kernel has huge pages; else no matter */
    return GW_OK;
}

static gw_err_t open_part(const struct cell_packer *s, struct key k, struct cell_part *out,
                          struct gw_err_ctx *ctx)
{
    uint32_t count = matrices_of(s->model, k);
    struct cell_part part = {.bytes = part_bytes(s->model, s->ops, k)};
    TRY(map_part(s, &part, ctx));
    part.matrices = calloc(count + 1, sizeof *part.matrices);
    if (!part.matrices) {
        cell_part_drop(&part);
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    uint8_t *at = part.sides.device;
    for (uint32_t i = 0; i < count; i++) {
        struct shape shape = matrix_shape(s->model, k, i);
        part.matrices[i] = (struct gw_weight){.n = shape.n, .k = shape.k, .data = at};
        at += padded(matrix_bytes(s->ops, k, shape));
    }
    part.vectors = gw_memory_host(&part.sides, at);
    *out = part;
    return GW_OK;
}

static bool fill_part(const struct cell_packer *s, struct key k, struct cell_part *part,
                      const struct cell_while *goes_on)
{
    load_vectors(s->model, k, part->vectors);
    for (uint32_t i = 0; i < matrices_of(s->model, k); i++) {
        struct gw_weight here = part->matrices[i];
        here.data = gw_memory_host(&part->sides, here.data);
        uint64_t done = (uint64_t)((uint8_t *)here.data - (uint8_t *)part->memory);
        if (goes_on && !goes_on->ask(goes_on->arg, done)) return false;
        pack_matrix(s, k, i, &here);
    }
    return true;
}

/* ---- by number ---- */

uint32_t cell_number(const struct gw_cells *c, enum cell_kind kind, uint32_t group, uint32_t index)
{
    return part_index(c, (struct key){kind, group, index});
}

bool cell_nth(const struct gw_cells *c, struct gw_cell_rect r, uint32_t n, uint32_t *number)
{
    struct key k;
    if (!nth_part(c, r, n, &k)) return false;
    *number = part_index(c, k);
    return true;
}

uint64_t cell_part_bytes(const struct cell_packer *s, uint32_t number)
{
    return part_bytes(s->model, s->ops, key_of(&s->model->cells, number));
}

gw_err_t cell_part_open(const struct cell_packer *s, uint32_t number, struct cell_part *out,
                        struct gw_err_ctx *ctx)
{
    return open_part(s, key_of(&s->model->cells, number), out, ctx);
}

bool cell_part_fill(const struct cell_packer *s, uint32_t number, struct cell_part *part,
                    const struct cell_while *goes_on)
{
    return fill_part(s, key_of(&s->model->cells, number), part, goes_on);
}

void cell_part_push(struct cell_part *p)
{
    gw_memory_put_now(p->sides.owner, p->sides.device, p->sides.host, p->bytes);
}

void cell_part_drop(struct cell_part *p)
{
    gw_memory_free(&p->sides);
    free(p->matrices);
    free(p->sums);
    *p = (struct cell_part){0};
}

gw_err_t cell_packer_init(struct cell_packer *packer, const struct gw_model *model, const struct gw_ops *ops,
                          struct gw_device *device)
{
    const struct gw_cells *c = &model->cells;
    size_t cols = c->ffn_cols > c->expert_cols ? c->ffn_cols : c->expert_cols;
    size_t gate_up = 2 * cols * model->config.hidden; /* DOWN has half of that */
    *packer = (struct cell_packer){model, ops, device, malloc(gate_up * sizeof(float))};
    return packer->stage ? GW_OK : GW_ERR_MEMORY;
}

void cell_packer_fini(struct cell_packer *packer)
{
    free(packer->stage);
}
