/*
 * keys.h: a hash table from a key of KEY_LEN bytes to a number.
 *
 * Owns:     its memory. Keys are copied; the all-zero key is none.
 */
#ifndef SHMIPC_BINDING_KEYS_H
#define SHMIPC_BINDING_KEYS_H

#include "../base/handle.h"
#include "key_len.h"

struct event_key {
    uint64_t word[2];
};

struct key_entry {
    struct event_key key;
    uint64_t value;
};

/* Zeroed: empty. */
struct key_table {
    struct key_entry *entries; /* mask + 1 of them, at most half used; NULL: none yet */
    size_t mask;
    size_t count;
};

static inline struct event_key key_of(const unsigned char *bytes)
{
    struct event_key key;
    memcpy(&key, bytes, KEY_LEN);
    return key;
}

static inline bool key_is_none(struct event_key key)
{
    return (key.word[0] | key.word[1]) == 0;
}

static inline bool keys_equal(struct event_key a, struct event_key b)
{
    return a.word[0] == b.word[0] && a.word[1] == b.word[1];
}

/* Multiplicative (Fibonacci) hashing: the high bits of a product by 2^64 / golden ratio. */
static inline size_t key_hash(struct event_key key)
{
    const uint64_t mixed =
        (key.word[0] ^ (key.word[1] * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(mixed >> 20);
}

/* The entry of `key`, or NULL. */
static inline struct key_entry *key_find(const struct key_table *table, struct event_key key)
{
    if (table->count == 0) {
        return NULL;
    }
    for (size_t i = key_hash(key);; i++) {
        struct key_entry *entry = &table->entries[i & table->mask];
        if (keys_equal(entry->key, key)) {
            return entry;
        }
        if (key_is_none(entry->key)) {
            return NULL;
        }
    }
}

/* The entry of `key`, which is not the zero key, made with value 0 if new. NULL with MemoryError.
 */
struct key_entry *key_add(struct key_table *table, struct event_key key);
void key_table_free(struct key_table *table);

/* A key given as bytes, padded with zeros; `what` names it in errors. -1 with TypeError or
 * ValueError.
 */
int key_parse(const char *what, PyObject *given, struct event_key *key);

#endif
