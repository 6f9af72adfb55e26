/* Macros of third parties that change how the source reads; cppcheck does not see the headers they come from. */
#define cJSON_ArrayForEach(item, array) for (item = (array)->child; item; item = item->next)
