/*
 * shmipc_frame.hpp: what a consumer of T shows, and Frame<T>, which keeps it. Part of shmipc.hpp,
 * which includes it.
 */
#ifndef SHMIPC_FRAME_HPP
#define SHMIPC_FRAME_HPP

#include "shmipc_ring.hpp"

#include <optional>

namespace shmipc
{

namespace detail
{

/* What a consumer of T shows: several items, one, and one or none. */
template <class T> struct Shows {
    using Many = View<const T>;
    using One = const T &;
    using Maybe = const T *;
};
template <class T> struct Shows<T[]> {
    using Many = View<const T[]>;
    using One = View<const T>;
    using Maybe = std::optional<View<const T>>;
};
template <> struct Shows<void> {
    using Many = Message;
    using One = Message;
    using Maybe = std::optional<Message>;
};

template <class T>
typename Shows<T>::Many many_of(const shmipc_view &view, [[maybe_unused]] std::size_t extent)
{
    if constexpr (std::is_void_v<T>) {
        return Message(view);
    } else {
        return {static_cast<const std::remove_extent_t<T> *>(view.data), view.count, view.stride,
                extent, view.seq};
    }
}

template <class T>
typename Shows<T>::One one_of(const shmipc_view &view, [[maybe_unused]] std::size_t extent)
{
    if constexpr (std::is_void_v<T>) {
        return Message(view);
    } else {
        return many_of<T>(view, extent)[0];
    }
}

template <class T>
typename Shows<T>::Maybe maybe_of(bool any, const shmipc_view &view, std::size_t extent)
{
    if (!any) {
        return {};
    }
    if constexpr (std::is_void_v<T> || std::is_array_v<T>) {
        return one_of<T>(view, extent);
    } else {
        return static_cast<const T *>(view.data);
    }
}

} // namespace detail

/* Items, or a message, that were taken out of the stream and stay in place until this goes: a View
 * of the items, or a Message. *frame is the first, or only, item. Any thread may release it, before
 * or after its Consumer is gone. */
template <class T> class Frame : public detail::Shows<T>::Many
{
    using Content = typename detail::Shows<T>::Many;

  public:
    Frame() noexcept = default;
    Frame(shmipc_frame *frame, std::size_t extent) noexcept : frame_(frame)
    {
        shmipc_view view{};
        (void)shmipc_frame_view(frame, &view);
        content() = detail::many_of<T>(view, extent);
    }
    Frame(Frame &&other) noexcept
        : Content(std::exchange(other.content(), Content())), frame_(std::move(other.frame_))
    {
    }
    Frame &operator=(Frame &&other) noexcept
    {
        content() = std::exchange(other.content(), Content());
        frame_ = std::move(other.frame_);
        return *this;
    }
    /* Is there something in it? */
    explicit operator bool() const noexcept
    {
        return frame_ != nullptr;
    }
    decltype(auto) operator*() const noexcept
    {
        if constexpr (std::is_void_v<T>) {
            return static_cast<const Message &>(*this);
        } else {
            return (*this)[0];
        }
    }
    auto operator->() const noexcept
    {
        static_assert(!std::is_array_v<T>, "an item is an array: use *frame or frame[i]");
        if constexpr (std::is_void_v<T>) {
            return static_cast<const Message *>(this);
        } else {
            return this->data();
        }
    }
    /* Is it still what was committed? Always, but with Overflow::overwrite: ask after the copy. */
    bool is_intact() const noexcept
    {
        return shmipc_frame_is_intact(frame_.get());
    }
    void release() noexcept
    {
        frame_.reset();
        content() = Content();
    }

  private:
    Content &content() noexcept
    {
        return *this;
    }
    std::unique_ptr<shmipc_frame, detail::Free> frame_{};
};

} // namespace shmipc

#endif
