/* host.cpp: `host PLUGIN...`: errors of shmipc that come from plugins, and go to them. */
#include "../check.hpp"
#include "plugin.hpp"

#include <dlfcn.h>

using shmipc::Errc;

static const char *const BAD = "no/name";

static std::error_code own_failure()
{
    std::error_code error;
    const shmipc::Producer<> refused(BAD, {}, error);
    return error;
}

static void check_codes(const Plugin &plugin)
{
    const std::error_code theirs = plugin.fail(BAD);
    const std::error_code ours = own_failure();
    CHECK(theirs == Errc::invalid && Errc::invalid == theirs);
    CHECK(!(theirs != Errc::invalid) && !(Errc::invalid != theirs));
    CHECK(theirs != Errc::closed && Errc::closed != theirs && !(theirs == Errc::closed));
    CHECK(plugin.is_invalid(ours) && !plugin.is_invalid(std::error_code()));
    CHECK(theirs == ours.default_error_condition() && ours == theirs.default_error_condition());
    CHECK(theirs != shmipc::make_error_code(Errc::closed).default_error_condition());
    /* of another library, with the same number */
    const std::error_code stranger(static_cast<int>(Errc::invalid), std::generic_category());
    CHECK(stranger != Errc::invalid && stranger != theirs.default_error_condition());
    CHECK(theirs != stranger.default_error_condition() && !plugin.is_invalid(stranger));
}

static void check_exceptions(const Plugin &plugin)
{
    bool exact = false;
    bool base = false;
    try {
        plugin.raise(BAD);
    } catch (const shmipc::InvalidArgument &error) {
        exact = contains(error.what(), BAD) && error.code() == Errc::invalid;
    }
    try {
        plugin.raise(BAD);
    } catch (const shmipc::Error &error) {
        base = error.code() == Errc::invalid;
    }
    CHECK(exact && base);
    CHECK(plugin.catches([] { const shmipc::Producer<> refused(BAD); }));
}

int main(int count, char **paths)
{
    for (int i = 1; i < count; i++) {
        void *const library = dlopen(paths[i], RTLD_NOW | RTLD_LOCAL);
        CHECK(library != nullptr);
        const auto *plugin = static_cast<const Plugin *>(dlsym(library, "plugin"));
        CHECK(plugin != nullptr);
        check_codes(*plugin);
        check_exceptions(*plugin);
    }
    (void)std::printf("%d plugins\n", count - 1);
    return 0;
}
