/* messages.cpp: message rings, with exceptions. */
#include "check.hpp"
#include "records.hpp"

#include <cstring>
#include <sys/stat.h>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using shmipc::Consumer;
using shmipc::Frame;
using shmipc::Message;
using shmipc::Producer;

static std::string text_of(const Message &message)
{
    return std::string(message.text());
}

TEST(whatever_is_plain_bytes_can_be_sent)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    const std::vector<std::uint16_t> numbers{1, 2, 3};
    const market::Tick tick{7, 1.5, 2.5f, market::Side::buy};
    out.send_text("literal");
    out.send(std::string("string"), 2);
    out.send(std::string_view("view"), 3, 4);
    out.send(numbers, 5, 6, 1s);
    out.send(tick, 7, 0, 0);
    out.send(Message("message", 3, 8, 9));
    out.send(std::array<char, 2>{'a', 'b'}, 65535, 65535);
    out.send_text("");
    const auto next = [&] {
        std::array<char, 64> buffer;
        const Message message = in.recv(buffer.data(), buffer.size(), 1s);
        return std::to_string(message.seq()) + ' ' + std::to_string(message.kind()) + ' ' +
               std::to_string(message.flags()) + ' ' + text_of(message);
    };
    CHECK(next() == "0 1 0 literal");
    CHECK(next() == "1 2 0 string");
    CHECK(next() == "2 3 4 view");
    CHECK(next() == std::string("3 5 6 \1\0\2\0\3\0", 12));
    const Message third = in.peek();
    CHECK(third.as<market::Tick>().price == 1.5 && third.kind() == 7 && third.seq() == 4);
    in.release();
    CHECK(next() == "5 8 9 mes" && next() == "6 65535 65535 ab");
    const Message empty = in.peek();
    CHECK(empty.empty() && empty.begin() == empty.end());
    in.release();
}

TEST(a_full_ring_is_false_or_full)
{
    shmipc::ProducerOptions options;
    options.capacity = 4096;
    Producer<> out("ring", options);
    Consumer<> in("ring");
    const std::string block(1000, 'x');
    std::size_t sent = 0;
    while (out.try_send(block)) {
        sent++;
    }
    CHECK(sent == out.info().capacity / 1024);
    CHECK(!out.try_send(Message(block.data(), block.size())));
    THROWS(shmipc::Full, out.send(block, 1, 0, 0));
    THROWS(shmipc::Full, out.send(block, 1, 0, 1ms));
    THROWS(shmipc::Full, out.send(Message(block.data(), block.size()), 0));
    THROWS(shmipc::Full, (void)out.reserve(1000, 0));
    CHECK(!out.try_reserve(1000));
    THROWS(shmipc::TooLarge, out.send(std::string(100'000, 'x')));
    THROWS(shmipc::InvalidArgument, out.send(block, 0));
    THROWS(shmipc::InvalidArgument, out.send(block, 65536));
    THROWS(shmipc::InvalidArgument, out.send(Message("x", 1, 65537)));
    THROWS(shmipc::InvalidArgument, out.send(Message("x", 1, 1, 65537)));
    in.peek();
    in.release();
    CHECK(out.try_send(block) && !out.try_send(block));
}

TEST(an_empty_ring_is_nothing_or_empty_and_the_end_is_closed)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    char buffer[8];
    CHECK(!in.try_peek() && !in.try_recv(buffer, 8) && !in.try_read() && !in.wait(0));
    THROWS(shmipc::Empty, in.peek(0));
    THROWS(shmipc::Empty, in.peek(1ms));
    THROWS(shmipc::Empty, in.recv(buffer, 8, 1ms));
    THROWS(shmipc::Empty, (void)in.read(0));
    THROWS(shmipc::Misuse, in.release());
    out.send_text("last");
    out.close();
    out.close();
    THROWS(shmipc::Closed, out.send_text("more"));
    CHECK(in.wait());
    CHECK(text_of(in.recv(buffer, 8)) == "last");
    THROWS(shmipc::Closed, in.peek());
    THROWS(shmipc::Closed, (void)in.try_peek());
    THROWS(shmipc::Closed, in.wait(1s));
    THROWS(shmipc::Closed, (void)in.read());
    in.close();
    in.close();
    THROWS(shmipc::Closed, in.peek(0));
}

TEST(what_is_peeked_stays_the_next_until_it_is_released)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    const std::array<Message, 3> messages{Message("one", 3, 1), Message("two", 3, 2),
                                          Message("three", 5, 3)};
    CHECK(out.send_n(messages.data(), messages.size()) == 3);
    CHECK(text_of(in.peek()) == "one" && text_of(*in.try_peek()) == "one");
    in.release();
    std::array<Message, 8> found;
    CHECK(in.peek_n(found.data(), found.size()) == 2 && text_of(found[1]) == "three");
    in.release(1);
    CHECK(in.try_peek_n(found.data(), 8) == 1 && text_of(found[0]) == "three" &&
          found[0].kind() == 3 && found[0].seq() == 2);
    CHECK(in.is_intact());
    in.release();
    CHECK(in.try_peek_n(found.data(), 8) == 0);
    THROWS(shmipc::Empty, in.peek_n(found.data(), 8, 1ms));
}

TEST(as_many_messages_are_sent_as_there_is_room_for)
{
    shmipc::ProducerOptions options;
    options.capacity = 4096;
    Producer<> out("ring", options);
    Consumer<> in("ring");
    const std::string block(1008, 'x');
    std::vector<Message> messages(100, Message(block.data(), block.size(), 9));
    const std::size_t sent = out.send_n(messages.data(), messages.size(), 0);
    CHECK(sent == out.info().capacity / 1024);
    std::size_t found = 0;
    for (; in.try_peek(); found++) {
        in.release();
    }
    CHECK(found == sent);
}

TEST(a_message_is_written_in_place)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    auto room = out.reserve(100);
    CHECK(room && room.size() == 100 && reinterpret_cast<std::uintptr_t>(room.data()) % 16 == 0);
    std::memcpy(room.data(), "in place", 8);
    THROWS(shmipc::Misuse, (void)out.reserve(1));
    THROWS(shmipc::Misuse, out.send_text("meanwhile"));
    CHECK(!in.try_peek());
    auto moved = std::move(room);
    CHECK(moved && !room && room.size() == 0); // NOLINT: looked at on purpose
    moved.commit(8, 5, 6);
    CHECK(!moved && moved.empty());
    THROWS(shmipc::InvalidArgument, moved.commit());
    Message message = in.peek();
    CHECK(text_of(message) == "in place" && message.kind() == 5 && message.flags() == 6);
    in.release();
    {
        auto given_up = out.try_reserve(10);
        CHECK(given_up);
    }
    auto object = out.reserve(sizeof(market::Tick), 1s);
    object.as<market::Tick>() = {1, 2, 3, market::Side::sell};
    THROWS(shmipc::TooLarge, (void)object.as<Large>());
    THROWS(shmipc::Misuse, (void)out.try_reserve(1));
    object.commit();
    message = in.peek();
    CHECK(message.as<market::Tick>().size == 3 && message.seq() == 1 && message.kind() == 1);
    in.release();
    object = out.reserve(1);
    object.abort();
    object.abort();
    object = out.reserve(2);
    object = {};
    out.send_text("free again");
}

TEST(a_message_is_an_object_only_if_it_has_its_size)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    out.send(std::uint64_t(5));
    const Message message = in.peek();
    CHECK(message.as<std::uint64_t>() == 5 && *message.try_as<double>() > 0);
    CHECK(message.try_as<std::uint32_t>() == nullptr);
    CHECK(contains(THROWN(shmipc::SchemaMismatch, (void)message.as<market::Tick>()),
                   "a message of 8 bytes is no object of 24 bytes"));
    in.release();
    alignas(16) const char bytes[24] = "";
    CHECK(Message(bytes + 8, 8).try_as<double>() != nullptr);
    CHECK(Message(bytes + 4, 8).try_as<double>() == nullptr);
}

TEST(a_message_that_does_not_fit_stays_unread)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    char buffer[8];
    out.send_text("longer than eight");
    THROWS(shmipc::TooLarge, in.recv(buffer, sizeof buffer));
    CHECK(text_of(in.peek()) == "longer than eight");
    in.release();
}

TEST(a_frame_outlives_its_consumer)
{
    Producer<> out("ring");
    Frame<void> kept;
    CHECK(!kept && kept.empty());
    {
        Consumer<> in("ring");
        for (const char *text : {"one", "two", "three"}) {
            out.send(std::string(text), 4);
        }
        Frame<void> one = in.read();
        Frame<void> two = in.try_read();
        THROWS(shmipc::Misuse, [&] {
            in.peek();
            (void)in.read();
        }());
        in.release();
        CHECK(one && text_of(*one) == "one" && two->text() == "two" && two->kind() == 4);
        CHECK(in.stats().frames == 2);
        kept = std::move(two);
        one.release();
        CHECK(!one && one.empty() && in.stats().frames == 1);
    }
    CHECK(kept && kept.text() == "two" && kept.seq() == 1 && kept.is_intact());
    Frame<void> moved(std::move(kept));
    out.close();
    CHECK(moved->text() == "two" && !kept && kept.empty()); // NOLINT: looked at on purpose
}

TEST(a_loop_over_a_consumer_ends_with_the_stream)
{
    Producer<> out("ring");
    Consumer<> in("ring");
    for (int i = 0; i < 10; i++) {
        out.send(i);
    }
    int next = 0;
    for (const Message message : in) {
        CHECK(message.as<int>() == next);
        if (next++ == 3) {
            break; /* it was looked at: released */
        }
    }
    try {
        for (const Message &message : in) {
            CHECK(message.as<int>() == 4);
            throw 4; /* it was not worked off: the next again */
        }
    } catch (int) {
    }
    out.close();
    for (const Message &message : in) {
        CHECK(message.as<int>() == next++);
    }
    CHECK(next == 10);
    THROWS(shmipc::Closed, in.peek());
    for (const Message &message : in) {
        CHECK(message.empty() && false);
    }
}

TEST(what_was_overwritten_while_it_was_viewed_is_an_overrun)
{
    shmipc::ProducerOptions options;
    options.capacity = 4096;
    options.overflow = shmipc::Overflow::overwrite;
    Producer<> out("ring", options);
    Consumer<> in("ring");
    const std::string block(1000, 'x');
    out.send(block);
    in.peek();
    CHECK(in.is_intact());
    for (int i = 0; i < 100; i++) {
        out.send(block);
    }
    CHECK(!in.is_intact());
    THROWS(shmipc::Overrun, in.release());
    Frame<void> frame = in.read();
    CHECK(frame.is_intact());
    for (int i = 0; i < 100; i++) {
        out.send(block);
    }
    CHECK(!frame.is_intact());
    frame.release();
    out.send_text("last");
    out.close();
    std::size_t found = 0;
    for (const Message &message : in) {
        found += message.empty() ? 0 : 1;
    }
    CHECK(found > 0 && in.stats().lost > 0);
}

TEST(what_is_held_for_two_reaches_both_from_message_0_on)
{
    shmipc::ProducerOptions options;
    options.max_consumers = 3;
    options.hold_for = 4;
    THROWS(shmipc::InvalidArgument, Producer<>("ring", options));
    options.hold_for = 2;
    Producer<> out("ring", options);
    out.send_text("first");
    out.send_text("second");
    out.close();
    for (int i = 0; i < 2; i++) {
        Consumer<> in("ring");
        std::size_t found = 0;
        for (const Message &message : in) {
            CHECK(message.text() == (found++ == 0 ? "first" : "second"));
        }
        CHECK(found == 2);
    }
}

TEST(handles_move_and_close_themselves)
{
    Producer<> out;
    CHECK(!out && out.handle() == nullptr);
    THROWS(shmipc::InvalidArgument, out.send_text("x"));
    THROWS(shmipc::InvalidArgument, (void)out.info());
    out.close();
    out = Producer<>("ring");
    CHECK(out && std::string(out.info().name) == "ring");
    Producer<> moved(std::move(out));
    CHECK(moved && !out); // NOLINT: looked at on purpose
    THROWS(shmipc::Busy, Producer<>("ring"));
    THROWS(shmipc::NotFound, moved.wait_for_consumers(1, 1ms));
    Consumer<> in("ring");
    std::vector<Consumer<>> consumers;
    consumers.push_back(std::move(in));
    moved.wait_for_consumers(1, 1s);
    THROWS(shmipc::InvalidArgument, moved.wait_for_consumers(2, 1ms));
    THROWS(shmipc::Busy, Consumer<>("ring"));
    consumers.clear();
    Consumer<> next("ring");
    moved.send_text("x");
    CHECK(next.stats().lag == 1 && moved.stats().count == 1 && moved.stats().attached == 1);
    moved = Producer<>("other");
    CHECK(text_of(next.peek()) == "x");
    next.release();
    THROWS(shmipc::Closed, next.peek());
}

TEST(what_cannot_be_opened_says_why)
{
    shmipc::ConsumerOptions soon;
    soon.timeout = 1ms;
    CHECK(contains(THROWN(shmipc::NotFound, Consumer<>("nowhere", soon)), "nowhere"));
    CHECK(contains(THROWN(shmipc::InvalidArgument, Producer<>("no/name")), "no/name"));
    shmipc::ProducerOptions options;
    options.max_consumers = 100'000;
    THROWS(shmipc::InvalidArgument, Producer<>("ring", options));
    options.max_consumers = 2;
    options.spin = 0;
    options.mode = 0640;
    Producer<> out("ring", options);
    CHECK(out.info().max_consumers == 2 && out.info().overflow == SHMIPC_BLOCK &&
          !out.info().typed);
    struct stat file;
    CHECK(::stat((std::string(std::getenv("SHMIPC_DIR")) + "/shmipc.ring").c_str(), &file) == 0 &&
          (file.st_mode & 0777) == 0640);
    out.send_text("before");
    Consumer<> late("ring", soon);
    CHECK(!late.try_peek());
    soon.start = shmipc::Start::earliest;
    Consumer<> early("ring", soon);
    CHECK(early.try_peek());
    out.unlink();
    THROWS(shmipc::NotFound, Consumer<>("ring", soon));
    ::setenv("SHMIPC_DIR_KEPT", std::getenv("SHMIPC_DIR"), 1);
    ::setenv("SHMIPC_DIR", "/nowhere/at/all", 1);
    try {
        Producer<> lost("ring");
        CHECK(false);
    } catch (const shmipc::OsError &error) {
        CHECK(error.number() == 2 && error.code() == shmipc::Errc::os);
    }
    ::setenv("SHMIPC_DIR", std::getenv("SHMIPC_DIR_KEPT"), 1);
}

TEST(waits_end_when_they_are_told_to)
{
    shmipc::ProducerOptions options;
    options.max_consumers = 2;
    Producer<> out("ring", options);
    Consumer<> in("ring");
    in.interrupt();
    THROWS(shmipc::Interrupted, in.wait());
    std::thread teller([&] { in.interrupt(); });
    THROWS(shmipc::Interrupted, in.peek());
    teller.join();
    out.interrupt();
    THROWS(shmipc::Interrupted, out.wait_for_consumers(2));
    std::thread sender([&] { out.send_text("now"); });
    CHECK(text_of(in.peek(30s)) == "now");
    sender.join();
    in.release();
}

TEST(any_of_several_is_waited_for)
{
    Producer<> a_out("a"), b_out("b");
    Producer<double> c_out("c");
    Consumer<> a("a"), b("b");
    Consumer<double> c("c");
    using Ready = std::array<bool, 3>;
    CHECK(wait_any(0, a, b, c) == Ready{});
    CHECK(wait_any(1ms, a, b, c) == Ready{});
    b_out.send_text("x");
    CHECK((wait_any(1s, a, b, c) == Ready{false, true, false}));
    c_out.send(1.5);
    a_out.close();
    CHECK((wait_any(shmipc::forever, a, b, c) == Ready{true, true, true}));
    b.peek();
    b.release();
    CHECK(c.recv() == 1.5);
    Consumer<> none;
    THROWS(shmipc::InvalidArgument, (void)wait_any(0, a, none));
}

TEST(timeouts_are_durations)
{
    using shmipc::Timeout;
    CHECK(Timeout(0).ns() == 0 && Timeout(1500us).ns() == 1'500'000 && Timeout(-3s).ns() == 0);
    CHECK(Timeout(std::chrono::duration<double>(0.25)).ns() == 250'000'000);
    CHECK(Timeout(std::chrono::hours::max()).ns() == SHMIPC_FOREVER);
    CHECK(Timeout(std::chrono::duration<double>(1e300)).ns() == SHMIPC_FOREVER);
    CHECK(Timeout(std::chrono::nanoseconds::max()).ns() == SHMIPC_FOREVER);
    CHECK(shmipc::forever.ns() == SHMIPC_FOREVER && shmipc::adaptive.ns() == SHMIPC_SPIN_ADAPTIVE);
}
