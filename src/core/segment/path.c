/* path.c: see path.h. */
#define _GNU_SOURCE
#include "path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool shmipc_name_is_valid(const char *name, size_t len)
{
    if (len == 0 || len > SHMIPC_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        const char c = name[i];
        const bool alphanumeric =
            (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alphanumeric && (i == 0 || (c != '.' && c != '_' && c != '-'))) {
            return false;
        }
    }
    return true;
}

const char *shmipc_segment_dir(void)
{
    const char *dir = getenv("SHMIPC_DIR");
    return dir != NULL && dir[0] != '\0' ? dir : SHMIPC_DEFAULT_DIR;
}

enum shmipc_status shmipc_segment_path(const char *name, size_t len, char path[SHMIPC_PATH_MAX],
                                       struct shmipc_error *error)
{
    const char *dir = shmipc_segment_dir();
    if (!shmipc_name_is_valid(name, len)) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "a name is 1 to %u characters of A-Z a-z 0-9 . _ - and starts with a "
                           "letter or a digit",
                           SHMIPC_NAME_MAX);
    }
    /* Absolute, so that a later chdir does not lead us to remove another file, or none. */
    char here[SHMIPC_PATH_MAX] = "";
    if (dir[0] != '/' && getcwd(here, sizeof here - 1) == NULL) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "SHMIPC_DIR is relative to a directory that does not exist any more");
    }
    const int written = snprintf(path, SHMIPC_PATH_MAX, "%s%s%s/" SHMIPC_FILE_PREFIX "%.*s", here,
                                 here[0] != '\0' ? "/" : "", dir, (int)len, name);
    if (written < 0 || (size_t)written >= SHMIPC_PATH_MAX) {
        return shmipc_fail(error, SHMIPC_INVALID, 0, "the path of SHMIPC_DIR is too long");
    }
    return SHMIPC_OK;
}

void shmipc_path_directory(const char *path, char dir[SHMIPC_PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        (void)snprintf(dir, SHMIPC_PATH_MAX, ".");
        return;
    }
    const size_t len = slash != path ? (size_t)(slash - path) : 1;
    memcpy(dir, path, len);
    dir[len] = '\0';
}

void shmipc_path_temporary(const char *path, const char temporary[SHMIPC_TEMPORARY_MAX],
                           char out[SHMIPC_PATH_MAX + SHMIPC_TEMPORARY_MAX])
{
    char dir[SHMIPC_PATH_MAX];
    shmipc_path_directory(path, dir);
    (void)snprintf(out, SHMIPC_PATH_MAX + SHMIPC_TEMPORARY_MAX, "%s/%.*s", dir,
                   (int)SHMIPC_TEMPORARY_MAX - 1, temporary);
}

void shmipc_path_drop_temporary(const char *path, char temporary[SHMIPC_TEMPORARY_MAX])
{
    char file[SHMIPC_PATH_MAX + SHMIPC_TEMPORARY_MAX];
    if (temporary[0] != '\0') {
        shmipc_path_temporary(path, temporary, file);
        (void)unlink(file);
        temporary[0] = '\0';
    }
}
