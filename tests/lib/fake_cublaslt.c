/* See fake_cublaslt.h. Built as a shared object, build/<variant>/tests/lib/fake_cublaslt.so. */
#include "tests/lib/fake_cublaslt.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cublas_api.h"

struct gw_cublas_handle {
    char nothing;
};

struct gw_cublas_desc {
    int32_t trans_a;
};

struct gw_cublas_layout {
    int type;
    uint64_t rows, columns;
    int64_t stride;
};

struct gw_cublas_preference {
    uint64_t workspace_bytes;
    uint32_t align[4]; /* of A, B, C, D */
};

/* What an algorithm's words say. */
struct algorithm {
    uint64_t workspace_bytes;
    uint32_t align[3];     /* of A, B, D */
    uint32_t m, n, k, add; /* add is not asked for: 0 */
};

/* The calls have no context but the process. Tests call from one thread. */
static struct fake_cublaslt_plan plan;
static struct fake_cublaslt_counts counts;
static uint32_t calls; /* of the one that fails */

#define API __attribute__((visibility("default")))
/* Prototypes of what is exported: only dlsym knows them. */
#define EXPORT(type, name, ...)                                                                              \
    API type name(__VA_ARGS__);                                                                              \
    API type name(__VA_ARGS__)

EXPORT(void, fake_cublaslt_set, const struct fake_cublaslt_plan *p)
{
    uint32_t living = counts.living;
    plan = *p;
    counts = (struct fake_cublaslt_counts){.living = living};
    calls = 0;
}

EXPORT(void, fake_cublaslt_count, struct fake_cublaslt_counts *out)
{
    *out = counts;
}

static int result(const char *name, bool well)
{
    if (plan.fails && strcmp(plan.fails, name) == 0 && calls++ >= plan.nth) return plan.status;
    return well ? GW_CUBLAS_SUCCESS : GW_CUBLAS_INVALID_VALUE;
}

static int make(const char *name, bool well, void *out, size_t bytes)
{
    int status = result(name, well);
    if (status != GW_CUBLAS_SUCCESS) return status;
    void *made = calloc(1, bytes);
    if (!made) return GW_CUBLAS_ALLOC_FAILED;
    memcpy(out, &made, sizeof made);
    counts.living++;
    return GW_CUBLAS_SUCCESS;
}

static int destroy(void *made)
{
    free(made);
    counts.living--;
    return GW_CUBLAS_SUCCESS;
}

EXPORT(size_t, cublasLtGetVersion, void)
{
    return plan.version ? plan.version : 130000;
}

EXPORT(const char *, cublasLtGetStatusString, int status)
{
    return status == GW_CUBLAS_INVALID_VALUE ? "wrong arguments" : "planned fault";
}

EXPORT(int, cublasLtCreate, struct gw_cublas_handle **out)
{
    return make("cublasLtCreate", true, out, sizeof **out);
}

EXPORT(int, cublasLtDestroy, struct gw_cublas_handle *handle)
{
    return destroy(handle);
}

EXPORT(int, cublasLtMatmulDescCreate, struct gw_cublas_desc **out, int compute, int scale)
{
    return make("cublasLtMatmulDescCreate", compute == GW_CUBLAS_COMPUTE_F32 && scale == GW_CUBLAS_F32, out,
                sizeof **out);
}

EXPORT(int, cublasLtMatmulDescDestroy, struct gw_cublas_desc *desc)
{
    return destroy(desc);
}

EXPORT(int, cublasLtMatmulDescSetAttribute, struct gw_cublas_desc *desc, int attribute, const void *value,
       size_t bytes)
{
    bool well = attribute == GW_CUBLAS_DESC_TRANS_A && bytes == sizeof desc->trans_a;
    int status = result("cublasLtMatmulDescSetAttribute", well);
    if (status == GW_CUBLAS_SUCCESS) memcpy(&desc->trans_a, value, bytes);
    return status;
}

EXPORT(int, cublasLtMatrixLayoutCreate, struct gw_cublas_layout **out, int type, uint64_t rows,
       uint64_t columns, int64_t stride)
{
    bool well = rows > 0 && columns > 0 && stride >= (int64_t)rows;
    int status = make("cublasLtMatrixLayoutCreate", well, out, sizeof **out);
    if (status == GW_CUBLAS_SUCCESS) **out = (struct gw_cublas_layout){type, rows, columns, stride};
    return status;
}

EXPORT(int, cublasLtMatrixLayoutDestroy, struct gw_cublas_layout *layout)
{
    return destroy(layout);
}

EXPORT(int, cublasLtMatmulPreferenceCreate, struct gw_cublas_preference **out)
{
    int status = make("cublasLtMatmulPreferenceCreate", true, out, sizeof **out);
    for (int i = 0; i < 4 && status == GW_CUBLAS_SUCCESS; i++)
        (*out)->align[i] = 256; /* cublasLt.h's default */
    return status;
}

EXPORT(int, cublasLtMatmulPreferenceDestroy, struct gw_cublas_preference *preference)
{
    return destroy(preference);
}

EXPORT(int, cublasLtMatmulPreferenceSetAttribute, struct gw_cublas_preference *p, int attribute,
       const void *value, size_t bytes)
{
    bool workspace = attribute == GW_CUBLAS_PREFER_WORKSPACE && bytes == sizeof p->workspace_bytes;
    int align = attribute - GW_CUBLAS_PREFER_ALIGN_A;
    bool aligns = align >= 0 && align < 4 && bytes == sizeof *p->align;
    int status = result("cublasLtMatmulPreferenceSetAttribute", workspace || aligns);
    if (status == GW_CUBLAS_SUCCESS)
        memcpy(workspace ? (void *)&p->workspace_bytes : &p->align[align], value, bytes);
    return status;
}

/* yᵀ = (wᵀ)ᵀ · xᵀ, all column after column. */
static bool is_product(const struct gw_cublas_desc *desc, const struct gw_cublas_layout *w,
                       const struct gw_cublas_layout *x, const struct gw_cublas_layout *c,
                       const struct gw_cublas_layout *y)
{
    bool known = w->type == GW_CUBLAS_BF16 || w->type == GW_CUBLAS_F32;
    return desc->trans_a == GW_CUBLAS_TRANSPOSED && known && x->type == w->type && y->type == GW_CUBLAS_F32 &&
           w->rows == x->rows && y->rows == w->columns && y->columns == x->columns && c->rows == y->rows &&
           c->columns == y->columns && c->stride == y->stride && c->type == y->type;
}

static struct gw_cublas_algo algo_of(const struct algorithm *a)
{
    struct gw_cublas_algo algo = {{0}};
    _Static_assert(sizeof *a <= sizeof algo, "it fits");
    memcpy(algo.words, a, sizeof *a);
    return algo;
}

EXPORT(int, cublasLtMatmulAlgoGetHeuristic, struct gw_cublas_handle *handle, struct gw_cublas_desc *desc,
       struct gw_cublas_layout *w, struct gw_cublas_layout *x, struct gw_cublas_layout *c,
       struct gw_cublas_layout *y, struct gw_cublas_preference *preference, int wanted,
       struct gw_cublas_choice *out, int *out_len)
{
    static const size_t sizes[] = {FAKE_CUBLASLT_LARGE_BYTES, FAKE_CUBLASLT_SMALL_BYTES};
    int status =
        result("cublasLtMatmulAlgoGetHeuristic", handle && wanted > 0 && is_product(desc, w, x, c, y));
    counts.asked++;
    *out_len = 0;
    if (status != GW_CUBLAS_SUCCESS) return status;
    for (int i = 0; i < 2 && *out_len < wanted && !plan.knows_nothing; i++) {
        struct algorithm a = {.workspace_bytes = sizes[i],
                              .m = (uint32_t)y->columns,
                              .n = (uint32_t)y->rows,
                              .k = (uint32_t)w->rows};
        memcpy(a.align, preference->align, 2 * sizeof *a.align);
        a.align[2] = preference->align[3];
        out[(*out_len)++] =
            (struct gw_cublas_choice){.algo = algo_of(&a),
                                      .workspace_bytes = sizes[i],
                                      /* one that is too large is no error, but is not to be used */
                                      .status = GW_CUBLAS_SUCCESS};
    }
    return GW_CUBLAS_SUCCESS;
}

/* ---- work ---- */

struct work {
    const void *w, *x; /* of type */
    int type;
    float *y;
    size_t m, n, k, x_stride, y_stride;
    bool add;
};

static double number_at(const void *of, int type, size_t at)
{
    if (type == GW_CUBLAS_F32) return (double)((const float *)of)[at];
    uint32_t wide = (uint32_t)((const uint16_t *)of)[at] << 16;
    float f;
    memcpy(&f, &wide, sizeof f);
    return (double)f;
}

static void run(const void *arg)
{
    const struct work *p = arg;
    for (size_t row = 0; row < p->m; row++)
        for (size_t column = 0; column < p->n; column++) {
            float *y = &p->y[row * p->y_stride + column];
            double sum = p->add ? (double)*y : 0;
            for (size_t k = 0; k < p->k; k++)
                sum += number_at(p->x, p->type, row * p->x_stride + k) *
                       number_at(p->w, p->type, column * p->k + k);
            *y = (float)sum;
        }
}

static bool is_aligned(const void *at, uint32_t bytes)
{
    return (uintptr_t)at % bytes == 0;
}

EXPORT(int, cublasLtMatmul, struct gw_cublas_handle *handle, struct gw_cublas_desc *desc, const void *alpha,
       const void *w, struct gw_cublas_layout *w_layout, const void *x, struct gw_cublas_layout *x_layout,
       const void *beta, const void *c, struct gw_cublas_layout *c_layout, void *y,
       struct gw_cublas_layout *y_layout, const struct gw_cublas_algo *algo, void *workspace,
       size_t workspace_bytes, void *stream)
{
    struct algorithm a;
    float by, old;
    memcpy(&a, algo->words, sizeof a);
    memcpy(&by, alpha, sizeof by);
    memcpy(&old, beta, sizeof old);
    bool well = handle && stream && workspace && workspace_bytes >= a.workspace_bytes && c == y &&
                by == 1.0f && (old == 0.0f || old == 1.0f) &&
                is_product(desc, w_layout, x_layout, c_layout, y_layout) && a.m == y_layout->columns &&
                a.n == y_layout->rows && a.k == w_layout->rows && w_layout->stride == (int64_t)a.k &&
                is_aligned(w, a.align[0]) && is_aligned(x, a.align[1]) && is_aligned(y, a.align[2]);
    int status = result("cublasLtMatmul", well);
    if (status != GW_CUBLAS_SUCCESS) return status;
    const struct work work = {.w = w,
                              .x = x,
                              .type = w_layout->type,
                              .y = y,
                              .m = a.m,
                              .n = a.n,
                              .k = a.k,
                              .x_stride = (size_t)x_layout->stride,
                              .y_stride = (size_t)y_layout->stride,
                              .add = old == 1.0f};
    counts.multiplied++;
    counts.added += work.add;
    counts.workspace_bytes = (size_t)a.workspace_bytes;
    if (plan.put)
        plan.put(run, &work, sizeof work);
    else
        run(&work);
    return GW_CUBLAS_SUCCESS;
}
