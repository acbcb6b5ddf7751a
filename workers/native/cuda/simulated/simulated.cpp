// The kernels of a GPU on a CPU, for tests: blocks one after the other, and within a block its
// warps from barrier to barrier. The structures of arguments are those of tests/simulated_gpu.py.
#include <cstdio>
#include <exception>

#include "cross.hpp"

namespace kipper {
namespace {

constexpr std::size_t kMessageBytes = 256;

struct Launch {
    const Plan* plan;
    const Stage* stages;
    int stage_count;
    int tangent;
    int blocks, warps;
    int count1, count2;
};

template <class Run>
int guarded(char* message, Run run) {
    try {
        run();
        return 0;
    } catch (const std::exception& error) {
        std::snprintf(message, kMessageBytes, "%s", error.what());
        return 1;
    }
}

template <class T>
void launch_cross(const Launch& launch, const T* const* inputs, T* kernel_data) {
    const Batch<T> batch1{inputs[0], inputs[1], launch.count1};
    const Batch<T> batch2{inputs[2], inputs[3], launch.count2};
    const auto stages = [&](auto visit) {
        for (int stage = 0; stage < launch.stage_count; ++stage) visit(launch.stages[stage]);
    };
    Memory<T> kernel(kernel_data, launch.count1 * launch.count2);
    const auto run = launch.tangent ? cross_block<true, T, Plan, decltype(stages)>
                                    : cross_block<false, T, Plan, decltype(stages)>;
    std::vector<T> numbers(launch.plan->workspace);
    for (int index = 0; index < launch.blocks; ++index) {
        Block block(index, launch.warps);
        Memory<T> workspace(numbers.data(), launch.plan->workspace);
        run(block, *launch.plan, stages, batch1, batch2, workspace, kernel, index, launch.blocks);
    }
}

}  // namespace
}  // namespace kipper

#define KIPPER_EXPORT extern "C" __attribute__((visibility("default")))

KIPPER_EXPORT int cross_float32(const kipper::Launch* launch, const float* const* inputs,
                                float* kernel, char* message) {
    return kipper::guarded(message, [&] { kipper::launch_cross<float>(*launch, inputs, kernel); });
}

KIPPER_EXPORT int cross_float64(const kipper::Launch* launch, const double* const* inputs,
                                double* kernel, char* message) {
    return kipper::guarded(message, [&] { kipper::launch_cross<double>(*launch, inputs, kernel); });
}
