/* records.hpp: structs that several files here, and tests/native/test_cpp.py, know. */
#ifndef RECORDS_HPP
#define RECORDS_HPP

#include <shmipc.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace market
{

enum class Side : std::int8_t { sell = -1, none = 0, buy = 1 };

struct Tick {
    std::int64_t time;
    double price;
    float size;
    Side side;
};
SHMIPC_RECORD(Tick, time, price, size, side);

struct Leg {
    std::uint8_t id;
    double weight;
};
SHMIPC_RECORD(Leg, id, weight);

/* Something of everything. */
struct Mixed {
    bool flag;
    char letter;
    char name[11];
    std::byte raw;
    std::int8_t i1;
    std::uint16_t u2;
    std::array<char, 5> code;
    std::int32_t grid[2][3];
    std::array<std::array<float, 2>, 3> points;
    Leg legs[2];
    std::array<Leg, 1> more;
    char names[3][4];
    const std::uint64_t u8;
};
SHMIPC_RECORD(Mixed, flag, letter, name, raw, i1, u2, code, grid, points, legs, more, names, u8);

/* Fields that are not named are padding. */
struct Partly {
    std::int32_t hidden;
    std::int32_t seen;
    void *pointer;
    std::int16_t last;
};
SHMIPC_RECORD(Partly, seen, last);

} // namespace market

/* Items that do not fill whole lines: 4100 bytes, 4160 apart. */
struct Large {
    std::uint32_t number;
    std::uint32_t rest[1024];
};
SHMIPC_RECORD(Large, number, rest);

struct Wide {
    std::int32_t a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
        a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31, a32, a33, a34, a35, a36,
        a37, a38, a39, a40, a41, a42, a43, a44, a45, a46, a47, a48, a49, a50, a51, a52, a53, a54,
        a55, a56, a57, a58, a59, a60, a61, a62, a63, a64;
};
SHMIPC_RECORD(Wide, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
              a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31, a32, a33, a34, a35,
              a36, a37, a38, a39, a40, a41, a42, a43, a44, a45, a46, a47, a48, a49, a50, a51, a52,
              a53, a54, a55, a56, a57, a58, a59, a60, a61, a62, a63, a64);

#endif
