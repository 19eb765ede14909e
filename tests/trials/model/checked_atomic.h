/*
 * checked_atomic.h: stands in for src/core/base/atomic.h when the model is built (`-include`, with
 * the same include guard), so that every access of the real core to shared memory becomes a step of
 * the machine in machine.h.
 *
 * Owns:     the same names as atomic.h, each bound to its site: file, line, what is accessed and
 *           the order asked for. A site is what the runner weakens.
 */
#ifndef SHMIPC_ATOMIC_H
#define SHMIPC_ATOMIC_H

#include "../../../src/core/base/layout.h"
#include "machine.h"

#include <stdbool.h>

#define MODEL_SITE(text, orders)                                                               \
    (__extension__({                                                                           \
        static struct model_site site = {__FILE__, __LINE__, __func__, (text),                 \
                                         (orders), false,    false,    0};                     \
        static struct model_site *const listed __attribute__((section("model_sites"), used)) = \
            &site;                                                                             \
        listed;                                                                                \
    }))

#define MODEL_LOAD(name, object, orders)                                                     \
    ((__typeof__(*(object)))model_load(MODEL_SITE(name "(" #object ")", (orders)), (object), \
                                       sizeof *(object)))
#define MODEL_STORE(name, object, value, orders)                                         \
    model_store(MODEL_SITE(name "(" #object ")", (orders)), (object), (uint64_t)(value), \
                sizeof *(object))
#define MODEL_UPDATE(name, object, how, value, orders)                                         \
    ((__typeof__(*(object)))model_update(MODEL_SITE(name "(" #object ")", (orders)), (object), \
                                         (how), (uint64_t)(value), sizeof *(object)))
#define MODEL_COMPARE(name, object, expected, value, orders)                                  \
    (__extension__({                                                                          \
        uint64_t expected_word = (uint64_t) * (expected);                                     \
        const bool done = model_compare(MODEL_SITE(name "(" #object ")", (orders)), (object), \
                                        &expected_word, (uint64_t)(value), sizeof *(object)); \
        *(expected) = (__typeof__(*(expected)))expected_word;                                 \
        done;                                                                                 \
    }))

#define shmipc_load_relaxed(object) MODEL_LOAD("load_relaxed", object, 0)
#define shmipc_load_before_fence(object) shmipc_load_relaxed(object)
#define shmipc_load_acquire(object) MODEL_LOAD("load_acquire", object, MODEL_ACQUIRE)
#define shmipc_store_relaxed(object, value) MODEL_STORE("store_relaxed", object, value, 0)
#define shmipc_store_release(object, value) \
    MODEL_STORE("store_release", object, value, MODEL_RELEASE)
#define shmipc_compare_exchange_relaxed(object, expected, value) \
    MODEL_COMPARE("compare_exchange_relaxed", object, expected, value, 0)
#define shmipc_compare_exchange_acquire(object, expected, value) \
    MODEL_COMPARE("compare_exchange_acquire", object, expected, value, MODEL_ACQUIRE)
#define shmipc_compare_exchange_release(object, expected, value) \
    MODEL_COMPARE("compare_exchange_release", object, expected, value, MODEL_RELEASE)
#define shmipc_exchange_acquire(object, value) \
    MODEL_UPDATE("exchange_acquire", object, MODEL_EXCHANGE, value, MODEL_ACQUIRE)
#define shmipc_fetch_add_relaxed(object, value) \
    MODEL_UPDATE("fetch_add_relaxed", object, MODEL_ADD, value, 0)
#define shmipc_fetch_sub_release(object, value) \
    MODEL_UPDATE("fetch_sub_release", object, MODEL_SUB, value, MODEL_RELEASE)
#define shmipc_fetch_or_relaxed(object, value) \
    MODEL_UPDATE("fetch_or_relaxed", object, MODEL_OR, value, 0)
#define shmipc_fetch_and_release(object, value) \
    MODEL_UPDATE("fetch_and_release", object, MODEL_AND, value, MODEL_RELEASE)

#define shmipc_fence_acquire() model_fence(MODEL_SITE("fence_acquire", MODEL_ACQUIRE))
#define shmipc_fence_release() model_fence(MODEL_SITE("fence_release", MODEL_RELEASE))
#define shmipc_fence_full() model_fence(MODEL_SITE("fence_full", MODEL_FULL))
#define shmipc_barrier_light(asymmetric)                                  \
    ((asymmetric) ? model_light(MODEL_SITE("barrier_light", MODEL_LIGHT)) \
                  : model_fence(MODEL_SITE("barrier_light, fenced", MODEL_FULL)))

#define shmipc_fence_copied() model_fence_copied(MODEL_SITE("fence_copied", MODEL_ACQUIRE))

/* The copy of an "overwrite" reader must be atomic word by word to be a step of the machine. */
#define SHMIPC_COPY_BY_WORD 1

#define SHMIPC_LIKELY(condition) (condition)
#define SHMIPC_UNLIKELY(condition) (condition)
#define shmipc_cpu_relax() ((void)0)
#define shmipc_cpu_linger(ticks) ((void)(ticks))
#define shmipc_cpu_ticks() UINT64_C(0)
#define shmipc_prefetch_for_write(address) ((void)(address))
#define shmipc_prefetch_for_read(address) ((void)(address))

#endif
