/* actor_api_consumer.c: see actor_api.h. A consumer that reads by shmipc.h, in each of its ways,
 * and checks every byte and every number. */
#define _GNU_SOURCE
#include "actor_api.h"
#include "actor_life.h"

#include <unistd.h>

#define MOST 4 /* messages or items in one call */
#define MOST_FRAMES 3

static struct shmipc_consumer *consumer;
static const char *name;
static struct shmipc_consumer_options options;
static struct shmipc_frame *frames[MOST_FRAMES];
static uint64_t frame_numbers[MOST_FRAMES];

/* Of what nobody expects here. */
static void expect(int result, const char *what)
{
    if (result != SHMIPC_SUCCESS) {
        actor_fail("%s came to %d: %s", what, result, shmipc_last_error());
    }
}

static uint64_t count_lost(void)
{
    struct shmipc_consumer_stats stats;
    expect(shmipc_consumer_stats(consumer, &stats), "stats");
    return stats.lost;
}

static const struct shmipc_ring_consumer *open_it(void)
{
    const int result = shmipc_consumer_open(&consumer, name, &options);
    if (result == SHMIPC_E_NOT_FOUND) {
        return NULL;
    }
    if (result != SHMIPC_SUCCESS) {
        actor_fail("open came to %d: %s", result, shmipc_last_error());
    }
    return &consumer->role.ring;
}

/* ---- judging -------------------------------------------------------------------------------- */

/* The `index`th of what `view` says lies at `bytes`: whole, and the one that is due. */
static void check(const struct shmipc_view *view, const unsigned char *bytes, uint64_t index)
{
    const uint64_t number = view->seq + index;
    const uint64_t found = reader_check(bytes, view->len, view->kind, view->flags, number);
    const uint64_t due = reader_due(number);
    if (found != number || number != due) {
        board->repeated += found < due;
        board->missing += found > due;
        actor_fail("message %llu came where %llu was due, as number %llu",
                   (unsigned long long)found, (unsigned long long)due, (unsigned long long)number);
    }
    reader_received(number);
}

/* Where the cursor will be: at the oldest frame, or behind all that was read. */
static void note_releasing(void)
{
    uint64_t oldest = actor->number;
    for (int i = 0; i < MOST_FRAMES; i++) {
        if (frames[i] != NULL && frame_numbers[i] < oldest) {
            oldest = frame_numbers[i];
        }
    }
    if (is_durable()) {
        board->releasing = oldest;
    }
}

/* ---- reading in place ----------------------------------------------------------------------- */

static void end_a_frame(void)
{
    const uint64_t start = actor_random();
    for (uint64_t i = 0; i < MOST_FRAMES; i++) {
        const uint64_t which = (start + i) % MOST_FRAMES;
        struct shmipc_frame *frame = frames[which];
        if (frame != NULL) {
            frames[which] = NULL;
            note_releasing();
            shmipc_frame_release(frame);
            return;
        }
    }
}

static void release_all(void)
{
    for (int i = 0; i < MOST_FRAMES; i++) {
        end_a_frame();
    }
}

/* One or several, released all or in part. A result. */
static int peek_and_release(void)
{
    struct shmipc_view views[MOST];
    size_t messages = 1;
    int result;
    if (actor_random() % 2 == 0) {
        result = shmipc_consumer_peek(consumer, &views[0]);
    } else if (is_typed()) {
        result = shmipc_consumer_peek_n(consumer, MOST, &views[0]);
    } else {
        result = shmipc_consumer_peek_messages(consumer, views, MOST, &messages);
    }
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    reader_came();
    const uint64_t count = is_typed() ? views[0].count : messages;
    const uint64_t taken = actor_random() % 2 == 0 ? count : 1 + actor_random() % count;
    for (uint64_t i = 0; i < taken; i++) {
        const struct shmipc_view *view = is_typed() ? &views[0] : &views[i];
        const uint64_t index = is_typed() ? i : 0;
        if (i == taken / 2) {
            actor_step(AT_READ_HALF);
        }
        check(view, (const unsigned char *)view->data + index * view->stride, index);
    }
    reader_processed();
    note_releasing();
    expect(taken == count ? shmipc_consumer_release(consumer)
                          : shmipc_consumer_release_n(consumer, taken),
           "release");
    return SHMIPC_SUCCESS;
}

/* Taken, and kept for a while. A result. */
static int read_a_frame(void)
{
    struct shmipc_view view;
    struct shmipc_frame *frame;
    int place = 0;
    while (place < MOST_FRAMES && frames[place] != NULL) {
        place++;
    }
    if (place == MOST_FRAMES) {
        end_a_frame();
        return SHMIPC_SUCCESS;
    }
    const int result = is_typed() ? shmipc_consumer_read_n(consumer, MOST, &frame, 0)
                                  : shmipc_consumer_read(consumer, &frame, 0);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    reader_came();
    expect(shmipc_frame_view(frame, &view), "view");
    frames[place] = frame;
    frame_numbers[place] = view.seq;
    for (uint64_t i = 0; i < view.count; i++) {
        if (i == view.count / 2) {
            actor_step(AT_READ_HALF);
        }
        check(&view, (const unsigned char *)view.data + i * view.stride, i);
    }
    if (!shmipc_frame_is_intact(frame)) {
        actor_fail("a frame of a ring that never overwrites is not intact");
    }
    reader_processed();
    if (actor_random() % 4 != 0) {
        end_a_frame();
    }
    return SHMIPC_SUCCESS;
}

/* ---- reading copies ------------------------------------------------------------------------- */

static int receive(void)
{
    unsigned char bytes[LONGEST_PAYLOAD];
    struct shmipc_view view;
    const uint64_t number = actor->number;
    if (is_durable()) { /* the call gives it back before we have looked at it */
        board->processed = number + 1;
        actor->number = number + 1;
        note_releasing();
        actor->number = number;
    }
    const int result = shmipc_consumer_recv(consumer, bytes, sizeof bytes, &view, 0);
    if (result == SHMIPC_SUCCESS) {
        reader_came();
        actor_step(AT_READ_HALF);
        check(&view, bytes, 0);
        actor_step(AT_PROCESSED);
    } else if (is_durable()) {
        board->processed = number;
        note_releasing();
    }
    return result;
}

/* "overwrite": looked at while it may change, and judged if it did not. A result. */
static int peek_and_copy(void)
{
    unsigned char bytes[LONGEST_PAYLOAD];
    struct shmipc_view view;
    int result = shmipc_consumer_peek(consumer, &view);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    reader_came();
    const uint64_t len = view.len < sizeof bytes ? view.len : sizeof bytes;
    shmipc_copy_speculative(bytes, view.data, (size_t)len);
    actor_step(AT_READ_HALF);
    if (actor_random() % 64 == 0) {
        actor_nap(100000); /* long enough to be lapped */
    }
    const bool intact = shmipc_consumer_is_intact(consumer);
    result = shmipc_consumer_release(consumer);
    if (result == SHMIPC_SUCCESS) {
        if (!intact) {
            actor_fail("released as whole, after it was said not to be");
        }
        check(&view, bytes, 0);
        reader_processed();
    } else if (result != SHMIPC_E_OVERRUN) {
        expect(result, "release");
    }
    return SHMIPC_SUCCESS;
}

static int look_at_a_frame(void)
{
    unsigned char bytes[LONGEST_PAYLOAD] = {0};
    struct shmipc_view view;
    struct shmipc_frame *frame;
    const int result = shmipc_consumer_read(consumer, &frame, 0);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    reader_came();
    expect(shmipc_frame_view(frame, &view), "view");
    const uint64_t len = view.len < sizeof bytes ? view.len : sizeof bytes;
    shmipc_copy_speculative(bytes, view.data, (size_t)len);
    if (shmipc_frame_is_intact(frame)) {
        check(&view, bytes, 0);
    } else {
        reader_not_whole();
    }
    shmipc_frame_release(frame);
    return SHMIPC_SUCCESS;
}

static int read_somehow(void)
{
    const uint64_t how = actor_random() % 4;
    if (overwrites()) {
        return how == 0 ? look_at_a_frame() : how == 1 ? receive() : peek_and_copy();
    }
    if (how == 0) {
        release_all(); /* recv releases everything before it, but not what a frame holds */
        return receive();
    }
    return how == 1 ? peek_and_release() : read_a_frame();
}

/* A read may be the call that tells of a death; it is told once. The number of producers before
 * that read, which is another once a successor arrives; -1: nothing was told, or one was arriving.
 */
static int told_of = -1;

static bool read_some(void)
{
    const int producers = board->producers;
    const bool arriving = board->arriving != 0; /* after the count: it goes up while one arrives */
    const int result = read_somehow();
    told_of = -1;
    if (result == SHMIPC_E_PRODUCER_DIED) {
        actor->told_ns = shmipc_now_ns();
        told_of = arriving ? -1 : producers;
    }
    if (result == SHMIPC_E_EMPTY || result == SHMIPC_E_CLOSED || result == SHMIPC_E_PRODUCER_DIED) {
        return false;
    }
    expect(result, "reading");
    return true;
}

/* ---- waiting -------------------------------------------------------------------------------- */

static bool wait_for_more(void)
{
    int result = SHMIPC_SUCCESS;
    if (told_of != -1 && told_of == board->producers) {
        told_of = -1;
        return true; /* and no successor has come meanwhile */
    }
    if (actor->wait_any) {
        unsigned char ready[1];
        result = shmipc_wait(&consumer, 1, ready, API_WAIT_NS);
    }
    if (result == SHMIPC_SUCCESS) { /* or ready for its end, which this will tell */
        result = shmipc_consumer_wait(consumer, actor->wait_any ? 0 : API_WAIT_NS);
    }
    if (result == SHMIPC_SUCCESS || result == SHMIPC_E_EMPTY) {
        return false;
    }
    if (result != SHMIPC_E_PRODUCER_DIED && result != SHMIPC_E_CLOSED) {
        expect(result, "waiting for data");
    }
    return true;
}

static void close_it(void)
{
    expect(shmipc_consumer_interrupt(consumer), "interrupt");
    expect(shmipc_consumer_close(consumer), "close");
}

_Noreturn void be_api_consumer(void)
{
    static const struct reader by_api = {
        .open = open_it,
        .count_lost = count_lost,
        .read = read_some,
        .release_all = release_all,
        .wait = wait_for_more,
        .close = close_it,
    };
    name = api_ring_name();
    shmipc_consumer_options_init(&options);
    options.start = actor_random() % 2 == 0 || actor->step == SHMIPC_AT_ATTACH_USED
                        ? SHMIPC_EARLIEST
                        : SHMIPC_RESUME;
    options.spin_ns = actor_random() % 2 == 0 ? 0 : SHMIPC_SPIN_ADAPTIVE;
    options.timeout_ns = 0;
    options.dtype = is_typed() ? "V72" : "";
    live_by_reading(&by_api);
    shmipc_consumer_free(consumer);
    _exit(0);
}
