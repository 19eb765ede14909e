/*
 * misuse.c: every rule of shmipc.h, broken: what comes of it has a name, and nothing else happens.
 *
 * Owns:     `misuse CASE NAME`, answered by "ok what=RESULT ...". What is right is in run.py's
 *           table.
 */
#include "peer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(what, call) printf(" " what "=%s", result_name(call))

/* A ring of 4 KiB with one of each on it, or the end of this process. */
static struct shmipc_producer *make(const char *name, uint32_t overflow)
{
    struct shmipc_producer_options options;
    struct shmipc_producer *made;
    shmipc_producer_options_init(&options);
    options.capacity = 4096;
    options.overflow = overflow;
    const int result = shmipc_producer_open(&made, name, &options);
    if (result != SHMIPC_SUCCESS) {
        answer_result(result, 0);
        exit(1);
    }
    return made;
}

static struct shmipc_consumer *join(const char *name)
{
    struct shmipc_consumer_options options;
    struct shmipc_consumer *joined;
    shmipc_consumer_options_init(&options);
    options.timeout_ns = 0;
    const int result = shmipc_consumer_open(&joined, name, &options);
    if (result != SHMIPC_SUCCESS) {
        answer_result(result, 0);
        exit(1);
    }
    return joined;
}

/* Every function of a producer. */
static void all_of_producer(struct shmipc_producer *p)
{
    const struct shmipc_view message = {.data = "x", .len = 1, .count = 1, .kind = 1};
    struct shmipc_info info;
    struct shmipc_producer_stats stats;
    uint64_t sent;
    size_t sent_messages;
    void *at;
    SAY("send", shmipc_producer_send(p, "x", 1, 1, 0, 0));
    SAY("send_n", shmipc_producer_send_n(p, "x", 1, 0, &sent));
    SAY("send_messages", shmipc_producer_send_messages(p, &message, 1, 0, &sent_messages));
    SAY("reserve", shmipc_producer_reserve(p, 1, 0, &at));
    SAY("commit", shmipc_producer_commit(p, 1, 1, 0));
    SAY("reserve_n", shmipc_producer_reserve_n(p, 1, 0, &at));
    SAY("commit_n", shmipc_producer_commit_n(p, 1));
    SAY("abort", shmipc_producer_abort(p));
    SAY("wait_for_consumers", shmipc_producer_wait_for_consumers(p, 1, 0));
    SAY("unlink", shmipc_producer_unlink(p));
    SAY("interrupt", shmipc_producer_interrupt(p));
    SAY("info", shmipc_producer_info(p, &info));
    SAY("stats", shmipc_producer_stats(p, &stats));
    SAY("close", shmipc_producer_close(p));
}

static void all_of_consumer(struct shmipc_consumer *c)
{
    struct shmipc_consumer *const consumers[1] = {c};
    struct shmipc_frame *frame;
    struct shmipc_view view;
    struct shmipc_info info;
    struct shmipc_consumer_stats stats;
    unsigned char byte;
    size_t count;
    SAY("peek", shmipc_consumer_peek(c, &view));
    SAY("peek_n", shmipc_consumer_peek_n(c, 1, &view));
    SAY("peek_messages", shmipc_consumer_peek_messages(c, &view, 1, &count));
    SAY("release", shmipc_consumer_release(c));
    SAY("release_n", shmipc_consumer_release_n(c, 1));
    SAY("recv", shmipc_consumer_recv(c, &byte, 1, &view, 0));
    SAY("wait", shmipc_consumer_wait(c, 0));
    SAY("wait_any", shmipc_wait(consumers, 1, &byte, 0));
    SAY("read", shmipc_consumer_read(c, &frame, 0));
    SAY("read_n", shmipc_consumer_read_n(c, 1, &frame, 0));
    SAY("interrupt", shmipc_consumer_interrupt(c));
    SAY("info", shmipc_consumer_info(c, &info));
    SAY("stats", shmipc_consumer_stats(c, &stats));
    SAY("close", shmipc_consumer_close(c));
    printf(" intact=%d", shmipc_consumer_is_intact(c));
}

static void misuse_null(const char *name)
{
    struct shmipc_producer *p = make(name, SHMIPC_BLOCK);
    struct shmipc_consumer *c = join(name);
    struct shmipc_producer *no_producer = NULL;
    struct shmipc_consumer *no_consumer = NULL;
    struct shmipc_view view;
    size_t sent;
    int result;
    all_of_producer(NULL);
    printf(" ;");
    all_of_consumer(NULL);
    printf(" ;");
    SAY("producer_open", shmipc_producer_open(NULL, name, NULL));
    SAY("producer_name", shmipc_producer_open(&no_producer, NULL, NULL));
    SAY("consumer_open", shmipc_consumer_open(NULL, name, NULL));
    SAY("consumer_name", shmipc_consumer_open(&no_consumer, NULL, NULL));
    SAY("data", shmipc_producer_send(p, NULL, 1, 1, 0, 0));
    SAY("messages", shmipc_producer_send_messages(p, NULL, 1, 0, &sent));
    SAY("room", shmipc_producer_reserve(p, 1, 0, NULL));
    SAY("producer_info", shmipc_producer_info(p, NULL));
    SAY("producer_stats", shmipc_producer_stats(p, NULL));
    result = shmipc_producer_send(p, NULL, 0, 1, 0, 0); /* nothing, from nowhere */
    SAY("nothing", result);
    SAY("view", shmipc_consumer_peek(c, NULL));
    SAY("views", shmipc_consumer_peek_messages(c, NULL, 1, &sent));
    SAY("frame", shmipc_consumer_read(c, NULL, 0));
    SAY("wait", shmipc_wait(NULL, 1, NULL, 0));
    SAY("consumer_info", shmipc_consumer_info(c, NULL));
    SAY("frame_view", shmipc_frame_view(NULL, &view));
    printf(" frame_intact=%d", shmipc_frame_is_intact(NULL));
    SAY("recv", shmipc_consumer_recv(c, NULL, 0, NULL, 0)); /* and it is there */
    shmipc_frame_release(NULL);
    shmipc_producer_free(NULL);
    shmipc_consumer_free(NULL);
    shmipc_producer_options_init(NULL);
    shmipc_consumer_options_init(NULL);
    shmipc_consumer_free(c);
    shmipc_producer_free(p);
}

static void misuse_closed(const char *name)
{
    struct shmipc_producer *p = make(name, SHMIPC_BLOCK);
    struct shmipc_consumer *c = join(name);
    SAY("first", shmipc_producer_close(p));
    all_of_producer(p);
    printf(" ;");
    SAY("first", shmipc_consumer_close(c));
    all_of_consumer(c);
    shmipc_consumer_free(c);
    shmipc_producer_free(p);
}

static void misuse_wrong(const char *name)
{
    struct shmipc_producer *p = make(name, SHMIPC_BLOCK);
    struct shmipc_consumer *c = join(name);
    void *foreign = calloc(1, 1 << 16); /* memory that was never a handle */
    all_of_producer((struct shmipc_producer *)(void *)c);
    printf(" ;");
    all_of_consumer((struct shmipc_consumer *)(void *)p);
    printf(" ;");
    all_of_producer(foreign);
    printf(" ;");
    all_of_consumer(foreign);
    shmipc_producer_free((struct shmipc_producer *)(void *)c); /* neither frees the other's */
    shmipc_consumer_free((struct shmipc_consumer *)(void *)p);
    printf(" ;");
    SAY("send", shmipc_producer_send(p, "x", 1, 1, 0, 0));
    SAY("recv", shmipc_consumer_recv(c, foreign, 1, NULL, 0));
    shmipc_consumer_free(c);
    shmipc_producer_free(p);
    free(foreign);
}

static int open_with(const char *name, const char *what)
{
    struct shmipc_producer_options options;
    struct shmipc_producer *made = NULL;
    const uint64_t shape[1] = {3};
    shmipc_producer_options_init(&options);
    if (strcmp(what, "no consumers") == 0) {
        options.max_consumers = 0;
    } else if (strcmp(what, "consumers") == 0) {
        options.max_consumers = 1025;
    } else if (strcmp(what, "overflow") == 0) {
        options.overflow = 9;
    } else if (strcmp(what, "item_size") == 0) {
        options.dtype = "<f8";
        options.item_size = 9;
    } else if (strcmp(what, "axes") == 0) {
        options.dtype = "<f8";
        options.axes = 1; /* and no shape */
    } else if (strcmp(what, "shape") == 0) {
        options.shape = shape; /* and no dtype */
        options.axes = 1;
    } else if (strcmp(what, "abi") == 0) {
        options.abi = 99;
    } else if (strcmp(what, "size") == 0) {
        options.size = 3;
    } else {
        options.dtype = what;
    }
    const int result = shmipc_producer_open(&made, name, &options);
    shmipc_producer_free(made);
    return result;
}

static void misuse_arguments(const char *name)
{
    struct shmipc_consumer_options options;
    struct shmipc_consumer *other = NULL;
    char long_name[256] = {0};
    memset(long_name, 'x', 201);
    SAY("no_consumers", open_with(name, "no consumers"));
    SAY("consumers", open_with(name, "consumers"));
    SAY("overflow", open_with(name, "overflow"));
    SAY("item_size", open_with(name, "item_size"));
    SAY("axes", open_with(name, "axes"));
    SAY("shape", open_with(name, "shape"));
    SAY("dtype", open_with(name, "rubbish("));
    SAY("objects", open_with(name, "|O"));
    SAY("no_field", open_with(name, "[]"));
    SAY("empty_name", open_with("", "<f8"));
    SAY("path", open_with("../x", "<f8"));
    SAY("long_name", open_with(long_name, "<f8"));
    SAY("abi", open_with(name, "abi"));
    SAY("size", open_with(name, "size"));
    struct shmipc_producer *p = make(name, SHMIPC_BLOCK);
    SAY("kind_0", shmipc_producer_send(p, "x", 1, 0, 0, 0));
    SAY("kind_65536", shmipc_producer_send(p, "x", 1, 65536, 0, 0));
    SAY("flags_65536", shmipc_producer_send(p, "x", 1, 1, 65536, 0));
    SAY("huge", shmipc_producer_send(p, "x", SIZE_MAX, 1, 0, 0));
    SAY("too_large", shmipc_producer_send(p, long_name, 4096, 1, 0, 0));
    shmipc_consumer_options_init(&options);
    options.start = 7;
    SAY("start", shmipc_consumer_open(&other, name, &options));
    options.start = SHMIPC_LATEST; /* of a durable queue */
    SAY("latest", shmipc_consumer_open(&other, name, &options));
    options.start = SHMIPC_RESUME;
    options.abi = 2;
    SAY("consumer_abi", shmipc_consumer_open(&other, name, &options));
    printf(" text=%d", strstr(shmipc_last_error(), "2") != NULL);
    shmipc_producer_free(p);
}

static void misuse_order(const char *name)
{
    struct shmipc_producer *p = make(name, SHMIPC_BLOCK);
    struct shmipc_consumer *c = join(name);
    struct shmipc_frame *frame;
    struct shmipc_view view;
    char buffer[8];
    void *at, *other;
    SAY("commit_nothing", shmipc_producer_commit(p, 0, 1, 0));
    SAY("reserve", shmipc_producer_reserve(p, 8, 0, &at));
    SAY("send_in_reservation", shmipc_producer_send(p, "x", 1, 1, 0, 0));
    SAY("reserve_again", shmipc_producer_reserve(p, 8, 0, &other));
    SAY("commit_more", shmipc_producer_commit(p, 9, 1, 0));
    SAY("commit_kind_0", shmipc_producer_commit(p, 4, 0, 0));
    memcpy(at, "12345678", 8);
    SAY("commit", shmipc_producer_commit(p, 5, 1, 0));
    SAY("abort_nothing", shmipc_producer_abort(p));
    SAY("reserve_items", shmipc_producer_reserve_n(p, 1, 0, &other));
    SAY("send_items", shmipc_producer_send_n(p, "x", 1, 0, NULL));
    SAY("release_nothing", shmipc_consumer_release(c));
    SAY("peek_items", shmipc_consumer_peek_n(c, 1, &view));
    SAY("read_items", shmipc_consumer_read_n(c, 1, &frame, 0));
    SAY("peek", shmipc_consumer_peek(c, &view));
    SAY("read_while_peeked", shmipc_consumer_read(c, &frame, 0));
    SAY("release_more", shmipc_consumer_release_n(c, 2));
    SAY("peek_again", shmipc_consumer_peek(c, &view));
    printf(" len=%d", (int)view.len);
    SAY("recv_small", shmipc_consumer_recv(c, buffer, 4, &view, 0));
    printf(" needed=%d", (int)view.len);
    SAY("recv", shmipc_consumer_recv(c, buffer, 5, &view, 0));
    SAY("recv_empty", shmipc_consumer_recv(c, buffer, 5, &view, 0));
    shmipc_consumer_free(c);
    shmipc_producer_free(p);
}

static void misuse_overrun(const char *name)
{
    struct shmipc_producer *p = make(name, SHMIPC_OVERWRITE);
    struct shmipc_consumer *c = join(name);
    struct shmipc_view view;
    struct shmipc_consumer_stats stats;
    int result = shmipc_producer_send(p, "first", 5, 1, 0, 0);
    SAY("peek", shmipc_consumer_peek(c, &view));
    printf(" intact=%d", shmipc_consumer_is_intact(c));
    for (int i = 0; i < 1000 && result == SHMIPC_SUCCESS; i++) {
        result = shmipc_producer_send(p, "again", 5, 1, 0, 0);
    }
    SAY("send", result);
    printf(" intact=%d", shmipc_consumer_is_intact(c));
    SAY("release", shmipc_consumer_release(c));
    SAY("peek", shmipc_consumer_peek(c, &view));
    SAY("release", shmipc_consumer_release(c));
    result = shmipc_consumer_stats(c, &stats);
    printf(" lost=%d", result == SHMIPC_SUCCESS && stats.lost == view.seq);
    shmipc_consumer_free(c);
    shmipc_producer_free(p);
}

static void misuse_interrupt(const char *name)
{
    struct shmipc_producer *p = make(name, SHMIPC_BLOCK);
    struct shmipc_consumer *c = join(name);
    char byte;
    SAY("interrupt", shmipc_consumer_interrupt(c));
    SAY("recv", shmipc_consumer_recv(c, &byte, 1, NULL, SHMIPC_FOREVER));
    SAY("poll", shmipc_consumer_recv(c, &byte, 1, NULL, 0));
    shmipc_consumer_free(c);
    SAY("interrupt", shmipc_producer_interrupt(p));
    SAY("wait_for_consumers", shmipc_producer_wait_for_consumers(p, 1, SHMIPC_FOREVER));
    SAY("again", shmipc_producer_wait_for_consumers(p, 1, 0));
    shmipc_producer_free(p);
}

static void *wait_inside(void *c)
{
    static int result;
    char byte;
    do { /* until it is the first: the other thread looks in */
        result = shmipc_consumer_recv(c, &byte, 1, NULL, SHMIPC_FOREVER);
    } while (result == SHMIPC_E_MISUSE);
    return &result;
}

/* One thread waits inside; another calls, then closes. */
static void misuse_threads(const char *name)
{
    struct shmipc_producer *p = make(name, SHMIPC_BLOCK);
    struct shmipc_consumer *c = join(name);
    struct shmipc_view view;
    pthread_t thread;
    void *result;
    int peeked;
    if (pthread_create(&thread, NULL, wait_inside, c) != 0) {
        exit(1);
    }
    do { /* until it is inside; run.py knows for how long */
        peeked = shmipc_consumer_peek(c, &view);
    } while (peeked == SHMIPC_E_EMPTY);
    SAY("second", peeked);
    SAY("recv", shmipc_consumer_recv(c, &view, 1, NULL, SHMIPC_FOREVER));
    SAY("close", shmipc_consumer_close(c));
    if (pthread_join(thread, &result) != 0) {
        exit(1);
    }
    SAY("first", *(int *)result);
    shmipc_consumer_free(c);
    shmipc_producer_free(p);
}

static void misuse_fork(const char *name)
{
    struct shmipc_producer *p = make(name, SHMIPC_BLOCK);
    struct shmipc_consumer *c = join(name);
    char byte;
    int status = -1;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        all_of_producer(p);
        printf(" ;");
        all_of_consumer(c);
        printf(" ;");
        fflush(stdout);
        shmipc_consumer_free(c);
        shmipc_producer_free(p);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        exit(1);
    }
    printf(" child=%d", status);
    SAY("send", shmipc_producer_send(p, "x", 1, 1, 0, 0));
    SAY("recv", shmipc_consumer_recv(c, &byte, 1, NULL, 0));
    shmipc_consumer_free(c);
    shmipc_producer_free(p);
}

void do_misuse(const char *what, const char *name)
{
    static const struct {
        const char *name;
        void (*run)(const char *name);
    } cases[] = {
        {"null", misuse_null},           {"closed", misuse_closed},   {"wrong", misuse_wrong},
        {"arguments", misuse_arguments}, {"order", misuse_order},     {"overrun", misuse_overrun},
        {"interrupt", misuse_interrupt}, {"threads", misuse_threads}, {"fork", misuse_fork},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (strcmp(what, cases[i].name) == 0) {
            printf("ok");
            cases[i].run(name);
            answer("%s", "");
            return;
        }
    }
    answer("unsupported");
}
