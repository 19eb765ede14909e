#include "error.h"

#include <stdarg.h>
#include <stdio.h>

enum shmipc_status shmipc_fail(struct shmipc_error *error, enum shmipc_status status, int os_error,
                               const char *format, ...)
{
    va_list arguments;
    error->status = status;
    error->os_error = os_error;
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}
