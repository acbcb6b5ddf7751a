// A zeroed array, aligned to vector registers; std::vector does not guarantee this alignment.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#include "lanes.hpp"

namespace kipper {

template <class Element>
class AlignedArray {
  public:
    AlignedArray() = default;

    explicit AlignedArray(std::size_t size)
        : size_(size),
          elements_(static_cast<Element*>(
              ::operator new(size * sizeof(Element), std::align_val_t{kVectorBytes}))) {
        clear();
    }

    void clear() { std::memset(static_cast<void*>(data()), 0, size_ * sizeof(Element)); }

    std::size_t size() const { return size_; }
    Element* data() { return elements_.get(); }
    const Element* data() const { return elements_.get(); }
    Element& operator[](std::size_t index) { return elements_.get()[index]; }
    const Element& operator[](std::size_t index) const { return elements_.get()[index]; }

  private:
    struct Deleter {
        void operator()(Element* elements) const {
            ::operator delete(elements, std::align_val_t{kVectorBytes});
        }
    };

    std::size_t size_ = 0;
    std::unique_ptr<Element, Deleter> elements_;
};

}  // namespace kipper
