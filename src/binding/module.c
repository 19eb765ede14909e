/* module.c: the module: its state, its types, its functions. */
#include "base/state.h"
#include "base/arguments.h"
#include "base/errors.h"
#include "base/handle.h"
#include "ring/consumer_object.h"
#include "ring/frame_object.h"
#include "ring/pickling.h"
#include "ring/producer_object.h"
#include "ring/receiving.h"
#include "ring/reservation_object.h"
#include "ring/stats.h"
#include "ring/view.h"
#include "ring/waiting.h"
#include "record/record.h"
#include "dispatch/dispatcher.h"
#include "trading/latest.h"
#include "trading/order_pad.h"
#include "trading/outlet.h"
#include "../core/segment/holder.h"
#include "../core/segment/locks.h"

/* ---- functions ------------------------------------------------------------------------------ */

PyDoc_STRVAR(
    wait_doc,
    "wait(objects, timeout=None)\n--\n\n"
    "Wait until any of several Consumers can be read without waiting (or has something to\n"
    "report: its end, or its producer's death until that was told), and return the list of\n"
    "those: an empty list after `timeout` seconds. The shape of\n"
    "multiprocessing.connection.wait.\n"
    "\n"
    "Polls first, for as long as the largest spin= among them says. Of more than 128 at\n"
    "once, one is noticed up to 5 ms late, and deaths 50 ms late for each 128.\n"
    "\n"
    "Raises TypeError for anything but Consumers, ValueError for one given twice, Closed\n"
    "for a closed one.");

PyDoc_STRVAR(segment_dir_doc,
             "segment_dir()\n--\n\nThe directory of segments: $SHMIPC_DIR, or /dev/shm.");

static PyObject *module_segment_dir(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyUnicode_DecodeFSDefault(shmipc_segment_dir());
}

PyDoc_STRVAR(segment_path_doc, "segment_path(name, /)\n--\n\n"
                               "The file of the ring `name`. ValueError for an impossible name.");

static PyObject *module_segment_path(PyObject *module, PyObject *name)
{
    char path[SHMIPC_PATH_MAX];
    struct shmipc_error error;
    Py_ssize_t len;
    (void)module;
    const char *text = PyUnicode_AsUTF8AndSize(name, &len);
    if (text == NULL) {
        return NULL;
    }
    if (shmipc_segment_path(text, (size_t)len, path, &error) != SHMIPC_OK) {
        return PyErr_Format(PyExc_ValueError, "%s, not %R", error.text, name);
    }
    return PyUnicode_DecodeFSDefault(path);
}

/* Is the pid that a live holder gives itself one of ours? None where nobody knows. */
static PyObject *pid_is_local(const struct shmipc_segment *segment, uint32_t pid, bool alive)
{
    const enum shmipc_holder holder =
        alive ? shmipc_holder_find(segment, pid) : SHMIPC_HOLDER_UNKNOWN;
    return holder == SHMIPC_HOLDER_UNKNOWN ? Py_None
           : holder == SHMIPC_HOLDER_HERE  ? Py_True
                                           : Py_False;
}

static PyObject *inspect_consumers(const struct shmipc_segment *segment)
{
    const struct shmipc_header *shared = segment->header;
    struct shmipc_ring ring;
    shmipc_ring_attach(&ring, segment);
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < segment->geometry.slots; i++) {
        const bool kept = shmipc_ring_is_kept(&ring, i);
        uint32_t pid = shmipc_load_relaxed(&shared->slots[i].pid);
        const bool alive = shmipc_lock_is_held(segment, SHMIPC_LOCK_SLOT0 + i, 1);
        pid = pid == SHMIPC_PID_KEPT ? 0 : pid; /* names nobody */
        if (pid == 0 && !alive && !kept) {
            continue;
        }
        PyObject *consumer = Py_BuildValue(
            "{sI sI sO sO sO sK}", "slot", i, "pid", pid, "alive", alive ? Py_True : Py_False,
            "kept", kept ? Py_True : Py_False, "pid_is_local", pid_is_local(segment, pid, alive),
            "cursor_pos", (unsigned long long)shmipc_load_relaxed(&shared->slots[i].cursor_pos));
        if (consumer == NULL || PyList_Append(list, consumer) != 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(consumer);
    }
    return list;
}

static PyObject *inspect_mapped(struct module_state *state, const struct shmipc_segment *segment)
{
    const struct shmipc_geometry *geometry = &segment->geometry;
    const struct shmipc_header *shared = segment->header;
    struct shmipc_error error;
    PyObject *consumers = NULL;
    PyObject *result = NULL;
    PyObject *schema = Py_NewRef(Py_None);
    if (geometry->schema_len > 0) {
        PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)geometry->schema_len);
        Py_CLEAR(schema);
        if (bytes != NULL &&
            shmipc_segment_read_schema(segment, PyBytes_AS_STRING(bytes), &error) != SHMIPC_OK) {
            Py_DECREF(bytes);
            return raise_error(state, &error, segment->path);
        }
        if (bytes != NULL) {
            schema = PyUnicode_FromEncodedObject(bytes, "utf-8", "replace");
            Py_DECREF(bytes);
        }
    }
    consumers = schema == NULL ? NULL : inspect_consumers(segment);
    if (consumers != NULL) {
        const char *slash = strrchr(segment->path, '/');
        const char *name = slash != NULL ? slash + 1 : segment->path;
        if (strncmp(name, SHMIPC_FILE_PREFIX, strlen(SHMIPC_FILE_PREFIX)) == 0) {
            name += strlen(SHMIPC_FILE_PREFIX);
        }
        const uint32_t pid = shmipc_load_relaxed(&shared->identity.producer_pid);
        const bool alive = shmipc_lock_is_held(segment, SHMIPC_LOCK_PRODUCER, 1);
        result = Py_BuildValue(
            "{sN ss ss sI sK sK sK sK sO sK sK sO sI sO sO sO}", "name",
            PyUnicode_DecodeFSDefault(name), "framing",
            geometry->framing == SHMIPC_FRAMING_TYPED ? "typed" : "message", "overflow",
            geometry->overflow == SHMIPC_OVERFLOW_BLOCK ? "block" : "overwrite", "slots",
            geometry->slots, "capacity", (unsigned long long)shmipc_capacity_of(geometry),
            "area_len", (unsigned long long)geometry->area_len, "item_len",
            (unsigned long long)geometry->item_len, "item_stride",
            (unsigned long long)geometry->item_stride, "schema", schema, "head_pos",
            (unsigned long long)shmipc_load_acquire(&shared->commit.head_pos), "tail_pos",
            (unsigned long long)shmipc_load_acquire(&shared->retention.tail_pos), "closed",
            shmipc_load_relaxed(&shared->identity.closed) != 0 ? Py_True : Py_False, "producer_pid",
            pid, "producer_alive", alive ? Py_True : Py_False, "producer_pid_is_local",
            pid_is_local(segment, pid, alive), "consumers", consumers);
    }
    Py_XDECREF(schema);
    Py_XDECREF(consumers);
    return result;
}

PyDoc_STRVAR(
    inspect_segment_doc,
    "inspect_segment(path, /)\n--\n\n"
    "What a segment's file says of itself and who is attached, as a dict; a place that is\n"
    "kept for a consumer to come (hold_for=) is 'kept', with pid 0. Attaches nothing.\n"
    "'producer_pid_is_local' and a consumer's 'pid_is_local' are False where the pid is\n"
    "another pid namespace's, None where that is not known. Corrupt for a file that is no\n"
    "segment, NotFound, OSError (ENOSYS: /proc is missing).");

static PyObject *module_inspect_segment(PyObject *module, PyObject *path_object)
{
    struct module_state *state = PyModule_GetState(module);
    struct shmipc_segment segment;
    struct shmipc_error error;
    PyObject *path;
    PyObject *result = NULL;
    if (!PyUnicode_FSConverter(path_object, &path)) {
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(path);
    enum shmipc_status status = shmipc_segment_open(&segment, text, &error);
    if (status == SHMIPC_OK) {
        status = shmipc_segment_map(&segment, false, &error);
    }
    if (status == SHMIPC_OK) {
        result = inspect_mapped(state, &segment);
        if (shmipc_segment_is_damaged(&segment)) {
            Py_CLEAR(result);
            status = shmipc_segment_fail_damaged(&segment, &error);
        }
    }
    if (status != SHMIPC_OK) {
        (void)raise_error(state, &error, text);
    }
    shmipc_segment_close(&segment);
    Py_DECREF(path);
    return result;
}

PyDoc_STRVAR(
    clean_segment_doc,
    "clean_segment(path, discard=False, dry_run=False)\n--\n\n"
    "Remove a segment that no live process is attached to: 'removed'. Otherwise it is left\n"
    "alone: 'alive', 'pending' (it still holds messages for a durable consumer, or for one\n"
    "that a slot is kept for, and `discard` is false), 'damaged' (it was truncated, say, and\n"
    "`discard` is false) or 'foreign' (no segment that this release can read). dry_run: only\n"
    "tell.");

static PyObject *module_clean_segment(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames)
{
    static const char *const names[] = {"path", "discard", "dry_run", NULL};
    static const struct parameters parameters = {"clean_segment", names, 2, 1};
    static const char *const words[] = {[SHMIPC_CLEAN_REMOVED] = "removed",
                                        [SHMIPC_CLEAN_ALIVE] = "alive",
                                        [SHMIPC_CLEAN_PENDING] = "pending",
                                        [SHMIPC_CLEAN_DAMAGED] = "damaged",
                                        [SHMIPC_CLEAN_FOREIGN] = "foreign"};
    struct module_state *state = PyModule_GetState(module);
    enum shmipc_clean_result outcome;
    struct shmipc_error error;
    PyObject *given[3];
    PyObject *path;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0) {
        return NULL;
    }
    const int discard = given[1] == NULL ? 0 : PyObject_IsTrue(given[1]);
    const int dry_run = given[2] == NULL || discard < 0 ? 0 : PyObject_IsTrue(given[2]);
    if (discard < 0 || dry_run < 0 || !PyUnicode_FSConverter(given[0], &path)) {
        return NULL;
    }
    enum shmipc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = (dry_run ? shmipc_segment_foresee : shmipc_segment_clean)(
        PyBytes_AS_STRING(path), discard != 0, &outcome, &error);
    Py_END_ALLOW_THREADS
    if (status != SHMIPC_OK) {
        (void)raise_error(state, &error, PyBytes_AS_STRING(path));
    }
    Py_DECREF(path);
    return status == SHMIPC_OK ? PyUnicode_FromString(words[outcome]) : NULL;
}

/* ---- the module ----------------------------------------------------------------------------- */

static PyMethodDef module_methods[] = {
    {"wait", METHOD(module_wait), FASTCALL, wait_doc},
    {"segment_dir", module_segment_dir, METH_NOARGS, segment_dir_doc},
    {"segment_path", module_segment_path, METH_O, segment_path_doc},
    {"inspect_segment", module_inspect_segment, METH_O, inspect_segment_doc},
    {"clean_segment", METHOD(module_clean_segment), FASTCALL, clean_segment_doc},
    {"record_type", METHOD(module_record_type), FASTCALL, record_type_doc},
    {"check_texts", METHOD(module_check_texts), METH_FASTCALL, check_texts_doc},
    {"_restore_record", module_restore_record, METH_VARARGS, NULL},
    {"_restore_record_type", module_restore_record_type, METH_VARARGS, NULL},
    {"_reduce_record_type", module_reduce_record_type, METH_O, NULL},
    {"_reopen", module_reopen, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

/* `base`: NULL is object. */
static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type, bool exported,
                    PyTypeObject *base)
{
    PyObject *bases = base == NULL ? NULL : PyTuple_Pack(1, base);
    if (base != NULL && bases == NULL) {
        return -1;
    }
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, bases);
    Py_XDECREF(bases);
    if (*type == NULL) {
        return -1;
    }
    return exported ? PyModule_AddType(module, *type) : 0;
}

static int module_exec(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    state->records = &record_room;
#ifdef Py_GIL_DISABLED
    PyObject *globals = PyDict_New();
    if (globals == NULL) {
        return -1;
    }
    state->breathe = PyRun_String("lambda: None", Py_eval_input, globals, globals);
    Py_DECREF(globals);
    if (state->breathe == NULL) {
        return -1;
    }
#endif
    return errors_init(module, state) != 0 || stats_init(module, state) != 0 ||
                   add_type(module, &producer_spec, &state->producer_type, true, NULL) != 0 ||
                   add_type(module, &reservation_spec, &state->reservation_type, true, NULL) != 0 ||
                   add_type(module, &consumer_spec, &state->consumer_type, true, NULL) != 0 ||
                   add_type(module, &iterator_spec, &state->iterator_type, false, NULL) != 0 ||
                   add_type(module, &frame_spec, &state->frame_type, true, NULL) != 0 ||
                   add_type(module, &view_spec, &state->view_type, false, NULL) != 0 ||
                   add_type(module, &record_spec, &state->record_base_type, true, NULL) != 0 ||
                   add_type(module, &field_spec, &state->field_type, false, NULL) != 0 ||
                   add_type(module, &record_meta_spec, &state->record_meta_type, false,
                            &PyType_Type) != 0 ||
                   add_type(module, &dispatcher_spec, &state->dispatcher_type, true, NULL) != 0 ||
                   add_type(module, &latest_spec, &state->latest_type, true, NULL) != 0 ||
                   add_type(module, &outlet_spec, &state->outlet_type, true, NULL) != 0 ||
                   add_type(module, &order_pad_spec, &state->order_pad_type, true, NULL) != 0 ||
                   add_type(module, &order_method_spec, &state->order_method_type, true, NULL) != 0
               ? -1
               : 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = PyModule_GetState(module);
    for (int i = 0; i < EXCEPTION_COUNT; i++) {
        Py_VISIT(state->exceptions[i]);
    }
    Py_VISIT(state->producer_type);
    Py_VISIT(state->reservation_type);
    Py_VISIT(state->consumer_type);
    Py_VISIT(state->iterator_type);
    Py_VISIT(state->frame_type);
    Py_VISIT(state->view_type);
    Py_VISIT(state->stats_type);
    Py_VISIT(state->lag_type);
    Py_VISIT(state->dispatcher_type);
    Py_VISIT(state->latest_type);
    Py_VISIT(state->outlet_type);
    Py_VISIT(state->order_pad_type);
    Py_VISIT(state->order_method_type);
    Py_VISIT(state->record_base_type);
    Py_VISIT(state->record_meta_type);
    Py_VISIT(state->field_type);
    Py_VISIT(state->record_types);
    Py_VISIT(state->numpy_format);
    Py_VISIT(state->literal_eval);
#ifdef Py_GIL_DISABLED
    Py_VISIT(state->breathe);
#endif
    return 0;
}

static int module_clear(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    for (int i = 0; i < EXCEPTION_COUNT; i++) {
        Py_CLEAR(state->exceptions[i]);
    }
    Py_CLEAR(state->producer_type);
    Py_CLEAR(state->reservation_type);
    Py_CLEAR(state->consumer_type);
    Py_CLEAR(state->iterator_type);
    Py_CLEAR(state->frame_type);
    Py_CLEAR(state->view_type);
    Py_CLEAR(state->stats_type);
    Py_CLEAR(state->lag_type);
    Py_CLEAR(state->dispatcher_type);
    Py_CLEAR(state->latest_type);
    Py_CLEAR(state->outlet_type);
    Py_CLEAR(state->order_pad_type);
    Py_CLEAR(state->order_method_type);
    Py_CLEAR(state->record_base_type);
    Py_CLEAR(state->record_meta_type);
    Py_CLEAR(state->field_type);
    Py_XDECREF(atomic_exchange(&state->record_types, NULL));
    Py_XDECREF(atomic_exchange(&state->numpy_format, NULL));
    Py_XDECREF(atomic_exchange(&state->literal_eval, NULL));
#ifdef Py_GIL_DISABLED
    Py_CLEAR(state->breathe);
#endif
    return 0;
}

static void module_free(void *module)
{
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL}};

static struct PyModuleDef shmipc_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = module_name,
    .m_doc = "The ring, from C. Use it through the shmipc package.",
    .m_size = sizeof(struct module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&shmipc_module);
}
