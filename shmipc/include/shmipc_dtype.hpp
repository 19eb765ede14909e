/*
 * shmipc_dtype.hpp: C++ types as numpy dtypes, for typed rings. Part of shmipc.hpp, which includes
 * it.
 *
 *     struct Tick { std::int64_t time; double price; float size; };
 *     SHMIPC_RECORD(Tick, time, price, size);
 *
 * makes Tick the dtype [('time', '<i8'), ('price', '<f8'), ('size', '<f4'), ('', '|V4')]: what
 * numpy has for np.dtype([('time', 'i8'), ('price', 'f8'), ('size', 'f4')], align=True).
 *
 *     bool                        b1      an enum               its underlying type
 *     std::int8_t .. int64_t      i1..i8  std::byte             u1
 *     std::uint8_t .. uint64_t    u1..u8  char[N], char         SN, S1
 *     float, double               f4, f8  T[N], std::array      its elements' dtype and a shape
 *
 * Write SHMIPC_RECORD in the namespace of the struct, after it, naming its fields (256 at most) in
 * their order. A field left out is padding, of any type. The struct must be standard-layout and
 * trivially copyable; so std::string, pointers and virtual functions have no place in it. numpy
 * drops zeros at the end of S: char[N] is for text, and bytes are std::byte[N].
 */
#ifndef SHMIPC_DTYPE_HPP
#define SHMIPC_DTYPE_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace shmipc
{

/* A dtype in numpy's notation, and the extents of the array of it that one T is. */
struct Dtype {
    std::string text;
    std::vector<std::uint64_t> shape;
};

/* The dtype of T. */
template <class T> Dtype dtype_of();

/* Collects the fields of a record; SHMIPC_RECORD talks to it. */
class Fields
{
  public:
    template <class Member> void add(const char *name, std::size_t offset)
    {
        const Dtype dtype = dtype_of<Member>();
        pad_to(offset);
        begin();
        text_ += '\'';
        text_ += name;
        text_ += "', " + dtype.text;
        if (!dtype.shape.empty()) {
            text_ += ", (";
            for (std::size_t i = 0; i < dtype.shape.size(); i++) {
                text_ += (i > 0 ? ", " : "") + std::to_string(dtype.shape[i]);
            }
            text_ += dtype.shape.size() == 1 ? ",)" : ")";
        }
        text_ += ')';
        end_ = offset + sizeof(Member);
    }
    std::string finish(std::size_t size)
    {
        pad_to(size);
        return '[' + text_ + ']';
    }

  private:
    void begin()
    {
        text_ += text_.empty() ? "(" : ", (";
    }
    void pad_to(std::size_t offset)
    {
        if (offset > end_) {
            begin();
            text_ += "'', '|V" + std::to_string(offset - end_) + "')";
        }
    }
    std::string text_{};
    std::size_t end_ = 0;
};

namespace detail
{

struct Extent {
    std::size_t offset;
    std::size_t size;
};

/* How many names stand in `a, b, c`. */
constexpr std::size_t count_names(const char *names)
{
    std::size_t count = 1;
    for (; *names != '\0'; names++) {
        count += *names == ',' ? 1 : 0;
    }
    return count;
}

constexpr bool in_order(std::initializer_list<Extent> extents)
{
    std::size_t end = 0;
    for (const Extent &extent : extents) {
        if (extent.offset < end) {
            return false;
        }
        end = extent.offset + extent.size;
    }
    return true;
}

template <class T, class = void> struct is_record : std::false_type {
};
template <class T>
struct is_record<T, std::void_t<decltype(shmipc_describe(static_cast<const T *>(nullptr),
                                                         std::declval<Fields &>()))>>
    : std::true_type {
};

template <class T> struct array_traits {
    static constexpr std::size_t extent = 0;
};
template <class T, std::size_t N> struct array_traits<T[N]> {
    using element = T;
    static constexpr std::size_t extent = N;
};
template <class T, std::size_t N> struct array_traits<std::array<T, N>> {
    using element = T;
    static constexpr std::size_t extent = N;
};

template <class T> constexpr char kind_of()
{
    return std::is_same_v<T, bool>       ? 'b'
           : std::is_floating_point_v<T> ? 'f'
           : std::is_signed_v<T>         ? 'i'
                                         : 'u';
}

template <class T> constexpr bool is_number()
{
    if (std::is_floating_point_v<T>) {
        return sizeof(T) == 4 || sizeof(T) == 8;
    }
    return std::is_integral_v<T> && sizeof(T) <= 8 && !std::is_same_v<T, wchar_t> &&
           !std::is_same_v<T, char16_t> && !std::is_same_v<T, char32_t>;
}

} // namespace detail

template <class T> Dtype dtype_of()
{
    using Array = detail::array_traits<T>;
    if constexpr (std::is_const_v<T>) {
        return dtype_of<std::remove_const_t<T>>();
    } else if constexpr (Array::extent > 0) {
        using Element = typename Array::element;
        if constexpr (std::is_same_v<std::remove_const_t<Element>, char>) {
            return {"'|S" + std::to_string(Array::extent) + '\'', {}};
        } else {
            Dtype dtype = dtype_of<Element>();
            dtype.shape.insert(dtype.shape.begin(), Array::extent);
            return dtype;
        }
    } else if constexpr (std::is_same_v<T, char>) {
        return {"'|S1'", {}};
    } else if constexpr (std::is_enum_v<T>) {
        return dtype_of<std::underlying_type_t<T>>();
    } else if constexpr (std::is_arithmetic_v<T>) {
        static_assert(detail::is_number<T>(), "this type has no size or form that numpy shares: "
                                              "use the fixed-size integers, float or double");
        const char order = sizeof(T) == 1                              ? '|'
                           : __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<'
                                                                       : '>';
        return {{'\'', order, detail::kind_of<T>(), static_cast<char>('0' + sizeof(T)), '\''}, {}};
    } else {
        static_assert(detail::is_record<T>::value,
                      "this type has no dtype: describe it, with SHMIPC_RECORD(T, field, ...) in "
                      "its namespace");
        Fields fields;
        shmipc_describe(static_cast<const T *>(nullptr), fields);
        return {fields.finish(sizeof(T)), {}};
    }
}

} // namespace shmipc

#define SHMIPC_RECORD(type, ...)                                                             \
    inline void shmipc_describe(const type *, ::shmipc::Fields &shmipc_fields)               \
    {                                                                                        \
        static_assert(::shmipc::detail::count_names(#__VA_ARGS__) <= 256,                    \
                      "a record has 256 fields at most: make some of them an array, or a "   \
                      "record of their own");                                                \
        static_assert(std::is_trivially_copyable_v<type>,                                    \
                      "a record is a plain struct: no pointers to the heap (std::string, "   \
                      "std::vector), no virtual functions");                                 \
        static_assert(std::is_standard_layout_v<type>,                                       \
                      "a record has all of its fields in one struct, all of them public or " \
                      "all not, and no virtual functions: of a base class with fields make " \
                      "the first member instead");                                           \
        static_assert(                                                                       \
            ::shmipc::detail::in_order({SHMIPC_EACH_(SHMIPC_EXTENT_, type, __VA_ARGS__)}),   \
            "name the fields of a record in their order, each once");                        \
        SHMIPC_EACH_(SHMIPC_FIELD_, type, __VA_ARGS__)                                       \
    }                                                                                        \
    static_assert(true, "")
#define SHMIPC_EXTENT_(type, field) {offsetof(type, field), sizeof(type::field)},
#define SHMIPC_FIELD_(type, field) \
    shmipc_fields.add<decltype(type::field)>(#field, offsetof(type, field));

/* m(t, a) for each a. A macro is not expanded within itself; but what an expansion leaves behind is
 * looked at again by each SHMIPC_AGAIN_ around it, 364 times in all, and each time one step is
 * made. Behind the last a comes `()()()`, which makes the step to the end instead of to the next.
 */
// clang-format off
#define SHMIPC_EACH_(m, t, ...) \
    SHMIPC_AGAIN_(SHMIPC_EVEN_(m, t, __VA_ARGS__, ()()(), ()()(), ()()(), 0))
#define SHMIPC_AGAIN_(...) SHMIPC_AGAIN4_(SHMIPC_AGAIN4_(SHMIPC_AGAIN4_(__VA_ARGS__)))
#define SHMIPC_AGAIN4_(...) SHMIPC_AGAIN3_(SHMIPC_AGAIN3_(SHMIPC_AGAIN3_(__VA_ARGS__)))
#define SHMIPC_AGAIN3_(...) SHMIPC_AGAIN2_(SHMIPC_AGAIN2_(SHMIPC_AGAIN2_(__VA_ARGS__)))
#define SHMIPC_AGAIN2_(...) SHMIPC_AGAIN1_(SHMIPC_AGAIN1_(SHMIPC_AGAIN1_(__VA_ARGS__)))
#define SHMIPC_AGAIN1_(...) SHMIPC_AGAIN0_(SHMIPC_AGAIN0_(SHMIPC_AGAIN0_(__VA_ARGS__)))
#define SHMIPC_AGAIN0_(...) __VA_ARGS__
#define SHMIPC_EVEN_(m, t, a, next, ...) \
    m(t, a) SHMIPC_STEP_(next, SHMIPC_ODD_)(m, t, next, __VA_ARGS__)
#define SHMIPC_ODD_(m, t, a, next, ...) \
    m(t, a) SHMIPC_STEP_(next, SHMIPC_EVEN_)(m, t, next, __VA_ARGS__)
/* `to`, not expanded before the next look; or the end, if `next` is `()()()`. */
#define SHMIPC_STEP_(next, to) SHMIPC_SECOND_(SHMIPC_IS_END_ next, to, 0)
#define SHMIPC_SECOND_(...) SHMIPC_SECOND2_(__VA_ARGS__)
#define SHMIPC_SECOND2_(first, second, ...) second SHMIPC_LATER_
#define SHMIPC_LATER_
#define SHMIPC_IS_END_() SHMIPC_IS_END2_
#define SHMIPC_IS_END2_() SHMIPC_IS_END3_
#define SHMIPC_IS_END3_() 0, SHMIPC_END_
#define SHMIPC_END_(...)
// clang-format on

#endif
