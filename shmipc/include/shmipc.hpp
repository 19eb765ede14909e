/*
 * shmipc.hpp: shmipc.h for C++17 and later: handles that close themselves, typed rings, spans.
 *
 *     struct Tick { std::int64_t time; double price; };
 *     SHMIPC_RECORD(Tick, time, price);
 *
 *     shmipc::Producer<Tick> out("ticks");         shmipc::Consumer<Tick> in("ticks");
 *     out.send({now, 61'800.5});                   for (const Tick &tick : in) ...
 *
 * Producer<> and Consumer<> are of message rings: bytes with a kind and flags. Producer<T> is of
 * items of one T each: numbers, std::array, what SHMIPC_RECORD described (shmipc_dtype.hpp).
 * Producer<T[]> is of arrays of T whose shape the options say: frames of a camera. That a ring is
 * of this T, and shape, is checked when it is opened.
 *
 * Everything shmipc.h says of threads, lifetimes, waiting, processes and signals holds here.
 *
 * **Errors.** A call throws the shmipc::Error of its result (shmipc_error.hpp), or, given a
 * `std::error_code &` as its last argument, sets that and throws nothing. The try_ forms never
 * wait: that there is nothing to read, or no room, is their false or nullopt, and no error.
 *
 * **Lifetime.** Handles, frames and reservations are move-only and release what they hold. What
 * peek() shows is good until the next release(), recv() or close(); what a Frame shows, as long as
 * the Frame, which may outlive its Consumer. A Reservation must not outlive its Producer.
 *
 * **Timeouts** are of std::chrono, shmipc::forever, or 0 (shmipc::no_wait), which polls.
 *
 * **Texts.** out.send_text("literal"), out.send_text(order.symbol): shmipc_bytes.hpp says why
 * send() takes no array of char.
 */
#ifndef SHMIPC_HPP
#define SHMIPC_HPP

#include "shmipc_consumer.hpp"
#include "shmipc_producer.hpp"

#endif
