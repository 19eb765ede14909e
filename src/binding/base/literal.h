/* literal.h: is a text a plain literal? */
#ifndef SHMIPC_BINDING_LITERAL_H
#define SHMIPC_BINDING_LITERAL_H

#include "state.h"

/* Is this a tuple, written as repr() writes it, of nothing but tuples, lists, strings and numbers
 * without a sign, neither deep nor long? Then ast.literal_eval has it, or says SyntaxError. */
bool literal_is_plain(const char *text, size_t len);

#endif
