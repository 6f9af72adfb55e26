/* migrate/shake: whatever a stranger says to a worker's data port is refused or waited for, never proven, and not one
 * byte behind the handshake is read. */
#include <assert.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "migrate/shake.h"

#define SAID_MAX        1024 /* fits into a socket's buffer */
#define HANDSHAKE_BYTES (GW_SHAKE_HELLO_BYTES + GW_SHA256_BYTES)
#define STEPS_MAX       4 /* one per message, one that sees the end */

static void check_hello(const struct gw_shake *s)
{
    assert(s->pair.from < GW_WIRE_RANKS_MAX && s->pair.to < s->pair.from);
    assert(s->said[0] == 'G' && s->said[1] == 'W' && s->said[2] == 'M' && s->said[3] == '1');
}

static void check_left(int fd, size_t len)
{
    int left = 0;
    assert(ioctl(fd, FIONREAD, &left) == 0);
    assert((size_t)left >= (len > HANDSHAKE_BYTES ? len - HANDSHAKE_BYTES : 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const struct gw_shake_key key = {"a key that no fuzzer has", 24, NULL};
    enum gw_shake_result result = GW_SHAKE_MORE;
    struct gw_shake s;
    int ends[2];
    if (len > SAID_MAX) return 0;
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    gw_shake_accept(&s, ends[0], GW_SHAKE_MESH, &key, 0);
    assert(len == 0 || send(ends[1], bytes, len, 0) == (ssize_t)len);
    shutdown(ends[1], SHUT_WR);
    for (int i = 0; result == GW_SHAKE_MORE && i < STEPS_MAX; i++) {
        assert(gw_shake_events(&s) == POLLIN);
        result = gw_shake_step(&s, &key);
        if (s.stage == GW_SHAKE_WANTS_PROOF) check_hello(&s);
        check_left(ends[0], len);
    }
    assert(result == GW_SHAKE_FAILED && s.why);
    gw_shake_close(&s);
    assert(s.socket.fd == -1);
    close(ends[1]);
    return 0;
}
