/* test_api_torture.c: three threads do whatever they like with one consumer, for as long as
 * SHMIPC_TORTURE_S says (2 s): enter, wait, read frames and release each other's, interrupt,
 * close. Nothing is lost, torn or left behind, and nobody hangs. */
#define _GNU_SOURCE
#include "api.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HELD 8         /* frames that lie about */
#define CAPACITY 8192u /* so few messages that the frames often hold all of it */

struct life {
    struct api_pair pair;
    struct shmipc_frame *_Atomic held[HELD];
    atomic_ulong read;     /* messages that were taken out */
    atomic_ulong read_sum; /* of their numbers */
    atomic_ulong callouts; /* interrupts asked for */
    atomic_ulong called;   /* ... and delivered */
    atomic_bool closing;
    uint64_t seed;
};

static struct life life;

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static size_t len_of(uint64_t seq)
{
    return 8 + seq % 700;
}

static void check_frame(struct shmipc_frame *frame)
{
    struct shmipc_view view;
    DONE(shmipc_frame_view(frame, &view));
    CHECK(shmipc_frame_is_intact(frame));
    api_check(&view, view.seq, len_of(view.seq));
}

static void hand_back(struct shmipc_frame *frame)
{
    if (frame != NULL) {
        check_frame(frame); /* nobody has written over it */
        shmipc_frame_release(frame);
    }
}

/* Anything a thread may get from a handle that others use, call out and close. */
static bool goes_on(int result)
{
    switch (result) {
    case SHMIPC_E_INTERRUPTED:
        atomic_fetch_add(&life.called, 1);
        return true;
    case SHMIPC_SUCCESS:
    case SHMIPC_E_EMPTY:
    case SHMIPC_E_MISUSE:
        return true;
    default:
        CHECK_EQ(result, SHMIPC_E_CLOSED);
        CHECK(atomic_load(&life.closing));
        return false;
    }
}

static void count_read(uint64_t seq)
{
    atomic_fetch_add(&life.read, 1);
    atomic_fetch_add(&life.read_sum, seq);
}

static int read_frame(uint64_t chance)
{
    struct shmipc_frame *frame;
    const int result =
        shmipc_consumer_read(life.pair.consumer, &frame, (int64_t)(chance % 3) * 300000);
    if (result == SHMIPC_SUCCESS) {
        struct shmipc_view view;
        check_frame(frame);
        DONE(shmipc_frame_view(frame, &view));
        count_read(view.seq);
        hand_back(atomic_exchange(&life.held[chance / 8 % HELD], frame));
    }
    return result;
}

static void *live(void *argument)
{
    uint64_t seed = life.seed + (uintptr_t)argument;
    unsigned char buffer[1024];
    for (;;) {
        const uint64_t chance = test_random(&seed) >> 8;
        struct shmipc_view view;
        struct shmipc_consumer_stats stats;
        unsigned char ready;
        int result = SHMIPC_SUCCESS;
        switch (chance % 16) {
        case 0: /* wait, for ever even: somebody sends, calls out or closes */
            result =
                shmipc_consumer_wait(life.pair.consumer, chance & 1024 ? SHMIPC_FOREVER : 200000);
            break;
        case 1:
            result = shmipc_wait(&life.pair.consumer, 1, &ready,
                                 chance & 1024 ? SHMIPC_FOREVER : 200000);
            break;
        case 2:
            result = shmipc_consumer_recv(life.pair.consumer, buffer, sizeof buffer, &view,
                                          (int64_t)(chance & 1024) * 300);
            if (result == SHMIPC_SUCCESS) {
                api_check(&view, view.seq, len_of(view.seq));
                count_read(view.seq);
            }
            break;
        case 3:
            atomic_fetch_add(&life.callouts, 1);
            result = shmipc_consumer_interrupt(life.pair.consumer);
            break;
        case 4:
            result = shmipc_consumer_stats(life.pair.consumer, &stats);
            break;
        case 5:
        case 6:
        case 7:
            result = read_frame(chance / 16);
            break;
        default:
            hand_back(atomic_exchange(&life.held[chance / 16 % HELD], NULL));
            break;
        }
        if (!goes_on(result)) {
            return NULL;
        }
    }
}

static void *send_on(void *argument)
{
    uint64_t sent = 0;
    unsigned char bytes[1024];
    (void)argument;
    while (!atomic_load(&life.closing)) {
        /* As api_send, but for a time: the frames may hold everything. */
        for (size_t i = 0; i < len_of(sent); i++) {
            bytes[i] = (unsigned char)(sent * 31 + i * 7 + (i >> 8));
        }
        const int result =
            shmipc_producer_send(life.pair.producer, bytes, len_of(sent), 1, 0, 1000000);
        if (result == SHMIPC_SUCCESS) {
            sent++;
        } else if (result == SHMIPC_E_CLOSED) {
            return NULL;
        } else {
            CHECK_EQ(result, SHMIPC_E_FULL);
        }
    }
    return NULL;
}

static pthread_t start(void *(*body)(void *argument), uintptr_t argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, (void *)argument) == 0);
    return thread;
}

static void *close_it(void *argument)
{
    (void)argument;
    DONE(shmipc_consumer_close(life.pair.consumer));
    return NULL;
}

/* One consumer, from its opening to the last of its frames. */
static void live_once(uint64_t *seed)
{
    const uint64_t chance = test_random(seed) >> 8;
    struct shmipc_producer_stats stats;
    pthread_t threads[3];
    memset(&life, 0, sizeof life);
    life.seed = chance;
    life.pair = api_open(NULL, CAPACITY, 2, SHMIPC_BLOCK);
    pthread_t sender = start(send_on, 0);
    for (uintptr_t i = 0; i < 3; i++) {
        threads[i] = start(live, i + 1);
    }
    usleep((useconds_t)(chance % 8000));
    atomic_store(&life.closing, true);
    pthread_t closer = start(close_it, 0);
    DONE(shmipc_consumer_close(life.pair.consumer));
    CHECK_EQ(pthread_join(closer, NULL), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ(pthread_join(sender, NULL), 0);
    CHECK(atomic_load(&life.called) <= atomic_load(&life.callouts)); /* never twice */
    const uint64_t read = atomic_load(&life.read);
    CHECK_EQ(atomic_load(&life.read_sum), read > 0 ? read * (read - 1) / 2 : 0); /* each once */
    const bool early = chance & 1;
    if (early) {
        shmipc_consumer_free(life.pair.consumer);
    }
    for (int i = 0; i < HELD; i++) {
        hand_back(atomic_load(&life.held[i]));
    }
    if (!early) {
        shmipc_consumer_free(life.pair.consumer);
    }
    DONE(shmipc_producer_stats(life.pair.producer, &stats));
    CHECK_EQ(stats.attached, 0); /* the last frame freed the slot */
    CHECK(stats.count >= atomic_load(&life.read));
    shmipc_producer_free(life.pair.producer);
}

static void test_three_threads_and_one_consumer(void)
{
    const char *wish = getenv("SHMIPC_TORTURE_S");
    const uint64_t end_ns =
        now_ns() + (wish != NULL ? strtoull(wish, NULL, 10) : 2) * UINT64_C(1000000000);
    uint64_t seed = 20261121;
    do {
        live_once(&seed);
    } while (now_ns() < end_ns);
}

/* ---- a producer in several hands ------------------------------------------------------------- */

static atomic_ulong sent;

static void *send_or_call_out(void *argument)
{
    uint64_t seed = life.seed + (uintptr_t)argument;
    unsigned char bytes[700] = {0};
    for (;;) {
        const uint64_t chance = test_random(&seed) >> 8;
        void *data;
        int result = SHMIPC_SUCCESS;
        switch (chance % 8) {
        case 0:
            atomic_fetch_add(&life.callouts, 1);
            result = shmipc_producer_interrupt(life.pair.producer);
            break;
        case 1:
            result = shmipc_producer_reserve(life.pair.producer, 100, 0, &data);
            if (result == SHMIPC_SUCCESS) {
                /* Another thread may come between: with the same length, no matter which commits.
                 */
                result = shmipc_producer_commit(life.pair.producer, 100, 1, 0);
                if (result == SHMIPC_SUCCESS) {
                    atomic_fetch_add(&sent, 1);
                }
            }
            break;
        case 2:
            result = shmipc_producer_abort(life.pair.producer);
            break;
        default:
            result = shmipc_producer_send(life.pair.producer, bytes, chance / 8 % sizeof bytes, 1,
                                          0, chance & 1024 ? SHMIPC_FOREVER : 100000);
            if (result == SHMIPC_SUCCESS) {
                atomic_fetch_add(&sent, 1);
            }
            break;
        }
        if (result != SHMIPC_E_FULL && !goes_on(result)) {
            return NULL;
        }
    }
}

static void *receive_slowly(void *argument)
{
    uint64_t seed = life.seed + (uintptr_t)argument;
    struct shmipc_view view;
    for (uint64_t next = 0;;) {
        const int result = shmipc_consumer_wait(life.pair.consumer, PATIENCE_NS);
        if (result == SHMIPC_E_CLOSED) {
            CHECK_EQ(next, atomic_load(&sent)); /* each that was said to be sent, once */
            return NULL;
        }
        CHECK_EQ(result, SHMIPC_SUCCESS);
        while (shmipc_consumer_peek(life.pair.consumer, &view) == SHMIPC_SUCCESS) {
            CHECK_EQ(view.seq, next);
            next++;
            DONE(shmipc_consumer_release(life.pair.consumer));
            if (test_random(&seed) % 64 == 0) {
                (void)sched_yield();
            }
        }
    }
}

static void test_three_threads_and_one_producer(void)
{
    const char *wish = getenv("SHMIPC_TORTURE_S");
    const uint64_t end_ns =
        now_ns() + (wish != NULL ? strtoull(wish, NULL, 10) : 2) * UINT64_C(1000000000);
    uint64_t seed = 4711;
    do {
        pthread_t threads[3];
        memset(&life, 0, sizeof life);
        life.seed = test_random(&seed);
        atomic_store(&sent, 0);
        life.pair = api_open(NULL, CAPACITY, 1, SHMIPC_BLOCK);
        for (uintptr_t i = 0; i < 3; i++) {
            threads[i] = start(send_or_call_out, i + 1);
        }
        usleep((useconds_t)(life.seed % 8000));
        atomic_store(&life.closing, true);
        DONE(shmipc_producer_close(life.pair.producer));
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        }
        CHECK(atomic_load(&life.called) <= atomic_load(&life.callouts));
        CHECK_EQ(pthread_join(start(receive_slowly, 9), NULL), 0); /* a durable queue keeps it */
        api_free(&life.pair);
    } while (now_ns() < end_ns);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_three_threads_and_one_consumer),
        TEST(test_three_threads_and_one_producer),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
