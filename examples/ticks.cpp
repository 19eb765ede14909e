// Typed records from C++: `ticks produce` in one terminal, `ticks consume` in another.
//     c++ -std=c++17 ticks.cpp $(python -m shmipc --cflags --libs) -o ticks
// In Python:  for frame in shmipc.Consumer("ticks"): print(frame.array["price"])
#include <shmipc.hpp>

#include <cstdint>
#include <cstdio>
#include <string_view>

struct Tick {
    std::int64_t time;
    double price, size;
};
SHMIPC_RECORD(Tick, time, price, size);

int main(int, char **arguments) {
    if (std::string_view(arguments[1] ? arguments[1] : "") == "produce") {
        shmipc::Producer<Tick> ticks("ticks");
        for (int i = 0; i < 1'000'000; i++) {
            ticks.send({i, 61'800 + i % 10 * 0.1, 0.5}); // waits while the ring is full
        }
    } else {
        double turnover = 0, count = 0;
        for (const Tick &tick : shmipc::Consumer<Tick>("ticks")) { // until the producer is done
            turnover += tick.price * tick.size, count++;
        }
        std::printf("%.0f ticks, turnover %.2f\n", count, turnover);
        return count > 0 ? 0 : 1; // 1: it ended before the first
    }
}
