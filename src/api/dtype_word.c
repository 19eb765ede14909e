#include "dtype_word.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE_ORDER '<'
#else
#define NATIVE_ORDER '>'
#endif

#define MAX_STEP UINT64_C(0x7fffffff) /* of a datetime: numpy keeps it in an int */

static const char NO_FORMAT[] =
    "is no format that can be sent: use b1, i1 i2 i4 i8, u1 u2 u4 u8, f2 f4 f8, c8 c16, S<bytes>, "
    "U<characters>, V<bytes>, M8[ns], m8[ns], with < or > before it for the byte order";
static const char NO_UNIT[] =
    "has no unit of time: use [ns], or Y M W D h m s ms us ns ps fs as, with a number before it if "
    "you like: [25s]";

/* ---- numbers and formats -------------------------------------------------------------------- */

bool shmipc_number_read(const char **at, uint64_t limit, uint64_t *number)
{
    const char *start = *at;
    *number = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        const uint64_t digit = (uint64_t)(**at - '0');
        *number = *number > (limit - digit) / 10 ? limit + 1 : *number * 10 + digit;
    }
    return *at > start;
}

static bool has_size(char kind, uint64_t size)
{
    if (size == 0) {
        return false; /* numpy takes a length of 0 in some places, and not in others */
    }
    switch (kind) {
    case 'b':
        return size == 1;
    case 'i':
    case 'u':
        return size == 1 || size == 2 || size == 4 || size == 8;
    case 'f':
        return size == 2 || size == 4 || size == 8;
    case 'c':
        return size == 8 || size == 16;
    case 'M':
    case 'm':
        return size == 8;
    case 'U':
        return size <= SHMIPC_MAX_DTYPE_LEN / 4;
    default:
        return (kind == 'S' || kind == 'V') && size <= SHMIPC_MAX_DTYPE_LEN;
    }
}

/* "[ns]" or "[25s]", from `at` to `end`, canonical into `text`. */
static bool read_unit(const char *at, const char *end, char text[20])
{
    static const char *const UNITS[] = {"Y",  "M",  "W",  "D",  "h",  "m", "s",
                                        "ms", "us", "ns", "ps", "fs", "as"};
    uint64_t step;
    if (*at++ != '[' || end[-1] != ']') {
        return false;
    }
    if (!shmipc_number_read(&at, MAX_STEP, &step)) {
        step = 1;
    } else if (step == 0 || step > MAX_STEP) {
        return false;
    }
    for (size_t i = 0; i < sizeof UNITS / sizeof UNITS[0]; i++) {
        const size_t len = strlen(UNITS[i]);
        if (end - 1 - at == (ptrdiff_t)len && memcmp(at, UNITS[i], len) == 0) {
            (void)(step == 1 ? snprintf(text, 20, "[%s]", UNITS[i])
                             : snprintf(text, 20, "[%" PRIu64 "%s]", step, UNITS[i]));
            return true;
        }
    }
    return false;
}

const char *shmipc_format_read(const char *text, size_t len, struct shmipc_format *format)
{
    const char *end = text + len;
    const char *at = text;
    char order = NATIVE_ORDER;
    char unit[20] = "";
    uint64_t size;
    if (at < end && strchr("<>=|", *at) != NULL) {
        if (*at == '<' || *at == '>') {
            order = *at;
        }
        at++;
    }
    char kind = '\0';
    if (at < end) {
        kind = *at++;
    }
    const bool time = kind == 'M' || kind == 'm';
    const char *digits = at;
    if (kind == '\0' || !shmipc_number_read(&at, SHMIPC_MAX_DTYPE_LEN, &size) ||
        !has_size(kind, size) || (time && at < end && at > digits + 1)) {
        return NO_FORMAT;
    }
    if (at < end && (!time || !read_unit(at, end, unit))) {
        return time ? NO_UNIT : NO_FORMAT;
    }
    format->len = kind == 'U' ? size * 4 : size;
    format->is_void = kind == 'V';
    if (kind == 'S' || kind == 'V' || format->len == 1) {
        order = '|';
    }
    (void)snprintf(format->text, sizeof format->text, "'%c%c%" PRIu64 "%s'", order, kind, size,
                   unit);
    return NULL;
}

/* ---- letters -------------------------------------------------------------------------------- */

/* Characters beyond ASCII that a name may have: of the many that Python prints as they are, blocks
 * that it has long known and that have no gaps. tests/native/test_api_dtype.py looks at each of
 * them. */
static const uint32_t LETTERS[][2] = {
    {0xa1, 0xac},     {0xae, 0x377},    {0x386, 0x386},   {0x388, 0x38a},   {0x38c, 0x38c},
    {0x38e, 0x3a1},   {0x3a3, 0x52f},   {0x1e00, 0x1f15}, {0x3041, 0x3096}, {0x30a0, 0x30ff},
    {0x3400, 0x4dbf}, {0x4e00, 0x9fa5}, {0xac00, 0xd7a3},
};

/* The character that `byte` starts, and its bytes; 0: no UTF-8. */
static uint32_t decode(const unsigned char *byte, size_t *len)
{
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};
    if (byte[0] < 0x80) {
        *len = 1;
        return byte[0];
    }
    if (byte[0] < 0xc2 || byte[0] > 0xf4) {
        return 0;
    }
    *len = byte[0] < 0xe0 ? 2 : byte[0] < 0xf0 ? 3 : 4;
    uint32_t character = byte[0] & (0x7fu >> *len);
    for (size_t i = 1; i < *len; i++) {
        if ((byte[i] & 0xc0) != 0x80) {
            return 0;
        }
        character = character << 6 | (byte[i] & 0x3fu);
    }
    return character < LEAST[*len] ? 0 : character;
}

size_t shmipc_letter_len(const char *text)
{
    size_t len = 0;
    const uint32_t character = decode((const unsigned char *)text, &len);
    if (character >= ' ' && character <= '~') {
        return len;
    }
    for (size_t i = 0; i < sizeof LETTERS / sizeof LETTERS[0]; i++) {
        if (character >= LETTERS[i][0] && character <= LETTERS[i][1]) {
            return len;
        }
    }
    return 0;
}
