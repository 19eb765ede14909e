/* latest.h: the latest event of each symbol. */
#ifndef SHMIPC_BINDING_LATEST_H
#define SHMIPC_BINDING_LATEST_H

#include "../base/state.h"

extern PyType_Spec latest_spec;

#endif
