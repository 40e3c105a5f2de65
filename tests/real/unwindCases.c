// SPDX-License-Identifier: Apache-2.0
// Ends in a fault at the bottom of a stack of known shape. The first argument chooses the shape; `walk` faults at the end
// of a run that goes through linkage stubs, sorting callbacks and a handler, for stepping.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APART __attribute__((noinline, noclone))

static volatile int sink;
static volatile int *volatile nowhere;
static void (*volatile through)(void);
static char alternate[65536];

APART static void fault(void) {
  sink += *nowhere;
}

APART static void middle(int depth, char *buffer) {
  char local[200];
  memset(local, depth, sizeof local);
  if (depth == 0)
    fault();
  else
    middle(depth - 1, local);
  sink += local[depth] + buffer[0];
}

APART static void sized(size_t length) {
  char *variable = __builtin_alloca(length);
  memset(variable, 1, length);
  middle(3, variable);
  sink += variable[length / 2];
}

static void onSignal(int number) {
  sink += number;
  if (number == SIGUSR1)
    sized(100);
}

static void handler(int number, int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = onSignal;
  action.sa_flags = flags;
  sigaction(number, &action, NULL);
}

static void useAlternateStack(void) {
  stack_t stack;
  memset(&stack, 0, sizeof stack);
  stack.ss_sp = alternate;
  stack.ss_size = sizeof alternate;
  sigaltstack(&stack, NULL);
}

APART static int recurse(int depth, volatile char *outer) {
  volatile char local[96];
  local[0] = outer[0];
  return recurse(depth + 1, local) + local[0];
}

APART static int callThrough(int number) {
  char local[64];
  memset(local, number, sizeof local);
  through();
  return local[number & 63];
}

static int compareInts(const void *a, const void *b) {
  return *(const int *)a - *(const int *)b;
}

static int faultingCompare(const void *a, const void *b) {
  fault();
  return compareInts(a, b);
}

APART static void sort(int (*compare)(const void *, const void *)) {
  int numbers[] = {5, 3, 9, 1, 7, 2, 8};
  qsort(numbers, 7, sizeof numbers[0], compare);
  sink += numbers[3];
}

APART static void walk(void) {
  jmp_buf place;
  sort(compareInts);
  sink += (int)strlen(getenv("PATH") ? getenv("PATH") : "");
  raise(SIGUSR2);
  if (setjmp(place) == 0)
    longjmp(place, 1);
  sized(50);
}

int main(int count, char **arguments) {
  const char *shape = count > 1 ? arguments[1] : "plain";
  char zero = 0;
  handler(SIGUSR1, 0);
  handler(SIGUSR2, 0);
  if (strcmp(shape, "plain") == 0)
    middle(5, &zero);
  else if (strcmp(shape, "variable") == 0)
    sized((size_t)count * 1000);
  else if (strcmp(shape, "signal") == 0)
    raise(SIGUSR1);
  else if (strcmp(shape, "alternate") == 0) {
    useAlternateStack();
    handler(SIGUSR1, SA_ONSTACK);
    raise(SIGUSR1);
  } else if (strcmp(shape, "overflow") == 0)
    sink += recurse(0, &zero);
  else if (strcmp(shape, "null") == 0)
    sink += callThrough(count);
  else if (strcmp(shape, "wild") == 0) {
    through = (void (*)(void))(uintptr_t)alternate;
    sink += callThrough(count);
  } else if (strcmp(shape, "callback") == 0)
    sort(faultingCompare);
  else if (strcmp(shape, "abort") == 0)
    abort();
  else if (strcmp(shape, "walk") == 0)
    walk();
  return sink;
}
