/* Which cloud is this machine in? From the firmware's tables, without a question over the network.
 *
 *     aws     sys_vendor "Amazon EC2", or bios_version that names amazon (older Xen instances)
 *     gcp     product_name "Google Compute Engine"
 *     azure   chassis_asset_tag 7783-7084-3265-9085-8269-3286-77 (Hyper-V elsewhere has another)
 *
 * Owner: borrows. Thread: start-up. Errors: none; what cannot be read is no cloud. Source: the vendors' documents on
 * identifying their instances; systemd's detect-virt. */
#ifndef GW_CLOUD_DETECT_H
#define GW_CLOUD_DETECT_H

/* dmi_dir: "/sys/class/dmi/id". Returns "aws", "gcp", "azure" or "none". */
const char *gw_cloud_detect(const char *dmi_dir);

#endif
