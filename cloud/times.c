#include "cloud/times.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#define MS_PER_S   1000
#define S_PER_DAY  86400
#define YEAR_FIRST 1970
#define YEAR_LAST  2399

struct civil {
    int year, month, day, hour, minute, second; /* month and day from 1 */
};

/* Exactly `digits` digits at *at, which moves behind them; -1 if they are not there. */
static int number(const char **at, int digits)
{
    int value = 0;
    for (int i = 0; i < digits; i++) {
        if (!isdigit((unsigned char)(*at)[i])) return -1;
        value = value * 10 + (*at)[i] - '0';
    }
    *at += digits;
    return value;
}

static bool literal(const char **at, const char *text)
{
    size_t len = strlen(text);
    if (strncmp(*at, text, len) != 0) return false;
    *at += len;
    return true;
}

static bool civil_ok(const struct civil *c)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (c->year < YEAR_FIRST || c->year > YEAR_LAST || c->month < 1 || c->month > 12) return false;
    bool leap = (c->year % 4 == 0 && c->year % 100 != 0) || c->year % 400 == 0;
    int most = days[c->month - 1] + (leap && c->month == 2);
    return c->day >= 1 && c->day <= most && c->hour >= 0 && c->hour < 24 && c->minute >= 0 &&
           c->minute < 60 && c->second >= 0 && c->second <= 60;
}

/* Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day ends one (Howard
 * Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of(const struct civil *c)
{
    int64_t y = c->month <= 2 ? c->year - 1 : c->year;
    int64_t era = y / 400, of_era = y % 400;
    int64_t of_year = (153 * (c->month + (c->month > 2 ? -3 : 9)) + 2) / 5 + c->day - 1;
    int64_t day = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    return era * 146097 + day - 719468;
}

static int64_t unix_ms_of(const struct civil *c)
{
    int64_t s = days_of(c) * S_PER_DAY + c->hour * 3600 + c->minute * 60 + c->second;
    return s * MS_PER_S;
}

static bool clock_part(const char **at, struct civil *c)
{
    c->hour = number(at, 2);
    if (c->hour < 0 || !literal(at, ":")) return false;
    c->minute = number(at, 2);
    if (c->minute < 0 || !literal(at, ":")) return false;
    c->second = number(at, 2);
    return c->second >= 0;
}

static bool date_part(const char **at, struct civil *c)
{
    c->year = number(at, 4);
    if (c->year < 0 || !literal(at, "-")) return false;
    c->month = number(at, 2);
    if (c->month < 0 || !literal(at, "-")) return false;
    c->day = number(at, 2);
    return c->day >= 0;
}

/* ".123" → 123; digits beyond the third are read over. */
static int fraction_ms(const char **at)
{
    int ms = 0, scale = 100;
    if (**at != '.') return 0;
    for ((*at)++; isdigit((unsigned char)**at); (*at)++, scale /= 10) ms += (**at - '0') * scale;
    return ms;
}

gw_err_t gw_time_parse_iso(const char *text, int64_t *unix_ms)
{
    struct civil c = {0};
    const char *at = text;
    if (!date_part(&at, &c) || !literal(&at, "T") || !clock_part(&at, &c)) return GW_ERR_INPUT;
    int ms = fraction_ms(&at);
    if (!literal(&at, "Z") || *at || !civil_ok(&c)) return GW_ERR_INPUT;
    *unix_ms = unix_ms_of(&c) + ms;
    return GW_OK;
}

static int month_of(const char **at)
{
    static const char names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    for (int i = 0; i < 12; i++)
        if (literal(at, names[i])) return i + 1;
    return -1;
}

gw_err_t gw_time_parse_http(const char *text, int64_t *unix_ms)
{
    struct civil c = {0};
    const char *at = text, *comma = strchr(text, ',');
    if (comma) { /* the weekday follows from the date; nobody needs it to be right */
        at = comma + 1;
        if (comma - text != 3 || !literal(&at, " ")) return GW_ERR_INPUT;
    }
    c.day = number(&at, 2);
    if (c.day < 0 || !literal(&at, " ")) return GW_ERR_INPUT;
    c.month = month_of(&at);
    if (c.month < 0 || !literal(&at, " ")) return GW_ERR_INPUT;
    c.year = number(&at, 4);
    if (c.year < 0 || !literal(&at, " ") || !clock_part(&at, &c)) return GW_ERR_INPUT;
    if (!literal(&at, " GMT") || *at || !civil_ok(&c)) return GW_ERR_INPUT;
    *unix_ms = unix_ms_of(&c);
    return GW_OK;
}

void gw_time_print_iso(int64_t unix_ms, char *out)
{
    time_t s = (time_t)(unix_ms / MS_PER_S);
    struct tm tm = {0};
    gmtime_r(&s, &tm);
    if (strftime(out, GW_TIME_ISO_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) out[0] = '\0';
}
