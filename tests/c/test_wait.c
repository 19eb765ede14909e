/* test_wait.c: sleeping and waking, in one process. A look every 50 ms hides a lost wake-up, so the
 * stress test sleeps far longer and asks whose fault it was. */
#define _GNU_SOURCE
#include "../../src/core/wait.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#define MS UINT64_C(1000000)

/* ---- one word ------------------------------------------------------------------------------- */

static void test_wake_is_wanted_only_between_announce_and_wake(void)
{
    shmipc_atomic_u32 word = 0;
    const bool asymmetric = shmipc_wait_register();
    CHECK(!shmipc_wait_wanted(&word, asymmetric));
    uint32_t mark;
    CHECK(shmipc_wait_announce(&word, &mark) > 0);
    CHECK(shmipc_wait_wanted(&word, asymmetric));
    CHECK(shmipc_wait_wanted(&word, asymmetric));
    shmipc_wait_wake(&word);
    CHECK(!shmipc_wait_wanted(&word, asymmetric));
    shmipc_wait_wake(&word);
}

static void test_sleep_ends_at_once_if_the_wake_came_first(void)
{
    shmipc_atomic_u32 word = 0;
    uint32_t mark;
    (void)shmipc_wait_announce(&word, &mark);
    shmipc_wait_wake(&word);
    const uint64_t start = shmipc_now_ns();
    shmipc_wait_sleep(&word, mark, 60000 * MS);
    CHECK(shmipc_now_ns() - start < 30000 * MS);
}

/* Between a sleeper's mark and its sleep, a waker wakes and another sleeper marks the word again.
 */
static void test_sleep_ends_at_once_if_another_sleeper_came_after_the_wake(void)
{
    shmipc_atomic_u32 word = 0;
    uint32_t mark;
    uint32_t other;
    (void)shmipc_wait_announce(&word, &mark);
    shmipc_wait_wake(&word);
    (void)shmipc_wait_announce(&word, &other);
    CHECK(mark != other);
    const uint64_t start = shmipc_now_ns();
    shmipc_wait_sleep(&word, mark, 60000 * MS);
    CHECK(shmipc_now_ns() - start < 30000 * MS);
}

static void test_two_sleepers_share_a_generation_and_one_wake_ends_it_for_both(void)
{
    shmipc_atomic_u32 word = 0;
    uint32_t first;
    uint32_t second;
    (void)shmipc_wait_announce(&word, &first);
    (void)shmipc_wait_announce(&word, &second);
    CHECK_EQ(first, second);
    shmipc_wait_wake(&word);
    CHECK(shmipc_load_relaxed(&word) != first);
    word = UINT32_MAX - 1; /* generations wrap */
    (void)shmipc_wait_announce(&word, &first);
    shmipc_wait_wake(&word);
    CHECK(!shmipc_wait_wanted(&word, false));
    (void)shmipc_wait_announce(&word, &second);
    CHECK(first != second);
}

static void test_sleep_lasts_its_span(void)
{
    shmipc_atomic_u32 word = 0;
    uint32_t mark;
    (void)shmipc_wait_announce(&word, &mark);
    const uint64_t start = shmipc_now_ns();
    shmipc_wait_sleep(&word, mark, 30 * MS);
    CHECK(shmipc_now_ns() - start >= 30 * MS);
}

static void test_deadlines_saturate(void)
{
    CHECK_EQ(shmipc_deadline_ns(5, 7), 12);
    CHECK_EQ(shmipc_deadline_ns(5, SHMIPC_NEVER), SHMIPC_NEVER);
    CHECK_EQ(shmipc_deadline_ns(UINT64_MAX - 5, 5), SHMIPC_NEVER);
    CHECK_EQ(shmipc_deadline_ns(UINT64_MAX - 5, 100), SHMIPC_NEVER);
}

/* ---- lost wake-ups -------------------------------------------------------------------------- */

struct handoff {
    _Alignas(128) shmipc_atomic_u64 position;
    _Alignas(128) shmipc_atomic_u32 sleepers;
    _Alignas(128) shmipc_atomic_u64 taken;
    uint64_t rounds;
    bool asymmetric;
};

/* Store a position and look for a sleeper, at a moment that sweeps over the sleeper's steps. */
static void *hand_over(void *argument)
{
    struct handoff *handoff = argument;
    uint64_t random = 7;
    for (uint64_t round = 1; round <= handoff->rounds; round++) {
        while (shmipc_load_acquire(&handoff->taken) != round - 1) {
            shmipc_cpu_relax();
        }
        for (uint64_t n = test_random(&random) % 3000; n > 0; n--) {
            atomic_signal_fence(memory_order_seq_cst);
        }
        shmipc_store_release(&handoff->position, round);
        if (shmipc_wait_wanted(&handoff->sleepers, handoff->asymmetric)) {
            shmipc_wait_wake(&handoff->sleepers);
        }
    }
    return NULL;
}

static void test_no_wakeup_is_lost_between_a_commit_and_a_sleeper(void)
{
    struct handoff handoff = {.rounds = test_rounds(20000)};
    pthread_t waker;
    uint64_t slept = 0;
    handoff.asymmetric = shmipc_wait_register();
    CHECK_EQ(pthread_create(&waker, NULL, hand_over, &handoff), 0);
    for (uint64_t round = 1; round <= handoff.rounds; round++) {
        while (shmipc_load_acquire(&handoff.position) != round) {
            uint32_t mark;
            (void)shmipc_wait_announce(&handoff.sleepers, &mark);
            if (shmipc_load_acquire(&handoff.position) == round) {
                break;
            }
            slept++;
            const uint64_t start = shmipc_now_ns();
            shmipc_wait_sleep(&handoff.sleepers, mark, 3000 * MS);
            if (shmipc_now_ns() - start >= 3000 * MS &&
                shmipc_load_acquire(&handoff.position) == round) {
                /* A slow waker has not come to look yet; a lost wake-up never will. */
                (void)usleep(500000);
                CHECK(shmipc_load_acquire(&handoff.sleepers) != mark);
            }
        }
        shmipc_store_release(&handoff.taken, round);
    }
    CHECK_EQ(pthread_join(waker, NULL), 0);
    CHECK(slept > 0);
}

/* Both sides sleep, as two processes that answer each other do. */
struct pair {
    struct handoff ping;
    struct handoff pong;
};

static void await(struct handoff *handoff, uint64_t round)
{
    while (shmipc_load_acquire(&handoff->position) != round) {
        uint32_t mark;
        (void)shmipc_wait_announce(&handoff->sleepers, &mark);
        if (shmipc_load_acquire(&handoff->position) != round) {
            const uint64_t start = shmipc_now_ns();
            shmipc_wait_sleep(&handoff->sleepers, mark, 3000 * MS);
            CHECK(shmipc_now_ns() - start < 3000 * MS);
        }
    }
}

static void give(struct handoff *handoff, uint64_t round)
{
    shmipc_store_release(&handoff->position, round);
    if (shmipc_wait_wanted(&handoff->sleepers, handoff->asymmetric)) {
        shmipc_wait_wake(&handoff->sleepers);
    }
}

static void *answer(void *argument)
{
    struct pair *pair = argument;
    for (uint64_t round = 1; round <= pair->ping.rounds; round++) {
        await(&pair->ping, round);
        give(&pair->pong, round);
    }
    return NULL;
}

static void test_two_sleepers_answer_each_other_without_spinning(void)
{
    struct pair pair = {.ping = {.rounds = test_rounds(10000)}};
    pthread_t other;
    pair.ping.asymmetric = pair.pong.asymmetric = shmipc_wait_register();
    CHECK_EQ(pthread_create(&other, NULL, answer, &pair), 0);
    for (uint64_t round = 1; round <= pair.ping.rounds; round++) {
        give(&pair.ping, round);
        await(&pair.pong, round);
    }
    CHECK_EQ(pthread_join(other, NULL), 0);
}

/* ---- several words -------------------------------------------------------------------------- */

enum { MANY = 200 };
static shmipc_atomic_u32 words[MANY];

static void *wake_later(void *argument)
{
    (void)usleep(20000);
    shmipc_wait_wake(argument);
    return NULL;
}

static void check_sleep_any(uint32_t count, uint32_t woken)
{
    shmipc_atomic_u32 *list[MANY];
    uint32_t marks[MANY];
    pthread_t waker;
    for (uint32_t i = 0; i < count; i++) {
        list[i] = &words[i];
        marks[i] = shmipc_wait_mark(&words[i]);
    }
    CHECK(shmipc_wait_barrier() > 0);
    CHECK_EQ(pthread_create(&waker, NULL, wake_later, &words[woken]), 0);
    const uint64_t start = shmipc_now_ns();
    while (shmipc_load_acquire(&words[woken]) == marks[woken]) {
        shmipc_wait_sleep_any(list, marks, count, 10000 * MS);
        CHECK(shmipc_now_ns() - start < 9000 * MS);
    }
    CHECK_EQ(pthread_join(waker, NULL), 0);
    /* and with a word that was woken already it does not sleep at all */
    shmipc_wait_sleep_any(list, marks, count, 10000 * MS);
    CHECK(shmipc_now_ns() - start < 9000 * MS);
}

static void test_any_of_several_words_wakes(void)
{
    check_sleep_any(1, 0);
    check_sleep_any(2, 1);
    check_sleep_any(128, 127);
    check_sleep_any(129, 128); /* more than futex_waitv takes */
    check_sleep_any(MANY, 3);
}

/* Where the system has futex_waitv(2) we do not nap but sleep: one call lasts the whole span. */
static void test_sleep_on_several_words_is_one_sleep_where_the_system_can(void)
{
    shmipc_atomic_u32 *list[2] = {&words[0], &words[1]};
    const uint32_t marks[2] = {shmipc_wait_mark(list[0]), shmipc_wait_mark(list[1])};
    if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, CLOCK_MONOTONIC) == -1 && errno != EINVAL) {
        test_skip("no futex_waitv(2) here: waits for several rings take naps");
    }
    const uint64_t start = shmipc_now_ns();
    shmipc_wait_sleep_any(list, marks, 2, 100 * MS);
    CHECK(shmipc_now_ns() - start > 50 * MS);
}

/* Where the system has membarrier(2), the sleeper pays for the barrier of both sides. */
static void test_barrier_covers_the_wakers_where_the_system_can(void)
{
#ifdef SHMIPC_NO_MEMBARRIER
    test_skip("built without membarrier(2): wakers fence");
#else
    if (!shmipc_wait_register()) {
        test_skip("no membarrier(2) here: wakers fence, and sleeps are short");
    }
#endif
    CHECK_EQ(shmipc_wait_barrier(), SHMIPC_SLICE_NS);
}

static void test_sleep_on_several_words_lasts_its_span(void)
{
    shmipc_atomic_u32 *list[3] = {&words[0], &words[1], &words[0]};
    const uint32_t first = shmipc_wait_mark(list[0]);
    const uint32_t marks[3] = {first, shmipc_wait_mark(list[1]), first};
    const uint64_t start = shmipc_now_ns();
    while (shmipc_now_ns() - start < 20 * MS) { /* where there is no futex_waitv, in naps */
        shmipc_wait_sleep_any(list, marks, 3, 20 * MS);
    }
    CHECK(shmipc_now_ns() - start < 5000 * MS);
}

/* ---- the spin budget ------------------------------------------------------------------------ */

static void test_spin_budget_halves_to_a_floor_and_one_quick_wait_restores_it(void)
{
    struct shmipc_spin spin;
    shmipc_spin_init(&spin, SHMIPC_SPIN_DEFAULT_NS, true);
    CHECK_EQ(spin.budget_ns, SHMIPC_SPIN_DEFAULT_NS);
    shmipc_spin_learn(&spin, SHMIPC_SPIN_DEFAULT_NS + 1, true);
    CHECK_EQ(spin.budget_ns, SHMIPC_SPIN_DEFAULT_NS / 4);
    shmipc_spin_learn(&spin, 1, false); /* caught while spinning */
    CHECK_EQ(spin.budget_ns, SHMIPC_SPIN_DEFAULT_NS);
    for (int i = 0; i < 100; i++) {
        shmipc_spin_learn(&spin, 1000 * MS, true);
    }
    CHECK_EQ(spin.budget_ns, SHMIPC_SPIN_FLOOR_NS);
    for (int i = 1; i < SHMIPC_SPIN_RETRY; i++) {
        shmipc_spin_learn(&spin, 1000, true);
        CHECK_EQ(spin.budget_ns, SHMIPC_SPIN_FLOOR_NS);
    }
    shmipc_spin_learn(&spin, 1000, true); /* short sleeps: worth one more try */
    CHECK_EQ(spin.budget_ns, SHMIPC_SPIN_DEFAULT_NS);
    shmipc_spin_init(&spin, 5000, false); /* the user's number is not argued with */
    shmipc_spin_learn(&spin, 1000 * MS, true);
    CHECK_EQ(spin.budget_ns, 5000);
}

/* ---- a slice of waiting --------------------------------------------------------------------- */

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

static void test_what_looking_at_the_peer_made_ready_is_not_slept_over(void)
{
    struct stage stage;
    set_stage(&stage, SHMIPC_NEVER, 0);
    stage.peer_makes_ready = true; /* as when a dead consumer is evicted */
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
    TEST(test_wake_is_wanted_only_between_announce_and_wake),
    TEST(test_sleep_ends_at_once_if_the_wake_came_first),
    TEST(test_sleep_ends_at_once_if_another_sleeper_came_after_the_wake),
    TEST(test_two_sleepers_share_a_generation_and_one_wake_ends_it_for_both),
    TEST(test_sleep_lasts_its_span),
    TEST(test_deadlines_saturate),
    TEST(test_no_wakeup_is_lost_between_a_commit_and_a_sleeper),
    TEST(test_two_sleepers_answer_each_other_without_spinning),
    TEST(test_any_of_several_words_wakes),
    TEST(test_sleep_on_several_words_is_one_sleep_where_the_system_can),
    TEST(test_sleep_on_several_words_lasts_its_span),
    TEST(test_barrier_covers_the_wakers_where_the_system_can),
    TEST(test_spin_budget_halves_to_a_floor_and_one_quick_wait_restores_it),
    TEST(test_slice_times_out_after_its_deadline_and_not_before),
    TEST(test_slice_returns_again_so_that_signals_can_be_looked_at),
    TEST(test_slice_reports_what_it_waited_for_in_every_phase),
    TEST(test_slice_reports_corruption_and_the_peers_end),
    TEST(test_who_was_told_of_a_death_is_told_again_at_once),
    TEST(test_what_looking_at_the_peer_made_ready_is_not_slept_over),
    TEST(test_sleep_ends_when_the_peer_is_to_be_looked_at),
    TEST(test_interrupt_from_another_thread_ends_a_wait),
};

TEST_MAIN(tests)
