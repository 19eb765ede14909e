/*
 * fuzz_segment.c: a libFuzzer target. The bytes of a segment file are the peer's: we look at it,
 * attach to it in both roles, use it, clean it up.
 *
 * An input chooses a ring, says what is wrong with its file (any bytes anywhere, another length,
 * holes) and in which order to open it. The file is a real one, opened by the real calls.
 */
#define _GNU_SOURCE
#include "../../../src/core/ring/consumer.h"
#include "../../../src/core/ring/producer.h"
#include "script.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 5 * 4096, STEPS = 8, ITEM_LEN = 24 };

static char path[SHMIPC_PATH_MAX];
static struct shmipc_error error;
static struct shmipc_producer_role producer;
static struct shmipc_consumer_role consumer;

/* The files are the peer here; between our accesses it does nothing (fuzz_peer.c does that). */
void fuzz_peer_acts(void)
{
    const bool the_operation_ends = false;
    REQUIRE(the_operation_ends);
}

/* ---- the file ------------------------------------------------------------------------------- */

static struct shmipc_spec spec_of(uint8_t kind)
{
    static const uint32_t slots[] = {1, 2, 1, 65};
    const bool typed = (kind & 1) != 0;
    return (struct shmipc_spec){.framing = typed ? SHMIPC_FRAMING_TYPED : SHMIPC_FRAMING_MESSAGE,
                                .overflow = (kind & 2) != 0 ? SHMIPC_OVERFLOW_OVERWRITE
                                                            : SHMIPC_OVERFLOW_BLOCK,
                                .slots = slots[kind >> 2 & 3],
                                .item_len = typed ? ITEM_LEN : 0,
                                .capacity = 16,
                                .schema = typed ? "('|V24', ())" : NULL,
                                .schema_len = typed ? 12 : 0,
                                .mode = 0600};
}

static void send(unsigned char fill)
{
    struct shmipc_ring_producer *ring = &producer.ring;
    const bool typed = ring->map.item_stride != 0;
    const uint64_t len = typed ? ring->map.item_stride : 64;
    unsigned char *at = NULL;
    if (shmipc_ring_reserve(ring, len, &at) != SHMIPC_OK) {
        return;
    }
    memset(at, fill, len);
    if (typed) {
        shmipc_ring_commit(ring, len);
    } else {
        shmipc_message_header_store(at, 40, 1, 0, ring->next_seq);
        shmipc_ring_commit_messages(ring, len, 1);
    }
    shmipc_producer_role_notify(&producer);
}

/* The bytes of a ring whose producer died with three messages in it, made once for each kind. */
static size_t whole_file(uint8_t kind, unsigned char *bytes)
{
    static unsigned char files[16][FILE_MAX];
    static size_t lens[16];
    if (lens[kind] == 0) {
        const struct shmipc_spec spec = spec_of(kind);
        REQUIRE(shmipc_producer_role_open(&producer, path, &spec, &error) == SHMIPC_OK);
        for (int i = 0; i < 3; i++) {
            send((unsigned char)(1 + i));
        }
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        const ssize_t len = read(fd, files[kind], FILE_MAX);
        REQUIRE(len > 0 && len < FILE_MAX);
        lens[kind] = (size_t)len;
        (void)close(fd);
        (void)unlink(path);
        shmipc_producer_role_close(&producer, false);
    }
    memcpy(bytes, files[kind], lens[kind]);
    return lens[kind];
}

static uint64_t interesting(struct script *script, uint64_t now)
{
    static const uint64_t values[] = {
        0,    1,    16,         4096,       8192,       UINT64_C(1) << 20, UINT64_C(1) << 30,
        1025, 1024, 0x7fffffff, 0xffffffff, 0x80000000, UINT64_C(1) << 46, UINT64_C(1) << 63,
        3,    64};
    const uint8_t code = script_u8(script);
    const uint64_t value = values[code & 15];
    switch (code >> 4) {
    case 0:
    case 1:
        return value;
    case 2:
        return 0 - value;
    case 3:
        return now + value;
    case 4:
        return now - value;
    case 5:
        return UINT64_C(1) << (code & 15) * 4;
    default:
        return script_u64(script);
    }
}

/* Where the fields of the geometry and of the lines are; anything else by its offset. */
static size_t place(struct script *script, size_t len, size_t *width)
{
    static const uint8_t fields[][2] = {{8, 4},  {12, 4}, {16, 4}, {20, 4}, {24, 4}, {28, 4},
                                        {32, 8}, {40, 8}, {48, 8}, {56, 8}, {64, 8}, {72, 8},
                                        {80, 8}, {88, 8}, {0, 8},  {16, 8}};
    const uint16_t code = script_u16(script);
    *width = 8;
    if (code < 0x1000) {
        *width = fields[code % 16][1];
        return fields[code % 16][0];
    }
    if (code < 0x8000) { /* a word of the header and the slots, or of what follows */
        return (size_t)(code & 0xfff) / 8 * 8;
    }
    *width = 1 + (code >> 12 & 7);
    return (size_t)(code & 0xfff) * 3 % (len - 8);
}

static void mend_hash(unsigned char *bytes, size_t len)
{
    struct shmipc_geometry geometry;
    memcpy(&geometry, bytes, sizeof geometry);
    if (geometry.schema_off < len && geometry.schema_len <= len - geometry.schema_off) {
        geometry.schema_hash = shmipc_schema_hash(bytes + geometry.schema_off, geometry.schema_len);
        memcpy(bytes, &geometry, sizeof geometry);
    }
}

static void write_file(struct script *script, uint8_t kind)
{
    static unsigned char bytes[FILE_MAX];
    size_t len = whole_file(kind, bytes);
    off_t file_len = (off_t)len;
    const uint8_t damages = script_u8(script);
    for (int i = 0; i < (damages & 7); i++) {
        size_t width;
        const size_t at = place(script, len, &width);
        uint64_t value;
        memcpy(&value, bytes + at, 8);
        value = interesting(script, value);
        memcpy(bytes + at, &value, width);
    }
    if ((damages & 8) != 0) {
        mend_hash(bytes, len);
    }
    if ((damages & 16) != 0) { /* as long as its header says, most of it a hole */
        uint64_t data_off;
        uint64_t area_len;
        memcpy(&data_off, bytes + offsetof(struct shmipc_geometry, data_off), 8);
        memcpy(&area_len, bytes + offsetof(struct shmipc_geometry, area_len), 8);
        file_len = (off_t)((data_off + area_len) & (UINT64_MAX >> 1));
    } else if ((damages & 32) != 0) {
        file_len = (off_t)(interesting(script, len) & (UINT64_MAX >> 1));
    }
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(pwrite(fd, bytes, len, 0) == (ssize_t)len);
    if (ftruncate(fd, file_len) != 0) {
        REQUIRE(ftruncate(fd, (off_t)len) == 0); /* longer than a file can be */
    }
    (void)close(fd);
}

/* ---- what we do with it --------------------------------------------------------------------- */

static bool is_answer(enum shmipc_status status)
{
    REQUIRE(status == SHMIPC_OK || error.text[0] != '\0');
    return status == SHMIPC_OK || status == SHMIPC_CORRUPT || status == SHMIPC_NOT_FOUND ||
           status == SHMIPC_MISMATCH || status == SHMIPC_BUSY || status == SHMIPC_OS;
}

static void look_at(const unsigned char *data, uint64_t len, const struct shmipc_segment *segment)
{
    const volatile unsigned char *byte = data;
    REQUIRE(data >= segment->data);
    REQUIRE(data + len <= segment->data + 2 * segment->geometry.area_len);
    for (uint64_t i = 0; i < len; i += 509) {
        (void)byte[i];
    }
    if (len > 0) {
        (void)byte[len - 1];
    }
}

static void inspect(void)
{
    struct shmipc_segment segment;
    static char schema[SHMIPC_MAX_SCHEMA_LEN];
    enum shmipc_status status = shmipc_segment_open(&segment, path, &error);
    REQUIRE(is_answer(status));
    if (status == SHMIPC_OK && shmipc_segment_map(&segment, false, &error) == SHMIPC_OK) {
        REQUIRE(is_answer(shmipc_segment_read_schema(&segment, schema, &error)));
        REQUIRE(shmipc_capacity_of(&segment.geometry) > 0);
        (void)shmipc_segment_is_owed(&segment);
        look_at(segment.data, segment.geometry.area_len * 2, &segment);
    }
    shmipc_segment_close(&segment);
}

static void read_some(void)
{
    struct shmipc_ring_consumer *ring = &consumer.ring;
    for (int i = 0; i < 5; i++) {
        struct shmipc_message message = {0};
        const enum shmipc_status status = shmipc_ring_peek(ring, &message);
        REQUIRE(status == SHMIPC_OK || status == SHMIPC_EMPTY || status == SHMIPC_CORRUPT);
        if (status != SHMIPC_OK) {
            (void)shmipc_consumer_role_poll_peer(&consumer);
            break;
        }
        look_at(message.data, message.len, &consumer.segment);
        shmipc_ring_advance(ring, &message);
        shmipc_consumer_role_release(&consumer);
    }
    (void)shmipc_ring_unread_estimate(ring);
    (void)shmipc_ring_lag_estimate(ring);
}

static void open_consumer(struct script *script, bool *consuming)
{
    if (!*consuming) {
        const enum shmipc_start start =
            (script_u8(script) & 1) != 0 ? SHMIPC_START_EARLIEST : SHMIPC_START_RESUME;
        const enum shmipc_status status = shmipc_consumer_role_open(&consumer, path, start, &error);
        REQUIRE(is_answer(status));
        *consuming = status == SHMIPC_OK;
    }
}

static void open_producer(uint8_t kind, bool *producing)
{
    if (!*producing) {
        const struct shmipc_spec spec = spec_of(kind);
        const enum shmipc_status status = shmipc_producer_role_open(&producer, path, &spec, &error);
        REQUIRE(is_answer(status));
        *producing = status == SHMIPC_OK;
    }
}

static void produce_some(void)
{
    for (int i = 0; i < 5; i++) {
        send(7);
    }
    producer.peer_look_ns = 0;
    (void)shmipc_producer_role_poll_peers(&producer);
    (void)shmipc_ring_pending_estimate(&producer.ring);
    (void)shmipc_producer_role_count_attached(&producer);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    REQUIRE(shmipc_segment_path("fuzz", 4, path, &error) == SHMIPC_OK);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct script script = {bytes, len};
    const uint8_t kind = script_u8(&script) & 15;
    enum shmipc_clean_result result;
    bool producing = false;
    bool consuming = false;
    write_file(&script, kind);
    for (int i = 0; i < STEPS; i++) {
        const uint8_t step = script.left > 0 ? script_u8(&script) : (uint8_t)i;
        switch (step % 8) {
        case 0:
            inspect();
            break;
        case 1:
            open_consumer(&script, &consuming);
            break;
        case 2:
            open_producer((step & 8) != 0 ? script_u8(&script) & 15 : kind, &producing);
            break;
        case 3:
            if (consuming) {
                read_some();
            }
            break;
        case 4:
            if (producing) {
                produce_some();
            }
            break;
        case 5:
            if (consuming) {
                shmipc_consumer_role_close(&consumer);
                consuming = false;
            }
            break;
        case 6:
            if (producing) {
                shmipc_producer_role_close(&producer, (step & 8) != 0);
                shmipc_segment_close(&producer.segment);
                producing = false;
            }
            break;
        default:
            REQUIRE(is_answer(shmipc_segment_clean(path, (step & 8) != 0, &result, &error)));
            break;
        }
    }
    if (consuming) {
        shmipc_consumer_role_close(&consumer);
    }
    if (producing) {
        shmipc_producer_role_close(&producer, false);
    }
    (void)unlink(path);
    return 0;
}
