/* test_roles.c: producers and consumers with names: who may be what, what stays and what goes, and
 * waiting. What a crash does to them is in test_deaths.c. */
#define _GNU_SOURCE
#include "crew.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct shmipc_error error;

/* ---- opening -------------------------------------------------------------------------------- */

static void test_producer_makes_the_ring_and_takes_it_along_when_nobody_is_left(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    open_producer(&producer, &spec);
    CHECK(test_exists(test_path("x")));
    CHECK(!producer.took_over);
    CHECK_EQ(shmipc_producer_role_count_attached(&producer), 0);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    CHECK_EQ(shmipc_producer_role_count_attached(&producer), 1);
    send_one(&producer);
    shmipc_producer_role_close(&producer, false);
    shmipc_producer_role_close(&producer, false);
    CHECK(test_exists(test_path("x"))); /* its consumer has not read it */
    receive_one(&consumer, 0);
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_CLOSED);
    CHECK_EQ(shmipc_consumer_role_poll_peer(&consumer), SHMIPC_CLOSED);
    shmipc_consumer_role_close(&consumer);
    shmipc_consumer_role_close(&consumer);
    CHECK(!test_exists(test_path("x")));
}

static void test_second_live_producer_is_refused_by_the_pid_of_the_first(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role first;
    struct shmipc_producer_role second;
    char pid[32];
    open_producer(&first, &spec);
    CHECK_EQ(shmipc_producer_role_open(&second, test_path("x"), &spec, &error), SHMIPC_BUSY);
    (void)snprintf(pid, sizeof pid, "process %d", (int)getpid());
    CHECK(strstr(error.text, pid) != NULL);
    shmipc_producer_role_close(&first, false);
    open_producer(&second, &spec);
    shmipc_producer_role_close(&second, false);
}

static void test_consumer_finds_no_ring_no_place_or_nothing_left(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role first;
    struct shmipc_consumer_role second;
    struct shmipc_consumer_role third;
    const char *path = test_path("x");
    CHECK_EQ(shmipc_consumer_role_open(&first, path, SHMIPC_START_RESUME, &error),
             SHMIPC_NOT_FOUND);
    open_producer(&producer, &spec);
    open_consumer(&first, SHMIPC_START_RESUME);
    open_consumer(&second, SHMIPC_START_LATEST);
    CHECK_EQ(shmipc_consumer_role_open(&third, path, SHMIPC_START_RESUME, &error), SHMIPC_BUSY);
    shmipc_consumer_role_close(&second);
    open_consumer(&third, SHMIPC_START_EARLIEST);
    shmipc_consumer_role_close(&third);
    shmipc_producer_role_close(&producer, false);
    CHECK_EQ(shmipc_consumer_role_open(&third, path, SHMIPC_START_RESUME, &error),
             SHMIPC_NOT_FOUND);
    shmipc_consumer_role_close(&first);
}

static void test_ring_of_another_kind_is_a_mismatch_while_used_and_replaced_when_not(void)
{
    struct shmipc_spec messages = rig_message_spec(2);
    struct shmipc_spec items = rig_typed_spec(2, 24, 16);
    struct shmipc_spec others[] = {rig_typed_spec(2, 24, 16), rig_typed_spec(2, 32, 16),
                                   rig_typed_spec(3, 24, 16), rig_typed_spec(2, 24, 10000),
                                   rig_typed_spec(2, 24, 16)};
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    others[0].overflow = SHMIPC_OVERFLOW_OVERWRITE;
    others[4].schema = "another";
    others[4].schema_len = 7;
    const pid_t child = test_fork(be_a_producer, &messages);
    test_gate_pass(&ready);
    test_kill(child);
    open_producer(&producer, &items); /* nobody's: made way */
    CHECK(!producer.took_over);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    CHECK_EQ(rig_put(&producer.ring), SHMIPC_OK);
    shmipc_producer_role_close(&producer, false);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK_EQ(shmipc_producer_role_open(&producer, test_path("x"), &others[i], &error),
                 SHMIPC_MISMATCH);
    }
    CHECK_EQ(shmipc_producer_role_open(&producer, test_path("x"), &messages, &error),
             SHMIPC_MISMATCH);
    items.capacity = 3; /* less than there is will do */
    open_producer(&producer, &items);
    CHECK(producer.took_over);
    shmipc_consumer_role_close(&consumer);
    shmipc_producer_role_close(&producer, false);
}

static void test_durable_queue_outlives_both_sides_until_it_is_read(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    const char *path = test_path("x");
    open_producer(&producer, &spec);
    for (int i = 0; i < 3; i++) {
        send_one(&producer);
    }
    shmipc_producer_role_close(&producer, false);
    CHECK_EQ(shmipc_consumer_role_open(&consumer, path, SHMIPC_START_LATEST, &error),
             SHMIPC_INVALID);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    receive_one(&consumer, 0);
    shmipc_consumer_role_close(&consumer);
    CHECK(test_exists(path));
    open_producer(&producer, &spec);
    CHECK(producer.took_over);
    send_one(&producer);
    shmipc_producer_role_close(&producer, false);
    open_consumer(&consumer, SHMIPC_START_EARLIEST);
    for (uint64_t seq = 1; seq < 4; seq++) {
        receive_one(&consumer, seq);
    }
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_CLOSED);
    shmipc_consumer_role_close(&consumer);
    CHECK(!test_exists(path));
}

/* ---- interrupts, and waiting for several ---------------------------------------------------- */

static void *interrupt_consumer(void *argument)
{
    (void)usleep(20000);
    shmipc_consumer_role_interrupt(argument);
    return NULL;
}

static void *interrupt_producer(void *argument)
{
    (void)usleep(20000);
    shmipc_producer_role_interrupt(argument);
    return NULL;
}

static void test_interrupt_ends_the_waits_of_both_roles(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    pthread_t other;
    open_producer(&producer, &spec);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    CHECK_EQ(pthread_create(&other, NULL, interrupt_consumer, &consumer), 0);
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_CLOSED);
    CHECK_EQ(pthread_join(other, NULL), 0);
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
    }
    CHECK_EQ(pthread_create(&other, NULL, interrupt_producer, &producer), 0);
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_CLOSED);
    CHECK_EQ(pthread_join(other, NULL), 0);
    consumer.interrupted = 0;
    while (shmipc_ring_unread_estimate(&consumer.ring) > 0) {
        struct shmipc_message message;
        CHECK_EQ(shmipc_ring_peek(&consumer.ring, &message), SHMIPC_OK);
        shmipc_ring_advance(&consumer.ring, &message);
    }
    shmipc_consumer_role_release(&consumer);
    shmipc_consumer_role_close(&consumer);
    shmipc_producer_role_close(&producer, false);
}

enum { CROWD = 130 };

static void *send_one_later(void *argument)
{
    (void)usleep(20000);
    send_one(argument);
    return NULL;
}

static void check_wait_any(uint32_t count)
{
    static struct shmipc_consumer_role consumers[CROWD];
    void *memory = malloc(shmipc_waitset_size(count));
    struct shmipc_waitset set = {0};
    struct shmipc_spec spec = rig_message_spec(CROWD);
    struct shmipc_producer_role producer;
    enum shmipc_status status;
    pthread_t other;
    open_producer(&producer, &spec);
    CHECK(memory != NULL);
    shmipc_waitset_place(&set, memory, count);
    for (uint32_t i = 0; i < count; i++) {
        open_consumer(&consumers[i], SHMIPC_START_RESUME);
        set.members[i] = shmipc_waited_consumer(&consumers[i]);
    }
    shmipc_waitset_begin(&set);
    CHECK_EQ(shmipc_waitset_slice(&set, 0), SHMIPC_TIMEOUT);
    CHECK_EQ(shmipc_waitset_spin(&set, 0, SECOND), SHMIPC_EMPTY);
    CHECK_EQ(pthread_create(&other, NULL, send_one_later, &producer), 0);
    do {
        status = shmipc_waitset_slice(&set, shmipc_now_ns() + PATIENCE);
    } while (status == SHMIPC_AGAIN);
    CHECK_EQ(status, SHMIPC_OK);
    CHECK_EQ(pthread_join(other, NULL), 0);
    for (uint32_t i = 0; i + 1 < count; i++) {
        receive_one(&consumers[i], 0);
    }
    CHECK_EQ(shmipc_waitset_slice(&set, 0), SHMIPC_OK); /* the last one is behind */
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(set.ready[i], i + 1 == count);
    }
    shmipc_producer_role_close(&producer, false); /* the end is worth a call too */
    CHECK_EQ(shmipc_waitset_slice(&set, 0), SHMIPC_OK);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(set.ready[i]);
        shmipc_consumer_role_close(&consumers[i]);
    }
    free(memory);
}

static void test_any_of_several_consumers_wakes_a_wait_for_all(void)
{
    check_wait_any(1);
    check_wait_any(3);
    check_wait_any(128);
    check_wait_any(CROWD);
}

/* ---- cleaning ------------------------------------------------------------------------------- */

static void check_clean(bool discard, enum shmipc_clean_result expected)
{
    enum shmipc_clean_result result;
    CHECK_EQ(shmipc_segment_clean(test_path("x"), discard, &result, &error), SHMIPC_OK);
    CHECK_EQ(result, expected);
    CHECK_EQ(test_exists(test_path("x")), expected != SHMIPC_CLEAN_REMOVED);
}

static void test_clean_removes_what_nobody_holds_and_nothing_else(void)
{
    struct shmipc_spec durable = rig_message_spec(1);
    struct shmipc_spec many = rig_message_spec(2);
    enum shmipc_clean_result result;
    pid_t child = test_fork(be_a_producer, &durable);
    test_gate_pass(&ready);
    check_clean(true, SHMIPC_CLEAN_ALIVE);
    test_kill(child);
    check_clean(false, SHMIPC_CLEAN_PENDING);
    check_clean(true, SHMIPC_CLEAN_REMOVED);
    CHECK_EQ(shmipc_segment_clean(test_path("x"), true, &result, &error), SHMIPC_NOT_FOUND);
    child = test_fork(be_a_producer, &many);
    test_gate_pass(&ready);
    const pid_t reader = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    test_kill(child);
    check_clean(true, SHMIPC_CLEAN_ALIVE); /* its consumer is */
    test_kill(reader);
    check_clean(false, SHMIPC_CLEAN_REMOVED);
    FILE *file = fopen(test_path("x"), "w");
    CHECK(file != NULL);
    CHECK(fputs("not ours", file) >= 0);
    CHECK_EQ(fclose(file), 0);
    check_clean(true, SHMIPC_CLEAN_FOREIGN);
    CHECK_EQ(unlink(test_path("x")), 0);
}

static const struct test tests[] = {
    TEST(test_producer_makes_the_ring_and_takes_it_along_when_nobody_is_left),
    TEST(test_second_live_producer_is_refused_by_the_pid_of_the_first),
    TEST(test_consumer_finds_no_ring_no_place_or_nothing_left),
    TEST(test_ring_of_another_kind_is_a_mismatch_while_used_and_replaced_when_not),
    TEST(test_durable_queue_outlives_both_sides_until_it_is_read),
    TEST(test_interrupt_ends_the_waits_of_both_roles),
    TEST(test_any_of_several_consumers_wakes_a_wait_for_all),
    TEST(test_clean_removes_what_nobody_holds_and_nothing_else),
};

int main(int argc, char **argv)
{
    test_gate_init(&ready);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
