/*
 * script.h: the fuzzer's bytes, read as a script. What is missing reads as zero, so every input is
 * a script and a prefix of a script is one too.
 */
#ifndef SHMIPC_FUZZ_SCRIPT_H
#define SHMIPC_FUZZ_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct script {
    const uint8_t *bytes;
    size_t left;
};

static inline uint8_t script_u8(struct script *script)
{
    if (script->left == 0) {
        return 0;
    }
    script->left--;
    return *script->bytes++;
}

static inline uint16_t script_u16(struct script *script)
{
    const uint16_t low = script_u8(script);
    return (uint16_t)(low | script_u8(script) << 8);
}

static inline uint64_t script_u64(struct script *script)
{
    uint64_t value = 0;
    for (int i = 0; i < 64; i += 8) {
        value |= (uint64_t)script_u8(script) << i;
    }
    return value;
}

/* A broken promise: the fuzzer keeps the input and says where. */
#define REQUIRE(condition)                                                                        \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            (void)fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

#endif
