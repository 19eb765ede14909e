/*
 * shmipc_bytes.hpp: what is given to be sent, as bytes; and texts. Part of shmipc.hpp, which
 * includes it.
 *
 * A literal and an array of char in a struct have the same type. The one is text and ends with a
 * zero byte; the other may be text that fills it, without one, or no text at all. So send() takes
 * neither, and what is meant is said:
 *
 *     out.send_text("literal");                          text
 *     out.send_text(order.symbol);                       text, up to its first zero or its end
 *     out.send(shmipc::Message(order.id, sizeof order.id));    all bytes of it, whatever they are
 */
#ifndef SHMIPC_BYTES_HPP
#define SHMIPC_BYTES_HPP

#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>

namespace shmipc
{

/* A text that is given: a std::string, a std::string_view, a C string, a literal, an array of char.
 * That of an array ends at its first zero byte or with the array: nothing behind it is read. What a
 * literal, or another array that is const, has behind a zero byte but zeros would be lost: that is
 * no text. Lives no longer than what it was made of. */
class Text
{
  public:
    template <class T, class = std::enable_if_t<std::is_convertible_v<T &&, std::string_view>>>
    constexpr Text(T &&text) noexcept(std::is_array_v<std::remove_reference_t<T>> ||
                                      std::is_nothrow_constructible_v<std::string_view, T &&>)
        : view_()
    {
        using Given = std::remove_reference_t<T>;
        if constexpr (std::is_array_v<Given>) {
            view_ = std::string_view(&text[0], std::extent_v<Given>);
            const std::size_t end = view_.find('\0');
            if (end != std::string_view::npos) {
                const bool rest = view_.find_first_not_of('\0', end) != std::string_view::npos;
                fault_ = std::is_const_v<std::remove_extent_t<Given>> && rest
                             ? "a text with a zero byte in it: give a std::string_view of the "
                               "length that is meant"
                             : nullptr;
                view_ = view_.substr(0, end);
            }
        } else if constexpr (std::is_pointer_v<std::remove_cv_t<Given>>) {
            if (text == nullptr) {
                fault_ = "a text that is NULL";
            } else {
                view_ = std::string_view(text);
            }
        } else {
            view_ = std::string_view(std::forward<T>(text));
        }
    }
    constexpr std::string_view view() const noexcept
    {
        return view_;
    }
    /* What is wrong with it; NULL: nothing. */
    constexpr const char *fault() const noexcept
    {
        return fault_;
    }

  private:
    std::string_view view_;
    const char *fault_ = nullptr;
};

class Message;

namespace detail
{

/* The bytes of what is to be sent: of a range of plain elements that lie one after the other
 * (std::string, std::vector, std::span, View, std::array, an array), or of one plain object. */
struct Bytes {
    const void *data;
    std::size_t size;
};

/* Elements that lie one after the other; const: std::vector<bool> has a data() that returns
 * nothing. */
template <class Data, class = void> struct is_range : std::false_type {
};
template <class Data>
struct is_range<
    Data,
    std::enable_if_t<
        std::is_object_v<std::remove_pointer_t<decltype(std::declval<const Data &>().data())>> &&
        std::is_integral_v<decltype(std::declval<const Data &>().size())>>>
    : std::is_pointer<decltype(std::declval<const Data &>().data())> {
};

/* Anything that a range-for goes through. */
template <class Data, class = void> struct is_sequence : std::false_type {
};
template <class Data>
struct is_sequence<Data, std::void_t<decltype(std::declval<const Data &>().begin()),
                                     decltype(std::declval<const Data &>().end())>>
    : std::true_type {
};

/* Of which literals are made. */
template <class T> constexpr bool is_character()
{
    using Element = std::remove_cv_t<T>;
#if defined(__cpp_char8_t)
    if (std::is_same_v<Element, char8_t>) {
        return true;
    }
#endif
    return std::is_same_v<Element, char> || std::is_same_v<Element, wchar_t> ||
           std::is_same_v<Element, char16_t> || std::is_same_v<Element, char32_t>;
}

/* A Message, or a Frame of one, has a kind already. */
template <class Data> using IfNoMessage = std::enable_if_t<!std::is_base_of_v<Message, Data>>;

/* One message's. */
template <class Data> Bytes bytes_of(const Data &data) noexcept
{
    static_assert(!std::is_pointer_v<Data>,
                  "how long is it? Send a shmipc::Message(data, size), or a text by send_text()");
    static_assert(!std::is_array_v<Data> || !is_character<std::remove_extent_t<Data>>(),
                  "an array of characters may be text or bytes: send_text(it) sends the text in "
                  "it, send(shmipc::Message(it, sizeof it)) all of its bytes");
    if constexpr (std::is_convertible_v<const Data &, std::string_view>) {
        const std::string_view text = data;
        return {text.data(), text.size()};
    } else if constexpr (is_range<Data>::value) {
        using Element = std::remove_pointer_t<decltype(data.data())>;
        static_assert(std::is_trivially_copyable_v<Element>, "its elements are no plain bytes");
        return {data.data(), data.size() * sizeof(Element)};
    } else {
        static_assert(!is_sequence<Data>::value,
                      "the elements of this range do not lie one after the other in memory "
                      "(std::vector<bool> packs them, std::deque and std::list scatter them): copy "
                      "them into a std::vector of another type, or a std::array");
        static_assert(std::is_trivially_copyable_v<Data>, "this object is no plain bytes");
        return {&data, sizeof data};
    }
}

/* The bytes of a range of E. */
template <class E, class Range> Bytes elements_of(const Range &range) noexcept
{
    if constexpr (std::is_array_v<Range>) {
        static_assert(std::is_same_v<std::remove_all_extents_t<Range>, E>, "its elements are no T");
        return {range, sizeof range};
    } else if constexpr (is_range<Range>::value) {
        using Element = std::remove_const_t<std::remove_pointer_t<decltype(range.data())>>;
        static_assert(std::is_same_v<Element, E>, "its elements are no T");
        return {range.data(), range.size() * sizeof(E)};
    } else {
        static_assert(is_range<Range>::value,
                      "items must lie one after the other in memory, where data() and size() say "
                      "(a std::vector, std::array, View or array of T; std::vector<bool> packs "
                      "them, std::deque and std::list scatter them): copy them into one that does");
        return {nullptr, 0};
    }
}

} // namespace detail
} // namespace shmipc

#endif
