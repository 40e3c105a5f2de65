// SPDX-License-Identifier: Apache-2.0
/*
 * A program with an event loop that faults on order and times each fault by its own clock.
 *
 * stop ORDERS RECORD [THREADS]: has THREADS threads, all but the first asleep for ever. Waits in read() on the FIFO ORDERS; each byte is an order (l load of null, s store to a wild address,
 * c call of null, d division by zero, a abort, w a fixed piece of work and no fault). The order is carried out by a function called through a pointer, a few
 * calls deep. The time from just before that call to just after it returned is written to RECORD, which is mapped: a
 * uint64 count, then count times { uint64 order, int64 value, uint64 startNs, uint64 endNs }. CLOCK_MONOTONIC.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RECORDS_MAX 65535

struct record {
  uint64_t order;
  int64_t value;
  uint64_t start_ns;
  uint64_t end_ns;
};

struct book {
  volatile uint64_t count;
  uint64_t unused[3];
  struct record records[RECORDS_MAX];
};

typedef long (*order_function)(long);

static volatile long zero = 0;
static int *volatile nowhere = 0;
static int *volatile wild = (int *)0x5a5a5a5a0000;
static order_function volatile no_function = 0;

static uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Each leaf uses its result after the fault, so that no call here is a jump and every frame is really there. */
__attribute__((noinline)) static long load_null(long step) { return *nowhere + step; }
__attribute__((noinline)) static long store_wild(long step) {
  *wild = (int)step;
  return step + 1;
}
__attribute__((noinline)) static long call_null(long step) { return no_function(step) + step; }
__attribute__((noinline)) static long divide(long step) { return (step + 1) / zero + step; }
__attribute__((noinline)) static long give_up(long step) {
  if (zero == 0) abort();
  return step;
}

__attribute__((noinline)) static long work(long step) {
  volatile long sum = step;
  for (long round = 0; round < 10000000; round += 1) sum += round;
  return sum;
}

__attribute__((noinline)) static long inner(order_function leaf, long step) { return leaf(step) * 3 + step; }

#define ORDER(name, leaf)                                                      \
  __attribute__((noinline)) static long name(long step) {                      \
    long value = inner(leaf, step + 1);                                        \
    return value < 0 ? -2 : value;                                             \
  }
ORDER(order_load, load_null)
ORDER(order_store, store_wild)
ORDER(order_call, call_null)
ORDER(order_divide, divide)
ORDER(order_abort, give_up)
ORDER(order_work, work)

static order_function volatile orders[256];

static void *sleep_for_ever(void *unused) {
  for (;;) pause();
  return unused;
}

static int make_threads(long count) {
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 65536);
  for (long made = 1; made < count; made += 1) {
    pthread_t thread;
    if (pthread_create(&thread, &small, sleep_for_ever, 0) != 0) return 0;
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 3 && argc != 4) return 2;
  if (argc == 4 && !make_threads(atol(argv[3]))) return 2;
  int in = open(argv[1], O_RDWR | O_CLOEXEC);
  int file = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (in < 0 || file < 0 || ftruncate(file, sizeof(struct book)) != 0) return 2;
  struct book *book = mmap(0, sizeof(struct book), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (book == MAP_FAILED) return 2;
  orders['l'] = order_load;
  orders['s'] = order_store;
  orders['c'] = order_call;
  orders['d'] = order_divide;
  orders['a'] = order_abort;
  orders['w'] = order_work;
  unsigned char order;
  while (read(in, &order, 1) == 1 && book->count < RECORDS_MAX) {
    order_function function = orders[order];
    if (function == 0) break;
    uint64_t start_ns = now_ns();
    long value = function(1);
    uint64_t end_ns = now_ns();
    book->records[book->count] = (struct record){order, value, start_ns, end_ns};
    book->count += 1;
  }
  return 0;
}
