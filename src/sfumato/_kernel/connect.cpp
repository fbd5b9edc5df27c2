#include "connect.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

namespace sfumato {
namespace {

constexpr std::int32_t NONE = -1;

// Sets that are joined; the root of a set is its smallest member.
class Sets {
  public:
    void resize(std::int64_t n) {
        parent_.resize(n);
        for (std::int64_t i = 0; i < n; ++i) parent_[i] = static_cast<std::int32_t>(i);
    }

    std::int32_t root(std::int32_t i) {
        while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
        return i;
    }

    void join(std::int32_t a, std::int32_t b) {
        a = root(a), b = root(b);
        if (a < b) parent_[b] = a;
        if (b < a) parent_[a] = b;
    }

  private:
    std::vector<std::int32_t> parent_;
};

struct Piece {
    std::int64_t n = 0;      // elements
    std::int64_t first = std::numeric_limits<std::int64_t>::max();  // in the order of the image
};

// The faces that a small piece shares with another.
struct Contact {
    std::int32_t small, other, n;
};

class Pieces {
  public:
    Pieces(const Tiles& tiles, Team& team)
        : tiles_(tiles), grid_(tiles.grid), team_(team),
          piece_of_(new std::int32_t[tiles.offsets.back()]) {}

    void find() {
        find_within_tiles();
        join_across_tiles();
        measure();
    }

    void join_small() {
        // Smaller than a quarter of a cell.
        const auto is_small = [&](std::int64_t n) {
            return 4 * n * grid_.n_cells() < grid_.n_elements();
        };
        std::vector<std::uint8_t> small(pieces_.size());
        bool is_any = false;
        for (std::size_t i = 0; i < pieces_.size(); ++i)
            is_any |= small[i] = roots_[i] == static_cast<std::int32_t>(i) && is_small(pieces_[i].n);
        if (!is_any) return;
        std::vector<Contact> contacts = find_contacts(small);
        std::vector<std::int32_t> large(pieces_.size());  // what a piece is part of
        for (std::size_t i = 0; i < large.size(); ++i)
            large[i] = small[i] ? NONE : static_cast<std::int32_t>(i);
        while (join_round(contacts, large)) {
        }
        for (std::size_t i = 0; i < roots_.size(); ++i) {
            const std::int32_t target = large[roots_[i]];
            if (target != NONE) roots_[i] = target;
        }
    }

    std::int64_t write(std::int32_t* superpixels) {
        // Every superpixel is numbered by its first element.
        std::vector<std::int64_t> first(pieces_.size(), std::numeric_limits<std::int64_t>::max());
        for (std::size_t i = 0; i < pieces_.size(); ++i)
            first[roots_[i]] = std::min(first[roots_[i]], own_first_[i]);
        std::vector<std::int32_t> order;
        for (std::size_t i = 0; i < pieces_.size(); ++i)
            if (roots_[i] == static_cast<std::int32_t>(i)) order.push_back(roots_[i]);
        std::sort(order.begin(), order.end(),
                  [&](std::int32_t a, std::int32_t b) { return first[a] < first[b]; });
        std::vector<std::int32_t> number(pieces_.size());
        for (std::size_t i = 0; i < order.size(); ++i)
            number[order[i]] = static_cast<std::int32_t>(i);
        for (std::size_t i = 0; i < number.size(); ++i)
            if (roots_[i] != static_cast<std::int32_t>(i)) number[i] = number[roots_[i]];
        for_each_run([&](std::int32_t piece, std::int64_t to, std::int64_t width) {
            std::fill_n(superpixels + to, width, number[piece]);
        });
        return static_cast<std::int64_t>(order.size());
    }

  private:
    // Call work(piece, first element in the image, elements) for every run of one piece in a row.
    template <typename Work>
    void for_each_run(const Work& work) {
        team_.share(tiles_.n(), [&](std::int64_t first_tile, std::int64_t end_tile, int) {
            for (std::int64_t tile = first_tile; tile < end_tile; ++tile) {
                const Box& box = tiles_.boxes[tile];
                const std::int64_t stride = Tiles::padded(box.n[1] * box.n[2]);
                for (std::int64_t z = 0; z < box.n[0]; ++z)
                    for (std::int64_t y = 0; y < box.n[1]; ++y) {
                        const std::int32_t* const row =
                            piece_of_.get() + tiles_.offsets[tile] + z * stride + y * box.n[2];
                        const std::int64_t to =
                            grid_.element({box.first[0] + z, box.first[1] + y, box.first[2]});
                        for (std::int64_t first = 0, last; first < box.n[2]; first = last) {
                            for (last = first + 1; last < box.n[2] && row[last] == row[first];) ++last;
                            if (row[first] != NONE) work(row[first], to + first, last - first);
                        }
                    }
            }
        });
    }

    // Number the pieces of every tile by itself, then all of them.
    void find_within_tiles() {
        first_piece_.assign(tiles_.n() + 1, 0);
        std::vector<Sets> sets(team_.n_threads());
        team_.share(tiles_.n(), [&](std::int64_t first, std::int64_t end, int thread) {
            for (std::int64_t tile = first; tile < end; ++tile)
                first_piece_[tile + 1] = find_within(tile, sets[thread]);
        });
        for (std::int64_t tile = 0; tile < tiles_.n(); ++tile)
            first_piece_[tile + 1] += first_piece_[tile];
        team_.share(tiles_.n(), [&](std::int64_t first, std::int64_t end, int) {
            for (std::int64_t tile = first; tile < end; ++tile)
                for (std::int64_t i = tiles_.offsets[tile]; i < tiles_.offsets[tile + 1]; ++i)
                    if (piece_of_[i] != NONE) piece_of_[i] += first_piece_[tile];
        });
        pieces_.resize(first_piece_.back());
        sets_.resize(first_piece_.back());
    }

    std::int32_t find_within(std::int64_t tile, Sets& sets) {
        const Box& box = tiles_.boxes[tile];
        const std::int64_t width = box.n[2], n_in_plane = box.n[1] * width;
        const std::int64_t stride = Tiles::padded(n_in_plane);
        const std::uint8_t* choice = tiles_.choice.get() + tiles_.offsets[tile];
        std::int32_t* piece = piece_of_.get() + tiles_.offsets[tile];
        if (choice[0] != NOWHERE && is_one_choice(choice, box.n[0], n_in_plane, stride)) {
            std::fill(piece, piece + box.n[0] * stride, 0);
            return 1;
        }
        std::fill(piece, piece + box.n[0] * stride, NONE);
        sets.resize(box.size());
        std::int32_t n_runs = 0;
        for (std::int64_t z = 0; z < box.n[0]; ++z)
            for (std::int64_t y = 0; y < box.n[1]; ++y) {
                const std::int64_t end = z * stride + (y + 1) * width;
                for (std::int64_t first = end - width, last; first < end; first = last) {
                    for (last = first + 1; last < end && choice[last] == choice[first];) ++last;
                    if (choice[first] == NOWHERE) continue;
                    std::int32_t run = NONE;
                    const auto touch = [&](std::int64_t step) {
                        std::int32_t touched = NONE;
                        for (std::int64_t i = first; i < last; ++i) {
                            if (choice[i - step] != choice[i] || piece[i - step] == touched) continue;
                            touched = piece[i - step];
                            if (run == NONE)
                                run = touched;
                            else if (run != touched)
                                sets.join(run, touched);
                        }
                    };
                    if (y > 0) touch(width);
                    if (z > 0) touch(stride);
                    std::fill(piece + first, piece + last, run == NONE ? n_runs++ : run);
                }
            }
        // From the numbers of runs to those of pieces, without gaps.
        std::vector<std::int32_t> number(n_runs);
        std::int32_t n_pieces = 0;
        for (std::int32_t run = 0; run < n_runs; ++run)
            number[run] = sets.root(run) == run ? n_pieces++ : number[sets.root(run)];
        for (std::int64_t z = 0; z < box.n[0]; ++z)
            for (std::int64_t i = z * stride; i < z * stride + n_in_plane; ++i)
                if (piece[i] != NONE) piece[i] = number[piece[i]];
        return n_pieces;
    }

    static bool is_one_choice(const std::uint8_t* choice, std::int64_t n_planes,
                              std::int64_t n_in_plane, std::int64_t stride) {
        for (std::int64_t z = 0; z < n_planes; ++z)
            for (std::int64_t i = z * stride; i < z * stride + n_in_plane; ++i)
                if (choice[i] != choice[0]) return false;
        return true;
    }

    // Call work(neighbour) for the elements that share a face with one of a tile.
    template <typename Work>
    void for_each_neighbour(std::int64_t tile, const Index3& at, std::int64_t i,
                            const Work& work) const {
        const Box& box = tiles_.boxes[tile];
        const Index3 step = {Tiles::padded(box.n[1] * box.n[2]), box.n[2], 1};
        for (int axis = 0; axis < N_AXES; ++axis)
            for (const int side : {-1, 1}) {
                const std::int64_t to = at[axis] + side;
                if (to >= 0 && to < box.n[axis]) {
                    work(i + side * step[axis]);
                    continue;
                }
                const std::int64_t next = next_tile(tile, axis, side);
                if (next < 0) continue;
                const Box& next_box = tiles_.boxes[next];
                Index3 there = at;
                there[axis] = side < 0 ? next_box.n[axis] - 1 : 0;
                work(tiles_.offsets[next] +
                     there[0] * Tiles::padded(next_box.n[1] * next_box.n[2]) +
                     there[1] * next_box.n[2] + there[2]);
            }
    }

    // The tile that follows along an axis, on one side or the other, or -1.
    std::int64_t next_tile(std::int64_t tile, int axis, int side = 1) const {
        static constexpr int STEP[N_AXES] = {9, 3, 1};
        const std::int64_t cell =
            grid_.near(grid_.place(tiles_.cells[tile]), N_NEAR / 2 + side * STEP[axis]);
        return cell < 0 ? -1 : tiles_.tile_of_cell[cell];
    }

    // Call work(element, neighbour) for all faces between a tile and the next along an axis.
    template <typename Work>
    void for_each_face(std::int64_t tile, std::int64_t next, int axis, const Work& work) const {
        const Box &box = tiles_.boxes[tile], &next_box = tiles_.boxes[next];
        const std::int64_t stride = Tiles::padded(box.n[1] * box.n[2]);
        const std::int64_t next_stride = Tiles::padded(next_box.n[1] * next_box.n[2]);
        Index3 n = box.n;
        n[axis] = 1;
        Index3 at_end = {0, 0, 0};
        at_end[axis] = box.n[axis] - 1;
        for (std::int64_t z = 0; z < n[0]; ++z)
            for (std::int64_t y = 0; y < n[1]; ++y)
                for (std::int64_t x = 0; x < n[2]; ++x)
                    work(tiles_.offsets[tile] + (z + at_end[0]) * stride +
                             (y + at_end[1]) * box.n[2] + x + at_end[2],
                         tiles_.offsets[next] + z * next_stride + y * next_box.n[2] + x);
    }

    void join_across_tiles() {
        static constexpr int STEP[N_AXES] = {9, 3, 1};
        std::vector<std::vector<std::pair<std::int32_t, std::int32_t>>> pairs(team_.n_threads());
        team_.share(tiles_.n(), [&](std::int64_t first, std::int64_t end, int thread) {
            for (std::int64_t tile = first; tile < end; ++tile)
                for (int axis = 0; axis < N_AXES; ++axis) {
                    const std::int64_t next = next_tile(tile, axis);
                    if (next < 0) continue;
                    std::pair<std::int32_t, std::int32_t> last = {NONE, NONE};
                    for_each_face(tile, next, axis, [&](std::int64_t i, std::int64_t j) {
                        const int choice = tiles_.choice[i], next_choice = tiles_.choice[j];
                        // The same centre, seen from the next tile, lies one step further back.
                        if (next_choice != choice - STEP[axis] || choice == NOWHERE ||
                            choice / STEP[axis] % 3 == 0)
                            return;
                        const std::pair<std::int32_t, std::int32_t> pair = {piece_of_[i], piece_of_[j]};
                        if (pair != last) pairs[thread].push_back(pair);
                        last = pair;
                    });
                }
        });
        for (const auto& some : pairs)
            for (const auto& [a, b] : some) sets_.join(a, b);
    }

    void measure() {
        roots_.resize(pieces_.size());
        for (std::size_t i = 0; i < roots_.size(); ++i)
            roots_[i] = sets_.root(static_cast<std::int32_t>(i));
        own_first_.assign(pieces_.size(), std::numeric_limits<std::int64_t>::max());
        std::vector<std::int64_t> n(pieces_.size());
        // The pieces of a tile are no other tile's, so threads do not meet.
        for_each_run([&](std::int32_t piece, std::int64_t to, std::int64_t width) {
            if (n[piece] == 0) own_first_[piece] = to;  // rows come in the image's order
            n[piece] += width;
        });
        for (std::size_t i = 0; i < roots_.size(); ++i) {
            pieces_[roots_[i]].n += n[i];
            pieces_[roots_[i]].first = std::min(pieces_[roots_[i]].first, own_first_[i]);
        }
    }

    // Count the faces that small pieces share with others.
    std::vector<Contact> find_contacts(const std::vector<std::uint8_t>& is_small) {
        std::vector<std::vector<Contact>> faces(team_.n_threads());
        team_.share(tiles_.n(), [&](std::int64_t begin, std::int64_t end, int thread) {
            for (std::int64_t tile = begin; tile < end; ++tile) {
                const auto is_wanted = [&](std::int32_t root) { return is_small[root] != 0; };
                if (std::none_of(roots_.begin() + first_piece_[tile],
                                 roots_.begin() + first_piece_[tile + 1], is_wanted))
                    continue;
                const Box& box = tiles_.boxes[tile];
                const std::int64_t stride = Tiles::padded(box.n[1] * box.n[2]);
                for (std::int64_t z = 0; z < box.n[0]; ++z)
                    for (std::int64_t y = 0; y < box.n[1]; ++y)
                        for (std::int64_t x = 0; x < box.n[2]; ++x) {
                            const std::int64_t i =
                                tiles_.offsets[tile] + z * stride + y * box.n[2] + x;
                            if (piece_of_[i] == NONE || !is_small[roots_[piece_of_[i]]]) continue;
                            for_each_neighbour(tile, {z, y, x}, i, [&](std::int64_t j) {
                                if (piece_of_[j] != NONE)
                                    add(faces[thread], roots_[piece_of_[i]], roots_[piece_of_[j]]);
                            });
                        }
            }
        });
        std::vector<Contact> contacts;
        for (const std::vector<Contact>& some : faces)
            contacts.insert(contacts.end(), some.begin(), some.end());
        return merged(contacts, pieces_.size());
    }

    static void add(std::vector<Contact>& contacts, std::int32_t small, std::int32_t other) {
        if (small == other) return;
        if (!contacts.empty() && contacts.back().small == small && contacts.back().other == other)
            ++contacts.back().n;
        else
            contacts.push_back({small, other, 1});
    }

    // Add up the contacts between the same two, in the order of the small pieces.
    static std::vector<Contact> merged(const std::vector<Contact>& contacts, std::size_t n_pieces) {
        std::vector<std::int64_t> first(n_pieces + 1);
        for (const Contact& contact : contacts) ++first[contact.small + 1];
        for (std::size_t i = 0; i < n_pieces; ++i) first[i + 1] += first[i];
        std::vector<Contact> sorted(contacts.size());
        std::vector<std::int64_t> next(first.begin(), first.end() - 1);
        for (const Contact& contact : contacts) sorted[next[contact.small]++] = contact;
        std::vector<Contact> sum;
        for (std::size_t piece = 0; piece < n_pieces; ++piece) {
            const auto begin = sorted.begin() + first[piece], end = sorted.begin() + first[piece + 1];
            std::sort(begin, end, [](const Contact& a, const Contact& b) { return a.other < b.other; });
            for (auto contact = begin; contact != end; ++contact) {
                if (contact != begin && sum.back().other == contact->other)
                    sum.back().n += contact->n;
                else
                    sum.push_back(*contact);
            }
        }
        return sum;
    }

    // Let every small piece that touches a large one join it. Returns whether any did.
    bool join_round(std::vector<Contact>& contacts, std::vector<std::int32_t>& large) {
        std::vector<Contact> to_large, open;
        for (const Contact& contact : contacts) {
            if (large[contact.small] != NONE) continue;
            open.push_back(contact);
            if (large[contact.other] != NONE)
                to_large.push_back({contact.small, large[contact.other], contact.n});
        }
        to_large = merged(to_large, pieces_.size());
        contacts = open;
        for (std::size_t i = 0; i < to_large.size();) {
            Contact best = to_large[i];
            for (++i; i < to_large.size() && to_large[i].small == best.small; ++i) {
                const Contact& next = to_large[i];
                if (next.n > best.n ||
                    (next.n == best.n && pieces_[next.other].first < pieces_[best.other].first))
                    best = next;
            }
            large[best.small] = best.other;
        }
        return !to_large.empty();
    }

    const Tiles& tiles_;
    const Grid& grid_;
    Team& team_;
    std::unique_ptr<std::int32_t[]> piece_of_;  // for each element of the tiles, or NONE
    std::vector<std::int32_t> first_piece_;  // for each tile, and the end
    Sets sets_;
    std::vector<std::int32_t> roots_;        // for each tile's piece: the whole piece
    std::vector<std::int64_t> own_first_;    // for each tile's piece: its first element in the image
    std::vector<Piece> pieces_;              // what is known of whole pieces, at their roots
};

}  // namespace

std::int64_t number_superpixels(const Tiles& tiles, std::int32_t* superpixels, Team& team) {
    Pieces pieces(tiles, team);
    pieces.find();
    pieces.join_small();
    return pieces.write(superpixels);
}

}  // namespace sfumato
