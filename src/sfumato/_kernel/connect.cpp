#include "connect.hpp"

#include <algorithm>
#include <vector>

#include "bits.hpp"
#include "buffer.hpp"
#include "tiles.hpp"

namespace sfumato {
namespace {

constexpr std::int32_t NONE = -1;

// A run is a stretch of one colour in a row of the image. Runs are numbered in the order of the image, and
// so are pieces, by their first runs. What two rows or neighbours in a row have in common is kept as
// bits, one an element, so that most elements are passed over 64 at a time.
class Pieces {
  public:
    Pieces(const Grid& grid, const Box& box, const std::uint8_t* colours, Team& team)
        : grid_(grid), colours_(colours), team_(team), n_x_(box.n[2]), n_y_(box.n[1]),
          n_rows_(box.n[0] * n_y_), n_words_((n_x_ + WORD_BITS - 1) / WORD_BITS),
          starts_(n_rows_ * n_words_), like_y_(n_rows_ * n_words_), like_z_(n_rows_ * n_words_),
          n_before_(n_rows_ * n_words_), first_run_(n_rows_ + 1) {}

    std::int64_t write(std::int32_t* superpixels) {
        compare();
        find_runs();
        join_runs();
        find_pieces();
        join_small();
        return number(superpixels);
    }

  private:
    template <typename Work>
    void for_each_row(const Work& work) {
        team_.share(n_rows_, [&](std::int64_t first, std::int64_t end, int thread) {
            for (std::int64_t row = first; row < end; ++row) work(row, thread);
        });
    }

    bool has_row_above(std::int64_t row) const { return row % n_y_ > 0; }
    bool has_row_behind(std::int64_t row) const { return row >= n_y_; }

    void compare() {
        for_each_row([&](std::int64_t row, int) {
            const std::uint8_t* const colour = colours_ + row * n_x_;
            std::int32_t n_runs = 0;
            for (std::int64_t i = 0; i < n_words_; ++i) {
                const std::int64_t x = i * WORD_BITS, n = std::min<std::int64_t>(WORD_BITS, n_x_ - x);
                const std::uint64_t all = ~std::uint64_t(0) >> (WORD_BITS - n);
                const std::uint64_t like_x = i == 0 ? equal_bytes(colour + 1, colour, n - 1) << 1
                                                    : equal_bytes(colour + x, colour + x - 1, n);
                const auto like = [&](std::int64_t back) {
                    return equal_bytes(colour + x, colour + x - back, n);
                };
                const std::int64_t word = row * n_words_ + i;
                starts_[word] = ~like_x & all;
                like_y_[word] = has_row_above(row) ? like(n_x_) : 0;
                like_z_[word] = has_row_behind(row) ? like(n_y_ * n_x_) : 0;
                n_runs += count(starts_[word]);
            }
            first_run_[row + 1] = n_runs;
        });
        for (std::int64_t row = 0; row < n_rows_; ++row) first_run_[row + 1] += first_run_[row];
    }

    // Runs are 0 … n-1.
    std::int64_t n_runs() const { return first_run_[n_rows_]; }

    std::int64_t end_of(std::int32_t run, std::int64_t row) const {
        return run + 1 < first_run_[row + 1] ? start_[run + 1] : n_x_;
    }

    void find_runs() {
        start_ = Buffer<std::int32_t>(n_runs());
        piece_ = Buffer<std::int32_t>(n_runs());
        for_each_row([&](std::int64_t row, int) {
            std::int32_t run = first_run_[row];
            for (std::int64_t i = 0; i < n_words_; ++i) {
                n_before_[row * n_words_ + i] = run;
                for_each(starts_[row * n_words_ + i], [&](int bit) {
                    start_[run] = static_cast<std::int32_t>(i * WORD_BITS + bit);
                    piece_[run] = run;
                    ++run;
                });
            }
        });
    }

    std::int32_t run_at(std::int64_t row, std::int64_t x) const {
        const std::int64_t word = row * n_words_ + x / WORD_BITS;
        const std::uint64_t up_to = ~std::uint64_t(0) >> (WORD_BITS - 1 - x % WORD_BITS);
        return n_before_[word] + count(starts_[word] & up_to) - 1;
    }

    std::int32_t root(std::int32_t run) {
        while (piece_[run] != run) run = piece_[run] = piece_[piece_[run]];
        return run;
    }

    void join(std::int32_t a, std::int32_t b) {
        a = root(a), b = root(b);
        if (a < b) piece_[b] = a;
        if (b < a) piece_[a] = b;
    }

    // Join a row to the one above or behind it, where that does not follow from what is joined already:
    // by way of the elements before them, or, to the row behind, by way of the rows above both.
    void join_rows(std::int64_t row, bool is_behind) {
        const std::int64_t other = row - (is_behind ? n_y_ : 1);
        const std::uint64_t* const like = (is_behind ? like_z_ : like_y_).get();
        std::uint64_t carried = 0;
        for (std::int64_t i = 0; i < n_words_; ++i) {
            const std::int64_t word = row * n_words_ + i;
            std::uint64_t wanted = like[word] & ~((like[word] << 1 | carried) & ~starts_[word]);
            carried = like[word] >> (WORD_BITS - 1);
            if (is_behind && has_row_above(row))
                wanted &= ~(like_y_[word] & like_z_[word - n_words_] & like_y_[word - n_y_ * n_words_]);
            for_each(wanted, [&](int bit) {
                const std::int64_t x = i * WORD_BITS + bit;
                join(run_at(row, x), run_at(other, x));
            });
        }
    }

    // Threads take blocks of rows; rows on both sides of where blocks meet are joined in the end.
    void join_runs() {
        const std::int64_t n_blocks =
            std::min<std::int64_t>(n_rows_, team_.n_threads() == 1 ? 1 : 4 * team_.n_threads());
        const auto first_row = [&](std::int64_t block) { return block * n_rows_ / n_blocks; };
        const auto join_row = [&](std::int64_t row, std::int64_t first, bool is_within) {
            if (has_row_above(row) && (row - 1 >= first) == is_within) join_rows(row, false);
            if (has_row_behind(row) && (row - n_y_ >= first) == is_within) join_rows(row, true);
        };
        team_.share(n_blocks, [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t block = begin; block < end; ++block)
                for (std::int64_t row = first_row(block); row < first_row(block + 1); ++row)
                    join_row(row, first_row(block), true);
        });
        for (std::int64_t block = 1; block < n_blocks; ++block) {
            const std::int64_t end = std::min(first_row(block) + n_y_, first_row(block + 1));
            for (std::int64_t row = first_row(block); row < end; ++row)
                join_row(row, first_row(block), false);
        }
    }

    // Afterwards every run knows its piece, or NONE where no superpixels are wanted.
    void find_pieces() {
        std::vector<std::int64_t> sizes;
        for (std::int64_t row = 0; row < n_rows_; ++row)
            for (std::int32_t run = first_run_[row]; run < first_run_[row + 1]; ++run) {
                // Earlier runs, of which this one knows one if it is not the first, have been through here.
                if (piece_[run] != run) {
                    piece_[run] = piece_[piece_[run]];
                } else if (colours_[row * n_x_ + start_[run]] == NOWHERE) {
                    piece_[run] = NONE;
                } else {
                    piece_[run] = static_cast<std::int32_t>(sizes.size());
                    sizes.push_back(0);
                }
                if (piece_[run] != NONE) sizes[piece_[run]] += end_of(run, row) - start_[run];
            }
        is_open_.resize(sizes.size());
        joined_.resize(sizes.size());
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            is_open_[i] = 4 * sizes[i] * grid_.n_cells() < grid_.n_elements();
            joined_[i] = static_cast<std::int32_t>(i);
        }
    }

    // A run of a small piece.
    struct SmallRun {
        std::int32_t run, next;  // the next of its piece, or NONE
        std::int64_t row;
    };

    void join_small() {
        const std::vector<std::int32_t> first = find_small_runs();
        std::vector<std::int32_t> open;
        for (std::size_t i = 0; i < is_open_.size(); ++i)
            if (is_open_[i]) open.push_back(static_cast<std::int32_t>(i));
        std::vector<std::int32_t> nearest;
        std::vector<Faces> faces(team_.n_threads());
        for (bool is_over = false; !is_over;) {
            nearest.resize(open.size());
            team_.share(open.size(), [&](std::int64_t begin, std::int64_t end, int thread) {
                for (std::int64_t i = begin; i < end; ++i)
                    nearest[i] = nearest_large(first[open[i]], faces[thread]);
            });
            // Only now, so that what joins in this round counts from the next one on.
            std::size_t n_left = 0;
            for (std::size_t i = 0; i < open.size(); ++i) {
                if (nearest[i] == NONE) {
                    open[n_left++] = open[i];
                } else {
                    joined_[open[i]] = nearest[i];
                    is_open_[open[i]] = 0;
                }
            }
            is_over = n_left == open.size();
            open.resize(n_left);
        }
    }

    // Chain the runs of every small piece. Returns for each piece its first one, or NONE.
    std::vector<std::int32_t> find_small_runs() {
        std::vector<std::int32_t> first(is_open_.size(), NONE);
        for (std::int64_t row = n_rows_ - 1; row >= 0; --row)
            for (std::int32_t run = first_run_[row]; run < first_run_[row + 1]; ++run) {
                const std::int32_t piece = piece_[run];
                if (piece == NONE || !is_open_[piece]) continue;
                small_runs_.push_back({run, first[piece], row});
                first[piece] = static_cast<std::int32_t>(small_runs_.size()) - 1;
            }
        return first;
    }

    // How many faces a small piece shares with a large one.
    struct Shared {
        std::int32_t large;
        std::int64_t n;
    };
    using Faces = std::vector<Shared>;

    // The large piece with which a small one shares most faces, or NONE. Of equals, the first.
    std::int32_t nearest_large(std::int32_t first, Faces& faces) const {
        faces.clear();
        for (std::int32_t i = first; i != NONE; i = small_runs_[i].next)
            for_each_contact(small_runs_[i], [&](std::int32_t other, std::int64_t n) {
                const std::int32_t piece = piece_[other];
                if (piece == NONE || is_open_[piece]) return;
                for (Shared& shared : faces)
                    if (shared.large == joined_[piece]) {
                        shared.n += n;
                        return;
                    }
                faces.push_back({joined_[piece], n});
            });
        Shared best = {NONE, 0};
        for (const Shared& shared : faces)
            if (shared.n > best.n || (shared.n == best.n && shared.large < best.large)) best = shared;
        return best.large;
    }

    // Call work(run, number of faces) for all runs side by side with a given one.
    template <typename Work>
    void for_each_contact(const SmallRun& small, const Work& work) const {
        const std::int64_t row = small.row, start = start_[small.run], end = end_of(small.run, row);
        if (start > 0) work(small.run - 1, 1);
        if (end < n_x_) work(small.run + 1, 1);
        const auto touch = [&](std::int64_t other) {
            std::int32_t run = run_at(other, start);
            for (std::int64_t x = start; x < end; ++run) {
                const std::int64_t next = std::min(end, end_of(run, other));
                work(run, next - x);
                x = next;
            }
        };
        if (has_row_above(row)) touch(row - 1);
        if (has_row_above(row + 1)) touch(row + 1);
        if (has_row_behind(row)) touch(row - n_y_);
        if (row + n_y_ < n_rows_) touch(row + n_y_);
    }

    std::int64_t number(std::int32_t* superpixels) {
        std::vector<std::int32_t> numbers(joined_.size(), NONE);
        std::int32_t n = 0;
        for (std::size_t piece = 0; piece < joined_.size(); ++piece) {
            std::int32_t& number = numbers[joined_[piece]];
            if (number == NONE) number = n++;
            numbers[piece] = number;
        }
        for_each_row([&](std::int64_t row, int) {
            std::int32_t* const to = superpixels + row * n_x_;
            for (std::int32_t run = first_run_[row]; run < first_run_[row + 1]; ++run) {
                const std::int64_t start = start_[run], end = end_of(run, row);
                if (piece_[run] != NONE)
                    write(to, start, end, numbers[piece_[run]]);
                else if (start > 0)  // the run before it has written over it
                    std::fill_n(to + start, std::min(AT_ONCE, end - start), NONE);
            }
        });
        return n;
    }

    // Most runs are short. Writing a fixed number of elements, over the beginnings of the next runs,
    // leaves nothing to guess.
    void write(std::int32_t* row, std::int64_t start, std::int64_t end, std::int32_t number) const {
        for (std::int64_t x = start; x < end; x += AT_ONCE)
            std::fill_n(row + x, x + AT_ONCE <= n_x_ ? AT_ONCE : n_x_ - x, number);
    }

    static constexpr std::int64_t AT_ONCE = 16;

    const Grid& grid_;
    const std::uint8_t* const colours_;
    Team& team_;
    const std::int64_t n_x_, n_y_, n_rows_, n_words_;
    Buffer<std::uint64_t> starts_;         // for each row, the elements that start a run
    Buffer<std::uint64_t> like_y_;         // those with the colour of the one above
    Buffer<std::uint64_t> like_z_;         // or behind
    Buffer<std::int32_t> n_before_;        // for each word of them, how many runs start before it
    std::vector<std::int32_t> first_run_;  // of every row, and the end
    Buffer<std::int32_t> start_;           // of every run, in its row
    Buffer<std::int32_t> piece_;           // of every run; until they are found, another run of it
    std::vector<std::uint8_t> is_open_;    // for every piece, whether it is small and has not joined a large one
    std::vector<std::int32_t> joined_;     // for every piece, the large one that it is part of, or itself
    std::vector<SmallRun> small_runs_;
};

}  // namespace

std::int64_t number_superpixels(const Grid& grid, const Box& box, const std::uint8_t* colours,
                                std::int32_t* superpixels, Team& team) {
    return Pieces(grid, box, colours, team).write(superpixels);
}

}  // namespace sfumato
