/* A C producer of 64-byte items, as an engine that feeds Python would be: it reserves what is free
 * (at most ADAPTER_BATCH items), fills it in place and commits.
 *
 *   ticks NAME ITEMS COUNT      COUNT items into a new typed ring NAME of ITEMS items, once a
 *                               consumer is there; then waits until all is read
 */
#define BENCH_MESSAGE_ALIGN 8 /* a payload behind its 16-byte header */
#include "bench.h"

#include "shmipc_adapter.h"

int main(int argc, char **argv) {
    if (argc != 4)
        bench_fail("usage: ticks NAME ITEMS COUNT");
    alarm(60);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    bench_pin(0);
    const size_t items = strtoul(argv[2], NULL, 10);
    const uint64_t count = strtoul(argv[3], NULL, 10);
    struct adapter_producer producer;
    adapter_create(&producer, argv[1], items);
    printf("ready\n");
    fflush(stdout);
    if (getchar() != 'g') /* the consumer says go */
        bench_fail("nobody said go");
    for (uint64_t done = 0; done < count;) {
        const uint64_t left = count - done;
        size_t got = 0;
        struct bench_message *item = adapter_reserve(
            &producer, left < ADAPTER_BATCH ? (size_t)left : ADAPTER_BATCH, &got);
        if (!item)
            continue;
        for (size_t i = 0; i < got; i++)
            bench_fill(&item[i], done + i);
        adapter_commit(&producer, got);
        done += got;
    }
    (void)getchar(); /* the consumer has read everything and closes our input */
    adapter_end(&producer);
    return 0;
}
