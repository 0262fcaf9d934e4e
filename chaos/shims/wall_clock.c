/* A wall clock that somebody else sets.

   Preloaded into a process, it moves CLOCK_REALTIME as the file WALL_CLOCK says, which is
   mapped and so may change at any time: three numbers of 64 bits in the machine's order,

     offset   nanoseconds to add
     drift    nanoseconds to add per second since `since`
     since    of CLOCK_MONOTONIC, nanoseconds

   The monotonic clock is left alone. Waits that end at a moment of the wall clock end when the
   moved clock shows it: their moment is moved back before the system hears of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

struct setting {
    volatile int64_t offset, drift, since;
};

static const struct setting *setting;

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("WALL_CLOCK");
    int handle = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (handle < 0) return;
    void *found = mmap(NULL, sizeof *setting, PROT_READ, MAP_SHARED, handle, 0);
    if (found != MAP_FAILED) setting = found;
    close(handle);
}

typedef int (*reader)(clockid_t, struct timespec *);

static int real(clockid_t clock, struct timespec *now) {
    static reader found;
    if (found == NULL) found = (reader)dlsym(RTLD_NEXT, "clock_gettime");
    return found(clock, now);
}

static int64_t moved_by(void) {
    struct timespec now;
    if (setting == NULL) return 0;
    if (setting->drift == 0) return setting->offset;
    real(CLOCK_MONOTONIC, &now);
    int64_t passed = now.tv_sec * SECOND + now.tv_nsec - setting->since;
    return setting->offset + passed / 1000 * setting->drift / (SECOND / 1000);
}

static void move(struct timespec *moment, int64_t by) {
    int64_t rest = moment->tv_nsec + by % SECOND;
    moment->tv_sec += by / SECOND;
    if (rest < 0) rest += SECOND, moment->tv_sec--;
    if (rest >= SECOND) rest -= SECOND, moment->tv_sec++;
    moment->tv_nsec = rest;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        move(now, moved_by());
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec moment;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &moment)) return -1;
    now->tv_sec = moment.tv_sec;
    now->tv_usec = moment.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    if (place) *place = moment.tv_sec;
    return moment.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

/* A moment of the wall clock is beyond 2001; the monotonic clock counts from the start of the
   machine, so one of its moments is not. */
static struct timespec told(const struct timespec *moment) {
    struct timespec back = *moment;
    if (moment->tv_sec > 1000000000) move(&back, -moved_by());
    return back;
}

static void *condition(const char *name) {
    static const char *const versions[] = {"GLIBC_2.3.2", "GLIBC_2.17"}; /* x86-64, ARM64 */
    for (unsigned number = 0; number < sizeof versions / sizeof *versions; number++) {
        void *found = dlvsym(RTLD_NEXT, name, versions[number]);
        if (found) return found;
    }
    return dlsym(RTLD_NEXT, name);
}

int pthread_cond_timedwait(pthread_cond_t *restrict signal, pthread_mutex_t *restrict lock,
                           const struct timespec *restrict until) {
    static int (*found)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (found == NULL) found = condition("pthread_cond_timedwait");
    struct timespec back = told(until);
    return found(signal, lock, &back);
}

int pthread_cond_clockwait(pthread_cond_t *restrict signal, pthread_mutex_t *restrict lock,
                           clockid_t clock, const struct timespec *restrict until) {
    static int (*found)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (found == NULL) found = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    if (found == NULL) return EINVAL;
    struct timespec back = told(until);
    return found(signal, lock, clock, &back);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*found)(sem_t *, const struct timespec *);
    if (found == NULL) found = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec back = told(until);
    return found(semaphore, &back);
}
