/* holder.c: see holder.h. */
#define _GNU_SOURCE
#include "holder.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One line of /proc/PID/maps: where, and the file as the kernel names it there. That is not always
 * what fstat says (btrfs, overlayfs), so files are compared as maps names them. */
struct mapping {
    uintptr_t start;
    uintptr_t end;
    unsigned long major;
    unsigned long minor;
    uint64_t inode;
};

/* "start-end perms offset major:minor inode ..." */
static bool parse_mapping(const char *line, struct mapping *mapping)
{
    char *at;
    mapping->start = (uintptr_t)strtoull(line, &at, 16);
    if (*at != '-') {
        return false;
    }
    mapping->end = (uintptr_t)strtoull(at + 1, &at, 16);
    for (int field = 0; field < 3; field++) {
        at = strchr(at, ' ');
        if (at == NULL) {
            return false;
        }
        at++;
    }
    mapping->major = strtoul(at, &at, 16);
    if (*at != ':') {
        return false;
    }
    mapping->minor = strtoul(at + 1, &at, 16);
    mapping->inode = strtoull(at, NULL, 10);
    return true;
}

/* The next line, the path left out. False at the end. */
static bool next_mapping(FILE *maps, struct mapping *mapping)
{
    char line[160]; /* all that comes before the path */
    bool whole;
    do {
        if (fgets(line, sizeof line, maps) == NULL) {
            return false;
        }
        whole = parse_mapping(line, mapping);
        while (strchr(line, '\n') == NULL && fgets(line, sizeof line, maps) != NULL) {
        }
    } while (!whole);
    return true;
}

static FILE *open_of(uint32_t pid, const char *what)
{
    char path[40];
    (void)snprintf(path, sizeof path, "/proc/%u/%s", pid, what);
    return fopen(path, "re");
}

/* Does /proc count processes as we do? Else its directories are other processes'. */
static bool proc_is_ours(void)
{
    char self[16];
    const ssize_t len = readlink("/proc/self", self, sizeof self - 1);
    if (len <= 0) {
        return false;
    }
    self[len] = '\0';
    return strtol(self, NULL, 10) == (long)getpid();
}

/* How our own mapping of the segment is named. */
static bool find_ours(const struct shmipc_segment *segment, struct mapping *ours)
{
    FILE *maps = open_of((uint32_t)getpid(), "maps");
    bool found = false;
    while (maps != NULL && !found && next_mapping(maps, ours)) {
        found = ours->start <= (uintptr_t)segment->base && (uintptr_t)segment->base < ours->end;
    }
    if (maps != NULL) {
        (void)fclose(maps);
    }
    return found;
}

/* A process whose first thread has ended shows no mappings, though others may have them. */
static bool has_ended_first_thread(uint32_t pid)
{
    char text[256];
    FILE *stat = open_of(pid, "stat");
    if (stat == NULL) {
        return true;
    }
    const size_t len = fread(text, 1, sizeof text - 1, stat);
    (void)fclose(stat);
    text[len] = '\0';
    const char *state = strrchr(text, ')');
    return state == NULL || state[1] != ' ' || strchr("ZXx", state[2]) != NULL;
}

static enum shmipc_holder look_through(const struct shmipc_segment *segment, uint32_t pid,
                                       const struct mapping *ours)
{
    FILE *maps = open_of(pid, "maps");
    struct mapping mapping;
    enum shmipc_holder holder = SHMIPC_HOLDER_ELSEWHERE;
    bool any = false;
    if (maps == NULL) {
        return SHMIPC_HOLDER_UNKNOWN;
    }
    while (holder == SHMIPC_HOLDER_ELSEWHERE && next_mapping(maps, &mapping)) {
        const bool area = mapping.start < (uintptr_t)segment->base + segment->map_len &&
                          (uintptr_t)segment->base < mapping.end;
        const bool anchor =
            mapping.start <= (uintptr_t)segment->anchor && (uintptr_t)segment->anchor < mapping.end;
        const bool ourself = pid == (uint32_t)getpid() && (area || anchor);
        any = true;
        if (mapping.major == ours->major && mapping.minor == ours->minor &&
            mapping.inode == ours->inode && !ourself) {
            holder = SHMIPC_HOLDER_HERE;
        }
    }
    const bool failed = ferror(maps) != 0;
    (void)fclose(maps);
    if (holder == SHMIPC_HOLDER_ELSEWHERE && (failed || (!any && has_ended_first_thread(pid)))) {
        holder = SHMIPC_HOLDER_UNKNOWN;
    }
    return holder;
}

enum shmipc_holder shmipc_holder_find(const struct shmipc_segment *segment, uint32_t pid)
{
    struct mapping ours;
    if (pid == 0 || pid > INT32_MAX || segment->base == NULL) {
        return SHMIPC_HOLDER_UNKNOWN;
    }
    if (kill((pid_t)pid, 0) != 0 && errno == ESRCH) {
        return SHMIPC_HOLDER_ELSEWHERE; /* yet its lock is held: it lives, where we cannot see */
    }
    if (!proc_is_ours() || !find_ours(segment, &ours)) {
        return SHMIPC_HOLDER_UNKNOWN;
    }
    return look_through(segment, pid, &ours);
}

const char *shmipc_holder_note(const struct shmipc_segment *segment, uint32_t pid)
{
    return shmipc_holder_find(segment, pid) == SHMIPC_HOLDER_ELSEWHERE
               ? " of another pid namespace (another container's)"
               : "";
}
