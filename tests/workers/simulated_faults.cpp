// Faults that the simulated GPU must refuse: one function each, 0 if nothing was noticed.
#include <stdexcept>

#include "lanes.hpp"

namespace kipper {
namespace {

constexpr int kSize = 64;

template <class Run>
int refused(Run run) {
    float numbers[kSize] = {};
    Memory<float> memory(numbers, kSize);
    Block block(0, 2);
    try {
        run(block, memory);
    } catch (const std::logic_error&) {
        return 1;
    }
    return 0;
}

const Lanes<float> kOnes = Lanes<float>{} + 1.0f;
const Mask kAll = Mask{} - 1;

}  // namespace
}  // namespace kipper

using namespace kipper;

#define KIPPER_FAULT(name, ...)                                                   \
    extern "C" __attribute__((visibility("default"))) int name() {                \
        return refused([&](Block& block, Memory<float>& memory) { __VA_ARGS__ }); \
    }

// Not faults: warps write different elements, and read each other's after a barrier.
KIPPER_FAULT(none, block.each_warp([&](const Warp& warp) {
    memory.store(lane_index() + warp.index * kWarp, kOnes, kAll);
});
             block.barrier(); block.each_warp([&](const Warp&) { memory.load(lane_index()); });
             block.barrier(); block.each_warp([&](const Warp& warp) {
                 if (warp.index == 1) memory.store(lane_index(), kOnes, kAll);
             });)

KIPPER_FAULT(write_outside, block.each_warp([&](const Warp&) {
    memory.store(lane_index() + (kSize - kWarp + 1), kOnes, kAll);
});)

KIPPER_FAULT(read_outside, block.each_warp([&](const Warp&) { memory.load(lane_index() - 1); });)

KIPPER_FAULT(read_before_write, block.each_warp([&](const Warp&) { memory.load(lane_index()); });)

KIPPER_FAULT(two_lanes_write, block.each_warp([&](const Warp& warp) {
    memory.store(lane_index() / 2 + warp.index * kWarp, kOnes, kAll);
});)

KIPPER_FAULT(two_warps_write, block.each_warp([&](const Warp& warp) {
    memory.store(lane_index() + warp.index, kOnes, kAll);
});)

KIPPER_FAULT(a_warp_reads_what_another_writes, block.each_warp([&](const Warp& warp) {
    if (warp.index == 0) memory.store(lane_index(), kOnes, kAll);
    if (warp.index == 1) memory.load(lane_index());
});)

KIPPER_FAULT(a_warp_writes_what_another_reads, block.each_warp([&](const Warp& warp) {
    if (warp.index == 1) memory.store(lane_index(), kOnes, kAll);
});
             block.barrier(); block.each_warp([&](const Warp& warp) {
                 if (warp.index == 0) memory.load(lane_index());
                 if (warp.index == 1) memory.store(lane_index(), kOnes, kAll);
             });)

KIPPER_FAULT(read_after_forgetting, block.each_warp([&](const Warp& warp) {
    if (warp.index == 0) memory.store(lane_index(), kOnes, kAll);
});
             block.barrier(); memory.forget();
             block.each_warp([&](const Warp&) { memory.load(lane_index()); });)
