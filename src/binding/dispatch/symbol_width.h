/* symbol_width.h: the one number that the binding knows of an event's layout. */
#ifndef SHMIPC_BINDING_SYMBOL_WIDTH_H
#define SHMIPC_BINDING_SYMBOL_WIDTH_H

#define SYMBOL_FIELD_LEN 16 /* bytes; event_layout.c asserts that the event dtypes say so too */

#endif
