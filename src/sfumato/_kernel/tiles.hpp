// A copy of the image, tile by tile: a tile is the part of the image in one cell of the grid.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "grid.hpp"
#include "team.hpp"

namespace sfumato {

constexpr int N_LEVELS = 4096;              // intensities are 0 … 4095
constexpr int BLOCK = 4 * N_LANES;          // elements of a plane that are looked at together
constexpr std::uint8_t NOWHERE = N_NEAR;    // the choice of an element that takes no part

// An image as it lies in memory, and how its intensities become levels.
struct ImageView {
    enum class Type { float32, int16, uint16, uint8 };
    const void* values = nullptr;
    Type type = Type::float32;
    int n_channels = 1;
    const float* low = nullptr;   // for each channel, the intensity that becomes level 0
    const float* gain = nullptr;  // levels for one unit of intensity
};

// The lowest and highest level of a block in one channel.
struct Range {
    std::int16_t low, high;
};

// The tiles in which superpixels are sought. Within a tile, elements lie plane after plane; a plane
// is its rows one after the other, filled up to whole lanes with copies of its last element.
struct Tiles {
    const Grid& grid;
    int n_channels;
    std::vector<std::int64_t> cells;         // the cell of every tile, increasing
    std::vector<Box> boxes;                  // its part of the image
    std::vector<std::int64_t> tile_of_cell;  // -1 where there is no tile
    std::vector<std::int64_t> offsets;       // first element of every tile, and the end
    std::unique_ptr<std::int16_t[]> levels;  // for each tile and plane: channel, element
    std::vector<std::int64_t> first_range;   // of every tile in `ranges`
    std::vector<Range> ranges;               // for each tile, plane and block: channel
    std::unique_ptr<std::uint8_t[]> choice;  // for each element: which of the 27 near cells it is in

    Tiles(const Grid& grid, int n_channels, std::vector<std::int64_t> chosen);

    std::int64_t n() const { return static_cast<std::int64_t>(cells.size()); }

    static std::int64_t padded(std::int64_t n_in_plane) {
        return (n_in_plane + N_LANES - 1) / N_LANES * N_LANES;
    }

    static std::int64_t n_blocks(std::int64_t stride) { return (stride + BLOCK - 1) / BLOCK; }

    // Fill in levels and choice. Returns false if an intensity is NaN or infinite.
    bool read(const ImageView& image, const std::uint8_t* where, Team& team);
};

}  // namespace sfumato
