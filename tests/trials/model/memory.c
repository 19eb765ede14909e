/* memory.c: see memory.h and machine.h. */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 120 };

struct message {
    uint64_t value;
    uint8_t writer;
    bool updates;     /* the message before it: nothing comes between */
    struct view view; /* what a thread that acquires it comes to know */
};

struct location {
    const volatile void *object; /* kept from run to run, so that indices are */
    bool begun;
    bool crosses; /* stores take any place that the views allow */
    bool freed;
    int newest;
    struct message messages[MAX_MESSAGES];
    uint8_t last_read[MODEL_MAX_THREADS]; /* plain: the reader's count then */
};

struct entry {
    bool alive;
    bool ended;           /* reads nothing more, but a barrier may still publish what it did */
    struct view current;  /* may not read anything older */
    struct view acquired; /* would know after an acquire fence */
    struct view released; /* relaxed stores publish this: what a release fence left */
    bool hoists;          /* stored, and no barrier since: see memory_compiler_barrier */
    struct view before_store;
};

static struct location locations[MODEL_MAX_LOCATIONS];
static int location_count;
static struct entry entries[MODEL_MAX_THREADS];
static struct view global; /* of the full fences */

static void join(struct view *to, const struct view *from)
{
    for (int i = 0; i < MODEL_MAX_LOCATIONS; i++) {
        to->seen[i] = to->seen[i] > from->seen[i] ? to->seen[i] : from->seen[i];
    }
    for (int i = 0; i < 8; i++) {
        to->reads[i] = to->reads[i] > from->reads[i] ? to->reads[i] : from->reads[i];
    }
}

static _Noreturn void refuse(const char *what)
{
    fprintf(stderr, "model: %s\n", what);
    exit(3);
}

void memory_forget(void)
{
    memory_reset();
    location_count = 0;
}

void memory_reset(void)
{
    for (int i = 0; i < location_count; i++) {
        locations[i].begun = false;
        locations[i].freed = false;
    }
    memset(entries, 0, sizeof entries);
    memset(&global, 0, sizeof global);
}

void memory_add_thread(int thread)
{
    entries[thread].alive = true;
}

void memory_end_thread(int thread)
{
    entries[thread].alive = false;
    entries[thread].ended = true;
}

static uint64_t real_word(const volatile void *object, size_t size)
{
    switch (size) {
    case 8:
        return *(const volatile uint64_t *)object;
    case 4:
        return *(const volatile uint32_t *)object;
    default:
        refuse("an access that is neither 4 nor 8 bytes");
    }
}

int memory_find(const volatile void *object, size_t size)
{
    int i = 0;
    while (i < location_count && locations[i].object != object) {
        i++;
    }
    struct location *location = &locations[i];
    if (i == location_count) {
        if (location_count == MODEL_MAX_LOCATIONS) {
            refuse("too many locations");
        }
        location_count++;
        location->object = object;
        location->crosses = false;
    }
    if (!location->begun) {
        location->begun = true;
        location->newest = 0;
        location->messages[0].value = real_word(object, size);
        location->messages[0].updates = false;
        location->messages[0].writer = UINT8_MAX; /* nobody */
        memset(&location->messages[0].view, 0, sizeof(struct view));
        memset(location->last_read, 0, sizeof location->last_read);
    }
    return i;
}

/* ---- atomics ------------------------------------------------------------------------------- */

static int oldest_readable(const struct entry *entry, int location)
{
    return entry->hoists ? entry->before_store.seen[location] : entry->current.seen[location];
}

int memory_load_choices(int thread, int location)
{
    return locations[location].newest - oldest_readable(&entries[thread], location) + 1;
}

static uint64_t take(int thread, int location, int index, int orders)
{
    struct entry *entry = &entries[thread];
    const struct message *message = &locations[location].messages[index];
    if (index > entry->current.seen[location]) {
        entry->current.seen[location] = (uint8_t)index;
    }
    if (index > entry->acquired.seen[location]) {
        entry->acquired.seen[location] = (uint8_t)index;
    }
    if (entry->hoists && index > entry->before_store.seen[location]) {
        entry->before_store.seen[location] = (uint8_t)index;
    }
    join(&entry->acquired, &message->view);
    if ((orders & MODEL_ACQUIRE) != 0) {
        join(&entry->current, &message->view);
        entry->hoists = false;
    }
    return message->value;
}

uint64_t memory_load(int thread, int location, int choice, int orders)
{
    return take(thread, location, locations[location].newest - choice, orders);
}

static void append(int thread, int location, uint64_t value, int orders, const struct view *chained)
{
    struct entry *entry = &entries[thread];
    struct location *list = &locations[location];
    if (list->newest + 1 == MAX_MESSAGES) {
        model_refuse("goes on for ever: one location is written again and again");
        return;
    }
    if (!entry->hoists) {
        entry->hoists = true;
        entry->before_store = entry->current;
    }
    const uint8_t index = (uint8_t)++list->newest;
    entry->current.seen[location] = index;
    entry->acquired.seen[location] = index;
    entry->before_store.seen[location] = index;
    struct message *message = &list->messages[index];
    message->value = value;
    message->writer = (uint8_t)thread;
    message->updates = chained != NULL;
    message->view = (orders & MODEL_RELEASE) != 0 ? entry->current : entry->released;
    message->view.seen[location] = index;
    if (chained != NULL) {
        join(&message->view, chained); /* an update continues the release sequence */
    }
}

/* ---- stores that cross ---------------------------------------------------------------------- */

void memory_let_cross(int location)
{
    locations[location].crosses = true;
}

int memory_store_choices(int thread, int location)
{
    const struct location *list = &locations[location];
    int choices = 1;
    if (list->crosses) {
        for (int i = list->newest; i > entries[thread].current.seen[location]; i--) {
            choices += !list->messages[i].updates; /* another can be put before it */
        }
    }
    return choices;
}

static void shift(struct view *view, int location, int index)
{
    view->seen[location] = (uint8_t)(view->seen[location] + (view->seen[location] >= index));
}

/* The newest message moves down to `index`, and all that have seen what it passes with it. */
static void move_down(int thread, int location, int index)
{
    struct location *list = &locations[location];
    struct entry *entry = &entries[thread];
    const struct message moved = list->messages[list->newest];
    memmove(&list->messages[index + 1], &list->messages[index],
            (size_t)(list->newest - index) * sizeof moved);
    list->messages[index] = moved;
    for (int i = 0; i < location_count; i++) {
        for (int m = 0; locations[i].begun && m <= locations[i].newest; m++) {
            shift(&locations[i].messages[m].view, location, index);
        }
    }
    for (int other = 0; other < MODEL_MAX_THREADS; other++) {
        shift(&entries[other].current, location, index);
        shift(&entries[other].acquired, location, index);
        shift(&entries[other].released, location, index);
        shift(&entries[other].before_store, location, index);
    }
    shift(&global, location, index);
    /* The thread that stored it has seen no further than its own. */
    entry->current.seen[location] = (uint8_t)index;
    entry->before_store.seen[location] = (uint8_t)index;
    list->messages[index].view.seen[location] = (uint8_t)index;
}

void memory_store(int thread, int location, int choice, uint64_t value, int orders)
{
    const struct location *list = &locations[location];
    /* The list has the order in which the stores happened. One that could come before another that
     * is there already makes a list that this machine would never try. */
    if (!list->crosses && entries[thread].current.seen[location] != list->newest &&
        list->messages[list->newest].value != value) {
        model_refuse("two stores may come in either order");
    }
    int index = list->newest + 1;
    while (choice > 0) {
        choice -= !list->messages[--index].updates;
    }
    const uint8_t acquired = entries[thread].acquired.seen[location];
    append(thread, location, value, orders, NULL);
    if (index < list->newest) {
        entries[thread].acquired.seen[location] = acquired;
        move_down(thread, location, index);
        if (entries[thread].acquired.seen[location] < index) {
            entries[thread].acquired.seen[location] = (uint8_t)index;
        }
    }
}

uint64_t memory_update(int thread, int location, enum model_how how, uint64_t value, int orders)
{
    const int index = locations[location].newest;
    const uint64_t old = take(thread, location, index, orders);
    uint64_t new = value;
    switch (how) {
    case MODEL_OR:
        new = old | value;
        break;
    case MODEL_AND:
        new = old &value;
        break;
    case MODEL_ADD:
        new = old + value;
        break;
    case MODEL_SUB:
        new = old - value;
        break;
    case MODEL_EXCHANGE:
        break;
    }
    append(thread, location, new, orders, &locations[location].messages[index].view);
    return old;
}

int memory_compare_choices(int thread, int location, uint64_t expected)
{
    const struct location *list = &locations[location];
    int choices = list->messages[list->newest].value == expected;
    for (int i = list->newest; i >= oldest_readable(&entries[thread], location); i--) {
        choices += list->messages[i].value != expected;
    }
    return choices;
}

uint64_t memory_compare(int thread, int location, int choice, uint64_t expected, uint64_t value,
                        int orders, bool *done)
{
    const struct location *list = &locations[location];
    *done = list->messages[list->newest].value == expected && choice-- == 0;
    if (*done) {
        const int index = list->newest;
        (void)take(thread, location, index, orders);
        append(thread, location, value, orders, &list->messages[index].view);
        return expected;
    }
    for (int i = list->newest;; i--) {
        if (list->messages[i].value != expected && choice-- == 0) {
            return take(thread, location, i, 0);
        }
    }
}

void memory_fence(int thread, int orders)
{
    if ((orders & MODEL_ACQUIRE) != 0) {
        entries[thread].hoists = false;
    }
    memory_remote_fence(thread, orders);
}

void memory_remote_fence(int thread, int orders)
{
    struct entry *entry = &entries[thread];
    if ((orders & MODEL_ACQUIRE) != 0) {
        join(&entry->current, &entry->acquired);
    }
    if ((orders & MODEL_FULL) == MODEL_FULL) {
        join(&global, &entry->current);
        entry->current = global;
        join(&entry->acquired, &entry->current);
    }
    if ((orders & MODEL_RELEASE) != 0) {
        entry->released = entry->current;
    }
}

void memory_compiler_barrier(int thread)
{
    entries[thread].hoists = false;
}

/* ---- plain accesses ------------------------------------------------------------------------ */

const char *memory_plain_store(int thread, int location, uint64_t value)
{
    struct location *list = &locations[location];
    const struct entry *entry = &entries[thread];
    if (entry->current.seen[location] != list->newest) {
        return "a write races with a write";
    }
    for (int other = 0; other < MODEL_MAX_THREADS; other++) {
        if (other != thread && list->last_read[other] > entry->current.reads[other]) {
            return "a write races with a read";
        }
    }
    append(thread, location, value, 0, NULL);
    return NULL;
}

const char *memory_plain_load(int thread, int location, uint64_t *value)
{
    struct location *list = &locations[location];
    struct entry *entry = &entries[thread];
    if (entry->current.seen[location] != list->newest) {
        return "a read races with a write";
    }
    entry->acquired.reads[thread] = ++entry->current.reads[thread];
    list->last_read[thread] = entry->current.reads[thread];
    *value = list->messages[list->newest].value;
    return NULL;
}

/* ---- the system's part --------------------------------------------------------------------- */

uint64_t memory_latest(int location)
{
    return locations[location].messages[locations[location].newest].value;
}

int memory_writer(int location)
{
    return locations[location].messages[locations[location].newest].writer;
}

const char *memory_free(int thread, const void *block, size_t len)
{
    const uintptr_t start = (uintptr_t)block;
    for (int i = 0; i < location_count; i++) {
        struct location *list = &locations[i];
        const uintptr_t at = (uintptr_t)list->object;
        if (!list->begun || at < start || at - start >= len) {
            continue;
        }
        if (entries[thread].current.seen[i] != list->newest) {
            return "what is freed may still be written to";
        }
        for (int other = 0; other < MODEL_MAX_THREADS; other++) {
            if (other != thread && list->last_read[other] > entries[thread].current.reads[other]) {
                return "what is freed may still be read";
            }
        }
        list->freed = true;
    }
    return NULL;
}

bool memory_is_freed(int location)
{
    return locations[location].freed;
}

void memory_publish(int thread, struct view *view)
{
    join(view, &entries[thread].current);
}

void memory_receive(int thread, const struct view *view)
{
    join(&entries[thread].current, view);
    join(&entries[thread].acquired, view);
}

/* ---- telling states apart ------------------------------------------------------------------ */

/* A view as far as anybody alive can tell: what all have passed is one and the same, and how much
 * that was is forgotten. */
static uint64_t hash_view(uint64_t seed, const struct view *view, const struct view *passed)
{
    struct view seen = *view;
    join(&seen, passed);
    for (int i = 0; i < MODEL_MAX_LOCATIONS; i++) {
        seen.seen[i] = (uint8_t)(seen.seen[i] - passed->seen[i]);
    }
    for (int i = 0; i < 8; i++) {
        seen.reads[i] = (uint8_t)(seen.reads[i] - passed->reads[i]);
    }
    return hash_bytes(seed, &seen, sizeof seen);
}

uint64_t memory_hash(uint64_t seed)
{
    struct view passed;
    memset(&passed, 0xff, sizeof passed);
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        const struct entry *entry = &entries[thread];
        if (!entry->alive) {
            continue;
        }
        const struct view *least = entry->hoists ? &entry->before_store : &entry->current;
        for (int i = 0; i < MODEL_MAX_LOCATIONS; i++) {
            passed.seen[i] = passed.seen[i] < least->seen[i] ? passed.seen[i] : least->seen[i];
        }
        for (int i = 0; i < 8; i++) {
            passed.reads[i] = passed.reads[i] < entry->current.reads[i] ? passed.reads[i]
                                                                        : entry->current.reads[i];
        }
    }
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        const struct entry *entry = &entries[thread];
        if (entry->alive || entry->ended) {
            seed = hash_view(seed, &entry->current, &passed);
            seed = hash_view(seed, &entry->acquired, &passed);
        }
        if (!entry->alive) {
            continue;
        }
        seed = hash_view(seed, &entry->released, &passed);
        if (entry->hoists) {
            seed = hash_view(seed, &entry->before_store, &passed);
        }
    }
    seed = hash_view(seed, &global, &passed);
    for (int i = 0; i < location_count; i++) {
        const struct location *list = &locations[i];
        if (!list->begun) {
            continue;
        }
        const int first = passed.seen[i] < list->newest ? passed.seen[i] : list->newest;
        uint8_t last_read[MODEL_MAX_THREADS];
        for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
            const uint8_t reads = passed.reads[thread];
            const uint8_t last = list->last_read[thread];
            last_read[thread] = (uint8_t)(last > reads ? last - reads : 0);
        }
        seed = hash_word(seed, (uint64_t)i << 16 | (uint64_t)(list->newest - first));
        seed = hash_bytes(seed, last_read, sizeof last_read);
        for (int m = first; m <= list->newest; m++) {
            seed = hash_word(seed,
                             list->messages[m].value ^ (uint64_t)list->messages[m].updates << 63);
            seed = hash_view(seed, &list->messages[m].view, &passed);
        }
    }
    return seed;
}
