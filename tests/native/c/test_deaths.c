/* test_deaths.c: who notices whose death, and what it costs. A crash here is SIGKILL. */
#define _GNU_SOURCE
#include "crew.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static struct test_gate go;

static void test_death_of_the_producer_is_told_after_what_it_committed(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    const pid_t child = test_fork(be_a_producer, &spec);
    test_gate_pass(&ready);
    open_consumer(&consumer, SHMIPC_START_EARLIEST);
    test_kill(child);
    receive_one(&consumer, 0);
    receive_one(&consumer, 1);
    const uint64_t start = shmipc_now_ns();
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_DIED);
    CHECK(shmipc_now_ns() - start < 5 * SECOND);
    open_producer(&producer, &spec);
    CHECK(producer.took_over);
    CHECK_EQ(await_data(&consumer, SECOND / 10), SHMIPC_TIMEOUT);
    send_one(&producer);
    receive_one(&consumer, 2);
    shmipc_producer_role_close(&producer, false);
    shmipc_consumer_role_close(&consumer);
}

static void test_dead_consumer_stops_holding_the_producer_back(void)
{
    struct shmipc_spec spec = rig_message_spec(3);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    open_producer(&producer, &spec);
    const pid_t dying = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    await_attached(&producer, 2);
    uint64_t sent = 0;
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
        receive_one(&consumer, sent++);
    }
    CHECK_EQ(await_room(&producer, 64, SECOND / 5), SHMIPC_TIMEOUT); /* alive and slow */
    CHECK_EQ(producer.reclaimed, 0);
    test_kill(dying);
    const uint64_t start = shmipc_now_ns();
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_OK);
    CHECK(shmipc_now_ns() - start < 5 * SECOND);
    CHECK_EQ(producer.reclaimed, 1);
    CHECK_EQ(shmipc_producer_role_count_attached(&producer), 1);
    shmipc_consumer_role_close(&consumer);
    shmipc_producer_role_close(&producer, false);
}

static void test_polling_producer_also_lets_dead_consumers_go(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    open_producer(&producer, &spec);
    const pid_t dying = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
    }
    CHECK_EQ(shmipc_producer_role_poll_peers(&producer), SHMIPC_FULL);
    test_kill(dying);
    const uint64_t start = shmipc_now_ns();
    while (shmipc_producer_role_poll_peers(&producer) == SHMIPC_FULL) {
        CHECK(shmipc_now_ns() - start < PATIENCE);
    }
    CHECK_EQ(rig_send(&producer.ring, 40), SHMIPC_OK);
    shmipc_producer_role_close(&producer, false);
}

static void test_death_of_a_durable_consumer_is_told_once_when_the_ring_is_full(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    open_producer(&producer, &spec);
    const pid_t dying = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    test_kill(dying);
    uint64_t sent = 0;
    enum shmipc_status status;
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
        sent++;
    }
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_DIED);
    CHECK_EQ(await_room(&producer, 64, SECOND / 5), SHMIPC_TIMEOUT); /* it waits for the next one */
    CHECK_EQ(shmipc_producer_role_poll_peers(&producer), SHMIPC_FULL);
    const pid_t next = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    CHECK_EQ(await_room(&producer, 64, SECOND / 5), SHMIPC_TIMEOUT);
    test_kill(next);
    while ((status = shmipc_producer_role_poll_peers(&producer)) == SHMIPC_FULL) {
    }
    CHECK_EQ(status, SHMIPC_DIED); /* another one's death */
    CHECK_EQ(shmipc_producer_role_poll_peers(&producer), SHMIPC_FULL);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    for (uint64_t seq = 0; seq < sent; seq++) {
        receive_one(&consumer, seq);
    }
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_OK);
    shmipc_consumer_role_close(&consumer);
    shmipc_producer_role_close(&producer, false);
}

static void look_at(struct shmipc_waitset *set, void *memory, struct shmipc_consumer_role *consumer)
{
    shmipc_waitset_place(set, memory, 1);
    set->members[0] = shmipc_waited_consumer(consumer);
    shmipc_waitset_begin(set);
}

static void test_each_death_is_told_once_and_then_a_successor_is_waited_for(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_consumer_role consumer;
    struct shmipc_waitset set = {0};
    struct shmipc_wait wait = {0};
    void *memory = malloc(shmipc_waitset_size(1));
    CHECK(memory != NULL);
    for (int life = 0; life < 3; life++) {
        const pid_t child = test_fork(be_a_producer, &spec);
        test_gate_pass(&ready);
        if (life == 0) {
            open_consumer(&consumer, SHMIPC_START_EARLIEST);
        }
        while (shmipc_consumer_role_wait_producer(&consumer, &wait, SHMIPC_NEVER) != SHMIPC_OK) {
        }
        receive_one(&consumer, (uint64_t)life * 2);
        receive_one(&consumer, (uint64_t)life * 2 + 1);
        test_kill(child);
        look_at(&set, memory, &consumer);
        for (int looks = 0; looks < 3; looks++) { /* ready until it was told */
            while (shmipc_waitset_slice(&set, shmipc_now_ns() + PATIENCE) == SHMIPC_AGAIN) {
            }
            CHECK(set.ready[0]);
        }
        CHECK_EQ(life % 2 == 0 ? await_data(&consumer, PATIENCE)
                               : shmipc_consumer_role_poll_peer(&consumer),
                 SHMIPC_DIED);
        CHECK_EQ(await_data(&consumer, SECOND / 5), SHMIPC_TIMEOUT);
        CHECK_EQ(shmipc_consumer_role_poll_peer(&consumer), SHMIPC_EMPTY);
        CHECK_EQ(shmipc_waitset_sleep(&set, shmipc_now_ns()), SHMIPC_TIMEOUT);
        CHECK_EQ(shmipc_consumer_role_wait_producer(&consumer, &wait, 0), SHMIPC_TIMEOUT);
    }
    free(memory);
    struct shmipc_producer_role producer;
    open_producer(&producer, &spec);
    shmipc_producer_role_close(&producer, false);
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_CLOSED);
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_CLOSED); /* the end is told each time */
    shmipc_consumer_role_close(&consumer);
}

/* Send until killed at a random instruction. */
static void send_until_killed(void *argument)
{
    struct shmipc_producer_role producer;
    open_producer(&producer, argument);
    test_gate_open(&ready);
    for (;;) {
        send_one(&producer);
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
    struct shmipc_consumer_role consumer;
    bool attached = false;
    uint64_t seq = 0;
    for (uint64_t life = 0; life < test_rounds(60); life++) {
        pid_t child = test_fork(send_until_killed, &spec);
        pthread_t killer;
        test_gate_pass(&ready);
        CHECK_EQ(pthread_create(&killer, NULL, kill_soon, &child), 0);
        if (!attached) {
            open_consumer(&consumer, SHMIPC_START_RESUME);
            attached = true;
        }
        enum shmipc_status status;
        while ((status = await_data(&consumer, PATIENCE)) == SHMIPC_OK) {
            receive_one(&consumer, seq++);
        }
        CHECK_EQ(status, SHMIPC_DIED);
        CHECK_EQ(pthread_join(killer, NULL), 0);
        test_reap_killed(child);
    }
    CHECK(seq > 1000);
    struct shmipc_producer_role producer;
    open_producer(&producer, &spec);
    CHECK_EQ(producer.ring.next_seq, seq);
    shmipc_producer_role_close(&producer, false);
    shmipc_consumer_role_close(&consumer);
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
    struct shmipc_producer_role producer;
    open_producer(&producer, argument);
    (void)test_fork(idle, NULL); /* lives on */
    test_gate_pass(&go);
    (void)kill(getpid(), SIGKILL);
}

static void test_child_of_a_dead_producer_does_not_keep_it_alive(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_consumer_role consumer;
    struct shmipc_producer_role producer;
    const pid_t child = test_fork(open_fork_and_die, &spec);
    test_gate_pass(&ready);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    CHECK_EQ(await_data(&consumer, SECOND / 10), SHMIPC_TIMEOUT);
    test_gate_open(&go);
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_DIED);
    test_reap_killed(child);
    open_producer(&producer, &spec);
    shmipc_producer_role_close(&producer, false);
    shmipc_consumer_role_close(&consumer);
}

static const struct test tests[] = {
    TEST(test_death_of_the_producer_is_told_after_what_it_committed),
    TEST(test_dead_consumer_stops_holding_the_producer_back),
    TEST(test_polling_producer_also_lets_dead_consumers_go),
    TEST(test_death_of_a_durable_consumer_is_told_once_when_the_ring_is_full),
    TEST(test_each_death_is_told_once_and_then_a_successor_is_waited_for),
    TEST(test_producer_killed_anywhere_leaves_a_ring_that_goes_on_without_a_gap),
    TEST(test_child_of_a_dead_producer_does_not_keep_it_alive),
};

int main(int argc, char **argv)
{
    test_gate_init(&ready);
    test_gate_init(&go);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
