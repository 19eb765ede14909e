/*
 * actor_life.h: the life of a producer and of a consumer: how they come, go on, rest and leave, and
 * what the ring must have told them by then. It is the same whichever interface a victim knows; an
 * actor_*.c brings what one interface does it by.
 *
 * Functions that are brought call actor_fail for whatever is not said of them here.
 */
#ifndef SHMIPC_KILLS_ACTOR_LIFE_H
#define SHMIPC_KILLS_ACTOR_LIFE_H

#include "kills.h"

static inline bool is_typed(void)
{
    return (board->config & TYPED) != 0;
}
static inline bool overwrites(void)
{
    return (board->config & OVERWRITE) != 0;
}
/* Its consumer comes back to what it has not released. */
static inline bool is_durable(void)
{
    return (board->config & (OVERWRITE | MANY)) == 0;
}
/* Is this the fault that is built into the harness? */
bool is_broken(const char *how);

/* ---- a producer ----------------------------------------------------------------------------- */

enum { MOST_AT_ONCE = 4 }; /* messages */

struct sender {
    void (*open)(void);
    uint64_t (*take_over)(void);  /* the number that the ring goes on at, which is checked */
    bool (*send)(uint64_t count); /* or fewer; false: told to leave while the ring was full */
    void (*close)(void);
};

/* Returns when it is closed. */
void live_by_sending(const struct sender *sender);
/* A payload; half-way, a step. */
void sender_write(unsigned char *at, uint64_t number, uint64_t len);

/* ---- a consumer ----------------------------------------------------------------------------- */

struct reader {
    const struct shmipc_ring_consumer *(*open)(void); /* NULL: there is no ring */
    uint64_t (*count_lost)(void);
    bool (*read)(void);        /* false: there is nothing */
    void (*release_all)(void); /* all that is held */
    bool (*wait)(void);        /* true: told of the end */
    void (*close)(void);
};

/* Returns when it is closed, or told to leave before there was a ring. */
void live_by_reading(const struct reader *how);

/* What `read` tells of what it finds. There is something: no need to wait any longer. */
void reader_came(void);
/* These bytes are whole, and of the length, kind and flags of message `number`. What number they
 * themselves claim. */
uint64_t reader_check(const unsigned char *at, uint64_t len, uint16_t kind, uint16_t flags,
                      uint64_t number);
/* The number that is due. The first one to come is, whatever it is. */
uint64_t reader_due(uint64_t number);
/* Message `number` came when it was due. */
void reader_received(uint64_t number);
/* A message was read, and is known not to be whole. */
void reader_not_whole(void);
/* Everything up to actor->number was read and checked. */
void reader_processed(void);
/* Messages, since the first. */
uint64_t reader_lost(void);

#endif
