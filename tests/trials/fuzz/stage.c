/* stage.c: see stage.h. */
#define _GNU_SOURCE
#include "stage.h"

#include "../../../src/core/segment/locks.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ACCESS_LIMIT = 200000, /* more accesses than this in one operation are a loop without end */
    ACTS = 8,
    GUARD_LEN = 1 << 20,
    SLOTS_MAX = 70
};

static const uint32_t slot_counts[] = {1, 2, 3, SLOTS_MAX};
static const uint64_t area_lens[] = {4096, AREA_MAX};
static const uint64_t origins[] = {0, 0 - UINT64_C(4096), (UINT64_C(1) << 63) - 4096,
                                   (UINT64_C(1) << 32) - 64};
/* 0: a message ring. The last starts its items on cache lines, with a gap behind each. */
static const uint64_t item_lens[] = {0, 24, 1, 100, 1000, 4096, 0, 4100};

struct memory {
    struct shmipc_header *shared[4]; /* by number of slots */
    unsigned char *writable[2];      /* by size of the area */
    unsigned char *read_only[2];
    int fds[1 + CONSUMERS]; /* one open each, as real roles have */
};

struct act {
    uint64_t at; /* before which access of the operation; counted on from the last one */
    uint64_t raw;
    uint16_t where;
    uint8_t base;
    uint8_t delta;
    uint8_t period; /* 0: once */
};

static struct act acts[ACTS];
static uint32_t act_count;

static struct memory memory;
static struct stage stage;
static bool inside;
static bool allocated;

/* ---- memory --------------------------------------------------------------------------------- */

static unsigned char *map_twice(int fd, size_t area_len, int protection)
{
    unsigned char *base = mmap(NULL, 2 * area_len + 2 * (size_t)GUARD_LEN, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(base != MAP_FAILED);
    for (size_t half = 0; half < 2; half++) {
        REQUIRE(mmap(base + GUARD_LEN + half * area_len, area_len, protection,
                     MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED);
    }
    return base + GUARD_LEN;
}

static void count_allocation(const volatile void *address, size_t len)
{
    (void)address;
    (void)len;
    allocated = allocated || inside; /* judged later: a crash report allocates too */
}

static void ignore_free(const volatile void *address)
{
    (void)address;
}

extern int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *,
                                                                         size_t),
                                                     void (*free_hook)(const volatile void *));

static size_t shared_len(uint32_t slots)
{
    return sizeof(struct shmipc_header) + slots * sizeof(struct shmipc_slot);
}

static void prepare(void)
{
    char path[64];
    for (size_t i = 0; i < 4; i++) {
        void *shared = NULL;
        REQUIRE(posix_memalign(&shared, SHMIPC_LINE, shared_len(slot_counts[i])) == 0);
        memory.shared[i] = shared;
    }
    for (size_t i = 0; i < 2; i++) {
        const int fd = memfd_create("fuzz-data", MFD_CLOEXEC);
        REQUIRE(fd >= 0 && ftruncate(fd, (off_t)area_lens[i]) == 0);
        memory.writable[i] = map_twice(fd, area_lens[i], PROT_READ | PROT_WRITE);
        memory.read_only[i] = map_twice(fd, area_lens[i], PROT_READ);
        (void)close(fd);
    }
    memory.fds[0] = memfd_create("fuzz-locks", MFD_CLOEXEC);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", memory.fds[0]);
    for (int i = 1; i <= CONSUMERS; i++) {
        memory.fds[i] = open(path, O_RDWR | O_CLOEXEC);
        REQUIRE(memory.fds[i] >= 0);
    }
    REQUIRE(__sanitizer_install_malloc_and_free_hooks(count_allocation, ignore_free) > 0);
}

/* ---- the scene ------------------------------------------------------------------------------ */

static void drop_all_locks(int fd)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    (void)fcntl(fd, F_OFD_SETLK, &lock);
}

static void fill_geometry(struct shmipc_geometry *geometry, uint32_t slots, uint64_t area_len,
                          uint64_t item_len, bool overwrite, uint64_t origin)
{
    memset(geometry, 0, sizeof *geometry);
    geometry->framing = item_len == 0 ? SHMIPC_FRAMING_MESSAGE : SHMIPC_FRAMING_TYPED;
    geometry->overflow = overwrite ? SHMIPC_OVERFLOW_OVERWRITE : SHMIPC_OVERFLOW_BLOCK;
    geometry->slots = slots;
    geometry->item_len = item_len;
    geometry->item_stride = item_len == 0 ? 0 : shmipc_item_stride_for(item_len);
    geometry->schema_off = shared_len(slots);
    geometry->data_off = 16384;
    geometry->area_len = area_len;
    geometry->origin_pos = origin;
    REQUIRE(shmipc_geometry_fault(geometry, geometry->data_off + area_len) == NULL);
}

static void attach_segment(struct shmipc_segment *segment, int fd, const unsigned char *data,
                           const struct shmipc_geometry *geometry)
{
    memset(segment, 0, offsetof(struct shmipc_segment, path) + 1);
    struct stat status;
    REQUIRE(fstat(fd, &status) == 0);
    segment->fd = fd;
    segment->device = status.st_dev;
    segment->inode = status.st_ino;
    segment->header = stage.shared;
    segment->data = (unsigned char *)(uintptr_t)data;
    segment->geometry = *geometry;
}

static struct shmipc_geometry geometry;
static unsigned char *writable;

enum shmipc_status stage_attach_producer(struct stage *on)
{
    struct shmipc_producer_role *producer = &on->producer;
    memset(producer, 0, offsetof(struct shmipc_producer_role, segment));
    attach_segment(&producer->segment, memory.fds[0], writable, &geometry);
    shmipc_ring_attach(&producer->ring.map, &producer->segment);
    shmipc_spin_init(&producer->spin, 0, false);
    (void)shmipc_lock_try(&producer->segment, SHMIPC_LOCK_PRODUCER);
    return shmipc_ring_take_over(&producer->ring);
}

void stage_attach_consumer(struct stage *on, uint32_t index)
{
    struct stage_consumer *consumer = &on->consumers[index];
    memset(&consumer->core, 0, offsetof(struct shmipc_consumer_role, segment));
    memset(consumer->is_leased, 0, sizeof consumer->is_leased);
    consumer->joined = false;
    attach_segment(&consumer->core.segment, memory.fds[1 + index], on->data, &geometry);
    shmipc_ring_attach(&consumer->core.ring.map, &consumer->core.segment);
    shmipc_spin_init(&consumer->core.spin, 0, false);
}

struct stage *stage_open(const uint8_t *bytes, size_t len)
{
    if (writable == NULL) {
        prepare();
    }
    stage.script = (struct script){bytes, len};
    const uint8_t kind = script_u8(&stage.script);
    const uint8_t shape = script_u8(&stage.script);
    const uint64_t item_len = item_lens[kind % 8];
    const size_t size = kind >> 3 & 1 || item_len > 4096 ? 1 : 0;
    const size_t slots = shape & 3;
    stage.shared = memory.shared[slots];
    stage.area_len = area_lens[size];
    stage.data = memory.read_only[size];
    writable = memory.writable[size];
    fill_geometry(&geometry, slot_counts[slots], stage.area_len, item_len, (shape >> 2 & 1) != 0,
                  origins[shape >> 3 & 3]);
    for (uint32_t i = 0; i < CONSUMERS; i++) { /* where there is one slot, they take turns */
        stage.slot_of[i] = i < slot_counts[slots] ? i : 0;
    }
    if (slot_counts[slots] == SLOTS_MAX) {
        stage.slot_of[2] = SLOTS_MAX - 1; /* in the second word of the member bits */
    }
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        if (stage.consumers[i].may_hold_locks) {
            drop_all_locks(memory.fds[1 + i]);
            stage.consumers[i].may_hold_locks = false;
        }
    }
    memset(writable, 0, stage.area_len);
    memset((void *)stage.shared, 0, shared_len(slot_counts[slots]));
    stage.shared->geometry = geometry;
    act_count = 0;
    inside = false;
    fuzz_next = UINT64_MAX;
    shmipc_ring_format(stage.shared);
    REQUIRE(stage_attach_producer(&stage) == SHMIPC_OK);
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        stage_attach_consumer(&stage, i);
    }
    return &stage;
}

/* ---- the peer ------------------------------------------------------------------------------- */

static shmipc_atomic_u64 *word_at(uint16_t where)
{
    struct shmipc_header *shared = stage.shared;
    switch (where % 16) {
    case 0:
    case 1:
        return &shared->commit.head_pos;
    case 2:
    case 3:
        return &shared->retention.tail_pos;
    case 4:
        return &shared->commit.notes[where >> 4 & 1].pos;
    case 5:
        return &shared->commit.notes[where >> 4 & 1].seq;
    case 6:
        return &shared->space.wanted_pos;
    case 7:
        return &shared->members.bits[(where >> 4) % SHMIPC_MEMBER_WORDS];
    case 8:
    case 9:
        return &shared->slots[(where >> 4) % geometry.slots].cursor_pos;
    default: /* any word of the header: geometry, reserved fields, padding */
        return (shmipc_atomic_u64 *)(void *)shared +
               (where >> 4) % (shared_len(geometry.slots) / 8);
    }
}

static uint64_t value_of(const struct act *act, uint64_t now)
{
    const uint64_t bases[] = {
        0,
        now,
        stage.producer.ring.head_pos,
        stage.producer.ring.tail_pos,
        stage.consumers[0].core.ring.read_pos,
        stage.consumers[1].core.ring.cursor_pos,
        atomic_load_explicit(&stage.shared->slots[0].cursor_pos, memory_order_relaxed),
        act->raw};
    const uint64_t area = stage.area_len;
    const uint64_t stride = geometry.item_stride != 0 ? geometry.item_stride : 16;
    const uint64_t deltas[] = {0,
                               1,
                               8,
                               16,
                               stride,
                               area,
                               area - 1,
                               area + 1,
                               area / 8,
                               2 * area,
                               stride - 1,
                               area - stride,
                               UINT64_C(1) << 63,
                               UINT64_C(1) << 32,
                               UINT64_C(1) << 46,
                               act->raw};
    const uint64_t delta = deltas[act->delta & 15];
    const uint64_t base = bases[act->base & 7];
    return (act->delta & 16) != 0 ? base - delta : base + delta;
}

static void store(struct act *act)
{
    const uint16_t what = act->where % 32;
    if (what >= 20 && what < 26) { /* a message header: length, kind, flags, sequence */
        const uint64_t off = (uint64_t)(act->where >> 5) * 8 % stage.area_len;
        memcpy(writable + off, &act->raw, 8);
    } else if (what >= 26 && what < 30) { /* any byte of the data */
        writable[act->raw % stage.area_len] = (unsigned char)(act->where >> 5);
    } else if (what == 30) { /* the words that threads sleep on, and the end of the stream */
        shmipc_atomic_u32 *words[] = {&stage.shared->data.sleepers, &stage.shared->space.sleepers,
                                      &stage.shared->identity.closed, &stage.shared->slots[0].pid};
        atomic_store_explicit(words[act->where >> 5 & 3], (uint32_t)act->raw | (act->base & 1),
                              memory_order_relaxed);
        act->raw += 2;
    } else {
        shmipc_atomic_u64 *word = word_at(act->where);
        const uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
        atomic_store_explicit(word, value_of(act, now), memory_order_relaxed);
    }
}

static void plan_next(void)
{
    fuzz_next = inside ? ACCESS_LIMIT : UINT64_MAX;
    for (uint32_t i = 0; inside && i < act_count; i++) {
        if (acts[i].at < fuzz_next) {
            fuzz_next = acts[i].at;
        }
    }
}

void fuzz_peer_acts(void)
{
    REQUIRE(fuzz_accesses < ACCESS_LIMIT);
    for (uint32_t i = 0; i < act_count;) {
        struct act *act = &acts[i];
        if (act->at > fuzz_accesses) {
            i++;
            continue;
        }
        store(act);
        if (act->period != 0) {
            act->at = fuzz_accesses + act->period;
            i++;
        } else {
            *act = acts[--act_count];
        }
    }
    plan_next();
}

void stage_hostile_store(struct stage *on)
{
    struct script *script = &on->script;
    const uint8_t when = script_u8(script); /* 0 to 127: now */
    struct act act = {.where = script_u16(script), .base = script_u8(script)};
    act.delta = act.base >> 3;
    if ((act.base & 7) == 7 || (act.delta & 15) == 15 || act.where % 32 >= 20) {
        act.raw = script_u64(script);
    }
    if (when < 128 || act_count == ACTS) {
        store(&act);
        return;
    }
    act.at = 1 + (when & 31);
    act.period = (when & 64) != 0 ? (uint8_t)(1 + (when & 3)) : 0;
    acts[act_count++] = act;
}

void stage_begin(void)
{
    fuzz_accesses = 0;
    allocated = false;
    inside = true;
    plan_next();
}

void stage_end(void)
{
    inside = false;
    REQUIRE(!allocated);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < act_count; i++) { /* the rest of the wait goes on in the next one */
        if (acts[i].period == 0 && acts[i].at > fuzz_accesses) {
            acts[kept] = acts[i];
            acts[kept++].at -= fuzz_accesses;
        }
    }
    act_count = kept;
    plan_next();
}

/* ---- what must hold ------------------------------------------------------------------------- */

void stage_check_producer(const struct stage *on)
{
    const struct shmipc_ring_producer *producer = &on->producer.ring;
    REQUIRE(shmipc_ring_room(producer) <= on->area_len);
    REQUIRE(producer->head_pos - producer->tail_pos <= on->area_len);
    REQUIRE(producer->limit_pos - producer->tail_pos <= on->area_len);
}

void stage_check_consumer(const struct stage *on, const struct stage_consumer *consumer)
{
    const struct shmipc_ring_consumer *ring = &consumer->core.ring;
    REQUIRE(ring->head_pos_cached - ring->read_pos <= on->area_len);
    REQUIRE(ring->map.item_stride != 0 || ring->read_pos % SHMIPC_MESSAGE_ALIGN == 0);
}

void stage_check_message(const struct stage *on, const struct shmipc_message *message)
{
    const volatile unsigned char *byte = message->data;
    REQUIRE(message->data >= on->data && message->data < on->data + on->area_len + 16);
    REQUIRE(message->len <= on->area_len && message->span <= on->area_len);
    REQUIRE(message->len <= message->span && message->span > 0);
    REQUIRE(message->data + message->len <= on->data + 2 * on->area_len);
    for (uint64_t i = 0; i < message->len; i += 61) {
        (void)byte[i];
    }
    if (message->len > 0) {
        (void)byte[message->len - 1];
    }
}
