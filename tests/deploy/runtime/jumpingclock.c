/* Preloaded: the system's clock is ahead by the seconds that the file CLOCK_JUMP holds (8 bytes, read anew each time);
   all other clocks are left alone, as they are when somebody sets the time. libfaketime breaks sleeping on those. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *jump;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_JUMP"), O_RDONLY | O_CLOEXEC);
    void *held = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (held == MAP_FAILED) abort();
    jump = held;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (!failed && jump && clock == CLOCK_REALTIME) at->tv_sec += *jump;
    return failed;
}
