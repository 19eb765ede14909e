/*
 * shmipc_ring.hpp: what producers and consumers have in common: options, opening, facts. Part of
 * shmipc.hpp, which includes it.
 */
#ifndef SHMIPC_RING_HPP
#define SHMIPC_RING_HPP

#include "shmipc.h"
#include "shmipc_bytes.hpp"
#include "shmipc_dtype.hpp"
#include "shmipc_error.hpp"
#include "shmipc_view.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace shmipc
{

/* ---- options -------------------------------------------------------------------------------- */

/* A time to wait: any duration (negative is none, 292 years is forever), forever, or 0. */
class Timeout
{
  public:
    constexpr Timeout(std::nullptr_t) noexcept : ns_(0) /* the literal 0 */
    {
    }
    template <class Rep, class Period>
    constexpr Timeout(std::chrono::duration<Rep, Period> time) noexcept
        : ns_(time > time.zero() ? nanoseconds(time) : 0)
    {
    }
    constexpr std::int64_t ns() const noexcept
    {
        return ns_;
    }
    static constexpr Timeout special(std::int64_t ns) noexcept
    {
        Timeout timeout(nullptr);
        timeout.ns_ = ns;
        return timeout;
    }

  private:
    template <class Rep, class Period>
    static constexpr std::int64_t nanoseconds(std::chrono::duration<Rep, Period> time) noexcept
    {
        return std::chrono::duration<double>(time).count() > 9.2e9
                   ? SHMIPC_FOREVER
                   : std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
    }
    std::int64_t ns_;
};

inline constexpr Timeout forever = Timeout::special(SHMIPC_FOREVER);
/* 0, where a compiler warns of zeros that are pointers. */
inline constexpr Timeout no_wait = Timeout::special(0);
/* A spin: poll for up to 20 us before sleeping, less while that does not help. */
inline constexpr Timeout adaptive = Timeout::special(SHMIPC_SPIN_ADAPTIVE);

enum class Overflow : std::uint32_t {
    block = SHMIPC_BLOCK,        /* the producer waits for the slowest consumer */
    overwrite = SHMIPC_OVERWRITE /* it never waits; who is lapped goes on at the newest, counted */
};

enum class Start : std::uint32_t {
    resume = SHMIPC_RESUME, /* a durable queue at the first unreleased; else as latest */
    latest = SHMIPC_LATEST,
    earliest = SHMIPC_EARLIEST
};

struct ProducerOptions {
    std::vector<std::uint64_t> shape{}; /* T[]: extents of an item */
    std::uint64_t capacity = 0;         /* items or bytes, rounded up; 0: about 1 MiB */
    std::uint32_t max_consumers = 1;    /* 1 with block: a durable queue */
    Overflow overflow = Overflow::block;
    std::uint32_t mode = 0600;  /* permission bits */
    Timeout spin = adaptive;    /* to poll before sleeping; 0, forever */
    std::string dtype{};        /* instead of T's own, for what C++ has no type: "<M8[ns]" */
    std::uint32_t hold_for = 0; /* block: keep all from message 0 on until so many have joined */
};

struct ConsumerOptions {
    std::vector<std::uint64_t> shape{}; /* T[]: extents of an item; none: any */
    Timeout timeout = forever;          /* to wait for the ring to exist */
    Start start = Start::resume;
    Timeout spin = adaptive;
    std::string dtype{};
};

namespace detail
{

/* ---- opening -------------------------------------------------------------------------------- */

/* What a T asks of its ring. */
struct Expected {
    std::string dtype; /* empty: a message ring */
    std::vector<std::uint64_t> shape;
    std::size_t size;    /* of an item; 0: what the shape says */
    std::size_t element; /* of an element of it */
    bool any_shape;
};

template <class T, class Options> Expected expect(const Options &options)
{
    Expected expected{{}, options.shape, 0, 1, false};
    static_assert(std::extent_v<T> == 0, "items of N elements are of std::array<T, N>; T[] takes "
                                         "their extents from the options or the ring");
    if constexpr (!std::is_void_v<T>) {
        using Element = std::remove_extent_t<T>;
        static_assert(std::is_trivially_copyable_v<Element> && !std::is_const_v<Element>,
                      "an item is plain bytes to be read and written");
        static_assert(!std::is_array_v<T> || is_dense<Element>(),
                      "elements of 4096 bytes and more must be multiples of 64 bytes");
        static_assert(alignof(Element) <= 4096, "a ring is aligned to a page of 4096 bytes");
        Dtype dtype = dtype_of<Element>();
        expected.any_shape = std::is_array_v<T> && options.shape.empty() && options.dtype.empty();
        expected.size = std::is_array_v<T> ? 0 : sizeof(Element);
        expected.element = sizeof(Element);
        expected.shape.insert(expected.shape.end(), dtype.shape.begin(), dtype.shape.end());
        expected.dtype = options.dtype.empty() ? std::move(dtype.text) : options.dtype;
    }
    return expected;
}

/* What of a ring that is open is not as a T needs it, in words; "" if nothing. */
inline std::string mismatch(const Expected &expected, const shmipc_info &info)
{
    const std::string schema = info.schema;
    const std::string ring = "ring \"" + std::string(info.name) + "\" is of items " + schema;
    if (expected.any_shape &&
        schema.compare(0, expected.dtype.size() + 4, '(' + expected.dtype + ", (") != 0) {
        return (info.typed ? ring : "ring \"" + std::string(info.name) + "\" is a message ring") +
               ", not of arrays of " + expected.dtype;
    }
    if (info.item_size % expected.element != 0 ||
        (expected.size != 0 && info.item_stride != stride_of(expected.size))) {
        return ring + ", which are " + std::to_string(info.item_size) + " bytes long and " +
               std::to_string(info.item_stride) + " apart: a C++ type of " +
               std::to_string(expected.element) + " bytes cannot look at them in place";
    }
    return {};
}

/* What is wrong with texts of which C would see the beginning only; "" if nothing. */
inline std::string fault_of(const Text &name, const std::string &dtype)
{
    if (name.fault() != nullptr) {
        return std::string("the name of a ring is ") + name.fault();
    }
    const bool cut = name.view().find('\0') != std::string_view::npos;
    if (cut || dtype.find('\0') != std::string::npos) {
        return (cut ? "the name of ring \"" : "the dtype of ring \"") + std::string(name.view()) +
               "\" has a zero byte in it";
    }
    return {};
}

/* InvalidArgument. */
inline void check(const Text &text)
{
    if (text.fault() != nullptr) {
        raise(SHMIPC_E_INVALID, (std::string("this is ") + text.fault()).c_str());
    }
}

struct Free {
    void operator()(shmipc_producer *producer) const noexcept
    {
        shmipc_producer_free(producer);
    }
    void operator()(shmipc_consumer *consumer) const noexcept
    {
        shmipc_consumer_free(consumer);
    }
    void operator()(shmipc_frame *frame) const noexcept
    {
        shmipc_frame_release(frame);
    }
};

template <class Options> void fill(Options &filled, const Expected &expected)
{
    filled.dtype = expected.any_shape ? nullptr : expected.dtype.c_str();
    filled.shape = expected.any_shape ? nullptr : expected.shape.data();
    filled.axes = expected.any_shape ? 0 : static_cast<std::uint32_t>(expected.shape.size());
    filled.item_size = expected.size;
}

inline int open(shmipc_producer **producer, const char *name, const ProducerOptions &options,
                const Expected &expected)
{
    shmipc_producer_options filled;
    shmipc_producer_options_init(&filled);
    fill(filled, expected);
    if (expected.dtype.empty()) {
        filled.dtype = nullptr;
    }
    filled.max_consumers = options.max_consumers;
    filled.capacity = options.capacity;
    filled.spin_ns = options.spin.ns();
    filled.overflow = static_cast<std::uint32_t>(options.overflow);
    filled.mode = options.mode;
    return shmipc_producer_open_holding(producer, name, &filled, options.hold_for);
}

inline int open(shmipc_consumer **consumer, const char *name, const ConsumerOptions &options,
                const Expected &expected)
{
    shmipc_consumer_options filled;
    shmipc_consumer_options_init(&filled);
    fill(filled, expected);
    filled.start = static_cast<std::uint32_t>(options.start);
    filled.timeout_ns = options.timeout.ns();
    filled.spin_ns = options.spin.ns();
    return shmipc_consumer_open(consumer, name, &filled);
}

inline int info_of(shmipc_producer *producer, shmipc_info &info) noexcept
{
    return shmipc_producer_info(producer, &info);
}

inline int info_of(shmipc_consumer *consumer, shmipc_info &info) noexcept
{
    return shmipc_consumer_info(consumer, &info);
}

/* What producers and consumers have in common: a handle that closes itself, and facts. */
template <class Handle> class Ring
{
  public:
    /* Is it open, or was it once? No: it was default-constructed, moved from, or not opened. */
    explicit operator bool() const noexcept
    {
        return handle_ != nullptr;
    }
    /* For the functions of shmipc.h. */
    Handle *handle() const noexcept
    {
        return handle_.get();
    }
    /* Facts of the ring. The texts live as long as this object. */
    shmipc_info info() const
    {
        shmipc_info info{};
        check(info_of(handle_.get(), info));
        return info;
    }

  protected:
    Ring() noexcept = default;
    template <class T, class Options>
    void open_as(const Text &name, const Options &options, std::error_code *error)
    {
        const Expected expected = expect<T>(options);
        Handle *handle = nullptr;
        shmipc_info info{};
        std::string fault = fault_of(name, options.dtype);
        int result = fault.empty()
                         ? open(&handle, std::string(name.view()).c_str(), options, expected)
                         : SHMIPC_E_INVALID;
        std::unique_ptr<Handle, Free> opened(handle);
        if (result == SHMIPC_SUCCESS) {
            result = info_of(handle, info);
        }
        if (result == SHMIPC_SUCCESS && !std::is_void_v<T>) {
            fault = mismatch(expected, info);
            result = fault.empty() ? SHMIPC_SUCCESS : SHMIPC_E_MISMATCH;
        }
        if (error != nullptr) {
            (void)set(*error, result);
        } else if (result != SHMIPC_SUCCESS) {
            raise(result, fault.empty() ? text_of(result) : fault.c_str());
        }
        if (result == SHMIPC_SUCCESS) {
            handle_ = std::move(opened);
            if constexpr (!std::is_void_v<T>) {
                extent_ = info.item_size / sizeof(std::remove_extent_t<T>);
                stride_ = info.item_stride;
            }
        }
    }
    /* Elements in an item, and bytes between two items. */
    std::size_t extent_ = 0;
    std::size_t stride_ = 0;
    std::unique_ptr<Handle, Free> handle_{};
};

} // namespace detail
} // namespace shmipc

#endif
