#include "dtype.h"

#include "dtype_word.h"
#include "../core/base/layout.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Records in records: with more, the schema has more brackets than a peer's parser takes
 * (src/binding/base/literal.c: 64, of which the pair, each record and its field, and a shape take).
 */
#define MAX_RECORDS 31
#define MAX_AXES 31   /* of an item or a field: numpy 1 has 32 dimensions */
#define MAX_QUOTED 80 /* bytes of the caller's text that an error repeats */

struct reader {
    const char *dtype; /* all of it */
    const char *at;    /* what comes next */
    char *text;
    size_t text_size;
    size_t text_len;
    bool full; /* the schema is longer than text_size: nothing is written any more */
    struct shmipc_error *error;
};

/* A list of fields that is being read. */
struct record {
    size_t text_off;  /* where its first field was written */
    uint64_t len;     /* bytes so far */
    uint64_t padding; /* the last of them, that are not written yet */
    bool written;     /* something: a comma comes next */
    bool named;       /* has a field with a name */
};

/* ---- errors and output ---------------------------------------------------------------------- */

/* Fail with what is wrong at `where`. Always false. */
__attribute__((format(printf, 3, 4))) static bool refuse(struct reader *reader, const char *where,
                                                         const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)shmipc_fail(reader->error, SHMIPC_INVALID, 0, "dtype \"%.*s%s\", character %zu: %s",
                      MAX_QUOTED, reader->dtype, strlen(reader->dtype) > MAX_QUOTED ? "..." : "",
                      (size_t)(where - reader->dtype) + 1, text);
    return false;
}

static void put(struct reader *reader, const char *text, size_t len)
{
    if (reader->full || len >= reader->text_size - reader->text_len) {
        reader->full = true;
        return;
    }
    memcpy(reader->text + reader->text_len, text, len);
    reader->text_len += len;
}

static void put_text(struct reader *reader, const char *text)
{
    put(reader, text, strlen(text));
}

static void put_number(struct reader *reader, uint64_t number)
{
    char digits[24];
    put(reader, digits, (size_t)snprintf(digits, sizeof digits, "%" PRIu64, number));
}

/* ---- tokens --------------------------------------------------------------------------------- */

static void skip_space(struct reader *reader)
{
    reader->at += strspn(reader->at, " \t\r\n");
}

/* Is `c` next? Then it is taken. */
static bool take(struct reader *reader, char c)
{
    skip_space(reader);
    if (*reader->at != c) {
        return false;
    }
    reader->at++;
    return true;
}

/* A string in quotes, which are not part of *len bytes at *start. */
static bool take_string(struct reader *reader, const char **start, size_t *len)
{
    const char quote = *reader->at;
    const char *open = reader->at;
    *start = open + 1;
    *len = 0;
    for (reader->at++; *reader->at != quote; reader->at++) {
        if (*reader->at == '\0') {
            return refuse(reader, open, "this quote is never closed");
        }
        if (*reader->at == '\\') {
            return refuse(reader, reader->at, "no backslash may be in a string: use another name");
        }
    }
    *len = (size_t)(reader->at - *start);
    reader->at++;
    return true;
}

/* ---- names ---------------------------------------------------------------------------------- */

static bool check_name(struct reader *reader, const char *name, size_t len)
{
    for (size_t i = 0, step; i < len; i += step) {
        step = shmipc_letter_len(name + i);
        if (step == 0) {
            return refuse(reader, name + i,
                          "a name may not have this character: use letters and digits (UTF-8)");
        }
    }
    return true;
}

/* Has this record a field of this name? Looks at what was written for it. */
static bool has_field(const struct reader *reader, const struct record *record, const char *name,
                      size_t len)
{
    const char *text = reader->text;
    size_t depth = 0;
    for (size_t i = record->text_off; i < reader->text_len; i++) {
        const char c = text[i];
        if (c == '\'' || c == '"') {
            const size_t start = i + 1;
            for (i++; text[i] != c; i++) {
            }
            if (depth == 1 && text[start - 2] == '(' && i - start == len &&
                memcmp(text + start, name, len) == 0) {
                return true;
            }
        } else if (c == '(' || c == '[') {
            depth++;
        } else if (c == ')' || c == ']') {
            depth--;
        }
    }
    return false;
}

static bool read_format(struct reader *reader, const char *text, size_t len,
                        struct shmipc_format *format)
{
    const char *fault = shmipc_format_read(text, len, format);
    return fault == NULL || refuse(reader, text, "\"%.*s\" %s",
                                   (int)(len < MAX_QUOTED ? len : MAX_QUOTED), text, fault);
}

/* ---- records -------------------------------------------------------------------------------- */

static void put_comma(struct reader *reader, struct record *record)
{
    if (record->written) {
        put_text(reader, ", ");
    }
    record->written = true;
}

static void put_padding(struct reader *reader, struct record *record)
{
    if (record->padding > 0) {
        put_comma(reader, record);
        put_text(reader, "('', '|V");
        put_number(reader, record->padding);
        put_text(reader, "')");
        record->padding = 0;
    }
}

/* Extents, written as a tuple. Their product is in *count. */
static bool put_shape(struct reader *reader, const uint64_t *shape, uint32_t axes, uint64_t limit,
                      uint64_t *count)
{
    put_text(reader, "(");
    *count = 1;
    for (uint32_t i = 0; i < axes; i++) {
        if (shape[i] > limit || (shape[i] > 0 && *count > limit / shape[i])) {
            return false;
        }
        *count *= shape[i];
        put_text(reader, i > 0 ? ", " : "");
        put_number(reader, shape[i]);
    }
    put_text(reader, axes == 1 ? ",)" : ")");
    return true;
}

/* "3", "(3,)" or "(3, 4)". */
static bool read_shape(struct reader *reader, uint64_t shape[MAX_AXES], uint32_t *axes)
{
    const char *start = reader->at;
    const bool tuple = take(reader, '(');
    bool comma = true;
    for (*axes = 0; !tuple || !take(reader, ')'); (*axes)++) {
        skip_space(reader);
        if (*axes == MAX_AXES) {
            return refuse(reader, start, "a shape of more than %d axes", MAX_AXES);
        }
        const char *number = reader->at;
        if (!comma || !shmipc_number_read(&reader->at, SHMIPC_MAX_DTYPE_LEN, &shape[*axes])) {
            return refuse(reader, reader->at, "a shape is a tuple of numbers, as (3,) or (2, 3)");
        }
        if (shape[*axes] == 0) {
            return refuse(reader, number, "a field of 0 elements: leave it out");
        }
        if (!tuple) {
            *axes = 1;
            return true;
        }
        comma = take(reader, ',');
    }
    return true;
}

/* After the name and the format of a field: the shape, if any, and the closing bracket. */
static bool end_field(struct reader *reader, struct record *record, uint64_t len, bool padding)
{
    uint64_t shape[MAX_AXES];
    uint64_t count = 1;
    uint32_t axes = 0;
    const char *start = reader->at;
    const size_t text_len = reader->text_len;
    const bool comma = take(reader, ',');
    skip_space(reader);
    if (comma && *reader->at != ')' && !read_shape(reader, shape, &axes)) {
        return false;
    }
    if (axes > 0) {
        put_text(reader, ", ");
        if (!put_shape(reader, shape, axes, SHMIPC_MAX_DTYPE_LEN, &count)) {
            return refuse(reader, start, "a field of more than 2 GiB");
        }
        (void)take(reader, ',');
    }
    if (!take(reader, ')')) {
        return refuse(reader, reader->at, "here must be the ) that ends the field");
    }
    put_text(reader, ")");
    if (count == 0 || len > (SHMIPC_MAX_DTYPE_LEN - record->len) / count) {
        return refuse(reader, start, "the fields up to here have more than 2 GiB");
    }
    record->len += len * count;
    if (padding) {
        reader->text_len = text_len; /* it is written with what follows it */
        record->padding += len * count;
    }
    record->named = record->named || !padding;
    return true;
}

/* The name of a field, which is then written, and what comes up to its format. */
static bool begin_field(struct reader *reader, struct record *record, bool *padding)
{
    const char *name;
    size_t len;
    if (!take(reader, '(')) {
        return refuse(reader, reader->at, "here must be a field, as ('price', '<f8'), or a ]");
    }
    skip_space(reader);
    if (*reader->at != '\'' && *reader->at != '"') {
        return refuse(reader, reader->at,
                      "a field begins with its name in quotes (titles are not supported)");
    }
    const char *start = reader->at;
    if (!take_string(reader, &name, &len) || !check_name(reader, name, len)) {
        return false;
    }
    *padding = len == 0;
    if (!*padding) {
        if (has_field(reader, record, name, len)) {
            return refuse(reader, start, "there is a field of this name already: use another");
        }
        put_padding(reader, record);
        put_comma(reader, record);
        put_text(reader, "(");
        const char *quote = memchr(name, '\'', len) != NULL ? "\"" : "'"; /* as repr() does */
        put_text(reader, quote);
        put(reader, name, len);
        put_text(reader, quote);
        put_text(reader, ", ");
    }
    if (!take(reader, ',')) {
        return refuse(reader, reader->at, "here must be a comma and the format of the field");
    }
    skip_space(reader);
    return true;
}

static bool begin_record(struct reader *reader, struct record *records, uint32_t *depth)
{
    if (*depth == MAX_RECORDS) {
        return refuse(reader, reader->at, "records in records, more than %d deep", MAX_RECORDS);
    }
    (void)take(reader, '[');
    put_text(reader, "[");
    records[(*depth)++] = (struct record){.text_off = reader->text_len};
    return true;
}

/* Everything from the [ that is next to its ]. */
static bool read_records(struct reader *reader, uint64_t *len)
{
    struct record records[MAX_RECORDS];
    uint32_t depth = 0;
    struct shmipc_format format;
    const char *text;
    size_t text_len;
    bool padding = false;
    bool comma = true; /* a field may begin */
    if (!begin_record(reader, records, &depth)) {
        return false;
    }
    for (;;) {
        struct record *record = &records[depth - 1];
        const char *end = reader->at;
        if (reader->full) {
            return true;
        }
        if (take(reader, ']')) {
            if (!record->named) {
                return refuse(reader, end, "a record needs a field with a name");
            }
            put_padding(reader, record);
            put_text(reader, "]");
            *len = record->len;
            if (--depth == 0) {
                return true;
            }
            record--;
            padding = false;
        } else {
            if (!comma) {
                return refuse(reader, reader->at, "here must be a comma or a ]");
            }
            if (!begin_field(reader, record, &padding)) {
                return false;
            }
            const char *start = reader->at;
            if (*start == '[' && !padding) {
                if (!begin_record(reader, records, &depth)) {
                    return false;
                }
                continue;
            }
            if (*start != '\'' && *start != '"') {
                return refuse(reader, start, "here must be a format in quotes%s",
                              padding ? ", as '|V4': a field without a name is padding"
                                      : ", as '<f8', or a list of fields");
            }
            if (!take_string(reader, &text, &text_len) ||
                !read_format(reader, text, text_len, &format)) {
                return false;
            }
            if (padding && !format.is_void) {
                return refuse(reader, start,
                              "a field without a name is padding: give it a name, "
                              "or the format '|V%" PRIu64 "'",
                              format.len);
            }
            if (!padding) {
                put_text(reader, format.text);
            }
            *len = format.len;
        }
        if (!end_field(reader, record, *len, padding)) {
            return false;
        }
        comma = take(reader, ',');
    }
}

/* ---- all of it ------------------------------------------------------------------------------ */

static bool read_dtype(struct reader *reader, uint64_t *len)
{
    struct shmipc_format format;
    const char *start;
    size_t text_len;
    skip_space(reader);
    if (*reader->at == '[') {
        return read_records(reader, len);
    }
    if (*reader->at == '\'' || *reader->at == '"') {
        if (!take_string(reader, &start, &text_len)) {
            return false;
        }
    } else {
        start = reader->at;
        text_len = strcspn(start, " \t\r\n");
        reader->at += text_len;
    }
    if (!read_format(reader, start, text_len, &format)) {
        return false;
    }
    put_text(reader, format.text);
    *len = format.len;
    return true;
}

enum shmipc_status shmipc_schema_write(const char *dtype, const uint64_t *shape, uint32_t axes,
                                       char *text, size_t text_size, uint32_t *text_len,
                                       uint64_t *item_len, struct shmipc_error *error)
{
    struct reader reader = {.dtype = dtype, .at = dtype, .text = text, .error = error};
    uint64_t count;
    uint64_t len = 0;
    if (dtype == NULL || (shape == NULL && axes > 0)) {
        return shmipc_fail(error, SHMIPC_INVALID, 0, "%s is NULL",
                           dtype == NULL ? "the dtype" : "the shape, which has axes,");
    }
    if (axes > MAX_AXES) {
        return shmipc_fail(error, SHMIPC_INVALID, 0, "a shape of %" PRIu32 " axes: at most %d",
                           axes, MAX_AXES);
    }
    const size_t most = (size_t)SHMIPC_MAX_SCHEMA_LEN + 1;
    reader.text_size = text_size < most ? text_size : most;
    reader.full = text_size == 0;
    put_text(&reader, "(");
    if (!read_dtype(&reader, &len)) {
        return SHMIPC_INVALID;
    }
    skip_space(&reader);
    if (!reader.full && *reader.at != '\0') {
        (void)refuse(&reader, reader.at, "nothing may come after the end of the dtype");
        return SHMIPC_INVALID;
    }
    put_text(&reader, ", ");
    if (!put_shape(&reader, shape, axes, SHMIPC_MAX_AREA_LEN, &count) ||
        (count > 0 && len > SHMIPC_MAX_AREA_LEN / count)) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "an item of dtype \"%.*s\" and this shape is too large", MAX_QUOTED,
                           dtype);
    }
    put_text(&reader, ")");
    if (reader.full) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "the description of dtype \"%.*s...\" is longer than %zu bytes",
                           MAX_QUOTED, dtype, reader.text_size > 0 ? reader.text_size - 1 : 0);
    }
    if (len * count == 0) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "an item of dtype \"%.*s\" and this shape has no bytes", MAX_QUOTED,
                           dtype);
    }
    text[reader.text_len] = '\0';
    *text_len = (uint32_t)reader.text_len;
    *item_len = len * count;
    return SHMIPC_OK;
}
