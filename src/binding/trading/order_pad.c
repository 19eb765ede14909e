/*
 * order_pad.c: the OrderPad type; see order_pad.h.
 */
#include "../base/state.h"
#include "../base/handle.h"
#include "../ring/frame_object.h"
#include "order_pad.h"

PyDoc_STRVAR(order_pad_doc,
             "OrderPad(first_id)\n--\n\n"
             "What a strategy's orders are written on: forms, the next number, an Outlet.\n"
             "\n"
             "A copy of one that is pickled goes on from the same number, with no forms and no\n"
             "Outlet.");

static PyObject *order_pad_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"first_id", NULL};
    long long first_id;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L:OrderPad", (char **)(uintptr_t)names,
                                     &first_id)) {
        return NULL;
    }
    OrderPadObject *self = (OrderPadObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    atomic_init(&self->next_id, first_id);
    self->no_price = PyFloat_FromDouble((double)NAN);
    bool whole = self->no_price != NULL;
    for (int side = 0; side < SIDES; side++) {
        for (int form = 0; form < FORMS; form++) {
            self->forms[side][form] = PyDict_New();
            whole = whole && self->forms[side][form] != NULL;
        }
    }
    if (!whole) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(order_pad_forms_doc,
             "forms($self, side, market, /)\n--\n\n"
             "The dict from symbols to the records that plain orders of this side, market\n"
             "orders or limit orders, are copies of. ValueError unless side is 1 or -1.");

static PyObject *order_pad_forms(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        return PyErr_Format(PyExc_TypeError, "forms() takes a side, and whether it is a market "
                                             "order's");
    }
    const int side = order_side_of(args[0]);
    const int market = PyObject_IsTrue(args[1]);
    if (market < 0) {
        return NULL;
    }
    if (side == SIDES) {
        return PyErr_Format(PyExc_ValueError, "a side is 1 or -1, not %R", args[0]);
    }
    return Py_NewRef(((OrderPadObject *)object)->forms[side][market ? MARKET : LIMIT]);
}

PyDoc_STRVAR(order_pad_forget_doc, "forget($self)\n--\n\n"
                                   "Drop all forms: what they were checked against has changed.");

static PyObject *order_pad_forget(PyObject *object, PyObject *unused)
{
    (void)unused;
    for (int side = 0; side < SIDES; side++) {
        for (int form = 0; form < FORMS; form++) {
            PyDict_Clear(((OrderPadObject *)object)->forms[side][form]);
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(order_pad_next_id_doc, "next_id($self)\n--\n\n"
                                    "The number of the next order; each is given once.");

static PyObject *order_pad_next_id(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLongLong(order_pad_take_id((OrderPadObject *)object));
}

static PyObject *order_pad_reduce(PyObject *object, PyObject *unused)
{
    (void)unused;
    return Py_BuildValue("O(L)", Py_TYPE(object),
                         (long long)atomic_load_explicit(&((OrderPadObject *)object)->next_id,
                                                         memory_order_relaxed));
}

static PyObject *order_pad_get_outlet(PyObject *object, void *unused)
{
    (void)unused;
    OutletObject *outlet = order_pad_outlet_of((OrderPadObject *)object);
    return outlet == NULL ? Py_NewRef(Py_None) : (PyObject *)outlet;
}

static int order_pad_set_outlet(PyObject *object, PyObject *value, void *unused)
{
    (void)unused;
    OrderPadObject *self = (OrderPadObject *)object;
    struct module_state *state = state_of_type(Py_TYPE(object));
    if (state == NULL) {
        return -1;
    }
    const bool none = value == NULL || value == Py_None;
    if (!none &&
        (Py_TYPE(value) != state->outlet_type || ((OutletObject *)value)->field_count != 3)) {
        PyErr_SetString(PyExc_TypeError, "an OrderPad takes an Outlet with three fields of its "
                                         "own: a number, a price, a quantity");
        return -1;
    }
    PyObject *before;
    Py_BEGIN_CRITICAL_SECTION(object);
    before = (PyObject *)self->outlet;
    self->outlet = none ? NULL : (OutletObject *)Py_NewRef(value);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(before);
    return 0;
}

static int order_pad_traverse(PyObject *object, visitproc visit, void *arg)
{
    const OrderPadObject *self = (OrderPadObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)self->outlet);
    for (int i = 0; i < SIDES * FORMS; i++) {
        Py_VISIT(self->forms[i / FORMS][i % FORMS]);
    }
    return 0;
}

/* The dicts stay where they are, empty: a finalizer may still send. */
static int order_pad_clear(PyObject *object)
{
    OrderPadObject *self = (OrderPadObject *)object;
    Py_CLEAR(self->outlet);
    for (int i = 0; i < SIDES * FORMS; i++) {
        if (self->forms[i / FORMS][i % FORMS] != NULL) {
            PyDict_Clear(self->forms[i / FORMS][i % FORMS]);
        }
    }
    return 0;
}

static void order_pad_dealloc(PyObject *object)
{
    OrderPadObject *self = (OrderPadObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_CLEAR(self->outlet);
    for (int i = 0; i < SIDES * FORMS; i++) {
        Py_CLEAR(self->forms[i / FORMS][i % FORMS]);
    }
    Py_XDECREF(self->no_price);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef order_pad_methods[] = {
    {"forms", METHOD(order_pad_forms), METH_FASTCALL, order_pad_forms_doc},
    {"forget", order_pad_forget, METH_NOARGS, order_pad_forget_doc},
    {"next_id", order_pad_next_id, METH_NOARGS, order_pad_next_id_doc},
    {"__reduce__", order_pad_reduce, METH_NOARGS, "__reduce__($self)\n--\n\nPickles the number."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef order_pad_getset[] = {
    {"outlet", order_pad_get_outlet, order_pad_set_outlet,
     "The Outlet that orders go through, or None: then nothing can be sent.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot order_pad_slots[] = {{Py_tp_doc, (void *)(uintptr_t)order_pad_doc},
                                        {Py_tp_new, order_pad_new},
                                        {Py_tp_dealloc, order_pad_dealloc},
                                        {Py_tp_traverse, order_pad_traverse},
                                        {Py_tp_clear, order_pad_clear},
                                        {Py_tp_methods, order_pad_methods},
                                        {Py_tp_getset, order_pad_getset},
                                        {0, NULL}};

PyType_Spec order_pad_spec = {.name = "shmipc._core.OrderPad",
                              .basicsize = sizeof(OrderPadObject),
                              .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                       Py_TPFLAGS_IMMUTABLETYPE,
                              .slots = order_pad_slots};
