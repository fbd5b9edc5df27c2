#include "tiles.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

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

bool Tiles::read(const ImageView& image, const std::uint8_t* where, Team& team) {
    std::atomic<bool> is_finite{true};
    team.share(spans_.size(), [&](std::int64_t begin, std::int64_t end, int) {
        const std::int64_t n_x = grid.axes[2].n;
        Row row{choose_to_levels(), choose_to_lab(),
                std::vector<float>(image.is_photo ? N_PHOTO_CHANNELS * n_x : 0),
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
    const std::int64_t element_bytes = bytes_of(image.type);
    bool is_finite = true;
    const auto read_row = [&](std::int64_t z, std::int64_t y) {
        const std::int64_t start =
            grid.element({first.first[0] + z, first.first[1] + y, first.first[2]});
        const auto intensities = [&](int c) {
            return static_cast<const char*>(image.values) + (c * grid.n_elements() + start) * element_bytes;
        };
        if (image.is_photo)
            row.to_lab(light_table(), image.type, {intensities(0), intensities(1), intensities(2)}, width,
                   {row.lab.data(), row.lab.data() + width, row.lab.data() + 2 * width});
        for (int c = 0; c < n_channels; ++c) {
            const Scale scale{image.low[c], image.gain[c], image.n_bits_dropped};
            is_finite &= image.is_photo
                             ? row.to_levels(Type::float32, row.lab.data() + c * width, width, scale,
                                             row.levels.data())
                             : row.to_levels(image.type, intensities(c), width, scale, row.levels.data());
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

void Tiles::write_colours(const Box& box, std::uint8_t* to, Team& team) const {
    team.share(spans_.size(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
            const Box& first = boxes[spans_[i].first];
            for (std::int64_t z = 0; z < first.n[0]; ++z)
                for (std::int64_t y = 0; y < first.n[1]; ++y) {
                    std::uint8_t* row =
                        to + box.element({first.first[0] + z, first.first[1] + y, first.first[2]});
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
