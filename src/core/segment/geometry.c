/* geometry.c: names, and the arithmetic between a request and the bytes of a segment. */
#define _GNU_SOURCE
#include "segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_MESSAGE_CAPACITY (UINT64_C(1) << 20) /* 1 MiB */
#define DEFAULT_TYPED_AREA_LEN (UINT64_C(1) << 20)   /* ... and at least 4 items */

static uint64_t page_len(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* ---- names --------------------------------------------------------------------------------- */

bool shmipc_name_is_valid(const char *name, size_t len)
{
    if (len == 0 || len > SHMIPC_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        const char c = name[i];
        const bool alphanumeric =
            (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alphanumeric && (i == 0 || (c != '.' && c != '_' && c != '-'))) {
            return false;
        }
    }
    return true;
}

const char *shmipc_segment_dir(void)
{
    const char *dir = getenv("SHMIPC_DIR");
    return dir != NULL && dir[0] != '\0' ? dir : SHMIPC_DEFAULT_DIR;
}

enum shmipc_status shmipc_segment_path(const char *name, size_t len, char path[SHMIPC_PATH_MAX],
                                       struct shmipc_error *error)
{
    const char *dir = shmipc_segment_dir();
    if (!shmipc_name_is_valid(name, len)) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "a name is 1 to %u characters of A-Z a-z 0-9 . _ - and starts with a "
                           "letter or a digit",
                           SHMIPC_NAME_MAX);
    }
    /* Absolute, so that a later chdir does not lead us to remove another file, or none. */
    char here[SHMIPC_PATH_MAX] = "";
    if (dir[0] != '/' && getcwd(here, sizeof here - 1) == NULL) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "SHMIPC_DIR is relative to a directory that does not exist any more");
    }
    const int written = snprintf(path, SHMIPC_PATH_MAX, "%s%s%s/" SHMIPC_FILE_PREFIX "%.*s", here,
                                 here[0] != '\0' ? "/" : "", dir, (int)len, name);
    if (written < 0 || (size_t)written >= SHMIPC_PATH_MAX) {
        return shmipc_fail(error, SHMIPC_INVALID, 0, "the path of SHMIPC_DIR is too long");
    }
    return SHMIPC_OK;
}

/* ---- geometry ------------------------------------------------------------------------------ */

uint64_t shmipc_item_stride_for(uint64_t item_len)
{
    return item_len < SHMIPC_LARGE_ITEM_LEN ? item_len
                                            : round_up(item_len, SHMIPC_LARGE_ITEM_ALIGN);
}

uint64_t shmipc_area_len_for(const struct shmipc_spec *spec)
{
    uint64_t wanted;
    uint64_t area = page_len();
    if (spec->framing == SHMIPC_FRAMING_MESSAGE) {
        wanted = spec->capacity != 0 ? spec->capacity : DEFAULT_MESSAGE_CAPACITY;
    } else {
        if (spec->item_len == 0 || spec->item_len > SHMIPC_MAX_AREA_LEN) {
            return 0;
        }
        const uint64_t stride = shmipc_item_stride_for(spec->item_len);
        uint64_t items = spec->capacity;
        if (items == 0) {
            items = DEFAULT_TYPED_AREA_LEN / stride > 4 ? DEFAULT_TYPED_AREA_LEN / stride : 4;
        }
        if (items > SHMIPC_MAX_AREA_LEN / stride) {
            return 0;
        }
        wanted = items * stride;
    }
    if (wanted > SHMIPC_MAX_AREA_LEN) {
        return 0;
    }
    while (area < wanted) {
        area *= 2;
    }
    return area;
}

uint64_t shmipc_capacity_of(const struct shmipc_geometry *geometry)
{
    return geometry->item_stride == 0 ? geometry->area_len
                                      : geometry->area_len / geometry->item_stride;
}

static uint64_t schema_off_for(uint32_t slots)
{
    return sizeof(struct shmipc_header) + (uint64_t)slots * sizeof(struct shmipc_slot);
}

void shmipc_geometry_init(struct shmipc_geometry *geometry, const struct shmipc_spec *spec)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    memset(geometry, 0, sizeof *geometry);
    memcpy(geometry->magic, SHMIPC_MAGIC, SHMIPC_MAGIC_LEN);
    geometry->version = SHMIPC_FORMAT_VERSION;
    geometry->byte_order = SHMIPC_BYTE_ORDER;
    geometry->framing = (uint32_t)spec->framing;
    geometry->overflow = (uint32_t)spec->overflow;
    geometry->slots = spec->slots;
    geometry->schema_len = spec->schema_len;
    geometry->schema_hash = shmipc_schema_hash(spec->schema, spec->schema_len);
    if (spec->framing == SHMIPC_FRAMING_TYPED) {
        geometry->item_len = spec->item_len;
        geometry->item_stride = shmipc_item_stride_for(spec->item_len);
    }
    geometry->schema_off = schema_off_for(spec->slots);
    geometry->data_off = round_up(geometry->schema_off + spec->schema_len, page_len());
    geometry->area_len = shmipc_area_len_for(spec);
    geometry->origin_pos = spec->origin_pos;
    geometry->created_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

const char *shmipc_geometry_fault(const struct shmipc_geometry *g, uint64_t file_len)
{
    if (g->slots == 0 || g->slots > SHMIPC_MAX_CONSUMERS) {
        return "its number of consumer slots is out of range";
    }
    if (g->framing != SHMIPC_FRAMING_MESSAGE && g->framing != SHMIPC_FRAMING_TYPED) {
        return "its framing is unknown";
    }
    if (g->overflow != SHMIPC_OVERFLOW_BLOCK && g->overflow != SHMIPC_OVERFLOW_OVERWRITE) {
        return "its overflow policy is unknown";
    }
    if (g->schema_len > SHMIPC_MAX_SCHEMA_LEN || g->schema_off != schema_off_for(g->slots)) {
        return "its schema lies where none can be";
    }
    if (g->data_off % page_len() != 0 || g->data_off < g->schema_off + g->schema_len ||
        g->data_off > UINT64_C(1) << 30) {
        return "its data area starts where none can (or this machine's page is of another size)";
    }
    if (g->area_len < page_len() || g->area_len > SHMIPC_MAX_AREA_LEN ||
        (g->area_len & (g->area_len - 1)) != 0) {
        return "the size of its data area is no power of two of whole pages";
    }
    if (g->data_off + g->area_len != file_len) {
        return "the file is not as long as its header says";
    }
    if (g->framing == SHMIPC_FRAMING_MESSAGE) {
        return g->item_len == 0 && g->item_stride == 0 && g->origin_pos % SHMIPC_MESSAGE_ALIGN == 0
                   ? NULL
                   : "it mixes message and typed framing";
    }
    if (g->item_len == 0 || g->item_len > g->area_len ||
        g->item_stride != shmipc_item_stride_for(g->item_len) || g->item_stride > g->area_len) {
        return "its item does not fit its data area";
    }
    return NULL;
}
