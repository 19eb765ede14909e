/* test_deaths.c: who notices whose death, and what it costs. A crash here is SIGKILL. */
#define _GNU_SOURCE
#include "crew.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static struct test_gate go;

static void test_death_of_the_producer_is_told_after_what_it_committed(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    const pid_t child = test_fork(be_a_producer, &spec);
    test_gate_pass(&ready);
    open_consumer(&consumer, SHMIPC_START_AT_EARLIEST);
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
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
    await_attached(&producer, 2);
    uint64_t sent = 0;
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
        receive_one(&consumer, sent++);
    }
    CHECK_EQ(await_room(&producer, 64, SECOND / 5), SHMIPC_TIMEOUT); /* alive and slow */
    CHECK_EQ(producer.evicted, 0);
    test_kill(dying);
    const uint64_t start = shmipc_now_ns();
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_OK);
    CHECK(shmipc_now_ns() - start < 5 * SECOND);
    CHECK_EQ(producer.evicted, 1);
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

static void test_death_of_the_durable_consumer_is_told_when_the_ring_is_full(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    open_producer(&producer, &spec);
    const pid_t dying = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    test_kill(dying);
    uint64_t sent = 0;
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
        sent++;
    }
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_DIED);
    CHECK_EQ(shmipc_producer_role_poll_peers(&producer), SHMIPC_DIED); /* and not just FULL */
    CHECK_EQ(shmipc_producer_role_poll_peers(&producer), SHMIPC_DIED);
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
    for (uint64_t seq = 0; seq < sent; seq++) {
        receive_one(&consumer, seq);
    }
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_OK);
    shmipc_consumer_role_close(&consumer);
    shmipc_producer_role_close(&producer, false);
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
            open_consumer(&consumer, SHMIPC_START_DEFAULT);
            attached = true;
        }
        while (await_data(&consumer, PATIENCE) == SHMIPC_OK) {
            receive_one(&consumer, seq++);
        }
        CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_DIED);
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
    open_consumer(&consumer, SHMIPC_START_DEFAULT);
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
    TEST(test_death_of_the_durable_consumer_is_told_when_the_ring_is_full),
    TEST(test_producer_killed_anywhere_leaves_a_ring_that_goes_on_without_a_gap),
    TEST(test_child_of_a_dead_producer_does_not_keep_it_alive),
};

int main(int argc, char **argv)
{
    test_gate_init(&ready);
    test_gate_init(&go);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
