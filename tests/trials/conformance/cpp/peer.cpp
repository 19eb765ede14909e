/*
 * peer.cpp: the C++ peer of the conformance tests. One process that does what
 * tests/trials/conformance/run.py says, line by line: README.md beside this directory has the
 * protocol.
 *
 * Owns:     the commands and their answers, over shmipc.hpp. stream.cpp sends and takes, misuse.cpp
 *           breaks the rules.
 * Must not know: the scenarios, what is right.
 */
#include "peer.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <sstream>

Sending sending;
Taking taking;
std::uint64_t done;

namespace
{

std::vector<shmipc::Frame<void>> held;
shmipc::Reservation<void> room;

/* ---- words ---- */

Words split(const std::string &line, std::size_t most)
{
    Words words;
    std::size_t at = 0;
    while (at <= line.size()) {
        const std::size_t space = words.size() + 1 < most ? line.find(' ', at) : std::string::npos;
        words.push_back(line.substr(at, space == std::string::npos ? space : space - at));
        at = space == std::string::npos ? line.size() + 1 : space + 1;
    }
    words.resize(std::max<std::size_t>(words.size(), 12));
    return words;
}

std::vector<std::uint64_t> shape_of(const std::string &text)
{
    std::vector<std::uint64_t> shape;
    std::istringstream extents(text == "-" ? "" : text);
    for (std::string extent; std::getline(extents, extent, ',');) {
        shape.push_back(number(extent));
    }
    return shape;
}

/* ---- opening ---- */

/* produce NAME CONSUMERS CAPACITY POLICY SHAPE DTYPE */
std::string do_produce(const Words &words)
{
    room.abort(); /* it must not outlive its producer */
    sending = {};
    shmipc::ProducerOptions options;
    options.max_consumers = static_cast<std::uint32_t>(number(words[2]));
    options.capacity = number(words[3]);
    options.overflow = words[4] == "block" ? shmipc::Overflow::block : shmipc::Overflow::overwrite;
    options.shape = shape_of(words[5]);
    if (words[6] == "-") {
        sending.messages = shmipc::Producer<>(words[1], options);
        return "ok -";
    }
    options.dtype = words[6];
    sending.items = shmipc::Producer<Item>(words[1], options);
    return std::string("ok ") + sending.items.info().schema;
}

/* What a ring is, of which we know nothing: a Consumer<T> knows what it expects. */
std::string schema_of(const std::string &name, std::int64_t timeout_ns)
{
    struct shmipc_consumer_options options;
    struct shmipc_consumer *consumer = nullptr;
    struct shmipc_info info;
    shmipc_consumer_options_init(&options);
    options.timeout_ns = timeout_ns;
    shmipc::detail::check(shmipc_consumer_open(&consumer, name.c_str(), &options));
    const int result = shmipc_consumer_info(consumer, &info);
    const std::string schema = result == SHMIPC_SUCCESS ? info.schema : "";
    shmipc_consumer_free(consumer);
    shmipc::detail::check(result);
    return schema;
}

/* consume NAME START MS SHAPE DTYPE */
std::string do_consume(const Words &words)
{
    taking = {};
    shmipc::ConsumerOptions options;
    options.start = words[2] == "resume"   ? shmipc::Start::resume
                    : words[2] == "latest" ? shmipc::Start::latest
                                           : shmipc::Start::earliest;
    options.timeout = time_of(words[3]);
    options.shape = shape_of(words[4]);
    options.dtype = words[5];
    if (words[5] == "*") {
        const std::string schema = schema_of(words[1], options.timeout.ns());
        const std::size_t comma = schema.rfind(", (");
        options.dtype = schema.empty() ? "-" : schema.substr(1, comma - 1);
        if (!schema.empty()) {
            const std::string axes = schema.substr(comma + 3, schema.size() - comma - 5);
            options.shape = shape_of(axes.empty() ? "-" : axes);
        }
    }
    if (options.dtype == "-") {
        options.dtype = "";
        taking.messages = shmipc::Consumer<>(words[1], options);
        return "ok -";
    }
    taking.items = shmipc::Consumer<Item>(words[1], options);
    return std::string("ok ") + taking.items.info().schema;
}

/* ---- the rest ---- */

std::string do_hold(const Words &words)
{
    for (std::uint64_t i = number(words[1]); i > 0; i--) {
        held.push_back(taking.messages.read(time_of(words[2])));
        done = held.size();
    }
    return "ok " + std::to_string(held.size());
}

std::string do_held()
{
    std::uint64_t sum = 0;
    bool intact = true;
    for (const shmipc::Frame<void> &frame : held) {
        sum += digest(frame);
        intact = intact && frame.is_intact();
    }
    return "ok " + std::to_string(held.size()) + ' ' + hex(sum) + (intact ? " 1" : " 0");
}

std::string do_drop(const Words &words)
{
    held.erase(held.begin() + static_cast<std::ptrdiff_t>(number(words[1])));
    return "ok " + std::to_string(held.size());
}

template <class... Number> std::string list(Number... numbers)
{
    return "ok" + (... + (' ' + std::to_string(numbers)));
}

std::string do_stats(bool producer)
{
    if (producer) {
        const auto s = sending.items ? sending.items.stats() : sending.messages.stats();
        return list(s.count, s.lag, s.attached, s.took_over);
    }
    const auto s = taking.items ? taking.items.stats() : taking.messages.stats();
    return list(s.pending, s.lag, s.lost, s.frames);
}

std::string do_room(const Words &words)
{
    room = sending.messages.reserve(number(words[1]), time_of(words[2]));
    std::fill(room.begin(), room.end(), std::byte{0xEE});
    return "ok " + words[1];
}

std::string do_await(const Words &words)
{
    const shmipc::Timeout timeout = time_of(words[1]);
    const bool ready =
        taking.items ? wait_any(timeout, taking.items)[0] : wait_any(timeout, taking.messages)[0];
    return ready ? "ok 0" : "error EMPTY 0 " + make_error_code(shmipc::Errc::empty).message();
}

/* What a close has to say, as an exception. */
template <class Producer> void close_and_tell(Producer &producer)
{
    std::error_code error;
    if (producer && !producer.close(error)) {
        shmipc::detail::check(error.value());
    }
}

std::string do_line(const Words &words)
{
    const std::string &verb = words[0];
    if (verb == "produce") {
        return do_produce(words);
    }
    if (verb == "consume") {
        return do_consume(words);
    }
    if (verb == "send") {
        return do_send(words);
    }
    if (verb == "take") {
        return do_take(words);
    }
    if (verb == "put") {
        return do_put(words);
    }
    if (verb == "get") {
        return do_get(words);
    }
    if (verb == "hold") {
        return do_hold(words);
    }
    if (verb == "held") {
        return do_held();
    }
    if (verb == "drop") {
        return do_drop(words);
    }
    if (verb == "stats") {
        return do_stats(words[1] == "producer");
    }
    if (verb == "room") {
        return do_room(words);
    }
    if (verb == "abort") {
        room.abort();
        return "ok 0";
    }
    if (verb == "unlink") {
        sending.items ? sending.items.unlink() : sending.messages.unlink();
        return "ok 0";
    }
    if (verb == "wait") {
        const auto count = static_cast<std::uint32_t>(number(words[1]));
        sending.messages.wait_for_consumers(count, time_of(words[2]));
        return "ok 0";
    }
    if (verb == "await") {
        return do_await(words);
    }
    if (verb == "close") {
        if (words[1] == "producer") {
            close_and_tell(sending.items);
            close_and_tell(sending.messages);
        } else {
            taking.items.close();
            taking.messages.close();
        }
        return "ok 0";
    }
    if (verb == "misuse") {
        return do_misuse(words[1], words[2]);
    }
    return "unsupported";
}

} // namespace

std::uint64_t number(const std::string &word)
{
    return std::stoull(word);
}

shmipc::Timeout time_of(const std::string &milliseconds)
{
    const long value = std::stol(milliseconds);
    return value < 0 ? shmipc::forever : shmipc::Timeout(std::chrono::milliseconds(value));
}

std::string hex(std::uint64_t value)
{
    char text[17];
    (void)std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
    return text;
}

std::string name_of(int result)
{
    static const char *const names[] = {
        "SUCCESS",   "EMPTY",       "FULL",     "CLOSED",  "PRODUCER_DIED", "CONSUMER_DIED",
        "NOT_FOUND", "BUSY",        "MISMATCH", "CORRUPT", "TOO_LARGE",     "INVALID",
        "MISUSE",    "INTERRUPTED", "OVERRUN",  "OS",      "ABI",           "REMOVED",
    };
    return result >= 0 && static_cast<std::size_t>(result) < std::size(names) ? names[result] : "?";
}

int main()
{
    std::cout << "ready " << shmipc_version() << ' ' << shmipc_abi_version() << std::endl;
    for (std::string line; std::getline(std::cin, line) && line != "quit";) {
        const std::string verb = line.substr(0, line.find(' '));
        std::string said;
        done = 0;
        try {
            said = do_line(split(line, verb == "produce" ? 7 : verb == "consume" ? 6 : 12));
        } catch (const shmipc::Error &error) {
            said = "error " + name_of(error.code().value()) + ' ' + std::to_string(done) + ' ' +
                   error.what();
        }
        std::cout << said << std::endl;
    }
    room.abort();
    return 0;
}
