/*
 * scenarios_frame.c: frames released by other threads, interrupts and closes of a consumer of the
 * public API: frame_*.c, consumer_*.c and shmipc_take_interrupt over the real ring.
 *
 * Thread 0 owns the consumer. Where a lease ends, what it showed is written over, as the producer
 * may do then.
 */
#include "api.h"

#include "memory.h"

static struct shmipc_frame *held[2]; /* by the user, from set_up */

/* ---- what threads do ------------------------------------------------------------------------ */

static void give_back(struct shmipc_frame *frame)
{
    struct shmipc_view view;
    model_check(shmipc_frame_view(frame, &view) == SHMIPC_SUCCESS, "a frame can be looked at");
    model_check(model_plain_load((const uint64_t *)view.data) ==
                    (view.seq + 1) * UINT64_C(0x0101010101010101),
                "a frame shows what was sent until it is released");
    shmipc_frame_release(frame);
    api_reach();
}

static void give_back_first(void)
{
    give_back(held[0]);
}

/* The shortest call there is. */
static void call(void)
{
    model_check(!shmipc_consumer_is_intact(api_consumer), "nothing is peeked at");
    api_reach();
}

static void call_twice(void)
{
    call();
    call();
}

static void give_back_second(void)
{
    give_back(held[1]);
}

static void wait_for_data(void)
{
    model_check(shmipc_consumer_wait(api_consumer, SHMIPC_FOREVER) == SHMIPC_SUCCESS,
                "a wait ends for what it waits for");
}

/* Thread 1 produces too. */
static void send_it(void)
{
    model_check(send_next(1, false) == SHMIPC_OK, "there is room");
    api_reach();
}

static void send_and_give_back(void)
{
    send_it();
    give_back(held[0]);
}

static void give_back_and_send(void)
{
    give_back(held[0]);
    send_it();
}

static void wait_until_called_out(void)
{
    model_check(shmipc_consumer_wait(api_consumer, SHMIPC_FOREVER) == SHMIPC_E_INTERRUPTED,
                "an interrupt ends a wait");
}

static void interrupt_it(void)
{
    model_check(shmipc_consumer_interrupt(api_consumer) == SHMIPC_SUCCESS,
                "an open consumer can be interrupted");
}

/* As a frame released meanwhile does, for another reason than an interrupt. */
static void call_out(void)
{
    shmipc_consumer_role_interrupt(&api_consumer->role);
}

static bool is_called(void *word)
{
    return model_latest(word, 4) != 0;
}

/* Every store is seen at last. */
static uint64_t look_up(void *word)
{
    return memory_load(model_self(), memory_find(word, 4), 0, 0);
}

/* What a wait does when it is called out, without the wait. */
static void take_interrupts(void)
{
    shmipc_atomic_u32 *interrupted = &api_consumer->role.interrupted;
    int result;
    do {
        (void)model_system("waits", is_called, look_up, interrupted);
        result = shmipc_take_interrupt(&api_consumer->handle, SHMIPC_TAG_CONSUMER, interrupted);
    } while (result == SHMIPC_SUCCESS);
    model_check(result == SHMIPC_E_INTERRUPTED, "an interrupt is told as one");
}

static void wait_until_closed(void)
{
    model_check(shmipc_consumer_wait(api_consumer, SHMIPC_FOREVER) == SHMIPC_E_CLOSED,
                "a close ends a wait");
}

static void close_it(void)
{
    model_check(shmipc_consumer_close(api_consumer) == SHMIPC_SUCCESS, "any thread may close");
}

static void close_and_give_back(void)
{
    close_it();
    api_reach();
    give_back(held[0]);
}

static void free_it(void)
{
    shmipc_consumer_free(api_consumer);
}

/* ---- beginnings and ends --------------------------------------------------------------------- */

/* A ring of four items; `count` of them sent, and held in frames. */
static void make(int count, bool fenced)
{
    api_reset(&api_consumer->handle);
    make_ring(SHMIPC_FRAMING_TYPED, SHMIPC_OVERFLOW_BLOCK, 1, 4, 1);
    if (fenced) {
        kernel_allow_membarrier(0, false);
        producers[1].asymmetric = false;
    }
    api_open_consumer();
    for (int i = 0; i < count; i++) {
        (void)send_next(1, false);
        held[i] = api_read_frame();
    }
    api_share();
}

static void make_one_held(void)
{
    make(1, false);
    model_hold_still(&api_consumer->handle.tag);
}

static void make_one_held_fenced(void)
{
    make(1, true);
    model_hold_still(&api_consumer->handle.tag);
}

static void make_one_closing(void)
{
    make(1, true);
}

static void make_two_held(void)
{
    make(2, true);
    model_hold_still(&api_consumer->handle.tag);
}

static void waits_no_more(void)
{
    model_check(model_latest(&api_consumer->waits, 4) == 0, "who waits no more is not called out");
    model_check(model_latest(&api_consumer->handle.called_out, 4) == 0,
                "an interrupt is taken once");
}

static void all_ended(void)
{
    waits_no_more();
    model_check(api_log.ended == api_log.taken, "every lease has ended, once");
    model_check(model_latest(&api_consumer->returned, 8) == 0, "no frame is left to collect");
    model_check(api_consumer->frames == 0, "no frame is counted that was released");
}

static void all_freed(void)
{
    all_ended();
    model_check(api_log.freed == api_log.allocated + 1, "the last one out frees everything");
}

static void detached(void)
{
    all_ended();
    model_check(api_consumer->role.segment.header == NULL, "the last frame detaches");
}

static const struct model_scenario scenarios[] = {
    {"frame-polled",
     "a frame is released while its consumer makes short calls",
     make_one_held,
     {call_twice, give_back_first},
     0,
     all_ended,
     NULL},
    {"frame-polled-fenced",
     "... where membarrier is refused",
     make_one_held_fenced,
     {call_twice, give_back_first},
     0,
     all_ended,
     NULL},
    {"frames-two",
     "... and one by the consumer's own thread",
     make_two_held,
     {give_back_second, give_back_first},
     0,
     all_ended,
     NULL},
    {"frame-awaited",
     "a frame is released while its consumer waits, then something comes",
     make_one_held_fenced,
     {wait_for_data, give_back_and_send},
     0,
     all_ended,
     NULL},
    {"frame-after",
     "... something came, then the frame is released",
     make_one_held_fenced,
     {wait_for_data, send_and_give_back},
     0,
     all_ended,
     NULL},
    {"interrupt-wait",
     "a wait is interrupted",
     make_one_held_fenced,
     {wait_until_called_out, interrupt_it},
     0,
     waits_no_more,
     NULL},
    {"interrupt-called",
     "an interrupt is not lost where the waiter is called out for another reason too",
     make_one_held_fenced,
     {take_interrupts, call_out, interrupt_it},
     0,
     waits_no_more,
     NULL},
    {"frame-close",
     "the consumer is closed while it waits, then a frame is released",
     make_one_closing,
     {wait_until_closed, close_and_give_back},
     0,
     detached,
     NULL},
    {"frame-free",
     "the consumer is freed while a frame is given back",
     make_one_closing,
     {free_it, give_back_first},
     0,
     all_freed,
     NULL},
};

const struct model_group model_frame = {scenarios, sizeof scenarios / sizeof scenarios[0]};
