/* godwit-sim: runs seeds of the simulator. A failing seed is run again with its trace, which is printed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "tests/sim/sim.h"

#define SEEDS_PER_TEST 10 /* of one TAP line */

struct totals {
    uint64_t events, frames, faults, cutovers, silences, alones, collateral, moved, stale, diverged, tokens;
    uint64_t plans, formed, started, broken, storms;
    uint64_t warms, warmed, named, sources, kv_cached, kv_moved, kv_stored, kv_recomputed;
};

static void add(struct totals *t, const struct sim *sim)
{
    struct gw_core_stats s;
    gw_core_stats(sim->core, &s);
    t->events += sim->events;
    t->frames += sim->frames;
    t->faults += sim->faults;
    t->cutovers += sim->cutovers;
    t->silences += sim->silences;
    t->alones += sim->alones;
    t->collateral += sim->collateral;
    t->plans += sim->plans;
    t->formed += sim->formed;
    t->started += sim->started;
    t->broken += sim->broken;
    t->storms += sim->storms;
    t->warms += sim->warms;
    t->warmed += sim->warmed;
    t->named += sim->named;
    t->sources += sim->sources;
    t->kv_cached += s.kv.cached;
    t->kv_moved += s.kv.moved;
    t->kv_stored += s.kv.stored;
    t->kv_recomputed += gw_kv_recomputed(&s.kv);
    t->moved += s.announced_moves + s.unannounced_moves;
    t->stale += s.stale_frames;
    t->diverged += s.diverged;
    t->tokens += s.tokens;
}

static void print_trace(const struct sim *sim)
{
    size_t first = sim->trace_len > SIM_TRACE_LINES ? sim->trace_len - SIM_TRACE_LINES : 0;
    for (size_t i = first; i < sim->trace_len; i++) printf("# %s\n", sim->trace[i % SIM_TRACE_LINES]);
}

/* True if all is well. */
static bool run_seed(struct sim *sim, uint64_t seed, const struct sim_options *options, struct totals *totals)
{
    bool good = sim_run(sim, seed, options, options->verbose);
    add(totals, sim);
    sim_fini(sim);
    if (good) return true;
    if (!options->verbose) {
        sim_run(sim, seed, options, true);
        print_trace(sim);
        sim_fini(sim);
    }
    printf("# seed %llu: %s\n# replay: godwit-sim --seeds 1 --seed %llu --requests %u --instances %u%s "
           "--verbose\n",
           (unsigned long long)seed, sim->failure, (unsigned long long)seed, options->requests,
           options->instances, options->sessions ? " --sessions" : "");
    return false;
}

static void print_totals(const struct totals *t)
{
    printf(
        "# events=%llu frames=%llu tokens=%llu faults=%llu moved=%llu cutovers=%llu silences=%llu stale=%llu "
        "diverged=%llu alone=%llu failed_beside_poison=%llu\n"
        "# plans=%llu pipelines_formed=%llu started=%llu broken=%llu storms=%llu\n"
        "# warms=%llu warmed=%llu holders=%llu sources=%llu kv: cache=%llu peer=%llu store=%llu "
        "recompute=%llu\n",
        (unsigned long long)t->events, (unsigned long long)t->frames, (unsigned long long)t->tokens,
        (unsigned long long)t->faults, (unsigned long long)t->moved, (unsigned long long)t->cutovers,
        (unsigned long long)t->silences, (unsigned long long)t->stale, (unsigned long long)t->diverged,
        (unsigned long long)t->alones, (unsigned long long)t->collateral, (unsigned long long)t->plans,
        (unsigned long long)t->formed, (unsigned long long)t->started, (unsigned long long)t->broken,
        (unsigned long long)t->storms, (unsigned long long)t->warms, (unsigned long long)t->warmed,
        (unsigned long long)t->named, (unsigned long long)t->sources, (unsigned long long)t->kv_cached,
        (unsigned long long)t->kv_moved, (unsigned long long)t->kv_stored,
        (unsigned long long)t->kv_recomputed);
}

/* Runs count seeds from first on; one TAP line per SEEDS_PER_TEST. Returns how many failed. */
static int64_t run_seeds(struct sim *sim, uint64_t first, int64_t count, bool tap,
                         const struct sim_options *options)
{
    struct totals totals = {0};
    int64_t failed = 0;
    int64_t tests = (count + SEEDS_PER_TEST - 1) / SEEDS_PER_TEST;
    if (tap) printf("1..%lld\n", (long long)tests);
    for (int64_t test = 0; test < tests; test++) {
        uint64_t from = first + (uint64_t)(test * SEEDS_PER_TEST), end = from + SEEDS_PER_TEST;
        if (end > first + (uint64_t)count) end = first + (uint64_t)count;
        bool good = true;
        for (uint64_t seed = from; seed < end && !(failed && options->first); seed++) {
            bool passed = run_seed(sim, seed, options, &totals);
            good = good && passed;
            failed += !passed;
        }
        if (tap)
            printf("%s %lld - sim_%sseeds_%llu_to_%llu\n", good ? "ok" : "not ok", (long long)test + 1,
                   options->sessions ? "sessions_" : "", (unsigned long long)from,
                   (unsigned long long)end - 1);
        fflush(stdout);
    }
    print_totals(&totals);
    return failed;
}

int main(int argc, char **argv)
{
    int64_t seeds = 200, seed = 1, requests = 0, instances = 0;
    bool tap = false, verbose = false, first = false, sessions = false, help = false;
    int nwords;
    struct gw_err_ctx ctx = {0};
    const struct gw_flag flags[] = {
        {"seeds", GW_FLAG_INT, &seeds, "N", "how many seeds to run", 1, 1e9},
        {"seed", GW_FLAG_INT, &seed, "S", "the first one", 0, 9e15},
        {"requests", GW_FLAG_INT, &requests, "R", "requests per run; 0: by the seed", 0, SIM_REQUESTS_MAX},
        {"instances", GW_FLAG_INT, &instances, "I", "instances in the fleet; 0: by the seed", 0,
         SIM_INSTANCES_MAX},
        {"tap", GW_FLAG_BOOL, &tap, NULL, "report as TAP, a line per ten seeds", 0, 0},
        {"first", GW_FLAG_BOOL, &first, NULL, "end at the first seed that fails", 0, 0},
        {"sessions", GW_FLAG_BOOL, &sessions, NULL,
         "runs with more KV on the move: long prompts, little room, notices and changes of layout", 0, 0},
        {"verbose", GW_FLAG_BOOL, &verbose, NULL, "print every event", 0, 0},
        {0}};
    if (gw_args_parse(argc, argv, flags, NULL, 0, &nwords, &help, &ctx) != GW_OK) {
        fprintf(stderr, "godwit-sim: %s\n", ctx.text);
        return 2;
    }
    if (help) {
        gw_args_help("godwit-sim [flags]", "Runs the controller's core in virtual time under seeded faults.",
                     flags);
        return 0;
    }
    struct sim_options options = {(uint32_t)requests, (uint32_t)instances, verbose, first, sessions};
    struct sim *sim = sim_alloc(1, sizeof *sim);
    int64_t failed = run_seeds(sim, (uint64_t)seed, seeds, tap, &options);
    free(sim);
    if (!tap) printf("%lld of %lld seeds failed\n", (long long)failed, (long long)seeds);
    return failed ? 1 : 0;
}
