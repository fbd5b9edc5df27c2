// A team of threads that works through numbered items together.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace sfumato {

class Team {
  public:
    // As many threads as are wanted and can be had.
    explicit Team(int n_threads) {
        try {
            while (n_threads_ < n_threads) {
                threads_.emplace_back([this, i = n_threads_] { serve(i); });
                ++n_threads_;
            }
        } catch (const std::system_error&) {
        }
    }

    ~Team() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            is_over_ = true;
            ++round_;
        }
        start_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int n_threads() const { return n_threads_; }

    // Call work(first, last, thread) for all of 0 … n-1, some items at a time, whichever thread is
    // free. Results must not depend on how the items are shared out.
    void share(std::int64_t n, const std::function<void(std::int64_t, std::int64_t, int)>& work) {
        if (n == 0) return;
        if (n_threads_ == 1) return work(0, n, 0);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work;
            n_items_ = n;
            next_ = 0;
            n_busy_ = n_threads_ - 1;
            ++round_;
        }
        start_.notify_all();
        take_items(0);
        look_out([this] { return n_busy_ == 0; });
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return n_busy_ == 0; });
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

  private:
    static constexpr int N_LOOKS = 200;

    // Work comes in quick succession and waking up takes long, so a thread looks for some time before
    // it goes to sleep.
    template <typename Condition>
    static void look_out(const Condition& is_true) {
        for (int i = 0; i < N_LOOKS && !is_true(); ++i) std::this_thread::yield();
    }

    void take_items(int thread) {
        const std::int64_t n_at_once = std::max<std::int64_t>(1, n_items_ / (16 * n_threads_));
        try {
            while (true) {
                const std::int64_t first = next_.fetch_add(n_at_once);
                if (first >= n_items_) return;
                (*work_)(first, std::min(n_items_, first + n_at_once), thread);
            }
        } catch (...) {
            const std::lock_guard<std::mutex> lock(mutex_);
            failure_ = std::current_exception();
            next_ = n_items_;
        }
    }

    void serve(int thread) {
        std::int64_t seen = 0;
        while (true) {
            look_out([&] { return round_ != seen; });
            {
                std::unique_lock<std::mutex> lock(mutex_);
                start_.wait(lock, [&] { return round_ != seen; });
                seen = round_;
                if (is_over_) return;
            }
            take_items(thread);
            const std::lock_guard<std::mutex> lock(mutex_);
            if (--n_busy_ == 0) done_.notify_one();
        }
    }

    int n_threads_ = 1;  // with the caller's
    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable start_, done_;
    const std::function<void(std::int64_t, std::int64_t, int)>* work_ = nullptr;
    std::atomic<std::int64_t> next_{0};
    std::exception_ptr failure_;
    std::int64_t n_items_ = 0;
    std::atomic<std::int64_t> round_{0};
    std::atomic<int> n_busy_{0};
    bool is_over_ = false;
};

}  // namespace sfumato
