// Checks `in_parallel`; test_parallel.py compiles and runs it. Prints what is wrong, if anything.
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel.hpp"

using kipper::busy_threads;
using kipper::in_parallel;

namespace {

int complaints = 0;

void expect(bool right, const char* complaint) {
    if (right) return;
    std::puts(complaint);
    ++complaints;
}

void check_every_task_runs_once(std::int64_t tasks, int threads) {
    std::vector<int> runs(std::size_t(tasks), 0);
    std::vector<int> of_thread(std::size_t(busy_threads(tasks, threads)), 0);
    in_parallel(tasks, threads, [&](std::int64_t task, int thread) {
        ++runs[std::size_t(task)];
        ++of_thread[std::size_t(thread)];
    });
    std::int64_t total = 0;
    for (int count : of_thread) total += count;
    expect(total == tasks, "tasks were not counted by busy threads");
    for (int count : runs) expect(count == 1, "a task did not run once");
}

void check_what_a_task_throws(int threads, std::int64_t failing) {
    std::string message;
    try {
        in_parallel(1000, threads, [&](std::int64_t task, int) {
            if (task == failing) throw std::runtime_error("thrown by a task");
        });
    } catch (const std::exception& error) {
        message = error.what();
    }
    expect(message == "thrown by a task", "the caller did not get what a task threw");
}

}  // namespace

int main() {
    for (int threads : {0, 1, 2, 7})
        for (std::int64_t tasks : {0, 1, 2, 5, 1000}) check_every_task_runs_once(tasks, threads);
    for (int threads : {1, 4})
        for (std::int64_t failing : {0, 500, 999}) check_what_a_task_throws(threads, failing);
    expect(busy_threads(1, 8) == 1 && busy_threads(8, 2) == 2 && busy_threads(0, 4) == 1,
           "busy_threads");
    return complaints;
}
