// Which variant of the inner loops runs: the fastest that the processor can run, or a slower one if the
// environment variable SFUMATO_INSTRUCTIONS says so (baseline, avx2 or avx512).

#include <algorithm>
#include <cstdlib>
#include <string>

#include "assign.hpp"
#include "levels.hpp"
#include "nearest.hpp"

namespace sfumato {

#define DECLARE(isa)            \
    namespace isa {             \
    AssignTile assign_tile;     \
    FindNearest find_nearest;   \
    ToLevels to_levels;         \
    ToLab to_lab;               \
    }

DECLARE(baseline)
#ifdef SFUMATO_X86_VARIANTS
DECLARE(avx2)
DECLARE(avx512)
#endif

namespace {

enum class Instructions { baseline, avx2, avx512 };

Instructions best() {
#ifdef SFUMATO_X86_VARIANTS
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni"))
        return Instructions::avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Instructions::avx2;
#endif
    return Instructions::baseline;
}

Instructions chosen() {
    const char* const wanted = std::getenv("SFUMATO_INSTRUCTIONS");
    if (wanted && wanted == std::string("baseline")) return Instructions::baseline;
    if (wanted && wanted == std::string("avx2")) return std::min(best(), Instructions::avx2);
    return best();
}

}  // namespace

#ifdef SFUMATO_X86_VARIANTS
#define CHOOSE(name)                                               \
    switch (chosen()) {                                            \
        case Instructions::avx512: return avx512::name;            \
        case Instructions::avx2: return avx2::name;                \
        default: return baseline::name;                            \
    }
#else
#define CHOOSE(name) return baseline::name;
#endif

AssignTile* choose_assign_tile() { CHOOSE(assign_tile) }

FindNearest* choose_find_nearest() { CHOOSE(find_nearest) }

ToLevels* choose_to_levels() { CHOOSE(to_levels) }

ToLab* choose_to_lab() { CHOOSE(to_lab) }

}  // namespace sfumato
