/*
 * peer.hpp: what the files of the C++ peer share. See README.md beside this directory.
 */
#ifndef SHMIPC_CONFORMANCE_PEER_HPP
#define SHMIPC_CONFORMANCE_PEER_HPP

#include "shmipc.hpp"

#include <string>
#include <vector>

using Words = std::vector<std::string>;

/* Items of any dtype, as their bytes. */
using Item = std::byte[];

/* A ring's two ends, of either framing; at most one of the two is open. */
struct Sending {
    shmipc::Producer<> messages;
    shmipc::Producer<Item> items;
};
struct Taking {
    shmipc::Consumer<> messages;
    shmipc::Consumer<Item> items;
};
extern Sending sending;
extern Taking taking;

/* What a command had done when it failed. */
extern std::uint64_t done;

std::uint64_t mix(std::uint64_t x);
std::uint64_t digest(const std::byte *at, std::size_t size, std::uint64_t seq, unsigned kind,
                     unsigned flags);
std::uint64_t digest(const shmipc::Message &message);
std::uint64_t number(const std::string &word);
std::string hex(std::uint64_t value);
shmipc::Timeout time_of(const std::string &milliseconds);
std::string name_of(int result);

std::string do_send(const Words &words);
std::string do_take(const Words &words);
std::string do_put(const Words &words);
std::string do_get(const Words &words);
std::string do_misuse(const std::string &what, const std::string &name);

#endif
