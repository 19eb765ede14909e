/* test_api_threads.c: handles that go from thread to thread, threads that collide in one, frames
 * that are released elsewhere, waits that are ended from outside. Under ThreadSanitizer too. */
#define _GNU_SOURCE
#include "api.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static struct api_pair pair;
static atomic_int misuses;
static atomic_ulong sent;
static atomic_bool stop;

/* ---- one after the other -------------------------------------------------------------------- */

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static uint64_t next_number; /* under `turn` */
static uint64_t rounds;

static void *send_in_turn(void *argument)
{
    (void)argument;
    for (bool more = true; more;) {
        pthread_mutex_lock(&turn);
        more = next_number < rounds;
        if (more) {
            api_send(pair.producer, next_number, 8 + next_number % 50);
            next_number++;
        }
        pthread_mutex_unlock(&turn);
    }
    return NULL;
}

static void test_handle_serves_threads_in_turn(void)
{
    struct shmipc_view view;
    unsigned char buffer[128];
    pthread_t threads[3];
    rounds = test_rounds(30000);
    pair = api_open(NULL, 1 << 14, 1, SHMIPC_BLOCK);
    for (int i = 0; i < 3; i++) {
        threads[i] = api_start(send_in_turn, NULL);
    }
    for (uint64_t i = 0; i < rounds; i++) {
        DONE(shmipc_consumer_recv(pair.consumer, buffer, sizeof buffer, &view, PATIENCE_NS));
        CHECK_EQ(view.seq, i);
        api_check(&view, i, 8 + i % 50);
    }
    for (int i = 0; i < 3; i++) {
        api_join(threads[i]);
    }
    api_free(&pair);
}

/* ---- at once -------------------------------------------------------------------------------- */

static void *send_at_once(void *argument)
{
    const uint64_t kind = (uintptr_t)argument;
    uint64_t mine = 0;
    while (!atomic_load(&stop)) {
        const int result =
            shmipc_producer_send(pair.producer, &mine, sizeof mine, (uint32_t)kind, 0, 0);
        if (result == SHMIPC_SUCCESS) {
            mine++;
            atomic_fetch_add(&sent, 1);
        } else if (result == SHMIPC_E_MISUSE) {
            SAID("one thread at a time");
            atomic_fetch_add(&misuses, 1);
        } else {
            CHECK_RESULT(result, SHMIPC_E_FULL);
        }
    }
    return NULL;
}

static void test_threads_that_collide_are_refused_and_nothing_is_torn(void)
{
    uint64_t received = 0, number, expected[3] = {0, 0, 0};
    struct shmipc_view view;
    const uint64_t wanted = test_rounds(200000);
    pair = api_open(NULL, 1 << 14, 1, SHMIPC_BLOCK);
    pthread_t first = api_start(send_at_once, (void *)(uintptr_t)1);
    pthread_t second = api_start(send_at_once, (void *)(uintptr_t)2);
    while (received < wanted || atomic_load(&misuses) == 0) {
        DONE(shmipc_consumer_recv(pair.consumer, &number, sizeof number, &view, PATIENCE_NS));
        CHECK_EQ(view.seq, received);
        CHECK(view.kind == 1 || view.kind == 2);
        CHECK_EQ(number, expected[view.kind]); /* each thread's own, in its order */
        expected[view.kind]++;
        received++;
    }
    atomic_store(&stop, true);
    api_join(first);
    api_join(second);
    while (shmipc_consumer_recv(pair.consumer, &number, sizeof number, &view, 0) ==
           SHMIPC_SUCCESS) {
        received++;
    }
    CHECK_EQ(received, atomic_load(&sent));
    api_free(&pair);
}

/* ---- from outside --------------------------------------------------------------------------- */

static int waited;

static void *wait_for_data(void *argument)
{
    (void)argument;
    do {
        waited = shmipc_consumer_wait(pair.consumer, SHMIPC_FOREVER);
    } while (waited == SHMIPC_E_MISUSE); /* another was in a call just then */
    return NULL;
}

static void await_sleeper(void)
{
    /* Nothing says that it sleeps, so it is given time to; either way the result is the same. */
    usleep(20000);
}

static void test_waiting_thread_can_be_interrupted(void)
{
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    for (int i = 0; i < 3; i++) {
        pthread_t thread = api_start(wait_for_data, NULL);
        await_sleeper();
        DONE(shmipc_consumer_interrupt(pair.consumer));
        api_join(thread);
        CHECK_EQ(waited, SHMIPC_E_INTERRUPTED);
    }
    DONE(shmipc_consumer_interrupt(pair.consumer)); /* nobody waits: the next one who does */
    CHECK_RESULT(shmipc_consumer_wait(pair.consumer, SHMIPC_FOREVER), SHMIPC_E_INTERRUPTED);
    CHECK_RESULT(shmipc_consumer_wait(pair.consumer, 1000000), SHMIPC_E_EMPTY);
    api_free(&pair);
}

static void test_second_thread_is_refused_while_one_waits(void)
{
    struct shmipc_view view;
    int result;
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    pthread_t thread = api_start(wait_for_data, NULL);
    do {
        usleep(1000);
        result = shmipc_consumer_peek(pair.consumer, &view);
    } while (result == SHMIPC_E_EMPTY); /* until it is inside */
    CHECK_RESULT(result, SHMIPC_E_MISUSE);
    api_send(pair.producer, 1, 10);
    api_join(thread);
    CHECK_EQ(waited, SHMIPC_SUCCESS);
    DONE(shmipc_consumer_peek(pair.consumer, &view)); /* and now it is ours */
    DONE(shmipc_consumer_release(pair.consumer));
    api_free(&pair);
}

static void test_close_ends_a_wait_in_another_thread(void)
{
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    pthread_t thread = api_start(wait_for_data, NULL);
    await_sleeper();
    DONE(shmipc_consumer_close(pair.consumer));
    api_join(thread);
    CHECK_EQ(waited, SHMIPC_E_CLOSED);
    api_free(&pair);
}

static void *fill_for_ever(void *argument)
{
    (void)argument;
    static const char bytes[100];
    do {
        waited = shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, SHMIPC_FOREVER);
    } while (waited == SHMIPC_SUCCESS);
    return NULL;
}

static void test_full_producer_can_be_interrupted_and_closed(void)
{
    pair = api_open(NULL, 4096, 1, SHMIPC_BLOCK);
    pthread_t thread = api_start(fill_for_ever, NULL);
    await_sleeper();
    DONE(shmipc_producer_interrupt(pair.producer));
    api_join(thread);
    CHECK_EQ(waited, SHMIPC_E_INTERRUPTED);
    thread = api_start(fill_for_ever, NULL);
    await_sleeper();
    DONE(shmipc_producer_close(pair.producer));
    api_join(thread);
    CHECK_EQ(waited, SHMIPC_E_CLOSED);
    shmipc_producer_free(pair.producer);
    struct shmipc_view view;
    while (shmipc_consumer_peek(pair.consumer, &view) == SHMIPC_SUCCESS) {
        DONE(shmipc_consumer_release(pair.consumer));
    }
    shmipc_consumer_free(pair.consumer);
}

static void *close_it(void *argument)
{
    (void)argument;
    DONE(shmipc_consumer_close(pair.consumer));
    return NULL;
}

static void *receive_until_closed(void *argument)
{
    unsigned char buffer[64];
    (void)argument;
    do {
        waited = shmipc_consumer_recv(pair.consumer, buffer, sizeof buffer, NULL, 1000000);
    } while (waited == SHMIPC_SUCCESS || waited == SHMIPC_E_EMPTY);
    return NULL;
}

/* Read what is left, if anything is: it would keep the file. */
static void drain(void)
{
    struct shmipc_consumer_options options;
    struct shmipc_consumer *rest;
    struct shmipc_view view;
    shmipc_consumer_options_init(&options);
    options.timeout_ns = 0;
    if (shmipc_consumer_open(&rest, "x", &options) == SHMIPC_SUCCESS) {
        while (shmipc_consumer_peek(rest, &view) == SHMIPC_SUCCESS) {
            DONE(shmipc_consumer_release(rest));
        }
        shmipc_consumer_free(rest);
    }
}

static void test_close_at_any_moment(void)
{
    const uint64_t times = test_rounds(300);
    for (uint64_t i = 0; i < times; i++) {
        pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
        pthread_t receiver = api_start(receive_until_closed, NULL);
        pthread_t first = api_start(close_it, NULL);
        pthread_t second = api_start(close_it, NULL);
        for (int k = 0; k < 20; k++) {
            (void)shmipc_consumer_interrupt(pair.consumer);
            api_send(pair.producer, 1, 10);
        }
        api_join(first);
        api_join(second);
        api_join(receiver);
        CHECK(waited == SHMIPC_E_CLOSED || waited == SHMIPC_E_INTERRUPTED);
        api_free(&pair);
        drain();
    }
}

static void on_alarm(int signal)
{
    (void)signal;
    (void)shmipc_consumer_interrupt(pair.consumer);
}

static void test_signal_handler_may_interrupt(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    (void)ualarm(20000, 0);
    CHECK_RESULT(shmipc_consumer_wait(pair.consumer, SHMIPC_FOREVER), SHMIPC_E_INTERRUPTED);
    api_free(&pair);
}

/* ---- frames --------------------------------------------------------------------------------- */

#define QUEUE 64

static struct shmipc_frame *_Atomic queue[QUEUE];

static void *release_what_is_queued(void *argument)
{
    struct shmipc_view view;
    uint64_t seed = (uintptr_t)argument;
    while (!atomic_load(&stop)) {
        struct shmipc_frame *frame = atomic_exchange(&queue[test_random(&seed) % QUEUE], NULL);
        if (frame != NULL) {
            DONE(shmipc_frame_view(frame, &view));
            api_check(&view, view.seq, 10 + view.seq % 100);
            CHECK(shmipc_frame_is_intact(frame));
            shmipc_frame_release(frame);
        }
    }
    return NULL;
}

static void *send_numbers(void *argument)
{
    (void)argument;
    for (uint64_t i = 0; i < rounds; i++) {
        api_send(pair.producer, i, 10 + i % 100);
    }
    return NULL;
}

static void test_frames_are_released_by_any_thread(void)
{
    struct shmipc_consumer_stats stats;
    struct shmipc_frame *frame;
    struct shmipc_view view;
    uint64_t seed = 7;
    rounds = test_rounds(40000);
    pair = api_open(NULL, 1 << 13, 1, SHMIPC_BLOCK);
    pthread_t threads[3] = {api_start(release_what_is_queued, (void *)(uintptr_t)11),
                            api_start(release_what_is_queued, (void *)(uintptr_t)13),
                            api_start(send_numbers, NULL)};
    for (uint64_t i = 0; i < rounds; i++) {
        /* The ring holds fewer than the queue: often there is only data once others release. */
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        DONE(shmipc_frame_view(frame, &view));
        CHECK_EQ(view.seq, i);
        if (i % 4 == 0) {
            shmipc_frame_release(frame);
            continue;
        }
        frame = atomic_exchange(&queue[test_random(&seed) % QUEUE], frame);
        if (frame != NULL) {
            shmipc_frame_release(frame);
        }
    }
    api_join(threads[2]);
    for (bool left = true; left;) {
        left = false;
        for (int i = 0; i < QUEUE; i++) {
            left = left || atomic_load(&queue[i]) != NULL;
        }
    }
    atomic_store(&stop, true);
    api_join(threads[0]);
    api_join(threads[1]);
    DONE(shmipc_consumer_stats(pair.consumer, &stats));
    CHECK_EQ(stats.frames, 0);
    CHECK_EQ(stats.lag, 0);
    api_free(&pair);
}

/* ---- several rings -------------------------------------------------------------------------- */

static void *send_one_later(void *argument)
{
    await_sleeper();
    DONE(shmipc_producer_send(argument, "a", 1, 1, 0, 0));
    return NULL;
}

static void test_wait_tells_which_are_ready(void)
{
    struct shmipc_producer *producers[3];
    struct shmipc_consumer *consumers[3];
    unsigned char ready[3];
    char name[] = "x0";
    for (int i = 0; i < 3; i++) {
        name[1] = (char)('0' + i);
        DONE(shmipc_producer_open(&producers[i], name, NULL));
        DONE(shmipc_consumer_open(&consumers[i], name, NULL));
    }
    CHECK_RESULT(shmipc_wait(consumers, 3, ready, 0), SHMIPC_E_EMPTY);
    CHECK_RESULT(shmipc_wait(consumers, 3, ready, 2000000), SHMIPC_E_EMPTY);
    DONE(shmipc_producer_send(producers[2], "a", 1, 1, 0, 0));
    DONE(shmipc_wait(consumers, 3, ready, SHMIPC_FOREVER));
    CHECK(ready[0] == 0 && ready[1] == 0 && ready[2] == 1);
    CHECK_RESULT(shmipc_wait(consumers, 2, ready, 0), SHMIPC_E_EMPTY);
    pthread_t thread = api_start(send_one_later, producers[1]);
    DONE(shmipc_wait(consumers, 2, ready, SHMIPC_FOREVER));
    api_join(thread);
    CHECK(ready[0] == 0 && ready[1] == 1);
    struct shmipc_consumer *twice[2] = {consumers[0], consumers[0]};
    CHECK_RESULT(shmipc_wait(twice, 2, ready, 0), SHMIPC_E_MISUSE);
    DONE(shmipc_consumer_interrupt(consumers[0]));
    CHECK_RESULT(shmipc_wait(consumers, 1, ready, SHMIPC_FOREVER), SHMIPC_E_INTERRUPTED);
    DONE(shmipc_producer_close(producers[0]));
    DONE(shmipc_wait(consumers, 1, ready, SHMIPC_FOREVER));
    CHECK_EQ(ready[0], 1); /* an end is worth a call */
    for (int i = 0; i < 3; i++) {
        struct shmipc_view view;
        while (shmipc_consumer_peek(consumers[i], &view) == SHMIPC_SUCCESS) {
            DONE(shmipc_consumer_release(consumers[i]));
        }
        shmipc_producer_free(producers[i]);
        shmipc_consumer_free(consumers[i]);
    }
}

static void *send_much_later(void *argument)
{
    usleep(200000);
    DONE(shmipc_producer_send(argument, "a", 1, 1, 0, 0));
    return NULL;
}

/* How often this thread slept while it waited 200 ms in shmipc_wait(). */
static long sleeps_of_wait(int64_t spin_ns)
{
    struct rusage before, after;
    struct shmipc_consumer_options options;
    struct shmipc_consumer *consumer;
    unsigned char ready;
    struct shmipc_producer *producer = api_producer(NULL, 0, 2, SHMIPC_BLOCK);
    shmipc_consumer_options_init(&options);
    options.spin_ns = spin_ns;
    DONE(shmipc_consumer_open(&consumer, "x", &options));
    pthread_t thread = api_start(send_much_later, producer);
    CHECK(getrusage(RUSAGE_THREAD, &before) == 0);
    DONE(shmipc_wait(&consumer, 1, &ready, SHMIPC_FOREVER));
    CHECK(getrusage(RUSAGE_THREAD, &after) == 0);
    CHECK_EQ(ready, 1);
    api_join(thread);
    shmipc_consumer_free(consumer);
    shmipc_producer_free(producer);
    return after.ru_nvcsw - before.ru_nvcsw;
}

static void test_wait_for_several_polls_as_its_consumers_were_told_to(void)
{
    CHECK(sleeps_of_wait(0) >= 3); /* a slice is 50 ms */
    CHECK(sleeps_of_wait(SHMIPC_SPIN_ADAPTIVE) >= 3);
    CHECK(sleeps_of_wait(SHMIPC_FOREVER) < 3);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_handle_serves_threads_in_turn),
        TEST(test_threads_that_collide_are_refused_and_nothing_is_torn),
        TEST(test_waiting_thread_can_be_interrupted),
        TEST(test_second_thread_is_refused_while_one_waits),
        TEST(test_close_ends_a_wait_in_another_thread),
        TEST(test_full_producer_can_be_interrupted_and_closed),
        TEST(test_close_at_any_moment),
        TEST(test_signal_handler_may_interrupt),
        TEST(test_frames_are_released_by_any_thread),
        TEST(test_wait_tells_which_are_ready),
        TEST(test_wait_for_several_polls_as_its_consumers_were_told_to),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
