// Work in parts that may throw.
#pragma once
#include <exception>
#include <functional>
#include <vector>

#include "base/pool.h"

namespace flic {

using Tasks = std::vector<std::function<void()>>;

// All of them, on `threads` threads; throws what the first of those that failed threw.
inline void run(const Tasks& tasks, int threads) {
    std::vector<std::exception_ptr> failures(tasks.size());
    team(threads).run(static_cast<int>(tasks.size()), [&](int i, int) {
        try {
            tasks[i]();
        } catch (...) {
            failures[i] = std::current_exception();
        }
    });
    for (const std::exception_ptr& failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
}

}  // namespace flic
