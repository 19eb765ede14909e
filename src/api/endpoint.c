/* endpoint.c: see endpoint.h. */
#define _GNU_SOURCE
#include "endpoint.h"

#include "dtype.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- options -------------------------------------------------------------------------------- */

int shmipc_options_check(const void *options, uint32_t abi, uint32_t size, uint32_t known_size)
{
    if (options != NULL && (abi != SHMIPC_ABI_VERSION || size != known_size)) {
        return shmipc_result_fail(
            SHMIPC_E_ABI,
            "the program was built for version %u of the ABI (options of %u bytes), this "
            "libshmipc %s is version %u (%u bytes): build it again with this library's shmipc.h, "
            "and begin with shmipc_*_options_init()",
            abi, size, SHMIPC_VERSION, (unsigned)SHMIPC_ABI_VERSION, known_size);
    }
    return SHMIPC_SUCCESS;
}

int shmipc_spin_set(struct shmipc_spin *spin, int64_t spin_ns)
{
    if (spin_ns < SHMIPC_SPIN_ADAPTIVE) {
        return shmipc_result_fail(SHMIPC_E_INVALID,
                                  "spin_ns is %lld: it is nanoseconds, 0 to sleep at once, "
                                  "SHMIPC_FOREVER or SHMIPC_SPIN_ADAPTIVE",
                                  (long long)spin_ns);
    }
    if (spin_ns == SHMIPC_SPIN_ADAPTIVE) {
        shmipc_spin_init(spin, SHMIPC_SPIN_DEFAULT_NS, true);
    } else {
        shmipc_spin_init(spin, spin_ns == SHMIPC_FOREVER ? SHMIPC_NEVER : (uint64_t)spin_ns, false);
    }
    return SHMIPC_SUCCESS;
}

/* "DIR/shmipc.NAME". A result. */
static int path_of(const char *name, char path[SHMIPC_PATH_MAX])
{
    struct shmipc_error error;
    if (name == NULL) {
        return shmipc_refuse_null("name");
    }
    if (shmipc_segment_path(name, strlen(name), path, &error) != SHMIPC_OK) {
        return shmipc_result_fail(SHMIPC_E_INVALID, "%s, not \"%.250s\"", error.text, name);
    }
    return SHMIPC_SUCCESS;
}

void *shmipc_endpoint_new(size_t len, const char *what, const char *name,
                          char path[SHMIPC_PATH_MAX], int *result)
{
    *result = path_of(name, path);
    if (*result != SHMIPC_SUCCESS) {
        return NULL;
    }
    void *end = aligned_alloc(SHMIPC_LINE, len);
    if (end == NULL) {
        *result = shmipc_refuse_memory(what, name);
        return NULL;
    }
    return memset(end, 0, len);
}

static int expectation_fill(struct shmipc_expectation *expected, const char *dtype,
                            const uint64_t *shape, uint32_t axes, uint64_t item_size)
{
    struct shmipc_error error;
    expected->schema[0] = '\0';
    expected->schema_len = 0;
    expected->item_len = 0;
    if (dtype == NULL || dtype[0] == '\0') {
        if (axes != 0 || item_size != 0) {
            return shmipc_result_fail(SHMIPC_E_INVALID,
                                      "a shape or an item_size needs a dtype: a message ring's "
                                      "messages have any length");
        }
        return SHMIPC_SUCCESS;
    }
    if (axes != 0 && shape == NULL) {
        return shmipc_refuse_null("shape (axes is not 0)");
    }
    if (shmipc_schema_write(dtype, shape, axes, expected->schema, sizeof expected->schema,
                            &expected->schema_len, &expected->item_len, &error) != SHMIPC_OK) {
        return shmipc_result_keep(&error, SHMIPC_SIDE_PRODUCER);
    }
    if (item_size != 0 && item_size != expected->item_len) {
        return shmipc_result_fail(SHMIPC_E_INVALID,
                                  "an item of %s takes %llu byte%s, not item_size's %llu: check "
                                  "padding, order and types of the fields",
                                  expected->schema, (unsigned long long)expected->item_len,
                                  SHMIPC_S(expected->item_len), (unsigned long long)item_size);
    }
    return SHMIPC_SUCCESS;
}

int shmipc_expectation_read(struct shmipc_expectation **expected, const char *dtype,
                            const uint64_t *shape, uint32_t axes, uint64_t item_size)
{
    *expected = malloc(sizeof **expected);
    return *expected != NULL ? expectation_fill(*expected, dtype, shape, axes, item_size)
                             : shmipc_refuse_memory("a dtype", dtype != NULL ? dtype : "");
}

/* ---- facts ---------------------------------------------------------------------------------- */

char *shmipc_schema_copy(const struct shmipc_segment *segment, enum shmipc_side side, int *result)
{
    struct shmipc_error error;
    const size_t len = segment->geometry.schema_len;
    char *schema = malloc(len + 1);
    if (schema == NULL) {
        *result = shmipc_refuse_memory("the schema of", segment->path);
        return NULL;
    }
    if (len != 0 && shmipc_segment_read_schema(segment, schema, &error) != SHMIPC_OK) {
        *result = shmipc_result_keep(&error, side);
        free(schema);
        return NULL;
    }
    schema[len] = '\0';
    return schema;
}

void shmipc_info_fill(struct shmipc_info *info, const struct shmipc_segment *segment,
                      const struct shmipc_handle *handle, const char *schema)
{
    const struct shmipc_geometry *geometry = &segment->geometry;
    *info = (struct shmipc_info){
        .name = handle->name,
        .schema = schema,
        .capacity = shmipc_capacity_of(geometry),
        .item_size = geometry->item_len,
        .item_stride = geometry->item_stride,
        .overflow = geometry->overflow,
        .max_consumers = geometry->slots,
        .typed = geometry->framing == SHMIPC_FRAMING_TYPED,
    };
}

/* ---- failing -------------------------------------------------------------------------------- */

int shmipc_refuse_memory(const char *what, const char *name)
{
    struct shmipc_error error;
    (void)shmipc_fail(&error, SHMIPC_OS, ENOMEM, "no memory for %s \"%.280s\"", what, name);
    return shmipc_result_keep(&error, SHMIPC_SIDE_PRODUCER);
}

int shmipc_ring_result(const struct shmipc_handle *handle, const struct shmipc_segment *segment,
                       enum shmipc_status status, enum shmipc_side side)
{
    const int result = shmipc_result_of(status, side);
    switch (result) {
    case SHMIPC_E_CLOSED:
        return shmipc_result_fail(result,
                                  "the producer of ring \"%s\" has closed it, and everything was "
                                  "read",
                                  handle->name);
    case SHMIPC_E_PRODUCER_DIED:
        return shmipc_result_fail(result,
                                  "the producer of ring \"%s\" died without closing; everything it "
                                  "committed was read. Call again to wait for another that takes "
                                  "the ring over",
                                  handle->name);
    case SHMIPC_E_CONSUMER_DIED:
        return shmipc_result_fail(result,
                                  "ring \"%s\" is full and its consumer died without closing; "
                                  "nothing was sent and nothing is lost. Start a consumer; send "
                                  "again to wait for it",
                                  handle->name);
    case SHMIPC_E_REMOVED:
    case SHMIPC_E_CORRUPT:
        if (shmipc_segment_state(segment) != SHMIPC_OK) {
            struct shmipc_error error;
            (void)shmipc_segment_fail_damaged(segment, &error);
            return shmipc_result_keep(&error, side);
        }
        return shmipc_result_fail(result,
                                  "ring \"%s\" holds a position or a size that no correct peer "
                                  "writes: close it on all sides and remove it (`shmipc clean "
                                  "--discard`)",
                                  handle->name);
    default:
        return result;
    }
}

/* ---- deadlines ------------------------------------------------------------------------------ */

int shmipc_refuse_timeout(int64_t timeout_ns)
{
    return shmipc_result_fail(SHMIPC_E_INVALID,
                              "a timeout of %lld: it is nanoseconds, 0 to poll or SHMIPC_FOREVER",
                              (long long)timeout_ns);
}

uint64_t shmipc_deadline_after(int64_t timeout_ns)
{
    return timeout_ns == SHMIPC_FOREVER ? SHMIPC_NEVER
                                        : shmipc_deadline_ns(shmipc_now_ns(), (uint64_t)timeout_ns);
}

int64_t shmipc_timeout_left(int64_t timeout_ns, uint64_t *deadline_ns)
{
    if (timeout_ns <= 0) {
        return timeout_ns;
    }
    const uint64_t now_ns = shmipc_now_ns();
    if (*deadline_ns == 0) {
        *deadline_ns = shmipc_deadline_ns(now_ns, (uint64_t)timeout_ns);
    }
    return *deadline_ns <= now_ns ? 0 : (int64_t)(*deadline_ns - now_ns);
}

int shmipc_take_interrupt(struct shmipc_handle *handle, uint32_t tag,
                          shmipc_atomic_u32 *interrupted)
{
    /* Cleared before the reasons are looked at: another thread that has one stores it first and
     * this flag after, with a full fence between, so it is seen now or ends the next slice. */
    shmipc_store_relaxed(interrupted, 0u);
    shmipc_fence_full(); /* <-> handle_interrupt's, and T2 where another closes: all relaxed */
    if (shmipc_load_relaxed(&handle->tag) != tag) {
        shmipc_store_relaxed(interrupted, 1u); /* and the closer's word stays */
        return shmipc_result_fail(SHMIPC_E_CLOSED,
                                  "this handle of ring \"%s\" was closed by another thread",
                                  handle->name);
    }
    uint32_t called = 1;
    if (shmipc_compare_exchange_relaxed(&handle->called_out, &called, 0u)) {
        return SHMIPC_E_INTERRUPTED;
    }
    return SHMIPC_SUCCESS;
}
