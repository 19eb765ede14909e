/*
 * stream.cpp: what the C++ peer sends and takes: the generator, the digest, every way in and out,
 * whole streams of bytes and records by their fields.
 *
 * Owns:     `send`, `take`, `put`, `get`.
 * Must not know: the scenarios, what is right.
 */
#include "peer.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

/* ---- the generator, and the digest ---------------------------------------------------------- */

std::uint64_t mix(std::uint64_t x)
{
    x += 0x9E3779B97F4A7C15;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
}

std::uint64_t digest(const std::byte *at, std::size_t size, std::uint64_t seq, unsigned kind,
                     unsigned flags)
{
    std::uint64_t sum = size;
    for (std::size_t j = 0; 8 * j < size; j++) {
        std::uint64_t word = 0;
        std::memcpy(&word, at + 8 * j, std::min<std::size_t>(8, size - 8 * j));
        sum += mix(word ^ mix(j));
    }
    return mix(mix(mix(seq) ^ (std::uint64_t{kind} << 16 | flags)) ^ sum);
}

std::uint64_t digest(const shmipc::Message &message)
{
    return digest(message.data(), message.size(), message.seq(), message.kind(), message.flags());
}

namespace
{

void fill(std::byte *at, std::size_t size, std::uint64_t start)
{
    for (std::size_t j = 0; 8 * j < size; j++) {
        const std::uint64_t word = mix(start + 1 + j);
        std::memcpy(at + 8 * j, &word, std::min<std::size_t>(8, size - 8 * j));
    }
}

/* ---- sending -------------------------------------------------------------------------------- */

struct Plan {
    std::uint64_t seed, low, high;
    int kind, flags;

    /* Message `i`, whose bytes go to the end of `bytes`. */
    shmipc::Message message(std::uint64_t i, std::vector<std::byte> &bytes) const
    {
        const std::uint64_t start = mix(seed + i);
        const std::size_t size = low + (start >> 8) % (high - low + 1);
        const std::size_t at = bytes.size();
        bytes.resize(at + size);
        fill(bytes.data() + at, size, start);
        return {bytes.data() + at, size,
                kind >= 0 ? static_cast<unsigned>(kind)
                          : static_cast<unsigned>(1 + (start >> 32) % 65535),
                flags >= 0 ? static_cast<unsigned>(flags) : static_cast<unsigned>(start >> 48)};
    }
};

void check(const std::error_code &error)
{
    if (error) {
        shmipc::detail::raise(error.value(), shmipc::detail::text_of(error.value()));
    }
}

void send_one(const Plan &plan, std::uint64_t i, shmipc::Timeout timeout)
{
    std::vector<std::byte> bytes;
    const shmipc::Message message = plan.message(i, bytes);
    if (sending.items) {
        sending.items.send(bytes, timeout);
    } else if (plan.kind > 65535 || plan.kind == 0) {
        sending.messages.send(bytes, static_cast<unsigned>(plan.kind), message.flags(), timeout);
    } else if (i % 2 == 0) {
        sending.messages.send(message, timeout);
    } else {
        sending.messages.send(bytes, message.kind(), message.flags(), timeout);
    }
    done++;
}

void send_batch(const Plan &plan, std::uint64_t i, std::size_t count, shmipc::Timeout timeout)
{
    std::vector<std::byte> bytes;
    std::vector<shmipc::Message> messages;
    std::error_code error;
    bytes.reserve(count * plan.high + 1); /* messages point into it */
    for (std::size_t n = 0; n < count; n++) {
        messages.push_back(plan.message(i + n, bytes));
    }
    if (sending.items) {
        done += sending.items.send_n(bytes, timeout, error);
    } else {
        done += sending.messages.send_n(messages.data(), count, timeout, error);
    }
    check(error);
}

/* In place: more room than is used, and now and then given up first. */
void send_in_place(const Plan &plan, std::uint64_t i, std::size_t count, std::size_t batch,
                   shmipc::Timeout timeout)
{
    std::vector<std::byte> bytes;
    if (sending.items) {
        auto room = sending.items.reserve(count + 1, timeout);
        for (std::size_t n = 0; n < count; n++) {
            bytes.clear();
            const shmipc::Message message = plan.message(i + n, bytes);
            std::copy(message.begin(), message.end(), room[n].begin());
        }
        room.commit(count);
        done += count;
        return;
    }
    const shmipc::Message message = plan.message(i, bytes);
    if (i % 5 == 3) {
        auto room = sending.messages.reserve(message.size(), timeout);
        std::fill(room.begin(), room.end(), std::byte{0xEE});
    } /* and so it is given up */
    auto room = sending.messages.reserve(message.size() + batch - 1, timeout);
    std::copy(message.begin(), message.end(), room.begin());
    room.commit(message.size(), message.kind(), message.flags());
    done++;
}

} // namespace

/* send MODE SEED FIRST COUNT LOW HIGH KIND FLAGS BATCH MS */
std::string do_send(const Words &words)
{
    const Plan plan{number(words[2]), number(words[5]), number(words[6]), std::stoi(words[7]),
                    std::stoi(words[8])};
    const std::uint64_t first = number(words[3]);
    const std::uint64_t count = number(words[4]);
    const std::uint64_t batch = number(words[9]);
    const shmipc::Timeout timeout = time_of(words[10]);
    while (done < count) {
        const auto most = static_cast<std::size_t>(std::min(batch, count - done));
        if (words[1] == "send") {
            send_one(plan, first + done, timeout);
        } else if (words[1] == "many") {
            send_batch(plan, first + done, most, timeout);
        } else {
            send_in_place(plan, first + done, most, static_cast<std::size_t>(batch), timeout);
        }
    }
    return "ok " + std::to_string(done);
}

/* ---- taking --------------------------------------------------------------------------------- */

namespace
{

struct Run {
    std::uint64_t first, end;
};

struct Tally {
    std::uint64_t count = 0, size = 0, sum = 0, discarded = 0;
    std::vector<Run> runs; /* of sequence numbers without a gap */

    void add(std::uint64_t seq, std::size_t bytes, std::uint64_t digest)
    {
        count++;
        size += bytes;
        sum += digest;
        if (!runs.empty() && runs.back().end == seq) {
            runs.back().end++;
        } else {
            runs.push_back({seq, seq + 1});
        }
    }
    void add(const Tally &other)
    {
        for (const Run &run : other.runs) {
            if (!runs.empty() && runs.back().end == run.first) {
                runs.back().end = run.end;
            } else {
                runs.push_back(run);
            }
        }
        count += other.count;
        size += other.size;
        sum += other.sum;
    }
    void look(const shmipc::Message &message)
    {
        add(message.seq(), message.size(), digest(message));
    }
    void look(const shmipc::View<const Item> &items)
    {
        for (std::size_t i = 0; i < items.size(); i++) {
            const shmipc::View<const std::byte> item = items[i];
            add(items.seq() + i, item.size(),
                digest(item.data(), item.size(), items.seq() + i, 0, 0));
        }
    }
};

template <class T>
void take_copy(Tally &tally, shmipc::Consumer<T> &consumer, shmipc::Timeout timeout)
{
    static std::byte buffer[1 << 17];
    tally.look(consumer.recv(buffer, sizeof buffer, timeout));
}

template <class T> void take_frame(Tally &tally, const shmipc::Frame<T> &frame)
{
    Tally seen;
    seen.look(static_cast<const typename shmipc::Consumer<T>::Many &>(frame));
    if (frame.is_intact()) {
        tally.add(seen);
    } else {
        tally.discarded += seen.count;
    }
}

/* Give back what was peeked at, and count it unless it was overwritten: then it counts as lost. */
template <class T>
void give_back(Tally &tally, const Tally &seen, shmipc::Consumer<T> &consumer, std::uint64_t count)
{
    const bool intact = consumer.is_intact();
    try {
        if (count > 0) {
            consumer.release(count);
        } else {
            consumer.release();
        }
    } catch (const shmipc::Overrun &) {
        return;
    }
    if (intact) {
        tally.add(seen);
    }
}

void take_peek(Tally &tally, shmipc::Timeout timeout)
{
    Tally seen;
    if (taking.items) {
        seen.look(taking.items.peek_n(1, timeout));
        give_back(tally, seen, taking.items, 0);
    } else {
        seen.look(taking.messages.peek(timeout));
        give_back(tally, seen, taking.messages, 0);
    }
}

void take_peek_n(Tally &tally, std::size_t max, shmipc::Timeout timeout)
{
    Tally seen;
    if (taking.items) {
        seen.look(taking.items.peek_n(max, timeout));
        give_back(tally, seen, taking.items, 0);
        return;
    }
    std::vector<shmipc::Message> messages(max);
    std::size_t count = taking.messages.peek_n(messages.data(), max, timeout);
    count =
        count > 2 && messages[0].seq() % 3 == 0 ? count / 2 : count; /* look again at the rest */
    std::for_each_n(messages.begin(), count, [&](const auto &message) { seen.look(message); });
    give_back(tally, seen, taking.messages, count);
}

void take(Tally &tally, const std::string &mode, std::size_t max, shmipc::Timeout timeout)
{
    if (mode == "peek") {
        take_peek(tally, timeout);
    } else if (mode == "peek_n") {
        take_peek_n(tally, max, timeout);
    } else if (mode == "recv") {
        taking.items ? take_copy(tally, taking.items, timeout)
                     : take_copy(tally, taking.messages, timeout);
    } else if (!taking.items) {
        take_frame(tally, taking.messages.read(timeout));
    } else {
        take_frame(tally,
                   mode == "read" ? taking.items.read(timeout) : taking.items.read_n(max, timeout));
    }
}

} // namespace

/* take MODE COUNT BATCH MS */
std::string do_take(const Words &words)
{
    const std::uint64_t wanted = number(words[2]);
    const std::uint64_t batch = number(words[3]);
    const shmipc::Timeout timeout = time_of(words[4]);
    Tally tally;
    std::string end = "-";
    std::string text;
    std::uint64_t lost = 0;
    try {
        while (tally.count < wanted) {
            take(tally, words[1], static_cast<std::size_t>(std::min(batch, wanted - tally.count)),
                 timeout);
        }
    } catch (const shmipc::Error &error) {
        end = name_of(error.code().value());
        text = error.what();
    }
    try {
        lost = taking.items ? taking.items.stats().lost : taking.messages.stats().lost;
    } catch (const shmipc::Closed &) { /* a closed handle counts nothing */
    }
    std::string said = "ok " + std::to_string(tally.count) + ' ' + std::to_string(tally.size) +
                       ' ' + hex(tally.sum) + ' ' + std::to_string(lost) + ' ' +
                       std::to_string(tally.discarded) + ' ' + end + ' ';
    for (const Run &run : tally.runs) {
        said += (&run == tally.runs.data() ? "" : ",") + std::to_string(run.first) + '+' +
                std::to_string(run.end - run.first);
    }
    return said + " | " + text;
}

/* ---- records by their fields ---------------------------------------------------------------- */

namespace conformance
{

struct Record {
    std::uint64_t id;
    double price;
    float ratio;
    std::int32_t quantity;
    std::int16_t level;
    std::uint16_t code;
    std::uint8_t side;
    std::int8_t sign;
    char tag[10];
    std::int32_t levels[3];
};
SHMIPC_RECORD(Record, id, price, ratio, quantity, level, code, side, sign, tag, levels);

Record record_of(std::uint64_t i)
{
    const std::uint64_t r = mix(i);
    Record record{};
    record.id = r;
    record.price = static_cast<std::int32_t>(r & 0xFFFFFFFF) / 64.0;
    record.ratio = static_cast<float>(static_cast<std::int16_t>(r & 0xFFFF)) / 4;
    record.quantity = static_cast<std::int32_t>(r >> 32);
    record.level = static_cast<std::int16_t>(r >> 16 & 0xFFFF);
    record.code = static_cast<std::uint16_t>(r >> 24 & 0xFFFF);
    record.side = static_cast<std::uint8_t>(r >> 40 & 0xFF);
    record.sign = static_cast<std::int8_t>(r >> 48 & 0xFF);
    (void)std::snprintf(record.tag, sizeof record.tag, "T%u", static_cast<unsigned>(r >> 50));
    record.levels[0] = static_cast<std::int32_t>(r >> 8 & 0xFFFFFFFF);
    record.levels[1] = -1;
    record.levels[2] = static_cast<std::int32_t>(i);
    return record;
}

} // namespace conformance

/* put NAME FIRST COUNT: one by one, then all again as one batch; then close. */
std::string do_put(const Words &words)
{
    shmipc::Producer<conformance::Record> records(words[1]);
    const std::uint64_t first = number(words[2]);
    const auto count = static_cast<std::size_t>(number(words[3]));
    for (std::size_t i = 0; i < count; i++) {
        records.send(conformance::record_of(first + i), 0);
    }
    auto room = records.reserve(count, 0);
    for (std::size_t i = 0; i < count; i++) {
        room[i] = conformance::record_of(first + i);
    }
    room.commit();
    return "ok " + words[3];
}

/* get NAME COUNT: half copied, half in place; then close. */
std::string do_get(const Words &words)
{
    shmipc::ConsumerOptions options;
    options.timeout = 0;
    shmipc::Consumer<conformance::Record> records(words[1], options);
    const std::uint64_t count = number(words[2]);
    std::string said = "ok";
    const auto show = [&](const conformance::Record &r, std::uint64_t seq) {
        said += ' ';
        for (const auto value :
             {static_cast<std::int64_t>(r.price * 64), static_cast<std::int64_t>(r.ratio * 4),
              std::int64_t{r.quantity}, std::int64_t{r.level}, std::int64_t{r.code},
              std::int64_t{r.side}, std::int64_t{r.sign}}) {
            said += (said.back() == ' ' ? std::to_string(seq) + ',' + std::to_string(r.id) : "") +
                    ',' + std::to_string(value);
        }
        said += ',' + std::string(r.tag, strnlen(r.tag, sizeof r.tag));
        for (const std::int32_t level : r.levels) {
            said += ',' + std::to_string(level);
        }
    };
    for (std::uint64_t i = 0; i < count / 2; i++) {
        show(records.recv(0), i);
    }
    const auto frame = records.read_n(count - count / 2, 0);
    for (std::size_t i = 0; i < frame.size(); i++) {
        show(frame[i], frame.seq() + i);
    }
    return said;
}
