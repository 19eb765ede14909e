/*
 * segment.h: a named file, mapped: created whole, checked before it is believed.
 *
 * Owns:     names and paths, the file's life (create, publish, open, unlink), its mapping (the data
 *           area twice back to back), the validation of its geometry, locks on its bytes, and what
 *           fork does to all of these.
 * Must not know: positions, cursors, waiting.
 *
 * Of another primitive's segment everything here would be the same. What is the ring's alone lies
 * in geometry.h (framing, overflow, slots, item length), in the header of layout.h (cursors,
 * notes), and in the error texts that say "ring".
 *
 * Locks are open-file-description locks on single bytes (enum in layout.h). The kernel drops them
 * when the last use of that open goes, which is at the latest when the process dies: there is no
 * heartbeat and no timer. Such a use is the descriptor, and the anchor: a page mapped through it
 * that no forked child inherits. So the roles outlive a descriptor that other code closes
 * (os.closerange). A number is compared with the file that we opened before it is trusted or
 * closed; a lost one ends the handle's usefulness (CORRUPT), not the role. Every handle has its own
 * open, so two handles in one process exclude each other as two processes do. The gate byte is held
 * for microseconds around whatever must not interleave: attach, detach, takeover, reclaim, unlink.
 *
 * Nothing read from the file is trusted: the geometry is read once with pread, checked against
 * fstat, and used from the private copy in struct shmipc_segment.
 *
 * If the file is truncated while mapped, the SIGBUS handler of each process that touches the
 * missing part maps zeros and sets `damaged` (fault.h). So the flag, looked at after bytes were
 * copied out or published, says whether they were the ring's; until then they may be zeros. A file
 * that was truncated and extended again between two touches reads as zeros without a fault, and
 * cannot be detected by touching it. Zeros in the header contradict the positions, and a message of
 * zeros is Corrupt; but an item of zeros looks like one that was sent.
 */
#ifndef SHMIPC_SEGMENT_H
#define SHMIPC_SEGMENT_H

#include "../base/error.h"
#include "../base/step.h"
#include "fault.h"
#include "geometry.h"
#include "path.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct shmipc_segment {
    int fd;      /* -1 in a forked child and after close */
    bool forked; /* this process is a fork's child: the handle belongs to the parent */
    shmipc_atomic_u32 damaged; /* private: the file was truncated while mapped */
    shmipc_atomic_u32 lost;    /* private: other code closed descriptor `lost` - 1; 0: none */
    bool named;                /* the file had a name when we opened it, or got one from us */
    bool removed; /* private: it has none any more, and no producer took it away on purpose */
    dev_t device;
    ino_t inode;
    uid_t owner;
    uint32_t mode;
    void *anchor;        /* keeps the open of `fd`, and so its locks; not in a forked child */
    unsigned char *base; /* header, data area, data area again */
    size_t map_len;
    struct shmipc_fault_watch *watch;
    struct shmipc_header *header;
    unsigned char *data;
    struct shmipc_geometry geometry; /* checked; the segment's own copy is never read again */
    bool listed;
    struct shmipc_segment *previous; /* all open segments of this process, for fork */
    struct shmipc_segment *next;
    char temporary[SHMIPC_TEMPORARY_MAX]; /* the name it has until it is published; "": none */
    char path[SHMIPC_PATH_MAX];
};

/* An unnamed file with its blocks reserved and its geometry and schema written; not yet mapped.
 * Where the file system has no unnamed files (O_TMPFILE), one with a name that is no ring's.
 * OS (ENOSPC names the directory, the size asked and the size free), INVALID, OK. */
enum shmipc_status shmipc_segment_create(struct shmipc_segment *segment, const char *path,
                                         const struct shmipc_spec *spec,
                                         struct shmipc_error *error);

/* Give a created segment its name. BUSY: the name was taken meanwhile. */
enum shmipc_status shmipc_segment_publish(struct shmipc_segment *segment,
                                          struct shmipc_error *error);

/* Open an existing file and check its geometry. NOT_FOUND (or its directory), CORRUPT (not ours,
 * truncated, contradictory), OS, OK. Not yet mapped. */
enum shmipc_status shmipc_segment_open(struct shmipc_segment *segment, const char *path,
                                       struct shmipc_error *error);

/* The same for cleaning up: with `damaged` set, the file is not whole (truncated, contradictory, or
 * all zeros where its header was) but was once a segment of this format, or nothing at all; then
 * only its locks and its name can be used. */
enum shmipc_status shmipc_segment_open_damaged(struct shmipc_segment *segment, const char *path,
                                               bool *damaged, struct shmipc_error *error);

/* pread(2) from the file, whatever signals come. */
ssize_t shmipc_segment_pread(const struct shmipc_segment *segment, void *to, size_t len,
                             uint64_t off);

/* Second half of both: read the geometry from the file, whose length is `file_len`, and judge it.
 */
enum shmipc_status shmipc_segment_read_geometry(struct shmipc_segment *segment, uint64_t file_len,
                                                bool *damaged, struct shmipc_error *error);

/* Map header and data. `writable`: the data area too (the header always is). OS (no memory, no
 * address space, no descriptor; ENOSYS: no /proc), OK. */
enum shmipc_status shmipc_segment_map(struct shmipc_segment *segment, bool writable,
                                      struct shmipc_error *error);

/* Was the file truncated while mapped, as far as we have touched it? Look after a copy, not before.
 * One load of a private line. */
static inline bool shmipc_segment_is_damaged(const struct shmipc_segment *segment)
{
    /* G2 <-> F2 (fault.h). */
    shmipc_fence_copied();
    return SHMIPC_UNLIKELY(shmipc_load_relaxed(&segment->damaged) != 0);
}

/* What is known to be wrong: CORRUPT (the file was truncated, or our descriptor is lost), REMOVED
 * (the file has no name left: what is in the ring is whole), OK. */
static inline enum shmipc_status shmipc_segment_state(const struct shmipc_segment *segment)
{
    /* Relaxed: nothing is read by what `lost` says. */
    return shmipc_segment_is_damaged(segment) || shmipc_load_relaxed(&segment->lost) != 0
               ? SHMIPC_CORRUPT
           : segment->removed ? SHMIPC_REMOVED
                              : SHMIPC_OK;
}

/* The same with a look at file and descriptor: finds a truncation that nobody has touched yet.
 * REMOVED goes by the file's number of names, as its old name may lead to another ring now. System
 * calls. */
enum shmipc_status shmipc_segment_examine(struct shmipc_segment *segment);

/* Fill in `error` where /proc/self/fd, which every open needs, is not there; OS. */
enum shmipc_status shmipc_segment_fail_for_proc(struct shmipc_error *error, const char *path);

/* Fill in `error` with what the state is, and return it; not for OK. */
enum shmipc_status shmipc_segment_fail_damaged(const struct shmipc_segment *segment,
                                               struct shmipc_error *error);
/* Fill in `error` for a producer that closed with messages left in a removed file; REMOVED. */
enum shmipc_status shmipc_segment_fail_undelivered(const struct shmipc_segment *segment,
                                                   struct shmipc_error *error);

/* Make the data area private to this process, by a copy: views that outlive a producer's role can
 * then still be read, show nobody's later bytes, and can be written without reaching anybody. Where
 * there is no memory for the copy, it stays shared and becomes read-only. */
void shmipc_segment_privatize(struct shmipc_segment *segment);

/* Read the schema into `schema` (geometry.schema_len bytes). CORRUPT if its hash is wrong; OS. */
enum shmipc_status shmipc_segment_read_schema(const struct shmipc_segment *segment, char *schema,
                                              struct shmipc_error *error);

/* Does this process's user own the file? For producers: the owner of a file can read what is
 * written to it, whatever its mode. OS (EPERM), OK. */
enum shmipc_status shmipc_segment_check_owner(const struct shmipc_segment *segment,
                                              struct shmipc_error *error);
/* Give the file these permission bits. OS, OK. */
enum shmipc_status shmipc_segment_set_mode(struct shmipc_segment *segment, uint32_t mode,
                                           struct shmipc_error *error);

/* Still the file that its name leads to? False once unlinked or replaced. */
bool shmipc_segment_is_named(const struct shmipc_segment *segment);

/* Remove the name, if it still leads to this file. For a ring that nobody else is attached to.
 * False: the system refuses (errno), as it does in a sticky directory for somebody else's file. */
bool shmipc_segment_unlink(const struct shmipc_segment *segment);
/* The same for a ring in use: attached processes go on undisturbed. The file's sticky bit says to
 * a process that finds it without a name that this was meant; the system keeps both in one inode,
 * so no look sees the one without the other. OS, CORRUPT (the descriptor is lost), OK. */
enum shmipc_status shmipc_segment_dismiss(struct shmipc_segment *segment,
                                          struct shmipc_error *error);

/* Unmap, and detach if that has not happened. Safe on a zeroed or closed struct. */
void shmipc_segment_close(struct shmipc_segment *segment);

#endif
