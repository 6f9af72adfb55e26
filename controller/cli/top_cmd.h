/* `godwit top`: the picture of `godwit status`, live: drawn anew each second, in any terminal from 80 x 24 on.
 *
 * Owner: nothing is kept. Thread: main. Errors: exit status 1 with one line. Source: own design. */
#ifndef GW_CONTROLLER_CLI_TOP_CMD_H
#define GW_CONTROLLER_CLI_TOP_CMD_H

/* argv[0] is "top". Returns the exit status. */
int gw_top_main(int argc, char **argv);

#endif
