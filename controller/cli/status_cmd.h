/* `godwit status`: the cluster in one picture, or as JSON.
 *
 * Owner: nothing is kept. Thread: main. Errors: exit status 1 with one line. Source: own design. */
#ifndef GW_CONTROLLER_CLI_STATUS_CMD_H
#define GW_CONTROLLER_CLI_STATUS_CMD_H

/* argv[0] is "status". Returns the exit status. */
int gw_status_main(int argc, char **argv);

#endif
