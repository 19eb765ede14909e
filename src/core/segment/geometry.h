/*
 * geometry.h: what of a segment is the ring's alone: framing, overflow, consumer slots, the length
 * of an item, the size of the data area. Another primitive in a segment would have another geometry
 * and could use everything else in this folder as it is.
 *
 * Owns:     what a creator asks for, the geometry that comes of it, and its validation.
 * Must not know: files, mappings, locks, positions.
 */
#ifndef SHMIPC_GEOMETRY_H
#define SHMIPC_GEOMETRY_H

#include "../base/layout.h"

#include <stdbool.h>
#include <stdint.h>

/* A creator's request. */
struct shmipc_spec {
    enum shmipc_framing framing;
    enum shmipc_overflow overflow;
    uint32_t slots;
    uint64_t item_len;  /* typed: bytes of an item, > 0 */
    uint64_t capacity;  /* message: bytes; typed: items; 0: the default */
    const char *schema; /* typed: opaque bytes */
    uint32_t schema_len;
    uint32_t mode;     /* permission bits of the file */
    uint32_t hold_for; /* slots to keep from here on, less those attached; block only */
    uint64_t origin_pos;
};

/* Bytes of data area that a request needs, rounded up to a power of two of whole pages; 0 if it
 * cannot be had. */
uint64_t shmipc_area_len_for(const struct shmipc_spec *spec);
uint64_t shmipc_item_stride_for(uint64_t item_len);

/* Items (typed) or bytes (message) that a geometry holds. */
uint64_t shmipc_capacity_of(const struct shmipc_geometry *geometry);

/* The geometry that a request comes to. The request was checked: its area can be had. */
void shmipc_geometry_init(struct shmipc_geometry *geometry, const struct shmipc_spec *spec);

/* What is wrong with a geometry, or NULL. `file_len` is fstat's word, which is the truth. */
const char *shmipc_geometry_fault(const struct shmipc_geometry *geometry, uint64_t file_len);

/* A durable queue: one consumer and "block". Slot 0's cursor then outlives its consumer, and the
 * next one resumes there. */
static inline bool shmipc_geometry_is_durable(const struct shmipc_geometry *geometry)
{
    return geometry->slots == 1 && geometry->overflow == SHMIPC_OVERFLOW_BLOCK;
}

#endif
