/* test_wait.c: sleeping and waking, in one process. A look every 50 ms hides a lost wake-up, so the
 * stress test sleeps far longer and asks whose fault it was. */
#define _GNU_SOURCE
#include "../../../src/core/wait/wait.h"
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
};

TEST_MAIN(tests)
