/* `godwit drain INSTANCE`: tells the controller that an instance will go, and waits until nothing runs on it.
 *
 *     what is seen                                           what is done
 *     ────────────────────────────────────────────────────   ──────────────────────────────────────────────────────
 *     the instance's workers are in no pipeline, or gone     says so, exit 0
 *     pipelines or requests are still there                  one line whenever that changes
 *     --timeout has passed (the notice's deadline)           says what is left, exit 2; the notice stays
 *     Ctrl-C, SIGTERM                                        the notice is cancelled, exit 130
 *     the controller does not answer                         tried again until --timeout, then exit 1
 *
 * Owner: nothing is kept. Thread: main. Errors: exit status 1 with one line. Source: own design. */
#ifndef GW_CONTROLLER_CLI_DRAIN_CMD_H
#define GW_CONTROLLER_CLI_DRAIN_CMD_H

/* argv[0] is "drain". Returns the exit status. */
int gw_drain_main(int argc, char **argv);

#endif
