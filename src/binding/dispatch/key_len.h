/* key_len.h: bytes of a key: all that the binding knows of what an event is chosen by. */
#ifndef SHMIPC_BINDING_KEY_LEN_H
#define SHMIPC_BINDING_KEY_LEN_H

#define KEY_LEN 16 /* trading/event_layout.c asserts that a symbol is as wide */

#endif
