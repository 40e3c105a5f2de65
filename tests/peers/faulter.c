// SPDX-License-Identifier: Apache-2.0
// A multi-threaded program that faults on request. Commands on standard input, answers on standard output, a line each:
//   segv N | fpe N | trap N | abort N   victim thread N (0 or 1) takes the signal; "survived N" once it goes on
//   wide N                              as segv, with all 32 bytes of a vector register in use; prints "wide kept" or "wide lost"
//   count                               prints the sum of what the other threads have counted
//   usr1                                raises SIGUSR1, which is caught; prints how often it was
//   churn N                             makes and joins N threads; prints "churned"
//   exec PATH                           replaces the program
//   exit N                              ends it
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { counters = 16, victims = 2 };
static volatile unsigned long counts[counters];
static sem_t wake[victims];
static char order[victims];
static volatile sig_atomic_t caught;

static void *count(void *argument) {
  for (long index = (long)argument;; usleep(1000)) counts[index]++;
  return NULL;
}

__attribute__((noinline)) static void fault(char kind) {
#if defined(__x86_64__)
  if (kind == 's') __asm__ volatile("mov (%0), %%rax" : : "r"(16L) : "rax", "memory");
  if (kind == 'f') __asm__ volatile("xor %%edx, %%edx; xor %%ecx, %%ecx; idiv %%ecx" : : "a"(1) : "rcx", "rdx");
  if (kind == 't') __asm__ volatile("int3");
#elif defined(__aarch64__)
  if (kind == 's') __asm__ volatile("ldr x0, [%0]" : : "r"(16L) : "x0", "memory");
  if (kind == 't') __asm__ volatile("brk #0");
#endif
  if (kind == 'a') raise(SIGABRT);
}

// What lies beyond SSE is not in gdbserver's `g` and `G`, and must come through them unharmed.
#if defined(__x86_64__)
__attribute__((noinline, target("avx"))) static void fault_wide(void) {
  unsigned char before[32], after[32] = {0};
  for (int index = 0; index < 32; index++) before[index] = (unsigned char)(index * 7 + 1);
  __asm__ volatile("vmovdqu (%1), %%ymm15; mov (%0), %%rax; vmovdqu %%ymm15, (%2)"
                   : : "r"(16L), "r"(before), "r"(after) : "rax", "xmm15", "memory");
  puts(memcmp(before, after, sizeof after) == 0 ? "wide kept" : "wide lost");
}
#endif

static void *suffer(void *argument) {
  long index = (long)argument;
  for (;;) {
    sem_wait(&wake[index]);
#if defined(__x86_64__)
    if (order[index] == 'w') fault_wide();
#endif
    fault(order[index]);
    printf("survived %ld\n", index);
  }
  return NULL;
}

static void *pass(void *argument) { return argument; }

static void churn(int rounds) {
  while (rounds-- > 0) {
    pthread_t thread;
    pthread_create(&thread, NULL, pass, NULL);
    pthread_join(thread, NULL);
  }
}

static void catch_signal(int number) { caught += number == SIGUSR1; }

int main(void) {
  // Lets a stub trace it that is no ancestor, where Yama would forbid that.
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGUSR1, catch_signal);
  pthread_t thread;
  for (long index = 0; index < victims; index++) {
    sem_init(&wake[index], 0, 0);
    pthread_create(&thread, NULL, suffer, (void *)index);
  }
  for (long index = 0; index < counters; index++) pthread_create(&thread, NULL, count, (void *)index);
  puts("ready");
  char line[256], word[16], rest[200];
  while (fgets(line, sizeof line, stdin)) {
    rest[0] = '\0';
    if (sscanf(line, "%15s %199s", word, rest) < 1) continue;
    int number = atoi(rest);
    if (!strcmp(word, "count")) {
      unsigned long sum = 0;
      for (int index = 0; index < counters; index++) sum += counts[index];
      printf("count %lu\n", sum);
    } else if (!strcmp(word, "usr1")) {
      raise(SIGUSR1);
      printf("caught %d\n", (int)caught);
    } else if (!strcmp(word, "churn")) {
      churn(number);
      puts("churned");
    } else if (!strcmp(word, "exec")) {
      execl(rest, rest, "600", (char *)NULL);
    } else if (!strcmp(word, "exit")) {
      exit(number);
    } else if (number >= 0 && number < victims) {
      order[number] = word[0];
      sem_post(&wake[number]);
    }
  }
  return 0;
}
