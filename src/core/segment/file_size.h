/*
 * file_size.h: growing a file where the process's limit on file sizes may forbid it.
 *
 * A write past RLIMIT_FSIZE (`ulimit -f`) fails with EFBIG, and the kernel sends the writing thread
 * a SIGXFSZ first, which ends the process by default. A library leaves its process alone: the
 * signal is blocked in this thread meanwhile and taken back. No look at the limit beforehand could
 * do that: setrlimit(2) in another thread, or prlimit(2) from outside, may change it after the
 * look.
 *
 * Owns:     reserving and writing a file's bytes, and the words for EFBIG.
 * Must not know: segments.
 */
#ifndef SHMIPC_FILE_SIZE_H
#define SHMIPC_FILE_SIZE_H

#include "../base/error.h"

#include <stdint.h>
#include <sys/types.h>

/* Reserve the file's first `file_len` bytes. 0 or an errno; never EINTR. */
int shmipc_file_reserve(int fd, uint64_t file_len);

/* As pwrite(2). */
ssize_t shmipc_file_pwrite(int fd, const void *bytes, size_t len, uint64_t off);

/* SHMIPC_OS and EFBIG, naming the limit that is in the way. */
enum shmipc_status shmipc_fail_for_size(struct shmipc_error *error, const char *path,
                                        uint64_t file_len);

#endif
