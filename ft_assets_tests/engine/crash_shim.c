/* Preloaded into a process, kills it just before its n-th call that changes the disk.
 *
 * crash_arm(n) begins to count, crash_calls() says how far it came. Calls on what is neither a file
 * nor a folder (pipes, sockets) do not count.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;
static atomic_long last; /* 0: not armed */

void crash_arm(long n) {
    atomic_store(&calls, 0);
    atomic_store(&last, n);
}

long crash_calls(void) { return atomic_load(&calls); }

static void count(void) {
    long n = atomic_load(&last);
    if (n && atomic_fetch_add(&calls, 1) + 1 == n) {
        kill(getpid(), SIGKILL);
        for (;;) pause(); /* no other thread gets further than the signal */
    }
}

static void count_on(int fd) {
    struct stat stat;
    if (atomic_load(&last) && !fstat(fd, &stat) && (S_ISREG(stat.st_mode) || S_ISDIR(stat.st_mode)))
        count();
}

#define PASS(type, name, parameters, arguments, counting)                     \
    type name parameters {                                                    \
        static type(*real) parameters;                                        \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name);        \
        counting;                                                             \
        return real arguments;                                                \
    }

PASS(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size), count_on(fd))
PASS(ssize_t, writev, (int fd, const struct iovec *from, int size), (fd, from, size), count_on(fd))
PASS(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at), count_on(fd))
PASS(ssize_t, sendfile64, (int to, int from, off64_t *at, size_t size), (to, from, at, size), count_on(to))
PASS(int, ftruncate64, (int fd, off64_t size), (fd, size), count_on(fd))
PASS(int, fsync, (int fd), (fd), count_on(fd))
PASS(int, fdatasync, (int fd), (fd), count_on(fd))
PASS(int, rename, (const char *from, const char *to), (from, to), count())
PASS(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), count())
PASS(int, link, (const char *from, const char *to), (from, to), count())
PASS(int, linkat, (int a, const char *from, int b, const char *to, int how), (a, from, b, to, how), count())
PASS(int, unlink, (const char *path), (path), count())
PASS(int, unlinkat, (int fd, const char *path, int how), (fd, path, how), count())
PASS(int, mkdir, (const char *path, mode_t mode), (path, mode), count())
PASS(int, rmdir, (const char *path), (path), count())
