/* subscription.c: a ring and the handlers of its messages, as given to Dispatcher.add(). */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/handle.h"
#include "../ring/consumer_object.h"
#include "dispatcher.h"

static void handler_clear(struct handler *handler)
{
    Py_CLEAR(handler->type);
    Py_CLEAR(handler->callable);
    Py_CLEAR(handler->key);
    Py_CLEAR(handler->record);
    Py_CLEAR(handler->batch);
}

void subscription_drop(struct subscription *subscription)
{
    if (--subscription->refs > 0) {
        return;
    }
    for (uint32_t i = 0; i < subscription->handler_count; i++) {
        handler_clear(&subscription->handlers[i]);
    }
    Py_XDECREF(subscription->consumer);
    Py_XDECREF(subscription->on_lost);
    key_table_free(&subscription->keys);
    PyMem_Free(subscription->handlers);
    PyMem_Free(subscription->gathered);
    PyMem_Free(subscription->scratch);
    PyMem_Free(subscription);
}

void subscription_inherit(struct subscription *subscription, struct subscription *from)
{
    for (uint32_t i = 0; i < from->gathered_count; i++) {
        struct handler *old = from->gathered[i];
        struct handler *handler = subscription_handler(subscription, old->kind);
        if (handler == NULL || handler->type != old->type || handler->batch_count > 0) {
            continue; /* not wanted any more, or as something else */
        }
        const uint64_t left = old->batch_count - old->batch_done;
        memmove(old->batch_data, old->batch_data + old->batch_done * old->len,
                (size_t)left * old->len);
        handler->batch = old->batch; /* with our reference */
        handler->batch_data = old->batch_data;
        handler->batch_room = old->batch_room;
        handler->batch_count = left;
        old->batch = NULL;
        subscription->gathered[subscription->gathered_count++] = handler;
    }
    from->gathered_count = 0;
}

int subscription_traverse(const struct subscription *subscription, visitproc visit, void *arg)
{
    Py_VISIT(subscription->consumer);
    Py_VISIT(subscription->on_lost);
    for (uint32_t i = 0; i < subscription->handler_count; i++) {
        Py_VISIT(subscription->handlers[i].type);
        Py_VISIT(subscription->handlers[i].callable);
        Py_VISIT(subscription->handlers[i].key);
        Py_VISIT(subscription->handlers[i].record);
        Py_VISIT(subscription->handlers[i].batch);
    }
    return 0;
}

/* (record_type, callable) or (record_type, callable, "batch"). */
static int parse_handler(struct module_state *state, const struct subscription *subscription,
                         PyObject *key, PyObject *value, struct handler *handler, bool *batch)
{
    uint64_t kind;
    const bool typed = subscription->consumer->handle.dtype != NULL;
    if (parse_integer("a kind", key, 0, UINT16_MAX, 0, &kind) != 0) {
        return -1;
    }
    if ((kind == 0) != typed) {
        PyErr_Format(PyExc_ValueError,
                     typed ? "ring %R is typed: its items are of kind 0, not %R"
                           : "ring %R has no messages of kind %R",
                     subscription->consumer->handle.name, key);
        return -1;
    }
    if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) < 2 || PyTuple_GET_SIZE(value) > 3 ||
        !record_type_check(state, PyTuple_GET_ITEM(value, 0)) ||
        !PyCallable_Check(PyTuple_GET_ITEM(value, 1))) {
        PyErr_Format(PyExc_TypeError,
                     "a handler is (record type, callable) or (record type, callable, \"batch\"), "
                     "not %R",
                     value);
        return -1;
    }
    *batch = PyTuple_GET_SIZE(value) == 3;
    if (*batch) {
        PyObject *word = PyTuple_GET_ITEM(value, 2);
        if (!PyUnicode_Check(word) || PyUnicode_CompareWithASCIIString(word, "batch") != 0) {
            PyErr_Format(PyExc_ValueError, "a handler's third item is \"batch\", not %R", word);
            return -1;
        }
    }
    handler->type = (PyTypeObject *)Py_NewRef(PyTuple_GET_ITEM(value, 0));
    handler->callable = Py_NewRef(PyTuple_GET_ITEM(value, 1));
    handler->key = Py_NewRef(key);
    handler->len = record_len_of(handler->type);
    handler->kind = (uint16_t)kind;
    if (typed) {
        const int same = PyObject_RichCompareBool(record_dtype_of(handler->type),
                                                  subscription->consumer->handle.dtype, Py_EQ);
        if (same == 0) {
            PyErr_Format(state->exceptions[EXCEPTION_SCHEMA_MISMATCH],
                         "ring %R has items of dtype %R, the handler's record type %R of %R",
                         subscription->consumer->handle.name, subscription->consumer->handle.dtype,
                         handler->type, record_dtype_of(handler->type));
        }
        return same == 1 ? 0 : -1;
    }
    return 0;
}

static int parse_handlers(struct module_state *state, struct subscription *subscription,
                          PyObject *handlers)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (!PyDict_Check(handlers)) {
        PyErr_Format(PyExc_TypeError, "handlers is a dict from kinds to handlers, not %.200s",
                     Py_TYPE(handlers)->tp_name);
        return -1;
    }
    PyObject *copy = PyDict_Copy(handlers); /* __index__ of a key is Python code */
    if (copy == NULL) {
        return -1;
    }
    const size_t count = (size_t)PyDict_GET_SIZE(copy);
    subscription->handlers = PyMem_Calloc(count + 1, sizeof *subscription->handlers);
    subscription->gathered = PyMem_Calloc(count + 1, sizeof *subscription->gathered);
    if (subscription->handlers == NULL || subscription->gathered == NULL) {
        PyErr_NoMemory();
        Py_DECREF(copy);
        return -1;
    }
    int result = 0;
    while (result == 0 && PyDict_Next(copy, &at, &key, &value)) {
        struct handler *handler = &subscription->handlers[subscription->handler_count++];
        bool batch = false;
        result = parse_handler(state, subscription, key, value, handler, &batch);
        handler->single = !batch;
        subscription->batches = subscription->batches || batch;
        if (handler->kind < 256 && subscription->handler_count < 256) {
            subscription->index[handler->kind] = (uint8_t)subscription->handler_count;
        }
        if (handler->len > subscription->scratch_len) {
            subscription->scratch_len = handler->len;
        }
    }
    Py_DECREF(copy);
    return result;
}

static int parse_keys(struct subscription *subscription, PyObject *keys)
{
    if (keys == NULL || keys == Py_None) {
        return 0;
    }
    if (PyBytes_Check(keys) || PyUnicode_Check(keys)) {
        PyErr_SetString(PyExc_TypeError, "keys is an iterable of keys, not one");
        return -1;
    }
    subscription->filtered = true;
    PyObject *iterator = PyObject_GetIter(keys);
    PyObject *given;
    int result = iterator == NULL ? -1 : 0;
    while (result == 0 && (given = PyIter_Next(iterator)) != NULL) {
        struct event_key key;
        result = key_parse("key", given, &key) != 0 || key_add(&subscription->keys, key) == NULL
                     ? -1
                     : 0;
        Py_DECREF(given);
    }
    Py_XDECREF(iterator);
    return PyErr_Occurred() != NULL ? -1 : result;
}

struct subscription *subscription_new(struct module_state *state, PyObject *consumer,
                                      PyObject *handlers, PyObject *keys, PyObject *reader,
                                      PyObject *from_seq, bool retry, PyObject *on_lost,
                                      Py_ssize_t key_off)
{
    uint64_t number;
    if (!PyObject_TypeCheck(consumer, state->consumer_type)) {
        PyErr_Format(PyExc_TypeError, "a Dispatcher reads Consumers, not %.200s",
                     Py_TYPE(consumer)->tp_name);
        return NULL;
    }
    if (!handle_was_opened((HandleObject *)consumer)) {
        (void)handle_refuse((HandleObject *)consumer);
        return NULL;
    }
    if (on_lost != NULL && on_lost != Py_None && !PyCallable_Check(on_lost)) {
        PyErr_SetString(PyExc_TypeError, "on_lost is a callable or None");
        return NULL;
    }
    if (key_off < 0 && keys != NULL && keys != Py_None) {
        PyErr_SetString(PyExc_ValueError,
                        "keys= needs to know where a key lies: Dispatcher(key_off=)");
        return NULL;
    }
    struct subscription *subscription = PyMem_Calloc(1, sizeof *subscription);
    if (subscription == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    subscription->refs = 1;
    subscription->key_off = key_off < 0 ? 0 : (size_t)key_off;
    subscription->consumer = (ConsumerObject *)Py_NewRef(consumer);
    subscription->on_lost = on_lost == NULL || on_lost == Py_None ? NULL : Py_NewRef(on_lost);
    subscription->retry = retry;
    subscription->lost_told = subscription->consumer->core.ring.lost;
    if (parse_handlers(state, subscription, handlers) != 0 || parse_keys(subscription, keys) != 0 ||
        parse_integer("from_seq", from_seq, 0, UINT64_MAX, 0, &subscription->from_seq) != 0 ||
        parse_integer("reader", reader, 0, SHMIPC_MAX_CONSUMERS - 1, UINT64_MAX, &number) != 0) {
        subscription_drop(subscription);
        return NULL;
    }
    subscription->reader = number == UINT64_MAX ? -1 : (int32_t)number;
    if (retry && subscription->batches) {
        PyErr_SetString(PyExc_ValueError, "retry=True is for single events, not for batches");
        subscription_drop(subscription);
        return NULL;
    }
    if (subscription->consumer->core.ring.map.overwrite) {
        subscription->scratch = PyMem_Malloc(subscription->scratch_len + TARGETS_LEN);
        if (subscription->scratch == NULL) {
            PyErr_NoMemory();
            subscription_drop(subscription);
            return NULL;
        }
    }
    return subscription;
}
