/* plugin.cpp: see plugin.hpp. */
#include "plugin.hpp"

static std::error_code fail(const char *name)
{
    std::error_code error;
    const shmipc::Producer<> refused(name, {}, error);
    return error;
}

static void raise(const char *name)
{
    const shmipc::Producer<> refused(name);
}

static bool is_invalid(const std::error_code &error)
{
    return error == shmipc::Errc::invalid;
}

static bool catches(void (*call)())
{
    try {
        call();
    } catch (const shmipc::InvalidArgument &error) {
        return error.code() == shmipc::Errc::invalid;
    } catch (...) {
    }
    return false;
}

extern "C" __attribute__((visibility("default"))) const Plugin plugin;
const Plugin plugin = {fail, raise, is_invalid, catches};
