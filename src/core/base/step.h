/*
 * step.h: labels of the steps that a process may die between: at each of them, a death leaves
 * another state behind.
 *
 * Owns:     the names of the steps, and the macro that marks one. Compiled with -DSHMIPC_STEPS, a
 *           program provides shmipc_step_hook and may kill itself, or be stopped, at any of them
 *           (tests/trials/kills). Compiled without, as every release is, a label is nothing at all:
 *           tests/trials/kills/test_kills.py compares the machine code.
 * Must not know: what is done at a step.
 *
 * A label stands after the step that it names: killed there, a process has done that and no more.
 */
#ifndef SHMIPC_STEP_H
#define SHMIPC_STEP_H

/* X(name): in the order in which a life passes them. */
#define SHMIPC_STEPS_OF(X)                                                \
    /* create: a segment nobody else can see yet */                       \
    X(CREATE_OPENED)    /* the unnamed file exists */                     \
    X(CREATE_RESERVED)  /* its blocks are reserved */                     \
    X(CREATE_GEOMETRY)  /* the geometry is written, not the schema */     \
    X(CREATE_WRITTEN)   /* so is the schema */                            \
    X(CREATE_FORMATTED) /* positions are stored */                        \
    /* ... or taken over: slots are kept for consumers to come */         \
    X(KEEP_LOCKED) /* we hold the slot's lock: a ring that has a name */  \
    X(KEEP_CURSOR) /* its consumer starts here */                         \
    X(KEEP_PID)    /* the slot says that it is kept */                    \
    X(KEEP_BIT)    /* the producer waits for it */                        \
    X(KEEP_UNLOCKED)                                                      \
    X(CREATE_LOCKED) /* we are its producer */                            \
    X(CREATE_NAMED)  /* others can find it */                             \
    /* attach: to a segment that exists */                                \
    X(ATTACH_OPENED)  /* the file is open */                              \
    X(ATTACH_CHECKED) /* and looks like a segment */                      \
    X(ATTACH_GATED)   /* we hold the gate */                              \
    X(ATTACH_UNGATED) /* we do not any more */                            \
    X(MAP_RESERVED)   /* address space, no pages */                       \
    X(MAP_ANCHORED)   /* a page keeps the open that has the locks */      \
    X(MAP_OPENED)     /* the second open, which has no locks */           \
    X(MAP_DONE)                                                           \
    X(ATTACH_SLOT) /* we hold the slot's lock */                          \
    X(ATTACH_USED) /* a kept slot, by a consumer that starts elsewhere */ \
    X(JOIN_CURSOR) /* the cursor is stored */                             \
    X(JOIN_BIT)    /* so is the member bit */                             \
    X(JOIN_LOOKED) /* the fence and the look at tail are done */          \
    X(ATTACH_JOINED)                                                      \
    X(ATTACH_PID)                                                         \
    X(ATTACH_WOKEN) /* the producer was told */                           \
    /* take over: the producer's side of attach */                        \
    X(TAKEOVER_LOCKED)                                                    \
    X(TAKEOVER_MODE)     /* the file has the mode asked for */            \
    X(TAKEOVER_READ)     /* positions and the next number are known */    \
    X(TAKEOVER_REFUSED)  /* another kind of ring: the lock is dropped */  \
    X(TAKEOVER_REPLACED) /* ... and the file is unlinked */               \
    X(IDENTIFY_SPACE)                                                     \
    X(IDENTIFY_EPOCH)                                                     \
    X(IDENTIFY_PID)                                                       \
    X(IDENTIFY_OPEN) /* the end of the stream is taken back */            \
    /* reserve */                                                         \
    X(REFILL_SCANNED) /* the slowest cursor is known */                   \
    X(REFILL_TAIL)    /* tail has moved up */                             \
    X(REFILL_RETIRED) /* overwrite: ... and is ordered */                 \
    X(REFILL_FENCED)  /* block: ... and is ordered */                     \
    X(RESERVED)                                                           \
    /* write, commit */                                                   \
    X(HEADER_HALF) /* length and kind, not the number */                  \
    X(COMMIT_NOTE_POS)                                                    \
    X(COMMIT_NOTE_SEQ)                                                    \
    X(COMMIT_HEAD)                                                        \
    /* wake */                                                            \
    X(WAKE_FENCED)  /* the sleepers word has not been read yet */         \
    X(WAKE_COUNTED) /* its generation has moved on */                     \
    X(WAKE_DONE)    /* futex_wake has returned */                         \
    X(WAKE_WANTED)  /* the producer waits for just this */                \
    /* wait */                                                            \
    X(WAIT_WANTED)    /* the producer has said what it waits for */       \
    X(WAIT_MARKED)    /* the sleepers word is odd */                      \
    X(WAIT_ANNOUNCED) /* membarrier has returned */                       \
    X(WAIT_LOOKED)    /* nothing there: futex_wait comes next */          \
    X(WAIT_SLEPT)                                                         \
    X(WAIT_ANY_MARKED)                                                    \
    X(WAIT_ANY_LOOKED)                                                    \
    X(WAIT_ANY_SLEPT)                                                     \
    /* read */                                                            \
    X(READ_RELOADED) /* a new head is known */                            \
    X(READ_RESYNCED) /* lapped: we read on at another position */         \
    X(READ_ADVANCED) /* past what was read; not released */               \
    X(READ_LEASED)                                                        \
    /* release */                                                         \
    X(RELEASE_ENDED) /* a lease is over; the cursor is not moved */       \
    X(RELEASE_CURSOR)                                                     \
    /* reclaim a dead consumer's slot */                                  \
    X(RECLAIM_GATED)                                                      \
    X(RECLAIM_LOCKED) /* we hold its lock */                              \
    X(RECLAIM_LEFT)   /* it holds the ring back no more */                \
    X(RECLAIM_UNLOCKED)                                                   \
    X(LEAVE_PID)                                                          \
    X(LEAVE_BIT)                                                          \
    /* close */                                                           \
    X(INTERRUPTED)                                                        \
    X(CLOSE_PRIVATE_HALF) /* one of the two mappings is private */        \
    X(CLOSE_PRIVATE)                                                      \
    X(CLOSE_STORED) /* the stream has ended */                            \
    X(CLOSE_WOKEN)                                                        \
    X(CLOSE_GATED)                                                        \
    X(CLOSE_PID)                                                          \
    X(CLOSE_UNLOCKED)   /* the role is free */                            \
    X(CLOSE_DETACHED)   /* the descriptor is gone */                      \
    X(CLOSE_UNANCHORED) /* and with the anchor every lock */              \
    X(CLOSE_UNMAPPED)                                                     \
    /* unlink, clean */                                                   \
    X(UNLINK_NAMED) /* the name is still this file's */                   \
    X(UNLINK_DONE)                                                        \
    X(CLEAN_GATED)  /* nobody is attached */                              \
    X(CLEAN_MAPPED) /* what is owed can be seen */                        \
    X(CLEAN_DONE)   /* removed; the gate is still held */

#ifdef SHMIPC_STEPS

#define SHMIPC_STEP_ENUM(name) SHMIPC_AT_##name,
enum shmipc_step { SHMIPC_STEPS_OF(SHMIPC_STEP_ENUM) SHMIPC_STEP_COUNT };

void shmipc_step_hook(enum shmipc_step step);
#define SHMIPC_STEP(name) shmipc_step_hook(SHMIPC_AT_##name)

#else

#define SHMIPC_STEP(name) ((void)0)

#endif

#endif
