// SPDX-License-Identifier: Apache-2.0
/*
 * What a tracer may slow down without any fault: threads, forks and signals, timed by the program's own clock.
 *
 * events ORDERS BOARD: the main thread waits in read() on the FIFO ORDERS; each byte runs one batch: t creates and joins
 * threads, f forks children that end at once and waits for them (with a handler for SIGCHLD), u sends itself SIGUSR1, a gets
 * SIGALRM of a timer of its own. BOARD is mapped: uint64 batches done, then for each uint64 kind, uint64 ns an event.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCHES 8192
#define EVENTS 64

struct board {
  volatile uint64_t done;
  struct {
    volatile uint64_t kind;
    volatile uint64_t ns;
  } batches[BATCHES];
};

static volatile sig_atomic_t got;
static void count(int signal) { got += signal != 0; }
static void *nothing(void *argument) { return argument; }

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int one(char kind) {
  pthread_t thread;
  pid_t child;
  int before = got;
  struct itimerval soon = {{0, 0}, {0, 1}};
  switch (kind) {
  case 't':
    return pthread_create(&thread, 0, nothing, 0) != 0 || pthread_join(thread, 0) != 0;
  case 'f':
    child = fork();
    if (child == 0) _exit(0);
    while (waitpid(child, 0, 0) < 0) continue;
    return child < 0;
  case 'u':
    return kill(getpid(), SIGUSR1) != 0 || got == before;
  case 'a':
    setitimer(ITIMER_REAL, &soon, 0);
    while (got == before) continue;
    return 0;
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  int in = open(argv[1], O_RDWR | O_CLOEXEC);
  int file = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (in < 0 || file < 0 || ftruncate(file, sizeof(struct board)) != 0) return 2;
  struct board *board = mmap(0, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (board == MAP_FAILED) return 2;
  struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
  int handled[] = {SIGUSR1, SIGALRM, SIGCHLD};
  for (int index = 0; index < 3; index += 1) sigaction(handled[index], &action, 0);
  char kind;
  while (read(in, &kind, 1) == 1 && board->done < BATCHES) {
    uint64_t start = now();
    for (int event = 0; event < EVENTS; event += 1)
      if (one(kind) != 0) return 3;
    board->batches[board->done].ns = (now() - start) / EVENTS;
    board->batches[board->done].kind = (uint64_t)kind;
    board->done += 1;
  }
  return 0;
}
