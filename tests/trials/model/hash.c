/* hash.c: 64 bits that tell states apart. See memory.h. */
#include "memory.h"

#include <string.h>

uint64_t hash_word(uint64_t hash, uint64_t word)
{
    /* The odd addend keeps a run of zeros from leaving the hash as it was. */
    hash = ((hash ^ word) + UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0x9fb21c651e98df25);
    return hash ^ (hash >> 32);
}

uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    uint64_t word;
    for (; len >= 8; at += 8, len -= 8) {
        memcpy(&word, at, 8);
        seed = hash_word(seed, word);
    }
    word = 0;
    memcpy(&word, at, len);
    return hash_word(seed, word ^ ((uint64_t)len << 56));
}
