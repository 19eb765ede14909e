/*
 * shmipc_error.hpp: what a call can come to, as exceptions and as std::error_code. Part of
 * shmipc.hpp, which includes it.
 *
 * A throwing form raises the subclass of shmipc::Error that its result stands for; what() says what
 * was found, what was expected and what to do. The forms with a `std::error_code &` set it, throw
 * nothing, and compare with shmipc::Errc:
 *
 *     if (ec == shmipc::Errc::closed) ...
 *
 * With -fno-exceptions a throwing form that fails prints the text and aborts.
 *
 * **Several shared objects.** Each that is built with hidden visibility (a plugin, its host) may
 * have its own shmipc::category(). A std::error_code compares with Errc, and with a
 * std::error_condition, all the same, whoever made it; and an exception is caught by whoever names
 * it. Only two std::error_code are the same to the standard library where their categories have one
 * address: compare each with Errc.
 */
#ifndef SHMIPC_ERROR_HPP
#define SHMIPC_ERROR_HPP

#include "shmipc.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

namespace shmipc
{

/* enum shmipc_result, for std::error_code. */
enum class SHMIPC_API Errc : int {
    empty = SHMIPC_E_EMPTY,
    full = SHMIPC_E_FULL,
    closed = SHMIPC_E_CLOSED,
    producer_died = SHMIPC_E_PRODUCER_DIED,
    consumer_died = SHMIPC_E_CONSUMER_DIED,
    not_found = SHMIPC_E_NOT_FOUND,
    busy = SHMIPC_E_BUSY,
    mismatch = SHMIPC_E_MISMATCH,
    corrupt = SHMIPC_E_CORRUPT,
    too_large = SHMIPC_E_TOO_LARGE,
    invalid = SHMIPC_E_INVALID,
    misuse = SHMIPC_E_MISUSE,
    interrupted = SHMIPC_E_INTERRUPTED,
    overrun = SHMIPC_E_OVERRUN,
    os = SHMIPC_E_OS,
    abi = SHMIPC_E_ABI,
    removed = SHMIPC_E_REMOVED
};

} // namespace shmipc

template <> struct std::is_error_code_enum<shmipc::Errc> : std::true_type {
};

namespace shmipc
{

namespace detail
{
/* Of another shared object it is another object, so its name is what it is known by. */
class SHMIPC_API Category final : public std::error_category
{
  public:
    const char *name() const noexcept override
    {
        return "shmipc";
    }
    std::string message(int result) const override
    {
        return shmipc_result_text(result);
    }
    bool is_same(const std::error_category &other) const noexcept
    {
        return *this == other || std::strcmp(other.name(), name()) == 0;
    }
    bool equivalent(int result, const std::error_condition &condition) const noexcept override
    {
        return condition.value() == result && is_same(condition.category());
    }
    bool equivalent(const std::error_code &code, int condition) const noexcept override
    {
        return code.value() == condition && is_same(code.category());
    }
};

/* Never destroyed: codes are compared until the process has ended. */
inline const Category &own_category() noexcept
{
    alignas(Category) static unsigned char room[sizeof(Category)];
    static const Category *const instance = ::new (room) Category;
    return *instance;
}
} // namespace detail

inline const std::error_category &category() noexcept
{
    return detail::own_category();
}

inline std::error_code make_error_code(Errc code) noexcept
{
    return {static_cast<int>(code), category()};
}

inline bool operator==(const std::error_code &error, Errc code) noexcept
{
    return detail::own_category().equivalent(error, static_cast<int>(code));
}
inline bool operator==(Errc code, const std::error_code &error) noexcept
{
    return error == code;
}
inline bool operator!=(const std::error_code &error, Errc code) noexcept
{
    return !(error == code);
}
inline bool operator!=(Errc code, const std::error_code &error) noexcept
{
    return !(error == code);
}

/* ---- exceptions ----------------------------------------------------------------------------- */

/* Base of all of them. */
class SHMIPC_API Error : public std::runtime_error
{
  public:
    Error(Errc code, const char *text) : std::runtime_error(text), code_(code)
    {
    }
    std::error_code code() const noexcept
    {
        return make_error_code(code_);
    }

  private:
    Errc code_;
};

/* No room within the timeout; nothing was sent. */
class SHMIPC_API Full : public Error
{
    using Error::Error;
};
/* Nothing to read within the timeout. */
class SHMIPC_API Empty : public Error
{
    using Error::Error;
};
/* The stream ended and was read to its end, or this handle is closed. */
class SHMIPC_API Closed : public Error
{
    using Error::Error;
};
/* No such ring, or too few consumers, within the timeout. */
class SHMIPC_API NotFound : public Error
{
    using Error::Error;
};
/* A live process holds the role. */
class SHMIPC_API Busy : public Error
{
    using Error::Error;
};
/* The ring, or a message, is not of the T that was asked for. */
class SHMIPC_API SchemaMismatch : public Error
{
    using Error::Error;
};
/* Shared memory holds what shmipc never writes. */
class SHMIPC_API Corrupt : public Error
{
    using Error::Error;
};
/* The ring's file was removed while in use: close on both sides and open again. */
class SHMIPC_API Removed : public Error
{
    using Error::Error;
};
/* The process at the other end ended without closing. */
class SHMIPC_API PeerDied : public Error
{
    using Error::Error;
};
/* All that it committed was read; call again to go on with a producer that takes over. */
class SHMIPC_API ProducerDied : public PeerDied
{
    using PeerDied::PeerDied;
};
/* The durable queue is full and its reader is dead; nothing was sent. */
class SHMIPC_API ConsumerDied : public PeerDied
{
    using PeerDied::PeerDied;
};
/* SHMIPC_OVERWRITE: what was viewed has been overwritten. */
class SHMIPC_API Overrun : public Error
{
    using Error::Error;
};
/* interrupt() ended the wait. */
class SHMIPC_API Interrupted : public Error
{
    using Error::Error;
};
/* Would never fit: the ring, or your buffer. */
class SHMIPC_API TooLarge : public Error
{
    using Error::Error;
};
class SHMIPC_API InvalidArgument : public Error
{
    using Error::Error;
};
/* A second thread, a forked child, a call out of order, a header of another release. */
class SHMIPC_API Misuse : public Error
{
    using Error::Error;
};
/* The system refused. */
class SHMIPC_API OsError : public Error
{
  public:
    OsError(const char *text, int number) : Error(Errc::os, text), number_(number)
    {
    }
    /* The errno. */
    int number() const noexcept
    {
        return number_;
    }

  private:
    int number_;
};

/* ---- from a result -------------------------------------------------------------------------- */

namespace detail
{

/* The sentence for a result that this thread just got. */
inline const char *text_of(int result) noexcept
{
    const bool plain = result == SHMIPC_E_EMPTY || result == SHMIPC_E_FULL ||
                       result == SHMIPC_E_INTERRUPTED || result == SHMIPC_E_OVERRUN;
    return plain ? shmipc_result_text(result) : shmipc_last_error();
}

[[noreturn]] __attribute__((cold)) inline void raise(int result, const char *text)
{
#if defined(__cpp_exceptions)
    const Errc code = static_cast<Errc>(result);
    switch (result) {
    case SHMIPC_E_EMPTY:
        throw Empty(code, text);
    case SHMIPC_E_FULL:
        throw Full(code, text);
    case SHMIPC_E_CLOSED:
        throw Closed(code, text);
    case SHMIPC_E_PRODUCER_DIED:
        throw ProducerDied(code, text);
    case SHMIPC_E_CONSUMER_DIED:
        throw ConsumerDied(code, text);
    case SHMIPC_E_NOT_FOUND:
        throw NotFound(code, text);
    case SHMIPC_E_BUSY:
        throw Busy(code, text);
    case SHMIPC_E_MISMATCH:
        throw SchemaMismatch(code, text);
    case SHMIPC_E_CORRUPT:
        throw Corrupt(code, text);
    case SHMIPC_E_REMOVED:
        throw Removed(code, text);
    case SHMIPC_E_TOO_LARGE:
        throw TooLarge(code, text);
    case SHMIPC_E_INVALID:
        throw InvalidArgument(code, text);
    case SHMIPC_E_MISUSE:
    case SHMIPC_E_ABI:
        throw Misuse(code, text);
    case SHMIPC_E_INTERRUPTED:
        throw Interrupted(code, text);
    case SHMIPC_E_OVERRUN:
        throw Overrun(code, text);
    case SHMIPC_E_OS:
        throw OsError(text, shmipc_last_errno());
    default:
        throw Error(code, text);
    }
#else
    (void)std::fprintf(stderr, "shmipc: %s (result %d)\n", text, result);
    std::abort();
#endif
}

inline void check(int result)
{
    if (__builtin_expect(result != SHMIPC_SUCCESS, 0)) {
        raise(result, text_of(result));
    }
}

/* The result into `error`; true for success. */
inline bool set(std::error_code &error, int result) noexcept
{
    if (result == SHMIPC_SUCCESS) {
        error.clear();
        return true;
    }
    error.assign(result, category());
    return false;
}

/* A call that never waits: false if it had nothing to do. */
inline bool polled(int result)
{
    if (result == SHMIPC_E_EMPTY || result == SHMIPC_E_FULL) {
        return false;
    }
    check(result);
    return true;
}

inline bool polled(int result, std::error_code &error) noexcept
{
    return set(error, result == SHMIPC_E_EMPTY || result == SHMIPC_E_FULL ? 0 : result) &&
           result == SHMIPC_SUCCESS;
}

} // namespace detail
} // namespace shmipc

#endif
