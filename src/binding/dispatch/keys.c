/* keys.c: see keys.h. Open addressing, linear probing, doubled at half full. */
#include "../base/handle.h"
#include "keys.h"

#define FIRST_LEN 16u

static int grow(struct key_table *table)
{
    const size_t len = table->entries == NULL ? FIRST_LEN : 2 * (table->mask + 1);
    struct key_table bigger = {PyMem_Calloc(len, sizeof *table->entries), len - 1, 0};
    if (bigger.entries == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; table->entries != NULL && i <= table->mask; i++) {
        if (!key_is_none(table->entries[i].key)) {
            key_add(&bigger, table->entries[i].key)->value = table->entries[i].value;
        }
    }
    PyMem_Free(table->entries);
    *table = bigger;
    return 0;
}

struct key_entry *key_add(struct key_table *table, struct event_key key)
{
    struct key_entry *entry = key_find(table, key);
    if (entry != NULL) {
        return entry;
    }
    if ((table->entries == NULL || 2 * (table->count + 1) > table->mask + 1) && grow(table) != 0) {
        return NULL;
    }
    size_t i = key_hash(key);
    while (!key_is_none(table->entries[i & table->mask].key)) {
        i++;
    }
    entry = &table->entries[i & table->mask];
    entry->key = key;
    table->count++;
    return entry;
}

void key_table_free(struct key_table *table)
{
    PyMem_Free(table->entries);
    *table = (struct key_table){NULL, 0, 0};
}

int key_parse(const char *what, PyObject *given, struct event_key *key)
{
    unsigned char padded[KEY_LEN] = {0};
    if (!PyBytes_Check(given)) {
        PyErr_Format(PyExc_TypeError, "a %s is bytes here, not %.200s: text.encode()", what,
                     Py_TYPE(given)->tp_name);
        return -1;
    }
    const Py_ssize_t len = PyBytes_GET_SIZE(given);
    if (len < 1 || len > KEY_LEN - 1 || memchr(PyBytes_AS_STRING(given), 0, (size_t)len) != NULL) {
        PyErr_Format(PyExc_ValueError, "a %s has 1 to %d bytes, none of them zero, not %R", what,
                     KEY_LEN - 1, given);
        return -1;
    }
    memcpy(padded, PyBytes_AS_STRING(given), (size_t)len);
    *key = key_of(padded);
    return 0;
}
