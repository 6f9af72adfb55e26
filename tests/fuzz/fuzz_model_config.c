/* worker/model_config: any bytes give an error, or a config that holds every bound that the engine relies on. */
#include <assert.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "worker/cells.h"

static void check(const struct gw_model_config *c)
{
    assert(c->hidden >= 1 && c->hidden <= GW_MODEL_HIDDEN_MAX && c->hidden % 2 == 0);
    assert(c->layers >= 1 && c->layers <= GW_MODEL_LAYERS_MAX);
    assert(c->heads >= 1 && c->heads <= GW_MODEL_HEADS_MAX);
    assert(c->kv_heads >= 1 && c->kv_heads <= GW_MODEL_KV_HEADS_MAX && c->heads % c->kv_heads == 0);
    assert(c->head_dim >= GW_MODEL_HEAD_DIM_UNIT && c->head_dim <= GW_MODEL_HEAD_DIM_MAX);
    assert(c->head_dim % GW_MODEL_HEAD_DIM_UNIT == 0);
    assert(c->intermediate <= GW_MODEL_INTERMEDIATE_MAX && c->intermediate % 2 == 0);
    assert(c->expert_intermediate <= GW_MODEL_INTERMEDIATE_MAX && c->expert_intermediate % 2 == 0);
    assert((c->intermediate > 0) == gw_model_has_layers(c, false));
    assert((c->expert_intermediate > 0) == gw_model_has_layers(c, true));
    assert((c->experts > 0) == gw_model_has_layers(c, true));
    assert(c->vocab >= 1 && c->vocab <= GW_MODEL_VOCAB_MAX);
    assert(c->context >= 1 && c->context <= GW_MODEL_CONTEXT_MAX);
    assert(c->rms_eps >= 0 && c->rms_eps <= 1 && c->rope.theta >= 1);
    assert(c->experts <= GW_MODEL_EXPERTS_MAX && c->experts_taken <= c->experts);
    assert((c->experts == 0) == (c->experts_taken == 0));
    assert(!c->two_ropes || (c->rope_sliding.magnitude > 0 && c->rope_sliding.theta >= 1));
    assert(c->rope.magnitude > 0 && gw_model_horizon(c) < c->context);
    struct gw_cells cells = gw_cells_of(c);
    assert(cells.shares >= c->kv_heads && cells.shares * cells.share_heads == c->heads);
    assert(cells.groups * cells.group_layers >= c->layers);
    assert(cells.shares * cells.ffn_cols >= c->intermediate);
    assert(cells.shares * cells.expert_cols >= c->expert_intermediate);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gw_model_config c;
    struct gw_err_ctx ctx = {0};
    gw_err_t err = gw_model_config_parse((const char *)data, size, &c, &ctx);
    assert((err == GW_OK) == (ctx.text[0] == '\0'));
    if (err == GW_OK) check(&c);
    return 0;
}
