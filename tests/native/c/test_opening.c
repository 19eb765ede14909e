/* test_opening.c: opening a consumer of a ring that may not exist yet. */
#define _GNU_SOURCE
#include "../../../src/core/ring/opening.h"
#include "crew.h"

#include <unistd.h>

#define MS UINT64_C(1000000)

static struct shmipc_error error;

static enum shmipc_status try_until_found(struct shmipc_opening *opening,
                                          struct shmipc_consumer_role *consumer)
{
    enum shmipc_status status;
    do {
        status = shmipc_opening_try(opening, consumer, &error);
    } while (status == SHMIPC_AGAIN);
    return status;
}

static void test_not_found_comes_at_the_deadline_after_growing_pauses(void)
{
    struct shmipc_consumer_role consumer;
    struct shmipc_opening opening;
    const uint64_t start_ns = shmipc_now_ns();
    int attempts = 1;
    shmipc_opening_begin(&opening, test_path("x"), SHMIPC_START_RESUME, start_ns + 100 * MS);
    while (shmipc_opening_try(&opening, &consumer, &error) == SHMIPC_AGAIN) {
        attempts++;
    }
    CHECK_EQ(error.status, SHMIPC_NOT_FOUND);
    CHECK(shmipc_now_ns() - start_ns >= 100 * MS);
    CHECK(attempts < 30); /* 0.5, 1, 2, 4, 8, 10, 10 ... ms */
}

static void test_ring_is_joined_only_once_accepted_and_the_same_file_is_not_asked_about_again(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    struct shmipc_opening opening;
    open_producer(&producer, &spec);
    shmipc_opening_begin(&opening, test_path("x"), SHMIPC_START_RESUME, 0);
    CHECK_EQ(try_until_found(&opening, &consumer), SHMIPC_OK);
    CHECK(opening.found && !opening.joined);
    CHECK_EQ(shmipc_producer_role_count_attached(&producer), 0);
    shmipc_opening_accept(&opening, &consumer);
    CHECK_EQ(try_until_found(&opening, &consumer), SHMIPC_OK);
    CHECK(opening.joined);
    CHECK_EQ(shmipc_producer_role_count_attached(&producer), 1);
    shmipc_consumer_role_close(&consumer);
    opening.found = false;
    opening.joined = false;
    CHECK_EQ(try_until_found(&opening, &consumer), SHMIPC_OK);
    CHECK(opening.joined);
    shmipc_consumer_role_close(&consumer);
    shmipc_producer_role_close(&producer, false);
}

static void test_ring_that_goes_before_it_is_joined_is_found_again_and_asked_about_again(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    struct shmipc_opening opening;
    open_producer(&producer, &spec);
    shmipc_opening_begin(&opening, test_path("x"), SHMIPC_START_RESUME, shmipc_now_ns() + PATIENCE);
    CHECK_EQ(try_until_found(&opening, &consumer), SHMIPC_OK);
    shmipc_opening_accept(&opening, &consumer);
    CHECK_EQ(unlink(test_path("x")), 0);
    CHECK_EQ(shmipc_opening_try(&opening, &consumer, &error), SHMIPC_AGAIN);
    CHECK(!opening.found);
    shmipc_producer_role_close(&producer, false);
    open_producer(&producer, &spec);
    CHECK_EQ(try_until_found(&opening, &consumer), SHMIPC_OK);
    CHECK(opening.found && !opening.joined); /* another file */
    shmipc_opening_accept(&opening, &consumer);
    CHECK_EQ(try_until_found(&opening, &consumer), SHMIPC_OK);
    CHECK(opening.joined);
    shmipc_consumer_role_close(&consumer);
    shmipc_producer_role_close(&producer, false);
}

static void test_file_of_the_same_inode_number_is_asked_about_again(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    struct shmipc_opening opening;
    open_producer(&producer, &spec);
    shmipc_opening_begin(&opening, test_path("x"), SHMIPC_START_RESUME, 0);
    CHECK_EQ(try_until_found(&opening, &consumer), SHMIPC_OK);
    shmipc_opening_accept(&opening, &consumer);
    opening.geometry.created_ns--; /* as if that one had been made before */
    shmipc_segment_close(&consumer.segment);
    opening.found = false;
    CHECK_EQ(try_until_found(&opening, &consumer), SHMIPC_OK);
    CHECK(opening.found && !opening.joined);
    shmipc_segment_close(&consumer.segment);
    shmipc_producer_role_close(&producer, false);
}

static const struct test tests[] = {
    TEST(test_not_found_comes_at_the_deadline_after_growing_pauses),
    TEST(test_ring_is_joined_only_once_accepted_and_the_same_file_is_not_asked_about_again),
    TEST(test_ring_that_goes_before_it_is_joined_is_found_again_and_asked_about_again),
    TEST(test_file_of_the_same_inode_number_is_asked_about_again),
};

TEST_MAIN(tests)
