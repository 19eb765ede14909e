/*
 * shmipc_events.h: the events of shmipc's strategy layer, and the control messages between engine
 * and strategies, as they lie in shared memory.
 *
 * Written by `python -m shmipc.trading.events.cheader` from dtypes.py and control.py beside it:
 * change it there. For C11 and C++17. docs/strategies.md says which rings they travel in, and when.
 *
 * Times are ns since 1970 (UTC). Prices are in the quote currency, sizes and quantities in the base
 * unit; one that is not known is NaN. 0 is NONE in every enumeration. Texts end with a zero byte;
 * what follows it, and all padding, is 0: start from `= {0}` or memset.
 */
#ifndef SHMIPC_EVENTS_H
#define SHMIPC_EVENTS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "events are little-endian"
#endif

#define SHMIPC_EVENTS_VERSION 1             /* of these structs */
#define SHMIPC_SYMBOL_LEN 15                /* bytes of UTF-8 in a symbol, at most */
#define SHMIPC_DEFAULT_LEVELS 10            /* of an order book, a side */
#define SHMIPC_MAX_LEVELS 1000              /* of any order book, a side */
#define SHMIPC_CUSTOM_KIND_FIRST 1024       /* kinds from here on are your own */
#define SHMIPC_ID_LEN 64                    /* bytes in an engine's or a strategy's name */
#define SHMIPC_EVENTS_RING "%s.events"      /* printf with the engine's name */
#define SHMIPC_ORDERS_RING "%s.%s.orders"   /* ... and the strategy's */
#define SHMIPC_REPORTS_RING "%s.%s.reports" /* ... */
#define SHMIPC_BITMAP_LEN 128               /* bytes at the end of a TARGETED message */
#define SHMIPC_MAX_PLACES 1024              /* of an engine's strategies */

/* What an event is: the message's kind in the ring. */
enum shmipc_event_kind {
    SHMIPC_EVENT_KIND_NONE = 0,
    SHMIPC_EVENT_KIND_TICK = 1,
    SHMIPC_EVENT_KIND_TRADE_TICK = 2,
    SHMIPC_EVENT_KIND_ORDER_BOOK = 3,
    SHMIPC_EVENT_KIND_BAR = 4,
    SHMIPC_EVENT_KIND_ORDER = 5,
    SHMIPC_EVENT_KIND_TRADE = 6,
    SHMIPC_EVENT_KIND_ACCOUNT = 7,
    SHMIPC_EVENT_KIND_POSITION = 8,
    SHMIPC_EVENT_KIND_TIMER = 9,
    SHMIPC_EVENT_KIND_CUSTOM = 10,
};

/* Of an order or a fill; of a trade tick, the aggressor's. */
enum shmipc_side {
    SHMIPC_SIDE_SELL = -1,
    SHMIPC_SIDE_NONE = 0,
    SHMIPC_SIDE_BUY = 1,
};

/* How an order is priced. */
enum shmipc_order_type {
    SHMIPC_ORDER_TYPE_NONE = 0,
    SHMIPC_ORDER_TYPE_MARKET = 1,      /* at what the market gives: no price */
    SHMIPC_ORDER_TYPE_LIMIT = 2,       /* at price or better */
    SHMIPC_ORDER_TYPE_STOP_MARKET = 3, /* a market order once price is reached */
};

/* How long an order stands. */
enum shmipc_time_in_force {
    SHMIPC_TIME_IN_FORCE_NONE = 0,
    SHMIPC_TIME_IN_FORCE_GTC = 1,       /* good till cancelled */
    SHMIPC_TIME_IN_FORCE_IOC = 2,       /* immediate or cancel */
    SHMIPC_TIME_IN_FORCE_FOK = 3,       /* fill or kill */
    SHMIPC_TIME_IN_FORCE_DAY = 4,       /* until the end of the trading day */
    SHMIPC_TIME_IN_FORCE_POST_ONLY = 5, /* good till cancelled, refused if it would trade at once */
};

/* Where an order stands. From FILLED on it is closed. */
enum shmipc_order_status {
    SHMIPC_ORDER_STATUS_NONE = 0,
    SHMIPC_ORDER_STATUS_SUBMITTED = 1,        /* sent, nothing heard */
    SHMIPC_ORDER_STATUS_ACCEPTED = 2,         /* working */
    SHMIPC_ORDER_STATUS_PARTIALLY_FILLED = 3, /* working, with a part of it done */
    SHMIPC_ORDER_STATUS_FILLED = 4,           /* all of it done */
    SHMIPC_ORDER_STATUS_CANCELED = 5,         /* taken back; filled_quantity stays done */
    SHMIPC_ORDER_STATUS_REJECTED = 6,         /* refused: text says why */
    SHMIPC_ORDER_STATUS_EXPIRED = 7,          /* ended by its time in force */
};

/* What a strategy asks the engine to do. */
enum shmipc_order_action {
    SHMIPC_ORDER_ACTION_NONE = 0,
    SHMIPC_ORDER_ACTION_NEW = 1,
    SHMIPC_ORDER_ACTION_CANCEL = 2,
    SHMIPC_ORDER_ACTION_MODIFY = 3,
};

/* Whether a fill took liquidity or made it. */
enum shmipc_liquidity_side {
    SHMIPC_LIQUIDITY_SIDE_NONE = 0,
    SHMIPC_LIQUIDITY_SIDE_MAKER = 1,
    SHMIPC_LIQUIDITY_SIDE_TAKER = 2,
};

/* Flags of a message. They may be combined. */
enum shmipc_message_flag {
    SHMIPC_MESSAGE_FLAG_TARGETED = 1, /* its last bytes are a bitmap of the places that it is for */
    SHMIPC_MESSAGE_FLAG_SNAPSHOT = 2, /* this says how things stand; nothing has happened */
};

/* What a control message is: the message's kind in the ring. */
enum shmipc_control {
    SHMIPC_CONTROL_HELLO = 512,        /* strategy: asks to join */
    SHMIPC_CONTROL_STATUS = 513,       /* strategy: how it fares */
    SHMIPC_CONTROL_BYE = 514,          /* strategy: leaves as it should */
    SHMIPC_CONTROL_WELCOME = 515,      /* engine: the answer to HELLO */
    SHMIPC_CONTROL_INSTRUMENT = 516,   /* engine: a symbol that can be traded */
    SHMIPC_CONTROL_SUBSCRIPTION = 517, /* engine: a symbol whose events the strategy may see */
    SHMIPC_CONTROL_SNAPSHOT_END = 518, /* engine: the snapshot is whole */
    SHMIPC_CONTROL_REFUSED = 519,      /* engine: the strategy may not join */
    SHMIPC_CONTROL_ENGINE = 520,       /* engine: another one goes on with this ring */
    SHMIPC_CONTROL_STOP = 521,         /* engine: the strategy is to end, as it does at SIGTERM */
};

/* Best bid and ask, last trade, the session so far. SHMIPC_EVENT_KIND_TICK, 128 bytes. */
struct shmipc_tick {
    char symbol[16];   /* the exchange's spelling, zero-terminated */
    int64_t ts_event;  /* ns since 1970 UTC, when it happened */
    int64_t ts_init;   /* ns since 1970 UTC, when it was made or received here */
    double last_price; /* of the last trade, quote currency */
    double last_size;  /* of the last trade, base unit */
    double bid_price;  /* best bid, quote currency */
    double ask_price;  /* best ask, quote currency */
    double bid_size;   /* at the best bid, base unit */
    double ask_size;   /* at the best ask, base unit */
    double volume;     /* traded in the session, base unit */
    double turnover;   /* traded in the session, quote currency */
    double open_price; /* first of the session, quote currency */
    double high_price; /* highest of the session, quote currency */
    double low_price;  /* lowest of the session, quote currency */
    int64_t sequence;  /* the exchange's number of this update */
};
static_assert(offsetof(struct shmipc_tick, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_tick, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_tick, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_tick, last_price) == 32, "offset");
static_assert(offsetof(struct shmipc_tick, last_size) == 40, "offset");
static_assert(offsetof(struct shmipc_tick, bid_price) == 48, "offset");
static_assert(offsetof(struct shmipc_tick, ask_price) == 56, "offset");
static_assert(offsetof(struct shmipc_tick, bid_size) == 64, "offset");
static_assert(offsetof(struct shmipc_tick, ask_size) == 72, "offset");
static_assert(offsetof(struct shmipc_tick, volume) == 80, "offset");
static_assert(offsetof(struct shmipc_tick, turnover) == 88, "offset");
static_assert(offsetof(struct shmipc_tick, open_price) == 96, "offset");
static_assert(offsetof(struct shmipc_tick, high_price) == 104, "offset");
static_assert(offsetof(struct shmipc_tick, low_price) == 112, "offset");
static_assert(offsetof(struct shmipc_tick, sequence) == 120, "offset");
static_assert(sizeof(struct shmipc_tick) == 128, "size");

/* One trade of the market. SHMIPC_EVENT_KIND_TRADE_TICK, 64 bytes. */
struct shmipc_trade_tick {
    char symbol[16];       /* the exchange's spelling, zero-terminated */
    int64_t ts_event;      /* ns since 1970 UTC, when it happened */
    int64_t ts_init;       /* ns since 1970 UTC, when it was made or received here */
    double price;          /* quote currency */
    double size;           /* base unit */
    int64_t trade_id;      /* the exchange's number of this trade */
    int8_t aggressor_side; /* enum shmipc_side: who took */
    uint8_t padding[7];    /* 0 */
};
static_assert(offsetof(struct shmipc_trade_tick, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_trade_tick, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_trade_tick, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_trade_tick, price) == 32, "offset");
static_assert(offsetof(struct shmipc_trade_tick, size) == 40, "offset");
static_assert(offsetof(struct shmipc_trade_tick, trade_id) == 48, "offset");
static_assert(offsetof(struct shmipc_trade_tick, aggressor_side) == 56, "offset");
static_assert(sizeof(struct shmipc_trade_tick) == 64, "size");

/*
 * Price levels, best first. What lies beyond the counts is 0. SHMIPC_EVENT_KIND_ORDER_BOOK.
 *
 *     symbol      the exchange's spelling, zero-terminated
 *     ts_event    ns since 1970 UTC, when it happened
 *     ts_init     ns since 1970 UTC, when it was made or received here
 *     sequence    the exchange's number of this update
 *     bid_count   levels filled in bid_prices and bid_sizes
 *     ask_count   levels filled in ask_prices and ask_sizes
 *     bid_prices  highest first, quote currency
 *     bid_sizes   base unit
 *     ask_prices  lowest first, quote currency
 *     ask_sizes   base unit
 *
 * struct shmipc_order_book has SHMIPC_DEFAULT_LEVELS a side and 384 bytes.
 * For another number, which engine and strategies agree on, declare your own:
 *
 *     SHMIPC_DECLARE_ORDER_BOOK(my_order_book, 25);
 */
#define SHMIPC_DECLARE_ORDER_BOOK(name, levels)                                        \
    struct name {                                                                      \
        char symbol[16];                                                               \
        int64_t ts_event;                                                              \
        int64_t ts_init;                                                               \
        int64_t sequence;                                                              \
        uint32_t bid_count;                                                            \
        uint32_t ask_count;                                                            \
        double bid_prices[levels];                                                     \
        double bid_sizes[levels];                                                      \
        double ask_prices[levels];                                                     \
        double ask_sizes[levels];                                                      \
        uint8_t padding[64 - (48 + 32 * (levels)) % 64];                               \
    };                                                                                 \
    static_assert((levels) >= 1 && (levels) <= SHMIPC_MAX_LEVELS, "levels of " #name); \
    static_assert(sizeof(struct name) % 64 == 0, "size of " #name)

SHMIPC_DECLARE_ORDER_BOOK(shmipc_order_book, SHMIPC_DEFAULT_LEVELS);
static_assert(offsetof(struct shmipc_order_book, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_order_book, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_order_book, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_order_book, sequence) == 32, "offset");
static_assert(offsetof(struct shmipc_order_book, bid_count) == 40, "offset");
static_assert(offsetof(struct shmipc_order_book, ask_count) == 44, "offset");
static_assert(offsetof(struct shmipc_order_book, bid_prices) == 48, "offset");
static_assert(offsetof(struct shmipc_order_book, bid_sizes) == 128, "offset");
static_assert(offsetof(struct shmipc_order_book, ask_prices) == 208, "offset");
static_assert(offsetof(struct shmipc_order_book, ask_sizes) == 288, "offset");
static_assert(sizeof(struct shmipc_order_book) == 384, "size");

/* Prices and volume of one interval. SHMIPC_EVENT_KIND_BAR, 128 bytes. */
struct shmipc_bar {
    char symbol[16];      /* the exchange's spelling, zero-terminated */
    int64_t ts_event;     /* ns since 1970 UTC, when it happened */
    int64_t ts_init;      /* ns since 1970 UTC, when it was made or received here */
    double open_price;    /* quote currency */
    double high_price;    /* quote currency */
    double low_price;     /* quote currency */
    double close_price;   /* quote currency */
    double volume;        /* traded in the interval, base unit */
    double turnover;      /* traded in the interval, quote currency */
    int64_t interval_ns;  /* ns, length of the interval; ts_event is its end */
    int64_t count;        /* trades in the interval */
    double open_interest; /* of a derivative at the end, contracts */
    uint8_t padding[24];  /* 0 */
};
static_assert(offsetof(struct shmipc_bar, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_bar, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_bar, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_bar, open_price) == 32, "offset");
static_assert(offsetof(struct shmipc_bar, high_price) == 40, "offset");
static_assert(offsetof(struct shmipc_bar, low_price) == 48, "offset");
static_assert(offsetof(struct shmipc_bar, close_price) == 56, "offset");
static_assert(offsetof(struct shmipc_bar, volume) == 64, "offset");
static_assert(offsetof(struct shmipc_bar, turnover) == 72, "offset");
static_assert(offsetof(struct shmipc_bar, interval_ns) == 80, "offset");
static_assert(offsetof(struct shmipc_bar, count) == 88, "offset");
static_assert(offsetof(struct shmipc_bar, open_interest) == 96, "offset");
static_assert(sizeof(struct shmipc_bar) == 128, "size");

/* What a strategy asks for, and what became of it. SHMIPC_EVENT_KIND_ORDER, 128 bytes. */
struct shmipc_order {
    char symbol[16];         /* the exchange's spelling, zero-terminated */
    int64_t ts_event;        /* ns since 1970 UTC, when it happened */
    int64_t ts_init;         /* ns since 1970 UTC, when it was made or received here */
    int64_t client_order_id; /* the strategy's number of the order, above 0 */
    int64_t order_id;        /* the exchange's number of the order */
    double price;            /* limit or trigger, quote currency; NaN: none */
    double quantity;         /* asked for, base unit, above 0 */
    double filled_quantity;  /* done of it, base unit */
    double average_price;    /* of what is done, quote currency */
    int64_t ts_trigger;      /* ts_init of the event that led to it, ns; 0: none */
    int8_t side;             /* enum shmipc_side */
    uint8_t order_type;      /* enum shmipc_order_type */
    uint8_t time_in_force;   /* enum shmipc_time_in_force */
    uint8_t status;          /* enum shmipc_order_status */
    uint8_t action;          /* enum shmipc_order_action */
    uint8_t reserved[3];     /* 0 */
    char text[32];           /* why, in words, zero-terminated */
};
static_assert(offsetof(struct shmipc_order, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_order, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_order, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_order, client_order_id) == 32, "offset");
static_assert(offsetof(struct shmipc_order, order_id) == 40, "offset");
static_assert(offsetof(struct shmipc_order, price) == 48, "offset");
static_assert(offsetof(struct shmipc_order, quantity) == 56, "offset");
static_assert(offsetof(struct shmipc_order, filled_quantity) == 64, "offset");
static_assert(offsetof(struct shmipc_order, average_price) == 72, "offset");
static_assert(offsetof(struct shmipc_order, ts_trigger) == 80, "offset");
static_assert(offsetof(struct shmipc_order, side) == 88, "offset");
static_assert(offsetof(struct shmipc_order, order_type) == 89, "offset");
static_assert(offsetof(struct shmipc_order, time_in_force) == 90, "offset");
static_assert(offsetof(struct shmipc_order, status) == 91, "offset");
static_assert(offsetof(struct shmipc_order, action) == 92, "offset");
static_assert(offsetof(struct shmipc_order, reserved) == 93, "offset");
static_assert(offsetof(struct shmipc_order, text) == 96, "offset");
static_assert(sizeof(struct shmipc_order) == 128, "size");

/* One fill of an order. SHMIPC_EVENT_KIND_TRADE, 128 bytes. */
struct shmipc_trade {
    char symbol[16];         /* the exchange's spelling, zero-terminated */
    int64_t ts_event;        /* ns since 1970 UTC, when it happened */
    int64_t ts_init;         /* ns since 1970 UTC, when it was made or received here */
    int64_t client_order_id; /* the strategy's number of the order */
    int64_t order_id;        /* the exchange's number of the order */
    int64_t trade_id;        /* the exchange's number of this fill */
    double price;            /* quote currency */
    double quantity;         /* base unit, above 0 */
    double commission;       /* paid (below 0: received), quote currency */
    int8_t side;             /* enum shmipc_side */
    uint8_t liquidity_side;  /* enum shmipc_liquidity_side */
    uint8_t padding[46];     /* 0 */
};
static_assert(offsetof(struct shmipc_trade, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_trade, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_trade, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_trade, client_order_id) == 32, "offset");
static_assert(offsetof(struct shmipc_trade, order_id) == 40, "offset");
static_assert(offsetof(struct shmipc_trade, trade_id) == 48, "offset");
static_assert(offsetof(struct shmipc_trade, price) == 56, "offset");
static_assert(offsetof(struct shmipc_trade, quantity) == 64, "offset");
static_assert(offsetof(struct shmipc_trade, commission) == 72, "offset");
static_assert(offsetof(struct shmipc_trade, side) == 80, "offset");
static_assert(offsetof(struct shmipc_trade, liquidity_side) == 81, "offset");
static_assert(sizeof(struct shmipc_trade) == 128, "size");

/* Money; symbol is the currency. SHMIPC_EVENT_KIND_ACCOUNT, 64 bytes. */
struct shmipc_account {
    char symbol[16];   /* the exchange's spelling, zero-terminated */
    int64_t ts_event;  /* ns since 1970 UTC, when it happened */
    int64_t ts_init;   /* ns since 1970 UTC, when it was made or received here */
    double balance;    /* money without open positions, in the account's currency */
    double equity;     /* balance and unrealized profit, in the account's currency */
    double margin;     /* held by orders and positions, in the account's currency */
    double commission; /* paid so far, in the account's currency */
};
static_assert(offsetof(struct shmipc_account, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_account, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_account, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_account, balance) == 32, "offset");
static_assert(offsetof(struct shmipc_account, equity) == 40, "offset");
static_assert(offsetof(struct shmipc_account, margin) == 48, "offset");
static_assert(offsetof(struct shmipc_account, commission) == 56, "offset");
static_assert(sizeof(struct shmipc_account) == 64, "size");

/* What one strategy holds of one symbol. SHMIPC_EVENT_KIND_POSITION, 128 bytes. */
struct shmipc_position {
    char symbol[16];       /* the exchange's spelling, zero-terminated */
    int64_t ts_event;      /* ns since 1970 UTC, when it happened */
    int64_t ts_init;       /* ns since 1970 UTC, when it was made or received here */
    double quantity;       /* base unit; above 0 long, below 0 short */
    double average_price;  /* of what is held, quote currency */
    double realized_pnl;   /* profit of what was closed, quote currency */
    double unrealized_pnl; /* profit of what is held, quote currency */
    double commission;     /* paid so far, quote currency */
    int64_t trade_count;   /* fills so far */
    uint8_t padding[48];   /* 0 */
};
static_assert(offsetof(struct shmipc_position, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_position, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_position, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_position, quantity) == 32, "offset");
static_assert(offsetof(struct shmipc_position, average_price) == 40, "offset");
static_assert(offsetof(struct shmipc_position, realized_pnl) == 48, "offset");
static_assert(offsetof(struct shmipc_position, unrealized_pnl) == 56, "offset");
static_assert(offsetof(struct shmipc_position, commission) == 64, "offset");
static_assert(offsetof(struct shmipc_position, trade_count) == 72, "offset");
static_assert(sizeof(struct shmipc_position) == 128, "size");

/* A timer that has come due. SHMIPC_EVENT_KIND_TIMER, 64 bytes. */
struct shmipc_timer {
    char symbol[16];     /* the exchange's spelling, zero-terminated */
    int64_t ts_event;    /* ns since 1970 UTC, when it happened */
    int64_t ts_init;     /* ns since 1970 UTC, when it was made or received here */
    char name[16];       /* the timer's, zero-terminated */
    int64_t interval_ns; /* ns, from one time to the next */
    int64_t count;       /* times it came due, this one included */
};
static_assert(offsetof(struct shmipc_timer, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_timer, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_timer, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_timer, name) == 32, "offset");
static_assert(offsetof(struct shmipc_timer, interval_ns) == 48, "offset");
static_assert(offsetof(struct shmipc_timer, count) == 56, "offset");
static_assert(sizeof(struct shmipc_timer) == 64, "size");

/* Whatever an engine makes of it. SHMIPC_EVENT_KIND_CUSTOM, 192 bytes. */
struct shmipc_custom {
    char symbol[16];    /* the exchange's spelling, zero-terminated */
    int64_t ts_event;   /* ns since 1970 UTC, when it happened */
    int64_t ts_init;    /* ns since 1970 UTC, when it was made or received here */
    char name[16];      /* of what this is, zero-terminated */
    int64_t code;       /* the engine's */
    double values[8];   /* the engine's */
    char text[64];      /* the engine's, zero-terminated */
    uint8_t padding[8]; /* 0 */
};
static_assert(offsetof(struct shmipc_custom, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_custom, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_custom, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_custom, name) == 32, "offset");
static_assert(offsetof(struct shmipc_custom, code) == 48, "offset");
static_assert(offsetof(struct shmipc_custom, values) == 56, "offset");
static_assert(offsetof(struct shmipc_custom, text) == 120, "offset");
static_assert(sizeof(struct shmipc_custom) == 192, "size");

/* A strategy asks to join. SHMIPC_CONTROL_HELLO, 64 bytes. */
struct shmipc_hello {
    char symbol[16];    /* the exchange's spelling, zero-terminated */
    int64_t ts_event;   /* ns since 1970 UTC, when it happened */
    int64_t ts_init;    /* ns since 1970 UTC, when it was made or received here */
    int64_t session;    /* of the strategy, a number that no other start of it has */
    int64_t pid;        /* of its process */
    int32_t slot;       /* of its cursor in the ring of events */
    int32_t version;    /* of its event dtypes */
    uint8_t padding[8]; /* 0 */
};
static_assert(offsetof(struct shmipc_hello, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_hello, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_hello, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_hello, session) == 32, "offset");
static_assert(offsetof(struct shmipc_hello, pid) == 40, "offset");
static_assert(offsetof(struct shmipc_hello, slot) == 48, "offset");
static_assert(offsetof(struct shmipc_hello, version) == 52, "offset");
static_assert(sizeof(struct shmipc_hello) == 64, "size");

/* How a strategy fares, now and then. SHMIPC_CONTROL_STATUS, 64 bytes. */
struct shmipc_status {
    char symbol[16];    /* the exchange's spelling, zero-terminated */
    int64_t ts_event;   /* ns since 1970 UTC, when it happened */
    int64_t ts_init;    /* ns since 1970 UTC, when it was made or received here */
    int64_t lost;       /* events overwritten before it read them */
    int64_t events;     /* that it has handled, reports included */
    int64_t errors;     /* exceptions in its callbacks */
    uint8_t padding[8]; /* 0 */
};
static_assert(offsetof(struct shmipc_status, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_status, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_status, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_status, lost) == 32, "offset");
static_assert(offsetof(struct shmipc_status, events) == 40, "offset");
static_assert(offsetof(struct shmipc_status, errors) == 48, "offset");
static_assert(sizeof(struct shmipc_status) == 64, "size");

/* A strategy leaves as it should. SHMIPC_CONTROL_BYE, 64 bytes. */
struct shmipc_bye {
    char symbol[16];     /* the exchange's spelling, zero-terminated */
    int64_t ts_event;    /* ns since 1970 UTC, when it happened */
    int64_t ts_init;     /* ns since 1970 UTC, when it was made or received here */
    int64_t session;     /* of the strategy, a number that no other start of it has */
    int64_t errors;      /* exceptions in its callbacks */
    uint8_t padding[16]; /* 0 */
};
static_assert(offsetof(struct shmipc_bye, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_bye, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_bye, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_bye, session) == 32, "offset");
static_assert(offsetof(struct shmipc_bye, errors) == 40, "offset");
static_assert(sizeof(struct shmipc_bye) == 64, "size");

/* The answer to HELLO. SHMIPC_CONTROL_WELCOME, 128 bytes. */
struct shmipc_welcome {
    char symbol[16];        /* the exchange's spelling, zero-terminated */
    int64_t ts_event;       /* ns since 1970 UTC, when it happened */
    int64_t ts_init;        /* ns since 1970 UTC, when it was made or received here */
    int64_t session;        /* of the HELLO that this answers */
    int64_t engine_session; /* of the engine, a number no other start of it has */
    int64_t seq;            /* number of the first event that is not in the snapshot */
    int32_t place;          /* the strategy's bit in bitmaps */
    int32_t version;        /* of the engine's event dtypes */
    int32_t book_levels;    /* of its order books, a side */
    int32_t instruments;    /* how many INSTRUMENT follow; -1: all symbols can be traded */
    int32_t symbols;        /* how many SUBSCRIPTION follow; -1: it may see all symbols */
    uint8_t padding[52];    /* 0 */
};
static_assert(offsetof(struct shmipc_welcome, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_welcome, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_welcome, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_welcome, session) == 32, "offset");
static_assert(offsetof(struct shmipc_welcome, engine_session) == 40, "offset");
static_assert(offsetof(struct shmipc_welcome, seq) == 48, "offset");
static_assert(offsetof(struct shmipc_welcome, place) == 56, "offset");
static_assert(offsetof(struct shmipc_welcome, version) == 60, "offset");
static_assert(offsetof(struct shmipc_welcome, book_levels) == 64, "offset");
static_assert(offsetof(struct shmipc_welcome, instruments) == 68, "offset");
static_assert(offsetof(struct shmipc_welcome, symbols) == 72, "offset");
static_assert(sizeof(struct shmipc_welcome) == 128, "size");

/* A symbol that can be traded. SHMIPC_CONTROL_INSTRUMENT, 64 bytes. */
struct shmipc_instrument {
    char symbol[16];        /* the exchange's spelling, zero-terminated */
    int64_t ts_event;       /* ns since 1970 UTC, when it happened */
    int64_t ts_init;        /* ns since 1970 UTC, when it was made or received here */
    double price_increment; /* quote currency; 0: not known */
    double size_increment;  /* base unit; 0: not known */
    uint8_t padding[16];    /* 0 */
};
static_assert(offsetof(struct shmipc_instrument, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_instrument, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_instrument, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_instrument, price_increment) == 32, "offset");
static_assert(offsetof(struct shmipc_instrument, size_increment) == 40, "offset");
static_assert(sizeof(struct shmipc_instrument) == 64, "size");

/* A symbol whose events the strategy may see. SHMIPC_CONTROL_SUBSCRIPTION, 64 bytes. */
struct shmipc_subscription {
    char symbol[16];     /* the exchange's spelling, zero-terminated */
    int64_t ts_event;    /* ns since 1970 UTC, when it happened */
    int64_t ts_init;     /* ns since 1970 UTC, when it was made or received here */
    int64_t session;     /* of the HELLO that this answers */
    uint8_t padding[24]; /* 0 */
};
static_assert(offsetof(struct shmipc_subscription, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_subscription, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_subscription, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_subscription, session) == 32, "offset");
static_assert(sizeof(struct shmipc_subscription) == 64, "size");

/* The snapshot is whole. SHMIPC_CONTROL_SNAPSHOT_END, 64 bytes. */
struct shmipc_snapshot_end {
    char symbol[16];     /* the exchange's spelling, zero-terminated */
    int64_t ts_event;    /* ns since 1970 UTC, when it happened */
    int64_t ts_init;     /* ns since 1970 UTC, when it was made or received here */
    int64_t session;     /* of the HELLO that this answers */
    uint8_t padding[24]; /* 0 */
};
static_assert(offsetof(struct shmipc_snapshot_end, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_snapshot_end, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_snapshot_end, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_snapshot_end, session) == 32, "offset");
static_assert(sizeof(struct shmipc_snapshot_end) == 64, "size");

/* The engine does not let the strategy join. SHMIPC_CONTROL_REFUSED, 192 bytes. */
struct shmipc_refused {
    char symbol[16];     /* the exchange's spelling, zero-terminated */
    int64_t ts_event;    /* ns since 1970 UTC, when it happened */
    int64_t ts_init;     /* ns since 1970 UTC, when it was made or received here */
    int64_t session;     /* of the HELLO that this answers */
    char text[128];      /* why, in words, zero-terminated */
    uint8_t padding[24]; /* 0 */
};
static_assert(offsetof(struct shmipc_refused, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_refused, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_refused, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_refused, session) == 32, "offset");
static_assert(offsetof(struct shmipc_refused, text) == 40, "offset");
static_assert(sizeof(struct shmipc_refused) == 192, "size");

/* Another engine goes on with this ring: join again. SHMIPC_CONTROL_ENGINE, 64 bytes. */
struct shmipc_engine {
    char symbol[16];        /* the exchange's spelling, zero-terminated */
    int64_t ts_event;       /* ns since 1970 UTC, when it happened */
    int64_t ts_init;        /* ns since 1970 UTC, when it was made or received here */
    int64_t engine_session; /* of the engine, a number no other start of it has */
    uint8_t padding[24];    /* 0 */
};
static_assert(offsetof(struct shmipc_engine, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_engine, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_engine, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_engine, engine_session) == 32, "offset");
static_assert(sizeof(struct shmipc_engine) == 64, "size");

/* The strategy is to end, if this is its session. SHMIPC_CONTROL_STOP, 64 bytes. */
struct shmipc_stop {
    char symbol[16];     /* the exchange's spelling, zero-terminated */
    int64_t ts_event;    /* ns since 1970 UTC, when it happened */
    int64_t ts_init;     /* ns since 1970 UTC, when it was made or received here */
    int64_t session;     /* of the HELLO of the run that is to end; of another: not for it */
    uint8_t padding[24]; /* 0 */
};
static_assert(offsetof(struct shmipc_stop, symbol) == 0, "offset");
static_assert(offsetof(struct shmipc_stop, ts_event) == 16, "offset");
static_assert(offsetof(struct shmipc_stop, ts_init) == 24, "offset");
static_assert(offsetof(struct shmipc_stop, session) == 32, "offset");
static_assert(sizeof(struct shmipc_stop) == 64, "size");

/*
 * Fill the symbol of an event with a field's text: `len` bytes, or those before a zero byte.
 * Returns 0, or -1 and leaves `out` as it is where that is empty, longer than SHMIPC_SYMBOL_LEN
 * bytes, or holds a control character. It never truncates.
 */
static inline int shmipc_symbol_set_n(char out[SHMIPC_SYMBOL_LEN + 1], const char *text, size_t len)
{
    size_t end = 0;
    for (; end < len && text[end] != '\0'; end++) {
        unsigned char byte; /* a char may be signed, and C and C++ cast in different words */
        memcpy(&byte, text + end, 1);
        if (end == SHMIPC_SYMBOL_LEN || byte < 0x20 || byte == 0x7f) {
            return -1;
        }
    }
    if (end == 0) {
        return -1;
    }
    memmove(out, text, end);
    memset(out + end, 0, SHMIPC_SYMBOL_LEN + 1 - end);
    return 0;
}

/*
 * The same with a text that ends with a zero byte. Of a field that may be full, and so without one,
 * it could read the neighbour: shmipc_symbol_set_n(out, field, sizeof field).
 */
static inline int shmipc_symbol_set(char out[SHMIPC_SYMBOL_LEN + 1], const char *text)
{
    return shmipc_symbol_set_n(out, text, SHMIPC_SYMBOL_LEN + 1);
}

#endif
