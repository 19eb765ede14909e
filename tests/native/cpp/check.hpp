/*
 * check.hpp: named tests, and what they check with. A test that fails says where, and the program
 * ends with status 1. After each, the rings it left in $SHMIPC_DIR are removed.
 */
#ifndef CHECK_HPP
#define CHECK_HPP

#include <shmipc.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>

namespace check
{

struct Test {
    const char *name;
    void (*run)();
    Test *next;
};

inline Test *first = nullptr;

struct Listed {
    Listed(Test &test)
    {
        test.next = first;
        first = &test;
    }
};

[[noreturn]] inline void fail(const char *file, int line, const std::string &what)
{
    (void)std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
    std::_Exit(1);
}

} // namespace check

#define TEST(name)                                         \
    static void name();                                    \
    static check::Test test_##name{#name, name, nullptr};  \
    static const check::Listed listed_##name(test_##name); \
    static void name()

#define CHECK(...) \
    ((__VA_ARGS__) ? static_cast<void>(0) : check::fail(__FILE__, __LINE__, #__VA_ARGS__))

#if defined(__cpp_exceptions)
/* The statement must throw a `type`, exactly; yields what(). */
#define THROWN(type, ...)                                                                          \
    [&]() -> std::string {                                                                         \
        try {                                                                                      \
            __VA_ARGS__;                                                                           \
        } catch (const type &error) {                                                              \
            CHECK(typeid(error) == typeid(type) && error.code().category() == shmipc::category()); \
            return error.what();                                                                   \
        } catch (const std::exception &error) {                                                    \
            check::fail(__FILE__, __LINE__, std::string("another exception: ") + error.what());    \
        }                                                                                          \
        check::fail(__FILE__, __LINE__, "no exception: " #__VA_ARGS__);                            \
    }()
#define THROWS(type, ...) CHECK(!THROWN(type, __VA_ARGS__).empty())
#endif

inline bool contains(const std::string &text, const std::string &part)
{
    return text.find(part) != std::string::npos;
}

#endif
