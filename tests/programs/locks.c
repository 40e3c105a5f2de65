// SPDX-License-Identifier: Apache-2.0
/*
 * A server with a thread for each connection and one lock of each kind. Prints its port.
 *   lK  takes lock K, releases it, answers "ok"      xK  takes lock K and faults      p  answers "ok"
 * Kinds: 0 normal mutex, 1 recursive (taken twice), 2 error-checking, 3 adaptive, 4 robust, 5 priority-inheriting,
 *   6 read-write lock for writing, 7 the same lock, read by l and written by x, 8 a stream, 9 a spin lock of its own,
 *   ; a read-write lock in an object, written by l and read by x,
 *   : a lock of its own that says who holds it, as glibc's do, but is of a kind that glibc does not have.
 * The robust mutex is made consistent by whoever is told that its holder has died.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { KINDS = 6, FOREIGN = ':' - '0', SHELF = ';' - '0' };
static pthread_mutex_t mutexes[KINDS];
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static struct {
  volatile int lock, count, owner, users, kind;
  char rest[20];
} foreign = {.kind = 77};
static volatile int spin;

static void make_mutexes(void) {
  static const int types[KINDS] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                                   PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_NORMAL};
  for (int kind = 0; kind < KINDS; kind += 1) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, types[kind]);
    if (kind == 4) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (kind == 5) pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&mutexes[kind], &attributes);
  }
}

static void take(int kind, int write) {
  if (kind < KINDS) {
    if (pthread_mutex_lock(&mutexes[kind]) == EOWNERDEAD) pthread_mutex_consistent(&mutexes[kind]);
  } else if (kind == 6 || (kind == 7 && write)) {
    pthread_rwlock_wrlock(&rwlock);
  } else if (kind == 7) {
    pthread_rwlock_rdlock(&rwlock);
  } else if (kind == 8) {
    flockfile(stdout);
  } else if (kind == FOREIGN) {
    while (__atomic_exchange_n(&foreign.lock, 2, __ATOMIC_ACQUIRE) != 0)
      syscall(SYS_futex, &foreign.lock, FUTEX_WAIT_PRIVATE, 2, NULL);
    foreign.owner = (int)syscall(SYS_gettid);
    foreign.users = 1;
  } else {
    while (__atomic_exchange_n(&spin, 2, __ATOMIC_ACQUIRE) != 0) syscall(SYS_futex, &spin, FUTEX_WAIT_PRIVATE, 2, NULL);
  }
}

static void release(int kind) {
  if (kind < KINDS) {
    pthread_mutex_unlock(&mutexes[kind]);
  } else if (kind < 8) {
    pthread_rwlock_unlock(&rwlock);
  } else if (kind == 8) {
    funlockfile(stdout);
  } else if (kind == FOREIGN) {
    foreign.owner = foreign.users = 0;
    __atomic_store_n(&foreign.lock, 0, __ATOMIC_RELEASE);
    syscall(SYS_futex, &foreign.lock, FUTEX_WAKE_PRIVATE, 1);
  } else {
    __atomic_store_n(&spin, 0, __ATOMIC_RELEASE);
    syscall(SYS_futex, &spin, FUTEX_WAKE_PRIVATE, 1);
  }
}

struct shelf {
  long values[8];
  pthread_rwlock_t lock;
};
static struct shelf *shelf;

__attribute__((noinline)) static int look_up(struct shelf *in, int fault) {
  if (fault) pthread_rwlock_rdlock(&in->lock);
  else pthread_rwlock_wrlock(&in->lock);
  if (fault) *(volatile int *)(uintptr_t)8 = 1;
  in->values[0] += 1;
  pthread_rwlock_unlock(&in->lock);
  return 0;
}

typedef int handler(int kind, int fault);

__attribute__((noinline)) static int work(int kind, int fault) {
  if (kind == SHELF) return look_up(shelf, fault);
  take(kind, fault);
  if (kind == 1) take(kind, fault);
  if (fault) *(volatile int *)(uintptr_t)8 = 1;
  if (kind == 1) release(kind);
  release(kind);
  return 0;
}

static handler *volatile handlers[1] = {work};

static void *serve(void *argument) {
  int connection = (int)(intptr_t)argument;
  char order[2];
  while (read(connection, order, 2) == 2) {
    int kind = order[1] - '0';
    int failed = order[0] == 'p' ? 0 : handlers[0](kind >= 0 && kind <= SHELF ? kind : 0, order[0] == 'x');
    if (write(connection, failed ? "no\n" : "ok\n", 3) != 3) break;
  }
  close(connection);
  return NULL;
}

int main(void) {
  make_mutexes();
  shelf = calloc(1, sizeof *shelf);
  pthread_rwlock_init(&shelf->lock, NULL);
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof place;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&place, size) != 0 || listen(listener, 64) != 0) return 1;
  getsockname(listener, (struct sockaddr *)&place, &size);
  fprintf(stderr, "port %d\n", ntohs(place.sin_port));
  for (;;) {
    pthread_t thread;
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) return 1;
    pthread_create(&thread, NULL, serve, (void *)(intptr_t)connection);
    pthread_detach(thread);
  }
}
