/* One side of a comparison of engines (tests/bench/bench_peers.py): Godwit's own, in this process, told what to run by lines
 * on standard input; each is answered by one line.
 *
 *     run THREADS SEQUENCES PROMPT TOKENS SALT   →  done SECONDS ID ...      the first token of each sequence
 *     probe THREADS                              →  probe read=GB/s fma=GFLOP/s bf16dot=GFLOP/s vnni=GOP/s   (0: lacking)
 *
 * Token k of sequence s's prompt: see prompt_token. TOKENS = 1: the time is that of all prompts, else that of the TOKENS - 1
 * tokens of each sequence behind its first one. All sequences run at once; temperature is 0. The time has all in it that
 * a worker does for a token, sampling too.
 *
 * usage: peer_godwit MODEL file|int8|bf16amx   (bf16amx: the file's weights under cpu-bf16amx-1) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "migrate/profile.h"
#include "tests/bench/bench_probe.h"
#include "tests/lib/solo_engine.h"

#define THREADS_MAX   16
#define SEQUENCES_MAX 16u
#define PROMPT_MAX    512u
#define TOKENS_MAX    512u
#define LINE_MAX_LEN  128

/* An engine of so many threads over the weights that all share. */
struct lane {
    struct gw_device *device;
    struct gw_rank *rank;
    struct gw_engine *engine;
};

struct peer {
    struct gw_model *model;
    const struct gw_ops *ops;
    struct gw_cell_store *store;
    struct gw_weights *weights;
    struct lane lanes[THREADS_MAX + 1]; /* by threads; opened when first asked for */
    struct bench_cold cold;
    uint64_t requests; /* submitted */
    uint32_t first[SEQUENCES_MAX], firsts;
};

struct load {
    int threads;
    uint32_t sequences, prompt, tokens;
    uint64_t salt;
};

static void die(const char *what)
{
    fprintf(stderr, "peer_godwit: %s\n", what);
    exit(1);
}

static void must(gw_err_t err, const struct gw_err_ctx *ctx)
{
    if (err != GW_OK) die(ctx->text);
}

/* The other side has the same. Salts differ from run to run: no prompt is in a prefix cache. */
static uint32_t prompt_token(uint64_t salt, uint32_t sequence, uint32_t k, uint32_t vocab)
{
    return (uint32_t)((salt * 7919 + sequence * UINT64_C(104729) + k * UINT64_C(15485863)) % vocab);
}

static void on_tokens(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                      const struct gw_tokens *tokens)
{
    struct peer *p = arg;
    (void)attempt;
    (void)branch;
    if (tokens->first > 0) return;
    p->first[(request - 1) % SEQUENCES_MAX] = tokens->ids[0];
    p->firsts++;
}

static struct gw_rank_room room_of(const struct gw_model *model)
{
    struct gw_rank_room room = {.slots = SEQUENCES_MAX * PROMPT_MAX * 2 / GW_BLOCK_TOKENS,
                                .max_rows = PROMPT_MAX,
                                .max_sequences = SEQUENCES_MAX,
                                .positions = model->config.context};
    room.positions = gw_engine_context_of(model, &room);
    return room;
}

static void open_lane(struct peer *p, int threads, struct lane *l)
{
    static const char key[] = "a cluster key for benches, 32 by";
    struct gw_err_ctx ctx = {0};
    must(gw_device_cpu_create(threads, false, &l->device, &ctx), &ctx);
    struct gw_rank_config rank = {.model = p->model,
                                  .ops = p->ops,
                                  .device = l->device,
                                  .weights = p->weights,
                                  .room = room_of(p->model)};
    gw_place_alone(&p->model->cells, &rank.place);
    must(gw_rank_create(&rank, &l->rank, &ctx), &ctx);
    const struct gw_engine_config engine = {.model = p->model,
                                            .ops = p->ops,
                                            .rank = l->rank,
                                            .room = rank.room,
                                            .key = key,
                                            .key_len = sizeof key - 1,
                                            .sink = {.arg = p, .tokens = on_tokens}};
    must(gw_engine_create(&engine, &l->engine, &ctx), &ctx);
}

static struct lane *lane_of(struct peer *p, int threads)
{
    if (threads < 1 || threads > THREADS_MAX) die("threads: 1 to 16");
    struct lane *l = &p->lanes[threads];
    if (!l->engine) open_lane(p, threads, l);
    return l;
}

static void submit(struct peer *p, struct gw_engine *e, const struct load *load, uint32_t sequence)
{
    struct gw_request q = {.id = ++p->requests,
                           .n = 1,
                           .prompt_len = load->prompt,
                           .prompt = malloc(load->prompt * sizeof(uint32_t))};
    struct gw_branch_log log = {0};
    struct gw_err_ctx ctx = {0};
    if (!q.prompt) die("out of memory");
    for (uint32_t k = 0; k < load->prompt; k++)
        q.prompt[k] = prompt_token(load->salt, sequence, k, p->model->config.vocab);
    q.sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = load->tokens};
    struct gw_msg_submit m = {.attempt = 1, .request = q, .logs = &log};
    must(gw_engine_submit(e, &m, &ctx), &ctx);
}

static void run(struct peer *p, const struct load *load)
{
    struct gw_engine *e = lane_of(p, load->threads)->engine;
    struct gw_err_ctx ctx = {0};
    bool did = true;
    p->requests = (p->requests + SEQUENCES_MAX - 1) / SEQUENCES_MAX * SEQUENCES_MAX;
    p->firsts = 0;
    for (uint32_t i = 0; i < load->sequences; i++) submit(p, e, load, i);
    int64_t start_us = gw_clock_mono_us();
    while (did && p->firsts < load->sequences) must(gw_engine_step(e, &did, &ctx), &ctx);
    if (load->tokens > 1) start_us = gw_clock_mono_us();
    while (did) must(gw_engine_step(e, &did, &ctx), &ctx);
    printf("done %.6f", (double)(gw_clock_mono_us() - start_us) * 1e-6);
    for (uint32_t i = 0; i < load->sequences; i++) printf(" %u", p->first[i]);
    printf("\n");
}

static void probe(struct peer *p, int threads)
{
    struct gw_device *dev = lane_of(p, threads)->device;
    double read = bench_probe_bandwidth(dev, &p->cold);
    double fma = 0, bf16dot = 0, vnni = 0;
    if (__builtin_cpu_supports("avx512f"))
        fma = bench_probe_peak(dev, bench_probe_fma512, threads, BENCH_PROBE_WIDE);
    else
        fma = bench_probe_peak(dev, bench_probe_fma256, threads, BENCH_PROBE_HALF);
    if (__builtin_cpu_supports("avx512bf16"))
        bf16dot = bench_probe_peak(dev, bench_probe_bf16dot, threads, BENCH_PROBE_PAIRS);
    if (__builtin_cpu_supports("avx512vnni"))
        vnni = bench_probe_peak(dev, bench_probe_vnni, threads, BENCH_PROBE_BYTES);
    printf("probe read=%.2f fma=%.1f bf16dot=%.1f vnni=%.1f\n", read, fma, bf16dot, vnni);
}

static void open_peer(struct peer *p, const char *dir, enum gw_weight_format format, const char *profile)
{
    struct gw_err_ctx ctx = {0};
    struct gw_place place;
    must(gw_model_open(dir, &p->model, &ctx), &ctx);
    if (!profile) profile = gw_model_profile(p->model, format, GW_KV_FILE);
    must(gw_ops_cpu(profile, GW_ISA_AUTO, &p->ops, &ctx), &ctx);
    must(gw_cell_store_create(p->model, p->ops, &p->store, &ctx), &ctx);
    gw_place_alone(&p->model->cells, &place);
    must(gw_weights_create(p->store, p->model, place.cells, NULL, &p->weights, &ctx), &ctx);
    p->cold = bench_cold_map();
}

static void close_peer(struct peer *p)
{
    for (int i = 0; i <= THREADS_MAX; i++) {
        gw_engine_destroy(p->lanes[i].engine);
        gw_rank_destroy(p->lanes[i].rank);
        if (p->lanes[i].device) gw_device_destroy(p->lanes[i].device);
    }
    gw_weights_destroy(p->weights);
    gw_cell_store_destroy(p->store);
    gw_model_close(p->model);
    munmap(p->cold.memory, p->cold.bytes);
}

static void obey(struct peer *p, const char *line)
{
    struct load load;
    int threads;
    if (sscanf(line, "run %d %u %u %u %lu", &load.threads, &load.sequences, &load.prompt, &load.tokens,
               &load.salt) == 5) {
        if (load.sequences < 1 || load.sequences > SEQUENCES_MAX || load.prompt < 1 ||
            load.prompt > PROMPT_MAX || load.tokens < 1 || load.tokens > TOKENS_MAX)
            die("a load of 1 to 16 sequences, 1 to 512 tokens each before and after");
        run(p, &load);
    } else if (sscanf(line, "probe %d", &threads) == 1) {
        probe(p, threads);
    } else {
        die("a line is neither `run` nor `probe`");
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[LINE_MAX_LEN];
    struct peer p = {0};
    bool int8 = argc == 3 && strcmp(argv[2], "int8") == 0,
         tiles = argc == 3 && strcmp(argv[2], "bf16amx") == 0;
    if (argc != 3 || (!int8 && !tiles && strcmp(argv[2], "file") != 0))
        die("usage: peer_godwit MODEL file|int8|bf16amx");
    gw_device_enter_thread();
    open_peer(&p, argv[1], int8 ? GW_WEIGHT_INT8 : GW_WEIGHT_FILE, tiles ? GW_PROFILE_CPU_BF16AMX : NULL);
    printf("ready %s %s bytes=%lu\n", p.ops->profile, p.ops->name, gw_cell_store_bytes(p.store));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) obey(&p, line);
    close_peer(&p);
    return 0;
}
