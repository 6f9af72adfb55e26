#include "worker/cell_store.h"

#include <assert.h>
#include <stdlib.h>

#include "worker/cell_store_internal.h"

static const struct cell_part *part_at(const struct gw_cell_store *s, enum cell_kind kind, uint32_t group,
                                       uint32_t index)
{
    return &s->parts[cell_number(&s->packer.model->cells, kind, group, index)];
}

/* Products that are added up for one number. */
static uint32_t longest_sum(const struct gw_model *m)
{
    uint32_t heads = m->cells.share_heads * m->config.head_dim, longest = m->config.hidden;
    if (longest < heads) longest = heads;
    if (longest < m->cells.ffn_cols) longest = m->cells.ffn_cols;
    return longest < m->cells.expert_cols ? m->cells.expert_cols : longest;
}

gw_err_t gw_cell_store_create(const struct gw_model *model, const struct gw_ops *ops,
                              struct gw_cell_store **out, struct gw_err_ctx *ctx)
{
    return gw_cell_store_create_on(NULL, model, ops, out, ctx);
}

gw_err_t gw_cell_store_create_on(struct gw_device *device, const struct gw_model *model,
                                 const struct gw_ops *ops, struct gw_cell_store **out, struct gw_err_ctx *ctx)
{
    if (ops->act == GW_BF16 && !model->all_bf16)
        return gw_fail(ctx, GW_ERR_INPUT, "profile %s needs a model whose matrices are all bf16",
                       ops->profile);
    if (ops->weight == GW_I8 && longest_sum(model) > GW_INT8_K_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "int8 weights: a sum of over %d products may pass 32 bits",
                       GW_INT8_K_MAX);
    uint32_t parts = cell_parts_of(&model->cells);
    struct gw_cell_store *s = calloc(1, sizeof *s + parts * sizeof *s->parts);
    if (!s || cell_packer_init(&s->packer, model, ops, device) != GW_OK) {
        free(s);
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    s->parts_len = parts;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return GW_OK;
}

struct gw_device *gw_cell_store_device(const struct gw_cell_store *s)
{
    return s->packer.device;
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
    uint32_t number;
    uint64_t bytes = 0;
    for (uint32_t n = 0; cell_nth(&s->packer.model->cells, r, n, &number); n++)
        bytes += cell_part_bytes(&s->packer, number);
    return bytes;
}

uint64_t gw_cell_store_missing(struct gw_cell_store *s, struct gw_cell_rect r)
{
    uint32_t number;
    uint64_t bytes = 0;
    pthread_mutex_lock(&s->lock);
    for (uint32_t n = 0; cell_nth(&s->packer.model->cells, r, n, &number); n++)
        if (!s->parts[number].memory) bytes += cell_part_bytes(&s->packer, number);
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

static gw_err_t acquire_part(struct gw_cell_store *s, uint32_t number, uint64_t *loaded,
                             struct gw_err_ctx *ctx)
{
    struct cell_part *p = &s->parts[number], fresh;
    if (ref_if_here(s, p)) return GW_OK;
    TRY(cell_part_open(&s->packer, number, &fresh, ctx));
    cell_part_fill(&s->packer, number, &fresh, NULL);
    cell_part_push(&fresh);
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
    uint32_t number;
    pthread_mutex_lock(&s->lock);
    for (uint32_t n = 0; n < count && cell_nth(&s->packer.model->cells, r, n, &number); n++) {
        struct cell_part *p = &s->parts[number];
        assert(p->refs > 0);
        p->refs--;
    }
    pthread_mutex_unlock(&s->lock);
}

gw_err_t gw_cell_store_acquire(struct gw_cell_store *s, struct gw_cell_rect r, const atomic_bool *stop,
                               uint64_t *loaded, struct gw_err_ctx *ctx)
{
    uint32_t number;
    uint64_t bytes = 0;
    for (uint32_t n = 0; cell_nth(&s->packer.model->cells, r, n, &number); n++) {
        gw_err_t err = GW_OK;
        if (stop && atomic_load(stop)) err = gw_fail(ctx, GW_ERR_IO, "loading of weights was stopped");
        if (err == GW_OK) err = acquire_part(s, number, &bytes, ctx);
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
    uint32_t number;
    pthread_mutex_lock(&s->lock);
    for (uint32_t n = 0; cell_nth(&s->packer.model->cells, keep, n, &number); n++) {
        struct cell_part *p = &s->parts[number];
        p->refs++;
        p->unwanted = false;
    }
    for (uint32_t i = 0; i < s->parts_len; i++) {
        struct cell_part *p = &s->parts[i];
        if (!p->memory || p->refs > 0) continue;
        p->unwanted = true;
        if (p->pins == 0) cell_part_drop(p);
    }
    for (uint32_t n = 0; cell_nth(&s->packer.model->cells, keep, n, &number); n++) s->parts[number].refs--;
    pthread_mutex_unlock(&s->lock);
}

const struct gw_weight *gw_cell_store_share(const struct gw_cell_store *s, uint32_t group, uint32_t share)
{
    return part_at(s, CELL_SHARE, group, share)->matrices;
}

const struct gw_weight *gw_cell_store_kv(const struct gw_cell_store *s, uint32_t group, uint32_t kv_head)
{
    return part_at(s, CELL_KV, group, kv_head)->matrices;
}

const struct gw_weight *gw_cell_store_routers(const struct gw_cell_store *s, uint32_t group)
{
    return part_at(s, CELL_NORMS, group, 0)->matrices;
}

const float *gw_cell_store_share_bias(const struct gw_cell_store *s, uint32_t group, uint32_t share)
{
    return part_at(s, CELL_SHARE, group, share)->vectors;
}

const float *gw_cell_store_kv_bias(const struct gw_cell_store *s, uint32_t group, uint32_t kv_head)
{
    return part_at(s, CELL_KV, group, kv_head)->vectors;
}

/* Where operations find a part's vectors. */
static const float *vectors_of(const struct cell_part *p)
{
    return gw_memory_device(&p->sides, p->vectors);
}

const float *gw_cell_store_norms(const struct gw_cell_store *s, uint32_t group)
{
    return vectors_of(part_at(s, CELL_NORMS, group, 0));
}

const struct gw_weight *gw_cell_store_head(const struct gw_cell_store *s, uint32_t share)
{
    return part_at(s, CELL_HEAD, 0, share)->matrices;
}

const float *gw_cell_store_final(const struct gw_cell_store *s)
{
    return vectors_of(part_at(s, CELL_FINAL, 0, 0));
}

/* ---- for the files beside this one ---- */

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
