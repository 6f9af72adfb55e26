/* `godwit cloud`: a cloud on this machine, for a controller with `--cloud sim`: groups of instances whose sizes it sets, each of
 * them a worker process; spot instances come and go as a trace says, with notice.
 *
 * Owner: nothing is kept. Thread: main. Errors: exit status 1 with one line. Source: own design. */
#ifndef GW_CONTROLLER_CLI_CLOUD_CMD_H
#define GW_CONTROLLER_CLI_CLOUD_CMD_H

/* argv[0] is "cloud". Returns the exit status. */
int gw_cloud_main(int argc, char **argv);

#endif
