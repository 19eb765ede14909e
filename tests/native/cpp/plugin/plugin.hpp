/* plugin.hpp: what a host and its plugin know of each other. Both are built with hidden visibility;
 * the host exports nothing, and loads the plugin with RTLD_LOCAL. */
#ifndef PLUGIN_HPP
#define PLUGIN_HPP

#include <shmipc.hpp>

struct Plugin {
    std::error_code (*fail)(const char *name);        /* to open this ring */
    void (*raise)(const char *name);                  /* likewise */
    bool (*is_invalid)(const std::error_code &error); /* by its own Errc */
    bool (*catches)(void (*call)());                  /* an InvalidArgument of the caller's */
};

#endif
