/*
 * engine.cpp: a market-data engine in one file. It plays a capture to the Python strategies of this
 * directory, takes their orders and fills them.
 *
 *     c++ -std=c++17 -O2 engine.cpp $(python -m shmipc --cflags --libs) -o engine
 *     ./engine exchange CAPTURE --strategies momentum market_maker --speed 10
 *     python momentum.py --engine exchange --id momentum          (another terminal, any order)
 *
 * Four parts: the lines of a capture; events made of them; an exchange that is simple on purpose;
 * the engine, which talks to strategies as docs/strategies.md says. For an engine of your own keep
 * the last, and put your feed and your gateway in the place of the others.
 *
 * The capture's format is that of shmipc.trading.capture, and the events are those that
 * shmipc.trading.market.feed makes of it, byte for byte. A line that is none is counted and left
 * out, whatever it holds.
 */
#include "shmipc.hpp"
#include "shmipc_events.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctype.h>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <time.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

using Text = std::string_view;

constexpr double NOT_KNOWN = std::numeric_limits<double>::quiet_NaN();
constexpr double INFINITE = std::numeric_limits<double>::infinity();
constexpr int64_t SECOND = 1'000'000'000;

volatile std::sig_atomic_t stopping = 0; // SIGINT or SIGTERM came

int64_t clock_ns(clockid_t which) {
    timespec now;
    clock_gettime(which, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

/* ---- lines of a capture ---------------------------------------------------------------------- */

struct BadLine : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void need(bool good, const char *why) {
    if (!good) throw BadLine(why);
}

/* A JSON value as it stands in a line: parse() is strict, takes what Python takes (but for NaN and
 * Infinity), and copies nothing. */
struct Json {
    char type = 0;  // { [ " or w for a word, 0 for a number
    Text key, text; // a string's text is between its quotes, escapes as they are
    std::vector<Json> items;

    static Json parse(Text text);

    /* The value of a key, the last one as in Python, or NULL. */
    const Json *find(Text name) const {
        for (size_t i = type == '{' ? items.size() : 0; i-- > 0;)
            if (items[i].key == name) return &items[i];
        return nullptr;
    }
    const Json &at(Text name) const {
        const Json *found = find(name);
        need(found, "a field is missing");
        return *found;
    }
    bool is(Text name, char of_type, Text value) const {
        const Json *found = find(name);
        return found && found->type == of_type && found->text == value;
    }
};

struct JsonReader {
    const char *at, *end;

    unsigned peek() const { return at < end ? static_cast<unsigned char>(*at) : 0; }
    bool skip(char wanted) { return at < end && *at == wanted && at++; }
    void expect(bool good) const { need(good, "JSON is cut or malformed"); }
    void space() {
        while (skip(' ') || skip('\t') || skip('\r') || skip('\n')) {
        }
    }
    void digits() {
        expect(isdigit(int(peek())));
        while (isdigit(int(peek()))) at++;
    }
    Text since(const char *from) const { return Text(from, size_t(at - from)); }

    /* What follows a quote, up to the next one. */
    Text string() {
        const char *from = at;
        for (; peek() != '"'; at++) {
            expect(peek() >= 0x20);
            if (peek() >= 0x80) utf8();
            if (!skip('\\')) continue;
            expect(peek() && std::strchr("\"\\/bfnrtu", int(peek())));
            for (int hex = peek() == 'u' ? 4 : 0; hex > 0; hex--)
                at++, expect(isxdigit(int(peek())));
        }
        const Text found = since(from);
        at++;
        return found;
    }
    /* A character of several bytes; stays at its last. */
    void utf8() {
        const unsigned lead = peek(), more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        unsigned code = lead & (0x3f >> more);
        expect(0xc2 <= lead && lead <= 0xf4);
        for (unsigned i = 0; i < more; i++) {
            at++, expect((peek() & 0xc0) == 0x80);
            code = code << 6 | (peek() & 0x3f);
        }
        expect((more < 2 || code >= 0x800) && (code < 0xd800 || code >= 0xe000) &&
               (more < 3 || code >= 0x10000) && code <= 0x10ffff);
    }
    Json value(int depth) {
        Json found;
        need(depth < 100, "JSON is nested too deeply");
        space();
        const char *from = at;
        if (skip('"')) {
            found.type = '"';
            found.text = string();
            return found;
        }
        if (skip('{') || skip('[')) {
            found.type = *from;
            const char closing = *from == '{' ? '}' : ']';
            for (bool more = (space(), !skip(closing)); more; more = !skip(closing)) {
                expect(found.items.empty() || skip(','));
                Text key;
                if (found.type == '{') {
                    space(), expect(skip('"')), key = string();
                    space(), expect(skip(':'));
                }
                found.items.push_back(value(depth + 1));
                found.items.back().key = key;
                space();
            }
        } else if (isalpha(int(peek()))) {
            found.type = 'w';
            while (isalpha(int(peek()))) at++;
            const Text word = since(from);
            expect(word == "true" || word == "false" || word == "null");
        } else {
            skip('-');
            if (!skip('0')) digits();
            if (skip('.')) digits();
            if (skip('e') || skip('E')) {
                if (!skip('+')) skip('-');
                digits();
            }
        }
        found.text = since(from);
        return found;
    }
};

Json Json::parse(Text text) {
    JsonReader reader = {text.data(), text.data() + text.size()};
    Json found = reader.value(0);
    reader.space();
    need(reader.at == reader.end, "something follows the JSON");
    return found;
}

int64_t whole(Text text, int64_t most = INT64_MAX) {
    int64_t value = -1;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    need(fault == std::errc() && end == text.data() + text.size() && 0 <= value && value <= most,
         "a field is not a whole number that fits");
    return value;
}

int64_t whole(const Json &field, int64_t most = INT64_MAX) {
    need(field.type == 0, "a field is not a whole number");
    return whole(field.text, most);
}

double decimal(const Json &field) {
    const Text text = field.text;
    const size_t dot = std::min(text.find('.'), text.size()), part = text.size() - dot;
    need(field.type == '"' && 1 <= dot && dot <= 20 && part != 1 && part <= 21 &&
             text.find_first_not_of("0123456789", dot + 1) == Text::npos &&
             text.substr(0, dot).find_first_not_of("0123456789") == Text::npos,
         "a field is not a decimal number in quotes");
    double value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value); // the nearest, as in Python
    return value;
}

struct Level {
    double price, size;
};

std::vector<Level> levels(const Json &field) {
    std::vector<Level> found;
    need(field.type == '[', "a side is not a list of levels");
    for (const Json &pair : field.items) {
        need(pair.type == '[' && pair.items.size() == 2, "a level is not a [price, size] pair");
        found.push_back({decimal(pair.items[0]), decimal(pair.items[1])});
    }
    return found;
}

struct Line {
    enum Kind { BOOK_TICKER, TRADE, DEPTH, SNAPSHOT } kind;
    int64_t ts_event, ts_init, id; // id: of the update, or of the trade
    int8_t aggressor;              // of a trade; NONE: it was made beside the order book
    std::vector<Level> bids, asks; // a trade is in bids
    std::string symbol;            // a snapshot has none
    uint64_t number;               // of the line
};

/* Read `<receive time, ns since 1970> <JSON>`. Throws BadLine. */
Line parse(Text text) {
    const size_t space = std::min(text.find(' '), text.size());
    need(space < 20 && text.substr(0, space).find_first_not_of("0123456789") == Text::npos,
         "does not start with a receive time in ns and a space");
    Line line = {};
    line.ts_init = whole(text.substr(0, space));
    const Json message = Json::parse(text.substr(std::min(space + 1, text.size())));
    const Json &data = message.find("data") ? message.at("data") : message;
    line.ts_event = whole(data.at("T"), INT64_MAX / 1'000'000) * 1'000'000;
    if (data.is("e", '"', "bookTicker")) {
        line.kind = Line::BOOK_TICKER;
        line.id = whole(data.at("u"));
        line.bids.push_back({decimal(data.at("b")), decimal(data.at("B"))});
        line.asks.push_back({decimal(data.at("a")), decimal(data.at("A"))});
    } else if (data.is("e", '"', "trade")) {
        line.kind = Line::TRADE;
        line.id = whole(data.at("t"));
        line.bids.push_back({decimal(data.at("p")), decimal(data.at("q"))});
        const bool buyer_made = data.is("m", 'w', "true"); // so the seller took
        need(buyer_made || data.is("m", 'w', "false"), "field 'm' is neither true nor false");
        if (data.is("X", '"', "MARKET"))
            line.aggressor = buyer_made ? SHMIPC_SIDE_SELL : SHMIPC_SIDE_BUY;
    } else if (data.is("e", '"', "depthUpdate")) {
        line.kind = Line::DEPTH;
        line.id = whole(data.at("u"));
        line.bids = levels(data.at("b"));
        line.asks = levels(data.at("a"));
    } else {
        need(!data.find("e") || data.is("e", 'w', "null"), "unknown event");
        line.kind = Line::SNAPSHOT;
        line.id = whole(data.at("lastUpdateId"));
        line.bids = levels(data.at("bids"));
        line.asks = levels(data.at("asks"));
        return line;
    }
    const Json &symbol = data.at("s");
    need(symbol.type == '"' && !symbol.text.empty() && symbol.text.find('\\') == Text::npos,
         "field 's' is not a symbol");
    line.symbol = symbol.text;
    return line;
}

/* The lines of a file, one by one. What gzip packed is unpacked by gzip(1). A mark of UTF-8 before
 * the first is none of them. */
class File {
  public:
    explicit File(const std::string &path)
        : path_(path), file_(std::freopen(path.c_str(), "rb", stdin)) {
        unsigned char magic[2] = {};
        if (!file_) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
        if (pread(fileno(file_), magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b)
            file_ = popen("gzip -dc", "r"); // which reads our stdin
        if (!file_) throw std::runtime_error("cannot start gzip");
    }
    ~File() { close(); }
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    /* False at the end, or when told to stop. `is_whole`: not too long, and not where damage
     * begins. Throws where the file cannot be read, or has a line that no capture has. */
    bool next(std::string &line, bool &is_whole) {
        int byte = EOF;
        uint64_t len = 0;
        line.clear(), is_whole = true;
        while (file_ && (byte = get()) != EOF && byte != '\n') {
            if (++len > ENDLESS)
                throw std::runtime_error(path_ + " is no capture: a line has no end in " +
                                         std::to_string(ENDLESS) + " bytes");
            if (line.size() < LONGEST)
                line.push_back(char(byte));
            else
                is_whole = false;
        }
        if (stopping) return false;
        if (byte == EOF && !close()) is_whole = false, is_damaged_ = true;
        if (std::exchange(is_first_, false) && line.rfind("\xef\xbb\xbf", 0) == 0) line.erase(0, 3);
        return byte != EOF || !line.empty();
    }
    /* Did it end before its end? Then what came is not all. */
    bool is_damaged() const { return is_damaged_; }

  private:
    static constexpr size_t LONGEST = 4 << 20;    // a snapshot of 5000 levels has 0.2 MB
    static constexpr uint64_t ENDLESS = 64 << 20; // /dev/zero, a disk's image ...
    const std::string path_;
    std::FILE *file_;
    bool is_first_ = true, is_damaged_ = false;

    /* A byte; EOF: there is none, or we are to stop. */
    int get() {
        int byte;
        while ((byte = stopping ? EOF : getc_unlocked(file_)) == EOF && !stopping &&
               std::ferror(file_)) {
            if (errno != EINTR)
                throw std::runtime_error("cannot read " + path_ + ": " + std::strerror(errno));
            std::clearerr(file_); // a signal that is not for us to stop
        }
        return byte;
    }
    bool close() {
        std::FILE *file = std::exchange(file_, nullptr);
        return !file || file == stdin || pclose(file) == 0;
    }
};

/* ---- events ---------------------------------------------------------------------------------- */

struct Strategy;

/* One symbol: its book, what ticks carry of its trades, and, for the exchange, who waits in it. */
struct Market {
    struct Touch {
        double price = NOT_KNOWN, size = 0, taken = 0; // taken: by our orders, of what is shown
    };
    struct Resting {
        Strategy *strategy;
        int64_t client_order_id;
    };
    std::string symbol;
    bool has_good_name;
    std::map<double, double, std::greater<double>> bids; // sizes by price, best first
    std::map<double, double> asks;
    int64_t sequence = 0;
    std::deque<Line> updates;                  // for a snapshot that comes late
    shmipc_tick tick = {};                     // the next one, without its quote
    shmipc_tick last_tick = {};                // broadcast: a strategy that joins is told
    shmipc_order_book last_book = {};          // "
    Touch touch[2];                            // best bid, best ask
    std::multimap<double, Resting> resting[2]; // buyers, sellers: best first, then by time

    explicit Market(const std::string &name) : symbol(name) {
        has_good_name = shmipc_symbol_set(tick.symbol, name.c_str()) == 0;
        tick.last_price = tick.last_size = NOT_KNOWN;
        tick.open_price = tick.high_price = tick.low_price = NOT_KNOWN;
    }

    /* A level's size is all there is; 0: the level is gone. A snapshot may be older than updates
     * that came before it: those are applied again. */
    void change(const Line &line) {
        if (line.kind == Line::SNAPSHOT) {
            bids.clear(), asks.clear();
            apply(line);
            for (const Line &update : updates)
                if (update.id > sequence) apply(update);
            return;
        }
        if (line.id > sequence) apply(line);
        updates.push_back(line);
        if (updates.size() > 512) updates.pop_front();
    }

    void count_trade(double price, double size) {
        const double turnover = price * size;
        tick.last_price = price, tick.last_size = size;
        tick.volume += size, tick.turnover += turnover;
        if (std::isnan(tick.open_price)) tick.open_price = price;
        tick.high_price = std::fmax(tick.high_price, price);
        tick.low_price = std::fmin(tick.low_price, price);
    }

  private:
    void apply(const Line &line) {
        sequence = line.id;
        set(bids, line.bids), set(asks, line.asks);
    }
    template <class Side> static void set(Side &side, const std::vector<Level> &changes) {
        for (const Level &level : changes) {
            if (level.size > 0)
                side[level.price] = level.size;
            else
                side.erase(level.price);
        }
    }
};

struct Event {
    uint16_t kind;
    size_t len;
    Market *market;
    union { // all begin with the same 32 bytes
        shmipc_tick tick;
        shmipc_trade_tick trade;
        shmipc_order_book book;
    };
};

/* Makes events of lines: one of each good line. */
class Feed {
  public:
    uint64_t lines = 0, bad = 0;
    std::string first_bad;
    std::map<std::string, Market> markets;

    /* What came of the lines, in words. */
    std::string account() const {
        return std::to_string(lines) + " lines, " + std::to_string(bad) + " of them bad" +
               (bad ? " (the first: " + first_bad + ")" : "") +
               (file_.is_damaged() ? "; the file is cut or damaged: this is not all of it" : "");
    }
    explicit Feed(const std::string &path) : file_(path) {}

    bool next(Event &event) {
        std::string text;
        bool is_whole;
        while (ready_.empty()) {
            if (!file_.next(text, is_whole)) {
                for (const Line &line : waiting_)
                    reject(line.number, "a snapshot of a symbol that no line names");
                waiting_.clear();
                return false;
            }
            lines++;
            try {
                need(is_whole, "cut short, or too long");
                Line line = parse(text);
                line.number = lines;
                take(std::move(line));
            } catch (const BadLine &fault) {
                reject(lines, fault.what());
            }
        }
        event = ready_.front();
        ready_.pop_front();
        return true;
    }

  private:
    File file_;
    std::vector<Line> waiting_; // snapshots before the first line that names a symbol
    std::deque<Event> ready_;

    void reject(uint64_t number, const char *why) {
        if (bad++ == 0) first_bad = "line " + std::to_string(number) + ": " + why;
    }

    void take(Line line) {
        if (line.kind != Line::SNAPSHOT) {
            need(markets.size() < 255 || markets.count(line.symbol), "too many symbols");
            Market &market = markets.try_emplace(line.symbol, line.symbol).first->second;
            for (const Line &snapshot : std::exchange(waiting_, {})) emit(snapshot, market);
            emit(line, market);
        } else if (markets.empty()) { // a snapshot does not say of what
            waiting_.push_back(std::move(line));
        } else {
            need(markets.size() == 1, "a snapshot of one of several symbols");
            emit(line, markets.begin()->second);
        }
    }

    void emit(const Line &line, Market &market) {
        if (!market.has_good_name)
            return reject(line.number,
                          "a symbol is 1 to 15 bytes, none of them control characters");
        Event event;
        std::memset(static_cast<void *>(&event), 0, sizeof event);
        event.market = &market;
        if (line.kind == Line::BOOK_TICKER) {
            event.kind = SHMIPC_EVENT_KIND_TICK, event.len = sizeof event.tick;
            event.tick = market.tick;
            event.tick.bid_price = line.bids[0].price, event.tick.bid_size = line.bids[0].size;
            event.tick.ask_price = line.asks[0].price, event.tick.ask_size = line.asks[0].size;
            event.tick.sequence = line.id;
        } else if (line.kind == Line::TRADE) {
            event.kind = SHMIPC_EVENT_KIND_TRADE_TICK, event.len = sizeof event.trade;
            event.trade.price = line.bids[0].price, event.trade.size = line.bids[0].size;
            event.trade.trade_id = line.id;
            event.trade.aggressor_side = line.aggressor;
            if (line.aggressor != SHMIPC_SIDE_NONE)
                market.count_trade(line.bids[0].price, line.bids[0].size);
        } else {
            event.kind = SHMIPC_EVENT_KIND_ORDER_BOOK, event.len = sizeof event.book;
            market.change(line);
            event.book.sequence = market.sequence;
            event.book.bid_count = best(market.bids, event.book.bid_prices, event.book.bid_sizes);
            event.book.ask_count = best(market.asks, event.book.ask_prices, event.book.ask_sizes);
        }
        std::memcpy(event.tick.symbol, market.tick.symbol, sizeof event.tick.symbol);
        event.tick.ts_event = line.ts_event, event.tick.ts_init = line.ts_init;
        ready_.push_back(event);
    }

    template <class Side> static uint32_t best(const Side &side, double *prices, double *sizes) {
        uint32_t count = 0;
        for (auto at = side.begin(); at != side.end() && count < SHMIPC_DEFAULT_LEVELS; ++at)
            prices[count] = at->first, sizes[count++] = at->second;
        return count;
    }
};

/* ---- strategies ------------------------------------------------------------------------------ */

/* A control message of now, otherwise zeros. */
template <class Record> Record made_now() {
    Record record = {};
    record.ts_event = record.ts_init = clock_ns(CLOCK_REALTIME);
    return record;
}

/* One strategy: its rings, its books, and what is told of it at the end. */
struct Strategy {
    struct Report {
        unsigned kind, flags;
        std::string record;
    };
    std::string id;
    int32_t place;                    // its bit in a bitmap
    std::vector<std::string> symbols; // that it may see; none: all
    shmipc::Producer<> reports = {};
    shmipc::Consumer<> orders = {};     // none before the strategy is there
    std::deque<Report> waiting = {};    // for room in its ring: nobody waits for a strategy here
    uint64_t sent = 0, last_report = 0; // last_report: of these, the last that is no control
    std::map<int64_t, shmipc_order> open = {};
    std::map<std::string, shmipc_position> positions = {};
    shmipc_account account = {};
    static constexpr const char *CONNECTED = "connected";
    const char *state = "never came";
    uint64_t received = 0, fills = 0;
    int64_t lost = 0, errors = 0;
    std::string trouble = {}; // with its rings, as last said

    /* Send a control message or a report. */
    template <class Record> void tell(unsigned kind, const Record &record, unsigned flags = 0) {
        waiting.push_back({kind, flags, {reinterpret_cast<const char *>(&record), sizeof record}});
        flush();
    }
    void flush() {
        for (; !waiting.empty(); waiting.pop_front()) {
            const Report &next = waiting.front();
            std::error_code error;
            const bool is_sent = reports.try_send(next.record, next.kind, next.flags, error);
            if (error == shmipc::Errc::consumer_died || (!is_sent && !error))
                return; // full: it reads, or the next that runs under its id
            if (error == shmipc::Errc::closed) return waiting.clear(); // we are leaving
            if (!is_sent) continue;                                    // its ring is damaged, by it
            sent++;
            if (next.kind < SHMIPC_CONTROL_HELLO && !next.flags) last_report = sent;
        }
    }
    bool may_see(const std::string &symbol) const {
        return symbols.empty() || std::count(symbols.begin(), symbols.end(), symbol);
    }
    /* Money and positions after a fill: the average price method, without leverage on profit. */
    shmipc_position &book(const shmipc_trade &trade, const std::string &symbol) {
        shmipc_position &held = positions[symbol];
        std::memcpy(held.symbol, trade.symbol, sizeof held.symbol);
        const double change = trade.side * trade.quantity, before = held.quantity;
        double total = before + change;
        if (std::fabs(total) < 1e-12) total = 0; // what is left of 0.1 + 0.2 - 0.3 is no position
        if (before * change >= 0) {
            if (total != 0)
                held.average_price = (held.average_price * before + trade.price * change) / total;
        } else {
            const double closed = std::min(std::fabs(before), std::fabs(change));
            held.realized_pnl +=
                closed * (trade.price - held.average_price) * (before > 0 ? 1 : -1);
            if (total * before <= 0) held.average_price = total == 0 ? 0 : trade.price;
        }
        held.quantity = total;
        held.unrealized_pnl = total == 0 ? 0 : (trade.price - held.average_price) * total;
        held.commission += trade.commission;
        held.trade_count++;
        held.ts_event = trade.ts_event, held.ts_init = trade.ts_init;
        return held;
    }
};

/* ---- the exchange ---------------------------------------------------------------------------- */

/* Fills orders from what the capture shows. One that can trade when it comes takes the best level
 * of the other side, no deeper; what is left of it rests or expires. One that rests is filled at
 * its limit by quotes and trades that reach it, by price and time, never by more than their size.
 */
class Exchange {
  public:
    /* `tradable`: symbols; none: all. */
    Exchange(std::map<std::string, Market> &markets, const std::vector<std::string> &tradable)
        : markets_(markets), tradable_(tradable) {}

    /* Take an order as a strategy sent it: whatever it says. */
    void on_order(Strategy &who, const shmipc_order &asked) {
        who.received++;
        const auto known = who.open.find(asked.client_order_id);
        const bool is_open = known != who.open.end();
        const bool is_new = asked.action == SHMIPC_ORDER_ACTION_NEW;
        Market *market = market_of(is_open && !is_new ? known->second : asked);
        shmipc_order copy = asked;
        if (const char *why = refusal(asked, is_open, market))
            return report(who, copy, SHMIPC_ORDER_STATUS_REJECTED, why, asked.action);
        if (asked.action == SHMIPC_ORDER_ACTION_CANCEL)
            return close(who, *market, known->second, SHMIPC_ORDER_STATUS_CANCELED, "",
                         asked.action);
        if (asked.action == SHMIPC_ORDER_ACTION_MODIFY)
            return modify(who, *market, known->second, asked);
        shmipc_order &order = who.open[asked.client_order_id] = asked;
        order.order_id = ++last_order_;
        order.filled_quantity = 0;
        order.average_price = NOT_KNOWN;
        report(who, order, SHMIPC_ORDER_STATUS_ACCEPTED);
        enter(who, *market, order);
    }

    /* Take an event of the market. */
    void on_event(const Event &event) {
        Market &market = *event.market;
        ts_event_ = event.tick.ts_event, ts_init_ = event.tick.ts_init;
        if (event.kind == SHMIPC_EVENT_KIND_TRADE_TICK) {
            if (event.trade.aggressor_side != SHMIPC_SIDE_NONE)
                reach(market, -event.trade.aggressor_side, event.trade.price, event.trade.size);
        } else if (event.kind == SHMIPC_EVENT_KIND_TICK) {
            const shmipc_tick &tick = market.last_tick = event.tick;
            if (tick.sequence >= market.last_book.sequence) {
                show(market, SHMIPC_SIDE_BUY, tick.bid_price, tick.bid_size);
                show(market, SHMIPC_SIDE_SELL, tick.ask_price, tick.ask_size);
            }
        } else {
            const shmipc_order_book &book = market.last_book = event.book;
            if (book.sequence >= market.last_tick.sequence) {
                show(market, SHMIPC_SIDE_BUY, book.bid_prices[0], book.bid_sizes[0]);
                show(market, SHMIPC_SIDE_SELL, book.ask_prices[0], book.ask_sizes[0]);
            }
        }
    }

  private:
    static constexpr double LEAST = 1e-9; // a quantity below this is nothing
    static constexpr double MAKER_FEE = 0.0002, TAKER_FEE = 0.0005; // of price times quantity
    static constexpr double MONEY = 100'000, LEVERAGE = 20;         // of each strategy
    std::map<std::string, Market> &markets_;
    const std::vector<std::string> tradable_;
    int64_t ts_event_ = 0, ts_init_ = 0, last_order_ = 0, last_trade_ = 0;

    /* NaN is not known, and nothing trades at infinity: both compare in ways that would fill. */
    static bool can_trade(double price, double size) {
        return price > 0 && price < INFINITE && size > 0 && size < INFINITE;
    }
    static bool is_market(const shmipc_order &order) {
        return order.order_type == SHMIPC_ORDER_TYPE_MARKET;
    }
    Market *market_of(const shmipc_order &order) {
        const std::string symbol(order.symbol, strnlen(order.symbol, sizeof order.symbol));
        const auto found = markets_.find(symbol);
        const bool is_tradable =
            tradable_.empty() || std::count(tradable_.begin(), tradable_.end(), symbol);
        return found != markets_.end() && found->second.has_good_name && is_tradable
                   ? &found->second
                   : nullptr;
    }
    /* The best level that an order trades with, or NULL if it does not reach it. */
    static Market::Touch *opposite(Market &market, const shmipc_order &order) {
        Market::Touch &touch = market.touch[order.side == SHMIPC_SIDE_BUY];
        const bool reaches =
            is_market(order) || order.side * touch.price <= order.side * order.price;
        return reaches && can_trade(touch.price, touch.size) && touch.size - touch.taken > LEAST
                   ? &touch
                   : nullptr;
    }

    /* What docs/strategies.md says under Errors, and what this exchange cannot do; or NULL. */
    static const char *refusal(const shmipc_order &order, bool is_open, Market *market) {
        const bool has_price = order.price > 0 && order.price < INFINITE;
        const bool is_post_only = order.time_in_force == SHMIPC_TIME_IN_FORCE_POST_ONLY;
        if (order.action == SHMIPC_ORDER_ACTION_CANCEL) return is_open ? nullptr : "unknown order";
        if (order.action == SHMIPC_ORDER_ACTION_MODIFY) {
            if (!is_open) return "unknown order";
            if (order.quantity < 0 || std::isinf(order.quantity)) return "quantity is not positive";
            return order.price < 0 || std::isinf(order.price) ? "price is not positive" : nullptr;
        }
        if (order.action != SHMIPC_ORDER_ACTION_NEW) return "unknown action";
        if (!(order.quantity >= LEAST && order.quantity < INFINITE))
            return "quantity is not positive";
        if (is_market(order) && !std::isnan(order.price)) return "a market order has no price";
        if (!is_market(order) && !has_price)
            return std::isfinite(order.price) ? "price is not positive" : "price is not finite";
        if (is_open) return "client_order_id is in use";
        if (order.client_order_id <= 0) return "client_order_id is not positive";
        if (!market) return "unknown symbol";
        if (order.side != SHMIPC_SIDE_BUY && order.side != SHMIPC_SIDE_SELL) return "unknown side";
        if (order.order_type == SHMIPC_ORDER_TYPE_STOP_MARKET) return "order type is not supported";
        if (!is_market(order) && order.order_type != SHMIPC_ORDER_TYPE_LIMIT)
            return "unknown order type";
        if (order.time_in_force < SHMIPC_TIME_IN_FORCE_GTC ||
            order.time_in_force > SHMIPC_TIME_IN_FORCE_POST_ONLY)
            return "unknown time in force";
        if (is_post_only && is_market(order)) return "a market order cannot rest";
        return is_post_only && opposite(*market, order) ? "post-only order would trade" : nullptr;
    }

    void report(Strategy &who, shmipc_order &order, uint8_t status, const char *text = "",
                uint8_t action = SHMIPC_ORDER_ACTION_NEW) {
        order.status = status, order.action = action;
        order.ts_event = ts_event_, order.ts_init = ts_init_;
        std::memset(order.reserved, 0, sizeof order.reserved);
        std::memset(order.text, 0, sizeof order.text);
        std::memcpy(order.text, text, std::min(std::strlen(text), sizeof order.text - 1));
        who.tell(SHMIPC_EVENT_KIND_ORDER, order);
    }

    /* Trade at once as far as possible; what is left rests or expires. */
    void enter(Strategy &who, Market &market, shmipc_order &order) {
        const double wanted = order.quantity - order.filled_quantity;
        Market::Touch *touch = opposite(market, order);
        const double there = touch ? touch->size - touch->taken : 0;
        if (order.time_in_force == SHMIPC_TIME_IN_FORCE_FOK && there < wanted - LEAST)
            return close(who, market, order, SHMIPC_ORDER_STATUS_EXPIRED, "cannot be filled whole");
        if (touch) {
            const double quantity = std::min(there, wanted);
            touch->taken += quantity;
            if (fill(who, order, touch->price, quantity, SHMIPC_LIQUIDITY_SIDE_TAKER)) return;
        }
        if (is_market(order) || order.time_in_force == SHMIPC_TIME_IN_FORCE_IOC)
            return close(who, market, order, SHMIPC_ORDER_STATUS_EXPIRED,
                         "nothing more to trade with");
        market.resting[order.side == SHMIPC_SIDE_SELL].emplace(
            -order.side * order.price, Market::Resting{&who, order.client_order_id});
    }

    /* What is 0 or NaN stays as it was. A smaller quantity keeps the place in the queue. What
     * cannot be done changes nothing, and the report says why. */
    void modify(Strategy &who, Market &market, shmipc_order &order, const shmipc_order &asked) {
        shmipc_order wanted = order;
        wanted.price = asked.price > 0 ? asked.price : order.price;
        wanted.quantity = asked.quantity > 0 ? asked.quantity : order.quantity;
        wanted.ts_trigger = asked.ts_trigger;
        const bool moves = wanted.price != order.price || wanted.quantity > order.quantity;
        if (moves && order.time_in_force == SHMIPC_TIME_IN_FORCE_POST_ONLY &&
            opposite(market, wanted))
            return report(who, order, order.status, "post-only order would trade", asked.action);
        if (wanted.quantity - order.filled_quantity < LEAST)
            return close(who, market, order, SHMIPC_ORDER_STATUS_CANCELED,
                         "filled as far as wanted", asked.action);
        if (moves) leave(market, who, order);
        order = wanted;
        report(who, order, order.status, "", asked.action);
        if (moves) enter(who, market, order);
    }

    /* End an order that is not filled. */
    void close(Strategy &who, Market &market, shmipc_order &order, uint8_t status, const char *text,
               uint8_t action = SHMIPC_ORDER_ACTION_NEW) {
        const int64_t client_order_id = order.client_order_id;
        leave(market, who, order);
        report(who, order, status, text, action);
        who.open.erase(client_order_id);
    }

    static void leave(Market &market, const Strategy &who, const shmipc_order &order) {
        auto &queue = market.resting[order.side == SHMIPC_SIDE_SELL];
        const auto [begin, end] = queue.equal_range(-order.side * order.price);
        const auto found = std::find_if(begin, end, [&](const auto &one) {
            return one.second.strategy == &who &&
                   one.second.client_order_id == order.client_order_id;
        });
        if (found != end) queue.erase(found);
    }

    /* A best level is shown: it may reach orders that rest on the other side. */
    void show(Market &market, int side, double price, double size) {
        Market::Touch &touch = market.touch[side == SHMIPC_SIDE_SELL];
        if (!can_trade(price, size)) {
            touch = {};
            return;
        }
        if (touch.price != price || touch.size != size) touch = {price, size, 0};
        touch.taken += reach(market, -side, price, size - touch.taken);
    }

    /* So much at this price reaches resting orders of `side`; return how much they took. */
    double reach(Market &market, int side, double price, double size) {
        auto &queue = market.resting[side == SHMIPC_SIDE_SELL];
        if (!can_trade(price, size)) return 0;
        double left = size;
        while (left > LEAST && !queue.empty() && queue.begin()->first <= -side * price) {
            const Market::Resting first = queue.begin()->second;
            shmipc_order &order = first.strategy->open.at(first.client_order_id);
            const double wanted = order.quantity - order.filled_quantity;
            const double quantity = std::min(left, wanted);
            left -= quantity;
            if (wanted - quantity < LEAST) queue.erase(queue.begin());
            fill(*first.strategy, order, order.price, quantity, SHMIPC_LIQUIDITY_SIDE_MAKER);
        }
        return size - left;
    }

    /* Report a fill. True: that was all of the order, which is gone. */
    bool fill(Strategy &who, shmipc_order &order, double price, double quantity, uint8_t how) {
        const double before = order.filled_quantity;
        order.filled_quantity += quantity;
        const bool is_done = order.quantity - order.filled_quantity < LEAST;
        if (is_done) order.filled_quantity = order.quantity;
        order.average_price = before > 0
                                  ? order.average_price + (price - order.average_price) * quantity /
                                                              order.filled_quantity
                                  : price;
        shmipc_trade trade = {};
        std::memcpy(trade.symbol, order.symbol, sizeof trade.symbol);
        trade.ts_event = ts_event_, trade.ts_init = ts_init_;
        trade.client_order_id = order.client_order_id, trade.order_id = order.order_id;
        trade.trade_id = ++last_trade_;
        trade.price = price, trade.quantity = quantity;
        trade.commission =
            price * quantity * (how == SHMIPC_LIQUIDITY_SIDE_MAKER ? MAKER_FEE : TAKER_FEE);
        trade.side = order.side, trade.liquidity_side = how;
        who.fills++;
        who.tell(SHMIPC_EVENT_KIND_TRADE, trade);
        report(who, order,
               is_done ? SHMIPC_ORDER_STATUS_FILLED : SHMIPC_ORDER_STATUS_PARTIALLY_FILLED);
        who.tell(SHMIPC_EVENT_KIND_POSITION, who.book(trade, trade.symbol));
        who.tell(SHMIPC_EVENT_KIND_ACCOUNT, who.account = account(who));
        if (is_done) who.open.erase(trade.client_order_id);
        return is_done;
    }

    shmipc_account account(const Strategy &who) const {
        shmipc_account sum = {"USDT", ts_event_, ts_init_, MONEY, 0, 0, 0};
        for (const auto &[symbol, held] : who.positions) {
            sum.balance += held.realized_pnl - held.commission;
            sum.equity += held.unrealized_pnl;
            sum.margin += std::fabs(held.quantity) * held.average_price / LEVERAGE;
            sum.commission += held.commission;
        }
        sum.equity += sum.balance;
        return sum;
    }
};

/* ---- the engine ------------------------------------------------------------------------------ */

struct Options {
    std::string name, capture;
    double speed = 1; // 0: flat out
    std::vector<std::string> strategies, symbols;
    size_t wait = SIZE_MAX; // for so many strategies; default: all
    uint64_t max_events = UINT64_MAX, capacity = 1 << 24;
    bool overwrite = false, stamp = false, spin = false;
};

std::vector<std::string> split(const std::string &text, char at) {
    std::vector<std::string> parts;
    for (size_t from = 0, to; from <= text.size(); from = to + 1) {
        to = std::min(text.find(at, from), text.size());
        parts.push_back(text.substr(from, to - from));
    }
    return parts;
}

template <class... Names> std::string ring_name(const char *pattern, const Names &...names) {
    char text[256];
    std::snprintf(text, sizeof text, pattern, names.c_str()...);
    return text;
}

class Engine {
  public:
    explicit Engine(const Options &options)
        : options_(options), feed_(options.capture), exchange_(feed_.markets, options.symbols) {
        shmipc::ProducerOptions how;
        how.capacity = options.capacity;
        how.max_consumers = PLACES;
        how.overflow = options.overwrite ? shmipc::Overflow::overwrite : shmipc::Overflow::block;
        how.spin = spin();
        events_ = open(ring_name(SHMIPC_EVENTS_RING, options.name), how);
        how = {};
        how.spin = spin();
        for (const std::string &text : options.strategies) { // ID or ID:SYMBOL,SYMBOL
            const std::vector<std::string> parts = split(text, ':');
            Strategy &one = strategies_.emplace_back();
            one.id = parts[0];
            one.place = int32_t(strategies_.size()) - 1;
            if (parts.size() > 1) one.symbols = split(parts[1], ',');
            one.reports = open(ring_name(SHMIPC_REPORTS_RING, options.name, one.id), how);
            one.sent = one.last_report = one.reports.stats().count;
            if (one.reports.stats().took_over) // of a dead engine: who was there joins again
                one.tell(SHMIPC_CONTROL_ENGINE, note());
        }
        if (events_.stats().took_over)
            broadcast(note(), SHMIPC_CONTROL_ENGINE, sizeof(shmipc_engine));
    }

    /* Play the capture. */
    void run() {
        const auto wanted = long(std::min(options_.wait, strategies_.size()));
        while (!stopping && connected() < wanted) serve(LOOK);
        const int64_t begun = now();
        int64_t due = begun, last = INT64_MAX;
        for (Event event; !stopping && played_ < options_.max_events && feed_.next(event);) {
            if (options_.speed > 0) { // a gap is at most a minute
                const int64_t gap = event.tick.ts_init > last ? event.tick.ts_init - last : 0;
                due += int64_t(double(std::min(gap, MINUTE)) / options_.speed);
                last = event.tick.ts_init;
                for (int64_t left; !stopping && (left = due - now()) > 0;)
                    serve(std::min(left, LOOK));
            }
            if (options_.stamp) event.tick.ts_init = clock_ns(CLOCK_REALTIME);
            if (!broadcast(event.tick, event.kind, event.len)) break;
            played_++;
            exchange_.on_event(event);
            serve(0);
        }
        seconds_ = double(now() - begun) / SECOND;
        for (const int64_t end = now() + 10 * SECOND; !stopping && now() < end && !is_drained();)
            serve(LOOK / 10);
        close();
    }

    /* Nothing of it was an event, nobody having stopped us. */
    bool is_no_capture() const { return played_ == 0 && !stopping && options_.max_events > 0; }
    std::string account() const { return options_.capture + " has no event: " + feed_.account(); }

    void print() const {
        std::printf("%" PRIu64 " events in %.3f s, of %s\n", played_, seconds_,
                    feed_.account().c_str());
        for (const Strategy &one : strategies_) {
            std::printf("%s: %s, %" PRIu64 " orders, %" PRIu64 " fills, %zu open, lost %" PRId64
                        ", errors %" PRId64,
                        one.id.c_str(), one.state, one.received, one.fills, one.open.size(),
                        one.lost, one.errors);
            for (const auto &[symbol, held] : one.positions)
                std::printf(", %+.3f %s, profit %+.2f", held.quantity, symbol.c_str(),
                            held.realized_pnl - held.commission);
            std::printf("\n");
        }
    }

  private:
    static constexpr uint32_t PLACES = 64;
    static constexpr int64_t LOOK = SECOND / 20; // between two looks at who has come
    static constexpr int64_t MINUTE = 60 * SECOND;
    static constexpr size_t BACKLOG = 1 << 16; // reports that wait for one strategy, at most

    const Options options_;
    const int64_t session_ = clock_ns(CLOCK_REALTIME);
    Feed feed_;
    Exchange exchange_;
    shmipc::Producer<> events_;
    std::deque<Strategy> strategies_; // they stay where they are
    int64_t next_look_ = 0;
    uint64_t played_ = 0;
    double seconds_ = 0;

    static int64_t now() { return clock_ns(CLOCK_MONOTONIC); }
    shmipc::Timeout spin() const { return options_.spin ? shmipc::forever : shmipc::adaptive; }

    /* A ring of another shape is let go by its readers first: they need a moment to see that its
     * engine is dead. */
    static shmipc::Producer<> open(const std::string &name, const shmipc::ProducerOptions &how) {
        for (const int64_t end = now() + SECOND; now() < end; usleep(10'000)) {
            std::error_code error;
            shmipc::Producer<> ring(name, how, error);
            if (error != shmipc::Errc::mismatch && error) break;
            if (!error) return ring;
        }
        return shmipc::Producer<>(name, how); // or say what is wrong
    }

    /* Send to all. Waits for the slowest, if it may not overwrite; false: told to stop meanwhile.
     */
    template <class Record> bool broadcast(const Record &record, unsigned kind, size_t len) {
        const shmipc::Message message(&record, len, kind);
        while (!stopping) {
            std::error_code error;
            if (events_.try_send(message) ||
                events_.send(message, std::chrono::nanoseconds(LOOK), error))
                return true;
            if (error != shmipc::Errc::full && error)
                throw std::system_error(error, shmipc_last_error());
            serve(0); // who joins now is not what we wait for
        }
        return false;
    }

    /* Take what strategies have sent; wait up to `timeout` ns for it. */
    void serve(int64_t timeout) {
        if (const int64_t time = now(); time >= next_look_) {
            next_look_ = time + LOOK;
            for (Strategy &one : strategies_) {
                look_for(one);
                one.flush();
            }
        }
        if (timeout > 0) {
            std::vector<shmipc_consumer *> rings;
            for (const Strategy &one : strategies_)
                if (one.orders && one.waiting.size() < BACKLOG)
                    rings.push_back(one.orders.handle());
            std::vector<unsigned char> ready(rings.size());
            if (rings.empty())
                usleep(useconds_t(timeout / 1000));
            else if (shmipc_wait(rings.data(), rings.size(), ready.data(), timeout) ==
                     SHMIPC_E_MISUSE)
                throw std::logic_error(shmipc_last_error());
        }
        for (Strategy &one : strategies_)
            if (one.orders) take(one);
    }

    /* Open a strategy's ring of orders, if it is there. */
    void look_for(Strategy &one) {
        if (one.orders) return;
        shmipc::ConsumerOptions how;
        how.timeout = 0;
        how.spin = spin();
        std::error_code error;
        one.orders =
            shmipc::Consumer<>(ring_name(SHMIPC_ORDERS_RING, options_.name, one.id), how, error);
        if (error && error != shmipc::Errc::not_found && error != shmipc::Errc::busy) complain(one);
    }

    /* Take up to 64 messages: the others are not to wait for long. An order is given back to the
     * ring when it was handled, so that one is not lost with us. */
    void take(Strategy &one) {
        for (int turn = 0; turn < 64 && one.waiting.size() < BACKLOG; turn++) {
            std::error_code error;
            const std::optional<shmipc::Message> message = one.orders.try_peek(error);
            if (error) return let_go(one, error);
            if (!message) return;
            hear(one, *message);
            if (!one.orders.release(error)) return let_go(one, error);
        }
    }

    /* A strategy has left, or died, and all that it sent was read. */
    void let_go(Strategy &one, std::error_code error) {
        one.orders = {};
        const std::string name = ring_name(SHMIPC_ORDERS_RING, options_.name, one.id);
        if (error == shmipc::Errc::producer_died) { // remove its ring in its place
            one.state = "died";
            shmipc::Producer<>(name, {}, error); // which fails if it is back already
        } else if (error == shmipc::Errc::closed) {
            one.state = "stopped";
        } else {
            one.state = "damaged";
            complain(one);
        }
    }

    /* What is wrong with a strategy's rings is its own trouble: said once, not every time. */
    static void complain(Strategy &one, const std::string &trouble = shmipc_last_error()) {
        if (trouble != one.trouble)
            std::fprintf(stderr, "%s: %s\n", one.id.c_str(), trouble.c_str());
        one.trouble = trouble;
    }

    /* One message of a strategy. It is copied before it is looked at: a process that has gone mad
     * may still write there. */
    void hear(Strategy &one, const shmipc::Message &message) {
        const auto is = [&](unsigned kind, auto &record) {
            if (message.kind() != kind || message.size() != sizeof record) return false;
            std::memcpy(&record, message.data(), sizeof record);
            return true;
        };
        shmipc_order order;
        shmipc_hello hello;
        shmipc_status status;
        shmipc_bye bye;
        if (is(SHMIPC_EVENT_KIND_ORDER, order)) {
            exchange_.on_order(one, order);
        } else if (is(SHMIPC_CONTROL_HELLO, hello)) {
            welcome(one, hello);
        } else if (is(SHMIPC_CONTROL_STATUS, status)) {
            one.lost = status.lost, one.errors = status.errors;
        } else if (is(SHMIPC_CONTROL_BYE, bye)) {
            one.errors = bye.errors;
        } else {
            complain(one, "sends what is no message of the protocol");
        }
    }

    /* Answer HELLO: who it is here, and how things stand. All of it is said before the next event
     * is broadcast, which is the first that is not in the snapshot. */
    void welcome(Strategy &one, const shmipc_hello &hello) {
        const auto is_answer = [](const Strategy::Report &report) {
            return report.kind >= SHMIPC_CONTROL_HELLO || report.flags;
        };
        one.waiting.erase(std::remove_if(one.waiting.begin(), one.waiting.end(), is_answer),
                          one.waiting.end()); // to a HELLO before this
        if (hello.version != SHMIPC_EVENTS_VERSION) {
            auto refused = made_now<shmipc_refused>();
            refused.session = hello.session;
            std::snprintf(refused.text, sizeof refused.text,
                          "its events have version %" PRId32 ", the engine's %d", hello.version,
                          SHMIPC_EVENTS_VERSION);
            return one.tell(SHMIPC_CONTROL_REFUSED, refused);
        }
        one.state = Strategy::CONNECTED;
        one.lost = one.errors = 0;
        auto answer = made_now<shmipc_welcome>();
        answer.session = hello.session, answer.engine_session = session_;
        answer.seq = int64_t(events_.stats().count);
        answer.place = one.place;
        answer.version = SHMIPC_EVENTS_VERSION, answer.book_levels = SHMIPC_DEFAULT_LEVELS;
        answer.instruments = options_.symbols.empty() ? -1 : int32_t(options_.symbols.size());
        answer.symbols = one.symbols.empty() ? -1 : int32_t(one.symbols.size());
        one.tell(SHMIPC_CONTROL_WELCOME, answer);
        auto instrument = made_now<shmipc_instrument>();
        for (const std::string &symbol : options_.symbols) {
            shmipc_symbol_set(instrument.symbol, symbol.c_str());
            one.tell(SHMIPC_CONTROL_INSTRUMENT, instrument);
        }
        auto allowed = made_now<shmipc_subscription>();
        allowed.session = hello.session;
        for (const std::string &symbol : one.symbols) {
            shmipc_symbol_set(allowed.symbol, symbol.c_str());
            one.tell(SHMIPC_CONTROL_SUBSCRIPTION, allowed);
        }
        const unsigned flag = SHMIPC_MESSAGE_FLAG_SNAPSHOT;
        for (const auto &[symbol, market] : feed_.markets) {
            if (!one.may_see(symbol)) continue;
            if (market.last_tick.symbol[0])
                one.tell(SHMIPC_EVENT_KIND_TICK, market.last_tick, flag);
            if (market.last_book.symbol[0])
                one.tell(SHMIPC_EVENT_KIND_ORDER_BOOK, market.last_book, flag);
        }
        for (const auto &[id, order] : one.open) one.tell(SHMIPC_EVENT_KIND_ORDER, order, flag);
        for (const auto &[symbol, held] : one.positions)
            one.tell(SHMIPC_EVENT_KIND_POSITION, held, flag);
        if (one.account.symbol[0]) one.tell(SHMIPC_EVENT_KIND_ACCOUNT, one.account, flag);
        auto end = made_now<shmipc_snapshot_end>();
        end.session = hello.session;
        one.tell(SHMIPC_CONTROL_SNAPSHOT_END, end);
    }

    shmipc_engine note() const {
        auto note = made_now<shmipc_engine>();
        note.engine_session = session_;
        return note;
    }
    static bool is_here(const Strategy &one) { return one.state == Strategy::CONNECTED; }
    /* Zeros where a ring is damaged. */
    static struct shmipc_producer_stats stats_of(const shmipc::Producer<> &ring) {
        struct shmipc_producer_stats stats = {};
        if (shmipc_producer_stats(ring.handle(), &stats) != SHMIPC_SUCCESS) stats = {};
        return stats;
    }
    bool is_drained() const {
        return std::none_of(strategies_.begin(), strategies_.end(), [this](const Strategy &one) {
            return is_here(one) && (stats_of(events_).lag || stats_of(one.reports).lag);
        });
    }
    long connected() const {
        return std::count_if(strategies_.begin(), strategies_.end(), is_here);
    }

    /* End the streams: strategies read what is there, cancel what is open, and leave. Reports that
     * a strategy has not read are kept for the day when it is back. */
    void close() {
        serve(0);
        events_.close();
        for (Strategy &one : strategies_) {
            one.flush();
            const auto stats = stats_of(one.reports);
            if (one.last_report <= one.sent - std::min(stats.lag, one.sent) && !stats.attached)
                (void)shmipc_producer_unlink(
                    one.reports.handle()); // nobody wants answers to a HELLO of another day
            one.reports.close();
        }
        next_look_ = INT64_MAX; // who comes now is for the next engine
        const auto is_open = [](const Strategy &one) { return bool(one.orders); };
        for (const int64_t end = now() + 2 * SECOND; now() < end; serve(LOOK / 10))
            if (std::none_of(strategies_.begin(), strategies_.end(), is_open)) break;
    }
};

[[noreturn]] void usage() {
    std::fputs(
        "usage: engine NAME CAPTURE [--strategies ID[:SYMBOL,...] ...] [--symbols SYMBOL ...]\n"
        "              [--speed X | --flat-out] [--wait N] [--max-events N] [--stamp]\n"
        "              [--slow wait|overwrite] [--capacity BYTES] [--spin]\n"
        "  --symbols    that can be traded (all); --strategies ID:SYMBOL: that it may see\n"
        "  --speed      times as fast as it was (1); --flat-out: as fast as it goes\n"
        "  --wait       begin when so many strategies have joined (all)\n"
        "  --stamp      set each event's ts_init to the time when it is sent\n"
        "  --slow       wait for who is slow, or overwrite what it has not read\n"
        "  --spin       never sleep\n",
        stderr);
    std::exit(2);
}

/* The number in a text, or usage(). */
double number(const char *text, double least, double most) {
    char *end = nullptr;
    const double value = text ? std::strtod(text, &end) : NOT_KNOWN;
    if (!(least <= value && value <= most) || *end) usage();
    return value;
}

/* Is this the name of an engine or a strategy? */
bool is_name(const std::string &text) {
    const auto is_good = [](unsigned char c) { return isalnum(c) || c == '_' || c == '-'; };
    return !text.empty() && text.size() <= SHMIPC_ID_LEN && text[0] != '_' && text[0] != '-' &&
           std::all_of(text.begin(), text.end(), is_good);
}

bool is_symbol(const std::string &text) {
    char field[SHMIPC_SYMBOL_LEN + 1];
    return shmipc_symbol_set(field, text.c_str()) == 0;
}

Options read_arguments(char **words) {
    Options options;
    std::vector<std::string> places, slow = {"wait"}, *list = &places;
    for (; *words; words++) {
        const std::string word = *words;
        if (word.rfind("--", 0) != 0) {
            list->push_back(word);
            if (list == &slow) list = &places;
            continue;
        }
        list = &places;
        if (word == "--strategies")
            list = &options.strategies;
        else if (word == "--symbols")
            list = &options.symbols;
        else if (word == "--slow")
            list = &slow, slow.clear();
        else if (word == "--flat-out")
            options.speed = 0;
        else if (word == "--stamp")
            options.stamp = true;
        else if (word == "--spin")
            options.spin = true;
        else if (word == "--speed")
            options.speed = number(*++words, 1e-6, 1e9);
        else if (word == "--wait")
            options.wait = size_t(number(*++words, 0, 1024));
        else if (word == "--capacity")
            options.capacity = uint64_t(number(*++words, 1, 1e12));
        else if (word == "--max-events")
            options.max_events = uint64_t(number(*++words, 0, 1e18));
        else
            usage();
    }
    if (places.size() != 2 || !is_name(places[0]) || slow.size() != 1) usage();
    options.name = places[0], options.capture = places[1];
    options.overwrite = slow[0] == "overwrite";
    bool is_good = options.overwrite || slow[0] == "wait";
    std::vector<std::string> symbols = options.symbols, ids;
    for (const std::string &text : options.strategies) {
        const std::vector<std::string> parts = split(text, ':');
        is_good &=
            is_name(parts[0]) && !std::count(ids.begin(), ids.end(), parts[0]) && parts.size() <= 2;
        ids.push_back(parts[0]);
        if (parts.size() == 2)
            for (const std::string &symbol : split(parts[1], ',')) symbols.push_back(symbol);
    }
    if (!is_good || !std::all_of(symbols.begin(), symbols.end(), is_symbol)) usage();
    return options;
}

} // namespace

int main(int, char **argv) {
    try {
        const Options options = read_arguments(argv + 1);
        struct sigaction action = {};
        action.sa_handler = [](int) { stopping = 1; };
        sigaction(SIGINT, &action, nullptr);
        sigaction(SIGTERM, &action, nullptr);
        Engine engine(options);
        engine.run();
        engine.print();
        if (engine.is_no_capture()) throw std::runtime_error(engine.account());
    } catch (const std::exception &error) {
        std::fprintf(stderr, "engine: %s\n", error.what());
        return 1;
    }
    return 0;
}
