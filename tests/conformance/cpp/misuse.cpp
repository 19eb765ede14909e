#include "peer.hpp"
std::string do_misuse(const std::string &, const std::string &)
{
    return "unsupported";
}
