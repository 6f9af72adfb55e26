#include "base/failpoint.h"

#ifdef GW_FAILPOINTS
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POINT_MAX 128

/* Debug builds alone have this state, and set it before there are threads. */
static char wanted[POINT_MAX];

void gw_failpoint_name(const char *who)
{
    const char *spec = getenv("GODWIT_FAILPOINT");
    const char *point = spec ? strchr(spec, ' ') : NULL;
    size_t len = strlen(who);
    for (const char *name = spec; point && name < point; name += strcspn(name, ", ") + 1)
        if (strncmp(name, who, len) == 0 && strcspn(name, ", ") == len)
            snprintf(wanted, sizeof wanted, "%s", point + 1);
}

static bool is_armed(void)
{
    const char *from = getenv("GODWIT_FAILPOINT_FROM");
    return !from || access(from, F_OK) == 0;
}

static bool is_first(void)
{
    const char *mark = getenv("GODWIT_FAILPOINT_MARK");
    int fd = mark ? open(mark, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) close(fd);
    return !mark || fd >= 0;
}

void gw_failpoint(const char *what, const char *object)
{
    char point[POINT_MAX];
    if (!wanted[0]) return;
    snprintf(point, sizeof point, "%s %s", what, object);
    if (strcmp(point, wanted) == 0 && is_armed() && is_first()) kill(getpid(), SIGKILL);
}
#endif
