/*
 * order_method.c: the plain order in C: a known symbol, good numbers, no options. What stands
 * between a strategy's decision and its Outlet.
 *
 * An OrderMethod stands in a class for a function that knows everything. It does the plain case by
 * itself and calls the function for every other, before anything has happened. So what is refused,
 * and how, is the function's word alone, and an order goes through the same Outlet either way.
 */
#include "../base/state.h"
#include "../base/handle.h"
#include "order_pad.h"

#include <math.h>
#include <structmember.h>

#define PLACE_NAME "_pad" /* of the slot in which an instance has its OrderPad */

/* What an order is sent with, in the order of send_order()'s parameters; self by that name. */
enum { ARG_SELF, ARG_SYMBOL, ARG_SIDE, ARG_QUANTITY, ARG_PRICE, POSITIONAL, ARGS = POSITIONAL + 3 };
static const char *const arg_names[ARGS] = {"send_order",    "symbol",         "side",
                                            "quantity",      "price",          "order_type",
                                            "time_in_force", "client_order_id"};

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    struct module_state *state;
    PyObject *function;    /* that knows everything */
    PyObject *side;        /* what this one sends, an int, or NULL: the call says */
    PyObject *names[ARGS]; /* interned */
    PyObject *options;     /* tuple: those behind POSITIONAL */
    PyTypeObject *owner;   /* the class whose instances have a pad; NULL: not known yet */
    Py_ssize_t place_off;  /* where in an instance */
} OrderMethodObject;

/* The arguments of a call in their places; what is not given is NULL. False: there are too many, or
 * too few, or some that no order has. */
static bool spread(const OrderMethodObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames, PyObject *out[ARGS])
{
    Py_ssize_t at = 0;
    memset(out, 0, ARGS * sizeof *out);
    out[ARG_SIDE] = self->side;
    for (int place = 0; place < POSITIONAL && at < nargs; place++) {
        if (out[place] == NULL) {
            out[place] = args[at++];
        }
    }
    if (at < nargs) {
        return false;
    }
    const Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        int place = ARG_SYMBOL;
        while (place < ARGS && PyTuple_GET_ITEM(kwnames, i) != self->names[place]) {
            place++;
        }
        if (place == ARGS || out[place] != NULL) {
            return false;
        }
        out[place] = args[nargs + i];
    }
    return out[ARG_SELF] != NULL && out[ARG_SYMBOL] != NULL && out[ARG_SIDE] != NULL &&
           out[ARG_QUANTITY] != NULL;
}

/* An exact float or int, as a float. */
static bool as_number(PyObject *value, double *out)
{
    if (SHMIPC_LIKELY(PyFloat_CheckExact(value))) {
        *out = PyFloat_AS_DOUBLE(value);
        return true;
    }
    if (!PyLong_CheckExact(value)) {
        return false;
    }
    *out = PyLong_AsDouble(value);
    if (*out == -1.0 && PyErr_Occurred() != NULL) {
        PyErr_Clear(); /* too large: the function will say so */
        return false;
    }
    return true;
}

/* The pad of an instance: a new reference, or NULL without an exception. */
static OrderPadObject *pad_of(const OrderMethodObject *self, PyObject *strategy)
{
    PyObject *pad;
    if (self->owner == NULL || !PyObject_TypeCheck(strategy, self->owner)) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(strategy);
    pad = *(PyObject **)(void *)((char *)strategy + self->place_off);
    Py_XINCREF(pad);
    Py_END_CRITICAL_SECTION();
    if (pad != NULL && Py_TYPE(pad) != self->state->order_pad_type) {
        Py_CLEAR(pad);
    }
    return (OrderPadObject *)pad;
}

/* The form of a plain order of these arguments: a new reference, or NULL without an exception. */
static PyObject *form_of(const OrderPadObject *pad, const OutletObject *outlet,
                         PyObject *const order[ARGS])
{
    const int side = order_side_of(order[ARG_SIDE]);
    if (side == SIDES || !PyUnicode_CheckExact(order[ARG_SYMBOL])) {
        return NULL;
    }
    const bool market = order[ARG_PRICE] == NULL || order[ARG_PRICE] == Py_None;
    PyObject *form;
#if PY_VERSION_HEX >= 0x030D0000
    (void)PyDict_GetItemRef(pad->forms[side][market ? MARKET : LIMIT], order[ARG_SYMBOL], &form);
#else
    form = PyDict_GetItemWithError(pad->forms[side][market ? MARKET : LIMIT], order[ARG_SYMBOL]);
    Py_XINCREF(form);
#endif
    if (form != NULL && !outlet_takes(outlet, form)) {
        Py_CLEAR(form);
    }
    return form;
}

/* A shortcut of shmipc/trading/events/order_rules.py: it only accepts; whatever it does not accept
 * is checked, and refused, there.
 *
 * The number of the order, if it is plain and was sent. NULL with an exception: what sending
 * raised. NULL without: it is for the function to do, or to refuse. */
static PyObject *send_plain(const OrderMethodObject *self, PyObject *const order[ARGS])
{
    const bool market = order[ARG_PRICE] == NULL || order[ARG_PRICE] == Py_None;
    double quantity;
    double price = 0.0;
    if (!as_number(order[ARG_QUANTITY], &quantity) || !(0.0 < quantity && quantity < Py_HUGE_VAL) ||
        (!market && !(as_number(order[ARG_PRICE], &price) && isfinite(price)))) {
        return NULL;
    }
    OrderPadObject *pad = pad_of(self, order[ARG_SELF]);
    OutletObject *outlet = pad == NULL ? NULL : order_pad_outlet_of(pad);
    PyObject *form = outlet == NULL ? NULL : form_of(pad, outlet, order);
    PyObject *number = form == NULL ? NULL : PyLong_FromLongLong(order_pad_take_id(pad));
    if (number != NULL) {
        PyObject *const values[3] = {number, market ? pad->no_price : order[ARG_PRICE],
                                     order[ARG_QUANTITY]};
        if (outlet_send(outlet, form, values) != 1) {
            Py_CLEAR(number); /* full, unless it is an exception: the function will say so */
        }
    }
    Py_XDECREF(form);
    Py_XDECREF((PyObject *)outlet);
    Py_XDECREF((PyObject *)pad);
    return number;
}

/* self.send_order() with all that there is, as the function of one side would call it: a subclass,
 * or the instance, may have another. */
static PyObject *send_for_side(const OrderMethodObject *self, PyObject *const given[ARGS])
{
    PyObject *order[ARGS];
    for (int place = 0; place < ARGS; place++) {
        order[place] = given[place] == NULL ? Py_None : given[place];
    }
    return PyObject_VectorcallMethod(self->names[ARG_SELF], order, POSITIONAL, self->options);
}

static bool has_options(PyObject *const order[ARGS])
{
    for (int place = POSITIONAL; place < ARGS; place++) {
        if (order[place] != NULL && order[place] != Py_None) {
            return true;
        }
    }
    return false;
}

static PyObject *order_method_call(PyObject *object, PyObject *const *args, size_t nargsf,
                                   PyObject *kwnames)
{
    const OrderMethodObject *self = (OrderMethodObject *)object;
    PyObject *order[ARGS];
    if (SHMIPC_LIKELY(spread(self, args, PyVectorcall_NARGS(nargsf), kwnames, order))) {
        if (self->side != NULL) {
            return send_for_side(self, order);
        }
        PyObject *number = has_options(order) ? NULL : send_plain(self, order);
        if (SHMIPC_LIKELY(number != NULL) || PyErr_Occurred() != NULL) {
            return number;
        }
    }
    return PyObject_Vectorcall(self->function, args, nargsf, kwnames);
}

PyDoc_STRVAR(
    order_method_doc,
    "OrderMethod(function, side=None)\n--\n\n"
    "A method that does a plain order by itself, and all else by calling `function`.\n"
    "\n"
    "Its class has a slot '_pad' with an OrderPad. function(self, symbol, side, quantity,\n"
    "price=None, *, order_type=None, time_in_force=None, client_order_id=None) sends, and is\n"
    "named send_order. An order is plain if it has no options, its symbol has a form on the\n"
    "pad, and its numbers are ints or floats that an order can have.\n"
    "\n"
    "side: 1 or -1: then it is not among the parameters, and self.send_order() is called.");

static PyObject *order_method_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const given[] = {"function", "side", NULL};
    PyObject *function, *side = Py_None;
    struct module_state *state = state_of_type(type);
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:OrderMethod", (char **)(uintptr_t)given,
                                     &function, &side)) {
        return NULL;
    }
    if (!PyCallable_Check(function) || (side != Py_None && order_side_of(side) == SIDES)) {
        PyErr_SetString(PyExc_TypeError, "OrderMethod takes a function, and a side: 1 or -1");
        return NULL;
    }
    OrderMethodObject *self = (OrderMethodObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->call = order_method_call;
    self->state = state;
    self->function = Py_NewRef(function);
    self->side = side == Py_None ? NULL : Py_NewRef(side);
    self->options = PyTuple_New(ARGS - POSITIONAL);
    bool whole = self->options != NULL;
    for (int place = 0; place < ARGS && whole; place++) {
        self->names[place] = PyUnicode_InternFromString(arg_names[place]);
        whole = self->names[place] != NULL;
        if (whole && place >= POSITIONAL) {
            PyTuple_SET_ITEM(self->options, place - POSITIONAL, Py_NewRef(self->names[place]));
        }
    }
    if (!whole) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(set_name_doc, "__set_name__($self, owner, name, /)\n--\n\n"
                           "Called when the class is made: finds its slot.");

static PyObject *order_method_set_name(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    OrderMethodObject *self = (OrderMethodObject *)object;
    if (nargs != 2 || !PyType_Check(args[0])) {
        return PyErr_Format(PyExc_TypeError, "__set_name__() takes a class and a name");
    }
    PyObject *place = PyObject_GetAttrString(args[0], PLACE_NAME);
    if (place == NULL) {
        return NULL;
    }
    const PyMemberDescrObject *member = (PyMemberDescrObject *)place;
    const bool is_slot = Py_TYPE(place) == &PyMemberDescr_Type &&
                         member->d_member->type == T_OBJECT_EX &&
                         PyType_IsSubtype((PyTypeObject *)args[0], PyDescr_TYPE(place));
    const Py_ssize_t offset = is_slot ? member->d_member->offset : 0;
    Py_DECREF(place);
    if (!is_slot) {
        return PyErr_Format(PyExc_TypeError, "%R has no slot '" PLACE_NAME "'", args[0]);
    }
    if (self->owner == NULL) { /* in whatever class it is put later, the slot is the first's */
        self->place_off = offset;
        self->owner = (PyTypeObject *)Py_NewRef(args[0]);
    }
    Py_RETURN_NONE;
}

static PyObject *order_method_get(PyObject *object, PyObject *instance, PyObject *type)
{
    (void)type;
    return instance == NULL || instance == Py_None ? Py_NewRef(object)
                                                   : PyMethod_New(object, instance);
}

/* Whoever asks what it is, or what it is like, hears of the function. */
static PyObject *order_method_getattro(PyObject *object, PyObject *name)
{
    static const char *const described[] = {"__doc__", "__name__", "__qualname__", "__module__",
                                            "__annotations__"};
    if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "__wrapped__") == 0) {
        return Py_NewRef(((OrderMethodObject *)object)->function);
    }
    for (size_t i = 0; i < sizeof described / sizeof *described; i++) {
        if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, described[i]) == 0) {
            return PyObject_GetAttr(((OrderMethodObject *)object)->function, name);
        }
    }
    return PyObject_GenericGetAttr(object, name);
}

static PyObject *order_method_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<OrderMethod of %R>", ((OrderMethodObject *)object)->function);
}

static int order_method_traverse(PyObject *object, visitproc visit, void *arg)
{
    const OrderMethodObject *self = (OrderMethodObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->function);
    Py_VISIT((PyObject *)self->owner);
    return 0;
}

/* The function and the class are a cycle that the class's dict breaks: these two stay. */
static void order_method_dealloc(PyObject *object)
{
    OrderMethodObject *self = (OrderMethodObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_XDECREF(self->function);
    Py_XDECREF(self->options);
    Py_XDECREF(self->side);
    Py_XDECREF((PyObject *)self->owner);
    for (int place = 0; place < ARGS; place++) {
        Py_XDECREF(self->names[place]);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef order_method_methods[] = {
    {"__set_name__", METHOD(order_method_set_name), METH_FASTCALL, set_name_doc},
    {NULL, NULL, 0, NULL}};

static PyMemberDef order_method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(OrderMethodObject, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot order_method_slots[] = {{Py_tp_doc, (void *)(uintptr_t)order_method_doc},
                                           {Py_tp_new, order_method_new},
                                           {Py_tp_dealloc, order_method_dealloc},
                                           {Py_tp_traverse, order_method_traverse},
                                           {Py_tp_repr, order_method_repr},
                                           {Py_tp_call, PyVectorcall_Call},
                                           {Py_tp_descr_get, order_method_get},
                                           {Py_tp_methods, order_method_methods},
                                           {Py_tp_members, order_method_members},
                                           {Py_tp_getattro, order_method_getattro},
                                           {0, NULL}};

PyType_Spec order_method_spec = {.name = "shmipc._core.OrderMethod",
                                 .basicsize = sizeof(OrderMethodObject),
                                 .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                          Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_METHOD_DESCRIPTOR |
                                          Py_TPFLAGS_HAVE_VECTORCALL,
                                 .slots = order_method_slots};
