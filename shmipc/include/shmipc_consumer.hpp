/*
 * shmipc_consumer.hpp: Consumer<T>. Part of shmipc.hpp, which
 * says what holds for all of it.
 */
#ifndef SHMIPC_CONSUMER_HPP
#define SHMIPC_CONSUMER_HPP

#include "shmipc_frame.hpp"
#include "shmipc_ring.hpp"

#include <array>
#include <exception>
#include <optional>

namespace shmipc
{

template <class T> class Stream;

namespace detail
{

/* A main thread's stack has 8 MiB, and others often less; a copy may be made twice. */
template <class Item> constexpr bool fits_the_stack()
{
    return sizeof(Item) <= std::size_t(1) << 20;
}
#define SHMIPC_LARGE_ITEM_                                                                       \
    "this item is over 1 MiB and would be copied through the stack: use recv_into(item), which " \
    "copies into one of yours, or read() or peek(), which do not copy"

} // namespace detail

/* Receives items of T, or messages. */
template <class T = void> class Consumer : public detail::Ring<shmipc_consumer>
{
  public:
    using Many = typename detail::Shows<T>::Many;   /* View<const T>, or a Message */
    using One = typename detail::Shows<T>::One;     /* const T &, View<const E> of E[], a Message */
    using Maybe = typename detail::Shows<T>::Maybe; /* const T *, or std::optional<One> */

    Consumer() noexcept = default;
    /* Attach to the ring `name`, waiting for it to exist. NotFound after the timeout; Busy,
     * SchemaMismatch, InvalidArgument, Corrupt, OsError. With `error`: false is what this is then.
     */
    explicit Consumer(const Text &name, const ConsumerOptions &options = {})
    {
        this->template open_as<T>(name, options, nullptr);
    }
    Consumer(const Text &name, const ConsumerOptions &options, std::error_code &error)
    {
        this->template open_as<T>(name, options, &error);
    }

    /* ---- in place: peek, look, release ---- */

    /* The next item or message; it stays the next until it is released. Empty after the timeout;
     * Closed: the end; ProducerDied. */
    One peek(Timeout timeout = forever)
    {
        shmipc_view view;
        detail::check(peek_one(view, timeout));
        return detail::one_of<T>(view, this->extent_);
    }
    Maybe peek(Timeout timeout, std::error_code &error) noexcept
    {
        shmipc_view view;
        return detail::maybe_of<T>(detail::set(error, peek_one(view, timeout)), view,
                                   this->extent_);
    }
    Maybe try_peek()
    {
        shmipc_view view;
        return detail::maybe_of<T>(detail::polled(shmipc_consumer_peek(this->handle(), &view)),
                                   view, this->extent_);
    }
    Maybe try_peek(std::error_code &error) noexcept
    {
        shmipc_view view;
        return detail::maybe_of<T>(
            detail::polled(shmipc_consumer_peek(this->handle(), &view), error), view,
            this->extent_);
    }

    /* All items that are ready, up to `max` (0: no limit), as one View. */
    Many peek_n(std::uint64_t max = 0, Timeout timeout = forever)
    {
        shmipc_view view;
        detail::check(peek_many(max, view, timeout));
        return detail::many_of<T>(view, this->extent_);
    }
    Many peek_n(std::uint64_t max, Timeout timeout, std::error_code &error) noexcept
    {
        shmipc_view view;
        return detail::set(error, peek_many(max, view, timeout))
                   ? detail::many_of<T>(view, this->extent_)
                   : Many();
    }
    /* An empty View if nothing is ready. */
    Many try_peek_n(std::uint64_t max = 0)
    {
        shmipc_view view;
        return detail::polled(peek_many(max, view, no_wait))
                   ? detail::many_of<T>(view, this->extent_)
                   : Many();
    }
    /* All messages that are ready, up to `max`, into an array of yours. How many: */
    std::size_t peek_n(Message *messages, std::size_t max, Timeout timeout = forever)
    {
        std::size_t count = 0;
        detail::check(peek_messages(messages, max, timeout, count));
        return count;
    }
    std::size_t peek_n(Message *messages, std::size_t max, Timeout timeout,
                       std::error_code &error) noexcept
    {
        std::size_t count = 0;
        (void)detail::set(error, peek_messages(messages, max, timeout, count));
        return count;
    }
    std::size_t try_peek_n(Message *messages, std::size_t max)
    {
        std::size_t count = 0;
        (void)detail::polled(peek_messages(messages, max, no_wait, count));
        return count;
    }

    /* Release everything that the last peek showed. Misuse: nothing. Overrun: released, but it
     * was overwritten while you looked. */
    void release()
    {
        detail::check(shmipc_consumer_release(this->handle()));
    }
    bool release(std::error_code &error) noexcept
    {
        return detail::set(error, shmipc_consumer_release(this->handle()));
    }
    /* Release the first `count` of it; what is left must be peeked at again. */
    void release(std::uint64_t count)
    {
        detail::check(shmipc_consumer_release_n(this->handle(), count));
    }
    bool release(std::uint64_t count, std::error_code &error) noexcept
    {
        return detail::set(error, shmipc_consumer_release_n(this->handle(), count));
    }
    /* Is what the last peek showed still what was committed? Always, but with
     * Overflow::overwrite: ask after the copy. */
    bool is_intact() const noexcept
    {
        return shmipc_consumer_is_intact(this->handle());
    }

    /* Wait until there is something to peek at; false: there was not within the timeout. */
    bool wait(Timeout timeout = forever)
    {
        return detail::polled(shmipc_consumer_wait(this->handle(), timeout.ns()));
    }
    bool wait(Timeout timeout, std::error_code &error) noexcept
    {
        return detail::polled(shmipc_consumer_wait(this->handle(), timeout.ns()), error);
    }
    /* Wait until a live producer holds the ring: after ProducerDied or Closed, for its successor.
     * NotFound after the timeout. */
    void wait_for_producer(Timeout timeout = forever)
    {
        detail::check(shmipc_consumer_wait_for_producer(this->handle(), timeout.ns()));
    }
    bool wait_for_producer(Timeout timeout, std::error_code &error) noexcept
    {
        return detail::set(error, shmipc_consumer_wait_for_producer(this->handle(), timeout.ns()));
    }

    /* ---- copies ---- */

    /* A copy of the next item, which is released. Empty after the timeout. The copy is on the
     * stack: large items are for recv_into(), read() and peek(). */
    template <class Item = T> Item recv(Timeout timeout = forever)
    {
        static_assert(detail::fits_the_stack<Item>(), SHMIPC_LARGE_ITEM_);
        Item item;
        detail::check(recv_item(item, timeout));
        return item;
    }
    template <class Item = T>
    std::optional<Item> recv(Timeout timeout, std::error_code &error) noexcept
    {
        static_assert(detail::fits_the_stack<Item>(), SHMIPC_LARGE_ITEM_);
        Item item;
        return detail::set(error, recv_item(item, timeout)) ? std::optional<Item>(item)
                                                            : std::nullopt;
    }
    template <class Item = T> std::optional<Item> try_recv()
    {
        static_assert(detail::fits_the_stack<Item>(), SHMIPC_LARGE_ITEM_);
        Item item;
        return detail::polled(recv_item(item, no_wait)) ? std::optional<Item>(item) : std::nullopt;
    }
    /* Copy the next item into one of yours, wherever that is, and release it. Empty after the
     * timeout; the item of yours is then as it was. */
    template <class Item> void recv_into(Item &item, Timeout timeout = forever)
    {
        detail::check(recv_item(item, timeout));
    }
    template <class Item>
    bool recv_into(Item &item, Timeout timeout, std::error_code &error) noexcept
    {
        return detail::set(error, recv_item(item, timeout));
    }
    /* False: nothing is ready. */
    template <class Item> bool try_recv_into(Item &item)
    {
        return detail::polled(recv_item(item, no_wait));
    }
    /* Copy the next message, or the elements of the next item, into `size` bytes at `buffer`, and
     * release it: the copy. TooLarge: it has more; it stays unread. */
    Message recv(void *buffer, std::size_t size, Timeout timeout = forever)
    {
        shmipc_view view{};
        detail::check(recv_bytes(buffer, size, view, timeout));
        return Message(view);
    }
    std::optional<Message> recv(void *buffer, std::size_t size, Timeout timeout,
                                std::error_code &error) noexcept
    {
        shmipc_view view{};
        return detail::set(error, recv_bytes(buffer, size, view, timeout))
                   ? std::optional<Message>(view)
                   : std::nullopt;
    }
    std::optional<Message> try_recv(void *buffer, std::size_t size)
    {
        shmipc_view view{};
        return detail::polled(recv_bytes(buffer, size, view, no_wait))
                   ? std::optional<Message>(view)
                   : std::nullopt;
    }

    /* ---- frames ---- */

    /* Take the next item or message out of the stream and keep it in place. Several may be held.
     * Empty after the timeout; Misuse while something is peeked. */
    Frame<T> read(Timeout timeout = forever)
    {
        Frame<T> frame;
        detail::check(read_one(frame, timeout));
        return frame;
    }
    Frame<T> read(Timeout timeout, std::error_code &error) noexcept
    {
        Frame<T> frame;
        (void)detail::set(error, read_one(frame, timeout));
        return frame;
    }
    /* False is what this is if nothing is ready. */
    Frame<T> try_read()
    {
        Frame<T> frame;
        (void)detail::polled(read_one(frame, no_wait));
        return frame;
    }
    /* All items that are ready, up to `max` (0: no limit), in one frame. */
    Frame<T> read_n(std::uint64_t max = 0, Timeout timeout = forever)
    {
        Frame<T> frame;
        detail::check(read_many(max, frame, timeout));
        return frame;
    }
    Frame<T> read_n(std::uint64_t max, Timeout timeout, std::error_code &error) noexcept
    {
        Frame<T> frame;
        (void)detail::set(error, read_many(max, frame, timeout));
        return frame;
    }
    Frame<T> try_read_n(std::uint64_t max = 0)
    {
        Frame<T> frame;
        (void)detail::polled(read_many(max, frame, no_wait));
        return frame;
    }

    /* ---- all of them ---- */

    /* `for (const Tick &tick : consumer)`: waits for each, releases what was looked at, ends when
     * the stream does. Leaving by break releases the one at hand; by an exception does not. Overrun
     * (with Overflow::overwrite), ProducerDied, Interrupted are thrown. */
    Stream<T> begin()
    {
        return Stream<T>(*this);
    }
    std::nullptr_t end() noexcept
    {
        return nullptr;
    }

    /* ---- the end ---- */

    /* End this handle's wait in another thread, or its next one. Async-signal-safe. */
    void interrupt() noexcept
    {
        (void)shmipc_consumer_interrupt(this->handle());
    }
    /* Leave. What is not released goes to the next consumer of a durable queue. Any thread,
     * idempotent; the destructor does it too. */
    void close() noexcept
    {
        (void)shmipc_consumer_close(this->handle());
    }
    struct shmipc_consumer_stats stats() const
    {
        struct shmipc_consumer_stats stats;
        detail::check(shmipc_consumer_stats(this->handle(), &stats));
        return stats;
    }

  private:
    friend class Stream<T>;

    /* Call `peek` until it has something, waiting between. */
    template <class Peek> int wait_and(Timeout timeout, Peek peek) noexcept
    {
        int result = peek();
        while (result == SHMIPC_E_EMPTY && timeout.ns() != 0) {
            result = shmipc_consumer_wait(this->handle(), timeout.ns());
            if (result == SHMIPC_SUCCESS) {
                result = peek();
            } else {
                break;
            }
        }
        return result;
    }
    int peek_one(shmipc_view &view, Timeout timeout) noexcept
    {
        return wait_and(timeout, [&] { return shmipc_consumer_peek(this->handle(), &view); });
    }
    int peek_many(std::uint64_t max, shmipc_view &view, Timeout timeout) noexcept
    {
        static_assert(!std::is_void_v<T>, "messages are peeked at into an array of Message");
        return wait_and(timeout,
                        [&] { return shmipc_consumer_peek_n(this->handle(), max, &view); });
    }
    int peek_messages(Message *messages, std::size_t max, Timeout timeout,
                      std::size_t &count) noexcept
    {
        static_assert(std::is_void_v<T>, "items are peeked at as a View");
        return wait_and(timeout, [&] {
            return shmipc_consumer_peek_messages(
                this->handle(), reinterpret_cast<shmipc_view *>(messages), max, &count);
        });
    }
    template <class Item> int recv_item(Item &item, Timeout timeout) noexcept
    {
        static_assert(std::is_same_v<Item, T>, "an item of this ring is a T");
        return shmipc_consumer_recv(this->handle(), &item, sizeof item, nullptr, timeout.ns());
    }
    int recv_bytes(void *buffer, std::size_t size, shmipc_view &view, Timeout timeout) noexcept
    {
        return shmipc_consumer_recv(this->handle(), buffer, size, &view, timeout.ns());
    }
    int read_one(Frame<T> &frame, Timeout timeout) noexcept
    {
        shmipc_frame *taken = nullptr;
        const int result = shmipc_consumer_read(this->handle(), &taken, timeout.ns());
        if (result == SHMIPC_SUCCESS) {
            frame = Frame<T>(taken, this->extent_);
        }
        return result;
    }
    int read_many(std::uint64_t max, Frame<T> &frame, Timeout timeout) noexcept
    {
        static_assert(!std::is_void_v<T>, "a frame holds one message");
        shmipc_frame *taken = nullptr;
        const int result = shmipc_consumer_read_n(this->handle(), max, &taken, timeout.ns());
        if (result == SHMIPC_SUCCESS) {
            frame = Frame<T>(taken, this->extent_);
        }
        return result;
    }
};

/* Where a range-for over a Consumer is. Small items are released a few at a time. */
template <class T> class Stream
{
  public:
    explicit Stream(Consumer<T> &consumer)
        : consumer_(consumer), exceptions_(std::uncaught_exceptions())
    {
        const std::uint64_t eighth = consumer.info().capacity / 8;
        max_ = eighth < 1 ? 1 : eighth > 64 ? 64 : eighth;
        advance();
    }
    Stream(const Stream &) = delete;
    Stream &operator=(const Stream &) = delete;
    ~Stream()
    {
        const bool thrown = std::uncaught_exceptions() > exceptions_;
        const std::size_t done = at_ + (thrown ? 0 : 1);
        if (count_ > 0 && done > 0) {
            (void)shmipc_consumer_release_n(consumer_.handle(), done);
        }
    }
    typename Consumer<T>::One operator*() const noexcept
    {
        if constexpr (std::is_void_v<T>) {
            return Message(view_);
        } else {
            return many_[at_];
        }
    }
    Stream &operator++()
    {
        if (++at_ == count_) {
            count_ = 0;
            consumer_.release();
            advance();
        }
        return *this;
    }
    friend bool operator!=(const Stream &stream, std::nullptr_t) noexcept
    {
        return stream.count_ > 0;
    }

  private:
    void advance()
    {
        int result;
        at_ = 0;
        if constexpr (std::is_void_v<T>) {
            result = consumer_.peek_one(view_, forever);
        } else {
            result = consumer_.peek_many(max_, view_, forever);
        }
        if (result == SHMIPC_E_CLOSED) {
            return;
        }
        detail::check(result);
        if constexpr (!std::is_void_v<T>) {
            many_ = detail::many_of<T>(view_, consumer_.extent_);
        }
        count_ = std::is_void_v<T> ? 1 : view_.count;
    }
    Consumer<T> &consumer_;
    const int exceptions_;
    std::uint64_t max_ = 0;
    std::size_t at_ = 0;
    std::size_t count_ = 0; /* that are peeked at; 0: the stream has ended */
    shmipc_view view_{};
    typename Consumer<T>::Many many_{};
};

/* Wait until any of the consumers has something to read, an end or an error to report; which: all
 * false after the timeout. */
template <class... T>
std::array<bool, sizeof...(T)> wait_any(Timeout timeout, const Consumer<T> &...consumers)
{
    shmipc_consumer *const handles[] = {consumers.handle()...};
    unsigned char ready[sizeof...(T)] = {};
    std::array<bool, sizeof...(T)> result{};
    if (detail::polled(shmipc_wait(handles, sizeof...(T), ready, timeout.ns()))) {
        for (std::size_t i = 0; i < sizeof...(T); i++) {
            result[i] = ready[i] != 0;
        }
    }
    return result;
}

} // namespace shmipc

#endif
