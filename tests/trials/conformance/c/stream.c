/*
 * stream.c: what the C peer sends and takes: the generator, the digest, every way in and out.
 *
 * Owns:     `send` and `take`.
 * Must not know: the scenarios, what is right, anything of src/.
 */
#include "peer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BATCH = 64, MOST_RUNS = 1 << 14 };

/* ---- the generator, and the digest ---------------------------------------------------------- */

uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}

static void fill(unsigned char *at, uint64_t len, uint64_t start)
{
    for (uint64_t j = 0; 8 * j < len; j++) {
        const uint64_t word = mix(start + 1 + j);
        memcpy(at + 8 * j, &word, len - 8 * j < 8 ? (size_t)(len - 8 * j) : 8);
    }
}

static uint64_t digest(const unsigned char *at, uint64_t len, uint64_t seq, uint64_t kind,
                       uint64_t flags)
{
    uint64_t sum = len;
    for (uint64_t j = 0; 8 * j < len; j++) {
        uint64_t word = 0;
        memcpy(&word, at + 8 * j, len - 8 * j < 8 ? (size_t)(len - 8 * j) : 8);
        sum += mix(word ^ mix(j));
    }
    return mix(mix(mix(seq) ^ (kind << 16 | flags)) ^ sum);
}

uint64_t digest_view(const struct shmipc_view *view)
{
    const unsigned char *at = view->data;
    uint64_t sum = 0;
    if (view->stride == 0) {
        return digest(at, view->len, view->seq, view->kind, view->flags);
    }
    const uint64_t len = view->len - (view->count - 1) * view->stride; /* of one item */
    for (uint64_t i = 0; i < view->count; i++) {
        sum += digest(at + i * view->stride, len, view->seq + i, view->kind, view->flags);
    }
    return sum;
}

/* ---- sending -------------------------------------------------------------------------------- */

struct plan {
    uint64_t seed, first, count, low, high, batch;
    int64_t kind, flags, timeout_ns;
};

static struct shmipc_view message(const struct plan *plan, uint64_t number, unsigned char *room)
{
    const uint64_t start = mix(plan->seed + number);
    struct shmipc_view view = {.data = room, .count = 1, .seq = number};
    view.len = plan->low + (start >> 8) % (plan->high - plan->low + 1);
    view.kind = (uint16_t)(plan->kind >= 0 ? (uint64_t)plan->kind : 1 + (start >> 32) % 65535);
    view.flags = (uint16_t)(plan->flags >= 0 ? (uint64_t)plan->flags : start >> 48);
    fill(room, view.len, start);
    return view;
}

static int send_one(const struct plan *plan, uint64_t number, unsigned char *room)
{
    const struct shmipc_view view = message(plan, number, room);
    /* a kind that is too large must reach the library as it is */
    const uint32_t kind = plan->kind > 65535 ? (uint32_t)plan->kind : view.kind;
    return shmipc_producer_send(producer, room, (size_t)view.len, kind, view.flags,
                                plan->timeout_ns);
}

/* In place: more room than is used, and now and then given up first. */
static int reserve_one(const struct plan *plan, uint64_t number, unsigned char *room)
{
    const struct shmipc_view view = message(plan, number, room);
    void *at = NULL;
    int result = SHMIPC_SUCCESS;
    if (number % 5 == 3) {
        result = shmipc_producer_reserve(producer, (size_t)view.len, plan->timeout_ns, &at);
        if (result == SHMIPC_SUCCESS) {
            memset(at, 0xEE, (size_t)view.len);
            result = shmipc_producer_abort(producer);
        }
    }
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_producer_reserve(producer, (size_t)(view.len + plan->batch - 1),
                                         plan->timeout_ns, &at);
    }
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    memcpy(at, room, (size_t)view.len);
    return shmipc_producer_commit(producer, (size_t)view.len, view.kind, view.flags);
}

static int reserve_items(const struct plan *plan, uint64_t number, uint64_t count)
{
    struct shmipc_info info;
    void *at;
    int result = shmipc_producer_info(producer, &info);
    if (result == SHMIPC_SUCCESS) { /* one more than is committed */
        result = shmipc_producer_reserve_n(producer, count + 1, plan->timeout_ns, &at);
    }
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    for (uint64_t i = 0; i < count; i++) {
        (void)message(plan, number + i, (unsigned char *)at + i * info.item_stride);
    }
    return shmipc_producer_commit_n(producer, count);
}

static int send_batch(const struct plan *plan, uint64_t number, uint64_t count, bool typed,
                      unsigned char *room, uint64_t *sent)
{
    struct shmipc_view views[MOST_BATCH];
    size_t sent_messages = 0;
    for (uint64_t i = 0; i < count; i++) {
        views[i] = message(plan, number + i, room);
        room += views[i].len;
    }
    if (typed) {
        return shmipc_producer_send_n(producer, views[0].data, count, plan->timeout_ns, sent);
    }
    const int result = shmipc_producer_send_messages(producer, views, (size_t)count,
                                                     plan->timeout_ns, &sent_messages);
    *sent = sent_messages;
    return result;
}

/* send MODE SEED FIRST COUNT LOW HIGH KIND FLAGS BATCH MS */
void do_send(char **words)
{
    struct plan plan = {.seed = strtoull(words[2], NULL, 10),
                        .first = strtoull(words[3], NULL, 10),
                        .count = strtoull(words[4], NULL, 10),
                        .low = strtoull(words[5], NULL, 10),
                        .high = strtoull(words[6], NULL, 10),
                        .kind = strtoll(words[7], NULL, 10),
                        .flags = strtoll(words[8], NULL, 10),
                        .batch = strtoull(words[9], NULL, 10),
                        .timeout_ns = nanoseconds(words[10])};
    struct shmipc_info info;
    uint64_t done = 0;
    int result = shmipc_producer_info(producer, &info);
    unsigned char *room = malloc((size_t)(plan.high * MOST_BATCH + 1));
    if (room == NULL || plan.batch == 0 || plan.batch > MOST_BATCH) {
        answer("error PEER 0 no memory, or a batch out of range");
        free(room);
        return;
    }
    while (result == SHMIPC_SUCCESS && done < plan.count) {
        const uint64_t number = plan.first + done;
        const uint64_t left = plan.count - done;
        uint64_t count = left < plan.batch ? left : plan.batch;
        if (strcmp(words[1], "many") == 0) {
            result = send_batch(&plan, number, count, info.typed != 0, room, &count);
            done += count;
            continue;
        }
        if (strcmp(words[1], "send") == 0) {
            count = 1;
            result = send_one(&plan, number, room);
        } else if (info.typed != 0) {
            result = reserve_items(&plan, number, count);
        } else {
            count = 1;
            result = reserve_one(&plan, number, room);
        }
        done += result == SHMIPC_SUCCESS ? count : 0;
    }
    free(room);
    answer_result(result, done);
}

/* ---- taking --------------------------------------------------------------------------------- */

struct tally {
    uint64_t count, len, sum, discarded;
    size_t runs;
    uint64_t first[MOST_RUNS], end[MOST_RUNS]; /* of sequence numbers without a gap */
};
static struct tally tally;

static void count_view(const struct shmipc_view *view, uint64_t sum)
{
    tally.count += view->count;
    tally.len += view->stride == 0 ? view->len
                                   : view->count * (view->len - (view->count - 1) * view->stride);
    tally.sum += sum;
    if (tally.runs > 0 && tally.end[tally.runs - 1] == view->seq) {
        tally.end[tally.runs - 1] += view->count;
    } else if (tally.runs < MOST_RUNS) {
        tally.first[tally.runs] = view->seq;
        tally.end[tally.runs++] = view->seq + view->count;
    }
}

static int take_copy(unsigned char **buffer, size_t *len, int64_t timeout_ns)
{
    struct shmipc_view view;
    int result = shmipc_consumer_recv(consumer, *buffer, *len, &view, timeout_ns);
    while (result == SHMIPC_E_TOO_LARGE) { /* make room; if it was overwritten, for a larger one */
        unsigned char *larger = realloc(*buffer, (size_t)view.len);
        if (larger == NULL) {
            return result;
        }
        *buffer = larger;
        *len = (size_t)view.len;
        result = shmipc_consumer_recv(consumer, *buffer, *len, &view, timeout_ns);
    }
    if (result == SHMIPC_SUCCESS) {
        count_view(&view, digest_view(&view));
    }
    return result;
}

static int take_in_place(const char *mode, uint64_t max, int64_t timeout_ns, bool typed)
{
    struct shmipc_view views[MOST_BATCH];
    uint64_t sums[MOST_BATCH];
    size_t count = 1;
    int result = shmipc_consumer_wait(consumer, timeout_ns);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (strcmp(mode, "peek") == 0) {
        result = shmipc_consumer_peek(consumer, views);
    } else if (typed) {
        result = shmipc_consumer_peek_n(consumer, max, views);
    } else {
        result = shmipc_consumer_peek_messages(consumer, views, (size_t)max, &count);
    }
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (!typed && count > 2 && views[0].seq % 3 == 0) { /* give back a part, look at it again */
        count /= 2;
    }
    for (size_t i = 0; i < count; i++) {
        sums[i] = digest_view(&views[i]);
    }
    const bool intact = shmipc_consumer_is_intact(consumer);
    result = typed || strcmp(mode, "peek") == 0 ? shmipc_consumer_release(consumer)
                                                : shmipc_consumer_release_n(consumer, count);
    for (size_t i = 0; intact && result == SHMIPC_SUCCESS && i < count; i++) {
        count_view(&views[i], sums[i]);
    } /* what was overwritten meanwhile counts as lost */
    return result == SHMIPC_E_OVERRUN ? SHMIPC_SUCCESS : result;
}

static int take_frame(const char *mode, uint64_t max, int64_t timeout_ns)
{
    struct shmipc_frame *frame;
    struct shmipc_view view;
    int result = strcmp(mode, "read") == 0
                     ? shmipc_consumer_read(consumer, &frame, timeout_ns)
                     : shmipc_consumer_read_n(consumer, max, &frame, timeout_ns);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    result = shmipc_frame_view(frame, &view);
    if (result == SHMIPC_SUCCESS) {
        const uint64_t sum = digest_view(&view);
        if (shmipc_frame_is_intact(frame)) {
            count_view(&view, sum);
        } else {
            tally.discarded += view.count;
        }
    }
    shmipc_frame_release(frame);
    return result;
}

/* take MODE COUNT BATCH MS */
void do_take(char **words)
{
    const uint64_t wanted = strtoull(words[2], NULL, 10);
    const uint64_t batch = strtoull(words[3], NULL, 10);
    const int64_t timeout_ns = nanoseconds(words[4]);
    struct shmipc_info info;
    struct shmipc_consumer_stats stats = {0};
    unsigned char *buffer = malloc(64);
    size_t len = 64;
    memset(&tally, 0, offsetof(struct tally, first));
    int result =
        batch == 0 || batch > MOST_BATCH ? SHMIPC_E_INVALID : shmipc_consumer_info(consumer, &info);
    while (result == SHMIPC_SUCCESS && buffer != NULL && tally.count < wanted) {
        const uint64_t left = wanted - tally.count;
        const uint64_t max = left < batch ? left : batch;
        if (strcmp(words[1], "recv") == 0) {
            result = take_copy(&buffer, &len, timeout_ns);
        } else if (strncmp(words[1], "peek", 4) == 0) {
            result = take_in_place(words[1], max, timeout_ns, info.typed != 0);
        } else {
            result = take_frame(words[1], max, timeout_ns);
        }
    }
    free(buffer);
    const char *text = result == SHMIPC_SUCCESS ? "" : result_facts(result);
    const uint64_t lost = shmipc_consumer_stats(consumer, &stats) == 0 ? stats.lost : 0;
    printf("ok %" PRIu64 " %" PRIu64 " %016" PRIx64 " %" PRIu64 " %" PRIu64 " %s ", tally.count,
           tally.len, tally.sum, lost, tally.discarded,
           result == SHMIPC_SUCCESS ? "-" : result_name(result));
    for (size_t i = 0; i < tally.runs; i++) {
        printf("%s%" PRIu64 "+%" PRIu64, i > 0 ? "," : "", tally.first[i],
               tally.end[i] - tally.first[i]);
    }
    answer(" | %s", text);
}
