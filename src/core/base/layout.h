/*
 * layout.h: the bytes of a segment, and nothing else.
 *
 * Owns:     the structs that two processes share, their offsets, and the rules that turn a request
 *           into a geometry. Every offset is asserted here and again from Python against the
 *           vectors in tests/, so a change of layout is a change of SHMIPC_FORMAT_VERSION.
 * Must not know: atomics' meaning, files, futexes, Python.
 *
 * A segment is one file:
 *
 *   offset 0        geometry            written once, before the file has a name
 *   128             commit line         the producer's head
 *   256             retention line      the producer's tail
 *   384             identity line       who produces, whether the stream has ended
 *   512             data word           consumers sleep here
 *   640             space word          the producer sleeps here
 *   768             membership line     one bit a consumer slot
 *   896             slot 0, slot 1 ...  128 bytes each: one consumer's cursor
 *   ...             schema              bytes the core never interprets
 *   data_off        data area           a power of two of whole pages, mapped twice back to back
 *
 * Lines are 128 bytes: two 64-byte cache lines, because x86's adjacent-line prefetcher moves pairs
 * (and arm64 servers have 128-byte lines), so 64 would let two writers share a pair.
 */
#ifndef SHMIPC_LAYOUT_H
#define SHMIPC_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SHMIPC_MAGIC "\x89SHMIPC\n" /* not text, and broken by any newline translation */
#define SHMIPC_MAGIC_LEN 8
#define SHMIPC_FORMAT_VERSION 1u
#define SHMIPC_BYTE_ORDER 0x01020304u

#define SHMIPC_LINE 128
#define SHMIPC_MAX_CONSUMERS 1024u
#define SHMIPC_MEMBER_WORDS (SHMIPC_MAX_CONSUMERS / 64u)
#define SHMIPC_PID_KEPT UINT32_C(0xffffffff) /* in a slot: kept for a consumer to come */
#define SHMIPC_MAX_SCHEMA_LEN (64u * 1024u)
#define SHMIPC_MAX_AREA_LEN (UINT64_C(1) << 46) /* twice this still fits a 47-bit address space */

/* A message is this header, then its payload, then padding up to a multiple of it. */
#define SHMIPC_MESSAGE_ALIGN 16u
#define SHMIPC_MAX_MESSAGE_LEN UINT64_C(0xffffffff)

/* Items of at least this many bytes start on a 64-byte boundary, so that a frame is SIMD-aligned.
 */
#define SHMIPC_LARGE_ITEM_LEN 4096u
#define SHMIPC_LARGE_ITEM_ALIGN 64u

enum shmipc_framing { SHMIPC_FRAMING_MESSAGE = 1, SHMIPC_FRAMING_TYPED = 2 };
enum shmipc_overflow { SHMIPC_OVERFLOW_BLOCK = 1, SHMIPC_OVERFLOW_OVERWRITE = 2 };

typedef _Atomic(uint64_t) shmipc_atomic_u64;
typedef _Atomic(uint32_t) shmipc_atomic_u32;

/* Never changes once the segment has a name. A process that attaches checks it, copies it to
 * private memory, and from then on reads only the copy. */
struct shmipc_geometry {
    uint8_t magic[SHMIPC_MAGIC_LEN];
    uint32_t version;
    uint32_t byte_order;
    uint32_t framing;     /* enum shmipc_framing */
    uint32_t overflow;    /* enum shmipc_overflow */
    uint32_t slots;       /* consumers this ring can have at once */
    uint32_t schema_len;  /* bytes; 0 in a message ring */
    uint64_t schema_hash; /* FNV-1a of the schema's bytes */
    uint64_t item_len;    /* typed: bytes of one item; message: 0 */
    uint64_t item_stride; /* typed: bytes from one item to the next, >= item_len; message: 0 */
    uint64_t schema_off;
    uint64_t data_off;   /* whole pages */
    uint64_t area_len;   /* a power of two, whole pages */
    uint64_t origin_pos; /* where positions began; 0 but in tests of their wrap */
    uint64_t created_ns; /* CLOCK_REALTIME */
};

/* (position, sequence) after a commit. Two of them take turns, so that the one belonging to the
 * head is whole whenever the producer dies. Message rings only. */
struct shmipc_note {
    shmipc_atomic_u64 pos;
    shmipc_atomic_u64 seq;
};

struct shmipc_commit_line {
    _Alignas(SHMIPC_LINE) shmipc_atomic_u64 head_pos; /* everything below is committed */
    uint64_t reserved;
    struct shmipc_note notes[2];
};

struct shmipc_retention_line {
    _Alignas(SHMIPC_LINE) shmipc_atomic_u64 tail_pos; /* everything below may be overwritten */
};

struct shmipc_identity_line {
    _Alignas(SHMIPC_LINE) shmipc_atomic_u32 producer_pid; /* a name for messages; never liveness */
    shmipc_atomic_u32 closed;                             /* 1: the stream has ended */
    shmipc_atomic_u64 epoch;                              /* producers so far */
};

struct shmipc_data_line {
    _Alignas(SHMIPC_LINE)
        shmipc_atomic_u32 sleepers; /* futex (wait.h): odd while a consumer may sleep */
};

struct shmipc_space_line {
    _Alignas(SHMIPC_LINE)
        shmipc_atomic_u32 sleepers; /* futex (wait.h): odd while the producer may sleep */
    uint32_t reserved;
    shmipc_atomic_u64 wanted_pos; /* the cursor position it waits for */
};

struct shmipc_member_line {
    _Alignas(SHMIPC_LINE)
        shmipc_atomic_u64 bits[SHMIPC_MEMBER_WORDS]; /* slot i: bit i%64 of i/64 */
};

struct shmipc_slot {
    _Alignas(SHMIPC_LINE) shmipc_atomic_u64 cursor_pos; /* first byte not yet released */
    /* 0: nobody is attached; SHMIPC_PID_KEPT and a member bit: a kept slot; else the consumer's
     * pid, for texts only, never for liveness. */
    shmipc_atomic_u32 pid;
};

struct shmipc_header {
    _Alignas(SHMIPC_LINE) struct shmipc_geometry geometry;
    struct shmipc_commit_line commit;
    struct shmipc_retention_line retention;
    struct shmipc_identity_line identity;
    struct shmipc_data_line data;
    struct shmipc_space_line space;
    struct shmipc_member_line members;
    struct shmipc_slot slots[]; /* geometry.slots of them */
};

/* In front of every payload of a message ring. kind 0 is refused by send, so zeroed memory is
 * never a valid message. */
struct shmipc_message_header {
    uint32_t len; /* payload bytes */
    uint16_t kind;
    uint16_t flags;
    uint64_t seq; /* 0 for the first message of the ring */
};

/* Bytes of the file that carry locks (segment/locks.h). Only their numbers matter: what is stored
 * there is neither read nor written. */
enum {
    SHMIPC_LOCK_GATE = 0,
    SHMIPC_LOCK_PRODUCER = 1,
    SHMIPC_LOCK_SLOT0 = 2,
    SHMIPC_LOCK_SUCCESSOR = SHMIPC_LOCK_SLOT0 + (int)SHMIPC_MAX_CONSUMERS
};

static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
              "shared positions need lock-free 64-bit atomics");
static_assert(sizeof(shmipc_atomic_u64) == 8 && sizeof(shmipc_atomic_u32) == 4,
              "an atomic must be exactly its integer");
static_assert(sizeof(struct shmipc_geometry) == 96, "layout");
static_assert(offsetof(struct shmipc_geometry, schema_hash) == 32, "layout");
static_assert(offsetof(struct shmipc_geometry, item_len) == 40, "layout");
static_assert(offsetof(struct shmipc_geometry, area_len) == 72, "layout");
static_assert(offsetof(struct shmipc_header, commit) == 128, "layout");
static_assert(offsetof(struct shmipc_header, commit.notes) == 144, "layout");
static_assert(offsetof(struct shmipc_header, retention) == 256, "layout");
static_assert(offsetof(struct shmipc_header, identity) == 384, "layout");
static_assert(offsetof(struct shmipc_header, data) == 512, "layout");
static_assert(offsetof(struct shmipc_header, space) == 640, "layout");
static_assert(offsetof(struct shmipc_header, space.wanted_pos) == 648, "layout");
static_assert(offsetof(struct shmipc_header, members) == 768, "layout");
static_assert(offsetof(struct shmipc_header, slots) == 896, "layout");
static_assert(sizeof(struct shmipc_slot) == SHMIPC_LINE, "layout");
static_assert(sizeof(struct shmipc_message_header) == SHMIPC_MESSAGE_ALIGN, "layout");

/* Bytes that a message of `len` payload bytes takes. `len` <= SHMIPC_MAX_MESSAGE_LEN, so the sum
 * cannot overflow. */
static inline uint64_t shmipc_message_span(uint64_t len)
{
    const uint64_t align = SHMIPC_MESSAGE_ALIGN;
    return (sizeof(struct shmipc_message_header) + len + align - 1) & ~(align - 1);
}

/* FNV-1a, 64 bit (Fowler, Noll, Vo; constants from draft-eastlake-fnv). */
static inline uint64_t shmipc_schema_hash(const void *schema, size_t len)
{
    const unsigned char *byte = schema;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

#endif
