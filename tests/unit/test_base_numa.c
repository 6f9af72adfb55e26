/* base/numa: nodes as a sysfs tree of the test's own describes them, and a process that stays on one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/numa.h"

struct tree {
    char dir[64];
};

static void put(const struct tree *t, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void put_node(const struct tree *t, const char *node, const char *cores, const char *meminfo)
{
    char name[128];
    snprintf(name, sizeof name, "%s/%s", t->dir, node);
    assert_int_equal(mkdir(name, 0700), 0);
    snprintf(name, sizeof name, "%s/cpulist", node);
    put(t, name, cores);
    snprintf(name, sizeof name, "%s/meminfo", node);
    put(t, name, meminfo);
}

/* Node 0 has this thread's cores, 2 has cores that no machine has, 1 and 5 have no memory. */
static int open_tree(void **state)
{
    static struct tree t;
    char own[32];
    snprintf(t.dir, sizeof t.dir, "/tmp/godwit-numa-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    put(&t, "has_cpu", "0-2,5\n");
    put(&t, "has_memory", "0,2,7-9\n");
    snprintf(own, sizeof own, "%d\n", sched_getcpu());
    put_node(&t, "node0", own,
             "Node 0 MemFree:          100 kB\nNode 0 MemTotal:       21457112 kB\nNode 0 MemUsed:  1 kB\n");
    put_node(&t, "node2", "1021-1023\n", "nothing that anybody knows\n");
    *state = &t;
    return 0;
}

static int close_tree(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", ((struct tree *)*state)->dir);
    return system(command);
}

static void test_nodes_are_those_with_cores_and_memory(void **state)
{
    const struct tree *t = *state;
    uint32_t nodes[GW_NUMA_NODES_MAX];
    assert_int_equal(gw_numa_nodes(t->dir, nodes), 2);
    assert_int_equal(nodes[0], 0);
    assert_int_equal(nodes[1], 2);
    assert_int_equal(gw_numa_nodes("/no/such/folder", nodes), 0);
}

static void test_nodes_of_a_broken_list_are_those_before_the_break(void **state)
{
    const struct tree *t = *state;
    uint32_t nodes[GW_NUMA_NODES_MAX];
    put(t, "has_cpu", "0-2,x,5\n");
    put(t, "has_memory", "0,2-,99999999999999999999999\n");
    assert_int_equal(gw_numa_nodes(t->dir, nodes), 1);
    assert_int_equal(nodes[0], 0);
}

static void test_memory_is_the_total_or_unknown(void **state)
{
    const struct tree *t = *state;
    assert_int_equal(gw_numa_memory_bytes(t->dir, 0), 21457112ull * 1024);
    assert_int_equal(gw_numa_memory_bytes(t->dir, 2), 0);
    assert_int_equal(gw_numa_memory_bytes(t->dir, 3), 0);
}

static void test_bind_keeps_the_thread_on_the_nodes_cores(void **state)
{
    const struct tree *t = *state;
    cpu_set_t before, after;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(gw_numa_bind(t->dir, 0, NULL), GW_OK);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_int_equal(CPU_COUNT(&after), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void test_bind_to_cores_that_are_not_to_be_had_says_so_and_changes_nothing(void **state)
{
    const struct tree *t = *state;
    cpu_set_t before, after;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(gw_numa_bind(t->dir, 2, &ctx), GW_ERR_INPUT);
    assert_string_equal(ctx.text, "this process may use none of the cores of NUMA node 2");
    gw_err_reset(&ctx);
    assert_int_equal(gw_numa_bind(t->dir, 3, &ctx), GW_ERR_INPUT);
    assert_string_equal(ctx.text, "there is no NUMA node 3 with cores; there is 0, 2");
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_tree, close_tree)
    const struct CMUnitTest tests[] = {
        TEST(test_nodes_are_those_with_cores_and_memory),
        TEST(test_nodes_of_a_broken_list_are_those_before_the_break),
        TEST(test_memory_is_the_total_or_unknown),
        TEST(test_bind_keeps_the_thread_on_the_nodes_cores),
        TEST(test_bind_to_cores_that_are_not_to_be_had_says_so_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
