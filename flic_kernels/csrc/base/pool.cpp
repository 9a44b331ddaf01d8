#include "base/pool.h"

#if !defined(FLIC_NO_THREADS)
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>
#endif

#include "base/float_environment.h"
#include "include/flic_kernels.h"

namespace flic {

#if defined(FLIC_NO_THREADS)

class Pool::Crew {};

Pool::~Pool() = default;

void Pool::run_job(const Job& job) { run_alone(job); }

void share_threads(FlicParallel, FlicMostThreads) {}

struct Mutex::State {};

Mutex::Mutex() : state_(nullptr) {}
Mutex::~Mutex() = default;
void Mutex::lock() {}
void Mutex::unlock() {}

#else

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

// Another library's threads, and the process that has them.
std::atomic<FlicParallel> lent{nullptr};
std::atomic<int (*)()> most_lent{nullptr};
std::atomic<pid_t> lent_to{0};

}  // namespace

void share_threads(FlicParallel parallel, FlicMostThreads most) {
#if !defined(__SANITIZE_THREAD__)  // which does not see how another library's threads meet
    lent_to.store(getpid());
    most_lent.store(most);
    lent.store(parallel);
#else
    (void)parallel, (void)most;
#endif
}

// The threads beside the caller, in one process.
class Pool::Crew {
  public:
    explicit Crew(int threads) {
        workers_.reserve(static_cast<size_t>(threads));
        try {
            for (int i = 1; i < threads; ++i) workers_.emplace_back(&Crew::serve, this, i);
        } catch (const std::system_error&) {
            // The system gives no more threads: those that run, and the caller, do the work.
        }
    }

    ~Crew() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
            started_.fetch_add(1);
        }
        wake_.notify_all();
        for (std::thread& t : workers_) t.join();
    }

    bool is_here() const { return process_ == getpid(); }

    void run(const Job& job) {
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

  private:
    void drain(int worker) {
        const FloatEnvironment environment;
        for (int item; (item = next_.fetch_add(1)) < job_.items;) job_.item(item, worker);
    }

    void serve(int worker) {
        for (unsigned seen = 0;; ++seen) {
            const auto called = [&] { return started_.load() != seen; };
            if (!spin_until(called)) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, called);
            }
            {
                std::lock_guard<std::mutex> lock(mutex_);  // job_ and stop_ were written under it
                if (stop_) return;
            }
            drain(worker);
            if (busy_.fetch_sub(1) == 1) {
                std::lock_guard<std::mutex> lock(mutex_);
                done_.notify_one();
            }
        }
    }

    Job job_ = {};
    std::atomic<int> next_{0};          // item
    std::atomic<int> busy_{0};          // threads that have not finished the current job
    std::atomic<unsigned> started_{0};  // number of jobs so far
    bool stop_ = false;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    const pid_t process_ = getpid();
};

// A job that another library's threads, however many come, do together.
struct Pool::Shared {
    const Job& job;
    std::atomic<int> next{0}, workers{0};

    static void take_part(void* shared) {
        Shared& s = *static_cast<Shared*>(shared);
        const FloatEnvironment environment;
        const int worker = s.workers.fetch_add(1);
        for (int item; (item = s.next.fetch_add(1)) < s.job.items;) s.job.item(item, worker);
    }
};

Pool::~Pool() {
    if (crew_ && !crew_->is_here()) (void)crew_.release();
}

void Pool::run_job(const Job& job) {
    if (threads_ == 1 || job.items <= 1) {
        run_alone(job);
        return;
    }
    const FlicParallel parallel = lent.load();
    if (parallel && lent_to.load() == getpid() && threads_ <= most_lent.load()()) {
        Shared shared{job};
        parallel(Shared::take_part, &shared, static_cast<unsigned>(threads_), 0);
        return;
    }
    if (!crew_ || !crew_->is_here()) {
        auto own = std::make_unique<Crew>(threads_);
        (void)crew_.release();
        crew_ = std::move(own);
    }
    crew_->run(job);
}

struct Mutex::State {
    std::mutex mutex;
    const pid_t process = getpid();
};

Mutex::Mutex() : state_(new State) {}

Mutex::~Mutex() {
    State* const last = state_.load();
    if (last->process == getpid()) delete last;
}

Mutex::State& Mutex::state() {
    State* known = state_.load();
    if (known->process == getpid()) return *known;
    auto fresh = std::make_unique<State>();
    if (state_.compare_exchange_strong(known, fresh.get())) return *fresh.release();
    return *known;  // another thread of this process was first
}

void Mutex::lock() { state().mutex.lock(); }
void Mutex::unlock() { state().mutex.unlock(); }

#endif  // FLIC_NO_THREADS

Pool::Pool(int threads) : threads_(threads) {}

void Pool::run_alone(const Job& job) {
    const FloatEnvironment environment;
    for (int item = 0; item < job.items; ++item) job.item(item, 0);
}

Pool& team(int threads) {
    static thread_local std::unique_ptr<Pool> own;
    static thread_local int asked = 0;
    if (asked != threads) {
        asked = 0;
        own.reset();  // its threads end before others begin
        own = std::make_unique<Pool>(threads);
        asked = threads;
    }
    return *own;
}

}  // namespace flic

// GOMP_parallel and omp_get_max_threads of the OpenMP whose threads jobs run on from now on.
FLIC_API void flic_share_threads(FlicParallel parallel, FlicMostThreads most) {
    flic::share_threads(parallel, most);
}
