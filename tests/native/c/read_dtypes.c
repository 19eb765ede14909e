/*
 * read_dtypes.c: gives shmipc_schema_write() every line of the standard input, in memory that ends
 * where the line ends, and room that ends where it said: for the sanitizers. Prints how many were
 * understood. Run by tests/native/test_api_dtype.py.
 */
#include "../../../src/api/dtype.h"
#include "../../../src/core/base/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum shmipc_status try_with(const char *dtype, const uint64_t *shape, uint32_t axes,
                                   size_t room, uint32_t *len)
{
    struct shmipc_error error = {.text = ""};
    uint64_t item_len = 0;
    char *text = malloc(room);
    if (text == NULL) {
        abort();
    }
    const enum shmipc_status status =
        shmipc_schema_write(dtype, shape, axes, text, room, len, &item_len, &error);
    if (status == SHMIPC_OK ? *len >= room || text[*len] != '\0' || strlen(text) != *len ||
                                  item_len == 0 || item_len > SHMIPC_MAX_AREA_LEN
                            : status != SHMIPC_INVALID || error.text[0] == '\0') {
        (void)fprintf(stderr, "status %d, length %u of %zu: %s\n", (int)status, *len, room, dtype);
        abort();
    }
    free(text);
    return status;
}

int main(void)
{
    static char line[1 << 20];
    const uint64_t shape[] = {3, 1};
    long understood = 0;
    while (fgets(line, sizeof line, stdin) != NULL) {
        const size_t size = strcspn(line, "\n");
        char *dtype = malloc(size + 1);
        if (dtype == NULL) {
            abort();
        }
        memcpy(dtype, line, size);
        dtype[size] = '\0';
        uint32_t len = 0;
        if (try_with(dtype, NULL, 0, SHMIPC_MAX_SCHEMA_LEN + 1, &len) == SHMIPC_OK) {
            understood++;
            uint32_t again;
            if (try_with(dtype, NULL, 0, len + 1, &again) != SHMIPC_OK || again != len ||
                try_with(dtype, NULL, 0, len, &again) != SHMIPC_INVALID ||
                try_with(dtype, NULL, 0, len / 2 + 1, &again) != SHMIPC_INVALID) {
                abort();
            }
        }
        (void)try_with(dtype, shape, 2, 300, &len);
        (void)try_with(dtype, NULL, 0, 1, &len);
        free(dtype);
    }
    (void)printf("%ld\n", understood);
    return 0;
}
