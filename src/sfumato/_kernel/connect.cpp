#include "connect.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "buffer.hpp"
#include "tiles.hpp"

namespace sfumato {
namespace {

constexpr std::int32_t NONE = -1;

// The faces that a small piece shares with another.
struct Contact {
    std::int32_t small, other, n;
};

// A run is a stretch of one colour in a row of the image. Runs are numbered in the order of the image, so
// that the first run of a piece, which names it, is its lowest.
class Pieces {
  public:
    Pieces(const Grid& grid, const std::uint8_t* colours, Team& team)
        : grid_(grid), colours_(colours), team_(team), n_x_(grid.axes[2].n), n_y_(grid.axes[1].n),
          n_rows_(grid.axes[0].n * n_y_), first_run_(n_rows_ + 1) {}

    std::int64_t write(std::int32_t* superpixels) {
        find_runs();
        join_runs();
        find_roots();
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

    // Runs are 0 … n-1, and one more ends the last.
    std::int64_t n_runs() const { return first_run_[n_rows_]; }

    std::int64_t end_of(std::int64_t run, std::int64_t row) const {
        return run + 1 < first_run_[row + 1] ? start_[run + 1] : n_x_;
    }

    std::uint8_t colour_of(std::int64_t run, std::int64_t row) const {
        return colours_[row * n_x_ + start_[run]];
    }

    void find_runs() {
        for_each_row([&](std::int64_t row, int) {
            const std::uint8_t* const colour = colours_ + row * n_x_;
            std::int32_t n = 1;
            for (std::int64_t x = 1; x < n_x_; ++x) n += colour[x] != colour[x - 1];
            first_run_[row + 1] = n;
        });
        for (std::int64_t row = 0; row < n_rows_; ++row) first_run_[row + 1] += first_run_[row];
        start_ = Buffer<std::int32_t>(n_runs());
        parent_ = Buffer<std::int32_t>(n_runs());
        std::vector<std::vector<std::int32_t>> rows(team_.n_threads(), std::vector<std::int32_t>(n_x_ + 1));
        for_each_row([&](std::int64_t row, int thread) {
            // Written at every element, so that there is nothing to guess; kept where a run starts.
            std::int32_t* const start = rows[thread].data();
            const std::uint8_t* const colour = colours_ + row * n_x_;
            std::int32_t n = 1;
            start[0] = 0;
            for (std::int64_t x = 1; x < n_x_; ++x) {
                start[n] = static_cast<std::int32_t>(x);
                n += colour[x] != colour[x - 1];
            }
            std::copy(start, start + n, start_.get() + first_run_[row]);
            for (std::int32_t run = first_run_[row]; run < first_run_[row + 1]; ++run)
                parent_[run] = run;
        });
    }

    std::int32_t root(std::int32_t run) {
        while (parent_[run] != run) run = parent_[run] = parent_[parent_[run]];
        return run;
    }

    void join(std::int32_t a, std::int32_t b) {
        a = root(a), b = root(b);
        if (a < b) parent_[b] = a;
        if (b < a) parent_[a] = b;
    }

    // Call work(run, other run, number of faces) for the runs of two rows that lie side by side.
    template <typename Work>
    void for_each_contact(std::int64_t row, std::int64_t other, const Work& work) const {
        std::int32_t i = first_run_[row], j = first_run_[other];
        for (std::int64_t x = 0; x < n_x_;) {
            const std::int64_t end = end_of(i, row), other_end = end_of(j, other);
            const std::int64_t next = std::min(end, other_end);
            work(i, j, next - x);
            i += end == next;
            j += other_end == next;
            x = next;
        }
    }

    void join_rows(std::int64_t row, std::int64_t other) {
        for_each_contact(row, other, [&](std::int32_t i, std::int32_t j, std::int64_t) {
            if (colour_of(i, row) == colour_of(j, other)) join(i, j);
        });
    }

    // Threads take blocks of rows; rows on both sides of where blocks meet are joined in the end.
    void join_runs() {
        const std::int64_t n_blocks = std::min<std::int64_t>(n_rows_, team_.n_threads() == 1 ? 1 : 4 * team_.n_threads());
        const auto first_row = [&](std::int64_t block) { return block * n_rows_ / n_blocks; };
        const auto join_above = [&](std::int64_t row, std::int64_t first, bool is_within) {
            const auto join_to = [&](std::int64_t other) {
                if ((other >= first) == is_within) join_rows(row, other);
            };
            if (row % n_y_ > 0) join_to(row - 1);
            if (row >= n_y_) join_to(row - n_y_);
        };
        team_.share(n_blocks, [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t block = begin; block < end; ++block)
                for (std::int64_t row = first_row(block); row < first_row(block + 1); ++row)
                    join_above(row, first_row(block), true);
        });
        for (std::int64_t block = 1; block < n_blocks; ++block) {
            const std::int64_t end = std::min(first_row(block) + n_y_, first_row(block + 1));
            for (std::int64_t row = first_row(block); row < end; ++row)
                join_above(row, first_row(block), false);
        }
    }

    // Afterwards every run's parent is its root, and known to be part of a small piece or not.
    void find_roots() {
        size_.resize(n_runs());
        for (std::int64_t row = 0; row < n_rows_; ++row)
            for (std::int32_t run = first_run_[row]; run < first_run_[row + 1]; ++run) {
                const std::int32_t piece = parent_[run] = parent_[parent_[run]];
                size_[piece] += end_of(run, row) - start_[run];
            }
        is_small_ = Buffer<std::uint8_t>(n_runs());
        for_each_row([&](std::int64_t row, int) {
            for (std::int32_t run = first_run_[row]; run < first_run_[row + 1]; ++run)
                is_small_[run] = 4 * size_[parent_[run]] * grid_.n_cells() < grid_.n_elements();
        });
    }

    void join_small() {
        Contacts contacts = by_piece(find_contacts());
        std::vector<Contact> joined;
        do {
            joined.clear();
            for (std::int32_t& i : contacts.open) {
                const Contact best = nearest_large(contacts, i);
                if (best.other != NONE) joined.push_back(best);
            }
            // Only now, so that what joins in this round counts from the next one on.
            for (const Contact& contact : joined) parent_[contact.small] = contact.other;
            const auto is_closed = [&](std::int32_t i) {
                return !is_open(contacts.all[contacts.first[i]].small);
            };
            contacts.open.erase(
                std::remove_if(contacts.open.begin(), contacts.open.end(), is_closed),
                contacts.open.end());
        } while (!joined.empty());
    }

    // Whether a piece is small and has not joined a large one.
    bool is_open(std::int32_t piece) const { return is_small_[piece] && parent_[piece] == piece; }

    std::vector<Contact> find_contacts() {
        std::vector<std::vector<Contact>> found(team_.n_threads());
        for_each_row([&](std::int64_t row, int thread) {
            std::vector<Contact>& contacts = found[thread];
            const auto add = [&](std::int32_t i, std::int64_t row_of_i, std::int32_t j,
                                 std::int64_t row_of_j, std::int64_t n) {
                if (!(is_small_[i] | is_small_[j])) return;
                const std::int32_t a = parent_[i], b = parent_[j];
                if (a == b || colour_of(i, row_of_i) == NOWHERE || colour_of(j, row_of_j) == NOWHERE)
                    return;
                if (is_small_[i]) contacts.push_back({a, b, static_cast<std::int32_t>(n)});
                if (is_small_[j]) contacts.push_back({b, a, static_cast<std::int32_t>(n)});
            };
            for (std::int32_t run = first_run_[row] + 1; run < first_run_[row + 1]; ++run)
                add(run - 1, row, run, row, 1);
            const auto add_all = [&](std::int64_t other) {
                for_each_contact(row, other, [&](std::int32_t i, std::int32_t j, std::int64_t n) {
                    add(i, row, j, other, n);
                });
            };
            if (row % n_y_ > 0) add_all(row - 1);
            if (row >= n_y_) add_all(row - n_y_);
        });
        std::vector<Contact> contacts = std::move(found[0]);
        for (std::size_t i = 1; i < found.size(); ++i)
            contacts.insert(contacts.end(), found[i].begin(), found[i].end());
        return contacts;
    }

    // Contacts piece by piece.
    struct Contacts {
        std::vector<Contact> all;
        std::vector<std::int32_t> first;  // of every small piece, and the end
        std::vector<std::int32_t> open;   // the small pieces that have not joined a large one
    };

    Contacts by_piece(const std::vector<Contact>& contacts) const {
        Contacts result;
        std::vector<std::int32_t> place(n_runs(), NONE);  // of a piece among the small ones
        for (const Contact& contact : contacts) {
            std::int32_t& i = place[contact.small];
            if (i == NONE) {
                i = static_cast<std::int32_t>(result.first.size());
                result.open.push_back(i);
                result.first.push_back(0);
            }
            ++result.first[i];
        }
        std::int32_t sum = 0;
        for (std::int32_t& first : result.first) first = sum += first;
        result.first.push_back(sum);
        result.all.resize(contacts.size());
        for (const Contact& contact : contacts)
            result.all[--result.first[place[contact.small]]] = contact;
        return result;
    }

    // The large piece with which a small one shares most faces, or NONE.
    Contact nearest_large(const Contacts& contacts, std::int32_t i) {
        faces_.clear();
        Contact best = {NONE, NONE, 0};
        for (std::int32_t j = contacts.first[i]; j < contacts.first[i + 1]; ++j) {
            const Contact& contact = contacts.all[j];
            if (is_open(contact.other)) continue;
            const std::int32_t large = parent_[contact.other];
            auto found = std::find_if(faces_.begin(), faces_.end(), [&](const Contact& other) {
                return other.other == large;
            });
            if (found == faces_.end()) found = faces_.insert(found, {contact.small, large, 0});
            found->n += contact.n;
        }
        for (const Contact& sum : faces_)
            if (sum.n > best.n || (sum.n == best.n && sum.other < best.other)) best = sum;
        return best;
    }

    std::int64_t number(std::int32_t* superpixels) {
        std::vector<std::int32_t> numbers(n_runs(), NONE);
        std::int32_t n = 0;
        for (std::int64_t row = 0; row < n_rows_; ++row)
            for (std::int32_t run = first_run_[row]; run < first_run_[row + 1]; ++run) {
                if (colour_of(run, row) == NOWHERE) continue;
                std::int32_t& number = numbers[parent_[parent_[run]]];
                if (number == NONE) number = n++;
                numbers[run] = number;
            }
        for_each_row([&](std::int64_t row, int) {
            for (std::int32_t run = first_run_[row]; run < first_run_[row + 1]; ++run)
                if (numbers[run] != NONE)
                    std::fill(superpixels + row * n_x_ + start_[run],
                              superpixels + row * n_x_ + end_of(run, row), numbers[run]);
        });
        return n;
    }

    const Grid& grid_;
    const std::uint8_t* const colours_;
    Team& team_;
    const std::int64_t n_x_, n_y_, n_rows_;
    std::vector<std::int32_t> first_run_;     // of every row, and the end
    Buffer<std::int32_t> start_;              // of every run, in its row
    Buffer<std::int32_t> parent_;             // of every run, another of its piece; in the end its piece
    std::vector<std::int64_t> size_;          // of every piece
    Buffer<std::uint8_t> is_small_;           // for every run, whether its piece is
    std::vector<Contact> faces_;              // of one piece, see nearest_large
};

}  // namespace

std::int64_t number_superpixels(const Grid& grid, const std::uint8_t* colours,
                                std::int32_t* superpixels, Team& team) {
    return Pieces(grid, colours, team).write(superpixels);
}

}  // namespace sfumato
