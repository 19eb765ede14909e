/* typed.cpp: typed rings, with exceptions. */
#include "check.hpp"
#include "records.hpp"

#include <numeric>
#include <vector>
#if __cplusplus >= 202002L
#include <span>
#endif

using namespace std::chrono_literals;
using market::Tick;
using shmipc::Consumer;
using shmipc::Frame;
using shmipc::Producer;
using shmipc::View;

static std::string schema_of(const shmipc_info &info)
{
    return info.schema;
}

TEST(items_go_through_one_by_one)
{
    Producer<Tick> out("ring");
    Consumer<Tick> in("ring");
    CHECK(out.info().typed && out.info().item_size == sizeof(Tick));
    CHECK(
        schema_of(in.info()) ==
        "([('time', '<i8'), ('price', '<f8'), ('size', '<f4'), ('side', '|i1'), ('', '|V3')], ())");
    out.send({1, 2, 3, market::Side::buy});
    out.send(Tick{2, 3, 4, market::Side::sell}, 1s);
    CHECK(out.try_send({3, 4, 5, {}}));
    CHECK(in.peek().side == market::Side::buy);
    const Tick *next = in.try_peek();
    CHECK(next != nullptr && next->time == 1);
    in.release();
    CHECK(in.recv().price == 3);
    CHECK(in.recv(1s).size == 5);
    CHECK(!in.try_recv() && in.try_peek() == nullptr && !in.try_read() && in.try_peek_n().empty());
    THROWS(shmipc::Empty, in.recv(0));
    THROWS(shmipc::Empty, in.peek_n(0, 1ms));
    out.close();
    THROWS(shmipc::Closed, in.recv());
}

TEST(items_go_through_many_at_once)
{
    Producer<Tick> out("ring");
    Consumer<Tick> in("ring");
    std::vector<Tick> ticks(10);
    for (std::size_t i = 0; i < ticks.size(); i++) {
        ticks[i].time = static_cast<std::int64_t>(i);
    }
    CHECK(out.send_n(ticks) == 10);
    View<const Tick> view = in.peek_n();
    CHECK(view.size() == 10 && view.seq() == 0 && view.back().time == 9 &&
          view.end()[-1].time == 9);
    in.release(4);
    view = in.peek_n(3);
    CHECK(view.size() == 3 && view.seq() == 4 && view.front().time == 4);
    in.release();
    Frame<Tick> frame = in.read_n();
    CHECK(frame.size() == 3 && frame->time == 7 && (*frame).time == 7 && frame[2].time == 9);
    in.close();
    std::int64_t sum = 0;
    for (const Tick &tick : frame) {
        sum += tick.time;
    }
    CHECK(sum == 7 + 8 + 9 && frame.seq() == 7);
    frame.release();
    const Tick array[2] = {};
    Consumer<Tick> next("ring");
    CHECK(out.send_n(array) == 2 && out.send_n(View<const Tick>(array, 2)) == 2);
    CHECK(out.send_n(std::vector<Tick>()) == 0);
#if __cplusplus >= 202002L
    CHECK(out.send_n(std::span<const Tick>(array)) == 2);
    const std::span<const Tick> span = next.peek_n();
    CHECK(span.size() == 6);
    next.release();
#endif
}

TEST(as_many_items_are_sent_as_there_is_room_for)
{
    shmipc::ProducerOptions options;
    options.capacity = 512;
    Producer<double> out("ring", options);
    Consumer<double> in("ring");
    const std::vector<double> numbers(2000);
    CHECK(out.send_n(numbers, 0) == out.info().capacity);
    CHECK(!out.try_send(1) && out.send_n(numbers, 1ms) == 0 && !out.try_reserve());
    THROWS(shmipc::Full, out.send(1, 0));
    THROWS(shmipc::Full, (void)out.reserve(1, 1ms));
    CHECK(in.read_n(100).size() == 100);
}

TEST(items_are_written_in_place)
{
    Producer<Tick> out("ring");
    Consumer<Tick> in("ring");
    auto room = out.reserve(100);
    CHECK(room.size() == 100);
    for (Tick &tick : room) {
        tick = {5, 6, 7, {}};
    }
    auto moved = std::move(room);
    THROWS(shmipc::Misuse, out.send({}));
    moved.commit(60);
    CHECK(!moved && in.peek_n().size() == 60);
    in.release();
    out.reserve();
    out.reserve(3).commit();
    CHECK(in.peek_n().size() == 3);
    in.release();
    auto single = out.reserve();
    *single = {8, 9, 10, {}};
    single->price = 11;
    single.commit();
    CHECK(in.peek().time == 8 && in.peek().price == 11);
    in.release();
#if __cplusplus >= 202002L
    auto spanned = out.reserve(2);
    const std::span<Tick> span = spanned;
    CHECK(span.size() == 2);
#endif
}

TEST(a_loop_over_items_releases_what_it_looked_at)
{
    Producer<int> out("ring");
    Consumer<int> in("ring");
    std::vector<int> numbers(1000);
    std::iota(numbers.begin(), numbers.end(), 0);
    out.send_n(numbers);
    int next = 0;
    for (const int &number : in) {
        CHECK(number == next++);
        if (number == 100) {
            CHECK(in.stats().lag <= 1000 - 64);
            break;
        }
    }
    CHECK(in.stats().lag == 1000 - 101);
    try {
        for (int number : in) {
            CHECK(number == next++);
            if (number == 200) {
                throw 200;
            }
        }
    } catch (int) {
    }
    CHECK(in.peek() == 200 && next-- == 201);
    out.close();
    for (int number : in) {
        CHECK(number == next++);
    }
    CHECK(next == 1000);
}

TEST(large_items_begin_at_lines_and_are_stepped_over)
{
    static_assert(sizeof(Large) == 4100, "");
    Producer<Large> out("ring");
    Consumer<Large> in("ring");
    CHECK(in.info().item_stride == 4160);
    std::vector<Large> items(3);
    for (std::uint32_t i = 0; i < 3; i++) {
        items[i].number = i;
    }
    out.send_n(items);
    const View<const Large> view = in.peek_n();
    std::uint32_t next = 0;
    for (const Large &item : view) {
        CHECK(item.number == next++ && reinterpret_cast<std::uintptr_t>(&item) % 64 == 0);
    }
    CHECK(next == 3 && view[2].number == 2 && view.back().number == 2);
    in.release();
    auto room = out.reserve(2);
    room[1].number = 8;
    room[0].number = 7;
    room.commit();
    for (const Large &item : in) {
        if (item.number == 8) {
            break;
        }
        CHECK(item.number == 7);
    }
}

TEST(items_may_be_arrays_of_a_shape_that_is_known_when_they_run)
{
    shmipc::ProducerOptions options;
    options.shape = {24, 31};
    Producer<float[]> out("ring", options);
    Consumer<float[]> in("ring");
    CHECK(schema_of(out.info()) == "('<f4', (24, 31))");
    std::vector<float> image(24 * 31, 1.5f);
    out.send(image);
    out.send_n(std::vector<float>(24 * 31 * 2, 2.5f));
    auto room = out.reserve(2);
    room[1][743] = 9;
    room.commit();
    View<const float> first = in.peek();
    CHECK(first.size() == 744 && first[743] == 1.5f && in.try_peek()->size() == 744);
    in.release();
    std::vector<float> copy(744);
    CHECK(in.recv(copy.data(), copy.size() * sizeof(float)).size() == 744 * 4 && copy[0] == 2.5f);
    const Frame<float[]> frame = in.read_n();
    CHECK(frame.size() == 3 && frame.extent() == 744 && (*frame)[0] == 2.5f && frame[2][743] == 9);
    std::size_t elements = 0;
    for (const View<const float> item : frame) {
        elements += item.size();
    }
    CHECK(elements == 3 * 744);
    THROWS(shmipc::SchemaMismatch, out.send(std::vector<float>(743)));
    THROWS(shmipc::SchemaMismatch, out.send_n(std::vector<float>(745)));
    out.close();
    for (const View<const float> item : in) {
        CHECK(item.empty() && false);
    }
}

TEST(a_shape_that_is_asked_for_is_checked)
{
    shmipc::ProducerOptions options;
    options.shape = {2, 3};
    Producer<std::array<std::int32_t, 4>[]> out("ring", options);
    CHECK(schema_of(out.info()) == "('<i4', (2, 3, 4))");
    shmipc::ConsumerOptions wanted;
    wanted.shape = {3, 2, 4};
    CHECK(contains(THROWN(shmipc::SchemaMismatch, Consumer<std::int32_t[]>("ring", wanted)),
                   "(3, 2, 4)"));
    wanted.shape = {2, 3, 4};
    Consumer<std::int32_t[]>("ring", wanted);
    Consumer<std::int32_t[]>("ring");
    CHECK(contains(THROWN(shmipc::SchemaMismatch, Consumer<float[]>("ring")), "'<f4'"));
    Producer<> messages("messages");
    CHECK(contains(THROWN(shmipc::SchemaMismatch, Consumer<float[]>("messages")), "message ring"));
    THROWS(shmipc::SchemaMismatch, Consumer<std::array<std::int16_t, 24>>("ring"));
}

TEST(an_array_of_fixed_length_is_an_item)
{
    Producer<std::array<double, 3>> out("ring");
    Consumer<std::array<double, 3>> in("ring");
    CHECK(schema_of(out.info()) == "('<f8', (3,))");
    out.send({1, 2, 3});
    CHECK(in.recv()[2] == 3);
}

TEST(numbers_convert_as_they_do_elsewhere)
{
    Producer<double> out("ring");
    Consumer<double> in("ring");
    out.send(3);
    out.send(2.5f, 1s);
    CHECK(in.recv() == 3 && in.recv() == 2.5);
}

TEST(a_ring_of_another_type_is_refused_with_both_dtypes)
{
    Producer<Tick> out("ring");
    std::string text = THROWN(shmipc::SchemaMismatch, Consumer<market::Leg>("ring"));
    CHECK(contains(text, "('price', '<f8')") && contains(text, "('weight', '<f8')"));
    text = THROWN(shmipc::SchemaMismatch, Consumer<double>("ring"));
    CHECK(contains(text, "('price', '<f8')") && contains(text, "'<f8'"));
    CHECK(contains(THROWN(shmipc::SchemaMismatch, Consumer<>("ring")), "('price', '<f8')"));
    Producer<> messages("messages");
    CHECK(contains(THROWN(shmipc::SchemaMismatch, Consumer<Tick>("messages")), "messages"));
    CHECK(Consumer<Tick>("ring"));
}

TEST(a_dtype_may_be_given_for_what_cpp_has_no_type)
{
    shmipc::ProducerOptions options;
    options.dtype = "M8[ns]";
    Producer<std::int64_t> out("ring", options);
    CHECK(schema_of(out.info()) == "('<M8[ns]', ())");
    shmipc::ConsumerOptions expected;
    THROWS(shmipc::SchemaMismatch, Consumer<std::int64_t>("ring", expected));
    expected.dtype = "<M8[ns]";
    CHECK(Consumer<std::int64_t>("ring", expected));
    options.dtype = "f4";
    THROWS(shmipc::InvalidArgument, Producer<std::int64_t>("other", options));
    options.dtype = "[('a', 'f9')]";
    CHECK(contains(THROWN(shmipc::InvalidArgument, Producer<std::int64_t>("other", options)),
                   "character 9"));
}

TEST(items_that_are_not_whole_or_aligned_elements_are_refused)
{
    shmipc::ProducerOptions options;
    options.shape = {2};
    options.dtype = "V4";
    CHECK(Producer<double[]>("ring", options).reserve()[0].size() == 1);
    options.dtype = "[('a', '<f8'), ('b', 'u1')]";
    CHECK(contains(THROWN(shmipc::SchemaMismatch, Producer<double[]>("ring", options)),
                   "18 bytes long and 18 apart"));
    options.dtype = "V4";
    std::error_code error;
    CHECK(!Producer<std::array<char, 3>[]>("ring", options, error));
    CHECK(error == shmipc::Errc::mismatch);
}

TEST(a_view_of_items_that_may_be_written_is_one_of_items_that_may_not)
{
    std::array<int, 3> numbers{1, 2, 3};
    const View<int> view(numbers.data(), numbers.size());
    view[0] = 7;
    const View<const int> constant = view;
    CHECK(constant.front() == 7 && !constant.empty() && View<int>().empty());
    CHECK(std::accumulate(constant.begin(), constant.end(), 0) == 12);
#if __cplusplus >= 202002L
    static_assert(std::ranges::contiguous_range<View<int>>);
    static_assert(std::is_convertible_v<View<const int>, std::span<const int>>);
    static_assert(!std::is_convertible_v<View<const Large>, std::span<const Large>>);
    static_assert(!std::is_convertible_v<View<const int>, std::span<int>>);
#endif
    static_assert(!std::is_convertible_v<View<const int>, View<int>>, "");
    static_assert(!std::is_copy_constructible_v<Frame<int>> &&
                      !std::is_copy_constructible_v<Producer<int>> &&
                      !std::is_copy_constructible_v<shmipc::Reservation<int>> &&
                      std::is_nothrow_move_constructible_v<Consumer<int>> &&
                      std::is_nothrow_move_assignable_v<Frame<int[]>>,
                  "");
}
