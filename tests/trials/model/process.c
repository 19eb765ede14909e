/*
 * process.c: what threads of one process share besides locations. See machine.h.
 *
 * Owns:     plain memory that decides what happens next (lists, counts: told apart by its bytes),
 *           joining threads, freeing memory.
 */
#include "memory.h"
#include "run.h"

#include <string.h>

enum { MAX_STRETCHES = 6, MAX_STILL = 4 };

static struct stretch {
    const void *bytes;
    size_t len;
    bool claims; /* no thread does anything else for it */
} stretches[MAX_STRETCHES];
static int stretch_count;
static const volatile void *still[MAX_STILL];
static int still_count;

void process_reset(void)
{
    stretch_count = 0;
    still_count = 0;
}

bool process_has_memory(void)
{
    return stretch_count != 0;
}

uint64_t process_hash(uint64_t seed, bool claims)
{
    for (int i = 0; i < stretch_count; i++) {
        if (stretches[i].claims && !claims) {
            continue;
        }
        seed = hash_bytes(seed, stretches[i].bytes, stretches[i].len);
    }
    return seed;
}

static void add(const void *bytes, size_t len, bool claims)
{
    model_check(stretch_count < MAX_STRETCHES, "there is room for another stretch");
    if (stretch_count < MAX_STRETCHES) {
        stretches[stretch_count++] = (struct stretch){bytes, len, claims};
    }
}

void model_hash_also(const void *bytes, size_t len)
{
    add(bytes, len, false);
}

void model_hash_claims(const void *bytes, size_t len)
{
    add(bytes, len, true);
}

void model_hold_still(const volatile void *object)
{
    model_check(still_count < MAX_STILL, "there is room for another word");
    if (still_count < MAX_STILL) {
        still[still_count++] = object;
    }
}

bool model_is_still(const volatile void *object)
{
    for (int i = 0; i < still_count; i++) {
        if (still[i] == object) {
            return true;
        }
    }
    return false;
}

void model_let_stores_cross(const volatile void *object, size_t size)
{
    memory_let_cross(memory_find(object, size));
}

/* ---- steps ---------------------------------------------------------------------------------- */

static bool others_have_ended(void *arg)
{
    const int self = *(const int *)arg;
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        if (thread != self && model_is_alive(thread)) {
            return false;
        }
    }
    return true;
}

static uint64_t join_others(void *arg)
{
    const int self = *(const int *)arg;
    struct view done;
    memset(&done, 0, sizeof done);
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        if (thread != self && model_has_run(thread)) {
            memory_publish(thread, &done);
        }
    }
    memory_receive(self, &done);
    return 0;
}

void model_join(void)
{
    int self = model_self();
    (void)model_system("join", others_have_ended, join_others, &self);
}

static uint64_t free_stretch(void *arg)
{
    const struct stretch *freed = arg;
    const char *race = memory_free(model_self(), freed->bytes, freed->len);
    if (race != NULL) {
        model_refuse(race);
    }
    return 0;
}

void model_free(const void *block, size_t len)
{
    struct stretch freed = {block, len, false};
    (void)model_system("free", NULL, free_stretch, &freed);
}
