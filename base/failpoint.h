/* Failpoints: named places in protocols where a test may have this process die at once, as kill -9 would. In builds with
 * sanitizers only (GW_FAILPOINTS); elsewhere nothing is left of them.
 *
 *     GODWIT_FAILPOINT       "WHO POINT": the process that is called WHO dies when it reaches that point; of several, with
 *                            commas between, the first to reach it. Points are words: "w1 received CUTOVER",
 *                            "w0 sending HANDOFF", "w1,w2 page served"
 *     GODWIT_FAILPOINT_FROM  a path: nobody dies before that file is there
 *     GODWIT_FAILPOINT_MARK  a path: the process that dies makes that file; where it is, nobody dies any more
 *
 * Owner: none. Thread: any. Errors: none. Source: own design; after FreeBSD's fail(9). */
#ifndef GW_BASE_FAILPOINT_H
#define GW_BASE_FAILPOINT_H

#ifdef GW_FAILPOINTS
/* What this process is called; once, at its start. */
void gw_failpoint_name(const char *who);
/* The point is "what object". */
void gw_failpoint(const char *what, const char *object);
#else
static inline void gw_failpoint_name(const char *who)
{
    (void)who;
}
static inline void gw_failpoint(const char *what, const char *object)
{
    (void)what, (void)object;
}
#endif

#endif
