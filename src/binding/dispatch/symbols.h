/*
 * symbols.h: a hash table from the first 16 bytes of an event, its symbol, to a number.
 *
 * Owns:     its memory. Keys are copied; the all-zero key is none.
 * Used by:  dispatching.c, as the set of symbols subscribed to; latest.c, as an index.
 */
#ifndef SHMIPC_BINDING_SYMBOLS_H
#define SHMIPC_BINDING_SYMBOLS_H

#include "../base/handle.h"
#include "symbol_width.h"

struct symbol_key {
    uint64_t word[2];
};

struct symbol_entry {
    struct symbol_key key;
    uint64_t value;
};

/* Zeroed: empty. */
struct symbol_table {
    struct symbol_entry *entries; /* mask + 1 of them, at most half used; NULL: none yet */
    size_t mask;
    size_t count;
};

static inline struct symbol_key symbol_key_of(const unsigned char *symbol)
{
    struct symbol_key key;
    memcpy(&key, symbol, SYMBOL_FIELD_LEN);
    return key;
}

static inline bool symbol_key_is_none(struct symbol_key key)
{
    return (key.word[0] | key.word[1]) == 0;
}

static inline bool symbol_keys_equal(struct symbol_key a, struct symbol_key b)
{
    return a.word[0] == b.word[0] && a.word[1] == b.word[1];
}

/* Multiplicative (Fibonacci) hashing: the high bits of a product by 2^64 / golden ratio. */
static inline size_t symbol_hash(struct symbol_key key)
{
    const uint64_t mixed =
        (key.word[0] ^ (key.word[1] * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(mixed >> 20);
}

/* The entry of `key`, or NULL. */
static inline struct symbol_entry *symbol_find(const struct symbol_table *table,
                                               struct symbol_key key)
{
    if (table->count == 0) {
        return NULL;
    }
    for (size_t i = symbol_hash(key);; i++) {
        struct symbol_entry *entry = &table->entries[i & table->mask];
        if (symbol_keys_equal(entry->key, key)) {
            return entry;
        }
        if (symbol_key_is_none(entry->key)) {
            return NULL;
        }
    }
}

/* The entry of `key`, which is not the zero key, made with value 0 if new. NULL with MemoryError.
 */
struct symbol_entry *symbol_add(struct symbol_table *table, struct symbol_key key);
void symbol_table_free(struct symbol_table *table);

/* A symbol given as bytes, padded with zeros. -1 with TypeError or ValueError. */
int symbol_parse(PyObject *symbol, struct symbol_key *key);

#endif
