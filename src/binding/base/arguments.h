/* arguments.h: arguments of fast calls. */
#ifndef SHMIPC_BINDING_ARGUMENTS_H
#define SHMIPC_BINDING_ARGUMENTS_H

#include "state.h"

struct parameters {
    const char *function;
    const char *const *names; /* in order; NULL-terminated */
    int positional;           /* how many may be given without a name */
    int required;
};

/* Spread fastcall arguments over out[], borrowed; NULL where absent. -1 with a TypeError. */
int parse_arguments(const struct parameters *parameters, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames, PyObject **out);
/* An integer in [low, high], or `fallback` where absent. -1 with a TypeError or ValueError. */
int parse_integer(const char *what, PyObject *value, uint64_t low, uint64_t high, uint64_t fallback,
                  uint64_t *out);

#endif
