/* actor_api_producer.c: see actor_api.h. A producer of numbered messages by shmipc.h. */
#define _GNU_SOURCE
#include "actor_api.h"
#include "actor_life.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct shmipc_producer *producer;

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
    return is_typed() ? shmipc_ring_seq_of(&ring->map, ring->head_pos) : ring->next_seq;
}

/* Whoever takes over finds exactly what was committed. */
static uint64_t take_over(void)
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
    actor_committed = count_committed;
    return stats.count;
}

static void open_it(void)
{
    struct shmipc_producer_options options;
    const char *name = api_ring_name();
    shmipc_producer_options_init(&options);
    options.dtype = is_typed() ? "V72" : NULL;
    options.item_size = is_typed() ? ITEM_LEN : 0;
    options.max_consumers = (board->config & MANY) != 0 ? CONSUMERS : 1;
    options.overflow = overwrites() ? SHMIPC_OVERWRITE : SHMIPC_BLOCK;
    options.capacity = board->bigger ? (is_typed() ? 100 : 8192) : (is_typed() ? 50 : 4096);
    options.spin_ns = actor_random() % 2 == 0 ? 0 : SHMIPC_SPIN_ADAPTIVE;
    const int result = board->hold
                           ? shmipc_producer_open_holding(&producer, name, &options, CONSUMERS)
                           : shmipc_producer_open(&producer, name, &options);
    if (result != SHMIPC_SUCCESS) {
        actor_fail("open came to %d: %s", result, shmipc_last_error());
    }
}

/* ---- sending -------------------------------------------------------------------------------- */

/* The unsent rest of `count` messages from `number` on, by one call. A result; *sent grows. */
static int send_copies(uint64_t number, uint64_t count, uint64_t *sent)
{
    static unsigned char bytes[MOST_AT_ONCE][LONGEST_PAYLOAD];
    static unsigned char items[MOST_AT_ONCE * ITEM_LEN];
    struct shmipc_view views[MOST_AT_ONCE];
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
        sender_write((unsigned char *)room + i * ITEM_LEN, number + i, len);
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
        if (result == SHMIPC_E_CONSUMER_DIED && is_durable()) {
            actor_told(start_ns);
            actor_nap(200000);
            start_ns = shmipc_now_ns();
        } else if (result != SHMIPC_SUCCESS && result != SHMIPC_E_FULL &&
                   result != SHMIPC_E_INTERRUPTED) {
            actor_fail("sending came to %d: %s", result, shmipc_last_error());
        }
        if (sent < count && actor->command == LEAVE) {
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
    actor->number = board->committed;
    return sent == count;
}

static void close_it(void)
{
    if (shmipc_producer_interrupt(producer) != SHMIPC_SUCCESS ||
        shmipc_producer_close(producer) != SHMIPC_SUCCESS) {
        actor_fail("close: %s", shmipc_last_error());
    }
}

_Noreturn void be_api_producer(void)
{
    static const struct sender by_api = {
        .open = open_it,
        .take_over = take_over,
        .send = send_some,
        .close = close_it,
    };
    live_by_sending(&by_api);
    shmipc_producer_free(producer);
    _exit(0);
}
