/* The planner against its bars: `bench plan_<fleet>_ms ours=<x> ref=<y> ratio=<x/y> unit=ms`, processor time of one whole plan
 * (search, mapping, migration, wish), the middle of ROUNDS runs; `fresh` on an empty fleet, `loss` when one instance of a
 * fleet that serves is doomed. The planner has one thread and waits for nothing, so on an idle machine this is wall time. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/bench/bench_measure.h"
#include "controller/plan/planner.h"
#include "tests/lib/plan_fixture.h"

#define ROUNDS 9

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* The middle time of a plan; *out is the last one. */
static double time_plan(const struct gw_plan_input *in, struct gw_plan *out)
{
    const struct gw_planner_options options = {0};
    double ms[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        struct gw_err_ctx ctx = {0};
        double start = cpu_ms();
        if (i) gw_plan_fini(out);
        if (gw_planner_run(in, &options, out, &ctx) != GW_OK) {
            fprintf(stderr, "bench_plan: %s\n", ctx.text);
            exit(1);
        }
        ms[i] = cpu_ms() - start;
    }
    return bench_median(ms, ROUNDS);
}

static void report(const char *name, const char *what, double ours, double ref)
{
    printf("bench plan_%s%s_ms ours=%.3f ref=%g ratio=%.3f unit=ms\n", name, what, ours, ref, ours / ref);
}

static void bench(const char *name, struct plan_fleet *p, double rps, double ref)
{
    struct gw_plan_model m = plan_model_70b();
    struct gw_plan_load load = plan_load(rps);
    struct gw_plan_input in = {&p->f, &m, &load};
    struct gw_plan plan, then;
    report(name, "", time_plan(&in, &plan), ref);
    plan_hold(p, &plan.layout, 10000000);
    if (plan.layout.ranks_len)
        p->f.instances[p->f.devices[plan.layout.ranks[0].device].instance].doomed_at_s = 60;
    report(name, "_loss", time_plan(&in, &then), ref);
    gw_plan_fini(&plan);
    gw_plan_fini(&then);
    plan_fleet_destroy(p);
}

int main(void)
{
    struct gw_rng r;
    struct plan_fleet *p = plan_fleet_create(1, 64);
    for (int i = 0; i < 16; i++) plan_add(p, 0, 4, 0);
    bench("64_devices", p, 20, 5);
    gw_rng_init(&r, 1);
    p = plan_fleet_create(3, 1000);
    plan_fill(p, &r, 1000, 3, 8);
    bench("1000_devices", p, 100, 100);
    p = plan_fleet_create(12, 10000);
    plan_fill(p, &r, 10000, 5, 8);
    bench("10000_devices", p, 1000, 1000);
    return 0;
}
