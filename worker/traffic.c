#include "worker/traffic.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/id_map.h"

struct gw_traffic {
    char zone[GW_WIRE_NAME_MAX + 1];
    gw_traffic_counter_t near[GW_TRAFFIC_KINDS], far[GW_TRAFFIC_KINDS];
    pthread_mutex_t lock; /* guards the rest */
    struct gw_id_map far_addresses;
    uint32_t far_len;
};

gw_err_t gw_traffic_create(const char *zone, struct gw_traffic **out)
{
    struct gw_traffic *t = calloc(1, sizeof *t);
    if (!t) return GW_ERR_MEMORY;
    snprintf(t->zone, sizeof t->zone, "%s", zone);
    pthread_mutex_init(&t->lock, NULL);
    *out = t;
    return GW_OK;
}

void gw_traffic_destroy(struct gw_traffic *t)
{
    if (!t) return;
    gw_id_map_fini(&t->far_addresses);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* 64 bits of a hash stand for an address: two that are taken for one would be miscounted, no more. Never 0. */
static uint64_t id_of(const char *address)
{
    return gw_hash64(address, strlen(address), 0) | 1;
}

/* An address may be another worker's by now, in another zone. */
static void learn(struct gw_traffic *t, const struct gw_worker_zone *z)
{
    uint64_t id = id_of(z->address);
    bool was_far = gw_id_map_get(&t->far_addresses, id) != NULL, is_far = strcmp(z->zone, t->zone) != 0;
    if (was_far && !is_far) {
        (void)gw_id_map_remove(&t->far_addresses, id);
        t->far_len--;
    } else if (is_far && !was_far && t->far_len < GW_TRAFFIC_FAR_MAX &&
               gw_id_map_put(&t->far_addresses, id, t) == GW_OK) {
        t->far_len++;
    }
}

void gw_traffic_learn(struct gw_traffic *t, const struct gw_msg_zones *zones)
{
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < zones->len; i++) learn(t, &zones->workers[i]);
    pthread_mutex_unlock(&t->lock);
}

bool gw_traffic_is_far(struct gw_traffic *t, const char *address)
{
    if (!t) return false;
    pthread_mutex_lock(&t->lock);
    bool is_far = gw_id_map_get(&t->far_addresses, id_of(address)) != NULL;
    pthread_mutex_unlock(&t->lock);
    return is_far;
}

gw_traffic_counter_t *gw_traffic_counter(struct gw_traffic *t, enum gw_traffic_kind kind, const char *address)
{
    if (!t) return NULL;
    return gw_traffic_is_far(t, address) ? &t->far[kind] : &t->near[kind];
}

void gw_traffic_read(const struct gw_traffic *t, struct gw_traffic_bytes *out)
{
    *out = (struct gw_traffic_bytes){0};
    for (int k = 0; t && k < GW_TRAFFIC_KINDS; k++) {
        out->near[k] = atomic_load_explicit(&t->near[k], memory_order_relaxed);
        out->far[k] = atomic_load_explicit(&t->far[k], memory_order_relaxed);
    }
}
