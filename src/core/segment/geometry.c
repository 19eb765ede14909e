/* geometry.c: the arithmetic between a request and the bytes of a ring's segment. See geometry.h.
 */
#define _GNU_SOURCE
#include "geometry.h"

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
