/* An engine of one strategy, spinning: how long from a tick, through on_tick, to its order here.
 *
 *   engine_roundtrip NAME ROUNDS [FILE]
 *
 * A round: broadcast a Tick whose ask price is the round's number, then look for an order until one
 * is there, and compare its price with what was due. Then, with the clock stopped, the order is
 * reported filled and the strategy, whose id is "buyer", has time to book that. FILE gets three
 * times of every round, CLOCK_MONOTONIC: before the broadcast, after it, when the order was there.
 * The first WARM rounds are not in the figures. scenarios/engine.py has the strategy.
 */
#include "bench.h"

#include "shmipc.hpp"
#include "shmipc_events.h"

#include <chrono>
#include <exception>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;

constexpr uint64_t WARM = 500;
constexpr uint64_t REST_NS = 10'000; /* for the strategy to book a fill */
constexpr auto PATIENCE = 20s;

struct Round {
    uint64_t began, sent, came;
};

/* Wait for HELLO, and let the strategy in. */
void meet(shmipc::Consumer<> &orders, shmipc::Producer<> &reports, shmipc::Producer<> &events) {
    shmipc_hello hello;
    for (;;) {
        const shmipc::Message message = orders.peek(PATIENCE);
        if (message.kind() == SHMIPC_CONTROL_HELLO) {
            hello = message.as<shmipc_hello>();
            orders.release();
            break;
        }
        orders.release();
    }
    shmipc_welcome welcome = {};
    welcome.session = hello.session;
    welcome.engine_session = 1;
    welcome.seq = static_cast<int64_t>(events.stats().count);
    welcome.version = SHMIPC_EVENTS_VERSION;
    welcome.book_levels = SHMIPC_DEFAULT_LEVELS;
    welcome.instruments = welcome.symbols = -1;
    reports.send(welcome, SHMIPC_CONTROL_WELCOME);
    shmipc_snapshot_end end = {};
    end.session = hello.session;
    reports.send(end, SHMIPC_CONTROL_SNAPSHOT_END);
}

/* Look for an order until one is there; what else comes says how the strategy fares. */
shmipc_order await_order(shmipc::Consumer<> &orders) {
    for (;;) {
        const auto message = orders.try_peek();
        if (!message)
            continue;
        const bool is_order = message->kind() == SHMIPC_EVENT_KIND_ORDER;
        shmipc_order order = {};
        if (is_order)
            order = message->as<shmipc_order>();
        orders.release();
        if (is_order)
            return order;
    }
}

void run(const std::string &name, uint64_t rounds, std::FILE *file) {
    shmipc::ProducerOptions how;
    how.spin = shmipc::forever;
    shmipc::Producer<> reports(name + ".buyer.reports", how);
    how.max_consumers = 2;
    shmipc::Producer<> events(name + ".events", how);
    shmipc::ConsumerOptions from;
    from.spin = shmipc::forever;
    from.timeout = PATIENCE;
    shmipc::Consumer<> orders(name + ".buyer.orders", from);
    meet(orders, reports, events);

    std::vector<Round> taken(WARM + rounds);
    shmipc_tick tick = {};
    shmipc_symbol_set(tick.symbol, "BTCUSDT");
    tick.ts_event = tick.ts_init = 1;
    for (uint64_t i = 0; i < taken.size(); i++) {
        Round &round = taken[i];
        tick.ask_price = static_cast<double>(i);
        round.began = bench_now_ns();
        events.send(tick, SHMIPC_EVENT_KIND_TICK);
        if (file)
            round.sent = bench_now_ns();
        shmipc_order order = await_order(orders);
        const bool is_due = order.price == tick.ask_price && order.quantity == 1.0;
        round.came = bench_now_ns();
        if (!is_due)
            bench_fail("another order came than was due");
        order.status = SHMIPC_ORDER_STATUS_FILLED;
        order.filled_quantity = order.quantity;
        reports.send(order, SHMIPC_EVENT_KIND_ORDER);
        while (bench_now_ns() < round.came + REST_NS)
            ;
    }
    if (file && std::fwrite(taken.data(), sizeof(Round), taken.size(), file) != taken.size())
        bench_fail("cannot write the times");
    std::vector<double> sample;
    for (uint64_t i = WARM; i < taken.size(); i++)
        sample.push_back(static_cast<double>(taken[i].came - taken[i].began));
    qsort(sample.data(), sample.size(), sizeof(double), bench_order);
    std::printf("rtt_ns_p50=%.1f\nrtt_each_ns_p99=%.1f\nrtt_each_ns_p999=%.1f\n",
                sample[sample.size() / 2], sample[sample.size() * 99 / 100],
                sample[sample.size() * 999 / 1000]);
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4)
        bench_fail("usage: engine_roundtrip NAME ROUNDS [FILE]");
    alarm(60);
    bench_pin(0);
    std::FILE *file = argc == 4 ? std::fopen(argv[3], "wb") : nullptr;
    if (argc == 4 && !file)
        bench_fail("cannot open the file for the times");
    try {
        run(argv[1], std::strtoul(argv[2], nullptr, 10), file);
    } catch (const std::exception &error) {
        bench_fail(error.what());
    }
    return file && std::fclose(file) != 0;
}
