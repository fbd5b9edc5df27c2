// Compiled once for each instruction set, each time in a namespace of its own (SFUMATO_ISA).
//
// One axis after the other: y for the whole window, z and x for the rows that are asked for. All loops
// run along x, where elements lie side by side in memory.

#include "nearest.hpp"

#include <algorithm>
#include <limits>

#include "lanes.hpp"

namespace sfumato {
namespace SFUMATO_ISA {
namespace {

constexpr float INFINITE = std::numeric_limits<float>::infinity();
constexpr std::uint8_t NONE = 255;  // no element of the class

float square(std::int64_t n_steps, float step_mm) {
    const float away = static_cast<float>(n_steps) * step_mm;
    return away * away;
}

// Go one step further along y.
void count(const std::uint8_t* __restrict labels, std::uint8_t k, std::uint8_t* __restrict counter,
           std::int64_t stride) {
    for (std::int64_t part = 0; part < stride; part += ROW_BYTES)
        for (std::int64_t x = part; x < part + ROW_BYTES; ++x) {
            const std::uint8_t more = counter[x] == NONE ? NONE : counter[x] + 1;
            counter[x] = labels[x] == k ? 0 : more;
        }
}

void keep_less(const std::uint8_t* __restrict counter, std::uint8_t* __restrict steps,
               std::int64_t stride) {
    for (std::int64_t part = 0; part < stride; part += ROW_BYTES)
        for (std::int64_t x = part; x < part + ROW_BYTES; ++x)
            steps[x] = counter[x] < steps[x] ? counter[x] : steps[x];
}

void square_steps(const std::uint8_t* steps, float step_mm, float* to, std::int64_t stride) {
    for (std::int64_t x = 0; x < stride; x += N_LANES) {
        const Ints n = to_ints(load<Bytes>(steps + x));
        const Floats away = to_floats(n) * all(step_mm);
        store(to + x, choose_from(n == all(NONE), all(INFINITE), away * away));
    }
}

// Squared distances along y to the nearest element of the class, in one plane of the window.
void measure_along_y(Window& window, std::uint8_t k, std::int64_t z) {
    const std::int64_t stride = window.stride, n_rows = window.n[1];
    const std::int64_t first = window.inner_first[1], end = first + window.inner_n[1];
    const std::uint8_t* const labels = window.labels.data() + z * n_rows * stride;
    std::uint8_t* const counter = window.counter.data();
    std::uint8_t* const steps = window.steps.data();
    std::fill(counter, counter + stride, NONE);
    for (std::int64_t y = 0; y < end; ++y) {
        count(labels + y * stride, k, counter, stride);
        if (y >= first) std::copy(counter, counter + stride, steps + (y - first) * stride);
    }
    std::fill(counter, counter + stride, NONE);
    for (std::int64_t y = n_rows - 1; y >= first; --y) {
        count(labels + y * stride, k, counter, stride);
        if (y < end) keep_less(counter, steps + (y - first) * stride, stride);
    }
    float* to = window.along_y.data() + z * window.inner_n[1] * stride;
    for (std::int64_t y = 0; y < window.inner_n[1]; ++y, to += stride) {
        square_steps(steps + y * stride, window.spacing[1], to, stride);
        std::fill(to + window.n[2], to + stride, INFINITE);
    }
}

// How many steps may matter.
std::int64_t n_steps(float reach_mm, float step_mm, std::int64_t most) {
    return reach_mm < static_cast<float>(most) * step_mm
               ? static_cast<std::int64_t>(reach_mm / step_mm) + 1
               : most;
}

// Squared distances of all elements of a row of the inner box.
void measure_row(Window& window, float reach_mm, std::int64_t z, std::int64_t y) {
    const std::int64_t stride = window.stride, n_in_plane = window.inner_n[1] * stride;
    const float* const plane = window.along_y.data() + (y - window.inner_first[1]) * stride;
    float* const along_zy = window.along_zy.data() + stride;
    std::fill(along_zy, along_zy + stride, INFINITE);
    const std::int64_t n_z = n_steps(reach_mm, window.spacing[0], window.n[0]);
    const std::int64_t z_end = std::min(window.n[0], z + n_z + 1);
    for (std::int64_t from = std::max<std::int64_t>(0, z - n_z); from < z_end; ++from) {
        const Floats term = all(square(from - z, window.spacing[0]));
        const float* const row = plane + from * n_in_plane;
        for (std::int64_t x = 0; x < stride; x += N_LANES) {
            const Floats sum = load<Floats>(row + x) + term, least = load<Floats>(along_zy + x);
            store(along_zy + x, choose_from(sum < least, sum, least));
        }
    }
    const std::int64_t n_x = n_steps(reach_mm, window.spacing[2], window.stride);
    for (std::int64_t x = 0; x < window.inner_n[2]; x += N_LANES) {
        const float* const from = along_zy + window.inner_first[2] + x;
        const std::int64_t first = std::max(-n_x, -stride - window.inner_first[2] - x);
        const std::int64_t last = std::min(n_x, 2 * stride - window.inner_first[2] - x - N_LANES);
        Floats least = all(INFINITE);
        for (std::int64_t step = first; step <= last; ++step) {
            const Floats sum = load<Floats>(from + step) + all(square(step, window.spacing[2]));
            least = choose_from(sum < least, sum, least);
        }
        store(window.nearest.data() + x, least);
    }
}

}  // namespace

void find_nearest(Window& window, std::uint8_t k, float reach_mm, const Index3* elements,
                  std::int64_t n_elements, float* nearest) {
    // Elements come plane by plane, so that the first and the last tell which planes matter.
    const std::int64_t n_z = n_steps(reach_mm, window.spacing[0], window.n[0]);
    const std::int64_t z_first = window.inner_first[0] + elements[0][0] - n_z;
    const std::int64_t z_last = window.inner_first[0] + elements[n_elements - 1][0] + n_z;
    for (std::int64_t z = std::max<std::int64_t>(0, z_first); z <= std::min(window.n[0] - 1, z_last); ++z)
        measure_along_y(window, k, z);
    std::fill(window.along_zy.begin(), window.along_zy.end(), INFINITE);
    for (std::int64_t i = 0; i < n_elements; ++i) {
        const Index3& at = elements[i];
        if (i == 0 || at[0] != elements[i - 1][0] || at[1] != elements[i - 1][1])
            measure_row(window, reach_mm, window.inner_first[0] + at[0], window.inner_first[1] + at[1]);
        nearest[i] = window.nearest[at[2]];
    }
}

}  // namespace SFUMATO_ISA
}  // namespace sfumato
