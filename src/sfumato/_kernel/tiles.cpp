#include "tiles.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "colour.hpp"

namespace sfumato {

Tiles::Tiles(const Grid& grid, int n_channels, std::vector<std::int64_t> chosen)
    : grid(grid), n_channels(n_channels), cells(std::move(chosen)), tile_of_cell(grid.n_cells(), -1),
      offsets(cells.size() + 1), ranges(cells.size() * n_channels), has_holes(cells.size()) {
    boxes.reserve(cells.size());
    for (std::int64_t tile = 0; tile < n(); ++tile) {
        tile_of_cell[cells[tile]] = static_cast<std::int32_t>(tile);
        const Box& box = boxes.emplace_back(grid, cells[tile]);
        offsets[tile + 1] = offsets[tile] + box.n[0] * padded(box.n[1] * box.n[2]);
        const bool is_next = tile > 0 && cells[tile] == cells[tile - 1] + 1 && box.first[2] > 0;
        if (is_next)
            spans_.back().end = tile + 1;
        else
            spans_.push_back({tile, tile + 1});
    }
    levels = Buffer<std::int16_t>(offsets.back() * n_channels);
    colours = Buffer<std::uint8_t>(offsets.back());
}

// The same operations in the same order as NumPy would do them on float32.
template <typename T>
static bool to_levels(const void* values, std::int64_t start, std::int64_t n, float low, float gain,
                      int n_bits_dropped, std::int16_t* to) {
    const T* const from = static_cast<const T*>(values) + start;
    std::int32_t n_bad = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const float value = static_cast<float>(from[i]);
        const float level = (value - low) * gain + 0.5f;
        n_bad |= !(value - value == 0.0f);
        const float above = level > 0.0f ? level : 0.0f;  // NaN too
        const float inside = above < N_LEVELS - 0.5f ? above : N_LEVELS - 0.5f;
        to[i] = static_cast<std::int16_t>(static_cast<std::int32_t>(inside) >> n_bits_dropped);
    }
    return n_bad == 0;
}

template <typename T>
static void to_lab(const ImageView& image, std::int64_t n_elements, std::int64_t start, std::int64_t n,
                   float* lab) {
    const T* const from = static_cast<const T*>(image.values) + start;
    photo_to_lab<T>({from, from + n_elements, from + 2 * n_elements}, n, {lab, lab + n, lab + 2 * n});
}

bool Tiles::read(const ImageView& image, const std::uint8_t* where, Team& team) {
    std::atomic<bool> is_finite{true};
    team.share(spans_.size(), [&](std::int64_t begin, std::int64_t end, int) {
        const std::int64_t n_x = grid.axes[2].n;
        Row row{std::vector<float>(image.is_photo ? N_PHOTO_CHANNELS * n_x : 0),
                std::vector<std::int16_t>(n_x)};
        for (std::int64_t i = begin; i < end; ++i) {
            if (!read_rows(image, spans_[i], row)) is_finite = false;
            for (std::int64_t tile = spans_[i].first; tile < spans_[i].end; ++tile) {
                find_ranges(tile);
                colour(tile, where);
            }
        }
    });
    return is_finite;
}

bool Tiles::read_rows(const ImageView& image, const Span& span, Row& row) {
    const Box &first = boxes[span.first], &last = boxes[span.end - 1];
    const std::int64_t width = last.first[2] + last.n[2] - first.first[2];
    const bool is_float = image.is_photo || image.type == ImageView::Type::float32;
    const auto convert = is_float                               ? to_levels<float>
                         : image.type == ImageView::Type::int16  ? to_levels<std::int16_t>
                         : image.type == ImageView::Type::uint16 ? to_levels<std::uint16_t>
                                                                 : to_levels<std::uint8_t>;
    const auto photo_to_lab = image.type == ImageView::Type::uint8 ? to_lab<std::uint8_t> : to_lab<float>;
    bool is_finite = true;
    const auto read_row = [&](std::int64_t z, std::int64_t y) {
        const std::int64_t start =
            grid.element({first.first[0] + z, first.first[1] + y, first.first[2]});
        if (image.is_photo) photo_to_lab(image, grid.n_elements(), start, width, row.lab.data());
        for (int c = 0; c < n_channels; ++c) {
            is_finite &= image.is_photo
                             ? convert(row.lab.data(), c * width, width, image.low[c], image.gain[c],
                                       image.n_bits_dropped, row.levels.data())
                             : convert(image.values, c * grid.n_elements() + start, width, image.low[c],
                                       image.gain[c], image.n_bits_dropped, row.levels.data());
            const std::int16_t* from = row.levels.data();
            for (std::int64_t tile = span.first; tile < span.end; ++tile) {
                const std::int64_t n_x = boxes[tile].n[2], n = first.n[1] * n_x, stride = padded(n);
                std::int16_t* const plane =
                    levels.get() + offsets[tile] * n_channels + (z * n_channels + c) * stride;
                std::copy(from, from + n_x, plane + y * n_x);
                from += n_x;
                if (y == first.n[1] - 1) std::fill(plane + n, plane + stride, plane[n - 1]);
            }
        }
    };
    for (std::int64_t z = 0; z < first.n[0]; ++z)
        for (std::int64_t y = 0; y < first.n[1]; ++y) read_row(z, y);
    return is_finite;
}

void Tiles::find_ranges(std::int64_t tile) {
    const Box& box = boxes[tile];
    const std::int64_t stride = padded(box.n[1] * box.n[2]);
    const std::int16_t* plane = levels.get() + offsets[tile] * n_channels;
    for (int c = 0; c < n_channels; ++c) ranges[tile * n_channels + c] = {N_LEVELS, -1};
    for (std::int64_t z = 0; z < box.n[0]; ++z)
        for (int c = 0; c < n_channels; ++c, plane += stride) {
            Range range = ranges[tile * n_channels + c];
            for (std::int64_t i = 0; i < stride; ++i) {
                range.low = plane[i] < range.low ? plane[i] : range.low;
                range.high = plane[i] > range.high ? plane[i] : range.high;
            }
            ranges[tile * n_channels + c] = range;
        }
}

void Tiles::colour(std::int64_t tile, const std::uint8_t* where) {
    const Box& box = boxes[tile];
    const std::int64_t n_in_plane = box.n[1] * box.n[2], stride = padded(n_in_plane);
    const std::uint8_t own = colour_of(grid.place(cells[tile]));
    std::uint8_t* plane = colours.get() + offsets[tile];
    for (std::int64_t z = 0; z < box.n[0]; ++z, plane += stride) {
        std::fill(plane, plane + n_in_plane, own);
        std::fill(plane + n_in_plane, plane + stride, NOWHERE);
        if (!where) continue;
        for (std::int64_t y = 0; y < box.n[1]; ++y) {
            const std::uint8_t* const wanted =
                where + grid.element({box.first[0] + z, box.first[1] + y, box.first[2]});
            for (std::int64_t x = 0; x < box.n[2]; ++x) {
                if (wanted[x]) continue;
                plane[y * box.n[2] + x] = NOWHERE;
                has_holes[tile] = 1;
            }
        }
    }
}

void Tiles::write_colours(std::uint8_t* to, Team& team) const {
    team.share(spans_.size(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
            const Box& first = boxes[spans_[i].first];
            for (std::int64_t z = 0; z < first.n[0]; ++z)
                for (std::int64_t y = 0; y < first.n[1]; ++y) {
                    std::uint8_t* row =
                        to + grid.element({first.first[0] + z, first.first[1] + y, first.first[2]});
                    for (std::int64_t tile = spans_[i].first; tile < spans_[i].end; ++tile) {
                        const std::int64_t n_x = boxes[tile].n[2], stride = padded(first.n[1] * n_x);
                        std::memcpy(row, colours.get() + offsets[tile] + z * stride + y * n_x, n_x);
                        row += n_x;
                    }
                }
        }
    });
}

}  // namespace sfumato
