/* test_waitset.c: a set of waits whose members are not rings: words and flags of this test's own.
 */
#define _GNU_SOURCE
#include "../../../src/core/wait/waitset.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define PATIENCE (20000 * MS)

/* A thing to wait for: set by its waker, who then looks for sleepers as a commit does. */
struct flag {
    shmipc_atomic_u32 value;
    shmipc_atomic_u32 sleepers;
    uint64_t peer_look_ns;
    uint32_t peer_looks;
    bool peer_gone; /* found by a look at the peer only */
    struct shmipc_spin spin;
};

static bool is_ready(void *self)
{
    struct flag *flag = self;
    return shmipc_load_acquire(&flag->value) != 0;
}

static bool has_news(void *self, uint64_t next_look_ns)
{
    struct flag *flag = self;
    if (next_look_ns != 0) {
        flag->peer_looks++;
        if (flag->peer_gone) {
            return true;
        }
        flag->peer_look_ns = next_look_ns;
    }
    return is_ready(self);
}

static const struct shmipc_waited_kind kind = {is_ready, has_news};

static void *begin(struct shmipc_waitset *set, struct flag *flags, uint32_t count)
{
    void *memory = malloc(shmipc_waitset_size(count));
    CHECK(memory != NULL);
    memset(set, 0, sizeof *set);
    memset(flags, 0, count * sizeof *flags);
    shmipc_waitset_place(set, memory, count);
    for (uint32_t i = 0; i < count; i++) {
        struct flag *flag = &flags[i];
        shmipc_spin_init(&flag->spin, 0, false);
        set->members[i] =
            (struct shmipc_waited){&kind, flag, &flag->sleepers, &flag->peer_look_ns, &flag->spin};
    }
    shmipc_waitset_begin(set);
    return memory;
}

static enum shmipc_status wait_on(struct shmipc_waitset *set, uint64_t span_ns)
{
    const uint64_t deadline_ns = shmipc_now_ns() + span_ns;
    enum shmipc_status status;
    do {
        status = shmipc_waitset_slice(set, deadline_ns);
    } while (status == SHMIPC_AGAIN);
    return status;
}

static void *raise_later(void *argument)
{
    struct flag *flag = argument;
    const bool asymmetric = shmipc_wait_register();
    shmipc_wait_nap(20 * MS);
    shmipc_store_release(&flag->value, 1u);
    if (shmipc_wait_wanted(&flag->sleepers, asymmetric)) {
        shmipc_wait_wake(&flag->sleepers);
    }
    return NULL;
}

static void test_member_that_is_no_ring_wakes_the_set(void)
{
    struct shmipc_waitset set;
    struct flag flags[3];
    pthread_t waker;
    void *memory = begin(&set, flags, 3);
    CHECK_EQ(wait_on(&set, 0), SHMIPC_TIMEOUT);
    CHECK_EQ(pthread_create(&waker, NULL, raise_later, &flags[1]), 0);
    CHECK_EQ(wait_on(&set, PATIENCE), SHMIPC_OK);
    CHECK(!set.ready[0] && set.ready[1] && !set.ready[2]);
    shmipc_waitset_learn(&set);
    CHECK_EQ(pthread_join(waker, NULL), 0);
    free(memory);
}

static void test_spin_finds_what_is_ready(void)
{
    struct shmipc_waitset set;
    struct flag flags[2];
    void *memory = begin(&set, flags, 2);
    shmipc_spin_init(&flags[0].spin, SHMIPC_NEVER, false);
    shmipc_store_relaxed(&flags[1].value, 1u);
    CHECK_EQ(shmipc_waitset_spin(&set, SHMIPC_NEVER, PATIENCE), SHMIPC_OK);
    CHECK_EQ(wait_on(&set, PATIENCE), SHMIPC_OK);
    CHECK(!set.ready[0] && set.ready[1]);
    CHECK(!set.slept);
    free(memory);
}

static void test_peers_are_looked_at_only_when_due_and_end_the_wait(void)
{
    struct shmipc_waitset set;
    struct flag flags[2];
    void *memory = begin(&set, flags, 2);
    flags[0].peer_look_ns = SHMIPC_NEVER;
    CHECK(!shmipc_waitset_look(&set, shmipc_now_ns()));
    CHECK(!shmipc_waitset_look(&set, shmipc_now_ns()));
    CHECK_EQ(flags[0].peer_looks, 0);
    CHECK_EQ(flags[1].peer_looks, 1);
    flags[1].peer_gone = true;
    CHECK_EQ(wait_on(&set, PATIENCE), SHMIPC_OK);
    CHECK(!set.ready[0] && set.ready[1]);
    CHECK_EQ(flags[0].peer_looks, 0);
    free(memory);
}

static const struct test tests[] = {
    TEST(test_member_that_is_no_ring_wakes_the_set),
    TEST(test_spin_finds_what_is_ready),
    TEST(test_peers_are_looked_at_only_when_due_and_end_the_wait),
};

TEST_MAIN(tests)
