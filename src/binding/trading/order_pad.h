/*
 * order_pad.h: what a strategy's orders are written on, for order_pad.c and order_method.c.
 *
 * One for each strategy: order forms that were checked and filled in before, the number of the
 * next order, and the Outlet, while there is one. It knows of an order only that it has a side,
 * that it may have no price, and that its own fields are a number, a price and a quantity.
 */
#ifndef SHMIPC_BINDING_ORDER_PAD_H
#define SHMIPC_BINDING_ORDER_PAD_H

#include "../base/state.h"
#include "outlet.h"

enum { SELLS, BUYS, SIDES };
enum { MARKET, LIMIT, FORMS };

typedef struct {
    PyObject_HEAD
    OutletObject *outlet;          /* or NULL; changes in our critical section */
    PyObject *forms[SIDES][FORMS]; /* dicts, symbol -> record */
    PyObject *no_price;            /* NaN: what a market order's record says */
    _Atomic(int64_t) next_id;
} OrderPadObject;

/* 1 and -1, of any kind of int; anything else is SIDES, without an exception. */
static inline int order_side_of(PyObject *side)
{
    int overflow = 0;
    const long number = PyLong_Check(side) ? PyLong_AsLongAndOverflow(side, &overflow) : 0;
    return number == 1 ? BUYS : number == -1 ? SELLS : SIDES;
}

static inline int64_t order_pad_take_id(OrderPadObject *self)
{
    return atomic_fetch_add_explicit(&self->next_id, 1, memory_order_relaxed); /* a mere count */
}

/* A new reference, or NULL without an exception. */
static inline OutletObject *order_pad_outlet_of(OrderPadObject *self)
{
    OutletObject *outlet;
    Py_BEGIN_CRITICAL_SECTION(self);
    outlet = self->outlet;
    Py_XINCREF((PyObject *)outlet);
    Py_END_CRITICAL_SECTION();
    return outlet;
}

extern PyType_Spec order_pad_spec;
extern PyType_Spec order_method_spec;

#endif
