/* test_api_limits.c: little stack, and no memory. */
#define _GNU_SOURCE
#include "api.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- little stack --------------------------------------------------------------------------- */

#define SMALL_STACK (48u * 1024u)
#define FIELDS "[('time', '<i8'), ('levels', '<f8', (10, 2)), ('leg', [('side', 'i1')], (3,))]"

static void *use_all(void *argument)
{
    struct shmipc_consumer_options options;
    struct shmipc_consumer *consumer;
    struct shmipc_view view;
    unsigned char item[171] = {1};
    (void)argument;
    shmipc_consumer_options_init(&options);
    options.timeout_ns = 0;
    for (int i = 0; i < 2; i++) { /* the second producer takes over what the first one owes */
        struct shmipc_producer *producer = api_producer(FIELDS, 0, 1, SHMIPC_BLOCK);
        DONE(shmipc_producer_send(producer, item, sizeof item, 0, 0, 0));
        shmipc_producer_free(producer);
    }
    options.dtype = "<f8";
    CHECK_RESULT(shmipc_consumer_open(&consumer, "x", &options), SHMIPC_E_MISMATCH);
    SAID("'levels'");
    options.dtype = FIELDS;
    DONE(shmipc_consumer_open(&consumer, "x", &options));
    for (int i = 0; i < 2; i++) {
        DONE(shmipc_consumer_peek(consumer, &view));
        CHECK(memcmp(view.data, item, sizeof item) == 0);
        DONE(shmipc_consumer_release(consumer));
    }
    CHECK_RESULT(shmipc_consumer_wait(consumer, 1000000), SHMIPC_E_CLOSED);
    shmipc_consumer_free(consumer);
    return NULL;
}

static void test_thread_with_a_small_stack_can_do_everything(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    size_t len = SMALL_STACK;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    test_skip("a sanitizer's frames are larger");
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    test_skip("a sanitizer's frames are larger");
#endif
#endif
    if (len < (size_t)PTHREAD_STACK_MIN) {
        len = (size_t)PTHREAD_STACK_MIN; /* 128 KiB on arm64 */
    }
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, len) == 0);
    CHECK(pthread_create(&thread, &attributes, use_all, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* ---- no memory ------------------------------------------------------------------------------ */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__) && \
    !defined(__clang__) && !defined(TEST_STATIC)
#define ALLOCATIONS_CAN_FAIL 1
extern void *__libc_malloc(size_t len);
extern void *__libc_calloc(size_t count, size_t len);
extern void *__libc_memalign(size_t align, size_t len);

static int allocations; /* since they are counted */
static int failing;     /* which one of them; 0: none, and none is counted */

static bool fails(void)
{
    return failing != 0 && ++allocations == failing;
}

void *malloc(size_t len)
{
    return fails() ? (errno = ENOMEM, NULL) : __libc_malloc(len);
}

void *calloc(size_t count, size_t len)
{
    return fails() ? (errno = ENOMEM, NULL) : __libc_calloc(count, len);
}

void *aligned_alloc(size_t align, size_t len)
{
    return fails() ? (errno = ENOMEM, NULL) : __libc_memalign(align, len);
}
#endif

#ifdef ALLOCATIONS_CAN_FAIL
/* Everything that allocates, until something fails. A result. */
static int try_all(void)
{
    struct shmipc_producer_options options;
    struct shmipc_consumer_options consuming;
    struct shmipc_producer *producer = NULL;
    struct shmipc_consumer *consumer = NULL;
    struct shmipc_frame *frame = NULL;
    unsigned char ready;
    double item = 1.5;
    shmipc_producer_options_init(&options);
    options.dtype = "<f8";
    shmipc_consumer_options_init(&consuming);
    consuming.timeout_ns = 0;
    consuming.dtype = "<f8";
    int result = shmipc_producer_open(&producer, "x", &options);
    CHECK((producer != NULL) == (result == SHMIPC_SUCCESS));
    if (result == SHMIPC_SUCCESS) {
        DONE(shmipc_producer_send(producer, &item, sizeof item, 0, 0, 0));
        result = shmipc_consumer_open(&consumer, "x", &consuming);
        CHECK((consumer != NULL) == (result == SHMIPC_SUCCESS));
    }
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_wait(&consumer, 1, &ready, 0);
    }
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_consumer_read(consumer, &frame, 0);
        CHECK((frame != NULL) == (result == SHMIPC_SUCCESS));
    }
    const int reason = shmipc_last_errno();
    shmipc_frame_release(frame);
    shmipc_consumer_free(consumer);
    shmipc_producer_free(producer);
    CHECK(result == SHMIPC_SUCCESS || reason == ENOMEM);
    return result;
}
#endif

static void test_each_allocation_may_fail(void)
{
#ifdef ALLOCATIONS_CAN_FAIL
    struct shmipc_consumer *rest;
    int failures = 0;
    struct shmipc_view view;
    DONE(try_all()); /* what is allocated once for all has been */
    for (int which = 1;; which++) {
        allocations = 0;
        failing = which;
        const int result = try_all();
        const bool over = allocations < which;
        failing = 0;
        char said[700];
        (void)snprintf(said, sizeof said, "%s", shmipc_last_error());
        struct shmipc_consumer_options options;
        shmipc_consumer_options_init(&options);
        options.timeout_ns = 0;
        if (shmipc_consumer_open(&rest, "x", &options) == SHMIPC_SUCCESS) { /* what is owed */
            while (shmipc_consumer_peek(rest, &view) == SHMIPC_SUCCESS) {
                DONE(shmipc_consumer_release(rest));
            }
            shmipc_consumer_free(rest);
        }
        CHECK(!test_exists(test_path("x")));
        if (over) {
            DONE(result);
            break;
        }
        CHECK_RESULT(result, SHMIPC_E_OS);
        CHECK(strstr(said, "no memory") != NULL);
        failures++;
    }
    CHECK(failures >= 8); /* two handles, two dtypes, two schemas, a set, a frame */
#else
    test_skip("this allocator cannot be replaced");
#endif
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_thread_with_a_small_stack_can_do_everything),
        TEST(test_each_allocation_may_fail),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
