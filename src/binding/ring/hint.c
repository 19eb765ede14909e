/*
 * hint.c: warnings in the log of "shmipc" for a wait that may never end: what it waits for, and
 * what to do about it. An error would be wrong, since another thread or process may still see to
 * it.
 */
#include "../base/state.h"
#include "../base/handle.h"
#include "consumer_object.h"
#include "hint.h"

#include <stddef.h>

#define LOOK_NS UINT64_C(1000000000)

/* Takes over `text`; NULL: an exception is set. -1 with an exception. */
static int warn(PyObject *text)
{
    PyObject *logging = text == NULL ? NULL : PyImport_ImportModule("logging");
    PyObject *logger =
        logging == NULL ? NULL : PyObject_CallMethod(logging, "getLogger", "s", "shmipc");
    PyObject *answer =
        logger == NULL ? NULL : PyObject_CallMethod(logger, "warning", "sO", "%s", text);
    Py_XDECREF(text);
    Py_XDECREF(logging);
    Py_XDECREF(logger);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* ---- a consumer in its own way --------------------------------------------------------------- */

static bool is_in_the_way(ConsumerObject *consumer, uint64_t *number)
{
    bool is;
    Py_BEGIN_CRITICAL_SECTION(consumer); /* another thread may end a lease */
    is = shmipc_consumer_role_blocks_producer(&consumer->core, number);
    Py_END_CRITICAL_SECTION();
    return is;
}

ConsumerObject *vigil_look(struct vigil *vigil, const struct shmipc_waited *members, uint32_t count)
{
    const uint64_t now_ns = shmipc_now_ns();
    if (vigil->told || now_ns < vigil->next_ns) {
        return NULL;
    }
    const bool first = vigil->next_ns == 0;
    const struct shmipc_consumer_role *suspect = vigil->suspect;
    vigil->next_ns = now_ns + LOOK_NS;
    vigil->suspect = NULL;
    for (uint32_t i = 0; i < count && !first; i++) {
        struct shmipc_consumer_role *core = shmipc_consumer_of_waited(&members[i]);
        ConsumerObject *consumer =
            (ConsumerObject *)(void *)((char *)core - offsetof(ConsumerObject, core));
        uint64_t number;
        if (!is_in_the_way(consumer, &number)) {
            continue;
        }
        if (core == suspect && number == vigil->number) {
            vigil->told = true;
            return (ConsumerObject *)Py_NewRef((PyObject *)consumer);
        }
        if (vigil->suspect == NULL) {
            vigil->suspect = core;
            vigil->number = number;
            vigil->since_ns = now_ns;
        }
    }
    return NULL;
}

int vigil_tell(const struct vigil *vigil, ConsumerObject *consumer)
{
    char span[32];
    if (consumer == NULL) {
        return 0;
    }
    (void)PyOS_snprintf(span, sizeof span, "%.1f",
                        (double)(shmipc_now_ns() - vigil->since_ns) / 1e9);
    PyObject *text = PyUnicode_FromFormat(
        "the Consumer of ring %R waits for what its producer has no room to send: it keeps %zd "
        "frame%s, the oldest of number %llu, and has read all the rest, for %s s at least. Both "
        "wait until one is released: release frames sooner, copy what is to be kept (recv(), or "
        "frame.copy()), or create the ring with a larger capacity=",
        consumer->handle.name, consumer->leases, consumer->leases == 1 ? "" : "s",
        (unsigned long long)vigil->number, span);
    Py_DECREF(consumer);
    return warn(text);
}

int vigil_keep(struct vigil *vigil, ConsumerObject *consumer)
{
    const struct shmipc_waited member = shmipc_waited_consumer(&consumer->core);
    return vigil_tell(vigil, vigil_look(vigil, &member, 1));
}

/* ---- a ring that does not come --------------------------------------------------------------- */

/* The names of rings in the directory of `path`. */
static PyObject *names_beside(const char *path)
{
    const char *slash = strrchr(path, '/');
    const Py_ssize_t prefix_len = (Py_ssize_t)strlen(SHMIPC_FILE_PREFIX);
    PyObject *names = PyList_New(0);
    PyObject *os = PyImport_ImportModule("os");
    PyObject *dir = PyUnicode_DecodeFSDefaultAndSize(path, slash - path);
    PyObject *files =
        os == NULL || dir == NULL ? NULL : PyObject_CallMethod(os, "listdir", "O", dir);
    if (files == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_Clear(); /* no such directory: no names */
        files = PyList_New(0);
    }
    for (Py_ssize_t i = 0; names != NULL && files != NULL && i < PyList_GET_SIZE(files); i++) {
        PyObject *file = PyList_GET_ITEM(files, i);
        const char *text = PyUnicode_AsUTF8(file);
        if (text == NULL) {
            PyErr_Clear(); /* bytes that are no text are no ring's name */
        } else if (strncmp(text, SHMIPC_FILE_PREFIX, (size_t)prefix_len) == 0) {
            PyObject *name = PyUnicode_Substring(file, prefix_len, PyUnicode_GET_LENGTH(file));
            if (name == NULL || PyList_Append(names, name) != 0) {
                Py_CLEAR(names);
            }
            Py_XDECREF(name);
        }
    }
    if (files == NULL) {
        Py_CLEAR(names);
    }
    Py_XDECREF(os);
    Py_XDECREF(dir);
    Py_XDECREF(files);
    return names;
}

int hint_not_found(PyObject *name, const char *path, const char *reason)
{
    PyObject *text = NULL;
    PyObject *names = names_beside(path);
    PyObject *difflib = names == NULL ? NULL : PyImport_ImportModule("difflib");
    PyObject *close = difflib == NULL
                          ? NULL
                          : PyObject_CallMethod(difflib, "get_close_matches", "OO", name, names);
    if (close != NULL) {
        const Py_ssize_t count = PyObject_Size(close);
        PyObject *like = count > 0 ? PyUnicode_FromFormat(". Names like it there: %R", close)
                                   : PyUnicode_FromString("");
        text =
            like == NULL
                ? NULL
                : PyUnicode_FromFormat("Consumer(%R) still waits for its ring: %s. Is its producer "
                                       "started, with the same name and SHMIPC_DIR?%U",
                                       name, reason, like);
        Py_XDECREF(like);
    }
    Py_XDECREF(names);
    Py_XDECREF(difflib);
    Py_XDECREF(close);
    return warn(text);
}
