// A fixed set of threads that share out the items of a job. Items are outputs or parts of a sum that
// are the same for every number of threads, so the number of threads changes no bit.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace flic {

class Pool {
  public:
    explicit Pool(int threads);  // fewer where the system gives no more
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return static_cast<int>(workers_.size()) + 1; }

    // work(item, worker) for every item in [0, items), worker in [0, threads()); returns when all
    // are done. One caller at a time; work must not throw.
    template <class Work>
    void run(int items, const Work& work) {
        run_job({[](const void* w, int item, int worker) {
                     (*static_cast<const Work*>(w))(item, worker);
                 },
                 &work, items});
    }

  private:
    struct Job {
        void (*call)(const void* work, int item, int worker);
        const void* work;
        int items;
    };

    void run_job(const Job& job);
    void serve(int worker);
    void drain(int worker);

    Job job_ = {};
    std::atomic<int> next_{0};          // item
    std::atomic<int> busy_{0};          // threads that have not finished the current job
    std::atomic<unsigned> started_{0};  // number of jobs so far
    bool stop_ = false;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    int process_;  // after a fork the threads are gone
};

// The calling thread's own set, made on first use and again where another number is asked for.
Pool& team(int threads);

}  // namespace flic
