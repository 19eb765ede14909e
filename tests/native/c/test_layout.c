/* test_layout.c: where the fields of a segment lie. Whole segments: test_vectors.c. */
#include "../../../src/core/base/layout.h"
#include "test.h"

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

static const struct test tests[] = {
    TEST(test_every_written_field_has_a_line_of_its_own),
    TEST(test_geometry_fields_lie_where_the_format_says),
    TEST(test_message_spans_are_header_and_payload_rounded_up),
    TEST(test_schema_hash_is_fnv_1a),
};

TEST_MAIN(tests)
