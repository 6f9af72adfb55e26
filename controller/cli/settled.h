/* Has a cluster that was just started settled? Workers register first, their pipelines form behind that.
 *
 * Owner: borrows. Thread: any; pure. Units: none. Errors: none; an answer that is none has not settled. Source: own design. */
#ifndef GW_CONTROLLER_CLI_SETTLED_H
#define GW_CONTROLLER_CLI_SETTLED_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#define UNSERVED_BYTES 300

/* layout: the answer of /admin/layout. True: no plan is under way and no pipeline forms any more; unserved is then "", or why
 * nothing can be served. */
bool cluster_settled(const cJSON *layout, char unserved[UNSERVED_BYTES]);

#endif
