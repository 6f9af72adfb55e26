#include "cloud/detect.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define AZURE_TAG      "7783-7084-3265-9085-8269-3286-77"
#define LINE_MAX_BYTES 256
#define PATH_MAX_BYTES 512

/* sysfs says nothing of a file's size: a line is read, not a file. */
static bool has(const char *dir, const char *file, const char *text)
{
    char path[PATH_MAX_BYTES], line[LINE_MAX_BYTES] = "";
    snprintf(path, sizeof path, "%s/%s", dir, file);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool read = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    return read && strcasestr(line, text) != NULL;
}

const char *gw_cloud_detect(const char *dmi_dir)
{
    if (has(dmi_dir, "sys_vendor", "Amazon EC2") || has(dmi_dir, "bios_version", "amazon")) return "aws";
    if (has(dmi_dir, "product_name", "Google Compute Engine")) return "gcp";
    if (has(dmi_dir, "chassis_asset_tag", AZURE_TAG)) return "azure";
    return "none";
}
