/* uses.c: what programs in C, and in C++ as plain C, have of our headers, under every warning. */
#include <shmipc.h>
#include <shmipc_events.h>

SHMIPC_DECLARE_ORDER_BOOK(deep_book, 25);

int main(void)
{
    static struct shmipc_tick tick;
    static struct deep_book book;
    struct shmipc_producer_options options;
    struct shmipc_producer *producer;
    int result;
    if (shmipc_symbol_set(tick.symbol, "BTCUSDT") != 0 ||
        shmipc_symbol_set_n(book.symbol, tick.symbol, sizeof tick.symbol) != 0) {
        return 2;
    }
    shmipc_producer_options_init(&options);
    options.spin_ns = SHMIPC_SPIN_ADAPTIVE;
    result = shmipc_producer_open(&producer, "strict", &options);
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_producer_send(producer, &tick, sizeof tick, SHMIPC_EVENT_KIND_TICK, 0,
                                      SHMIPC_FOREVER);
        shmipc_producer_free(producer);
    }
    return result == SHMIPC_SUCCESS ? 0 : 1;
}
