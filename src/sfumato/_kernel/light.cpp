#include <cmath>

#include "levels.hpp"

namespace sfumato {

const LightTable& light_table() {
    static const LightTable table = [] {
        LightTable lights;
        for (int i = 0; i < 256; ++i) {
            const double value = i / 255.0;
            lights[i] = static_cast<float>(value <= 0.04045 ? value / 12.92
                                                            : std::pow((value + 0.055) / 1.055, 2.4));
        }
        lights[256] = lights[255];
        return lights;
    }();
    return table;
}

}  // namespace sfumato
