/*
 * event_layout.c: asserts that the event dtypes lie as the binding takes them to lie.
 *
 * A file of its own: struct shmipc_status of shmipc_events.h and enum shmipc_status of core/ share
 * a tag, so that no file can include both.
 */
#include "../../../shmipc/include/shmipc_events.h"
#include "../dispatch/key_len.h"

static_assert(KEY_LEN == SHMIPC_SYMBOL_LEN + 1, "width of a symbol");
static_assert(KEY_LEN == sizeof((struct shmipc_custom *)0)->symbol, "width of a symbol");
static_assert(offsetof(struct shmipc_custom, symbol) == 0, "an event begins with its symbol");
/* order_side_of() of order_pad.h */
static_assert(SHMIPC_SIDE_BUY == 1 && SHMIPC_SIDE_SELL == -1, "sides of an order");
