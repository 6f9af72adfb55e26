/* godwit: the operator's tool. One subcommand per file. */
#include <stdio.h>
#include <string.h>

#include "controller/cli/cloud_cmd.h"
#include "controller/cli/drain_cmd.h"
#include "controller/cli/plan_cmd.h"
#include "controller/cli/status_cmd.h"
#include "controller/cli/top_cmd.h"
#include "controller/cli/up.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"up", gw_up_main,
     "a whole cluster on this machine: a controller, workers, and a cloud that replaces them"},
    {"status", gw_status_main, "the cluster in one picture: pipelines, cells, workers, rates"},
    {"top", gw_top_main, "the same, live"},
    {"drain", gw_drain_main, "empty an instance before it is taken away"},
    {"cloud", gw_cloud_main, "a cloud on this machine, whose groups' sizes a controller sets"},
    {"plan", gw_plan_main, "what would the planner do with this fleet?"},
};

#define COMMANDS (sizeof commands / sizeof *commands)

static void help(FILE *out)
{
    fprintf(out,
            "usage: godwit COMMAND [flags]\n\nServes large language models on machines that vanish.\n\n");
    for (size_t i = 0; i < COMMANDS; i++) fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(
        out,
        "\n`godwit COMMAND --help` lists the flags of one; `godwit --version` says which build this is.\n");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        help(argc > 1 ? stdout : stderr);
        return argc > 1 ? 0 : 2;
    }
    if (strcmp(name, "--version") == 0) {
        printf("godwit %s\n", GW_VERSION);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "godwit: no command is named '%s'\n", name);
    help(stderr);
    return 2;
}
