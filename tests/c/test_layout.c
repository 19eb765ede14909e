/* test_layout.c: the bytes of a segment. tests/c/vectors holds them; Python reads the same file. */
#define _GNU_SOURCE
#include "../../src/core/producer.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VECTOR TEST_SOURCE_DIR "/vectors/message_ring.txt"

static void test_every_written_field_has_a_line_of_its_own(void)
{
    static const size_t lines[] = {
        offsetof(struct shmipc_header, geometry),  offsetof(struct shmipc_header, commit),
        offsetof(struct shmipc_header, retention), offsetof(struct shmipc_header, identity),
        offsetof(struct shmipc_header, data),      offsetof(struct shmipc_header, space),
        offsetof(struct shmipc_header, members),   offsetof(struct shmipc_header, slots)};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CHECK_EQ(lines[i], i * SHMIPC_LINE);
    }
    CHECK_EQ(sizeof(struct shmipc_member_line), SHMIPC_LINE);
    CHECK_EQ(sizeof(struct shmipc_slot), SHMIPC_LINE);
    CHECK_EQ(offsetof(struct shmipc_slot, pid), 8);
    CHECK_EQ(offsetof(struct shmipc_identity_line, closed), 4);
    CHECK_EQ(offsetof(struct shmipc_identity_line, epoch), 8);
    CHECK_EQ(SHMIPC_MEMBER_WORDS * 64, SHMIPC_MAX_CONSUMERS);
}

static void test_geometry_fields_lie_where_the_format_says(void)
{
    CHECK_EQ(offsetof(struct shmipc_geometry, version), 8);
    CHECK_EQ(offsetof(struct shmipc_geometry, byte_order), 12);
    CHECK_EQ(offsetof(struct shmipc_geometry, framing), 16);
    CHECK_EQ(offsetof(struct shmipc_geometry, overflow), 20);
    CHECK_EQ(offsetof(struct shmipc_geometry, slots), 24);
    CHECK_EQ(offsetof(struct shmipc_geometry, schema_len), 28);
    CHECK_EQ(offsetof(struct shmipc_geometry, schema_off), 56);
    CHECK_EQ(offsetof(struct shmipc_geometry, data_off), 64);
    CHECK_EQ(offsetof(struct shmipc_geometry, origin_pos), 80);
    CHECK_EQ(offsetof(struct shmipc_geometry, created_ns), 88);
}

static void test_message_spans_are_header_and_payload_rounded_up(void)
{
    CHECK_EQ(shmipc_message_span(0), 16);
    CHECK_EQ(shmipc_message_span(1), 32);
    CHECK_EQ(shmipc_message_span(16), 32);
    CHECK_EQ(shmipc_message_span(17), 48);
    CHECK_EQ(shmipc_message_span(SHMIPC_MAX_MESSAGE_LEN), UINT64_C(0x100000010));
}

static void test_schema_hash_is_fnv_1a(void)
{
    /* from the test vectors of draft-eastlake-fnv */
    CHECK_EQ(shmipc_schema_hash("", 0), UINT64_C(0xcbf29ce484222325));
    CHECK_EQ(shmipc_schema_hash("a", 1), UINT64_C(0xaf63dc4c8601ec8c));
    CHECK_EQ(shmipc_schema_hash("foobar", 6), UINT64_C(0x85944171f73967e8));
}

/* Expected bytes in `bytes`, and which of them count in `known`. */
static void read_vector(unsigned char *bytes, bool *known, size_t len)
{
    char line[256];
    FILE *file = fopen(VECTOR, "r");
    CHECK(file != NULL);
    memset(bytes, 0, len);
    memset(known, 1, len);
    while (fgets(line, sizeof line, file) != NULL) {
        char *rest = line;
        line[strcspn(line, "#\n")] = '\0';
        if (line[strspn(line, " ")] == '\0') {
            continue;
        }
        size_t offset = strtoul(line, &rest, 16);
        CHECK(*rest == ':');
        for (char *token = strtok(rest + 1, " "); token != NULL; token = strtok(NULL, " ")) {
            CHECK(offset < len);
            known[offset] = strcmp(token, "..") != 0;
            bytes[offset++] = (unsigned char)strtoul(token, NULL, 16);
        }
    }
    CHECK_EQ(fclose(file), 0);
}

static void test_fresh_segment_with_one_message_has_the_bytes_of_the_vector(void)
{
    static unsigned char expected[8192];
    static unsigned char found[8192];
    static bool known[8192];
    struct shmipc_producer_role producer;
    struct shmipc_error error;
    unsigned char *at = NULL;
    struct shmipc_spec spec = {.framing = SHMIPC_FRAMING_MESSAGE,
                               .overflow = SHMIPC_OVERFLOW_BLOCK,
                               .slots = 2,
                               .capacity = 4096,
                               .mode = 0600};
    if (sysconf(_SC_PAGESIZE) != 4096) {
        return; /* the vector is of the usual page */
    }
    read_vector(expected, known, sizeof expected);
    CHECK_EQ(shmipc_producer_role_open(&producer, test_path("vector"), &spec, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_ring_reserve(&producer.ring, 32, &at), SHMIPC_OK);
    CHECK(at != NULL);
    shmipc_message_header_store(at, 5, 7, 3, 0);
    memcpy(at + 16, "hello", 5);
    shmipc_ring_commit_messages(&producer.ring, 32, 1);
    CHECK_EQ(pread(producer.segment.fd, found, sizeof found, 0), sizeof found);
    for (size_t i = 0; i < sizeof found; i++) {
        if (known[i] && found[i] != expected[i]) {
            test_fail(__FILE__, __LINE__, "byte 0x%04zx is %02x, expected %02x", i, found[i],
                      expected[i]);
        }
    }
    shmipc_producer_role_close(&producer, false);
}

static const struct test tests[] = {
    TEST(test_every_written_field_has_a_line_of_its_own),
    TEST(test_geometry_fields_lie_where_the_format_says),
    TEST(test_message_spans_are_header_and_payload_rounded_up),
    TEST(test_schema_hash_is_fnv_1a),
    TEST(test_fresh_segment_with_one_message_has_the_bytes_of_the_vector),
};

TEST_MAIN(tests)
