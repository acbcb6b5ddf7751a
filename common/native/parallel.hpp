// Tasks shared out among threads. Which thread runs a task changes no bit of its result.
//
// Threads live as long as one call. A pool of OpenMP would outlive it: its idle threads spin on the
// cores of workers, and they are lost when the process forks.
#pragma once

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <system_error>
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

// Calls run(task, thread) for every task, with 0 <= thread < threads. `run` must not throw.
template <class Run>
void in_parallel(std::int64_t tasks, int threads, const Run& run) {
    std::atomic<std::int64_t> next{0};
    const auto work = [&](int thread) {
        for (std::int64_t task; (task = next.fetch_add(1)) < tasks;) run(task, thread);
    };
    std::vector<std::thread> others;
    try {
        others.reserve(std::size_t(threads));
        for (int thread = 1; thread < threads && thread < tasks; ++thread)
            others.emplace_back(work, thread);
    } catch (const std::system_error&) {  // no more threads are to be had: these do it all
    }
    work(0);
    for (std::thread& other : others) other.join();
}

}  // namespace kipper
