// Simulates a disk that fails on demand: preloaded before the C library, it intercepts a server's system calls.
//
// The file named by FAULTS holds lines "CALL NAME NTH ERRNO": from the NTH matching call on (1: at once), CALL fails
// with ERRNO on files whose path contains NAME, for as long as the line is there. CALL is write, fsync (also for
// fdatasync), ftruncate, open, rename or fork (whose NAME is "fork"); with "short", a write takes half of its bytes,
// and the next one fails; with "slow" instead of fork, it takes ERRNO milliseconds.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static atomic_int calls;
static atomic_int halves;

// The error of this call on this path, or 0.
static int fault(const char *call, const char *path) {
    const char *control = getenv("FAULTS");
    if (!control) return 0;
    int fd = (int)((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open"))(control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char text[1024];
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    for (char *rest = text, *line; (line = strtok_r(rest, "\n", &rest));) {
        char which[16], name[256];
        int nth, error;
        if (sscanf(line, "%15s %255s %d %d", which, name, &nth, &error) != 4) continue;
        // A NAME that ends with a dollar sign is the end of a path.
        size_t len = strlen(name), end = strlen(path);
        int matches = len && name[len - 1] == '$'
            ? end >= len - 1 && !strncmp(path + end - (len - 1), name, len - 1)
            : strstr(path, name) != NULL;
        if (strcmp(which, call) || !matches) continue;
        if (nth <= 1 || atomic_fetch_add(&calls, 1) + 1 >= nth) return error;
    }
    return 0;
}

static int fault_at(const char *call, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0 || path[0] != '/') return 0;
    path[n] = 0;
    return fault(call, path);
}

#define FAIL_IF(expression)      \
    do {                         \
        int error = expression;  \
        if (error) {             \
            errno = error;       \
            return -1;           \
        }                        \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t n) {
    int half = fault_at("short", fd);
    if (half && n > 1) {
        if (atomic_fetch_add(&halves, 1) % 2 == 1) {
            errno = half;
            return -1;
        }
        n /= 2;
    }
    FAIL_IF(fault_at("write", fd));
    return REAL(write)(fd, bytes, n);
}

int fsync(int fd) {
    FAIL_IF(fault_at("fsync", fd));
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    FAIL_IF(fault_at("fsync", fd));
    return REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t size) {
    FAIL_IF(fault_at("ftruncate", fd));
    return REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    FAIL_IF(fault_at("ftruncate", fd));
    return REAL(ftruncate64)(fd, size);
}

int rename(const char *from, const char *to) {
    FAIL_IF(fault("rename", to));
    return REAL(rename)(from, to);
}

pid_t fork(void) {
    int ms = fault("slow", "fork");
    if (ms) usleep(ms * 1000);
    FAIL_IF(fault("fork", "fork"));
    return REAL(fork)();
}

static mode_t mode_of(int flags, va_list more) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPEN(name)                                      \
    int name(const char *path, int flags, ...) {        \
        va_list more;                                   \
        va_start(more, flags);                          \
        mode_t mode = mode_of(flags, more);             \
        va_end(more);                                   \
        FAIL_IF(fault("open", path));                   \
        return REAL(name)(path, flags, mode);           \
    }
OPEN(open)
OPEN(open64)
