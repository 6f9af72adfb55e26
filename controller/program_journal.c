#include "controller/program.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "controller/journal_file.h"
#include "controller/journal_redis.h"

#define STANDBY_US (GW_US_PER_S / 5) /* between two looks at whether the journal is free */

static void on_journal_lost(void *arg, const char *why)
{
    struct program *p = arg;
    gw_logf(&p->log, GW_LOG_ERROR, "ending: the journal is another controller's: %s", why);
    p->status = 1;
    event_base_loopbreak(p->loop);
}

/* The same after a restart, so that the process before need not be waited for. */
static void name_owner(const struct program *p, char *out, size_t size)
{
    char host[64] = "?";
    gethostname(host, sizeof host - 1);
    if (p->o.port != 0)
        snprintf(out, size, "%s:%lld", host, (long long)p->o.port);
    else
        snprintf(out, size, "%s:%d", host, (int)getpid());
}

static gw_err_t try_journal(struct program *p, struct gw_err_ctx *ctx)
{
    char owner[96];
    name_owner(p, owner, sizeof owner);
    const struct gw_journal_config config = {.where = p->o.journal,
                                             .key = p->key,
                                             .key_len = p->key_len,
                                             .term_min = (uint64_t)gw_clock_unix_s(),
                                             .password_file = p->o.journal_password_file,
                                             .owner = owner,
                                             .lease_us = (int64_t)(p->o.lease_s * 1e6),
                                             .insecure_plaintext = p->o.insecure_plaintext,
                                             .redis_ca_file = p->o.redis_ca_file,
                                             .redis_tls_name = p->o.redis_tls_name,
                                             .log = &p->log,
                                             .lost = on_journal_lost,
                                             .arg = p};
    bool redis = strncmp(p->o.journal, "redis", 5) == 0 && strstr(p->o.journal, "://");
    return gw_journal_open(p->loop, redis ? &gw_journal_redis : &gw_journal_file, &config, &p->journal, ctx);
}

/* A standby looks again and again; a signal ends it. */
gw_err_t program_open_journal(struct program *p, struct gw_err_ctx *ctx)
{
    const struct timeval wait = {.tv_usec = STANDBY_US};
    bool said = false;
    for (;;) {
        gw_err_t err = try_journal(p, ctx);
        bool later = err == GW_ERR_LIMIT || err == GW_ERR_IO;
        if (!later || (err == GW_ERR_IO && !p->o.standby)) return err;
        if (!p->o.standby) return gw_fail_prefix(ctx, err, "(--standby waits)");
        if (!said) gw_logf(&p->log, GW_LOG_INFO, "standing by: %s", ctx->text);
        said = true;
        gw_err_reset(ctx);
        event_base_loopexit(p->loop, &wait);
        event_base_dispatch(p->loop);
        if (p->stopping) return gw_fail(ctx, GW_ERR_IO, "told to end while standing by");
    }
}

static gw_err_t restore_entry(void *arg, uint64_t entry, const void *pieces, size_t len)
{
    const struct program *p = arg;
    if (gw_clouds_restore(p->clouds, p->journal, entry, pieces, len)) return GW_OK;
    return gw_front_restore(p->front, entry, pieces, len);
}

gw_err_t program_restore(struct program *p, struct gw_err_ctx *ctx)
{
    if (!p->journal) return GW_OK;
    gw_failpoint("journal", "opened");
    gw_err_t err = gw_journal_replay(p->journal, restore_entry, p);
    gw_failpoint("streams", "restored");
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "the journal's streams do not fit into memory");
}
