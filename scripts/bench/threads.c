// SPDX-License-Identifier: Apache-2.0
/*
 * One thread that faults on order beside 16 that keep counting.
 *
 * threads ORDERS BOARD: the main thread waits in read() on the FIFO ORDERS; each byte makes a function called through a
 * pointer load from null. BOARD is mapped: uint64 ready, uint64 main's thread id, uint64 faults returned from, then for
 * each counting thread its thread id and its counter.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS 16

struct board {
  volatile uint64_t ready;
  volatile uint64_t main_tid;
  volatile uint64_t returned;
  struct {
    volatile uint64_t tid;
    volatile uint64_t count;
  } threads[THREADS];
};

static struct board *board;
static int *volatile nowhere = 0;

__attribute__((noinline)) static long load_null(long step) { return *nowhere + step; }
__attribute__((noinline)) static long handler(long step) { return load_null(step) * 3 + step; }
static long (*volatile order)(long) = handler;

static void *keep_counting(void *index) {
  uint64_t own = (uint64_t)index;
  board->threads[own].tid = (uint64_t)syscall(SYS_gettid);
  __atomic_add_fetch(&board->ready, 1, __ATOMIC_SEQ_CST);
  for (;;) {
    board->threads[own].count += 1;
    /* Gives way, so that 16 threads all move on within a few ms on few processors. */
    sched_yield();
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  int in = open(argv[1], O_RDWR | O_CLOEXEC);
  int file = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (in < 0 || file < 0 || ftruncate(file, sizeof(struct board)) != 0) return 2;
  board = mmap(0, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (board == MAP_FAILED) return 2;
  board->main_tid = (uint64_t)syscall(SYS_gettid);
  for (uint64_t index = 0; index < THREADS; index += 1) {
    pthread_t thread;
    if (pthread_create(&thread, 0, keep_counting, (void *)index) != 0) return 2;
  }
  char byte;
  while (read(in, &byte, 1) == 1) {
    order(1);
    board->returned += 1;
  }
  return 0;
}
