// A block of a hard label and of its uncertain region, packed into few bytes and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "grid.hpp"

namespace sfumato {

// What a block holds. A zone says between which classes an element is undecided: 0 for certain ones,
// otherwise the number of a set of classes in a list that is kept elsewhere.
struct BlockView {
    Index3 shape;
    int n_classes;           // labels are 0 … n_classes-1
    int n_zones;             // zones are 0 … n_zones
    std::uint8_t* labels;    // only read when a block is packed
    std::uint16_t* zones;
};

std::vector<std::uint8_t> pack_block(const BlockView& block);

// Fill in a block. Any bytes give a block of valid labels and zones, so damage must be found elsewhere.
void unpack_block(const BlockView& block, const std::uint8_t* bytes, std::size_t n_bytes);

}  // namespace sfumato
