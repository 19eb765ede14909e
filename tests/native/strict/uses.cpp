/* uses.cpp: everything of shmipc.hpp that is a template, made, under every warning. */
#include <shmipc.hpp>
#include <shmipc_events.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace
{

enum class Side : std::int8_t { sell = -1, buy = 1 };

struct Tick {
    std::int64_t time;
    double price;
    Side side;
    char symbol[8];
    std::array<float, 3> levels;
};
SHMIPC_RECORD(Tick, time, price, side, symbol, levels);

} // namespace

namespace
{

void send_and_take_messages()
{
    shmipc::ProducerOptions options;
    options.capacity = 4096;
    std::error_code error;
    shmipc::Producer<> out("messages", options, error);
    shmipc::Consumer<> in("messages");
    const Tick tick{1, 2.5, Side::buy, {'B', 'T', 'C', 0, 0, 0, 0, 0}, {}};
    const std::vector<std::int32_t> numbers{1, 2, 3};
    out.send_text("text");
    out.send_text(tick.symbol, 2, 0, shmipc::no_wait, error);
    out.send(tick, 3);
    out.send(numbers);
    out.send(std::string_view("view"));
    if (out.try_send_text("more") && error != shmipc::Errc::full) {
        out.send(shmipc::Message(tick.symbol, sizeof tick.symbol, 4));
    }
    auto room = out.reserve(sizeof tick);
    room.as<Tick>() = tick;
    room.commit(room.size(), 5);
    std::array<shmipc::Message, 4> messages;
    in.release(in.peek_n(messages.data(), messages.size()));
    const shmipc::Frame<void> frame = in.read();
    std::array<char, 64> buffer;
    const shmipc::Message copy = in.recv(buffer.data(), buffer.size());
    const Tick *object = copy.try_as<Tick>();
    std::printf("%zu %zu %d\n", frame.size(), copy.size(), object == nullptr ? 0 : 1);
    out.close();
    for (const shmipc::Message message : in) {
        std::printf("%u\n", message.kind());
    }
}

void send_and_take_items()
{
    shmipc::Producer<Tick> out(std::string("items"));
    shmipc::Consumer<Tick> in("items");
    Tick tick{};
    std::error_code error;
    out.send(tick);
    out.send_n(std::vector<Tick>(3));
    tick = in.recv();
    in.recv_into(tick);
    if (in.try_recv_into(tick) && in.recv_into(tick, std::chrono::milliseconds(1), error)) {
        std::printf("%d\n", error == shmipc::Errc::empty ? 1 : 0);
    }
    const std::array<bool, 1> ready = shmipc::wait_any(shmipc::no_wait, in);
    out.close();
    for (const Tick &one : in) {
        std::printf("%.1f %d\n", one.price, ready[0] ? 1 : 0);
    }
}

void send_and_take_arrays()
{
    shmipc::ProducerOptions options;
    options.shape = {2, 2};
    shmipc::Producer<float[]> out("arrays", options);
    shmipc::Consumer<float[]> in("arrays");
    out.send(std::array<float, 4>{});
    const shmipc::Frame<float[]> frame = in.read();
    for (const shmipc::View<const float> image : frame) {
        for (const float pixel : image) {
            std::printf("%.1f\n", static_cast<double>(pixel));
        }
    }
}

} // namespace

int main()
{
    shmipc_tick tick = {};
    if (shmipc_symbol_set(tick.symbol, "BTCUSDT") != 0) {
        return 1;
    }
    try {
        send_and_take_messages();
        send_and_take_items();
        send_and_take_arrays();
    } catch (const shmipc::Error &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
