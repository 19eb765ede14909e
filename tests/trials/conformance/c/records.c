/*
 * records.c: typed records by their fields: what C writes to a member is what others read.
 *
 * Owns:     `put` and `get`, and the struct of README.md.
 */
#include "peer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct record {
    uint64_t id;
    double price;
    float ratio;
    int32_t quantity;
    int16_t level;
    uint16_t code;
    uint8_t side;
    int8_t sign;
    char tag[10];
    int32_t levels[3];
};
static_assert(sizeof(struct record) == 56, "as DTYPE says, with the padding at its end");

#define DTYPE                                                                                     \
    "[('id', '<u8'), ('price', '<f8'), ('ratio', '<f4'), ('quantity', '<i4'), ('level', '<i2'), " \
    "('code', '<u2'), ('side', '|u1'), ('sign', '|i1'), ('tag', '|S10'), "                        \
    "('levels', '<i4', (3,)), ('', '|V4')]"

static struct record record_of(uint64_t number)
{
    const uint64_t r = mix(number);
    struct record record = {
        .id = r,
        .price = (double)(int32_t)(r & 0xFFFFFFFF) / 64,
        .ratio = (float)(int16_t)(r & 0xFFFF) / 4,
        .quantity = (int32_t)(r >> 32),
        .level = (int16_t)(r >> 16 & 0xFFFF),
        .code = (uint16_t)(r >> 24),
        .side = (uint8_t)(r >> 40),
        .sign = (int8_t)(r >> 48 & 0xFF),
        .levels = {(int32_t)(r >> 8 & 0xFFFFFFFF), (int32_t)-1, (int32_t)(number)},
    };
    snprintf(record.tag, sizeof record.tag, "T%u", (unsigned)(r >> 50));
    return record;
}

/* put NAME FIRST COUNT: one by one, then all again as one batch; then close. */
void do_put(const char *name, uint64_t first, uint64_t count)
{
    struct shmipc_producer_options options;
    struct shmipc_producer *records = NULL;
    shmipc_producer_options_init(&options);
    options.dtype = DTYPE;
    options.item_size = sizeof(struct record);
    int result = shmipc_producer_open(&records, name, &options);
    for (uint64_t i = 0; i < count && result == SHMIPC_SUCCESS; i++) {
        const struct record record = record_of(first + i);
        result = shmipc_producer_send(records, &record, sizeof record, 0, 0, 0);
    }
    void *room;
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_producer_reserve_n(records, count, 0, &room);
    }
    if (result == SHMIPC_SUCCESS) {
        struct record *at = room;
        for (uint64_t i = 0; i < count; i++) {
            at[i] = record_of(first + i);
        }
        result = shmipc_producer_commit_n(records, count);
    }
    shmipc_producer_free(records);
    answer_result(result, count);
}

static void show(const struct record *record, uint64_t seq)
{
    printf(" %" PRIu64 ",%" PRIu64 ",%" PRId64 ",%" PRId64 ",%d,%d,%u,%u,%d,%.10s,%d,%d,%d", seq,
           record->id, (int64_t)(record->price * 64), (int64_t)(record->ratio * 4),
           record->quantity, record->level, record->code, record->side, record->sign, record->tag,
           record->levels[0], record->levels[1], record->levels[2]);
}

/* get NAME COUNT: in place; then close. */
void do_get(const char *name, uint64_t count)
{
    struct shmipc_consumer_options options;
    struct shmipc_consumer *records = NULL;
    struct shmipc_view view;
    shmipc_consumer_options_init(&options);
    options.dtype = DTYPE;
    options.item_size = sizeof(struct record);
    options.timeout_ns = 0;
    int result = shmipc_consumer_open(&records, name, &options);
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_consumer_peek_n(records, count, &view);
    }
    if (result == SHMIPC_SUCCESS) {
        printf("ok");
        for (uint64_t i = 0; i < view.count; i++) {
            show((const struct record *)view.data + i, view.seq + i);
        }
        result = shmipc_consumer_release(records);
        shmipc_consumer_free(records); /* before the answer: nothing is left of it then */
        answer("%s", result == SHMIPC_SUCCESS ? "" : result_name(result));
    } else {
        answer_result(result, 0);
        shmipc_consumer_free(records);
    }
}
