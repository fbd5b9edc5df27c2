// A copy of the image, tile by tile: a tile is the part of the image in one cell of the grid.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "buffer.hpp"
#include "grid.hpp"
#include "levels.hpp"
#include "team.hpp"

namespace sfumato {

constexpr std::uint8_t NOWHERE = 255;    // the colour of an element that takes no part

// An image as it lies in memory, and how its intensities become levels.
struct ImageView {
    const void* values = nullptr;
    Type type = Type::float32;
    int n_channels = 1;
    bool is_photo = false;        // red, green and blue, float32 or uint8: to be compared in CIELAB
    const float* low = nullptr;   // for each channel, the intensity that becomes level 0
    const float* gain = nullptr;  // levels for one unit of intensity
    int n_bits_dropped = 0;       // of levels, where fewer than 4096 are told apart
};

// The lowest and highest level of a tile in one channel.
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
    std::vector<std::int32_t> tile_of_cell;  // -1 where there is no tile
    std::vector<std::int64_t> offsets;       // first element of every tile, and the end
    Buffer<std::int16_t> levels;             // for each tile and plane: channel, element
    std::vector<Range> ranges;               // for each tile: channel
    std::vector<std::uint8_t> has_holes;     // for each tile: whether some elements take no part
    Buffer<std::uint8_t> colours;            // for each element: the colour of the centre it is nearest to

    Tiles(const Grid& grid, int n_channels, std::vector<std::int64_t> chosen);

    std::int64_t n() const { return static_cast<std::int64_t>(cells.size()); }

    static std::int64_t padded(std::int64_t n_in_plane) {
        return (n_in_plane + MOST_LANES - 1) / MOST_LANES * MOST_LANES;
    }

    // Fill in levels, ranges and holes, and give every element the colour of its own cell. Returns false
    // if an intensity is NaN or infinite.
    bool read(const ImageView& image, const std::uint8_t* where, Team& team);

    // Copy the colours to an array of the shape of a box that holds all tiles; its other elements are
    // NOWHERE.
    void write_colours(const Box& box, std::uint8_t* to, Team& team) const;

  private:
    // Tiles side by side along x, so that rows of the image are read at one go.
    struct Span {
        std::int64_t first, end;
    };

    // What a thread uses again for every row.
    struct Row {
        ToLevels* to_levels;
        ToLab* to_lab;
        std::vector<float> lab;            // of a photo: channel, element
        std::vector<std::int16_t> levels;  // of one channel
    };

    bool read_rows(const ImageView& image, const Span& span, Row& row);
    void find_ranges(std::int64_t tile);
    void colour(std::int64_t tile, const std::uint8_t* where);

    std::vector<Span> spans_;
};

}  // namespace sfumato
