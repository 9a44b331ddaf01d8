// A fixed set of threads that share out the items of a job. Items are outputs or parts of a sum
// that are the same for every number of threads, so the number of threads changes no bit.
//
// A forked child has none of its parent's threads, and finds locks as they were when it began. Both
// classes here notice that they are used in another process and start anew there; what belonged to
// the parent is abandoned, never destroyed: that would wait for threads that do not exist.
//
// With FLIC_NO_THREADS, for systems that have none, the caller does all the work and nothing locks.
#pragma once
#include <atomic>
#include <memory>

#include "base/stop.h"
#include "include/flic_kernels.h"

namespace flic {

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    // work(item, worker) for every item in [0, items), worker in [0, threads()); returns when all
    // are done, or when the caller's stop watch says so. One caller at a time; work must not throw.
    template <class Work>
    void run(int items, const Work& work) {
        run_job({[](const void* w, int item, int worker) {
                     (*static_cast<const Work*>(w))(item, worker);
                 },
                 &work, items, &stop_watch()});
    }

  private:
    struct Job {
        void (*call)(const void* work, int item, int worker);
        const void* work;
        int items;
        StopWatch* watch;

        void item(int i, int worker) const {
            if (!watch->asked()) call(work, i, worker);
        }
    };
    class Crew;
    struct Shared;

    void run_job(const Job& job);
    static void run_alone(const Job& job);  // in the calling thread

    std::unique_ptr<Crew> crew_;  // made when a job needs it; fewer where the system gives no more
    int threads_;
};

// parallel: OpenMP's GOMP_parallel, which does work(data) on up to `threads` threads at once and
// returns when all are done. All pools of this process, not of its children, run their jobs on
// those threads as long as they want no more than most(): OpenMP ends the process where the system
// gives it none. A program that computes with OpenMP as well needs this: its threads wait by
// spinning, and would take the cores from a pool's own.
void share_threads(FlicParallel parallel, FlicMostThreads most);

// The calling thread's own set, made on first use and again where another number is asked for.
Pool& team(int threads);

// A mutex that a forked child finds free, whoever held it in the parent.
class Mutex {
  public:
    Mutex();
    ~Mutex();
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;

    void lock();
    void unlock();

  private:
    struct State;
    State& state();

    std::atomic<State*> state_;
};

// Holds a mutex for a scope. (std::lock_guard is missing where there are no threads.)
class Lock {
  public:
    explicit Lock(Mutex& mutex) : mutex_(mutex) { mutex_.lock(); }
    ~Lock() { mutex_.unlock(); }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

  private:
    Mutex& mutex_;
};

}  // namespace flic
