#include "kernels/cuda/cublas_matmul.h"

#include <stdlib.h>
#include <string.h>

#define WAYS      8u                           /* plans among which one is looked for */
#define SETS      (GW_CUBLAS_PLANS_MAX / WAYS) /* a power of two */
#define CHOICES   4    /* that are asked for: the first may need more workspace than there is */
#define ALIGN_MAX 256u /* more than this no algorithm asks for; what cudaMalloc gives */

/* What the choice depends on; no padding, for it is compared as bytes. */
struct key {
    uint64_t x_stride, y_stride;
    uint32_t m, n, k, add;
    uint32_t x_align, w_align, y_align, nothing;
};

struct plan {
    struct key key;
    uint64_t used; /* when, by the table's count; 0: nothing is here */
    struct gw_cublas_layout *w, *x, *y;
    struct gw_cublas_algo algo;
    bool refused; /* there is no algorithm */
};

struct gw_cublas {
    const struct gw_cublas_api *api;
    int type; /* cuBLASLt's, of x and w */
    void *workspace;
    size_t workspace_bytes;
    struct gw_cublas_handle *handle;
    struct gw_cublas_desc *desc;
    struct gw_cublas_preference *preference;
    uint64_t uses;
    struct plan plans[SETS][WAYS];
};

/* ---- life ---- */

static gw_err_t describe(struct gw_cublas *c, struct gw_err_ctx *ctx)
{
    const struct gw_cublas_api *api = c->api;
    const int32_t transposed = GW_CUBLAS_TRANSPOSED;
    const uint64_t workspace_bytes = c->workspace_bytes;
    TRY(gw_cublas_check(api, api->create(&c->handle), "cublasLtCreate", ctx));
    TRY(gw_cublas_check(api, api->desc_create(&c->desc, GW_CUBLAS_COMPUTE_F32, GW_CUBLAS_F32),
                        "cublasLtMatmulDescCreate", ctx));
    TRY(gw_cublas_check(api, api->desc_set(c->desc, GW_CUBLAS_DESC_TRANS_A, &transposed, sizeof transposed),
                        "cublasLtMatmulDescSetAttribute", ctx));
    TRY(gw_cublas_check(api, api->preference_create(&c->preference), "cublasLtMatmulPreferenceCreate", ctx));
    return gw_cublas_check(api,
                           api->preference_set(c->preference, GW_CUBLAS_PREFER_WORKSPACE, &workspace_bytes,
                                               sizeof workspace_bytes),
                           "cublasLtMatmulPreferenceSetAttribute", ctx);
}

gw_err_t gw_cublas_create(const struct gw_cublas_api *api, enum gw_dtype type, void *workspace,
                          size_t workspace_bytes, struct gw_cublas **out, struct gw_err_ctx *ctx)
{
    struct gw_cublas *c = calloc(1, sizeof *c);
    if (!c) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    c->api = api;
    c->type = type == GW_F32 ? GW_CUBLAS_F32 : GW_CUBLAS_BF16;
    c->workspace = workspace;
    c->workspace_bytes = workspace_bytes;
    gw_err_t err = describe(c, ctx);
    if (err == GW_OK)
        *out = c;
    else
        gw_cublas_destroy(c);
    return err;
}

/* What a destroying call says nobody can use. */
static void clear(const struct gw_cublas_api *api, struct plan *p)
{
    if (p->w) (void)api->layout_destroy(p->w);
    if (p->x) (void)api->layout_destroy(p->x);
    if (p->y) (void)api->layout_destroy(p->y);
    *p = (struct plan){0};
}

void gw_cublas_destroy(struct gw_cublas *c)
{
    if (!c) return;
    for (uint32_t i = 0; i < GW_CUBLAS_PLANS_MAX; i++) clear(c->api, &c->plans[i / WAYS][i % WAYS]);
    if (c->preference) (void)c->api->preference_destroy(c->preference);
    if (c->desc) (void)c->api->desc_destroy(c->desc);
    if (c->handle) (void)c->api->destroy(c->handle);
    free(c);
}

/* ---- plans ---- */

/* Bytes that the address is a multiple of. */
static uint32_t align_of(const void *at)
{
    uintptr_t bits = (uintptr_t)at | ALIGN_MAX;
    return (uint32_t)(bits & -bits);
}

static struct key key_of(const struct gw_cublas_product *p)
{
    return (struct key){.x_stride = p->x_stride,
                        .y_stride = p->y_stride,
                        .m = p->m,
                        .n = p->n,
                        .k = p->k,
                        .add = p->add,
                        .x_align = align_of(p->x),
                        .w_align = align_of(p->w),
                        .y_align = align_of(p->y)};
}

/* The key's words, each multiplied by the golden ratio of 2^64: those that differ in m alone spread well. */
static uint32_t set_of(const struct key *key)
{
    uint64_t words[sizeof *key / sizeof(uint64_t)], hash = 0;
    memcpy(words, key, sizeof words);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        hash = (hash ^ words[i] ^ hash >> 29) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(hash >> 32) & (SETS - 1);
}

/* The key's plan, or the one of its set that makes room for it. */
static struct plan *place_of(struct gw_cublas *c, const struct key *key)
{
    struct plan *set = c->plans[set_of(key)], *oldest = set;
    for (uint32_t i = 0; i < WAYS; i++) {
        if (set[i].used > 0 && memcmp(&set[i].key, key, sizeof *key) == 0) return &set[i];
        if (set[i].used < oldest->used) oldest = &set[i];
    }
    clear(c->api, oldest);
    return oldest;
}

static gw_err_t lay_out(const struct gw_cublas *c, struct plan *p, struct gw_err_ctx *ctx)
{
    const struct gw_cublas_api *api = c->api;
    static const char what[] = "cublasLtMatrixLayoutCreate";
    const struct key *key = &p->key;
    TRY(gw_cublas_check(api, api->layout_create(&p->w, c->type, key->k, key->n, (int64_t)key->k), what, ctx));
    TRY(gw_cublas_check(api, api->layout_create(&p->x, c->type, key->k, key->m, (int64_t)key->x_stride), what,
                        ctx));
    return gw_cublas_check(
        api, api->layout_create(&p->y, GW_CUBLAS_F32, key->n, key->m, (int64_t)key->y_stride), what, ctx);
}

static gw_err_t prefer_aligns(struct gw_cublas *c, const struct key *key, struct gw_err_ctx *ctx)
{
    const uint32_t aligns[] = {key->w_align, key->x_align, key->y_align, key->y_align};
    for (int i = 0; i < 4; i++)
        TRY(gw_cublas_check(
            c->api,
            c->api->preference_set(c->preference, GW_CUBLAS_PREFER_ALIGN_A + i, &aligns[i], sizeof aligns[i]),
            "cublasLtMatmulPreferenceSetAttribute", ctx));
    return GW_OK;
}

/* Asks for the plan's algorithm: the fastest, in the library's view, that the workspace suffices for. */
static gw_err_t choose(struct gw_cublas *c, struct plan *p, struct gw_err_ctx *ctx)
{
    struct gw_cublas_choice choices[CHOICES] = {0};
    int len = 0;
    TRY(lay_out(c, p, ctx));
    TRY(prefer_aligns(c, &p->key, ctx));
    int status = c->api->get_heuristic(c->handle, c->desc, p->w, p->x, p->y, p->y, c->preference, CHOICES,
                                       choices, &len);
    if (status == GW_CUBLAS_NOT_SUPPORTED) len = 0;
    if (status != GW_CUBLAS_NOT_SUPPORTED)
        TRY(gw_cublas_check(c->api, status, "cublasLtMatmulAlgoGetHeuristic", ctx));
    p->refused = true;
    for (int i = 0; i < len && i < CHOICES && p->refused; i++) {
        if (choices[i].status != GW_CUBLAS_SUCCESS || choices[i].workspace_bytes > c->workspace_bytes)
            continue;
        p->algo = choices[i].algo;
        p->refused = false;
    }
    return GW_OK;
}

static gw_err_t plan_for(struct gw_cublas *c, const struct gw_cublas_product *product, struct plan **out,
                         struct gw_err_ctx *ctx)
{
    const struct key key = key_of(product);
    struct plan *p = place_of(c, &key);
    if (p->used == 0) {
        p->key = key;
        gw_err_t err = choose(c, p, ctx);
        if (err != GW_OK) {
            clear(c->api, p);
            return err;
        }
    }
    p->used = ++c->uses;
    *out = p;
    return GW_OK;
}

gw_err_t gw_cublas_multiply(struct gw_cublas *c, const struct gw_cublas_product *p, struct gw_stream *stream,
                            struct gw_err_ctx *ctx)
{
    const float one = 1.0f, beta = p->add ? 1.0f : 0.0f;
    struct plan *plan;
    if (p->m == 0 || p->n == 0) return GW_OK;
    TRY(plan_for(c, p, &plan, ctx));
    int status = GW_CUBLAS_NOT_SUPPORTED;
    if (!plan->refused)
        status = c->api->matmul(c->handle, c->desc, &one, p->w, plan->w, p->x, plan->x, &beta, p->y, plan->y,
                                p->y, plan->y, &plan->algo, c->workspace, c->workspace_bytes, stream);
    if (status != GW_CUBLAS_NOT_SUPPORTED) return gw_cublas_check(c->api, status, "cublasLtMatmul", ctx);
    plan->refused = true;
    return gw_fail(ctx, GW_ERR_NOT_FOUND, "cuBLASLt has no algorithm for a product of %u x %u x %u", p->m,
                   p->n, p->k);
}
