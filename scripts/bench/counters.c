// SPDX-License-Identifier: Apache-2.0
/*
 * The two programs beside which the sampler is measured.
 *
 *   counters read RATE SECONDS TID...   reads the same groups of events as the sampler, as often, in a plain loop; prints
 *                                       the processor time it took, ns
 *   counters work THREADS               THREADS threads that compute for about 0.2 ms and sleep for 0.8 ms; prints "ready",
 *                                       then for each line on its input the processor time and the pieces of work since the last one
 */
#define _GNU_SOURCE
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define RING_ROWS 1024
#define ROW_WORDS 32

static int64_t now_ns(clockid_t clock) {
  struct timespec at;
  clock_gettime(clock, &at);
  return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int open_event(uint32_t type, uint64_t config, int tid, int leader) {
  struct perf_event_attr attribute;
  memset(&attribute, 0, sizeof attribute);
  attribute.type = type;
  attribute.size = sizeof attribute;
  attribute.config = config;
  attribute.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING | PERF_FORMAT_GROUP;
  return (int)syscall(SYS_perf_event_open, &attribute, tid, -1, leader, PERF_FLAG_FD_CLOEXEC);
}

static int open_group(int tid, const uint32_t *types, const uint64_t *configs, int count) {
  int leader = -1;
  for (int index = 0; index < count; index += 1) {
    int file = open_event(types[index], configs[index], tid, leader);
    if (leader < 0) leader = file;
  }
  return leader;
}

static double ring[THREADS_MAX][RING_ROWS][ROW_WORDS];

static int read_loop(int rate, int seconds, int count, char **tids) {
  static const uint32_t software[] = {1, 1, 1, 1, 1}, hardware[] = {0, 0, 0, 0}, stalls[] = {0, 0};
  static const uint64_t soft[] = {1, 2, 6, 3, 4}, hard[] = {0, 1, 3, 5}, stall[] = {7, 8};
  int files[THREADS_MAX][3];
  for (int index = 0; index < count && index < THREADS_MAX; index += 1) {
    int tid = atoi(tids[index]);
    files[index][0] = open_group(tid, software, soft, 5);
    files[index][1] = open_group(tid, hardware, hard, 4);
    files[index][2] = open_group(tid, stalls, stall, 2);
  }
  int64_t period = 1000000000LL / rate, begin = now_ns(CLOCK_MONOTONIC), due = begin, end = begin + seconds * 1000000000LL;
  int64_t used = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  uint64_t words[16];
  for (long row = 0; now_ns(CLOCK_MONOTONIC) < end; row += 1) {
    int64_t wait = due - now_ns(CLOCK_MONOTONIC);
    if (wait > 0) usleep((useconds_t)(wait / 1000));
    for (int index = 0; index < count; index += 1) {
      double *out = ring[index][row % RING_ROWS];
      *out++ = (double)now_ns(CLOCK_MONOTONIC);
      for (int group = 0; group < 3; group += 1) {
        if (files[index][group] < 0) continue;
        long bytes = read(files[index][group], words, sizeof words);
        for (long word = 1; word < bytes / 8; word += 1) *out++ = (double)words[word];
      }
    }
    due += period;
  }
  printf("%lld\n", (long long)(now_ns(CLOCK_PROCESS_CPUTIME_ID) - used));
  return 0;
}

static atomic_long pieces;

static void *worker(void *unused) {
  (void)unused;
  volatile uint64_t value = 1;
  for (;;) {
    for (int turn = 0; turn < 100000; turn += 1) value = value * 6364136223846793005ULL + 1442695040888963407ULL;
    atomic_fetch_add(&pieces, 1);
    usleep(800);
  }
  return NULL;
}

static int work(int threads) {
  pthread_t thread;
  for (int index = 0; index < threads; index += 1) pthread_create(&thread, NULL, worker, NULL);
  printf("ready\n");
  fflush(stdout);
  char line[64];
  int64_t used = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  long done = atomic_load(&pieces);
  while (fgets(line, sizeof line, stdin) != NULL) {
    int64_t used_now = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    long done_now = atomic_load(&pieces);
    printf("%lld %ld\n", (long long)(used_now - used), done_now - done);
    fflush(stdout);
    used = used_now;
    done = done_now;
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc >= 5 && strcmp(argv[1], "read") == 0) return read_loop(atoi(argv[2]), atoi(argv[3]), argc - 4, argv + 4);
  if (argc == 3 && strcmp(argv[1], "work") == 0) return work(atoi(argv[2]));
  fprintf(stderr, "usage: counters read RATE SECONDS TID... | counters work THREADS\n");
  return 2;
}
