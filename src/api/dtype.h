/*
 * dtype.h: a dtype as C programs write it, made into the schema that stands in a typed ring.
 *
 * Owns:     numpy's notation for dtypes: what of it is understood, its one canonical spelling, and
 *           the size of what it describes.
 * Must not know: Python, segments, handles. Allocates nothing, keeps nothing, needs little stack.
 *
 * A peer compares schemas byte for byte, so what is written here is what numpy would write: the
 * repr of numpy.lib.format.dtype_to_descr(dtype) and of the shape.
 */
#ifndef SHMIPC_DTYPE_H
#define SHMIPC_DTYPE_H

#include "../core/base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Write "(DESCR, SHAPE)" and a zero byte to `text`; *text_len is without the zero byte, *item_len
 * the bytes of one item. SHMIPC_MAX_SCHEMA_LEN + 1 bytes of `text_size` are always enough.
 *
 * `dtype` is one format, quoted or not, or a list of fields; spaces and line ends are free:
 *
 *     f8  <f8  >u2  b1 i1..i8 u1..u8 f2 f4 f8 c8 c16 S<bytes> U<characters> V<bytes> M8[ns] m8[s]
 *     [('time', '<i8'), ('bids', '<f8', (10, 2)), ('leg', [('side', 'i1'), ('', 'V7')], (2,))]
 *
 * A nameless field of V is padding. `shape` has `axes` extents; NULL with 0 axes is one element.
 * What differs between machines (f16, c32), objects, titles and dicts are refused.
 *
 * OK; INVALID with a text that says where and what would do: then the outputs are undefined. */
enum shmipc_status shmipc_schema_write(const char *dtype, const uint64_t *shape, uint32_t axes,
                                       char *text, size_t text_size, uint32_t *text_len,
                                       uint64_t *item_len, struct shmipc_error *error);

#endif
