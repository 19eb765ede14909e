/* test_lockstep.c: when a reader stays off the line of the head, and when it does so no longer. */
#include "rig.h"

/* Messages that are read as fast as they come, one by one, are a lock-step: the reader measures a
 * look, then stays away before the next. That it ends is asked for whatever was measured. */
static void test_lockstep_is_entered_measured_given_up_and_left(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    uint64_t seq = 0;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    for (; consumer.look_ticks == 0; seq++) {
        CHECK(seq < 100);
        CHECK_EQ(consumer.linger_penalty, 0); /* what is not yet known is not judged */
        CHECK_EQ(rig_send(&rig.producer, 8), SHMIPC_OK);
        rig_expect(&consumer, 8, seq);
    }
    uint32_t penalty = 0;
    for (int stays = 0; stays < 3; seq++) { /* one message each: it does not pay */
        CHECK(seq < 1000);
        consumer.look_ticks = UINT64_MAX / 4; /* interrupted for some decades */
        CHECK_EQ(rig_send(&rig.producer, 8), SHMIPC_OK);
        rig_expect(&consumer, 8, seq);
        if (consumer.linger_penalty != penalty) {
            CHECK(consumer.linger_penalty > penalty);
            CHECK_EQ(consumer.linger_rest, consumer.linger_penalty);
            penalty = consumer.linger_penalty;
            stays++;
        }
    }
    consumer.linger_rest = 0;
    CHECK(consumer.lockstep_streak != 0);
    rig_expect_status(&consumer, SHMIPC_EMPTY); /* stayed away, and nothing came: a pause */
    CHECK_EQ(consumer.lockstep_streak, 0);
    CHECK_EQ(consumer.look_ticks, 0); /* and what was measured is forgotten */
    rig_close(&rig);
}

static const struct test tests[] = {
    TEST(test_lockstep_is_entered_measured_given_up_and_left),
};

TEST_MAIN(tests)
