/* errors.c: the exceptions, and the one table from what the core reports to what Python raises. */
#include "state.h"
#include "errors.h"
#include "handle.h"

#include <errno.h>

struct exception_spec {
    const char *name;
    int base;            /* index of the shmipc base; -1: Exception alone */
    const char *builtin; /* second base, "module.Name" */
    const char *doc;
};

static const struct exception_spec specs[EXCEPTION_COUNT] = {
    [EXCEPTION_ERROR] = {"Error", -1, NULL, "Base of every exception that shmipc defines."},
    [EXCEPTION_FULL] = {"Full", EXCEPTION_ERROR, "queue.Full",
                        "The ring has no room and the timeout has passed; nothing was sent."},
    [EXCEPTION_EMPTY] = {"Empty", EXCEPTION_ERROR, "queue.Empty",
                         "Nothing to read, and the timeout has passed."},
    [EXCEPTION_CLOSED] = {"Closed", EXCEPTION_ERROR, "builtins.EOFError",
                          "The producer ended the stream and everything was read, or this handle "
                          "was closed."},
    [EXCEPTION_NOT_FOUND] = {"NotFound", EXCEPTION_ERROR, "builtins.FileNotFoundError",
                             "What was waited for did not come to exist: a ring of that name, its "
                             "producer, or its consumers."},
    [EXCEPTION_BUSY] = {"Busy", EXCEPTION_ERROR, "builtins.FileExistsError",
                        "A live process holds the role that was asked for."},
    [EXCEPTION_SCHEMA_MISMATCH] = {"SchemaMismatch", EXCEPTION_ERROR, "builtins.TypeError",
                                   "Data or a request of another dtype, shape or kind than the "
                                   "ring's."},
    [EXCEPTION_CORRUPT] = {"Corrupt", EXCEPTION_ERROR, "builtins.ValueError",
                           "Shared memory holds what shmipc never writes."},
    [EXCEPTION_REMOVED] = {"Removed", EXCEPTION_ERROR, NULL,
                           "Somebody removed the ring's file while it was in use: processes that "
                           "open the name now meet in another one."},
    [EXCEPTION_PEER_DIED] = {"PeerDied", EXCEPTION_ERROR, "builtins.ConnectionError",
                             "The process at the other end ended without closing."},
    [EXCEPTION_PRODUCER_DIED] = {"ProducerDied", EXCEPTION_PEER_DIED, NULL,
                                 "The producer died; everything it committed has been read. Raised "
                                 "once of each: the next call waits for a producer that takes "
                                 "the ring over."},
    [EXCEPTION_CONSUMER_DIED] = {"ConsumerDied", EXCEPTION_PEER_DIED, NULL,
                                 "The ring is full and its only consumer died; nothing was sent. "
                                 "What it left unread waits for its successor, and so does the "
                                 "next send: raised once of each."},
};

/* An OSError's own text is "[Errno 2] text: 'path'", where ours says all of that already. */
static PyObject *plain_str(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *text = PyObject_GetAttrString(self, "strerror");
    if (text != NULL && !PyUnicode_Check(text)) { /* raised by somebody else, in another form */
        Py_SETREF(text, ((PyTypeObject *)PyExc_OSError)->tp_str(self));
    }
    return text;
}

static PyMethodDef plain_str_method = {"__str__", plain_str, METH_NOARGS,
                                       "__str__($self)\n--\n\nThe text alone."};

static int make_plain(PyObject *type)
{
    PyObject *method = PyDescr_NewMethod((PyTypeObject *)type, &plain_str_method);
    const int result = method == NULL ? -1 : PyObject_SetAttrString(type, "__str__", method);
    Py_XDECREF(method);
    return result;
}

static PyObject *builtin_base(const char *dotted)
{
    char module_name[32];
    const char *dot = strchr(dotted, '.');
    const size_t len = (size_t)(dot - dotted);
    memcpy(module_name, dotted, len);
    module_name[len] = '\0';
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return NULL;
    }
    PyObject *base = PyObject_GetAttrString(module, dot + 1);
    Py_DECREF(module);
    return base;
}

int errors_init(PyObject *module, struct module_state *state)
{
    for (int i = 0; i < EXCEPTION_COUNT; i++) {
        const struct exception_spec *spec = &specs[i];
        char qualified[64];
        PyObject *bases = NULL;
        (void)PyOS_snprintf(qualified, sizeof qualified, "shmipc.%s", spec->name);
        if (spec->base >= 0 && spec->builtin != NULL) {
            PyObject *second = builtin_base(spec->builtin);
            if (second == NULL) {
                return -1;
            }
            bases = PyTuple_Pack(2, state->exceptions[spec->base], second);
            Py_DECREF(second);
        } else {
            bases =
                PyTuple_Pack(1, spec->base >= 0 ? state->exceptions[spec->base] : PyExc_Exception);
        }
        if (bases == NULL) {
            return -1;
        }
        state->exceptions[i] = PyErr_NewExceptionWithDoc(qualified, spec->doc, bases, NULL);
        Py_DECREF(bases);
        if (state->exceptions[i] == NULL ||
            PyModule_AddObjectRef(module, spec->name, state->exceptions[i]) != 0) {
            return -1;
        }
        if ((i == EXCEPTION_NOT_FOUND || i == EXCEPTION_BUSY) &&
            make_plain(state->exceptions[i]) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The text of a failure names a path, which may be any bytes, and is shortened where it is too
 * long. */
static PyObject *text_of(const struct shmipc_error *error)
{
    return PyUnicode_DecodeUTF8(error->text, (Py_ssize_t)strlen(error->text), "backslashreplace");
}

static PyObject *raise_text(PyObject *type, const struct shmipc_error *error)
{
    PyObject *text = text_of(error);
    if (text != NULL) {
        PyErr_SetObject(type, text);
        Py_DECREF(text);
    }
    return NULL;
}

/* Those that are OSErrors carry errno and filename, as users of open() expect. */
static PyObject *raise_os(PyObject *type, int os_error, const struct shmipc_error *failure,
                          const char *path)
{
    PyObject *filename = path == NULL ? Py_NewRef(Py_None) : PyUnicode_DecodeFSDefault(path);
    PyObject *text = text_of(failure);
    if (filename != NULL && text != NULL) {
        PyObject *error = PyObject_CallFunction(type, "iOO", os_error, text, filename);
        if (error != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
        }
    }
    Py_XDECREF(filename);
    Py_XDECREF(text);
    return NULL;
}

PyObject *raise_error(struct module_state *state, const struct shmipc_error *error,
                      const char *path)
{
    switch (error->status) {
    case SHMIPC_NOT_FOUND:
        return raise_os(state->exceptions[EXCEPTION_NOT_FOUND], ENOENT, error, path);
    case SHMIPC_BUSY:
        return raise_os(state->exceptions[EXCEPTION_BUSY], EEXIST, error, path);
    case SHMIPC_OS:
        return raise_os(PyExc_OSError, error->os_error, error, path);
    case SHMIPC_MISMATCH:
        return raise_text(state->exceptions[EXCEPTION_SCHEMA_MISMATCH], error);
    case SHMIPC_CORRUPT:
        return raise_text(state->exceptions[EXCEPTION_CORRUPT], error);
    case SHMIPC_REMOVED:
        return raise_text(state->exceptions[EXCEPTION_REMOVED], error);
    case SHMIPC_INVALID:
        return raise_text(PyExc_ValueError, error);
    default:
        return PyErr_Format(PyExc_SystemError, "shmipc: unexpected status %d: %s", error->status,
                            error->text);
    }
}

PyObject *raise_status(HandleObject *handle, enum shmipc_status status)
{
    PyObject *const *exceptions = handle->state->exceptions;
    switch (status) {
    case SHMIPC_EMPTY:
        return PyErr_Format(exceptions[EXCEPTION_EMPTY], "nothing to read in ring %R yet",
                            handle->name);
    case SHMIPC_CLOSED:
        return atomic_load(&handle->guard) == HANDLE_CLOSED ||
                       shmipc_load_relaxed(handle->interrupted) != 0
                   ? PyErr_Format(exceptions[EXCEPTION_CLOSED],
                                  "this %s of ring %R was closed: open a new one", handle->role,
                                  handle->name)
                   : PyErr_Format(exceptions[EXCEPTION_CLOSED],
                                  "the producer of ring %R has closed it, and everything was read",
                                  handle->name);
    case SHMIPC_DIED: {
        const bool producing = strcmp(handle->role, "Producer") == 0;
        PyObject *text =
            producing ? PyUnicode_FromFormat(
                            "ring %R is full and its consumer died without closing; nothing was "
                            "sent and nothing is lost. Start a consumer; send again to wait for it",
                            handle->name)
                      : PyUnicode_FromFormat(
                            "the producer of ring %R died without closing; everything it committed "
                            "was read. Call again to wait for another that takes the ring over",
                            handle->name);
        if (text != NULL) {
            PyErr_SetObject(
                exceptions[producing ? EXCEPTION_CONSUMER_DIED : EXCEPTION_PRODUCER_DIED], text);
            Py_DECREF(text);
        }
        return NULL;
    }
    case SHMIPC_REMOVED:
    case SHMIPC_CORRUPT:
        if (shmipc_segment_examine(handle->segment) != SHMIPC_OK) {
            struct shmipc_error error;
            (void)shmipc_segment_fail_damaged(handle->segment, &error);
            return raise_error(handle->state, &error, NULL);
        }
        return PyErr_Format(exceptions[EXCEPTION_CORRUPT],
                            "ring %R holds a position or a size that no correct peer writes: close "
                            "it on all sides and remove it (`shmipc clean --discard`)",
                            handle->name);
    default:
        return PyErr_Format(PyExc_SystemError, "shmipc: unexpected status %d on ring %R", status,
                            handle->name);
    }
}

PyObject *raise_too_large(HandleObject *handle, uint64_t len)
{
    const uint64_t area = handle->segment->geometry.area_len;
    uint64_t most = area - sizeof(struct shmipc_message_header);
    if (most > SHMIPC_MAX_MESSAGE_LEN) {
        most = SHMIPC_MAX_MESSAGE_LEN;
    }
    return PyErr_Format(PyExc_ValueError,
                        "a message of %llu bytes never fits ring %R, whose largest is %llu: create "
                        "it with a larger capacity=",
                        (unsigned long long)len, handle->name, (unsigned long long)most);
}
