// SPDX-License-Identifier: Apache-2.0
// Signals of two timers that come while the thread stands in its fatal stop: die N sets both to N microseconds and faults,
// `rung` says how often either has come.
#include "server.h"
#include <sys/time.h>
#include <time.h>

static volatile long count;
static volatile long sink;

static void ring(int number) {
  (void)number;
  count++;
}

static APART int stumble(void) {
  sink = *(volatile long *)8;
  return 0;
}

static int die(struct session *session, char *word) {
  struct itimerval soon = {{0, 0}, {0, atoi(word)}};
  struct itimerspec too = {{0, 0}, {0, atoi(word) * 1000L}};
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  timer_t timer;
  timer_create(CLOCK_MONOTONIC, &event, &timer);
  timer_settime(timer, 0, &too, NULL);
  setitimer(ITIMER_REAL, &soon, NULL);
  answer(session, "alive %d\n", stumble());
  return 0;
}

static int tell(struct session *session, char *word) {
  (void)word;
  answer(session, "rung %ld\n", count);
  return 0;
}

const struct command commands[] = {{"rung", tell}, {NULL, NULL}};
static void prepare(void) {
  signal(SIGALRM, ring);
  signal(SIGUSR1, ring);
}
