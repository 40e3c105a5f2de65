// SPDX-License-Identifier: Apache-2.0
// Faults inside a signal handler of the program: die raise (the request raises the signal) | stack (its handler runs on an
// alternate stack) | timer (it comes from outside, at some point of the main loop) | nested (two handlers deep) | again
// (the request raises the signal until a handler has come to its end, which none does).
// `mask` answers which signals the thread blocks; `count` raises harmless signals and answers how many handlers ran.
#include "server.h"
#include <sys/time.h>

static volatile int armed, handled;
static volatile long sink;

static APART void stumble(void) { sink = *(volatile long *)8; }

static void onPlain(int number) {
  handled++;
  if (armed) {
    armed--;
    stumble();
    armed = 0;
  }
}

static void onNested(int number) {
  handled++;
  if (armed) raise(SIGUSR2);
}

static int die(struct session *session, char *word) {
  armed = strcmp(word, "again") == 0 ? 1000000 : 1;
  while (armed > 1) raise(SIGUSR2);
  if (strcmp(word, "raise") == 0) raise(SIGUSR2);
  if (strcmp(word, "stack") == 0) raise(SIGURG);
  if (strcmp(word, "nested") == 0) raise(SIGUSR1);
  if (strcmp(word, "timer") == 0) {
    struct itimerval soon = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &soon, NULL);
  }
  answer(session, "alive\n");
  return 0;
}

static int mask(struct session *session, char *word) {
  sigset_t blocked;
  unsigned long bits = 0;
  pthread_sigmask(SIG_BLOCK, NULL, &blocked);
  for (int number = 1; number < 32; number++) bits |= (unsigned long)sigismember(&blocked, number) << number;
  stack_t stack;
  sigaltstack(NULL, &stack);
  answer(session, "%lx%s\n", bits, stack.ss_flags & SS_ONSTACK ? " on stack" : "");
  return 0;
}

static int tally(struct session *session, char *word) {
  int before = handled;
  armed = 0;
  raise(SIGUSR1);
  raise(SIGUSR2);
  raise(SIGURG);
  raise(SIGALRM);
  answer(session, "%d\n", handled - before);
  return 0;
}

const struct command commands[] = {{"mask", mask}, {"count", tally}, {NULL, NULL}};

static void handle(int number, void (*handler)(int), int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaddset(&action.sa_mask, SIGHUP);
  sigaction(number, &action, NULL);
}

static void prepare(void) {
  stack_t stack;
  memset(&stack, 0, sizeof stack);
  stack.ss_size = 65536;
  stack.ss_sp = malloc(stack.ss_size);
  sigaltstack(&stack, NULL);
  handle(SIGUSR1, onNested, 0);
  handle(SIGUSR2, onPlain, 0);
  handle(SIGALRM, onPlain, SA_RESTART);
  handle(SIGURG, onPlain, SA_ONSTACK);
}
