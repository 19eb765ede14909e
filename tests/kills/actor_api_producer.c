/* actor_api_producer.c: see actor_api.h. A producer of numbered messages by shmipc.h. */
#define _GNU_SOURCE
#include "actor_api.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BURST 100      /* more than the ring holds, so that it fills */
#define REST_NS 300000 /* long enough for consumers to run dry and sleep */
#define MOST 4         /* messages in one call */

static struct shmipc_producer *producer;

static bool is_typed(void)
{
    return (board->config & TYPED) != 0;
}

const char *api_ring_name(void)
{
    static char dir[SHMIPC_PATH_MAX];
    char *slash;
    memcpy(dir, board->path, sizeof dir);
    slash = strrchr(dir, '/');
    *slash = '\0';
    if (setenv("SHMIPC_DIR", dir, 1) != 0) {
        actor_fail("setenv failed");
    }
    return slash + 1 + strlen(SHMIPC_FILE_PREFIX);
}

/* Messages that are committed, as the one commit in progress leaves them. */
static uint64_t count_committed(void)
{
    const struct shmipc_ring_producer *ring = &producer->role.ring;
    return is_typed() ? shmipc_ring_seq_of(&ring->ring, ring->head_pos) : ring->next_seq;
}

/* Whoever takes over finds exactly what was committed. */
static void check_take_over(void)
{
    struct shmipc_producer_stats stats;
    if (shmipc_producer_stats(producer, &stats) != SHMIPC_SUCCESS) {
        actor_fail("stats: %s", shmipc_last_error());
    }
    const uint64_t committed = board->committed;
    const uint64_t most = board->external != 0 ? (uint64_t)board->committing : committed;
    if (stats.count < committed) {
        board->missing += committed - stats.count;
    }
    if (stats.count < committed || stats.count > most) {
        actor_fail("the ring goes on at message %llu, but %llu were committed",
                   (unsigned long long)stats.count, (unsigned long long)committed);
    }
    if (stats.count != 0 && stats.took_over == 0) {
        actor_fail("message %llu of a ring that was not taken over",
                   (unsigned long long)stats.count);
    }
    board->committed = stats.count;
    board->committing = stats.count;
    seat->number = stats.count;
}

static void open_it(void)
{
    struct shmipc_producer_options options;
    const char *name = api_ring_name();
    shmipc_producer_options_init(&options);
    options.dtype = is_typed() ? "V72" : NULL;
    options.item_size = is_typed() ? ITEM_LEN : 0;
    options.consumers = (board->config & MANY) != 0 ? CONSUMERS : 1;
    options.overflow = (board->config & OVERWRITE) != 0 ? SHMIPC_OVERWRITE : SHMIPC_BLOCK;
    options.capacity = board->bigger ? (is_typed() ? 100 : 8192) : (is_typed() ? 50 : 4096);
    options.spin_ns = actor_random() % 2 == 0 ? 0 : SHMIPC_SPIN_ADAPTIVE;
    seat->state = ARRIVING;
    board->arriving = 1;
    board->producers++;
    actor_phase(OPENING);
    const uint64_t start_ns = shmipc_now_ns();
    const int result = shmipc_producer_open(&producer, name, &options);
    actor_waited(start_ns);
    if (result != SHMIPC_SUCCESS) {
        actor_fail("open came to %d: %s", result, shmipc_last_error());
    }
    board->arriving = 0;
    actor_phase(STREAMING);
    check_take_over();
    actor_committed = count_committed;
    seat->state = FLOWING;
}

/* ---- sending -------------------------------------------------------------------------------- */

/* The unsent rest of `count` messages from `number` on, by one call. A result; *sent grows. */
static int send_copies(uint64_t number, uint64_t count, uint64_t *sent)
{
    static unsigned char bytes[MOST][LONGEST_PAYLOAD];
    static unsigned char items[MOST * ITEM_LEN];
    struct shmipc_view views[MOST];
    for (uint64_t i = *sent; i < count; i++) {
        const uint64_t len = payload_len(board->config, number + i);
        payload_write(bytes[i], number + i, 0, len, len);
        memcpy(items + i * ITEM_LEN, bytes[i], ITEM_LEN);
        views[i] = (struct shmipc_view){.data = bytes[i],
                                        .len = len,
                                        .kind = (uint16_t)(1 + (number + i) % 7),
                                        .flags = (uint16_t)(number + i)};
    }
    int result;
    if (count == 1) {
        const uint32_t kind = is_typed() ? 0 : views[0].kind;
        const uint32_t flags = is_typed() ? 0 : views[0].flags;
        result = shmipc_producer_send(producer, bytes[0], (size_t)views[0].len, kind, flags,
                                      API_WAIT_NS);
        *sent = result == SHMIPC_SUCCESS;
    } else if (is_typed()) {
        uint64_t more = 0;
        result = shmipc_producer_send_n(producer, items + *sent * ITEM_LEN, count - *sent,
                                        API_WAIT_NS, &more);
        *sent += more;
    } else {
        size_t more = 0;
        result = shmipc_producer_send_messages(producer, views + *sent, (size_t)(count - *sent),
                                               API_WAIT_NS, &more);
        *sent += more;
    }
    return result;
}

static void write_payload(unsigned char *at, uint64_t number, uint64_t len)
{
    payload_write(at, number, 0, len / 2, len);
    actor_step(AT_WRITE_HALF);
    payload_write(at, number, len / 2, len, len);
}

/* All of `count` items, or one message, in place. A result. */
static int send_in_place(uint64_t number, uint64_t count, uint64_t *sent)
{
    void *room = NULL;
    const uint64_t len = payload_len(board->config, number);
    int result = is_typed() ? shmipc_producer_reserve_n(producer, count, API_WAIT_NS, &room)
                            : shmipc_producer_reserve(producer, (size_t)len, API_WAIT_NS, &room);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (actor_random() % 16 == 0) { /* never mind */
        memset(room, 0xee, (size_t)len);
        result = shmipc_producer_abort(producer);
        return result == SHMIPC_SUCCESS ? SHMIPC_E_INTERRUPTED : result;
    }
    for (uint64_t i = 0; i < (is_typed() ? count : 1); i++) {
        write_payload((unsigned char *)room + i * ITEM_LEN, number + i, len);
    }
    actor_step(AT_WRITE_WHOLE);
    result = is_typed() ? shmipc_producer_commit_n(producer, count)
                        : shmipc_producer_commit(producer, (size_t)len, (uint32_t)(1 + number % 7),
                                                 (uint32_t)number & 0xffffu);
    *sent = result != SHMIPC_SUCCESS ? 0 : is_typed() ? count : 1;
    return result;
}

/* False: told to leave while the ring was full. */
static bool send_some(uint64_t count)
{
    const uint64_t first = count_committed();
    const bool in_place = actor_random() % 2 == 0;
    uint64_t sent = 0;
    uint64_t start_ns = shmipc_now_ns();
    count = in_place && !is_typed() ? 1 : count;
    board->committing = first + count;
    while (sent < count) {
        const int result =
            in_place ? send_in_place(first, count, &sent) : send_copies(first, count, &sent);
        if (result == SHMIPC_E_CONSUMER_DIED && (board->config & (OVERWRITE | MANY)) == 0) {
            actor_told(start_ns);
            actor_nap(200000);
            start_ns = shmipc_now_ns();
        } else if (result != SHMIPC_SUCCESS && result != SHMIPC_E_FULL &&
                   result != SHMIPC_E_INTERRUPTED) {
            actor_fail("sending came to %d: %s", result, shmipc_last_error());
        }
        if (sent < count && seat->command == LEAVE) {
            break;
        }
    }
    if (shmipc_now_ns() - start_ns > 1000000) {
        actor_waited(start_ns);
    }
    if (count_committed() != first + sent) {
        actor_fail("%llu of %llu messages were said to be sent, and %llu were",
                   (unsigned long long)sent, (unsigned long long)count,
                   (unsigned long long)(count_committed() - first));
    }
    board->committing = (uint64_t)board->committed;
    board->sent += sent;
    seat->number = board->committed;
    return sent == count;
}

static bool send_burst(void)
{
    for (uint64_t sent = 0; sent < BURST && board->finish == 0;) {
        const uint64_t before = board->committed;
        const uint64_t count = actor_random() % 8 == 0 ? 2 + actor_random() % (MOST - 1) : 1;
        if (!send_some(count)) {
            return false;
        }
        sent += (uint64_t)board->committed - before;
    }
    return true;
}

static void close_it(void)
{
    seat->state = LEAVING;
    actor_phase(CLOSING);
    const uint64_t start_ns = shmipc_now_ns();
    if (shmipc_producer_interrupt(producer) != SHMIPC_SUCCESS ||
        shmipc_producer_close(producer) != SHMIPC_SUCCESS) {
        actor_fail("close: %s", shmipc_last_error());
    }
    actor_waited(start_ns);
    shmipc_producer_free(producer);
    _exit(0);
}

_Noreturn void be_api_producer(void)
{
    open_it();
    for (;;) {
        while (board->finish == 0 && seat->command == STAY && send_burst()) {
            actor_nap(REST_NS);
        }
        if (seat->command == STAY) {
            board->total = board->committed + 1; /* one more, to wake whoever waits */
            (void)send_some(1);
        }
        if (seat->command == LEAVE || actor_idle()) {
            close_it();
        }
    }
}
