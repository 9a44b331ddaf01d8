// Preloaded into a process, refuses new threads after allow_threads(n) more, as a system does that
// has no more to give.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

namespace {
int allowed = -1;  // -1: no limit
}

extern "C" void allow_threads(int count) { allowed = count; }

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*body)(void*), void* argument) {
    using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    static const Create create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
    if (allowed == 0) return EAGAIN;
    if (allowed > 0) --allowed;
    return create(thread, attributes, body, argument);
}
