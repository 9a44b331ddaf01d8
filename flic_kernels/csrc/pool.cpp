#include "pool.h"

#include <unistd.h>

#include <memory>
#include <system_error>

#include "float_environment.h"

namespace flic {
namespace {

// Jobs follow each other within microseconds: look for a while before sleeping.
constexpr int kLooks = 2000;

template <class Condition>
bool spin_until(Condition condition) {
    for (int i = 0; i < kLooks; ++i) {
        if (condition()) return true;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    return false;
}

}  // namespace

Pool::Pool(int threads) : process_(getpid()) {
    workers_.reserve(static_cast<size_t>(threads));
    try {
        for (int i = 1; i < threads; ++i) workers_.emplace_back(&Pool::serve, this, i);
    } catch (const std::system_error&) {
        // The system gives no more threads: those that run, and the caller, do the work.
    }
}

Pool::~Pool() {
    if (getpid() != process_) {  // a forked child: its copies of the threads never ran
        for (std::thread& t : workers_) t.detach();
        return;
    }
    {
        std::lock_guard<std::mutex> lock(mutex_);
        stop_ = true;
        started_.fetch_add(1);
    }
    wake_.notify_all();
    for (std::thread& t : workers_) t.join();
}

void Pool::run_job(const Job& job) {
    if (workers_.empty() || job.items <= 1 || getpid() != process_) {
        job_ = job;
        next_ = 0;
        drain(0);
        return;
    }
    {
        std::lock_guard<std::mutex> lock(mutex_);
        job_ = job;
        next_ = 0;
        busy_ = static_cast<int>(workers_.size());
        started_.fetch_add(1);
    }
    wake_.notify_all();
    drain(0);
    const auto finished = [this] { return busy_.load() == 0; };
    if (spin_until(finished)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, finished);
}

void Pool::drain(int worker) {
    const FloatEnvironment environment;
    for (int item; (item = next_.fetch_add(1)) < job_.items;) job_.call(job_.work, item, worker);
}

void Pool::serve(int worker) {
    for (unsigned seen = 0;; ++seen) {
        const auto called = [&] { return started_.load() != seen; };
        if (!spin_until(called)) {
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, called);
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);  // the job and stop_ were written under it
            if (stop_) return;
        }
        drain(worker);
        if (busy_.fetch_sub(1) == 1) {
            std::lock_guard<std::mutex> lock(mutex_);
            done_.notify_one();
        }
    }
}

Pool& team(int threads) {
    struct Team {
        std::unique_ptr<Pool> pool;
        int asked = 0;
        int process = 0;
    };
    static thread_local Team own;
    if (own.asked != threads || own.process != getpid()) {
        own.pool.reset();  // its threads end before others begin
        own.pool = std::make_unique<Pool>(threads);
        own.asked = threads;
        own.process = getpid();
    }
    return *own.pool;
}

}  // namespace flic
