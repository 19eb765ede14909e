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
 * Write SHMIPC_RECORD in the namespace of the struct, after it, naming its fields (64 at most) in
 * their order. A field left out is padding, of any type. The struct must be standard-layout and
 * trivially copyable; so std::string, pointers and virtual functions have no place in it.
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
    std::string text_;
    std::size_t end_ = 0;
};

namespace detail
{

struct Extent {
    std::size_t offset;
    std::size_t size;
};

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

#define SHMIPC_RECORD(type, ...)                                                           \
    inline void shmipc_describe(const type *, ::shmipc::Fields &shmipc_fields)             \
    {                                                                                      \
        static_assert(                                                                     \
            std::is_standard_layout_v<type> && std::is_trivially_copyable_v<type>,         \
            "a record is a plain struct: no pointers to the heap, no virtual functions");  \
        static_assert(                                                                     \
            ::shmipc::detail::in_order({SHMIPC_EACH_(SHMIPC_EXTENT_, type, __VA_ARGS__)}), \
            "name the fields of a record in their order, each once");                      \
        SHMIPC_EACH_(SHMIPC_FIELD_, type, __VA_ARGS__)                                     \
    }                                                                                      \
    static_assert(true, "")
#define SHMIPC_EXTENT_(type, field) {offsetof(type, field), sizeof(type::field)},
#define SHMIPC_FIELD_(type, field) \
    shmipc_fields.add<decltype(type::field)>(#field, offsetof(type, field));

/* m(t, a) for each of up to 64 a. */
// clang-format off
#define SHMIPC_PICK_(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, _17, \
    _18, _19, _20, _21, _22, _23, _24, _25, _26, _27, _28, _29, _30, _31, _32, _33, _34, _35, \
    _36, _37, _38, _39, _40, _41, _42, _43, _44, _45, _46, _47, _48, _49, _50, _51, _52, _53, \
    _54, _55, _56, _57, _58, _59, _60, _61, _62, _63, _64, n, ...) n
#define SHMIPC_COUNT_(...) SHMIPC_PICK_(__VA_ARGS__, 64, 63, 62, 61, 60, 59, 58, 57, 56, 55, 54, \
    53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39, 38, 37, 36, 35, 34, 33, 32, 31, \
    30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, \
    6, 5, 4, 3, 2, 1, 0)
#define SHMIPC_JOIN_(a, b) SHMIPC_JOIN2_(a, b)
#define SHMIPC_JOIN2_(a, b) a##b
#define SHMIPC_EACH_(m, t, ...) SHMIPC_JOIN_(SHMIPC_E, SHMIPC_COUNT_(__VA_ARGS__))(m, t, \
    __VA_ARGS__)
#define SHMIPC_E1(m, t, a) m(t, a)
#define SHMIPC_E2(m, t, a, ...) m(t, a) SHMIPC_E1(m, t, __VA_ARGS__)
#define SHMIPC_E3(m, t, a, ...) m(t, a) SHMIPC_E2(m, t, __VA_ARGS__)
#define SHMIPC_E4(m, t, a, ...) m(t, a) SHMIPC_E3(m, t, __VA_ARGS__)
#define SHMIPC_E5(m, t, a, ...) m(t, a) SHMIPC_E4(m, t, __VA_ARGS__)
#define SHMIPC_E6(m, t, a, ...) m(t, a) SHMIPC_E5(m, t, __VA_ARGS__)
#define SHMIPC_E7(m, t, a, ...) m(t, a) SHMIPC_E6(m, t, __VA_ARGS__)
#define SHMIPC_E8(m, t, a, ...) m(t, a) SHMIPC_E7(m, t, __VA_ARGS__)
#define SHMIPC_E9(m, t, a, ...) m(t, a) SHMIPC_E8(m, t, __VA_ARGS__)
#define SHMIPC_E10(m, t, a, ...) m(t, a) SHMIPC_E9(m, t, __VA_ARGS__)
#define SHMIPC_E11(m, t, a, ...) m(t, a) SHMIPC_E10(m, t, __VA_ARGS__)
#define SHMIPC_E12(m, t, a, ...) m(t, a) SHMIPC_E11(m, t, __VA_ARGS__)
#define SHMIPC_E13(m, t, a, ...) m(t, a) SHMIPC_E12(m, t, __VA_ARGS__)
#define SHMIPC_E14(m, t, a, ...) m(t, a) SHMIPC_E13(m, t, __VA_ARGS__)
#define SHMIPC_E15(m, t, a, ...) m(t, a) SHMIPC_E14(m, t, __VA_ARGS__)
#define SHMIPC_E16(m, t, a, ...) m(t, a) SHMIPC_E15(m, t, __VA_ARGS__)
#define SHMIPC_E17(m, t, a, ...) m(t, a) SHMIPC_E16(m, t, __VA_ARGS__)
#define SHMIPC_E18(m, t, a, ...) m(t, a) SHMIPC_E17(m, t, __VA_ARGS__)
#define SHMIPC_E19(m, t, a, ...) m(t, a) SHMIPC_E18(m, t, __VA_ARGS__)
#define SHMIPC_E20(m, t, a, ...) m(t, a) SHMIPC_E19(m, t, __VA_ARGS__)
#define SHMIPC_E21(m, t, a, ...) m(t, a) SHMIPC_E20(m, t, __VA_ARGS__)
#define SHMIPC_E22(m, t, a, ...) m(t, a) SHMIPC_E21(m, t, __VA_ARGS__)
#define SHMIPC_E23(m, t, a, ...) m(t, a) SHMIPC_E22(m, t, __VA_ARGS__)
#define SHMIPC_E24(m, t, a, ...) m(t, a) SHMIPC_E23(m, t, __VA_ARGS__)
#define SHMIPC_E25(m, t, a, ...) m(t, a) SHMIPC_E24(m, t, __VA_ARGS__)
#define SHMIPC_E26(m, t, a, ...) m(t, a) SHMIPC_E25(m, t, __VA_ARGS__)
#define SHMIPC_E27(m, t, a, ...) m(t, a) SHMIPC_E26(m, t, __VA_ARGS__)
#define SHMIPC_E28(m, t, a, ...) m(t, a) SHMIPC_E27(m, t, __VA_ARGS__)
#define SHMIPC_E29(m, t, a, ...) m(t, a) SHMIPC_E28(m, t, __VA_ARGS__)
#define SHMIPC_E30(m, t, a, ...) m(t, a) SHMIPC_E29(m, t, __VA_ARGS__)
#define SHMIPC_E31(m, t, a, ...) m(t, a) SHMIPC_E30(m, t, __VA_ARGS__)
#define SHMIPC_E32(m, t, a, ...) m(t, a) SHMIPC_E31(m, t, __VA_ARGS__)
#define SHMIPC_E33(m, t, a, ...) m(t, a) SHMIPC_E32(m, t, __VA_ARGS__)
#define SHMIPC_E34(m, t, a, ...) m(t, a) SHMIPC_E33(m, t, __VA_ARGS__)
#define SHMIPC_E35(m, t, a, ...) m(t, a) SHMIPC_E34(m, t, __VA_ARGS__)
#define SHMIPC_E36(m, t, a, ...) m(t, a) SHMIPC_E35(m, t, __VA_ARGS__)
#define SHMIPC_E37(m, t, a, ...) m(t, a) SHMIPC_E36(m, t, __VA_ARGS__)
#define SHMIPC_E38(m, t, a, ...) m(t, a) SHMIPC_E37(m, t, __VA_ARGS__)
#define SHMIPC_E39(m, t, a, ...) m(t, a) SHMIPC_E38(m, t, __VA_ARGS__)
#define SHMIPC_E40(m, t, a, ...) m(t, a) SHMIPC_E39(m, t, __VA_ARGS__)
#define SHMIPC_E41(m, t, a, ...) m(t, a) SHMIPC_E40(m, t, __VA_ARGS__)
#define SHMIPC_E42(m, t, a, ...) m(t, a) SHMIPC_E41(m, t, __VA_ARGS__)
#define SHMIPC_E43(m, t, a, ...) m(t, a) SHMIPC_E42(m, t, __VA_ARGS__)
#define SHMIPC_E44(m, t, a, ...) m(t, a) SHMIPC_E43(m, t, __VA_ARGS__)
#define SHMIPC_E45(m, t, a, ...) m(t, a) SHMIPC_E44(m, t, __VA_ARGS__)
#define SHMIPC_E46(m, t, a, ...) m(t, a) SHMIPC_E45(m, t, __VA_ARGS__)
#define SHMIPC_E47(m, t, a, ...) m(t, a) SHMIPC_E46(m, t, __VA_ARGS__)
#define SHMIPC_E48(m, t, a, ...) m(t, a) SHMIPC_E47(m, t, __VA_ARGS__)
#define SHMIPC_E49(m, t, a, ...) m(t, a) SHMIPC_E48(m, t, __VA_ARGS__)
#define SHMIPC_E50(m, t, a, ...) m(t, a) SHMIPC_E49(m, t, __VA_ARGS__)
#define SHMIPC_E51(m, t, a, ...) m(t, a) SHMIPC_E50(m, t, __VA_ARGS__)
#define SHMIPC_E52(m, t, a, ...) m(t, a) SHMIPC_E51(m, t, __VA_ARGS__)
#define SHMIPC_E53(m, t, a, ...) m(t, a) SHMIPC_E52(m, t, __VA_ARGS__)
#define SHMIPC_E54(m, t, a, ...) m(t, a) SHMIPC_E53(m, t, __VA_ARGS__)
#define SHMIPC_E55(m, t, a, ...) m(t, a) SHMIPC_E54(m, t, __VA_ARGS__)
#define SHMIPC_E56(m, t, a, ...) m(t, a) SHMIPC_E55(m, t, __VA_ARGS__)
#define SHMIPC_E57(m, t, a, ...) m(t, a) SHMIPC_E56(m, t, __VA_ARGS__)
#define SHMIPC_E58(m, t, a, ...) m(t, a) SHMIPC_E57(m, t, __VA_ARGS__)
#define SHMIPC_E59(m, t, a, ...) m(t, a) SHMIPC_E58(m, t, __VA_ARGS__)
#define SHMIPC_E60(m, t, a, ...) m(t, a) SHMIPC_E59(m, t, __VA_ARGS__)
#define SHMIPC_E61(m, t, a, ...) m(t, a) SHMIPC_E60(m, t, __VA_ARGS__)
#define SHMIPC_E62(m, t, a, ...) m(t, a) SHMIPC_E61(m, t, __VA_ARGS__)
#define SHMIPC_E63(m, t, a, ...) m(t, a) SHMIPC_E62(m, t, __VA_ARGS__)
#define SHMIPC_E64(m, t, a, ...) m(t, a) SHMIPC_E63(m, t, __VA_ARGS__)
// clang-format on

#endif
