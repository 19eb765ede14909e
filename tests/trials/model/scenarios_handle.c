/*
 * scenarios_handle.c: who gets into a handle of the public API, handle.c.
 *
 * Owns:     small programs over one handle, and what every run of them must show.
 * Must not know: rings.
 *
 * `inside` is plain memory that the thread inside writes: a data race if one who is in is not
 * ordered after who was. `mapped` stands for what a close takes away.
 */
#include "api.h"

#include <string.h>

#define TAG SHMIPC_TAG_PRODUCER
#define CLOSED_TAG SHMIPC_TAG_PRODUCER_CLOSED

static struct shmipc_handle handle;
static bool forked;
static uint64_t inside;
static uint64_t mapped;
static struct {
    int now;    /* how many are inside */
    int closes; /* that did it themselves */
    bool closed;
} here;

/* ---- what threads do ------------------------------------------------------------------------ */

static void be_inside(void)
{
    model_check(++here.now == 1, "one at a time is inside");
    model_plain_store(&inside, (uint64_t)model_self());
    here.now--;
}

static void call(void)
{
    api_begin_call();
    const int result = shmipc_handle_enter(&handle, TAG);
    if (result == SHMIPC_SUCCESS) {
        be_inside();
        shmipc_handle_leave(&handle);
    } else {
        model_check(result == SHMIPC_E_MISUSE, "a second thread is told so");
        /* Without membarrier a store is seen when it is seen. */
        model_check(!handle.asymmetric || api_met_another(),
                    "nobody is refused for one who has left");
    }
    api_end_call();
}

static void enter(void)
{
    if (shmipc_handle_enter(&handle, TAG) == SHMIPC_SUCCESS) {
        be_inside();
        shmipc_handle_leave(&handle);
    }
    api_reach();
}

static void call_twice(void)
{
    call();
    call();
}

/* When all others are at rest, the next thread gets in. */
static void call_and_call_last(void)
{
    call();
    model_join();
    model_check(shmipc_handle_enter(&handle, TAG) == SHMIPC_SUCCESS, "a later call gets in");
    be_inside();
    shmipc_handle_leave(&handle);
}

/* Have something done in a handle that stays its owner's, as a frame released elsewhere does. */
static void reach_in(void)
{
    shmipc_handle_lock(&handle);
    if (shmipc_handle_keep_out(&handle)) {
        be_inside();
        shmipc_handle_readmit(&handle);
    }
    shmipc_handle_unlock(&handle);
    api_reach();
}

static void call_until_closed(void)
{
    const int result = shmipc_handle_enter(&handle, TAG);
    if (result == SHMIPC_SUCCESS) {
        model_check(model_plain_load(&mapped) == 1, "nobody is inside after a close");
        be_inside();
        shmipc_handle_leave(&handle);
    } else {
        model_check(result == SHMIPC_E_CLOSED || result == SHMIPC_E_MISUSE,
                    "a call of a closed handle is told so");
    }
    api_reach();
}

static void call_until_closed_twice(void)
{
    call_until_closed();
    call_until_closed();
}

static void close_it(void)
{
    bool already;
    const int result = shmipc_handle_begin_close(&handle, TAG, CLOSED_TAG, &already);
    model_check(result == SHMIPC_SUCCESS, "any thread may close, again and again");
    if (!already) {
        be_inside();
        model_plain_store(&mapped, 0);
        here.closes++;
    }
    model_check(model_plain_load(&mapped) == 0, "a second close returns after the first");
    shmipc_handle_unlock(&handle);
    here.closed = true;
    api_reach();
}

static void close_and_call(void)
{
    close_it();
    model_check(shmipc_handle_enter(&handle, TAG) == SHMIPC_E_CLOSED,
                "a call after close() is told so");
}

static void interrupt_it(void)
{
    const bool was_closed = here.closed;
    const int result = shmipc_handle_interrupt(&handle, TAG);
    model_check(result == SHMIPC_SUCCESS || result == SHMIPC_E_CLOSED, "any thread may interrupt");
    model_check(!was_closed || result == SHMIPC_E_CLOSED, "an interrupt after close() is told so");
}

static void call_out(struct shmipc_handle *called)
{
    model_check(called == &handle, "the handle that is meant is called");
    model_check(model_plain_load(&mapped) == 1, "who is called out is there");
}

/* ---- beginnings ------------------------------------------------------------------------------ */

static void make(bool asymmetric)
{
    make_ring(SHMIPC_FRAMING_TYPED, SHMIPC_OVERFLOW_BLOCK, 1, 1, -1); /* not used: a new kernel */
    kernel_allow_membarrier(EVERY_THREAD, asymmetric);
    memset(&handle, 0, sizeof handle);
    memset(&here, 0, sizeof here);
    inside = 0;
    mapped = 1;
    api_reset(&handle);
    model_hash_claims(&here, sizeof here);
    model_hash_also(&handle.closed, offsetof(struct shmipc_handle, callers) -
                                        offsetof(struct shmipc_handle, closed));
    shmipc_handle_init(&handle, TAG, "model", asymmetric, &forked, call_out);
}

static void make_open(bool asymmetric)
{
    make(asymmetric);
    model_hold_still(&handle.tag); /* nobody closes */
}

static void make_handle(void)
{
    make_open(true);
}

static void make_fenced_handle(void)
{
    make_open(false);
}

/* It has changed hands so often that the next one makes the common entry current. */
static void make_changing_handle(void)
{
    make_open(false);
    handle.handovers = SHMIPC_MAX_HANDOVERS;
}

/* Other threads have all the entries but the owner's. */
static void make_crowded_handle(void)
{
    make_open(false);
    for (int i = 1; i < SHMIPC_ENTRIES; i++) {
        shmipc_store_relaxed(&handle.entries[i].thread, (uintptr_t)(100 + i));
    }
}

static void make_closing_handle(void)
{
    make(true);
}

static void make_fenced_closing_handle(void)
{
    make(false);
}

static void make_changing_closing_handle(void)
{
    make(false);
    handle.handovers = SHMIPC_MAX_HANDOVERS;
}

static void all_got_in(void)
{
    model_check(here.now == 0, "all have left");
}

static void closed_once(void)
{
    model_check(here.closes == 1, "one close does it");
}

static const struct model_scenario scenarios[] = {
    {"handle",
     "another thread calls while the owner does",
     make_handle,
     {call_twice, call_and_call_last},
     0,
     all_got_in,
     NULL},
    {"handle-fenced",
     "... where membarrier is refused",
     make_fenced_handle,
     {call_twice, call_and_call_last},
     0,
     all_got_in,
     NULL},
    {"handle-three-fenced",
     "two others call while the owner does, where membarrier is refused",
     make_fenced_handle,
     {enter, enter, enter},
     0,
     all_got_in,
     NULL},
    {"handle-reach-in",
     "another thread has something done while the owner calls",
     make_handle,
     {call_twice, reach_in},
     0,
     all_got_in,
     NULL},
    {"handle-reach-in-fenced",
     "... where membarrier is refused",
     make_fenced_handle,
     {call_twice, reach_in},
     0,
     all_got_in,
     NULL},
    {"handle-common",
     "two threads take a handle from each other all the time",
     make_changing_handle,
     {call_twice, call_and_call_last},
     0,
     all_got_in,
     NULL},
    {"handle-crowded",
     "more threads than there are entries",
     make_crowded_handle,
     {call_twice, call_and_call_last},
     0,
     all_got_in,
     NULL},
    {"handle-common-reach-in",
     "... and has something done",
     make_changing_handle,
     {call_twice, reach_in, reach_in},
     0,
     all_got_in,
     NULL},
    {"handle-common-close",
     "... and one closes",
     make_changing_closing_handle,
     {call_until_closed, close_it, reach_in},
     0,
     closed_once,
     NULL},
    {"handle-close",
     "another thread closes while the owner calls",
     make_closing_handle,
     {call_until_closed_twice, close_and_call},
     0,
     closed_once,
     NULL},
    {"handle-close-fenced",
     "... where membarrier is refused",
     make_fenced_closing_handle,
     {call_until_closed_twice, close_and_call},
     0,
     closed_once,
     NULL},
    {"handle-close-interrupt",
     "one closes, one interrupts, the owner calls",
     make_closing_handle,
     {call_until_closed, close_and_call, interrupt_it},
     0,
     closed_once,
     NULL},
    {"handle-close-interrupt-fenced",
     "... where membarrier is refused",
     make_fenced_closing_handle,
     {call_until_closed, close_and_call, interrupt_it},
     0,
     closed_once,
     NULL},
    {"handle-close-twice",
     "two close, the owner calls",
     make_fenced_closing_handle,
     {call_until_closed, close_it, close_it},
     0,
     closed_once,
     NULL},
};

const struct model_group model_handle = {scenarios, sizeof scenarios / sizeof scenarios[0]};
