/* `godwit up`: a whole cluster on this machine, and its cloud.
 *
 * Starts a controller and N workers, writes the state file, and replaces lost workers after --replace-after
 * seconds, as a capacity group does. It only watches: recovery of requests is the controller's work.
 *
 *     worker state  event                                   next       what is done
 *     ────────────  ─────────────────────────────────────   ────────   ───────────────────────────────
 *     starting      controller lists it                     up         -
 *     up            controller says doomed                  doomed     -
 *     doomed        controller says up (cancelled)          up         -
 *     up, doomed    controller no longer lists it           lost       frozen or cut off: replacement is due
 *     any           process ended                           exited     replacement is due
 *     lost          listed again before it was replaced     up         replacement is called off
 *     lost          --replace-after passed                  replaced   a new worker under a new id (w1r1);
 * the old process is left alone (it may thaw: then it is `up` again) exited        --replace-after passed
 * starting   a new process under the same id starting      process ended FAST_EXITS_MAX times in a row
 * without having come up, or once because its --device cannot be used: up gives up with the log's last line
 *
 * A controller that is killed is started again on its ports, with its journal (up_controller.h).
 *
 * Owner: everything it starts: ended on SIGINT, SIGTERM, or when it cannot go on. Thread: main thread.
 * Units: seconds in flags. Errors: exit status 1 with one line. Source: own design. */
#ifndef GW_CONTROLLER_CLI_UP_H
#define GW_CONTROLLER_CLI_UP_H

/* argv[0] is "up". Returns the exit status. */
int gw_up_main(int argc, char **argv);

#endif
