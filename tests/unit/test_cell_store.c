/* worker/cell_store, worker/weights: parts are loaded once, counted, kept until trimmed, and any rectangle's matrices
 * are those of the whole model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "worker/cell_source.h"
#include "worker/weights.h"

#define MODEL "tests/data/tiny/gqa64" /* 3 layers: 2 groups; 8 shares; 2 KV heads */

struct fixture {
    struct gw_model *model;
    const struct gw_ops *ops;
    struct gw_cell_store *store;
    struct gw_cell_rect all;
};

static int set_up_model(void **state, const char *dir)
{
    static struct fixture f;
    assert_int_equal(gw_model_open(dir, &f.model, NULL), GW_OK);
    assert_int_equal(
        gw_ops_cpu(gw_model_profile(f.model, GW_WEIGHT_FILE, GW_KV_FILE), GW_ISA_C, &f.ops, NULL), GW_OK);
    assert_int_equal(gw_cell_store_create(f.model, f.ops, &f.store, NULL), GW_OK);
    f.all = gw_cells_all(&f.model->cells);
    *state = &f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_model(state, MODEL);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_cell_store_destroy(f->store);
    gw_model_close(f->model);
    return 0;
}

static struct gw_weights *weights_of(struct fixture *f, struct gw_cell_rect r)
{
    struct gw_weights *w;
    assert_int_equal(gw_weights_create(f->store, f->model, r, NULL, &w, NULL), GW_OK);
    return w;
}

static void test_acquire_loads_what_is_missing_only(void **state)
{
    struct fixture *f = *state;
    const struct gw_cell_rect left = {0, 2, 0, 5}, right = {0, 2, 3, 8};
    uint64_t all = gw_cell_store_bytes_of(f->store, f->all), before = gw_cell_store_bytes_of(f->store, left);
    assert_int_equal(gw_cell_store_missing(f->store, left), before);
    struct gw_weights *a = weights_of(f, left);
    assert_int_equal(a->loaded_bytes, before);
    assert_int_equal(gw_cell_store_bytes(f->store), before);
    assert_int_equal(gw_cell_store_missing(f->store, left), 0);
    uint64_t missing = gw_cell_store_missing(f->store, right);
    assert_true(missing > 0 && missing < gw_cell_store_bytes_of(f->store, right));
    struct gw_weights *b = weights_of(f, right);
    assert_int_equal(b->loaded_bytes, missing);
    assert_int_equal(gw_cell_store_bytes(f->store), all);
    gw_weights_destroy(a);
    gw_weights_destroy(b);
}

static void test_trim_keeps_what_is_counted_or_wanted(void **state)
{
    struct fixture *f = *state;
    const struct gw_cell_rect one = {0, 1, 0, 4}, two = {1, 2, 4, 8}, none = {0, 0, 0, 0};
    struct gw_weights *a = weights_of(f, one), *b = weights_of(f, two);
    gw_weights_destroy(b);
    assert_int_equal(gw_cell_store_missing(f->store, two), 0); /* nobody counts it, nobody dropped it */
    gw_cell_store_trim(f->store, two);
    assert_int_equal(gw_cell_store_missing(f->store, two), 0);
    gw_cell_store_trim(f->store, none);
    assert_int_equal(gw_cell_store_missing(f->store, one), 0);
    assert_int_equal(gw_cell_store_bytes(f->store), gw_cell_store_bytes_of(f->store, one));
    gw_weights_destroy(a);
    gw_cell_store_trim(f->store, none);
    assert_int_equal(gw_cell_store_bytes(f->store), 0);
}

static void test_acquire_stopped_holds_nothing(void **state)
{
    struct fixture *f = *state;
    atomic_bool stop = true;
    struct gw_weights *w = NULL;
    assert_int_equal(gw_weights_create(f->store, f->model, f->all, &stop, &w, NULL), GW_ERR_IO);
    assert_null(w);
    gw_cell_store_trim(f->store, (struct gw_cell_rect){0});
    assert_int_equal(gw_cell_store_bytes(f->store), 0);
}

static void expect_same_matrix(const struct fixture *f, const struct gw_weight *a, const struct gw_weight *b)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->k, b->k);
    assert_memory_equal(a->data, b->data, f->ops->pack_bytes(a->n, a->k));
}

/* Two stores, so that the rectangle's matrices are its own. */
static void test_weights_of_a_rectangle_are_the_whole_s(void **state)
{
    struct fixture *f = *state;
    const struct gw_cell_rect r = {1, 2, 3, 6};
    struct gw_cell_store *other;
    struct gw_weights *whole = weights_of(f, f->all), *part;
    assert_int_equal(gw_cell_store_create(f->model, f->ops, &other, NULL), GW_OK);
    assert_int_equal(gw_weights_create(other, f->model, r, NULL, &part, NULL), GW_OK);
    assert_int_equal(part->layers_len, 1); /* the third of three layers */
    assert_int_equal(part->shares, 3);
    assert_int_equal(part->kv_heads, 2); /* shares 3 to 5 read both */
    const struct gw_layer_weights *a = &whole->layers[2], *b = &part->layers[0];
    for (uint32_t i = 0; i < 3; i++) {
        expect_same_matrix(f, &a->qkv.w[3 + i], &b->qkv.w[i]);
        expect_same_matrix(f, &a->o[3 + i], &b->o[i]);
        expect_same_matrix(f, &a->ffn->gate_up.w[3 + i], &b->ffn->gate_up.w[i]);
        expect_same_matrix(f, &a->ffn->down[3 + i], &b->ffn->down[i]);
        expect_same_matrix(f, &whole->head.w[3 + i], &part->head.w[i]);
        assert_int_equal(whole->head.at[3 + i], part->head_first + part->head.at[i]);
    }
    expect_same_matrix(f, &a->qkv.w[8], &b->qkv.w[3]); /* K of the first KV head, behind the shares' Q */
    assert_memory_equal(a->norm_ffn, b->norm_ffn, f->model->config.hidden * sizeof(float));
    gw_weights_destroy(part);
    gw_cell_store_destroy(other);
    gw_weights_destroy(whole);
}

static int set_up_biases(void **state)
{
    return set_up_model(state, "tests/data/tiny/qwen2"); /* 3 layers, 8 shares, 2 KV heads of 8 */
}

static int set_up_experts(void **state)
{
    return set_up_model(state, "tests/data/tiny/qwen3moe"); /* 2 layers, 8 shares, 8 experts */
}

/* q's, k's and v's stand where their columns of qkv do. */
static void test_biases_are_those_of_the_file(void **state)
{
    struct fixture *f = *state;
    const uint32_t hd = f->model->config.head_dim, first = 3;
    struct gw_weights *w = weights_of(f, (struct gw_cell_rect){0, 2, first, 8});
    for (uint32_t l = 0; l < w->layers_len; l++) {
        const struct gw_model_layer *src = &f->model->layers[l];
        const float *bias = w->layers[l].prep.bias;
        for (uint32_t i = 0; i < w->shares * hd; i++)
            assert_true(bias[i] == gw_f32_at(src->q_bias->data, src->q_bias->type, first * hd + i));
        bias += w->shares * hd;
        for (uint32_t i = 0; i < 2 * hd; i++) {
            assert_true(bias[i] == gw_f32_at(src->k_bias->data, src->k_bias->type, i));
            assert_true(bias[2 * hd + i] == gw_f32_at(src->v_bias->data, src->v_bias->type, i));
        }
    }
    gw_weights_destroy(w);
}

/* Of every expert, and the router is whole at every rank. */
static void test_experts_of_a_rectangle_are_the_whole_s(void **state)
{
    struct fixture *f = *state;
    struct gw_cell_store *other;
    struct gw_weights *whole = weights_of(f, f->all), *part;
    assert_int_equal(gw_cell_store_create(f->model, f->ops, &other, NULL), GW_OK);
    assert_int_equal(gw_weights_create(other, f->model, (struct gw_cell_rect){0, 1, 5, 8}, NULL, &part, NULL),
                     GW_OK);
    for (uint32_t l = 0; l < part->layers_len; l++) {
        const struct gw_layer_weights *a = &whole->layers[l], *b = &part->layers[l];
        expect_same_matrix(f, a->router, b->router);
        assert_memory_equal(a->prep.k_norm, b->prep.k_norm, f->model->config.head_dim * sizeof(float));
        for (uint32_t e = 0; e < f->model->config.experts; e++)
            for (uint32_t i = 0; i < part->shares; i++) {
                expect_same_matrix(f, &a->ffn[e].gate_up.w[5 + i], &b->ffn[e].gate_up.w[i]);
                expect_same_matrix(f, &a->ffn[e].down[5 + i], &b->ffn[e].down[i]);
                assert_int_equal(b->ffn[e].gate_up.at[i], i * b->ffn[e].gate_up.w[0].n);
            }
    }
    gw_weights_destroy(part);
    gw_cell_store_destroy(other);
    gw_weights_destroy(whole);
}

static int set_up_mixed(void **state)
{
    return set_up_model(state,
                        "tests/data/tiny/qwen3moe_mixed"); /* of 4 layers the second alone has experts */
}

/* Each layer has its own number of matrices, as wide as its FFN or its experts are. */
static void test_layers_with_and_without_experts_lie_beside_each_other(void **state)
{
    struct fixture *f = *state;
    struct gw_weights *whole = weights_of(f, f->all);
    const struct gw_model_config *c = &f->model->config;
    uint8_t *packed = malloc(f->ops->pack_bytes_plain(c->experts, c->hidden));
    assert_non_null(packed);
    for (uint32_t l = 0; l < whole->layers_len; l++) {
        const struct gw_layer_weights *w = &whole->layers[l];
        uint32_t cols = l == 1 ? f->model->cells.expert_cols : f->model->cells.ffn_cols;
        assert_int_equal(w->router != NULL, l == 1);
        assert_int_equal(w->o[7].n, c->hidden);
        for (uint32_t e = 0; e < (l == 1 ? c->experts : 1); e++) {
            assert_int_equal(w->ffn[e].gate_up.w[7].n, 2 * cols);
            assert_int_equal(w->ffn[e].down[7].k, cols);
        }
    }
    f->ops->pack_plain(packed, f->model->layers[1].router->data, f->model->layers[1].router->type, c->experts,
                       c->hidden, c->hidden);
    assert_memory_equal(whole->layers[1].router->data, packed,
                        f->ops->pack_bytes_plain(c->experts, c->hidden));
    free(packed);
    gw_weights_destroy(whole);
}

/* Else a worker could take cells of another format for its own. */
static void test_packing_and_bytes_of_int8_are_others(void **state)
{
    struct fixture *f = *state;
    const struct gw_ops *ops;
    struct gw_cell_store *int8;
    assert_int_equal(gw_ops_cpu(gw_model_profile(f->model, GW_WEIGHT_INT8, GW_KV_FILE), GW_ISA_C, &ops, NULL),
                     GW_OK);
    assert_int_equal(gw_cell_store_create(f->model, ops, &int8, NULL), GW_OK);
    assert_true(gw_cell_store_packing(int8) != gw_cell_store_packing(f->store));
    assert_true(gw_cell_store_bytes_of(int8, f->all) < gw_cell_store_bytes_of(f->store, f->all));
    gw_cell_store_destroy(int8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_acquire_loads_what_is_missing_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_trim_keeps_what_is_counted_or_wanted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_acquire_stopped_holds_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_weights_of_a_rectangle_are_the_whole_s, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_packing_and_bytes_of_int8_are_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_biases_are_those_of_the_file, set_up_biases, tear_down),
        cmocka_unit_test_setup_teardown(test_experts_of_a_rectangle_are_the_whole_s, set_up_experts,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_layers_with_and_without_experts_lie_beside_each_other,
                                        set_up_mixed, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
