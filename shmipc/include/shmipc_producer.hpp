/*
 * shmipc_producer.hpp: Producer<T>, and the Reservation<T> that it gives out. Part of shmipc.hpp,
 * which says what holds for all of it.
 */
#ifndef SHMIPC_PRODUCER_HPP
#define SHMIPC_PRODUCER_HPP

#include "shmipc_ring.hpp"

namespace shmipc
{

/* Room in the ring, to be written in place: a View of items, or of the bytes of a message; *room is
 * the first, or only, item. Nobody sees it before commit(); what is not committed is given up when
 * this goes. One at a time, and nothing else is sent meanwhile. Must not outlive its Producer
 * (moving that is fine). */
template <class T>
class Reservation : public View<std::conditional_t<std::is_void_v<T>, std::byte, T>>
{
    using Room = View<std::conditional_t<std::is_void_v<T>, std::byte, T>>;

  public:
    Reservation() noexcept = default;
    Reservation(shmipc_producer *producer, const Room &room) noexcept
        : Room(room), producer_(producer)
    {
    }
    Reservation(const Reservation &) = delete;
    Reservation &operator=(const Reservation &) = delete;
    Reservation(Reservation &&other) noexcept
        : Room(std::exchange(other.room(), Room())),
          producer_(std::exchange(other.producer_, nullptr))
    {
    }
    Reservation &operator=(Reservation &&other) noexcept
    {
        if (this != &other) {
            abort();
            room() = std::exchange(other.room(), Room());
            producer_ = std::exchange(other.producer_, nullptr);
        }
        return *this;
    }
    ~Reservation()
    {
        abort();
    }
    /* Is there room that was neither committed nor given up? */
    explicit operator bool() const noexcept
    {
        return producer_ != nullptr;
    }
    /* The first, or only, item: *reserve() is one to write as *read() is one to look at. */
    decltype(auto) operator*() const noexcept
    {
        static_assert(!std::is_void_v<T>, "bytes of a message: use data() or as<U>()");
        return (*this)[0];
    }
    auto operator->() const noexcept
    {
        static_assert(!std::is_void_v<T>, "bytes of a message: use data() or as<U>()");
        static_assert(!std::is_array_v<T>, "an item is an array: use *room or room[i]");
        return this->data();
    }
    /* A message's room as a U. TooLarge if it is smaller. */
    template <class U> U &as() const
    {
        static_assert(std::is_void_v<T> && std::is_trivially_copyable_v<U>,
                      "plain bytes, of a message");
        static_assert(alignof(U) <= 16,
                      "messages are aligned to 16 bytes, and this type needs more (alignas): copy "
                      "it with std::memcpy, or send it through a ring of items, Producer<U>");
        if (this->size() < sizeof(U)) {
            detail::raise(SHMIPC_E_TOO_LARGE, "the object does not fit what was reserved");
        }
        return *static_cast<U *>(static_cast<void *>(this->data()));
    }

    /* Publish the first `items` of them, or all: with one store. Wait-free. */
    void commit(std::size_t items)
    {
        detail::check(publish(items));
    }
    void commit()
    {
        detail::check(publish(this->size()));
    }
    bool commit(std::size_t items, std::error_code &error) noexcept
    {
        return detail::set(error, publish(items));
    }
    /* Publish the first `size` bytes as a message. Wait-free. */
    void commit(std::size_t size, unsigned kind, unsigned flags = 0)
    {
        static_assert(std::is_void_v<T>, "items have no kind");
        detail::check(publish(size, kind, flags));
    }
    bool commit(std::size_t size, unsigned kind, unsigned flags, std::error_code &error) noexcept
    {
        static_assert(std::is_void_v<T>, "items have no kind");
        return detail::set(error, publish(size, kind, flags));
    }
    void abort() noexcept
    {
        if (producer_ != nullptr) {
            (void)shmipc_producer_abort(producer_);
            producer_ = nullptr;
            room() = Room();
        }
    }

  private:
    Room &room() noexcept
    {
        return *this;
    }
    int publish(std::size_t size, unsigned kind = 1, unsigned flags = 0) noexcept
    {
        int result;
        if constexpr (std::is_void_v<T>) {
            result = shmipc_producer_commit(producer_, size, kind, flags);
        } else {
            (void)kind;
            (void)flags;
            result = shmipc_producer_commit_n(producer_, size);
        }
        if (result == SHMIPC_SUCCESS) {
            producer_ = nullptr;
            room() = Room();
        }
        return result;
    }
    shmipc_producer *producer_ = nullptr;
};

/* Of both kinds of rings. */
class ProducerBase : public detail::Ring<shmipc_producer>
{
  public:
    /* Wait until `count` consumers are attached and alive. NotFound after the timeout. */
    void wait_for_consumers(std::uint32_t count = 1, Timeout timeout = forever)
    {
        detail::check(shmipc_producer_wait_for_consumers(handle(), count, timeout.ns()));
    }
    bool wait_for_consumers(std::uint32_t count, Timeout timeout, std::error_code &error) noexcept
    {
        return detail::set(error,
                           shmipc_producer_wait_for_consumers(handle(), count, timeout.ns()));
    }
    /* Remove the ring's name now. Who is attached goes on; the next producer starts a new ring. */
    void unlink()
    {
        detail::check(shmipc_producer_unlink(handle()));
    }
    /* End this handle's wait in another thread, or its next one. Async-signal-safe. */
    void interrupt() noexcept
    {
        (void)shmipc_producer_interrupt(handle());
    }
    /* End the stream: consumers read what is committed, then get Closed. Any thread, idempotent;
     * the destructor does it too. With `error`: false is what this is then; Errc::removed, where it
     * closed, and somebody had removed the file with messages that no consumer had read. */
    void close() noexcept
    {
        (void)shmipc_producer_close(handle());
    }
    bool close(std::error_code &error) noexcept
    {
        return detail::set(error, shmipc_producer_close(handle()));
    }
    struct shmipc_producer_stats stats() const
    {
        struct shmipc_producer_stats stats;
        detail::check(shmipc_producer_stats(handle(), &stats));
        return stats;
    }
};

/* Sends items of T. */
template <class T = void> class Producer : public ProducerBase
{
  public:
    Producer() noexcept = default;
    /* Create the ring `name`, or take it over where a producer that is gone stopped. Busy,
     * SchemaMismatch, InvalidArgument, Corrupt, OsError. With `error`: false is what this is then.
     */
    explicit Producer(const Text &name, const ProducerOptions &options = {})
    {
        open_as<T>(name, options, nullptr);
    }
    Producer(const Text &name, const ProducerOptions &options, std::error_code &error)
    {
        open_as<T>(name, options, &error);
    }

    /* Copy one item into the ring (of T[]: a range of all its elements). It is sent when this
     * returns. Full after the timeout; ConsumerDied, SchemaMismatch: not as many elements. */
    template <class Item = T> void send(const Item &item, Timeout timeout = forever)
    {
        detail::check(send_one(item, timeout));
    }
    template <class Item = T>
    bool send(const Item &item, Timeout timeout, std::error_code &error) noexcept
    {
        return detail::set(error, send_one(item, timeout));
    }
    /* False: there is no room. */
    template <class Item = T> bool try_send(const Item &item)
    {
        return detail::polled(send_one(item, no_wait));
    }
    template <class Item = T> bool try_send(const Item &item, std::error_code &error) noexcept
    {
        return detail::polled(send_one(item, no_wait), error);
    }

    /* Copy a range of items (of T[]: of the elements of whole items), in as few commits as the room
     * allows; how many items were sent: fewer than given only when the timeout has passed. */
    template <class Range> std::size_t send_n(const Range &items, Timeout timeout = forever)
    {
        std::size_t sent;
        (void)detail::polled(send_all(items, timeout, sent));
        return sent;
    }
    template <class Range>
    std::size_t send_n(const Range &items, Timeout timeout, std::error_code &error) noexcept
    {
        std::size_t sent;
        (void)detail::set(error, send_all(items, timeout, sent));
        return sent;
    }

    /* Room for items, to be written in place. Full after the timeout. */
    Reservation<T> reserve(std::size_t items = 1, Timeout timeout = forever)
    {
        Reservation<T> room;
        detail::check(reserve_n(items, timeout, room));
        return room;
    }
    Reservation<T> reserve(std::size_t items, Timeout timeout, std::error_code &error) noexcept
    {
        Reservation<T> room;
        (void)detail::set(error, reserve_n(items, timeout, room));
        return room;
    }
    /* False is what this is where there is no room. */
    Reservation<T> try_reserve(std::size_t items = 1)
    {
        Reservation<T> room;
        (void)detail::polled(reserve_n(items, no_wait, room));
        return room;
    }

  private:
    using Element = std::remove_extent_t<T>;

    template <class Item> int send_one(const Item &item, Timeout timeout) noexcept
    {
        if constexpr (std::is_array_v<T>) {
            const detail::Bytes bytes = detail::elements_of<Element>(item);
            return shmipc_producer_send(handle(), bytes.data, bytes.size, 0, 0, timeout.ns());
        } else {
            static_assert(std::is_convertible_v<const Item &, T>, "an item of this ring is a T");
            const T &converted = item;
            return shmipc_producer_send(handle(), &converted, sizeof(T), 0, 0, timeout.ns());
        }
    }
    template <class Range>
    int send_all(const Range &items, Timeout timeout, std::size_t &sent) noexcept
    {
        const detail::Bytes bytes = detail::elements_of<Element>(items);
        const std::size_t size = sizeof(Element) * (extent_ > 0 ? extent_ : 1);
        std::uint64_t count = 0;
        const int result = bytes.size % size != 0 /* not whole items: the refusal says so */
                               ? shmipc_producer_send(handle(), bytes.data, bytes.size, 0, 0, 0)
                               : shmipc_producer_send_n(handle(), bytes.data, bytes.size / size,
                                                        timeout.ns(), &count);
        sent = count;
        return result;
    }
    int reserve_n(std::size_t items, Timeout timeout, Reservation<T> &room) noexcept
    {
        void *data = nullptr;
        const int result = shmipc_producer_reserve_n(handle(), items, timeout.ns(), &data);
        if (result == SHMIPC_SUCCESS) {
            room = {handle(), {static_cast<Element *>(data), items, stride_, extent_, 0}};
        }
        return result;
    }
};

/* Sends messages. `kind`: 1 to 65535. What is sent may be any range of plain elements (a
 * std::string, a std::vector, ...), a plain object, or a Message, which has its own kind and flags;
 * literals and arrays of char by send_text() (shmipc_bytes.hpp says why). */
template <> class Producer<void> : public ProducerBase
{
  public:
    Producer() noexcept = default;
    explicit Producer(const Text &name, const ProducerOptions &options = {})
    {
        open_as<void>(name, options, nullptr);
    }
    Producer(const Text &name, const ProducerOptions &options, std::error_code &error)
    {
        open_as<void>(name, options, &error);
    }

    /* Copy one message into the ring. It is sent when this returns. Full after the timeout;
     * TooLarge, ConsumerDied, InvalidArgument: a bad kind. */
    template <class Data, class = detail::IfNoMessage<Data>>
    void send(const Data &data, unsigned kind = 1, unsigned flags = 0, Timeout timeout = forever)
    {
        detail::check(send_one(detail::bytes_of(data), kind, flags, timeout));
    }
    template <class Data, class = detail::IfNoMessage<Data>>
    bool send(const Data &data, unsigned kind, unsigned flags, Timeout timeout,
              std::error_code &error) noexcept
    {
        return detail::set(error, send_one(detail::bytes_of(data), kind, flags, timeout));
    }
    void send(const Message &message, Timeout timeout = forever)
    {
        detail::check(send_one(message, timeout));
    }
    bool send(const Message &message, Timeout timeout, std::error_code &error) noexcept
    {
        return detail::set(error, send_one(message, timeout));
    }
    /* False: there is no room. */
    template <class Data, class = detail::IfNoMessage<Data>>
    bool try_send(const Data &data, unsigned kind = 1, unsigned flags = 0)
    {
        return detail::polled(send_one(detail::bytes_of(data), kind, flags, no_wait));
    }
    template <class Data, class = detail::IfNoMessage<Data>>
    bool try_send(const Data &data, unsigned kind, unsigned flags, std::error_code &error) noexcept
    {
        return detail::polled(send_one(detail::bytes_of(data), kind, flags, no_wait), error);
    }
    bool try_send(const Message &message)
    {
        return detail::polled(send_one(message, no_wait));
    }

    /* Copy a text into the ring as one message, without a zero byte at its end: a literal, a C
     * string, the text in an array of char, or what send() takes too. InvalidArgument: a literal
     * that goes on after a zero byte, NULL. */
    void send_text(const Text &text, unsigned kind = 1, unsigned flags = 0,
                   Timeout timeout = forever)
    {
        detail::check(text);
        detail::check(send_one(bytes_of(text), kind, flags, timeout));
    }
    bool send_text(const Text &text, unsigned kind, unsigned flags, Timeout timeout,
                   std::error_code &error) noexcept
    {
        return detail::set(error, text.fault() != nullptr
                                      ? SHMIPC_E_INVALID
                                      : send_one(bytes_of(text), kind, flags, timeout));
    }
    /* False: there is no room. */
    bool try_send_text(const Text &text, unsigned kind = 1, unsigned flags = 0)
    {
        detail::check(text);
        return detail::polled(send_one(bytes_of(text), kind, flags, no_wait));
    }
    bool try_send_text(const Text &text, unsigned kind, unsigned flags,
                       std::error_code &error) noexcept
    {
        return detail::polled(text.fault() != nullptr
                                  ? SHMIPC_E_INVALID
                                  : send_one(bytes_of(text), kind, flags, no_wait),
                              error);
    }

    /* Copy `count` messages, in as few commits as the room allows; how many were sent: fewer only
     * when the timeout has passed. */
    std::size_t send_n(const Message *messages, std::size_t count, Timeout timeout = forever)
    {
        std::size_t sent = 0;
        (void)detail::polled(send_all(messages, count, timeout, sent));
        return sent;
    }
    std::size_t send_n(const Message *messages, std::size_t count, Timeout timeout,
                       std::error_code &error) noexcept
    {
        std::size_t sent = 0;
        (void)detail::set(error, send_all(messages, count, timeout, sent));
        return sent;
    }

    /* Room for a message of `size` bytes, to be written in place; aligned to 16. Full after the
     * timeout. */
    Reservation<void> reserve(std::size_t size, Timeout timeout = forever)
    {
        Reservation<void> room;
        detail::check(reserve_one(size, timeout, room));
        return room;
    }
    Reservation<void> reserve(std::size_t size, Timeout timeout, std::error_code &error) noexcept
    {
        Reservation<void> room;
        (void)detail::set(error, reserve_one(size, timeout, room));
        return room;
    }
    /* False is what this is where there is no room. */
    Reservation<void> try_reserve(std::size_t size)
    {
        Reservation<void> room;
        (void)detail::polled(reserve_one(size, no_wait, room));
        return room;
    }

  private:
    static detail::Bytes bytes_of(const Text &text) noexcept
    {
        return {text.view().data(), text.view().size()};
    }
    int send_one(detail::Bytes bytes, unsigned kind, unsigned flags, Timeout timeout) noexcept
    {
        return shmipc_producer_send(handle(), bytes.data, bytes.size, kind, flags, timeout.ns());
    }
    int send_one(const Message &message, Timeout timeout) noexcept
    {
        return shmipc_producer_send(handle(), message.data(), message.size(), message.kind(),
                                    message.flags(), timeout.ns());
    }
    int send_all(const Message *messages, std::size_t count, Timeout timeout,
                 std::size_t &sent) noexcept
    {
        return shmipc_producer_send_messages(
            handle(), reinterpret_cast<const shmipc_view *>(messages), count, timeout.ns(), &sent);
    }
    int reserve_one(std::size_t size, Timeout timeout, Reservation<void> &room) noexcept
    {
        void *data = nullptr;
        const int result = shmipc_producer_reserve(handle(), size, timeout.ns(), &data);
        if (result == SHMIPC_SUCCESS) {
            room = {handle(), {static_cast<std::byte *>(data), size}};
        }
        return result;
    }
};

} // namespace shmipc

#endif
