/* symbols.c: see symbols.h. Open addressing, linear probing, doubled at half full. */
#include "../base/handle.h"
#include "symbols.h"

#define FIRST_LEN 16u

static int grow(struct symbol_table *table)
{
    const size_t len = table->entries == NULL ? FIRST_LEN : 2 * (table->mask + 1);
    struct symbol_table bigger = {PyMem_Calloc(len, sizeof *table->entries), len - 1, 0};
    if (bigger.entries == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; table->entries != NULL && i <= table->mask; i++) {
        if (!symbol_key_is_none(table->entries[i].key)) {
            symbol_add(&bigger, table->entries[i].key)->value = table->entries[i].value;
        }
    }
    PyMem_Free(table->entries);
    *table = bigger;
    return 0;
}

struct symbol_entry *symbol_add(struct symbol_table *table, struct symbol_key key)
{
    struct symbol_entry *entry = symbol_find(table, key);
    if (entry != NULL) {
        return entry;
    }
    if ((table->entries == NULL || 2 * (table->count + 1) > table->mask + 1) && grow(table) != 0) {
        return NULL;
    }
    size_t i = symbol_hash(key);
    while (!symbol_key_is_none(table->entries[i & table->mask].key)) {
        i++;
    }
    entry = &table->entries[i & table->mask];
    entry->key = key;
    table->count++;
    return entry;
}

void symbol_table_free(struct symbol_table *table)
{
    PyMem_Free(table->entries);
    *table = (struct symbol_table){NULL, 0, 0};
}

int symbol_parse(PyObject *symbol, struct symbol_key *key)
{
    unsigned char padded[SYMBOL_FIELD_LEN] = {0};
    if (!PyBytes_Check(symbol)) {
        PyErr_Format(PyExc_TypeError, "a symbol is bytes here, not %.200s: encode_symbol(text)",
                     Py_TYPE(symbol)->tp_name);
        return -1;
    }
    const Py_ssize_t len = PyBytes_GET_SIZE(symbol);
    if (len < 1 || len > SYMBOL_FIELD_LEN - 1 ||
        memchr(PyBytes_AS_STRING(symbol), 0, (size_t)len) != NULL) {
        PyErr_Format(PyExc_ValueError, "a symbol has 1 to %d bytes, none of them zero, not %R",
                     SYMBOL_FIELD_LEN - 1, symbol);
        return -1;
    }
    memcpy(padded, PyBytes_AS_STRING(symbol), (size_t)len);
    *key = symbol_key_of(padded);
    return 0;
}
