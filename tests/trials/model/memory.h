/*
 * memory.h: the weak memory of machine.h.
 *
 * Owns:     locations, messages, views; what each thread may read; races of plain accesses.
 * Must not know: which thread runs next.
 */
#ifndef SHMIPC_MODEL_MEMORY_H
#define SHMIPC_MODEL_MEMORY_H

#include "machine.h"

/* How far along each location's list, and each thread's count of plain reads, somebody has seen. */
struct view {
    _Alignas(64) uint8_t seen[MODEL_MAX_LOCATIONS];
    uint8_t reads[8];
};

void memory_forget(void); /* the locations of another scenario */
void memory_reset(void);
void memory_add_thread(int thread);
void memory_end_thread(int thread); /* it reads nothing more */

/* The list of `object`; begun with what lies in real memory. */
int memory_find(const volatile void *object, size_t size);

/* Messages that a load may take; 0 is the newest. */
int memory_load_choices(int thread, int location);
uint64_t memory_load(int thread, int location, int choice, int orders);

/* Places in the list that a store may take; 0 is its end. */
void memory_let_cross(int location);
int memory_store_choices(int thread, int location);
void memory_store(int thread, int location, int choice, uint64_t value, int orders);
uint64_t memory_update(int thread, int location, enum model_how how, uint64_t value, int orders);

/* A strong compare-exchange: succeeds on the newest message only, fails on any that differs. */
int memory_compare_choices(int thread, int location, uint64_t expected);
uint64_t memory_compare(int thread, int location, int choice, uint64_t expected, uint64_t value,
                        int orders, bool *done);

void memory_fence(int thread, int orders);
/* In another's stead: the processor's part. What the compiler hoisted, it hoisted. */
void memory_remote_fence(int thread, int orders);
/* `present`: the compiler keeps later loads below. A relaxed load after a store may otherwise be
 * hoisted above it, and so above a barrier that was executed in this thread's stead between. */
void memory_compiler_barrier(int thread);

/* NULL, or how the access races. */
const char *memory_plain_store(int thread, int location, uint64_t value);
const char *memory_plain_load(int thread, int location, uint64_t *value);

uint64_t memory_latest(int location);
int memory_writer(int location); /* of the newest */
/* NULL, or how freeing what lies there races. */
const char *memory_free(int thread, const void *block, size_t len);
bool memory_is_freed(int location);
void memory_publish(int thread, struct view *view);
void memory_receive(int thread, const struct view *view);

uint64_t memory_hash(uint64_t seed);
uint64_t hash_word(uint64_t seed, uint64_t word);
uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t len);

#endif
