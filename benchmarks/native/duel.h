/* The match every queue plays: 64-byte messages one way, and to and fro. Defines main().
 *
 * Include it last. The including file is one queue's adapter and defines
 *
 *   struct queue                                      a handle; each process has its own copy
 *   void queue_init(struct queue *)                   before the sides part
 *   void queue_as_producer(struct queue *), queue_as_consumer(struct queue *)   on each side
 *   size_t queue_put(struct queue *, uint64_t seq, uint64_t left)
 *       hands over up to `left` messages, the first numbered seq; how many; 0: full
 *   size_t queue_get(struct queue *, uint64_t seq, uint64_t *differs)
 *       takes messages, checks every one against its number; how many; 0: empty
 *   void queue_finish(struct queue *)                 each side, when it is done with it
 *   QUEUE_IN_THREADS                                  when its memory cannot be shared by processes
 *   void queue_get_asleep(struct queue *, uint64_t seq, uint64_t *differs), QUEUE_SLEEPS
 *       as queue_get, but sleeps until there is one; optional
 *
 *   PROGRAM oneway MESSAGES | pingpong ROUNDS | pingpong-asleep ROUNDS
 */
#include "bench.h"

#ifdef QUEUE_IN_THREADS
#include <pthread.h>
#endif

struct duel {
    struct queue go, back;
    struct bench_start *start;
    uint64_t count;
};

static void duel_oneway(void *context, int role) {
    struct duel *duel = (struct duel *)context;
    const uint64_t count = duel->count;
    uint64_t done = 0, differs = 0, then = 0;
    if (role == 0) {
        queue_as_producer(&duel->go);
        bench_together(duel->start, role);
        while (done < count)
            done += queue_put(&duel->go, done, count - done);
        queue_finish(&duel->go);
        return;
    }
    queue_as_consumer(&duel->go);
    bench_together(duel->start, role);
    const uint64_t first = count / 50; /* the clock starts when both sides are in their stride */
    while (done < first)
        done += queue_get(&duel->go, done, &differs);
    const uint64_t from = done;
    then = bench_now_ns();
    while (done < count)
        done += queue_get(&duel->go, done, &differs);
    const uint64_t took = bench_now_ns() - then;
    queue_finish(&duel->go);
    if (differs)
        bench_fail("messages came out of order or with the wrong content");
    printf("rate_mps=%.4f\n", (double)(count - from) * 1e3 / (double)took);
}

static inline void duel_send(struct queue *queue, uint64_t seq) {
    while (!queue_put(queue, seq, 1))
        ;
}

static inline void duel_receive(struct queue *queue, uint64_t seq, uint64_t *differs) {
    while (!queue_get(queue, seq, differs))
        ;
}

static void duel_meet(struct duel *duel, int role) {
    if (role == 0) {
        queue_as_producer(&duel->go);
        queue_as_consumer(&duel->back);
    } else {
        queue_as_consumer(&duel->go);
        queue_as_producer(&duel->back);
    }
    bench_together(duel->start, role);
}

#define DUEL_PINGPONG(name, receive)                                                              \
    static void name(void *context, int role) {                                                   \
        struct duel *duel = (struct duel *)context;                                               \
        uint64_t differs = 0;                                                                     \
        duel_meet(duel, role);                                                                    \
        if (role == 1) {                                                                          \
            for (uint64_t i = 1; i <= bench_rounds_served(duel->count); i++) {                    \
                receive(&duel->go, i, &differs);                                                  \
                duel_send(&duel->back, i);                                                        \
            }                                                                                     \
        } else {                                                                                  \
            BENCH_TIME_ROUNDS(duel->count, i, {                                                   \
                duel_send(&duel->go, i);                                                          \
                receive(&duel->back, i, &differs);                                                \
            });                                                                                   \
        }                                                                                         \
        queue_finish(&duel->go);                                                                  \
        queue_finish(&duel->back);                                                                \
        if (differs)                                                                              \
            bench_fail("messages came out of order or with the wrong content");                   \
    }

DUEL_PINGPONG(duel_pingpong, duel_receive)
#ifdef QUEUE_SLEEPS
DUEL_PINGPONG(duel_pingpong_asleep, queue_get_asleep)
#endif

#ifdef QUEUE_IN_THREADS
struct duel_thread {
    void (*run)(void *context, int role);
    void *context;
};

static void *duel_thread_main(void *argument) {
    struct duel_thread *thread = (struct duel_thread *)argument;
    bench_pin(1);
    thread->run(thread->context, 1);
    return NULL;
}

static void duel_two_sides(void (*run)(void *context, int role), void *context) {
    struct duel_thread thread = {run, context};
    pthread_t id;
    if (pthread_create(&id, NULL, duel_thread_main, &thread) != 0)
        bench_fail("pthread_create failed");
    bench_pin(0);
    run(context, 0);
    pthread_join(id, NULL);
}
#else
#define duel_two_sides bench_two_processes
#endif

int main(int argc, char **argv) {
    static struct duel duel;
    if (argc != 3)
        bench_fail("usage: PROGRAM oneway MESSAGES | pingpong[-asleep] ROUNDS");
    alarm(60);
    duel.start = (struct bench_start *)bench_map(sizeof *duel.start);
    duel.count = strtoul(argv[2], NULL, 10);
    queue_init(&duel.go);
    if (!strcmp(argv[1], "oneway"))
        duel_two_sides(duel_oneway, &duel);
    else {
        queue_init(&duel.back);
        if (!strcmp(argv[1], "pingpong"))
            duel_two_sides(duel_pingpong, &duel);
#ifdef QUEUE_SLEEPS
        else if (!strcmp(argv[1], "pingpong-asleep"))
            duel_two_sides(duel_pingpong_asleep, &duel);
#endif
        else
            bench_fail("unknown measurement");
    }
    return 0;
}
