/* Classes: instances that a planner need not tell apart, and the order in which devices are laid out.
 *
 *     kind     equal devices, links and price
 *     class    a kind in one zone
 *     order    devices by zone, kind, instance, profile, type, index: neighbours are near and alike
 *
 * An instance with a device that must be apart from another one is a class of its own: it cannot stand in for others.
 *
 * Doomed instances are in no class.
 *
 * Owner: gw_classes_fini frees. Thread: any; pure. Units: indices into the fleet. Errors: GW_ERR_MEMORY.
 * Source: own design. */
#ifndef GW_CONTROLLER_PLAN_CLASSES_H
#define GW_CONTROLLER_PLAN_CLASSES_H

#include "migrate/plan.h"

struct gw_class {
    uint32_t kind, zone;
    uint32_t devices;          /* of each instance */
    uint32_t first, instances; /* order[first, first + instances) */
    uint32_t position;         /* of its first device; its instances follow each other */
    bool apart;                /* its devices must not be exchanged either */
};

struct gw_classes {
    struct gw_class *classes;
    uint32_t len;
    uint32_t *order;    /* instances, class by class, ascending within one */
    uint32_t *position; /* of each device in the order of devices; GW_PLAN_NONE for doomed ones */
    uint32_t *class_of; /* of each instance; GW_PLAN_NONE for doomed ones */
    uint32_t *sorted;   /* devices of each instance (from its first_device on), by profile, type, index */
    uint32_t usable;    /* devices that are not doomed */
};

gw_err_t gw_classes_make(const struct gw_plan_fleet *fleet, struct gw_classes *out) GW_MUST_USE;
void gw_classes_fini(struct gw_classes *classes);

#endif
