/*
 * shmipc_view.hpp: what a ring shows in place, as spans. Part of shmipc.hpp, which includes it.
 *
 * Views own nothing: how long they are good is said where they come from. Copying one copies no
 * data.
 */
#ifndef SHMIPC_VIEW_HPP
#define SHMIPC_VIEW_HPP

#include "shmipc.h"
#include "shmipc_error.hpp"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <type_traits>
#if __cplusplus >= 202002L
#include <ranges>
#endif

namespace shmipc
{

namespace detail
{

/* Items of 4096 bytes and more begin at multiples of 64 bytes. */
constexpr std::size_t stride_of(std::size_t size)
{
    return size < 4096 ? size : (size + 63) / 64 * 64;
}

/* Do items of T lie one after the other, as in an array of T? */
template <class T> constexpr bool is_dense()
{
    if constexpr (std::is_array_v<T>) {
        return false;
    } else {
        return stride_of(sizeof(T)) == sizeof(T);
    }
}

template <class View> class Stepper;

} // namespace detail

/* A span of items: View<const Tick>, and View<Tick> where they may be written. Items of T[] are
 * arrays whose length the ring's shape says: each element of a View<const float[]> is a
 * View<const float>. */
template <class T> class View
{
  public:
    using element_type = std::remove_extent_t<T>;
    using value_type = std::remove_cv_t<element_type>;
    using size_type = std::size_t;
    using reference = std::conditional_t<std::is_array_v<T>, View<element_type>, element_type &>;
    using iterator =
        std::conditional_t<detail::is_dense<T>(), element_type *, detail::Stepper<View<T>>>;

    constexpr View() noexcept = default;
    /* `size` elements that lie one after the other. */
    constexpr View(element_type *data, std::size_t size) noexcept
        : data_(data), size_(size), stride_(sizeof(element_type)), extent_(1)
    {
        static_assert(!std::is_array_v<T>, "how long is an item?");
    }
    /* `size` items, `stride` bytes apart, each `extent` elements long, the first of number `seq`.
     */
    constexpr View(element_type *data, std::size_t size, std::size_t stride, std::size_t extent,
                   std::uint64_t seq) noexcept
        : data_(data), size_(size), stride_(stride), extent_(extent), seq_(seq)
    {
    }
    /* View<T> is a View<const T>. */
    constexpr operator View<const T>() const noexcept
    {
        return {data_, size_, stride_, extent_, seq_};
    }

    constexpr element_type *data() const noexcept
    {
        return data_;
    }
    constexpr std::size_t size() const noexcept
    {
        return size_;
    }
    constexpr bool empty() const noexcept
    {
        return size_ == 0;
    }
    /* No check of `i`. */
    constexpr reference operator[](std::size_t i) const noexcept
    {
        if constexpr (detail::is_dense<T>()) {
            return data_[i];
        } else {
            return at(step(data_, i));
        }
    }
    constexpr reference front() const noexcept
    {
        return (*this)[0];
    }
    constexpr reference back() const noexcept
    {
        return (*this)[size_ - 1];
    }
    constexpr iterator begin() const noexcept
    {
        if constexpr (detail::is_dense<T>()) {
            return data_;
        } else {
            return {*this, data_};
        }
    }
    constexpr iterator end() const noexcept
    {
        if constexpr (detail::is_dense<T>()) {
            return data_ + size_;
        } else {
            return {*this, step(data_, size_)};
        }
    }
    /* Number of the first item since the ring began. */
    constexpr std::uint64_t seq() const noexcept
    {
        return seq_;
    }
    /* Items of T[]: elements in each. */
    constexpr std::size_t extent() const noexcept
    {
        return extent_;
    }

  private:
    friend class detail::Stepper<View<T>>;
    using Byte =
        std::conditional_t<std::is_const_v<element_type>, const unsigned char, unsigned char>;
    using Untyped = std::conditional_t<std::is_const_v<element_type>, const void, void>;
    element_type *step(element_type *from, std::size_t items) const noexcept
    {
        Untyped *const to = reinterpret_cast<Byte *>(from) + items * stride_;
        return static_cast<element_type *>(to);
    }
    constexpr reference at(element_type *item) const noexcept
    {
        if constexpr (std::is_array_v<T>) {
            return {item, extent_};
        } else {
            return *item;
        }
    }

    element_type *data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t stride_ = 0;
    std::size_t extent_ = 0;
    std::uint64_t seq_ = 0;
};

namespace detail
{

/* Goes through items that are further apart than they are long, or are arrays. */
template <class View> class Stepper
{
  public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::remove_cv_t<std::remove_reference_t<typename View::reference>>;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = typename View::reference;

    Stepper() noexcept = default;
    Stepper(const View &view, typename View::element_type *item) noexcept : view_(view), item_(item)
    {
    }
    reference operator*() const noexcept
    {
        return view_.at(item_);
    }
    Stepper &operator++() noexcept
    {
        item_ = view_.step(item_, 1);
        return *this;
    }
    Stepper operator++(int) noexcept
    {
        Stepper before = *this;
        ++*this;
        return before;
    }
    friend bool operator==(const Stepper &a, const Stepper &b) noexcept
    {
        return a.item_ == b.item_;
    }
    friend bool operator!=(const Stepper &a, const Stepper &b) noexcept
    {
        return a.item_ != b.item_;
    }

  private:
    View view_;
    typename View::element_type *item_ = nullptr;
};

} // namespace detail

/* A message: bytes, and what its sender said of them. */
class Message
{
  public:
    Message() noexcept : Message(nullptr, 0)
    {
    }
    /* One to be sent. A kind or flags above 65535 become kind 0, which send() refuses. */
    Message(const void *data, std::size_t size, unsigned kind = 1, unsigned flags = 0) noexcept
    {
        view_.data = data;
        view_.len = size;
        view_.count = 1;
        view_.kind = static_cast<std::uint16_t>((kind | flags) > 0xffff ? 0 : kind);
        view_.flags = static_cast<std::uint16_t>(flags);
    }
    explicit Message(const shmipc_view &view) noexcept : view_(view)
    {
    }
    const std::byte *data() const noexcept
    {
        return static_cast<const std::byte *>(view_.data);
    }
    std::size_t size() const noexcept
    {
        return view_.len;
    }
    bool empty() const noexcept
    {
        return view_.len == 0;
    }
    const std::byte *begin() const noexcept
    {
        return data();
    }
    const std::byte *end() const noexcept
    {
        return data() + size();
    }
    std::byte operator[](std::size_t i) const noexcept
    {
        return data()[i];
    }
    unsigned kind() const noexcept
    {
        return view_.kind;
    }
    unsigned flags() const noexcept
    {
        return view_.flags;
    }
    /* Its number since the ring began. */
    std::uint64_t seq() const noexcept
    {
        return view_.seq;
    }
    std::string_view text() const noexcept
    {
        return {reinterpret_cast<const char *>(data()), size()};
    }
    /* The bytes as a U, or NULL if they are not as many, or not so aligned (in a ring they are to
     * 16, which does for every U that this compiles for). */
    template <class U> const U *try_as() const noexcept
    {
        static_assert(std::is_trivially_copyable_v<U>, "bytes are no such object");
        static_assert(alignof(U) <= 16,
                      "messages are aligned to 16 bytes, and this type needs more (alignas): copy "
                      "it with std::memcpy, or send it through a ring of items, Producer<U>");
        const auto *object = reinterpret_cast<const U *>(view_.data);
        return size() == sizeof(U) && reinterpret_cast<std::uintptr_t>(object) % alignof(U) == 0
                   ? object
                   : nullptr;
    }
    /* The bytes as a U. SchemaMismatch if they are not as many, or (only outside a ring) not so
     * aligned. */
    template <class U> const U &as() const
    {
        const U *object = try_as<U>();
        if (object == nullptr) {
            detail::raise(SHMIPC_E_MISMATCH, mismatch(sizeof(U), alignof(U)).c_str());
        }
        return *object;
    }

  private:
    std::string mismatch(std::size_t wanted, std::size_t alignment) const
    {
        return size() == wanted
                   ? "a message at an address that is no multiple of " + std::to_string(alignment)
                   : "a message of " + std::to_string(size()) + " bytes is no object of " +
                         std::to_string(wanted) + " bytes";
    }
    shmipc_view view_{};
};

static_assert(std::is_standard_layout_v<Message> && sizeof(Message) == sizeof(shmipc_view),
              "an array of one is an array of the other");

} // namespace shmipc

#if __cplusplus >= 202002L
template <class T> inline constexpr bool std::ranges::enable_borrowed_range<shmipc::View<T>> = true;
#endif

#endif
