/* actor_api_consumer.c: see actor_api.h. A consumer that reads by shmipc.h, in each of its ways,
 * and checks every byte and every number. */
#define _GNU_SOURCE
#include "actor_api.h"

#include <string.h>
#include <unistd.h>

#define MOST 4 /* messages or items in one call */
#define MOST_FRAMES 3

static struct shmipc_consumer *consumer;
static uint64_t first;    /* number of the first message that was for us; UINT64_MAX: not known */
static uint64_t received; /* since then */
static uint64_t lost_before;
static uint64_t lost_counted;
static struct shmipc_frame *frames[MOST_FRAMES];
static uint64_t frame_numbers[MOST_FRAMES];
static uint64_t wait_start_ns; /* 0: not waiting */

static bool is_durable(void)
{
    return (board->config & (OVERWRITE | MANY)) == 0;
}
static bool is_typed(void)
{
    return (board->config & TYPED) != 0;
}
static bool overwrites(void)
{
    return (board->config & OVERWRITE) != 0;
}

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

/* ---- coming --------------------------------------------------------------------------------- */

/* The number of what comes next is known to the core alone; UINT64_MAX: not even there. */
static uint64_t number_due(void)
{
    const struct shmipc_ring_consumer *ring = &consumer->role.ring;
    return is_typed() ? shmipc_ring_seq_of(&ring->ring, ring->read_pos) : ring->next_seq;
}

static void check_start(void)
{
    first = number_due();
    lost_before = count_lost();
    seat->number = first == UINT64_MAX ? 0 : first;
    if (!is_durable()) {
        return;
    }
    const uint64_t least = board->released;
    const uint64_t most = board->external != 0 ? (uint64_t)board->releasing : least;
    if (first > board->processed) {
        board->missing += first - board->processed;
        actor_fail("resumed at message %llu, but only %llu were read to the end",
                   (unsigned long long)first, (unsigned long long)board->processed);
    }
    if (first < least || first > most) {
        board->repeated += first < least ? least - first : 0;
        actor_fail("resumed at message %llu, but %llu to %llu were released",
                   (unsigned long long)first, (unsigned long long)least, (unsigned long long)most);
    }
    board->released = first;
    board->releasing = first;
    board->processed = first; /* the rest is to be read once more */
}

/* False: told to leave before there was a ring. */
static bool open_it(void)
{
    struct shmipc_consumer_options options;
    const char *name = api_ring_name();
    seat->state = ARRIVING;
    actor_phase(OPENING);
    if (board->late) {
        actor_nap(3000000);
    }
    shmipc_consumer_options_init(&options);
    options.start = actor_random() % 2 == 0 ? SHMIPC_EARLIEST : SHMIPC_RESUME;
    options.spin_ns = actor_random() % 2 == 0 ? 0 : SHMIPC_SPIN_ADAPTIVE;
    options.timeout_ns = 0;
    options.dtype = is_typed() ? "V72" : "";
    for (;;) {
        const uint64_t start_ns = shmipc_now_ns();
        const int result = shmipc_consumer_open(&consumer, name, &options);
        if (result == SHMIPC_SUCCESS) {
            actor_waited(start_ns);
            break;
        }
        if (result != SHMIPC_E_NOT_FOUND) {
            actor_fail("open came to %d: %s", result, shmipc_last_error());
        }
        actor_told(start_ns);
        if (seat->command == LEAVE) {
            return false;
        }
        actor_nap(200000);
    }
    actor_phase(STREAMING);
    check_start();
    seat->state = FLOWING;
    return true;
}

/* ---- judging -------------------------------------------------------------------------------- */

static void came(void)
{
    if (wait_start_ns != 0) {
        actor_waited(wait_start_ns);
        wait_start_ns = 0;
    }
}

/* The `index`th of what `view` says lies at `bytes`: whole, and the one that is due. */
static void check(const struct shmipc_view *view, const unsigned char *bytes, uint64_t index)
{
    uint64_t found;
    const uint64_t number = view->seq + index;
    const char *fault = payload_fault(bytes, is_typed() ? ITEM_LEN : view->len,
                                      payload_len(board->config, number), &found);
    if (!is_typed() && fault == NULL &&
        (view->kind != 1 + number % 7 || view->flags != (uint16_t)number)) {
        fault = "of another kind or other flags";
    }
    if (fault != NULL) {
        board->torn++;
        actor_fail("message %llu is torn: %s", (unsigned long long)number, fault);
    }
    if (first == UINT64_MAX) {
        first = number;
        lost_before = count_lost();
    }
    const uint64_t due = first + received + (count_lost() - lost_before);
    if (found != number || number != due) {
        board->repeated += found < due;
        board->missing += found > due;
        actor_fail("message %llu came where %llu was due, as number %llu",
                   (unsigned long long)found, (unsigned long long)due, (unsigned long long)number);
    }
    received++;
    board->received++;
    seat->number = number + 1;
}

/* Everything up to seat->number was read and checked. */
static void processed(void)
{
    if (is_durable()) {
        board->processed = seat->number;
    }
    actor_step(AT_PROCESSED);
}

/* Where the cursor will be: at the oldest frame, or behind all that was read. */
static void note_releasing(void)
{
    uint64_t oldest = seat->number;
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

static void end_all_frames(void)
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
    came();
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
    processed();
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
    came();
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
    processed();
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
    const uint64_t number = seat->number;
    if (is_durable()) { /* the call gives it back before we have looked at it */
        board->processed = number + 1;
        seat->number = number + 1;
        note_releasing();
        seat->number = number;
    }
    const int result = shmipc_consumer_recv(consumer, bytes, sizeof bytes, &view, 0);
    if (result == SHMIPC_SUCCESS) {
        came();
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
    came();
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
        processed();
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
    came();
    expect(shmipc_frame_view(frame, &view), "view");
    const uint64_t len = view.len < sizeof bytes ? view.len : sizeof bytes;
    shmipc_copy_speculative(bytes, view.data, (size_t)len);
    if (shmipc_frame_is_intact(frame)) {
        check(&view, bytes, 0);
    } else {
        received += first != UINT64_MAX; /* read, and known not to be whole */
    }
    shmipc_frame_release(frame);
    return SHMIPC_SUCCESS;
}

static int read_some(void)
{
    const uint64_t how = actor_random() % 4;
    if (overwrites()) {
        return how == 0 ? look_at_a_frame() : how == 1 ? receive() : peek_and_copy();
    }
    if (how == 0) {
        end_all_frames(); /* recv gives back everything before it, but not what a frame holds */
        return receive();
    }
    return how == 1 ? peek_and_release() : read_a_frame();
}

/* What a lapped reader skipped counts as soon as the ring says so. */
static void update_number(void)
{
    if (first != UINT64_MAX) {
        const uint64_t lost = count_lost() - lost_before;
        board->lost += lost - lost_counted;
        lost_counted = lost;
        seat->number = first + received + lost;
    } else if (!is_typed()) {
        const struct shmipc_ring_consumer *ring = &consumer->role.ring;
        uint64_t seq;
        if (ring->read_pos == ring->head_pos_cached &&
            shmipc_ring_read_note(ring->ring.shared, ring->read_pos, &seq)) {
            seat->number = seq;
        }
    }
}

/* ---- waiting -------------------------------------------------------------------------------- */

static void wait_for_more(void)
{
    if (wait_start_ns == 0) {
        wait_start_ns = shmipc_now_ns();
    }
    /* What was committed stands still from a producer's death until the next one opens. */
    int producers = board->producers;
    producers = board->arriving != 0 ? -1 : producers;
    int result = SHMIPC_SUCCESS;
    if (seat->wait_any) {
        unsigned char ready[1];
        result = shmipc_wait(&consumer, 1, ready, API_WAIT_NS);
    }
    if (result == SHMIPC_SUCCESS) { /* or ready for its end, which this will tell */
        result = shmipc_consumer_wait(consumer, seat->wait_any ? 0 : API_WAIT_NS);
    }
    if (result == SHMIPC_SUCCESS || result == SHMIPC_E_EMPTY) {
        return;
    }
    if (result != SHMIPC_E_PRODUCER_DIED && result != SHMIPC_E_CLOSED) {
        expect(result, "waiting for data");
    }
    update_number();
    const uint64_t committed = board->committed;
    if (seat->number < committed && first != UINT64_MAX && board->producers == producers) {
        board->missing += committed - seat->number;
        actor_fail("told of the end after message %llu of %llu", (unsigned long long)seat->number,
                   (unsigned long long)committed);
    }
    actor_told(wait_start_ns);
    wait_start_ns = 0;
    actor_nap(200000);
}

static void close_it(void)
{
    seat->state = LEAVING;
    actor_phase(CLOSING);
    const uint64_t start_ns = shmipc_now_ns();
    expect(shmipc_consumer_interrupt(consumer), "interrupt");
    expect(shmipc_consumer_close(consumer), "close");
    actor_waited(start_ns);
    shmipc_consumer_free(consumer);
    _exit(0);
}

_Noreturn void be_api_consumer(void)
{
    if (!open_it()) {
        _exit(0);
    }
    for (;;) {
        update_number();
        const bool has_all = board->finish != 0 && seat->number == board->total;
        if (seat->command == LEAVE || has_all) {
            end_all_frames();
        }
        if (has_all && board->drowsy && seat->command == STAY) {
            seat->state = FINISHED;
            wait_for_more();
            continue;
        }
        if (seat->command == LEAVE || has_all) {
            wait_start_ns = 0;
            if (actor_idle()) {
                close_it();
            }
        }
        seat->state = FLOWING;
        const int result = read_some();
        if (result == SHMIPC_E_EMPTY || result == SHMIPC_E_CLOSED ||
            result == SHMIPC_E_PRODUCER_DIED) {
            end_all_frames(); /* or the producer would wait for us, and we for it */
            update_number();
            if (board->finish == 0 || seat->number != board->total) {
                wait_for_more();
            }
        } else if (result != SHMIPC_SUCCESS) {
            expect(result, "reading");
        } else if (actor_random() % 200 == 0) {
            actor_nap(300000); /* let the ring fill */
        }
    }
}
