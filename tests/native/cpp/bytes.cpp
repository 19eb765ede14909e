/* bytes.cpp: what of an array is sent, and what of a text: never less than is meant, and never a
 * byte behind it. Under the address sanitizer too. */
#include "check.hpp"
#include "records.hpp"

#include <cstring>
#include <memory>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using shmipc::Consumer;
using shmipc::Errc;
using shmipc::Message;
using shmipc::Producer;

namespace
{

/* A field that is full has no zero byte at its end, and a neighbour. */
struct Order {
    char symbol[8];
    char secret[8];
    char id[16];
};

Order an_order()
{
    Order order;
    std::memcpy(order.symbol, "BTCUSDT2", 8);
    std::memcpy(order.secret, "password", 8);
    std::memcpy(order.id, "\0\1\2\3\0\0\0\0\10\11\12\13\14\15\16\0", 16);
    return order;
}

std::string next(Consumer<> &in)
{
    const std::string text(in.peek(1s).text());
    in.release();
    return text;
}

} // namespace

TEST(a_text_ends_with_its_field)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    Order order = an_order();
    const Order &seen = order;
    std::error_code code;
    out.send_text(order.symbol);
    out.send_text(seen.symbol, 7, 8, 1s);
    CHECK(out.send_text(seen.symbol, 1, 0, 0, code) && !code);
    CHECK(out.try_send_text(order.symbol) && out.try_send_text(order.symbol, 1, 0, code));
    for (int i = 0; i < 5; i++) {
        CHECK(next(in) == "BTCUSDT2");
    }
    std::strcpy(order.symbol, "BTC"); /* what was behind it is still there */
    out.send_text(order.symbol);
    std::memcpy(order.symbol, "ETH\0\0\0\0", 8);
    out.send_text(seen.symbol);
    CHECK(next(in) == "BTC" && next(in) == "ETH");
}

TEST(a_text_is_sent_as_it_stands)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    const char *pointer = "pointer";
    const char letters[] = {'a', 'b'};
    out.send_text("literal");
    out.send_text("");
    out.send_text(pointer);
    out.send_text(letters);
    out.send_text(std::string("a\0b", 3));
    out.send_text(std::string_view("a\0b\0", 4));
    CHECK(next(in) == "literal" && next(in).empty() && next(in) == "pointer");
    CHECK(next(in) == "ab" && next(in) == std::string("a\0b", 3));
    CHECK(next(in) == std::string("a\0b\0", 4));
}

TEST(a_text_that_would_be_cut_is_refused)
{
    Producer<> out("ring");
    std::error_code code;
    const char *none = nullptr;
    CHECK(contains(THROWN(shmipc::InvalidArgument, out.send_text("a\0b")), "zero byte"));
    THROWS(shmipc::InvalidArgument, out.try_send_text("a\0b"));
    THROWS(shmipc::InvalidArgument, out.send_text(none));
    CHECK(!out.send_text("a\0b", 1, 0, 1s, code) && code == Errc::invalid);
    CHECK(!out.try_send_text("a\0b", 1, 0, code) && code == Errc::invalid);
    CHECK(out.stats().count == 0);
}

TEST(bytes_go_whole)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    const Order order = an_order();
    const std::string id(order.id, sizeof order.id);
    unsigned char bytes[16];
    signed char numbers[16];
    std::byte raw[16];
    std::array<char, 16> array;
    for (void *copy : {static_cast<void *>(bytes), static_cast<void *>(numbers),
                       static_cast<void *>(raw), static_cast<void *>(array.data())}) {
        std::memcpy(copy, order.id, 16);
    }
    out.send(bytes);
    out.send(numbers);
    out.send(raw);
    out.send(array);
    out.send(std::string_view(order.id, sizeof order.id));
    out.send(Message(order.id, sizeof order.id));
    for (int i = 0; i < 6; i++) {
        CHECK(next(in) == id);
    }
    out.send(order);
    CHECK(next(in).size() == sizeof(Order));
}

TEST(the_name_of_a_ring_may_be_a_full_field)
{
    const Order order = an_order();
    Producer<double> out(order.symbol);
    Consumer<double> in(order.symbol);
    CHECK(out.info().name == std::string("BTCUSDT2"));
    const std::string_view longer = "BTCUSDT2 and more";
    shmipc::ConsumerOptions soon;
    soon.timeout = 0;
    THROWS(shmipc::Busy, Consumer<double>(longer.substr(0, 8), soon));
}

TEST(a_name_that_would_be_cut_is_refused)
{
    std::error_code code;
    const char *none = nullptr;
    CHECK(contains(THROWN(shmipc::InvalidArgument, Producer<>("a\0b")), "zero byte"));
    CHECK(contains(THROWN(shmipc::InvalidArgument, Producer<>(std::string("a\0b", 3))),
                   "the name of ring"));
    THROWS(shmipc::InvalidArgument, (void)Producer<>(none).handle());
    const Producer<> refused(std::string("a\0b", 3), {}, code);
    CHECK(!refused && code == Errc::invalid);
    shmipc::ConsumerOptions options;
    options.timeout = 0;
    THROWS(shmipc::InvalidArgument, Consumer<>(std::string("a\0b", 3), options));
    shmipc::ProducerOptions dtype;
    dtype.dtype = std::string("<f8\0junk", 8);
    CHECK(contains(THROWN(shmipc::InvalidArgument, Producer<double>("a", dtype)), "the dtype"));
}

/* ---- alignment ------------------------------------------------------------------------------ */

namespace
{

struct alignas(64) Line {
    std::uint64_t number;
};
SHMIPC_RECORD(Line, number);

struct alignas(256) Block {
    std::uint64_t number;
    std::uint64_t rest[1000];
};
SHMIPC_RECORD(Block, number, rest);

template <class T> void check_alignment()
{
    shmipc::ProducerOptions options;
    options.capacity = 8;
    Producer<T> out("ring", options);
    Consumer<T> in("ring");
    const auto item = std::make_unique<T>();
    const auto copy = std::make_unique<T>();
    const auto is_aligned = [](const T *at) {
        return reinterpret_cast<std::uintptr_t>(at) % alignof(T) == 0;
    };
    for (std::uint64_t i = 0; i < 1000; i++) { /* many times round the ring */
        item->number = i;
        if (i % 2 == 0) {
            out.send(*item);
        } else {
            auto room = out.reserve();
            CHECK(is_aligned(room.data()));
            room[0] = *item;
            room.commit();
        }
        if (i % 3 == 0) {
            shmipc::Frame<T> frame = in.read(1s);
            CHECK(is_aligned(frame.data()) && frame->number == i);
        } else if (i % 3 == 1) {
            CHECK(is_aligned(in.try_peek()) && in.peek().number == i);
            in.release();
        } else {
            in.recv_into(*copy, 1s);
            CHECK(copy->number == i);
        }
    }
}

} // namespace

TEST(items_are_aligned_as_their_type_wants)
{
    check_alignment<Line>();
    check_alignment<Block>();
}

TEST(a_message_elsewhere_that_is_not_aligned_says_so)
{
    alignas(16) const char bytes[24] = "";
    CHECK(contains(THROWN(shmipc::SchemaMismatch, (void)Message(bytes + 4, 8).as<double>()),
                   "no multiple of 8"));
}

/* ---- large items ---------------------------------------------------------------------------- */

namespace
{

struct Huge {
    std::uint64_t number;
    std::uint8_t rest[16 << 20];
};
SHMIPC_RECORD(Huge, number, rest);

void take_huge_items()
{
    Consumer<Huge> in("ring");
    const auto item = std::make_unique<Huge>();
    std::error_code code;
    in.recv_into(*item);
    CHECK(item->number == 1);
    CHECK(in.recv_into(*item, 1s, code) && item->number == 2);
    CHECK(in.try_recv_into(*item) && item->number == 3);
    CHECK(in.read()->number == 4);
    CHECK(!in.try_recv_into(*item) && item->number == 3);
    CHECK(!in.recv_into(*item, 0, code) && code == Errc::empty);
    THROWS(shmipc::Empty, in.recv_into(*item, 1ms));
}

} // namespace

TEST(items_larger_than_a_stack_are_received_elsewhere)
{
    shmipc::ProducerOptions options;
    options.capacity = 4;
    Producer<Huge> out("ring", options);
    for (std::uint64_t i = 1; i <= 4; i++) {
        auto room = out.reserve();
        room[0].number = i;
        room.commit();
    }
    std::thread(take_huge_items).join(); /* a stack of 8 MiB at most */
}
