#include "worker/job.h"

#include <stdlib.h>
#include <string.h>

static bool log_is_complete(const struct gw_sampling *s, const struct gw_branch_log *log)
{
    if (log->done) return true;
    return log->len > 0 && gw_request_finish_at(s, log->len - 1, log->ids[log->len - 1]) != GW_FINISH_NONE;
}

static gw_err_t branch_init(struct gw_job *job, uint32_t index, const struct gw_request *request,
                            const struct gw_branch_log *log, uint64_t arrival)
{
    struct gw_branch *b = &job->branches[index];
    b->job = job;
    b->index = index;
    b->order = arrival << GW_JOB_BRANCH_BITS | index;
    b->state = log_is_complete(&request->sampling, log) ? GW_BRANCH_DONE : GW_BRANCH_HELD;
    b->output_len = log->len;
    b->blocks_max = gw_blocks_for(gw_job_kv_tokens(request));
    uint32_t room = log->len > request->sampling.max_tokens ? log->len : request->sampling.max_tokens;
    b->output = malloc(room * sizeof *b->output);
    if (!b->output) return GW_ERR_MEMORY;
    if (log->len) memcpy(b->output, log->ids, log->len * sizeof *b->output);
    if (b->state == GW_BRANCH_DONE) return GW_OK;
    b->blocks = malloc(b->blocks_max * sizeof *b->blocks);
    b->names = malloc(b->blocks_max * sizeof *b->names);
    if (!b->blocks || !b->names) return GW_ERR_MEMORY;
    job->live++;
    return GW_OK;
}

gw_err_t gw_job_create(struct gw_msg_submit *submit, uint64_t arrival, struct gw_job **out)
{
    uint32_t n = submit->request.n;
    struct gw_job *job = calloc(1, sizeof *job + n * sizeof *job->branches);
    if (!job) return GW_ERR_MEMORY;
    job->attempt = submit->attempt;
    job->request.n = n; /* what destroy walks over, until the request is taken over */
    for (uint32_t i = 0; i < n; i++) {
        gw_err_t err = branch_init(job, i, &submit->request, &submit->logs[i], arrival);
        if (err != GW_OK) {
            gw_job_destroy(job);
            return err;
        }
    }
    job->request = submit->request;
    submit->request = (struct gw_request){.n = n}; /* n logs are still the message's, to be freed with it */
    *out = job;
    return GW_OK;
}

void gw_job_destroy(struct gw_job *job)
{
    if (!job) return;
    for (uint32_t i = 0; i < job->request.n; i++) {
        free(job->branches[i].output);
        free(job->branches[i].blocks);
        free(job->branches[i].names);
    }
    gw_request_fini(&job->request);
    free(job);
}

void gw_branch_copy_ids(const struct gw_branch *b, uint32_t first, uint32_t count, uint32_t *out)
{
    const struct gw_request *r = &b->job->request;
    uint32_t from_prompt = first < r->prompt_len ? r->prompt_len - first : 0;
    if (from_prompt > count) from_prompt = count;
    if (from_prompt) memcpy(out, r->prompt + first, from_prompt * sizeof *out);
    if (count > from_prompt)
        memcpy(out + from_prompt, b->output + (first + from_prompt - r->prompt_len),
               (count - from_prompt) * sizeof *out);
}

const struct gw_block_name *gw_branch_name(struct gw_branch *b, const struct gw_block_namer *namer,
                                           uint32_t block)
{
    for (; b->names_len <= block; b->names_len++) {
        uint32_t ids[GW_BLOCK_TOKENS], i = b->names_len;
        gw_branch_copy_ids(b, i * GW_BLOCK_TOKENS, GW_BLOCK_TOKENS, ids);
        b->names[i] = gw_block_name_next(namer, b->job->request.tenant, i ? &b->names[i - 1] : NULL, ids);
    }
    return &b->names[block];
}

struct gw_block_name gw_branch_tail_name(struct gw_branch *b, const struct gw_block_namer *namer)
{
    uint32_t ids[GW_BLOCK_TOKENS], whole = gw_branch_whole(b), count = gw_branch_tail(b);
    const struct gw_block_name *parent = whole ? gw_branch_name(b, namer, whole - 1) : NULL;
    gw_branch_copy_ids(b, whole * GW_BLOCK_TOKENS, count, ids);
    return gw_block_name_tail(namer, b->job->request.tenant, parent, ids, count);
}
