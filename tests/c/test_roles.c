/* test_roles.c: producers and consumers with names, between real processes: who may be what, who
 * notices whose death, what stays and what goes. A "crash" here is SIGKILL. */
#define _GNU_SOURCE
#include "../../src/core/consumer.h"
#include "../../src/core/producer.h"
#include "rig.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
#define PATIENCE (30 * SECOND)

static struct shmipc_error error;
static struct test_gate ready;
static struct test_gate go;

/* ---- helpers -------------------------------------------------------------------------------- */

static void open_producer(struct shmipc_producer *producer, const struct shmipc_spec *spec)
{
    const enum shmipc_status status =
        shmipc_producer_open(producer, test_path("x"), spec, &error);
    if (status != SHMIPC_OK) {
        test_fail(__FILE__, __LINE__, "status %d: %s", (int)status, error.text);
    }
    shmipc_spin_init(&producer->spin, 0, false);
}

static void open_consumer(struct shmipc_consumer *consumer, enum shmipc_start_option start)
{
    const enum shmipc_status status =
        shmipc_consumer_open(consumer, test_path("x"), start, &error);
    if (status != SHMIPC_OK) {
        test_fail(__FILE__, __LINE__, "status %d: %s", (int)status, error.text);
    }
    shmipc_spin_init(&consumer->spin, 0, false);
}

/* What a wait comes to, however many slices it takes. */
static enum shmipc_status await_data(struct shmipc_consumer *consumer, uint64_t span_ns)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    const uint64_t deadline_ns = shmipc_now_ns() + span_ns;
    do {
        status = shmipc_consumer_wait_data(consumer, &wait, deadline_ns);
    } while (status == SHMIPC_AGAIN);
    return status;
}

static enum shmipc_status await_room(struct shmipc_producer *producer, uint64_t len,
                                     uint64_t span_ns)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    const uint64_t deadline_ns = shmipc_now_ns() + span_ns;
    do {
        status = shmipc_producer_wait_room(producer, &wait, len, deadline_ns);
    } while (status == SHMIPC_AGAIN);
    return status;
}

static void await_attached(struct shmipc_producer *producer, uint32_t count)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    const uint64_t deadline_ns = shmipc_now_ns() + PATIENCE;
    do {
        status = shmipc_producer_wait_attached(producer, &wait, count, deadline_ns);
    } while (status == SHMIPC_AGAIN);
    CHECK_EQ(status, SHMIPC_OK);
}

static void send(struct shmipc_producer *producer)
{
    while (rig_send(&producer->ring, 40) == SHMIPC_FULL) {
        CHECK_EQ(await_room(producer, 64, PATIENCE), SHMIPC_OK);
    }
    shmipc_producer_notify(producer);
}

static void receive(struct shmipc_consumer *consumer, uint64_t seq)
{
    CHECK_EQ(await_data(consumer, PATIENCE), SHMIPC_OK);
    struct shmipc_message message;
    CHECK_EQ(shmipc_ring_peek(&consumer->ring, &message), SHMIPC_OK);
    CHECK_EQ(message.seq, seq);
    CHECK(rig_matches(message.data, message.len, seq));
    shmipc_ring_advance(&consumer->ring, &message);
    shmipc_consumer_release(consumer);
}

/* Attach, say so, and stay until killed. */
static void be_a_consumer(void *argument)
{
    struct shmipc_consumer consumer;
    (void)argument;
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
    test_gate_open(&ready);
    for (;;) {
        pause();
    }
}

static void be_a_producer(void *argument)
{
    const struct shmipc_spec *spec = argument;
    struct shmipc_producer producer;
    open_producer(&producer, spec);
    send(&producer);
    send(&producer);
    test_gate_open(&ready);
    for (;;) {
        pause();
    }
}

/* ---- opening -------------------------------------------------------------------------------- */

static void test_producer_makes_the_ring_and_takes_it_along_when_nobody_is_left(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer producer;
    struct shmipc_consumer consumer;
    open_producer(&producer, &spec);
    CHECK(test_exists(test_path("x")));
    CHECK(!producer.took_over);
    CHECK_EQ(shmipc_producer_count_attached(&producer), 0);
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
    CHECK_EQ(shmipc_producer_count_attached(&producer), 1);
    send(&producer);
    shmipc_producer_close(&producer, false);
    shmipc_producer_close(&producer, false);
    CHECK(test_exists(test_path("x"))); /* its consumer has not read it */
    receive(&consumer, 0);
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_CLOSED);
    CHECK_EQ(shmipc_consumer_poll_peer(&consumer), SHMIPC_CLOSED);
    shmipc_consumer_close(&consumer);
    shmipc_consumer_close(&consumer);
    CHECK(!test_exists(test_path("x")));
}

static void test_second_live_producer_is_refused_by_the_pid_of_the_first(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer first;
    struct shmipc_producer second;
    char pid[32];
    open_producer(&first, &spec);
    CHECK_EQ(shmipc_producer_open(&second, test_path("x"), &spec, &error), SHMIPC_BUSY);
    (void)snprintf(pid, sizeof pid, "process %d", (int)getpid());
    CHECK(strstr(error.text, pid) != NULL);
    shmipc_producer_close(&first, false);
    open_producer(&second, &spec);
    shmipc_producer_close(&second, false);
}

static void test_consumer_finds_no_ring_no_place_or_nothing_left(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer producer;
    struct shmipc_consumer first;
    struct shmipc_consumer second;
    struct shmipc_consumer third;
    const char *path = test_path("x");
    CHECK_EQ(shmipc_consumer_open(&first, path, SHMIPC_START_DEFAULT, &error), SHMIPC_NOT_FOUND);
    open_producer(&producer, &spec);
    open_consumer(&first, SHMIPC_START_DEFAULT);
    open_consumer(&second, SHMIPC_START_AT_LATEST);
    CHECK_EQ(shmipc_consumer_open(&third, path, SHMIPC_START_DEFAULT, &error), SHMIPC_BUSY);
    shmipc_consumer_close(&second);
    open_consumer(&third, SHMIPC_START_AT_EARLIEST);
    shmipc_consumer_close(&third);
    shmipc_producer_close(&producer, false);
    CHECK_EQ(shmipc_consumer_open(&third, path, SHMIPC_START_DEFAULT, &error), SHMIPC_NOT_FOUND);
    shmipc_consumer_close(&first);
}

static void test_ring_of_another_kind_is_a_mismatch_while_used_and_replaced_when_not(void)
{
    struct shmipc_spec messages = rig_message_spec(2);
    struct shmipc_spec items = rig_typed_spec(2, 24, 16);
    struct shmipc_spec others[] = {rig_typed_spec(2, 24, 16), rig_typed_spec(2, 32, 16),
                                   rig_typed_spec(3, 24, 16), rig_typed_spec(2, 24, 10000),
                                   rig_typed_spec(2, 24, 16)};
    struct shmipc_producer producer;
    struct shmipc_consumer consumer;
    others[0].overflow = SHMIPC_OVERFLOW_OVERWRITE;
    others[4].schema = "another";
    others[4].schema_len = 7;
    const pid_t child = test_fork(be_a_producer, &messages);
    test_gate_pass(&ready);
    test_kill(child);
    open_producer(&producer, &items); /* nobody's: made way */
    CHECK(!producer.took_over);
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
    CHECK_EQ(rig_put(&producer.ring), SHMIPC_OK);
    shmipc_producer_close(&producer, false);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK_EQ(shmipc_producer_open(&producer, test_path("x"), &others[i], &error),
                 SHMIPC_MISMATCH);
    }
    CHECK_EQ(shmipc_producer_open(&producer, test_path("x"), &messages, &error), SHMIPC_MISMATCH);
    items.capacity = 3; /* less than there is will do */
    open_producer(&producer, &items);
    CHECK(producer.took_over);
    shmipc_consumer_close(&consumer);
    shmipc_producer_close(&producer, false);
}

static void test_durable_queue_outlives_both_sides_until_it_is_read(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer producer;
    struct shmipc_consumer consumer;
    const char *path = test_path("x");
    open_producer(&producer, &spec);
    for (int i = 0; i < 3; i++) {
        send(&producer);
    }
    shmipc_producer_close(&producer, false);
    CHECK_EQ(shmipc_consumer_open(&consumer, path, SHMIPC_START_AT_LATEST, &error),
             SHMIPC_INVALID);
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
    receive(&consumer, 0);
    shmipc_consumer_close(&consumer);
    CHECK(test_exists(path));
    open_producer(&producer, &spec);
    CHECK(producer.took_over);
    send(&producer);
    shmipc_producer_close(&producer, false);
    open_consumer(&consumer, SHMIPC_START_AT_EARLIEST);
    for (uint64_t seq = 1; seq < 4; seq++) {
        receive(&consumer, seq);
    }
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_CLOSED);
    shmipc_consumer_close(&consumer);
    CHECK(!test_exists(path));
}

/* ---- deaths --------------------------------------------------------------------------------- */

static void test_death_of_the_producer_is_told_after_what_it_committed(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer producer;
    struct shmipc_consumer consumer;
    const pid_t child = test_fork(be_a_producer, &spec);
    test_gate_pass(&ready);
    open_consumer(&consumer, SHMIPC_START_AT_EARLIEST);
    test_kill(child);
    receive(&consumer, 0);
    receive(&consumer, 1);
    const uint64_t start = shmipc_now_ns();
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_DIED);
    CHECK(shmipc_now_ns() - start < 5 * SECOND);
    open_producer(&producer, &spec);
    CHECK(producer.took_over);
    CHECK_EQ(await_data(&consumer, SECOND / 10), SHMIPC_TIMEOUT);
    send(&producer);
    receive(&consumer, 2);
    shmipc_producer_close(&producer, false);
    shmipc_consumer_close(&consumer);
}

static void test_dead_consumer_stops_holding_the_producer_back(void)
{
    struct shmipc_spec spec = rig_message_spec(3);
    struct shmipc_producer producer;
    struct shmipc_consumer consumer;
    open_producer(&producer, &spec);
    const pid_t dying = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
    await_attached(&producer, 2);
    uint64_t sent = 0;
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
        receive(&consumer, sent++);
    }
    CHECK_EQ(await_room(&producer, 64, SECOND / 5), SHMIPC_TIMEOUT); /* alive and slow */
    CHECK_EQ(producer.evicted, 0);
    test_kill(dying);
    const uint64_t start = shmipc_now_ns();
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_OK);
    CHECK(shmipc_now_ns() - start < 5 * SECOND);
    CHECK_EQ(producer.evicted, 1);
    CHECK_EQ(shmipc_producer_count_attached(&producer), 1);
    shmipc_consumer_close(&consumer);
    shmipc_producer_close(&producer, false);
}

static void test_polling_producer_also_lets_dead_consumers_go(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer producer;
    open_producer(&producer, &spec);
    const pid_t dying = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
    }
    CHECK_EQ(shmipc_producer_poll_peers(&producer), SHMIPC_FULL);
    test_kill(dying);
    const uint64_t start = shmipc_now_ns();
    while (shmipc_producer_poll_peers(&producer) == SHMIPC_FULL) {
        CHECK(shmipc_now_ns() - start < PATIENCE);
    }
    CHECK_EQ(rig_send(&producer.ring, 40), SHMIPC_OK);
    shmipc_producer_close(&producer, false);
}

static void test_death_of_the_durable_consumer_is_told_when_the_ring_is_full(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer producer;
    struct shmipc_consumer consumer;
    open_producer(&producer, &spec);
    const pid_t dying = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    test_kill(dying);
    uint64_t sent = 0;
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
        sent++;
    }
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_DIED);
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
    for (uint64_t seq = 0; seq < sent; seq++) {
        receive(&consumer, seq);
    }
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_OK);
    shmipc_consumer_close(&consumer);
    shmipc_producer_close(&producer, false);
}

/* Send until killed at a random instruction. */
static void send_until_killed(void *argument)
{
    struct shmipc_producer producer;
    open_producer(&producer, argument);
    test_gate_open(&ready);
    for (;;) {
        send(&producer);
    }
}

static void *kill_soon(void *argument)
{
    const pid_t *pid = argument;
    (void)usleep(1000 + (useconds_t)(*pid % 7) * 700);
    (void)kill(*pid, SIGKILL);
    return NULL;
}

static void test_producer_killed_anywhere_leaves_a_ring_that_goes_on_without_a_gap(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_consumer consumer;
    bool attached = false;
    uint64_t seq = 0;
    for (uint64_t life = 0; life < test_rounds(60); life++) {
        pid_t child = test_fork(send_until_killed, &spec);
        pthread_t killer;
        test_gate_pass(&ready);
        CHECK_EQ(pthread_create(&killer, NULL, kill_soon, &child), 0);
        if (!attached) {
            open_consumer(&consumer, SHMIPC_START_DEFAULT);
            attached = true;
        }
        while (await_data(&consumer, PATIENCE) == SHMIPC_OK) {
            receive(&consumer, seq++);
        }
        CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_DIED);
        CHECK_EQ(pthread_join(killer, NULL), 0);
        test_reap_killed(child);
    }
    CHECK(seq > 1000);
    struct shmipc_producer producer;
    open_producer(&producer, &spec);
    CHECK_EQ(producer.ring.next_seq, seq);
    shmipc_producer_close(&producer, false);
    shmipc_consumer_close(&consumer);
}

static void idle(void *argument)
{
    (void)argument;
    test_gate_open(&ready);
    for (;;) {
        pause();
    }
}

static void open_fork_and_die(void *argument)
{
    struct shmipc_producer producer;
    open_producer(&producer, argument);
    (void)test_fork(idle, NULL); /* lives on */
    test_gate_pass(&go);
    (void)kill(getpid(), SIGKILL);
}

static void test_child_of_a_dead_producer_does_not_keep_it_alive(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_consumer consumer;
    struct shmipc_producer producer;
    const pid_t child = test_fork(open_fork_and_die, &spec);
    test_gate_pass(&ready);
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
    CHECK_EQ(await_data(&consumer, SECOND / 10), SHMIPC_TIMEOUT);
    test_gate_open(&go);
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_DIED);
    test_reap_killed(child);
    open_producer(&producer, &spec);
    shmipc_producer_close(&producer, false);
    shmipc_consumer_close(&consumer);
}

/* ---- interrupts, and waiting for several ---------------------------------------------------- */

static void *interrupt_consumer(void *argument)
{
    (void)usleep(20000);
    shmipc_consumer_interrupt(argument);
    return NULL;
}

static void *interrupt_producer(void *argument)
{
    (void)usleep(20000);
    shmipc_producer_interrupt(argument);
    return NULL;
}

static void test_interrupt_ends_the_waits_of_both_roles(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer producer;
    struct shmipc_consumer consumer;
    pthread_t other;
    open_producer(&producer, &spec);
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
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
    shmipc_consumer_release(&consumer);
    shmipc_consumer_close(&consumer);
    shmipc_producer_close(&producer, false);
}

enum { CROWD = 130 };

static void *send_one_later(void *argument)
{
    (void)usleep(20000);
    send(argument);
    return NULL;
}

static void check_wait_any(uint32_t count)
{
    static struct shmipc_consumer consumers[CROWD];
    struct shmipc_consumer *list[CROWD];
    shmipc_atomic_u32 *words[CROWD];
    bool ready_ones[CROWD];
    struct shmipc_spec spec = rig_message_spec(CROWD);
    struct shmipc_producer producer;
    enum shmipc_status status;
    pthread_t other;
    open_producer(&producer, &spec);
    for (uint32_t i = 0; i < count; i++) {
        open_consumer(&consumers[i], SHMIPC_START_DEFAULT);
        list[i] = &consumers[i];
    }
    CHECK_EQ(shmipc_consumers_wait_any(list, count, ready_ones, words, 0), SHMIPC_TIMEOUT);
    CHECK_EQ(pthread_create(&other, NULL, send_one_later, &producer), 0);
    do {
        status = shmipc_consumers_wait_any(list, count, ready_ones, words,
                                           shmipc_now_ns() + PATIENCE);
    } while (status == SHMIPC_AGAIN);
    CHECK_EQ(status, SHMIPC_OK);
    CHECK_EQ(pthread_join(other, NULL), 0);
    for (uint32_t i = 0; i + 1 < count; i++) {
        receive(list[i], 0);
    }
    CHECK_EQ(shmipc_consumers_wait_any(list, count, ready_ones, words, 0), SHMIPC_OK);
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(ready_ones[i], i + 1 == count);
    }
    shmipc_producer_close(&producer, false); /* the end is worth a call too */
    CHECK_EQ(shmipc_consumers_wait_any(list, count, ready_ones, words, 0), SHMIPC_OK);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(ready_ones[i]);
        shmipc_consumer_close(list[i]);
    }
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
    TEST(test_death_of_the_producer_is_told_after_what_it_committed),
    TEST(test_dead_consumer_stops_holding_the_producer_back),
    TEST(test_polling_producer_also_lets_dead_consumers_go),
    TEST(test_death_of_the_durable_consumer_is_told_when_the_ring_is_full),
    TEST(test_producer_killed_anywhere_leaves_a_ring_that_goes_on_without_a_gap),
    TEST(test_child_of_a_dead_producer_does_not_keep_it_alive),
    TEST(test_interrupt_ends_the_waits_of_both_roles),
    TEST(test_any_of_several_consumers_wakes_a_wait_for_all),
    TEST(test_clean_removes_what_nobody_holds_and_nothing_else),
};

int main(int argc, char **argv)
{
    test_gate_init(&ready);
    test_gate_init(&go);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
