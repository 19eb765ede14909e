/*
 * main.cpp: runs the tests, or plays one side for tests/native/test_cpp.py:
 *
 *     main                    every test
 *     main dtypes             "name<TAB>schema" of the types that Python knows too
 *     main produce NAME N     N ticks, then the end
 *     main consume NAME       prints how many ticks, and what they add up to
 *     main echo FROM TO       sends every message back, with its kind and flags
 *
 * A side that fails prints the number of the error and its text, and ends with status 3.
 */
#include "check.hpp"
#include "records.hpp"

#include <cstring>
#include <dirent.h>
#include <unistd.h>

static void remove_rings()
{
    const std::string folder = std::getenv("SHMIPC_DIR");
    DIR *directory = opendir(folder.c_str());
    while (const dirent *entry = directory != nullptr ? readdir(directory) : nullptr) {
        if (std::strncmp(entry->d_name, "shmipc.", 7) == 0) {
            (void)unlink((folder + '/' + entry->d_name).c_str());
        }
    }
    if (directory != nullptr) {
        (void)closedir(directory);
    }
}

static int run_tests()
{
    int count = 0;
    for (const check::Test *test = check::first; test != nullptr; test = test->next, count++) {
        (void)std::fprintf(stderr, "%s\n", test->name);
        test->run();
        remove_rings();
    }
    (void)std::printf("%d tests passed\n", count);
    return 0;
}

template <class T> static void print_dtype(const char *name)
{
    const shmipc::Dtype dtype = shmipc::dtype_of<T>();
    (void)std::printf("%s\t%s\t", name, dtype.text.c_str());
    for (std::uint64_t extent : dtype.shape) {
        (void)std::printf("%lu ", static_cast<unsigned long>(extent));
    }
    (void)std::printf("\t%zu\n", sizeof(T));
}

static int print_dtypes()
{
    print_dtype<market::Tick>("Tick");
    print_dtype<market::Leg>("Leg");
    print_dtype<market::Mixed>("Mixed");
    print_dtype<market::Partly>("Partly");
    print_dtype<Large>("Large");
    print_dtype<Wide>("Wide");
    print_dtype<bool>("bool");
    print_dtype<char>("char");
    print_dtype<long long>("long long");
    print_dtype<const unsigned short>("unsigned short");
    print_dtype<market::Side>("Side");
    print_dtype<std::array<double[2], 3>>("array");
    print_dtype<std::array<char, 9>>("text");
    return 0;
}

static int produce(const char *name, long count)
{
    shmipc::Producer<market::Tick> out(name);
    out.wait_for_consumers();
    for (long i = 0; i < count; i++) {
        const double number = static_cast<double>(i);
        out.send({i, number / 2, static_cast<float>(i % 100), market::Side(i % 3 - 1)});
    }
    return 0;
}

static int consume(const char *name)
{
    long count = 0;
    double sum = 0;
    for (const market::Tick &tick : shmipc::Consumer<market::Tick>(name)) {
        sum += tick.price * static_cast<double>(tick.side) + static_cast<double>(tick.time);
        count++;
    }
    (void)std::printf("%ld %.1f\n", count, sum);
    return 0;
}

static int echo(const char *from, const char *to)
{
    shmipc::Producer<> out(to);
    for (const shmipc::Message &message : shmipc::Consumer<>(from)) {
        out.send(message);
    }
    return 0;
}

static int play(int count, char **arguments)
{
    const std::string role = count > 1 ? arguments[1] : "";
    return role == "dtypes"                 ? print_dtypes()
           : role == "produce" && count > 3 ? produce(arguments[2], std::atol(arguments[3]))
           : role == "consume" && count > 2 ? consume(arguments[2])
           : role == "echo" && count > 3    ? echo(arguments[2], arguments[3])
                                            : run_tests();
}

int main(int count, char **arguments)
{
#if defined(__cpp_exceptions)
    try {
        return play(count, arguments);
    } catch (const shmipc::Error &error) {
        (void)std::printf("%d %s\n", error.code().value(), error.what());
        return 3;
    }
#else
    return play(count, arguments);
#endif
}
