/* `godwit plan`: what would the planner do with this fleet?
 *
 * Reads fleet, model and load from files, plans, and prints the layout as a picture, why it won, what the move costs, and
 * what the loss of each instance would do. Nothing is touched.
 *
 * Owner: everything it reads. Thread: main thread. Units: plan_files.h. Errors: exit status 1 with one line; 2 when the model
 * fits nowhere on the fleet. Source: own design. */
#ifndef GW_CONTROLLER_CLI_PLAN_CMD_H
#define GW_CONTROLLER_CLI_PLAN_CMD_H

/* argv[0] is "plan". Returns the exit status. */
int gw_plan_main(int argc, char **argv);

#endif
