/*
 * misuse.cpp: every rule of shmipc.hpp that can be broken in C++, broken: what comes of it is an
 * exception or an error code that has a name, and nothing else happens.
 *
 * Owns:     `misuse CASE NAME`, answered by "ok what=RESULT ...". What is right is in run.py's
 *           table.
 */
#include "peer.hpp"

#include <cstring>
#include <functional>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace
{

using Producer = shmipc::Producer<>;
using Consumer = shmipc::Consumer<>;

std::string said;

template <class Call> int result_of(const Call &call)
{
    try {
        call();
        return SHMIPC_SUCCESS;
    } catch (const shmipc::Error &error) {
        return error.code().value();
    }
}

/* The call throws what? */
template <class Call> void say(const char *what, const Call &call)
{
    said += std::string(" ") + what + '=' + name_of(result_of(call));
}

void say_fact(const char *what, bool truth)
{
    said += std::string(" ") + what + '=' + (truth ? '1' : '0');
}

Producer make(const std::string &name, shmipc::Overflow overflow = shmipc::Overflow::block)
{
    shmipc::ProducerOptions options;
    options.capacity = 4096;
    options.overflow = overflow;
    return Producer(name, options);
}

template <class T = void> shmipc::Consumer<T> join(const std::string &name)
{
    shmipc::ConsumerOptions options;
    options.timeout = 0;
    return shmipc::Consumer<T>(name, options);
}

void all_of(Producer &p)
{
    const shmipc::Message message("x", 1);
    std::error_code error;
    say("send", [&] { p.send_text("x", 1, 0, 0); });
    say("send_messages", [&] { (void)p.send_n(&message, 1, 0); });
    say("reserve", [&] { (void)p.reserve(1, 0); });
    say("wait_for_consumers", [&] { p.wait_for_consumers(1, 0); });
    say("unlink", [&] { p.unlink(); });
    say("info", [&] { (void)p.info(); });
    say("stats", [&] { (void)p.stats(); });
    (void)p.send_text("x", 1, 0, 0, error); /* the same as a code */
    said += " send=" + name_of(error.value());
    p.interrupt();
    p.close();
}

void all_of(Consumer &c)
{
    shmipc::Message message;
    char byte;
    std::error_code error;
    say("peek", [&] { (void)c.peek(0); });
    say("peek_messages", [&] { (void)c.peek_n(&message, 1, 0); });
    say("release", [&] { c.release(); });
    say("release_n", [&] { c.release(1); });
    say("recv", [&] { (void)c.recv(&byte, 1, 0); });
    say("wait", [&] { (void)c.wait(0); });
    say("wait_any", [&] { (void)shmipc::wait_any(0, c); });
    say("read", [&] { (void)c.read(0); });
    say("info", [&] { (void)c.info(); });
    say("stats", [&] { (void)c.stats(); });
    (void)c.read(0, error);
    said += " read=" + name_of(error.value());
    say_fact("intact", c.is_intact());
    c.interrupt();
    c.close();
}

/* Never opened, and moved from: the same as NULL. */
void misuse_null(const std::string &name)
{
    Producer empty;
    Consumer nobody;
    all_of(empty);
    said += " ;";
    all_of(nobody);
    Producer p = make(name);
    Consumer c = join(name);
    const Producer owner = std::move(p);
    const Consumer reader = std::move(c);
    shmipc::Frame<void> frame;
    frame.release();
    said += " ;";
    say("data", [&] { p.send_text("x"); }); // NOLINT: moved from, on purpose
    say("view", [&] { (void)c.peek(0); });
    say_fact("frame_intact", frame.is_intact());
    say("consumer_name", [] { (void)join(""); });
}

void misuse_closed(const std::string &name)
{
    Producer p = make(name);
    Consumer c = join(name);
    p.close();
    all_of(p);
    said += " ;";
    c.close();
    all_of(c);
}

template <class Change> int open_with(const std::string &name, const Change &change)
{
    shmipc::ProducerOptions options;
    change(options);
    return result_of([&] { (void)shmipc::Producer<Item>(name, options); });
}

void misuse_arguments(const std::string &name)
{
    const auto refuse = [&](const char *what, const std::string &ring, auto change) {
        said += std::string(" ") + what + '=' + name_of(open_with(ring, change));
    };
    refuse("no_consumers", name, [](auto &options) { options.max_consumers = 0; });
    refuse("consumers", name, [](auto &options) { options.max_consumers = 1025; });
    refuse("overflow", name,
           [](auto &options) { options.overflow = static_cast<shmipc::Overflow>(9); });
    refuse("dtype", name, [](auto &options) { options.dtype = "rubbish("; });
    refuse("objects", name, [](auto &options) { options.dtype = "|O"; });
    refuse("no_field", name, [](auto &options) { options.dtype = "[]"; });
    refuse("empty_name", "", [](auto &options) { options.dtype = "<f8"; });
    refuse("path", "../x", [](auto &options) { options.dtype = "<f8"; });
    refuse("long_name", std::string(201, 'x'), [](auto &options) { options.dtype = "<f8"; });
    Producer p = make(name);
    const std::string large(4096, 'x');
    shmipc::ConsumerOptions options;
    say("kind_0", [&] { p.send_text("x", 0); });
    say("kind_65536", [&] { p.send_text("x", 65536); });
    say("flags_65536", [&] { p.send_text("x", 1, 65536); });
    say("too_large", [&] { p.send(large); });
    say("cut_text", [&] { p.send_text("a\0b"); });
    say("no_text", [&] { p.send_text(static_cast<const char *>(nullptr)); });
    say("cut_name", [&] { (void)join(std::string("x\0y", 3)); });
    options.start = static_cast<shmipc::Start>(7);
    say("start", [&] { Consumer(name, options); });
    options.start = shmipc::Start::latest; /* of a durable queue */
    say("latest", [&] { Consumer(name, options); });
}

/* A Consumer<T> of a ring that is not of this T. */
void misuse_types(const std::string &name)
{
    shmipc::ProducerOptions several;
    several.max_consumers = 5;
    const shmipc::Producer<double> p(name, several);
    say("other", [&] { (void)join<float>(name); });
    say("messages", [&] { (void)join(name); });
    say("array", [&] { (void)join<float[]>(name); });
    say("same", [&] { (void)join<double>(name); });
    say("producer", [&] { shmipc::Producer<std::int64_t>{name}; });
    std::error_code error;
    const shmipc::Consumer<float> refused(name, {}, error);
    said += " code=" + name_of(error.value());
    say_fact("opened", static_cast<bool>(refused));
}

void misuse_order(const std::string &name)
{
    Producer p = make(name);
    Consumer c = join(name);
    char buffer[8];
    auto room = p.reserve(8, 0);
    say("send_in_reservation", [&] { p.send_text("x"); });
    say("reserve_again", [&] { (void)p.reserve(8, 0); });
    say("commit_more", [&] { room.commit(9, 1); });
    say("commit_kind_0", [&] { room.commit(4, 0); });
    std::memcpy(room.data(), "12345678", 8);
    say("commit", [&] { room.commit(5, 1); });
    room.abort(); /* nothing */
    say("commit_twice", [&] { room.commit(0, 1); });
    say("release_nothing", [&] { c.release(); });
    say("peek", [&] { (void)c.peek(0); });
    say("read_while_peeked", [&] { (void)c.read(0); });
    say("release_more", [&] { c.release(2); });
    say("recv_small", [&] { (void)c.recv(buffer, 4, 0); });
    say("recv", [&] { (void)c.recv(buffer, 5, 0); });
    say("recv_empty", [&] { (void)c.recv(buffer, 5, 0); });
}

void misuse_overrun(const std::string &name)
{
    Producer p = make(name, shmipc::Overflow::overwrite);
    Consumer c = join(name);
    p.send_text("first");
    say("peek", [&] { (void)c.peek(0); });
    say_fact("intact", c.is_intact());
    say("send", [&] {
        for (int i = 0; i < 1000; i++) {
            p.send_text("again");
        }
    });
    say_fact("intact", c.is_intact());
    say("release", [&] { c.release(); });
    say_fact("lost", c.peek(0).seq() == c.stats().lost);
}

void misuse_interrupt(const std::string &name)
{
    Producer p = make(name);
    Consumer c = join(name);
    char byte;
    c.interrupt();
    say("recv", [&] { (void)c.recv(&byte, 1); });
    say("poll", [&] { (void)c.recv(&byte, 1, 0); });
    c = Consumer();
    p.interrupt();
    say("wait_for_consumers", [&] { p.wait_for_consumers(1); });
    say("again", [&] { p.wait_for_consumers(1, 0); });
}

void misuse_threads(const std::string &name)
{
    const Producer p = make(name);
    Consumer c = join(name);
    int first = SHMIPC_E_MISUSE;
    std::thread waiting([&] {
        char byte;
        while (first == SHMIPC_E_MISUSE) { /* until it is the first: the other one looks in */
            first = result_of([&] { (void)c.recv(&byte, 1); });
        }
    });
    while (result_of([&] { (void)c.peek(0); }) == SHMIPC_E_EMPTY) {
    }
    say("second", [&] { (void)c.peek(0); });
    c.close();
    waiting.join();
    said += " first=" + name_of(first);
}

void misuse_fork(const std::string &name)
{
    Producer p = make(name);
    Consumer c = join(name);
    char byte;
    int status = -1;
    const pid_t child = fork();
    if (child == 0) {
        const bool refused = result_of([&] { p.send_text("x"); }) == SHMIPC_E_MISUSE &&
                             result_of([&] { (void)c.recv(&byte, 1, 0); }) == SHMIPC_E_MISUSE;
        p = Producer();
        c = Consumer();
        _exit(refused ? 0 : 1);
    }
    say_fact("forked", child > 0 && waitpid(child, &status, 0) == child);
    said += " child=" + std::to_string(status);
    say("send", [&] { p.send_text("x", 1, 0, 0); });
    say("recv", [&] { (void)c.recv(&byte, 1, 0); });
}

} // namespace

std::string do_misuse(const std::string &what, const std::string &name)
{
    static const std::pair<const char *, void (*)(const std::string &)> cases[] = {
        {"null", misuse_null},           {"closed", misuse_closed},
        {"arguments", misuse_arguments}, {"types", misuse_types},
        {"order", misuse_order},         {"overrun", misuse_overrun},
        {"interrupt", misuse_interrupt}, {"threads", misuse_threads},
        {"fork", misuse_fork},
    };
    for (const auto &one : cases) {
        if (what == one.first) {
            said = "ok";
            one.second(name);
            return said;
        }
    }
    return "unsupported";
}
