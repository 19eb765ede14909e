/*
 * literal.c: what of a peer's text may be given to Python's parser. The parser recurses, warns, and
 * runs out of memory over what a peer can think of; over what passes here it does none of these.
 */
#include "literal.h"

#define MAX_DEPTH 64  /* of brackets: a dtype within a dtype takes two */
#define MAX_DIGITS 20 /* of a number: none has more than 64 bits */

/* Where the string that starts at `i` ends, or `len` if it does not, or holds what repr() escapes.
 */
static size_t end_of_string(const char *text, size_t len, size_t i)
{
    const char quote = text[i];
    for (i++; i < len && text[i] != quote; i++) {
        const bool escape = text[i] == '\\';
        if (escape && ++i == len) {
            return len;
        }
        if ((unsigned char)text[i] < ' ' || (escape && strchr("\\'\"nrtxuU", text[i]) == NULL)) {
            return len;
        }
    }
    return i;
}

bool literal_is_plain(const char *text, size_t len)
{
    char closers[MAX_DEPTH];
    size_t depth = 0;
    size_t digits = 0;        /* of the number we are in */
    bool awaits_value = true; /* no: only a comma or the end of a bracket may come */
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        const bool digit = c >= '0' && c <= '9';
        const bool opens = c == '(' || c == '[' || c == '\'' || c == '"' || (digit && digits == 0);
        digits = digit ? digits + 1 : 0;
        if (digits > MAX_DIGITS || (opens && !awaits_value) ||
            (depth == 0 && (i > 0 || c != '('))) {
            return false;
        }
        if (c == '(' || c == '[') {
            if (depth == MAX_DEPTH) {
                return false;
            }
            closers[depth++] = c == '(' ? ')' : ']';
        } else if (c == ')' || c == ']') {
            if (closers[--depth] != c) {
                return false;
            }
            awaits_value = false;
        } else if (c == '\'' || c == '"') {
            i = end_of_string(text, len, i);
            awaits_value = false;
        } else if (c == ',') {
            awaits_value = true;
        } else if (digit) {
            awaits_value = false;
        } else if (c != ' ') {
            return false;
        }
    }
    return len > 0 && depth == 0;
}
