/* stats.h: shmipc.Stats and shmipc.Lag, and the methods that make them. */
#ifndef SHMIPC_BINDING_STATS_H
#define SHMIPC_BINDING_STATS_H

#include "../base/state.h"

extern const char producer_stats_doc[];
extern const char producer_lags_doc[];
extern const char consumer_stats_doc[];

/* Creates both types in `state` and adds them to the module. */
int stats_init(PyObject *module, struct module_state *state);

PyObject *producer_stats(PyObject *object, PyObject *unused);
PyObject *producer_lags(PyObject *object, PyObject *unused);
PyObject *consumer_stats(PyObject *object, PyObject *unused);

#endif
