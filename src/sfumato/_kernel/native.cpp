// What Python calls. Arrays come in as they are; results go to arrays that the caller made.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "boundary.hpp"
#include "coder.hpp"
#include "connect.hpp"
#include "levels.hpp"
#include "slic.hpp"
#include "soften.hpp"
#include "tiles.hpp"

namespace nb = nanobind;
using namespace sfumato;

namespace {

template <typename T, int N>
using Input = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <typename T, int N>
using Output = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
using Image = nb::ndarray<nb::ro, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

struct Superpixels {
    std::vector<float> low, gain;
    std::array<std::int64_t, N_AXES> n_cells;
    std::array<float, N_AXES> weights;
    int n_iterations;
    std::optional<Input<float, 2>> shifts;
    bool is_photo;
};

ImageView view(const Image& image, const Superpixels& settings) {
    ImageView result;
    result.values = image.data();
    if (image.dtype() == nb::dtype<float>()) result.type = Type::float32;
    else if (image.dtype() == nb::dtype<std::int16_t>()) result.type = Type::int16;
    else if (image.dtype() == nb::dtype<std::uint16_t>()) result.type = Type::uint16;
    else if (image.dtype() == nb::dtype<std::uint8_t>()) result.type = Type::uint8;
    else throw nb::type_error("image must be float32, int16, uint16 or uint8");
    result.n_channels = static_cast<int>(image.shape(0));
    result.is_photo = settings.is_photo;
    result.low = settings.low.data();
    result.gain = settings.gain.data();
    return result;
}

void require(bool is_true, const char* message) {
    if (!is_true) throw nb::value_error(message);
}

template <typename A, typename B>
bool have_same_space(const A& a, const B& b) {
    for (int axis = 1; axis <= N_AXES; ++axis)
        if (a.shape(a.ndim() - axis) != b.shape(b.ndim() - axis)) return false;
    return true;
}

void check(const Image& image, const Superpixels& settings) {
    require(image.size() > 0, "image must not be empty");
    require(settings.low.size() == image.shape(0) && settings.gain.size() == image.shape(0),
            "low and gain must have one number for each channel");
    require(!settings.is_photo || (image.shape(0) == N_PHOTO_CHANNELS &&
                                   (image.dtype() == nb::dtype<float>() ||
                                    image.dtype() == nb::dtype<std::uint8_t>())),
            "a photo must have three channels of float32 or uint8");
    std::int64_t n_cells = 1;
    for (int axis = 0; axis < N_AXES; ++axis) {
        const std::int64_t n = settings.n_cells[axis];
        require(n >= 1 && n <= static_cast<std::int64_t>(image.shape(axis + 1)),
                "n_cells must be from 1 to the elements of each axis");
        n_cells *= n;
    }
    for (int axis = 0; axis < N_AXES; ++axis)
        require(settings.weights[axis] >= 0 && std::isfinite(settings.weights[axis]),
                "weights must be numbers of at least 0");
    require(!settings.shifts || (settings.shifts->shape(1) == N_AXES &&
                                 static_cast<std::int64_t>(settings.shifts->shape(0)) == n_cells),
            "shifts must have a row for each cell");
}

template <typename L, typename P>
void check_label(const L& label, const P& probability) {
    require(label.size() > 0, "label must not be empty");
    require(have_same_space(label, probability), "probability must have the label's shape");
    require(probability.shape(0) <= 256, "there are at most 256 classes");
    const std::uint8_t* const end = label.data() + label.size();
    require(*std::max_element(label.data(), end) < probability.shape(0),
            "label must hold classes that probability has");
}

// A shift by more than a cell would take a seed out of reach of its own cell.
void check_shifts(const Grid& grid, const Superpixels& settings) {
    if (!settings.shifts) return;
    for (std::size_t i = 0; i < settings.shifts->size(); ++i) {
        const auto most = static_cast<float>(grid.axes[i % N_AXES].largest_cell());
        require(std::abs(settings.shifts->data()[i]) <= most, "shifts must be at most one cell");
    }
}

Grid grid_of(const Image& image, const Superpixels& settings) {
    Grid grid;
    for (int axis = 0; axis < N_AXES; ++axis)
        grid.axes[axis] = {static_cast<std::int64_t>(image.shape(axis + 1)), settings.n_cells[axis]};
    return grid;
}

// Write the superpixels in a box that holds the cells. Returns their number, or -1 if an intensity is NaN or
// infinite.
std::int64_t segment(const Grid& grid, ImageView image, const Superpixels& settings,
                     std::vector<std::int64_t> cells, const std::uint8_t* where, const Box& box,
                     std::int32_t* superpixels, Team& team) {
    const SlicSettings slic{settings.weights, settings.n_iterations,
                            settings.shifts ? settings.shifts->data() : nullptr};
    image.n_bits_dropped = n_bits_to_drop(grid, image, slic);
    const Buffer<std::uint8_t> colours(box.size());
    {
        Tiles tiles(grid, image.n_channels, std::move(cells));
        if (!tiles.read(image, where, team)) return -1;
        run_slic(tiles, slic, image.n_bits_dropped, team);
        if (tiles.n() < grid.n_cells()) std::fill_n(colours.get(), box.size(), NOWHERE);
        tiles.write_colours(box, colours.get(), team);
    }
    return number_superpixels(grid, box, colours.get(), superpixels, team);
}

std::vector<std::int64_t> all_cells(const Grid& grid) {
    std::vector<std::int64_t> cells(grid.n_cells());
    std::iota(cells.begin(), cells.end(), 0);
    return cells;
}

std::int64_t compute_superpixels(const Image& image, const Superpixels& settings,
                                 const std::optional<Input<std::uint8_t, 3>>& where,
                                 const Output<std::int32_t, 3>& superpixels, int n_threads) {
    const ImageView values = view(image, settings);
    check(image, settings);
    require(have_same_space(image, superpixels) && (!where || have_same_space(image, *where)),
            "where and superpixels must have the image's shape");
    const Grid grid = grid_of(image, settings);
    check_shifts(grid, settings);
    const nb::gil_scoped_release release;
    Team team(n_threads);
    return segment(grid, values, settings, all_cells(grid), where ? where->data() : nullptr,
                   whole(grid), superpixels.data(), team);
}

std::int64_t compute_superpixels_near_boundaries(const Image& image, const Superpixels& settings,
                                                 const Input<std::uint8_t, 3>& label,
                                                 const Output<std::int32_t, 3>& superpixels,
                                                 int n_threads) {
    const ImageView values = view(image, settings);
    check(image, settings);
    require(have_same_space(image, superpixels) && have_same_space(image, label),
            "label and superpixels must have the image's shape");
    const Grid grid = grid_of(image, settings);
    check_shifts(grid, settings);
    const nb::gil_scoped_release release;
    Team team(n_threads);
    return segment(grid, values, settings, cells_near_boundary(grid, label.data(), team), nullptr,
                   whole(grid), superpixels.data(), team);
}

// Boxes of 2×2×2 cells that hold one of the given cells: distances are best found in larger boxes than
// superpixels are.
std::vector<Box> boxes_with(const Grid& grid, const std::vector<std::int64_t>& cells) {
    Grid coarse = grid;
    for (Axis& axis : coarse.axes) axis.n_cells = (axis.n_cells + 1) / 2;
    std::vector<std::uint8_t> is_wanted(coarse.n_cells());
    for (const std::int64_t cell : cells) {
        const Index3 at = grid.place(cell);
        is_wanted[coarse.cell({at[0] / 2, at[1] / 2, at[2] / 2})] = 1;
    }
    std::vector<Box> boxes;
    for (std::int64_t i = 0; i < coarse.n_cells(); ++i) {
        if (!is_wanted[i]) continue;
        const Index3 at = coarse.place(i);
        boxes.emplace_back(grid, Index3{2 * at[0], 2 * at[1], 2 * at[2]}, 2);
    }
    return boxes;
}

std::int64_t soften_image_label(const Image& image, const Superpixels& settings,
                                const Input<std::uint8_t, 3>& label,
                                const std::array<float, N_AXES>& spacing, float scale_mm,
                                const Output<float, 4>& probability, int n_threads) {
    const ImageView values = view(image, settings);
    check(image, settings);
    require(have_same_space(image, label), "label must have the image's shape");
    check_label(label, probability);
    const Grid grid = grid_of(image, settings);
    check_shifts(grid, settings);
    const nb::gil_scoped_release release;
    Team team(n_threads);
    write_one_hot(grid, label.data(), probability.data(), team);
    const std::vector<std::int64_t> cells = cells_near_boundary(grid, label.data(), team);
    const std::vector<Box> boxes = boxes_with(grid, cells);
    if (boxes.empty()) return 0;
    // Not initialised: only the surroundings of a boundary are ever touched.
    const Box box = around(boxes);
    const Buffer<std::int32_t> superpixels(box.size());
    team.share(boxes.size(), [&](std::int64_t first, std::int64_t end, int) {
        for (std::int64_t i = first; i < end; ++i)
            for (std::int64_t z = 0; z < boxes[i].n[0]; ++z)
                for (std::int64_t y = 0; y < boxes[i].n[1]; ++y) {
                    const Index3& at = boxes[i].first;
                    std::fill_n(superpixels.get() + box.element({at[0] + z, at[1] + y, at[2]}),
                                boxes[i].n[2], -1);
                }
    });
    const std::int64_t n = segment(grid, values, settings, cells, nullptr, box, superpixels.get(), team);
    if (n < 0) return n;
    const LabelView hard{label.data(), static_cast<int>(probability.shape(0)), spacing, scale_mm};
    soften(grid, hard, boxes, {box, superpixels.get(), n}, probability.data(), team);
    return n;
}

void soften_label(const Input<std::uint8_t, 3>& label, const Input<std::int32_t, 3>& superpixels,
                  std::int64_t n_superpixels, const std::array<float, N_AXES>& spacing,
                  float scale_mm, const Output<float, 4>& probability, int n_threads) {
    check_label(label, probability);
    require(have_same_space(label, superpixels), "superpixels must have the label's shape");
    const std::int32_t* const end = superpixels.data() + superpixels.size();
    require(*std::max_element(superpixels.data(), end) < n_superpixels,
            "n_superpixels must be more than every superpixel's index");
    const nb::gil_scoped_release release;
    Team team(n_threads);
    Grid grid;
    const std::int64_t edge = label.shape(0) > 1 ? 8 : 16;
    for (int axis = 0; axis < N_AXES; ++axis) {
        const auto n = static_cast<std::int64_t>(label.shape(axis));
        grid.axes[axis] = {n, (n + edge - 1) / edge};
    }
    write_one_hot(grid, label.data(), probability.data(), team);
    const LabelView hard{label.data(), static_cast<int>(probability.shape(0)), spacing, scale_mm};
    soften(grid, hard, boxes_with(grid, all_cells(grid)), {whole(grid), superpixels.data(), n_superpixels},
           probability.data(), team);
}

void measure_distance(const Input<std::uint8_t, 3>& label, int wanted,
                      const std::array<float, N_AXES>& spacing, const Output<float, 3>& distance,
                      int n_threads) {
    require(label.size() > 0, "label must not be empty");
    require(have_same_space(label, distance), "distance must have the label's shape");
    const nb::gil_scoped_release release;
    Team team(n_threads);
    const Index3 shape = {static_cast<std::int64_t>(label.shape(0)),
                          static_cast<std::int64_t>(label.shape(1)),
                          static_cast<std::int64_t>(label.shape(2))};
    distance_to_class(label.data(), static_cast<std::uint8_t>(wanted), shape, spacing,
                      distance.data(), team);
}

template <typename T, Type type>
void convert_photo(const Input<T, 2>& photo, const Output<float, 2>& lab) {
    require(photo.shape(0) == 3 && lab.shape(0) == 3 && photo.shape(1) == lab.shape(1),
            "photo and lab must have three rows of the same length");
    const auto n = static_cast<std::int64_t>(photo.shape(1));
    const T* const from = photo.data();
    float* const to = lab.data();
    const nb::gil_scoped_release release;
    choose_to_lab()(light_table(), type, {from, from + n, from + 2 * n}, n, {to, to + n, to + 2 * n});
}

template <typename L, typename Z>
BlockView block_of(const L& labels, const Z& zones, int n_classes, int n_zones) {
    require(labels.size() > 0 && have_same_space(labels, zones),
            "labels and zones must have the same shape and not be empty");
    require(n_classes >= 1 && n_classes <= 256 && n_zones >= 0 && n_zones < 65536,
            "there are 1 to 256 classes and at most 65535 zones");
    return {{static_cast<std::int64_t>(labels.shape(0)), static_cast<std::int64_t>(labels.shape(1)),
             static_cast<std::int64_t>(labels.shape(2))},
            n_classes, n_zones, const_cast<std::uint8_t*>(labels.data()),
            const_cast<std::uint16_t*>(zones.data())};
}

nb::bytes pack(const Input<std::uint8_t, 3>& labels, const Input<std::uint16_t, 3>& zones,
               int n_classes, int n_zones) {
    const BlockView block = block_of(labels, zones, n_classes, n_zones);
    require(*std::max_element(block.labels, block.labels + labels.size()) < n_classes &&
                *std::max_element(block.zones, block.zones + zones.size()) <= n_zones,
            "labels and zones must be among those there are");
    std::vector<std::uint8_t> result;
    {
        const nb::gil_scoped_release release;
        result = pack_block(block);
    }
    return nb::bytes(reinterpret_cast<const char*>(result.data()), result.size());
}

void unpack(const nb::bytes& bytes, const Output<std::uint8_t, 3>& labels,
            const Output<std::uint16_t, 3>& zones, int n_classes, int n_zones) {
    const BlockView block = block_of(labels, zones, n_classes, n_zones);
    const auto* const data = reinterpret_cast<const std::uint8_t*>(bytes.c_str());
    const std::size_t n = bytes.size();
    const nb::gil_scoped_release release;
    unpack_block(block, data, n);
}

}  // namespace

NB_MODULE(native, module) {
    nb::class_<Superpixels>(module, "Superpixels")
        .def(nb::init<std::vector<float>, std::vector<float>, std::array<std::int64_t, N_AXES>,
                      std::array<float, N_AXES>, int, std::optional<Input<float, 2>>, bool>(),
             nb::kw_only(), nb::arg("low"), nb::arg("gain"), nb::arg("n_cells"), nb::arg("weights"),
             nb::arg("n_iterations"), nb::arg("shifts").none(), nb::arg("is_photo"));
    module.def("compute_superpixels", &compute_superpixels, nb::arg("image").noconvert(),
               nb::arg("settings"), nb::arg("where").noconvert().none(),
               nb::arg("superpixels").noconvert(), nb::arg("n_threads"));
    module.def("compute_superpixels_near_boundaries", &compute_superpixels_near_boundaries,
               nb::arg("image").noconvert(), nb::arg("settings"), nb::arg("label").noconvert(),
               nb::arg("superpixels").noconvert(), nb::arg("n_threads"));
    module.def("soften_image_label", &soften_image_label, nb::arg("image").noconvert(),
               nb::arg("settings"), nb::arg("label").noconvert(), nb::arg("spacing"),
               nb::arg("scale_mm"), nb::arg("probability").noconvert(), nb::arg("n_threads"));
    module.def("soften_label", &soften_label, nb::arg("label").noconvert(),
               nb::arg("superpixels").noconvert(), nb::arg("n_superpixels"), nb::arg("spacing"),
               nb::arg("scale_mm"), nb::arg("probability").noconvert(), nb::arg("n_threads"));
    module.def("photo_to_lab", &convert_photo<float, Type::float32>, nb::arg("photo").noconvert(),
               nb::arg("lab").noconvert());
    module.def("photo_to_lab", &convert_photo<std::uint8_t, Type::uint8>, nb::arg("photo").noconvert(),
               nb::arg("lab").noconvert());
    module.def("distance_to_class", &measure_distance, nb::arg("label").noconvert(),
               nb::arg("wanted"), nb::arg("spacing"), nb::arg("distance").noconvert(),
               nb::arg("n_threads"));
    module.def("pack_block", &pack, nb::arg("labels").noconvert(), nb::arg("zones").noconvert(),
               nb::arg("n_classes"), nb::arg("n_zones"));
    module.def("unpack_block", &unpack, nb::arg("data"), nb::arg("labels").noconvert(),
               nb::arg("zones").noconvert(), nb::arg("n_classes"), nb::arg("n_zones"));
}
