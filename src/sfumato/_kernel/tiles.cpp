#include "tiles.hpp"

#include <algorithm>
#include <atomic>

namespace sfumato {

Tiles::Tiles(const Grid& grid, int n_channels, std::vector<std::int64_t> chosen)
    : grid(grid), n_channels(n_channels), cells(std::move(chosen)) {
    tile_of_cell.assign(grid.n_cells(), -1);
    boxes.reserve(cells.size());
    offsets.resize(cells.size() + 1);
    first_range.resize(cells.size() + 1);
    for (std::int64_t tile = 0; tile < n(); ++tile) {
        tile_of_cell[cells[tile]] = tile;
        const Box& box = boxes.emplace_back(grid, cells[tile]);
        const std::int64_t stride = padded(box.n[1] * box.n[2]);
        offsets[tile + 1] = offsets[tile] + box.n[0] * stride;
        first_range[tile + 1] = first_range[tile] + box.n[0] * n_blocks(stride) * n_channels;
    }
    // Not set to 0 here, by one thread: `read` writes every element.
    levels.reset(new std::int16_t[offsets.back() * n_channels]);
    ranges.resize(first_range.back());
    choice.reset(new std::uint8_t[offsets.back()]);
}

// The same operations in the same order as NumPy would do them on float32.
template <typename T>
static bool read_row(const T* from, std::int64_t n, float low, float gain, std::int16_t* to) {
    bool is_finite = true;
    for (std::int64_t i = 0; i < n; ++i) {
        const float level = (static_cast<float>(from[i]) - low) * gain + 0.5f;
        is_finite &= static_cast<float>(from[i]) - static_cast<float>(from[i]) == 0.0f;
        const float above = level > 0.0f ? level : 0.0f;  // NaN too
        to[i] = static_cast<std::int16_t>(above < N_LEVELS - 0.5f ? above : N_LEVELS - 0.5f);
    }
    return is_finite;
}

static bool read_row(const ImageView& image, int channel, std::int64_t first, std::int64_t n,
                     std::int64_t n_elements, std::int16_t* to) {
    const std::int64_t start = channel * n_elements + first;
    const float low = image.low[channel], gain = image.gain[channel];
    switch (image.type) {
        case ImageView::Type::float32:
            return read_row(static_cast<const float*>(image.values) + start, n, low, gain, to);
        case ImageView::Type::int16:
            return read_row(static_cast<const std::int16_t*>(image.values) + start, n, low, gain, to);
        case ImageView::Type::uint16:
            return read_row(static_cast<const std::uint16_t*>(image.values) + start, n, low, gain, to);
        default:
            return read_row(static_cast<const std::uint8_t*>(image.values) + start, n, low, gain, to);
    }
}

static Range range_of(const std::int16_t* levels, std::int64_t n) {
    Range range = {levels[0], levels[0]};
    for (std::int64_t i = 1; i < n; ++i) {
        range.low = levels[i] < range.low ? levels[i] : range.low;
        range.high = levels[i] > range.high ? levels[i] : range.high;
    }
    return range;
}

bool Tiles::read(const ImageView& image, const std::uint8_t* where, Team& team) {
    std::atomic<bool> is_finite{true};
    team.share(n(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t tile = begin; tile < end; ++tile) {
            const Box& box = boxes[tile];
            const std::int64_t n_in_plane = box.n[1] * box.n[2], stride = padded(n_in_plane);
            std::int16_t* to = levels.get() + offsets[tile] * n_channels;
            Range* range = ranges.data() + first_range[tile];
            std::uint8_t* slots = choice.get() + offsets[tile];
            for (std::int64_t z = 0; z < box.n[0]; ++z, slots += stride) {
                for (int channel = 0; channel < n_channels; ++channel, to += stride) {
                    for (std::int64_t y = 0; y < box.n[1]; ++y) {
                        const std::int64_t first = grid.element(
                            {box.first[0] + z, box.first[1] + y, box.first[2]});
                        if (!read_row(image, channel, first, box.n[2], grid.n_elements(),
                                      to + y * box.n[2]))
                            is_finite = false;
                    }
                    std::fill(to + n_in_plane, to + stride, to[n_in_plane - 1]);
                    for (std::int64_t block = 0; block < n_blocks(stride); ++block)
                        range[block * n_channels + channel] = range_of(
                            to + block * BLOCK, std::min<std::int64_t>(BLOCK, stride - block * BLOCK));
                }
                range += n_blocks(stride) * n_channels;
                std::fill(slots, slots + n_in_plane, N_NEAR / 2);
                std::fill(slots + n_in_plane, slots + stride, NOWHERE);
                if (!where) continue;
                for (std::int64_t y = 0; y < box.n[1]; ++y) {
                    const std::uint8_t* row = where + grid.element(
                        {box.first[0] + z, box.first[1] + y, box.first[2]});
                    for (std::int64_t x = 0; x < box.n[2]; ++x)
                        if (!row[x]) slots[y * box.n[2] + x] = NOWHERE;
                }
            }
        }
    });
    return is_finite;
}

}  // namespace sfumato
