/* test_slice.c: one slice of a blocking wait: what it looks at, when, and what it comes back with.
 */
#define _GNU_SOURCE
#include "../../../src/core/wait/wait.h"
#include "test.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

struct stage {
    shmipc_atomic_u32 sleepers;
    shmipc_atomic_u32 interrupted;
    uint64_t peer_look_ns;
    enum shmipc_status says;
    enum shmipc_status peer;
    int looks_until_ok; /* < 0: never */
    int prepared;
    int peer_looks;
    bool peer_makes_ready;
    struct shmipc_wait wait;
    struct shmipc_spin spin;
};

static enum shmipc_status look(void *self)
{
    struct stage *stage = self;
    if (stage->looks_until_ok > 0 && --stage->looks_until_ok == 0) {
        stage->says = SHMIPC_OK;
    }
    return stage->says;
}

static void prepare(void *self)
{
    ((struct stage *)self)->prepared++;
}

static enum shmipc_status peer(void *self, bool thorough)
{
    struct stage *stage = self;
    stage->peer_looks += thorough ? 1 : 0;
    stage->says = thorough && stage->peer_makes_ready ? SHMIPC_OK : stage->says;
    return thorough ? stage->peer : SHMIPC_OK;
}

static void set_stage(struct stage *stage, uint64_t span_ns, uint64_t spin_ns)
{
    memset(stage, 0, sizeof *stage);
    stage->says = SHMIPC_EMPTY;
    stage->looks_until_ok = -1;
    stage->wait = (struct shmipc_wait){.peer_look_ns = &stage->peer_look_ns,
                                       .interrupted = &stage->interrupted,
                                       .sleepers = &stage->sleepers,
                                       .look = look,
                                       .prepare = prepare,
                                       .peer = peer,
                                       .self = stage};
    stage->wait.deadline_ns = span_ns == SHMIPC_NEVER ? SHMIPC_NEVER : shmipc_now_ns() + span_ns;
    shmipc_spin_init(&stage->spin, spin_ns, false);
}

static enum shmipc_status run_stage(struct stage *stage)
{
    enum shmipc_status status;
    do {
        status = shmipc_wait_slice(&stage->wait, &stage->spin);
    } while (status == SHMIPC_AGAIN);
    return status;
}

static void test_slice_times_out_after_its_deadline_and_not_before(void)
{
    static const uint64_t spins[] = {0, 20000, SHMIPC_NEVER};
    for (int i = 0; i < 3; i++) {
        struct stage stage;
        const uint64_t start = shmipc_now_ns();
        set_stage(&stage, 120 * MS, spins[i]);
        CHECK_EQ(run_stage(&stage), SHMIPC_TIMEOUT);
        CHECK(shmipc_now_ns() - start >= 120 * MS);
        CHECK(shmipc_now_ns() - start < 5000 * MS);
        CHECK((stage.wait.sleeps == 0) == (spins[i] == SHMIPC_NEVER));
        CHECK((stage.prepared == 0) == (spins[i] == SHMIPC_NEVER));
        CHECK(stage.peer_looks >= 1); /* at least every 50 ms, if the machine lets us */
        CHECK(stage.peer_looks <= 4);
    }
}

static void test_slice_returns_again_so_that_signals_can_be_looked_at(void)
{
    struct stage stage;
    set_stage(&stage, SHMIPC_NEVER, 0);
    const uint64_t start = shmipc_now_ns();
    CHECK_EQ(shmipc_wait_slice(&stage.wait, &stage.spin), SHMIPC_AGAIN);
    set_stage(&stage, SHMIPC_NEVER, SHMIPC_NEVER);
    CHECK_EQ(shmipc_wait_slice(&stage.wait, &stage.spin), SHMIPC_AGAIN);
    CHECK(shmipc_now_ns() - start < 5000 * MS);
}

static void test_slice_reports_what_it_waited_for_in_every_phase(void)
{
    static const int looks[] = {1, 2, 3, 70, 1000};
    for (size_t i = 0; i < 2 * sizeof looks / sizeof *looks; i++) {
        struct stage stage;
        set_stage(&stage, SHMIPC_NEVER, i % 2 == 0 ? 0 : 1000 * MS);
        stage.looks_until_ok = i % 2 == 0 && looks[i / 2] > 3 ? 3 : looks[i / 2];
        CHECK_EQ(run_stage(&stage), SHMIPC_OK);
    }
}

static void test_slice_reports_corruption_and_the_peers_end(void)
{
    static const uint64_t spins[] = {0, 1000 * MS};
    for (int i = 0; i < 2; i++) {
        struct stage stage;
        set_stage(&stage, SHMIPC_NEVER, spins[i]);
        stage.says = SHMIPC_CORRUPT;
        CHECK_EQ(run_stage(&stage), SHMIPC_CORRUPT);
        set_stage(&stage, SHMIPC_NEVER, spins[i]);
        stage.peer = SHMIPC_DIED;
        CHECK_EQ(run_stage(&stage), SHMIPC_DIED);
        set_stage(&stage, SHMIPC_NEVER, spins[i]);
        stage.interrupted = 1;
        CHECK_EQ(run_stage(&stage), SHMIPC_CLOSED);
    }
}

static void test_who_was_told_of_a_death_is_told_again_at_once(void)
{
    static const uint64_t spins[] = {0, 1000 * MS};
    for (int i = 0; i < 2; i++) {
        struct stage stage;
        set_stage(&stage, SHMIPC_NEVER, spins[i]);
        stage.peer = SHMIPC_DIED;
        CHECK_EQ(run_stage(&stage), SHMIPC_DIED);
        CHECK_EQ(run_stage(&stage), SHMIPC_DIED);
        CHECK_EQ(stage.wait.sleeps, 0);
    }
}

static void test_who_asks_only_for_a_moment_is_told_of_a_death(void)
{
    static const uint64_t spins[] = {0, 1000 * MS};
    for (int i = 0; i < 2; i++) {
        struct stage stage;
        set_stage(&stage, 1, spins[i]);
        stage.peer = SHMIPC_DIED;
        CHECK_EQ(run_stage(&stage), SHMIPC_DIED);
        set_stage(&stage, 1, spins[i]);
        stage.peer_makes_ready = true;
        CHECK_EQ(run_stage(&stage), SHMIPC_OK);
        set_stage(&stage, 1, spins[i]);
        CHECK_EQ(run_stage(&stage), SHMIPC_TIMEOUT);
        CHECK_EQ(run_stage(&stage), SHMIPC_TIMEOUT);
        CHECK_EQ(stage.peer_looks, 1); /* once in 50 ms, however often it asks */
    }
}

static void test_what_looking_at_the_peer_made_ready_is_not_slept_over(void)
{
    struct stage stage;
    set_stage(&stage, SHMIPC_NEVER, 0);
    stage.peer_makes_ready = true; /* as when a dead consumer's slot is reclaimed */
    CHECK_EQ(shmipc_wait_slice(&stage.wait, &stage.spin), SHMIPC_OK);
    CHECK_EQ(stage.wait.sleeps, 0);
}

static void test_sleep_ends_when_the_peer_is_to_be_looked_at(void)
{
    uint64_t shortest_ns = SHMIPC_NEVER;
    for (int i = 0; i < 20 && shortest_ns > SHMIPC_SLICE_NS / 2; i++) {
        struct stage stage;
        set_stage(&stage, SHMIPC_NEVER, 0);
        const uint64_t start = shmipc_now_ns();
        stage.peer_look_ns = start + 2 * MS;
        CHECK_EQ(shmipc_wait_slice(&stage.wait, &stage.spin), SHMIPC_AGAIN);
        const uint64_t span_ns = shmipc_now_ns() - start;
        shortest_ns = span_ns < shortest_ns ? span_ns : shortest_ns;
    }
    CHECK(shortest_ns <= SHMIPC_SLICE_NS / 2);
}

static void *interrupt_later(void *argument)
{
    struct stage *stage = argument;
    (void)usleep(20000);
    shmipc_store_relaxed(&stage->interrupted, 1u);
    shmipc_wait_wake(&stage->sleepers);
    return NULL;
}

static void test_interrupt_from_another_thread_ends_a_wait(void)
{
    static const uint64_t spins[] = {0, 20000, SHMIPC_NEVER};
    for (int i = 0; i < 3; i++) {
        struct stage stage;
        pthread_t other;
        set_stage(&stage, SHMIPC_NEVER, spins[i]);
        CHECK_EQ(pthread_create(&other, NULL, interrupt_later, &stage), 0);
        CHECK_EQ(run_stage(&stage), SHMIPC_CLOSED);
        CHECK_EQ(pthread_join(other, NULL), 0);
    }
}

static const struct test tests[] = {
    TEST(test_slice_times_out_after_its_deadline_and_not_before),
    TEST(test_slice_returns_again_so_that_signals_can_be_looked_at),
    TEST(test_slice_reports_what_it_waited_for_in_every_phase),
    TEST(test_slice_reports_corruption_and_the_peers_end),
    TEST(test_who_was_told_of_a_death_is_told_again_at_once),
    TEST(test_who_asks_only_for_a_moment_is_told_of_a_death),
    TEST(test_what_looking_at_the_peer_made_ready_is_not_slept_over),
    TEST(test_sleep_ends_when_the_peer_is_to_be_looked_at),
    TEST(test_interrupt_from_another_thread_ends_a_wait),
};

TEST_MAIN(tests)
