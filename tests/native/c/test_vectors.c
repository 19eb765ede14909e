/* test_vectors.c: whole segments, byte for byte. The core writes each vector of
 * tests/native/c/vectors by the steps that tests/ring/test_vectors.py takes from Python, and reads
 * it. The notation: vectors.py.
 */
#define _GNU_SOURCE
#include "../../../src/core/ring/consumer.h"
#include "../../../src/core/ring/producer.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AREA 4096
enum { MOST_BYTES = 160 * 1024, MOST_GETS = 100, MOST_CONSUMERS = 66 };

/* ---- a vector ------------------------------------------------------------------------------- */

struct get {
    uint64_t seq;
    uint64_t kind;
    uint64_t flags;
    size_t len;
    unsigned char bytes[5000];
};

static struct {
    size_t len;
    unsigned char bytes[MOST_BYTES];
    bool varies[MOST_BYTES];
    struct get gets[MOST_GETS];
    size_t get_count;
    bool closed;
} vector;

/* One token of the notation at `at`, which has room for `room` bytes; how many it stands for. */
static size_t expand(const char *token, unsigned char *at, bool *varies, size_t room)
{
    char *rest = NULL;
    const char *colon = strchr(token, ':');
    const bool varying = colon != NULL;
    const unsigned long first = varying ? 0x5a : strtoul(token, &rest, 16);
    const char how = varying ? '*' : *rest;
    const size_t count = varying       ? strtoul(colon + 1, NULL, 10)
                         : how == '\0' ? 1
                                       : strtoul(rest + 1, NULL, 10);
    CHECK(how == '\0' || how == '*' || how == '+');
    CHECK(count <= room);
    for (size_t i = 0; i < count; i++) {
        at[i] = (unsigned char)(how == '+' ? first + i : first);
        if (varies != NULL) {
            varies[i] = varying;
        }
    }
    return count;
}

static void read_get(char *line)
{
    CHECK(vector.get_count < MOST_GETS);
    struct get *get = &vector.gets[vector.get_count++];
    char *numbers = line + strlen("gets ");
    char *tokens = strchr(line, ':');
    CHECK(tokens != NULL);
    get->seq = strtoull(numbers, &numbers, 10);
    get->kind = strtoull(numbers, &numbers, 10); /* an item has none: 0 */
    get->flags = strtoull(numbers, &numbers, 10);
    get->len = 0;
    for (char *token = strtok(tokens + 1, " "); token != NULL; token = strtok(NULL, " ")) {
        get->len += expand(token, get->bytes + get->len, NULL, sizeof get->bytes - get->len);
    }
}

static void read_line(char *line)
{
    if (strncmp(line, "size ", 5) == 0) {
        vector.len = strtoul(line + 5, NULL, 10);
        CHECK(vector.len <= MOST_BYTES);
    } else if (strncmp(line, "gets ", 5) == 0) {
        read_get(line);
    } else if (strncmp(line, "ends ", 5) == 0) {
        vector.closed = strncmp(line + 5, "closed", 6) == 0;
    } else {
        char *rest = line;
        size_t offset = strtoul(line, &rest, 16);
        CHECK(*rest == ':');
        for (char *token = strtok(rest + 1, " "); token != NULL; token = strtok(NULL, " ")) {
            offset +=
                expand(token, vector.bytes + offset, vector.varies + offset, vector.len - offset);
        }
    }
}

static void load(const char *name)
{
    static char line[65536];
    char path[4096];
    if (sysconf(_SC_PAGESIZE) != 4096) {
        test_skip("the vectors are of pages of 4096 bytes");
    }
    (void)snprintf(path, sizeof path, "%s/vectors/%s.txt", TEST_SOURCE_DIR, name);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    memset(&vector, 0, sizeof vector);
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "#\n")] = '\0';
        if (line[strspn(line, " ")] != '\0') {
            read_line(line);
        }
    }
    CHECK_EQ(fclose(file), 0);
    CHECK(vector.len > 0 && vector.get_count > 0);
}

/* ---- rings in the states of the vectors ------------------------------------------------------ */

static struct shmipc_producer_role producer;
static struct shmipc_consumer_role consumers[MOST_CONSUMERS];
static struct shmipc_error error;

static void open_ring(struct shmipc_spec spec)
{
    spec.mode = 0600;
    spec.framing = spec.item_len != 0 ? SHMIPC_FRAMING_TYPED : SHMIPC_FRAMING_MESSAGE;
    spec.overflow = spec.overflow != 0 ? spec.overflow : SHMIPC_OVERFLOW_BLOCK;
    spec.schema_len = spec.schema != NULL ? (uint32_t)strlen(spec.schema) : 0;
    CHECK_EQ(shmipc_producer_role_open(&producer, test_path("v"), &spec, &error), SHMIPC_OK);
}

static void attach(int which)
{
    CHECK_EQ(
        shmipc_consumer_role_open(&consumers[which], test_path("v"), SHMIPC_START_RESUME, &error),
        SHMIPC_OK);
}

static void ramp(unsigned char *at, uint64_t first, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++) {
        at[i] = (unsigned char)(first + i);
    }
}

static void send_message(uint64_t first, uint64_t len, unsigned kind, unsigned flags)
{
    const uint64_t span = shmipc_message_span(len);
    unsigned char *at = NULL;
    CHECK_EQ(shmipc_ring_reserve(&producer.ring, span, &at), SHMIPC_OK);
    shmipc_message_header_store(at, (uint32_t)len, (uint16_t)kind, (uint16_t)flags,
                                producer.ring.next_seq);
    ramp(at + sizeof(struct shmipc_message_header), first, len);
    shmipc_ring_commit_messages(&producer.ring, span, 1);
}

static void send_numbered(uint64_t number, uint64_t len)
{
    send_message(number, len, (unsigned)(1 + number % 5), (unsigned)number);
}

/* `count` items, of which byte i is `first` + i * `step`. */
static void put_items(uint64_t count, uint64_t first, uint64_t step)
{
    const uint64_t stride = producer.ring.map.item_stride;
    const uint64_t len = producer.ring.map.item_len;
    unsigned char *at = NULL;
    CHECK_EQ(shmipc_ring_reserve(&producer.ring, count * stride, &at), SHMIPC_OK);
    for (uint64_t i = 0; i < count; i++) {
        for (uint64_t k = 0; k < len; k++) {
            at[i * stride + k] = (unsigned char)(first + (i * len + k) * step);
        }
    }
    shmipc_ring_commit(&producer.ring, count * stride);
}

static void receive(int which)
{
    struct shmipc_message message;
    CHECK_EQ(shmipc_ring_peek(&consumers[which].ring, &message), SHMIPC_OK);
    shmipc_ring_advance(&consumers[which].ring, &message);
    shmipc_consumer_role_release(&consumers[which]);
}

static void leave(int which)
{
    shmipc_consumer_role_close(&consumers[which]);
}

static void close_producer(void)
{
    shmipc_producer_role_close(&producer, false);
}

static void make_message_ring(void)
{
    open_ring((struct shmipc_spec){.slots = 2, .capacity = AREA});
    unsigned char *at = NULL;
    CHECK_EQ(shmipc_ring_reserve(&producer.ring, 32, &at), SHMIPC_OK);
    shmipc_message_header_store(at, 5, 7, 3, 0);
    memcpy(at + 16, "hello", 5);
    shmipc_ring_commit_messages(&producer.ring, 32, 1);
}

static void make_typed_ring(void)
{
    open_ring((struct shmipc_spec){.slots = 3,
                                   .capacity = 8,
                                   .item_len = 36,
                                   .schema = "([('a', '<u4'), ('b', '>f8')], (3,))"});
    put_items(3, 0, 1);
    put_items(1, 108, 1);
}

static void make_typed_large(void)
{
    open_ring((struct shmipc_spec){
        .slots = 1, .capacity = 1, .item_len = 5000, .schema = "('|u1', (5000,))"});
    attach(0);
    put_items(1, 0x11, 0);
    receive(0);
    leave(0);
    put_items(1, 0x22, 0);
    close_producer();
}

static void make_typed_lapped(void)
{
    open_ring((struct shmipc_spec){.slots = 1,
                                   .capacity = 4,
                                   .overflow = SHMIPC_OVERFLOW_OVERWRITE,
                                   .item_len = 1000,
                                   .schema = "('|V1000', ())"});
    for (uint64_t number = 0; number < 11; number++) {
        put_items(1, number, 0);
    }
}

static void make_overwrite_lapped(void)
{
    open_ring(
        (struct shmipc_spec){.slots = 2, .capacity = AREA, .overflow = SHMIPC_OVERFLOW_OVERWRITE});
    attach(0);
    for (uint64_t number = 0; number < 60; number++) {
        send_numbered(number, number * 37 % 300);
        if (number < 3) {
            receive(0);
        }
    }
}

static void make_durable_unreleased(void)
{
    open_ring((struct shmipc_spec){.slots = 1, .capacity = AREA});
    for (uint64_t number = 0; number < 5; number++) {
        send_numbered(number, 10 * number);
    }
    attach(0);
    receive(0);
    receive(0);
    leave(0);
    close_producer();
}

static void make_kept(void)
{
    open_ring((struct shmipc_spec){.slots = 4, .capacity = AREA, .hold_for = 3});
    for (uint64_t number = 0; number < 4; number++) {
        send_numbered(number, 10 * number);
    }
    attach(0);
    receive(0);
    receive(0);
}

static void make_closed(void)
{
    open_ring((struct shmipc_spec){.slots = 2, .capacity = AREA});
    attach(0);
    for (uint64_t number = 0; number < 3; number++) {
        send_numbered(number, 20);
    }
    receive(0);
    close_producer();
}

static void make_wrapped(void)
{
    open_ring((struct shmipc_spec){.slots = 3, .capacity = AREA});
    attach(0);
    attach(1);
    for (uint64_t number = 0; number < 12; number++) {
        send_numbered(number, 700);
        receive(0);
        if (number < 10) {
            receive(1);
        }
    }
}

static void make_many_slots(void)
{
    open_ring((struct shmipc_spec){.slots = 1024, .capacity = AREA});
    for (int number = 0; number < 66; number++) {
        attach(number);
        send_numbered((uint64_t)number, 8);
    }
    for (int number = 0; number < 66; number += 3) {
        leave(number);
    }
}

static void open_near_wrap(void *unused)
{
    (void)unused;
    open_ring((struct shmipc_spec){
        .slots = 2, .capacity = AREA, .origin_pos = UINT64_MAX - 63}); /* and die with it */
}

static void make_near_wrap(void)
{
    test_join(test_fork(open_near_wrap, NULL));
    open_ring((struct shmipc_spec){.slots = 2, .capacity = AREA});
    attach(0);
    for (uint64_t number = 0; number < 5; number++) {
        send_numbered(number, 16);
    }
    receive(0);
}

static void make_died_committing(void)
{
    open_ring((struct shmipc_spec){.slots = 2, .capacity = AREA});
    for (uint64_t number = 0; number < 3; number++) {
        send_numbered(number, 16);
    }
    const uint64_t head_pos = producer.ring.head_pos;
    struct shmipc_commit_line *commit = &producer.ring.map.shared->commit;
    send_numbered(3, 16);
    shmipc_store_relaxed(&commit->head_pos, head_pos); /* as if the last step had not come */
}

static const struct {
    const char *name;
    void (*make)(void);
} writers[] = {
    {"message_ring", make_message_ring},
    {"typed_ring", make_typed_ring},
    {"typed_large", make_typed_large},
    {"typed_lapped", make_typed_lapped},
    {"overwrite_lapped", make_overwrite_lapped},
    {"durable_unreleased", make_durable_unreleased},
    {"kept", make_kept},
    {"closed", make_closed},
    {"wrapped", make_wrapped},
    {"many_slots", make_many_slots},
    {"near_wrap", make_near_wrap},
    {"died_committing", make_died_committing},
};
enum { WRITERS = sizeof writers / sizeof *writers };

/* ---- writing and reading --------------------------------------------------------------------- */

/* In a process of its own, whose death lets everything go. */
static void write_one(void *which)
{
    static unsigned char found[MOST_BYTES];
    const int i = *(const int *)which;
    load(writers[i].name);
    writers[i].make();
    const int fd = open(test_path("v"), O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(read(fd, found, sizeof found), vector.len);
    for (size_t at = 0; at < vector.len; at++) {
        if (!vector.varies[at] && found[at] != vector.bytes[at]) {
            test_fail(__FILE__, __LINE__, "%s: byte 0x%04zx is %02x, expected %02x",
                      writers[i].name, at, found[at], vector.bytes[at]);
        }
    }
}

static void test_core_writes_the_vectors(void)
{
    for (int i = 0; i < WRITERS; i++) {
        test_join(test_fork(write_one, &i));
        CHECK_EQ(unlink(test_path("v")), 0);
    }
}

static void test_core_reads_the_vectors(void)
{
    for (int i = 0; i < WRITERS; i++) {
        load(writers[i].name);
        const int fd = open(test_path("v"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CHECK_EQ(write(fd, vector.bytes, vector.len), vector.len);
        CHECK_EQ(close(fd), 0);
        struct shmipc_consumer_role *consumer = &consumers[0];
        CHECK_EQ(shmipc_consumer_role_open(consumer, test_path("v"), SHMIPC_START_EARLIEST, &error),
                 SHMIPC_OK);
        for (size_t k = 0; k < vector.get_count; k++) {
            const struct get *get = &vector.gets[k];
            const bool typed = consumer->ring.map.item_stride != 0;
            struct shmipc_message message;
            CHECK_EQ(shmipc_ring_peek(&consumer->ring, &message), SHMIPC_OK);
            CHECK_EQ(typed ? shmipc_ring_seq_of(&consumer->ring.map, message.pos) : message.seq,
                     get->seq);
            CHECK(typed || (message.kind == get->kind && message.flags == get->flags));
            CHECK_EQ(message.len, get->len);
            CHECK(memcmp(message.data, get->bytes, get->len) == 0);
            shmipc_ring_advance(&consumer->ring, &message);
            shmipc_consumer_role_release(consumer);
        }
        CHECK_EQ(shmipc_consumer_role_poll_peer(consumer),
                 vector.closed ? SHMIPC_CLOSED : SHMIPC_DIED);
        CHECK_EQ(consumer->ring.lost, 0);
        shmipc_consumer_role_close(consumer);
        (void)unlink(test_path("v")); /* it stays where its producer has died */
    }
}

static const struct test tests[] = {
    TEST(test_core_writes_the_vectors),
    TEST(test_core_reads_the_vectors),
};

TEST_MAIN(tests)
