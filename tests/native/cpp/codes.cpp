/* codes.cpp: the forms that throw nothing; compiled with -fno-exceptions too. */
#include "check.hpp"
#include "records.hpp"

#include <vector>

using namespace std::chrono_literals;
using shmipc::Consumer;
using shmipc::Errc;
using shmipc::Message;
using shmipc::Producer;

TEST(codes_of_messages)
{
    std::error_code error;
    shmipc::ProducerOptions options;
    options.capacity = 4096;
    Producer<> out("ring", options, error);
    CHECK(out && error == std::error_code());
    Producer<> second("ring", options, error);
    CHECK(!second && error == Errc::busy && error.category().name() == std::string("shmipc"));
    CHECK(error.message() == shmipc_result_text(SHMIPC_E_BUSY) && error != Errc::full);
    shmipc::ConsumerOptions soon;
    soon.timeout = 0;
    Consumer<> missing("missing", soon, error);
    CHECK(!missing && error == Errc::not_found);
    CHECK(!out.wait_for_consumers(1, 0, error) && error == Errc::not_found);
    Consumer<> in("ring", soon, error);
    CHECK(in && !error);

    CHECK(!in.peek(0, error) && error == Errc::empty);
    CHECK(!in.try_peek(error) && !error && !in.wait(1ms, error) && !error);
    CHECK(!in.read(0, error) && error == Errc::empty);
    char buffer[8];
    CHECK(!in.recv(buffer, 8, 0, error) && error == Errc::empty);
    CHECK(!in.release(error) && error == Errc::misuse);
    CHECK(!out.wait_for_consumers(2, 0, error) && error == Errc::invalid);
    CHECK(out.wait_for_consumers(1, 0, error) && !error);

    CHECK(out.send_text("hello", 1, 0, 0, error) && !error);
    CHECK(out.send(Message("hi", 2, 3), 0, error) && out.try_send_text("you", 2, 0, error));
    CHECK(!out.send_text("no kind", 0, 0, 0, error) && error == Errc::invalid);
    CHECK(in.wait(1s, error) && in.peek(0, error)->text() == "hello" && in.release(error));
    CHECK(in.recv(buffer, 8, 0, error)->text() == "hi");
    shmipc::Frame<void> frame = in.read(1s, error);
    CHECK(frame->text() == "you" && !error);
    frame.release();

    auto room = out.reserve(100, 0, error);
    CHECK(room && !error && !out.send_text("x", 1, 0, 0, error) && error == Errc::misuse);
    CHECK(!room.commit(200, 1, 0, error) && error && room.commit(5, 1, 0, error));
    CHECK(!room.commit(5, error) && error == Errc::invalid);
    std::array<Message, 4> messages;
    CHECK(in.peek_n(messages.data(), 4, 0, error) == 1 && in.release(1, error));
    CHECK(in.peek_n(messages.data(), 4, 0, error) == 0 && error == Errc::empty);
    const std::string block(1000, 'x');
    messages.fill(Message(block.data(), block.size()));
    while (out.send_n(messages.data(), 4, 0, error) == 4) {
        CHECK(!error);
    }
    CHECK(error == Errc::full && !out.try_send(block, 1, 0, error) && !error);
    CHECK(!out.send(std::string(100'000, 'x'), 1, 0, 0, error) && error == Errc::too_large);
    CHECK(!out.reserve(1000, 1ms, error) && error == Errc::full);
    out.close();
    while (in.peek(0, error)) {
        CHECK(in.release(error));
    }
    CHECK(error == Errc::closed && !in.try_peek(error) && error == Errc::closed);
    CHECK(!in.wait(0, error) && error == Errc::closed);
}

TEST(codes_of_items)
{
    std::error_code error;
    Producer<market::Tick> out("ring", {}, error);
    shmipc::ConsumerOptions options;
    Consumer<market::Leg> wrong("ring", options, error);
    CHECK(!wrong && error == Errc::mismatch);
    Consumer<float[]> array("ring", options, error);
    CHECK(!array && error == Errc::mismatch);
    Consumer<market::Tick> in("ring", options, error);
    CHECK(in && !error);
    CHECK(!in.peek(0, error) && error == Errc::empty && !in.recv(0, error));
    CHECK(out.send({1, 2, 3, {}}, 0, error) && out.try_send({4, 5, 6, {}}, error));
    CHECK(in.peek(0, error)->price == 2 && in.release(error));
    CHECK(in.recv(0, error)->time == 4);
    const std::vector<market::Tick> ticks(7);
    CHECK(out.send_n(ticks, 0, error) == 7 && !error);
    CHECK(in.peek_n(0, 0, error).size() == 7 && in.release(2, error));
    CHECK(in.read_n(3, 0, error).size() == 3 && !error);
    CHECK(in.read(0, error).size() == 1 && in.try_read()->time == 0);
    CHECK(in.peek_n(0, 1ms, error).empty() && error == Errc::empty);
    CHECK(!in.read_n(0, 0, error) && error == Errc::empty);
    auto room = out.reserve(2, 0, error);
    CHECK(room && room.commit(2, error) && !error);
    out.close();
    CHECK(!out.send({}, 0, error) && error == Errc::closed);
    int found = 0;
    for (const market::Tick &tick : in) {
        found += tick.time == 0;
    }
    CHECK(found == 2);
}
