/*
 * peer.c: the C peer of the conformance tests. One process that does what
 * tests/trials/conformance/run.py says, line by line: README.md beside this directory has the
 * protocol.
 *
 * Owns:     the commands and their answers, over shmipc.h alone. stream.c sends and takes,
 * records.c does so by fields, misuse.c breaks the rules. Must not know: the scenarios, what is
 * right, anything of src/.
 */
#include "peer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_HELD = 64, MOST_AXES = 4 };

struct shmipc_producer *producer;
struct shmipc_consumer *consumer;
static struct shmipc_frame *held[MOST_HELD];
static size_t held_count;

/* ---- answers -------------------------------------------------------------------------------- */

void answer(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

const char *result_name(int result)
{
    static const char *const names[] = {
        "SUCCESS",   "EMPTY",       "FULL",     "CLOSED",  "PRODUCER_DIED", "CONSUMER_DIED",
        "NOT_FOUND", "BUSY",        "MISMATCH", "CORRUPT", "TOO_LARGE",     "INVALID",
        "MISUSE",    "INTERRUPTED", "OVERRUN",  "OS",      "ABI",           "REMOVED",
    };
    return result >= 0 && (size_t)result < sizeof names / sizeof names[0] ? names[result] : "?";
}

/* What is kept by shmipc_last_error, or the sentence where nothing is. */
const char *result_facts(int result)
{
    switch (result) {
    case SHMIPC_E_EMPTY:
    case SHMIPC_E_FULL:
    case SHMIPC_E_INTERRUPTED:
    case SHMIPC_E_OVERRUN:
        return shmipc_result_text(result);
    default:
        return shmipc_last_error();
    }
}

void answer_result(int result, uint64_t done)
{
    if (result == SHMIPC_SUCCESS) {
        answer("ok %" PRIu64, done);
    } else {
        answer("error %s %" PRIu64 " %s", result_name(result), done, result_facts(result));
    }
}

/* ---- opening -------------------------------------------------------------------------------- */

int64_t nanoseconds(const char *milliseconds)
{
    const long long value = strtoll(milliseconds, NULL, 10);
    return value < 0 ? SHMIPC_FOREVER : value * 1000000;
}

static uint32_t parse_shape(const char *text, uint64_t *shape)
{
    uint32_t axes = 0;
    char *end;
    for (; text[0] != '-' && text[0] != '\0' && axes < MOST_AXES; text = end + (*end == ',')) {
        shape[axes++] = strtoull(text, &end, 10);
    }
    return axes;
}

static const char *schema_of(const struct shmipc_info *info)
{
    return info->typed != 0 ? info->schema : "-";
}

/* produce NAME CONSUMERS CAPACITY POLICY SHAPE DTYPE */
static void do_produce(char **words)
{
    struct shmipc_producer_options options;
    struct shmipc_info info;
    uint64_t shape[MOST_AXES];
    shmipc_producer_free(producer);
    shmipc_producer_options_init(&options);
    options.max_consumers = (uint32_t)strtoul(words[2], NULL, 10);
    options.capacity = strtoull(words[3], NULL, 10);
    options.overflow = strcmp(words[4], "block") == 0 ? SHMIPC_BLOCK : SHMIPC_OVERWRITE;
    options.axes = parse_shape(words[5], shape);
    options.shape = options.axes > 0 ? shape : NULL;
    options.dtype = strcmp(words[6], "-") == 0 ? NULL : words[6];
    const int result = shmipc_producer_open(&producer, words[1], &options);
    if (result != SHMIPC_SUCCESS || shmipc_producer_info(producer, &info) != SHMIPC_SUCCESS) {
        answer_result(result, 0);
        return;
    }
    answer("ok %s", schema_of(&info));
}

/* consume NAME START MS SHAPE DTYPE */
static void do_consume(char **words)
{
    struct shmipc_consumer_options options;
    struct shmipc_info info;
    uint64_t shape[MOST_AXES];
    shmipc_consumer_free(consumer);
    shmipc_consumer_options_init(&options);
    options.start = strcmp(words[2], "resume") == 0   ? SHMIPC_RESUME
                    : strcmp(words[2], "latest") == 0 ? SHMIPC_LATEST
                                                      : SHMIPC_EARLIEST;
    options.timeout_ns = nanoseconds(words[3]);
    options.axes = parse_shape(words[4], shape);
    options.shape = options.axes > 0 ? shape : NULL;
    options.dtype = strcmp(words[5], "*") == 0 ? NULL : strcmp(words[5], "-") == 0 ? "" : words[5];
    const int result = shmipc_consumer_open(&consumer, words[1], &options);
    if (result != SHMIPC_SUCCESS || shmipc_consumer_info(consumer, &info) != SHMIPC_SUCCESS) {
        answer_result(result, 0);
        return;
    }
    answer("ok %s", schema_of(&info));
}

/* ---- frames that are held ------------------------------------------------------------------- */

/* hold COUNT MS */
static void do_hold(char **words)
{
    int result = SHMIPC_SUCCESS;
    for (unsigned long i = strtoul(words[1], NULL, 10); i > 0 && result == SHMIPC_SUCCESS; i--) {
        result = held_count == MOST_HELD
                     ? SHMIPC_E_INVALID
                     : shmipc_consumer_read(consumer, &held[held_count], nanoseconds(words[2]));
        held_count += result == SHMIPC_SUCCESS ? 1 : 0;
    }
    answer_result(result, held_count);
}

/* held: all of them, read again */
static void do_held(void)
{
    uint64_t sum = 0;
    bool intact = true;
    for (size_t i = 0; i < held_count; i++) {
        struct shmipc_view view;
        if (shmipc_frame_view(held[i], &view) == SHMIPC_SUCCESS) {
            sum += digest_view(&view);
        }
        intact = intact && shmipc_frame_is_intact(held[i]);
    }
    answer("ok %zu %016" PRIx64 " %d", held_count, sum, intact);
}

/* drop INDEX */
static void do_drop(char **words)
{
    const size_t index = strtoul(words[1], NULL, 10);
    if (index >= held_count) {
        answer("error PEER 0 no such frame");
        return;
    }
    shmipc_frame_release(held[index]);
    held_count--;
    memmove(&held[index], &held[index + 1], (held_count - index) * sizeof held[0]);
    answer("ok %zu", held_count);
}

/* ---- the rest ------------------------------------------------------------------------------- */

static void do_stats(char **words)
{
    if (words[1][0] == 'p') {
        struct shmipc_producer_stats stats = {0};
        const int result = shmipc_producer_stats(producer, &stats);
        if (result != SHMIPC_SUCCESS) {
            answer_result(result, 0);
            return;
        }
        answer("ok %" PRIu64 " %" PRIu64 " %u %u", stats.count, stats.lag, stats.attached,
               stats.took_over);
    } else {
        struct shmipc_consumer_stats stats = {0};
        const int result = shmipc_consumer_stats(consumer, &stats);
        if (result != SHMIPC_SUCCESS) {
            answer_result(result, 0);
            return;
        }
        answer("ok %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, stats.pending, stats.lag,
               stats.lost, stats.frames);
    }
}

/* layouts: SIZE:OFFSET,... of each struct of shmipc.h, in its order */
static void do_layouts(void)
{
#define AT(field) (unsigned)offsetof(struct OF, field)
    printf("ok");
#define OF shmipc_info
    printf(" %zu:%u,%u,%u,%u,%u,%u,%u,%u,%u", sizeof(struct OF), AT(name), AT(schema), AT(capacity),
           AT(item_size), AT(item_stride), AT(overflow), AT(max_consumers), AT(slot), AT(typed));
#undef OF
#define OF shmipc_view
    printf(" %zu:%u,%u,%u,%u,%u,%u,%u,%u", sizeof(struct OF), AT(data), AT(len), AT(count),
           AT(stride), AT(seq), AT(kind), AT(flags), AT(reserved));
#undef OF
#define OF shmipc_producer_options
    printf(" %zu:%u,%u,%u,%u,%u,%u,%u,%u,%u,%u,%u", sizeof(struct OF), AT(abi), AT(size), AT(dtype),
           AT(shape), AT(axes), AT(max_consumers), AT(item_size), AT(capacity), AT(spin_ns),
           AT(overflow), AT(mode));
#undef OF
#define OF shmipc_producer_stats
    printf(" %zu:%u,%u,%u,%u,%u,%u,%u,%u,%u,%u", sizeof(struct OF), AT(committed_len), AT(count),
           AT(lag), AT(sleeps), AT(wakes), AT(reclaimed), AT(attached), AT(kept), AT(took_over),
           AT(reserved));
#undef OF
#define OF shmipc_consumer_options
    printf(" %zu:%u,%u,%u,%u,%u,%u,%u,%u,%u", sizeof(struct OF), AT(abi), AT(size), AT(dtype),
           AT(shape), AT(axes), AT(start), AT(item_size), AT(timeout_ns), AT(spin_ns));
#undef OF
#define OF shmipc_consumer_stats
    printf(" %zu:%u,%u,%u,%u,%u,%u", sizeof(struct OF), AT(pending), AT(lag), AT(lost), AT(sleeps),
           AT(wakes), AT(frames));
#undef OF
    answer("%s", "");
}

static void do_room(char **words)
{
    const size_t len = strtoul(words[1], NULL, 10);
    void *at;
    const int result = shmipc_producer_reserve(producer, len, nanoseconds(words[2]), &at);
    if (result == SHMIPC_SUCCESS) {
        memset(at, 0xEE, len);
    }
    answer_result(result, len);
}

static bool do_line(char **words)
{
    const char *verb = words[0];
    if (strcmp(verb, "quit") == 0) {
        return false;
    }
    if (strcmp(verb, "produce") == 0) {
        do_produce(words);
    } else if (strcmp(verb, "consume") == 0) {
        do_consume(words);
    } else if (strcmp(verb, "send") == 0) {
        do_send(words);
    } else if (strcmp(verb, "take") == 0) {
        do_take(words);
    } else if (strcmp(verb, "put") == 0) {
        do_put(words[1], strtoull(words[2], NULL, 10), strtoull(words[3], NULL, 10));
    } else if (strcmp(verb, "get") == 0) {
        do_get(words[1], strtoull(words[2], NULL, 10));
    } else if (strcmp(verb, "hold") == 0) {
        do_hold(words);
    } else if (strcmp(verb, "held") == 0) {
        do_held();
    } else if (strcmp(verb, "drop") == 0) {
        do_drop(words);
    } else if (strcmp(verb, "stats") == 0) {
        do_stats(words);
    } else if (strcmp(verb, "room") == 0) {
        do_room(words);
    } else if (strcmp(verb, "abort") == 0) {
        answer_result(shmipc_producer_abort(producer), 0);
    } else if (strcmp(verb, "unlink") == 0) {
        answer_result(shmipc_producer_unlink(producer), 0);
    } else if (strcmp(verb, "wait") == 0) {
        answer_result(shmipc_producer_wait_for_consumers(
                          producer, (uint32_t)strtoul(words[1], NULL, 10), nanoseconds(words[2])),
                      0);
    } else if (strcmp(verb, "await") == 0) {
        unsigned char ready;
        answer_result(shmipc_wait(&consumer, 1, &ready, nanoseconds(words[1])), 0);
    } else if (strcmp(verb, "close") == 0) {
        answer_result(words[1][0] == 'p' ? shmipc_producer_close(producer)
                                         : shmipc_consumer_close(consumer),
                      0);
    } else if (strcmp(verb, "layouts") == 0) {
        do_layouts();
    } else if (strcmp(verb, "misuse") == 0) {
        do_misuse(words[1], words[2]);
    } else {
        answer("unsupported");
    }
    return true;
}

int main(void)
{
    static char line[1 << 16];
    bool going = true;
    answer("ready %s %u", shmipc_version(), shmipc_abi_version());
    while (going && fgets(line, sizeof line, stdin) != NULL) {
        static char none[] = "";
        char *words[12] = {none, none, none, none, none, none, none, none, none, none, none, none};
        char *at = line;
        line[strcspn(line, "\n")] = '\0';
        /* the last word of `produce` and `consume`, a dtype, runs to the end of the line */
        const int most = strncmp(line, "produce", 7) == 0   ? 7
                         : strncmp(line, "consume", 7) == 0 ? 6
                                                            : 12;
        for (int i = 0; i < most && at != NULL; i++) {
            words[i] = at;
            at = i + 1 < most ? strchr(at, ' ') : NULL;
            if (at != NULL) {
                *at++ = '\0';
            }
        }
        going = do_line(words);
    }
    while (held_count > 0) {
        shmipc_frame_release(held[--held_count]);
    }
    shmipc_producer_free(producer);
    shmipc_consumer_free(consumer);
    return 0;
}
