// Tasks shared out among threads. Which thread runs a task changes no bit of its result.
//
// Threads live as long as one call. A pool of OpenMP would outlive it: its idle threads spin on the
// cores of workers, and they are lost when the process forks.
#pragma once

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace kipper {

// Round to nearest and keep subnormal numbers: some libraries switch both for their whole process.
class DefaultRounding {
  public:
    DefaultRounding() {
        std::fegetenv(&before_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultRounding() { std::fesetenv(&before_); }
    DefaultRounding(const DefaultRounding&) = delete;
    DefaultRounding& operator=(const DefaultRounding&) = delete;

  private:
    std::fenv_t before_;
};

// The threads of `in_parallel` that tasks keep busy: as many memories as it needs.
inline int busy_threads(std::int64_t tasks, int threads) {
    return int(std::max<std::int64_t>(1, std::min<std::int64_t>(tasks, threads)));
}

// Calls run(task, thread) for every task, with 0 <= thread < busy_threads(tasks, threads) and
// default rounding. If `run` throws, no further task begins, and the caller gets what was thrown
// first.
template <class Run>
void in_parallel(std::int64_t tasks, int threads, const Run& run) {
    std::atomic<std::int64_t> next{0};
    std::exception_ptr thrown;
    std::mutex throwing;
    const auto work = [&](int thread) {
        const DefaultRounding rounding;
        try {
            for (std::int64_t task; (task = next.fetch_add(1)) < tasks;) run(task, thread);
        } catch (...) {
            next.store(tasks);
            const std::lock_guard<std::mutex> lock(throwing);
            if (!thrown) thrown = std::current_exception();
        }
    };
    const int busy = busy_threads(tasks, threads);
    std::vector<std::thread> others;
    try {
        others.reserve(std::size_t(busy));
        for (int thread = 1; thread < busy; ++thread) others.emplace_back(work, thread);
    } catch (const std::exception&) {  // no more threads are to be had: these do it all
    }
    work(0);
    for (std::thread& other : others) other.join();
    if (thrown) std::rethrow_exception(thrown);
}

}  // namespace kipper
