/* errors.h: failures as exceptions. */
#ifndef SHMIPC_BINDING_ERRORS_H
#define SHMIPC_BINDING_ERRORS_H

#include "handle.h"

int errors_init(PyObject *module, struct module_state *state);
/* Raise what an open or clean reported. Always NULL. */
PyObject *raise_error(struct module_state *state, const struct shmipc_error *error,
                      const char *path);
/* Raise what an operation on a handle came to. Always NULL. */
PyObject *raise_status(HandleObject *handle, enum shmipc_status status);
PyObject *raise_too_large(HandleObject *handle, uint64_t len);
/* Was the file truncated under the handle's mapping? Then what was just copied or published was not
 * the ring's: false, with Corrupt. */
static inline bool check_whole(HandleObject *handle)
{
    if (SHMIPC_UNLIKELY(shmipc_segment_is_damaged(handle->segment))) {
        (void)raise_status(handle, SHMIPC_CORRUPT);
        return false;
    }
    return true;
}

#endif
