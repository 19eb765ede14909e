/*
 * path.h: the names of segments and the paths of their files.
 *
 * Owns:     which names are valid, $SHMIPC_DIR, "DIR/shmipc.NAME", the temporary name of a file
 *           that has not been published.
 * Must not know: what is in a segment.
 */
#ifndef SHMIPC_PATH_H
#define SHMIPC_PATH_H

#include "../base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define SHMIPC_NAME_MAX 200u
#define SHMIPC_DEFAULT_DIR "/dev/shm"
#define SHMIPC_FILE_PREFIX "shmipc."
/* No name of a ring; then 16 hexadecimal digits and ".tmp". */
#define SHMIPC_TEMPORARY_PREFIX ".shmipc."
#define SHMIPC_PATH_MAX 4096u

#define SHMIPC_TEMPORARY_MAX 32u

/* "[A-Za-z0-9][A-Za-z0-9._-]{0,199}" */
bool shmipc_name_is_valid(const char *name, size_t len);

/* $SHMIPC_DIR, or /dev/shm. The pointer is the environment's. */
const char *shmipc_segment_dir(void);

/* "DIR/shmipc.NAME". INVALID with a text if the name or the length will not do. */
enum shmipc_status shmipc_segment_path(const char *name, size_t len, char path[SHMIPC_PATH_MAX],
                                       struct shmipc_error *error);

/* The directory of a path: "." where it has no slash. */
void shmipc_path_directory(const char *path, char dir[SHMIPC_PATH_MAX]);

/* The path of the file `temporary`, which lies beside `path`. */
void shmipc_path_temporary(const char *path, const char temporary[SHMIPC_TEMPORARY_MAX],
                           char out[SHMIPC_PATH_MAX + SHMIPC_TEMPORARY_MAX]);
/* Remove that file and forget its name; nothing where `temporary` is "". */
void shmipc_path_drop_temporary(const char *path, char temporary[SHMIPC_TEMPORARY_MAX]);

#endif
