/* fills.cpp: the exchange of examples/engine.cpp, met by prices that no capture holds but a feed of
 * one's own may bring: NaN, which is not known, and infinity. */
#define main engine_main
#include "../../../../examples/engine.cpp"
#undef main

#include "../check.hpp"

namespace
{

constexpr double NEVER[] = {NOT_KNOWN, INFINITE, -INFINITE, 0.0, -1.0};

/* An exchange with one market and one strategy, whose reports go nowhere. */
struct Scene {
    std::map<std::string, Market> markets;
    Exchange exchange{markets, {}};
    Strategy who;
    Market *market = &markets.try_emplace("XY", "XY").first->second;

    Scene()
    {
        who.id = "who";
    }
    Event event(uint16_t kind) const
    {
        Event made;
        std::memset(static_cast<void *>(&made), 0, sizeof made);
        made.kind = kind;
        made.market = market;
        return made;
    }
    void quote(double bid, double bid_size, double ask, double ask_size)
    {
        Event made = event(SHMIPC_EVENT_KIND_TICK);
        made.tick.bid_price = bid, made.tick.bid_size = bid_size;
        made.tick.ask_price = ask, made.tick.ask_size = ask_size;
        exchange.on_event(made);
    }
    void book(double bid, double bid_size, double ask, double ask_size)
    {
        Event made = event(SHMIPC_EVENT_KIND_ORDER_BOOK);
        made.book.bid_prices[0] = bid, made.book.bid_sizes[0] = bid_size;
        made.book.ask_prices[0] = ask, made.book.ask_sizes[0] = ask_size;
        exchange.on_event(made);
    }
    void trade(double price, double size, int8_t aggressor)
    {
        Event made = event(SHMIPC_EVENT_KIND_TRADE_TICK);
        made.trade.price = price, made.trade.size = size, made.trade.aggressor_side = aggressor;
        exchange.on_event(made);
    }
    void order(int64_t id, int8_t side, double price)
    {
        shmipc_order made = {};
        const bool has_price = !std::isnan(price);
        CHECK(shmipc_symbol_set(made.symbol, "XY") == 0);
        made.client_order_id = id, made.price = price, made.quantity = 1, made.side = side;
        made.order_type = has_price ? SHMIPC_ORDER_TYPE_LIMIT : SHMIPC_ORDER_TYPE_MARKET;
        made.time_in_force = has_price ? SHMIPC_TIME_IN_FORCE_GTC : SHMIPC_TIME_IN_FORCE_IOC;
        made.action = SHMIPC_ORDER_ACTION_NEW;
        exchange.on_order(who, made);
    }
    /* Nothing was traded, and it can be still. */
    void check_untouched()
    {
        CHECK(who.fills == 0 && who.positions.empty());
        quote(9, 1, 11, 1);
        order(100, SHMIPC_SIDE_BUY, NOT_KNOWN);
        CHECK(who.fills == 1 && who.positions.at("XY").average_price == 11);
    }
};

} // namespace

TEST(an_order_that_comes_does_not_trade_at_no_price)
{
    for (const double price : NEVER) {
        Scene scene;
        scene.quote(price, 1, price, 1);
        scene.order(1, SHMIPC_SIDE_BUY, NOT_KNOWN);
        scene.order(2, SHMIPC_SIDE_SELL, NOT_KNOWN);
        scene.book(price, 1, price, 1);
        scene.order(3, SHMIPC_SIDE_BUY, NOT_KNOWN);
        scene.order(4, SHMIPC_SIDE_SELL, NOT_KNOWN);
        scene.check_untouched();
    }
}

TEST(an_order_that_rests_is_not_reached_by_no_price)
{
    for (const double price : NEVER) {
        Scene scene;
        scene.order(1, SHMIPC_SIDE_BUY, 10);
        scene.order(2, SHMIPC_SIDE_SELL, 12);
        scene.trade(price, 5, SHMIPC_SIDE_BUY);
        scene.trade(price, 5, SHMIPC_SIDE_SELL);
        scene.quote(price, 5, price, 5);
        scene.book(price, 5, price, 5);
        CHECK(scene.who.open.size() == 2);
        scene.check_untouched();
    }
}

TEST(a_size_that_is_not_known_trades_nothing)
{
    for (const double size : NEVER) {
        Scene scene;
        scene.order(1, SHMIPC_SIDE_BUY, 10);
        scene.trade(10, size, SHMIPC_SIDE_SELL);
        scene.quote(9, size, 10, size);
        scene.order(2, SHMIPC_SIDE_BUY, NOT_KNOWN);
        CHECK(scene.who.open.size() == 1);
        scene.check_untouched();
    }
}

TEST(prices_that_are_known_trade)
{
    Scene scene;
    scene.order(1, SHMIPC_SIDE_BUY, 10);
    scene.trade(10, 0.25, SHMIPC_SIDE_SELL);
    scene.quote(9, 1, 10, 0.25);
    scene.quote(9, 1, 10, 0.25); /* shown again: it is taken already */
    CHECK(scene.who.fills == 2 && scene.who.open.at(1).filled_quantity == 0.5);
}

int main()
{
    int passed = 0;
    for (const check::Test *test = check::first; test != nullptr; test = test->next) {
        test->run();
        passed++;
    }
    (void)std::printf("%d tests passed\n", passed);
    return 0;
}
