// SPDX-License-Identifier: Apache-2.0
/*
 * A disk that fails on command, as a library that is loaded before libc: it stands between SQLite and the system calls that
 * change files below one directory.
 *
 * Gets HOLDFAST_SHIM_PATH (the directory) and HOLDFAST_SHIM_CONTROL (a file of eight 32-bit words, mapped shared, so that a
 * test changes the plan while the program runs):
 *   0 operations that count: 1 write, 2 sync, 4 truncate, 8 open or unlink
 *   1 what happens: 0 nothing, 1 EIO, 2 ENOSPC, 3 EROFS, 4 half a write and then ENOSPC, 5 SIGKILL before, 6 SIGKILL after,
 *     7 a second of waiting, 8 it is counted and passes
 *   2 the first operation that it happens to, counted from 1    3 how many of them, 0 = all that follow
 *   4 operations seen so far                                     5 operations that it happened to
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { OP_WRITE = 1, OP_SYNC = 2, OP_TRUNCATE = 4, OP_NAME = 8 };
enum { NONE, FAIL_EIO, FAIL_ENOSPC, FAIL_EROFS, SHORT, KILL_BEFORE, KILL_AFTER, STALL };

static const char *directory;
static size_t directory_length;
static _Atomic uint32_t *control;
static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void start(void) {
  real_open = dlsym(RTLD_NEXT, "open");
  directory = getenv("HOLDFAST_SHIM_PATH");
  const char *path = getenv("HOLDFAST_SHIM_CONTROL");
  if (directory == NULL || path == NULL) return;
  directory_length = strlen(directory);
  int fd = real_open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *map = mmap(NULL, 32, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (map != MAP_FAILED) control = map;
}

static int below(const char *path) {
  return strncmp(path, directory, directory_length) == 0 && path[directory_length] == '/';
}

static int watched(int fd) {
  char link[64], path[4096];
  if (control == NULL || atomic_load(&control[1]) == NONE || fd < 3) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return below(path);
}

/* What happens to this operation; counts it. */
static uint32_t meet(uint32_t operation) {
  if ((atomic_load(&control[0]) & operation) == 0) return NONE;
  uint32_t seen = atomic_fetch_add(&control[4], 1) + 1;
  uint32_t from = atomic_load(&control[2]), count = atomic_load(&control[3]);
  if (seen < from || (count != 0 && seen >= from + count)) return NONE;
  atomic_fetch_add(&control[5], 1);
  uint32_t mode = atomic_load(&control[1]);
  if (mode == KILL_BEFORE) kill(getpid(), SIGKILL);
  if (mode == STALL) usleep(1000000);
  return mode;
}

static void after(uint32_t mode) {
  if (mode == KILL_AFTER) kill(getpid(), SIGKILL);
}

static int failed(uint32_t mode) {
  switch (mode) {
    case FAIL_EIO: errno = EIO; return 1;
    case FAIL_ENOSPC: errno = ENOSPC; return 1;
    case FAIL_EROFS: errno = EROFS; return 1;
    default: return 0;
  }
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  if (real == NULL) real = dlsym(RTLD_NEXT, "pwrite64");
  uint32_t mode = watched(fd) ? meet(OP_WRITE) : NONE;
  if (failed(mode)) return -1;
  if (mode == SHORT) {
    if (length < 2) { errno = ENOSPC; return -1; }
    return real(fd, bytes, length / 2, at);
  }
  ssize_t result = real(fd, bytes, length, at);
  after(mode);
  return result;
}

static int sync_file(const char *name, int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  uint32_t mode = watched(fd) ? meet(OP_SYNC) : NONE;
  if (mode == SHORT) { errno = EIO; return -1; }
  if (failed(mode)) return -1;
  int result = real(fd);
  after(mode);
  return result;
}
int fsync(int fd) { return sync_file("fsync", fd); }
int fdatasync(int fd) { return sync_file("fdatasync", fd); }

static int truncate_file(int fd, off64_t length) {
  int (*real)(int, off64_t) = (int (*)(int, off64_t))dlsym(RTLD_NEXT, "ftruncate64");
  uint32_t mode = watched(fd) ? meet(OP_TRUNCATE) : NONE;
  if (mode == SHORT) { errno = EIO; return -1; }
  if (failed(mode)) return -1;
  int result = real(fd, length);
  after(mode);
  return result;
}
int ftruncate64(int fd, off64_t length) { return truncate_file(fd, length); }
int ftruncate(int fd, off_t length) { return truncate_file(fd, length); }

static uint32_t meet_name(const char *path, int changes) {
  if (!changes || control == NULL || atomic_load(&control[1]) == NONE || !below(path)) return NONE;
  uint32_t mode = meet(OP_NAME);
  return mode == SHORT ? FAIL_ENOSPC : mode;
}

static int open_file(const char *name, const char *path, int flags, mode_t permissions) {
  int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name);
  uint32_t mode = meet_name(path, (flags & (O_CREAT | O_WRONLY | O_RDWR)) != 0);
  if (failed(mode)) return -1;
  int fd = real(path, flags, permissions);
  after(mode);
  return fd;
}
int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t permissions = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open_file("open", path, flags, permissions);
}
int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t permissions = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open_file("open64", path, flags, permissions);
}
int unlink(const char *path) {
  int (*real)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");
  uint32_t mode = meet_name(path, 1);
  if (failed(mode)) return -1;
  int result = real(path);
  after(mode);
  return result;
}
