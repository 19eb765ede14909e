/*
 * dtype_word.h: the words that a dtype is made of: formats of one element, and names.
 *
 * Owns:     which formats there are, their canonical spelling and size; which characters a name may
 *           have.
 * Must not know: fields, shapes, schemas.
 */
#ifndef SHMIPC_DTYPE_WORD_H
#define SHMIPC_DTYPE_WORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHMIPC_MAX_DTYPE_LEN UINT64_C(0x7fffffff) /* numpy 1 keeps a dtype's size in an int */

struct shmipc_format {
    char text[48]; /* canonical, in quotes */
    uint64_t len;  /* bytes of an element */
    bool is_void;
};

/* Read a format of `len` characters. NULL, or what is wrong with it: a sentence without its
 * subject. */
const char *shmipc_format_read(const char *text, size_t len, struct shmipc_format *format);

/* Read digits, as many as there are, into *number: `limit` + 1 if it is above `limit`, which is
 * above 9. Moves *at. False: there are none. */
bool shmipc_number_read(const char **at, uint64_t limit, uint64_t *number);

/* Bytes of the character that `text`, which ends with a zero byte, starts with, if a name may have
 * it; else 0. */
size_t shmipc_letter_len(const char *text);

#endif
