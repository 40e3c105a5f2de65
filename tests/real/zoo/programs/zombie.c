// SPDX-License-Identifier: Apache-2.0
// What is left after the fault is alive and of no use: die lock (a mutex stays locked that every request takes) | sleep
// (the main loop sleeps from then on) | mute (it waits for events and does nothing about them) | read (it reads and answers
// nobody) | exit (it ends by itself a moment later) | busy (it computes for ever).
#include "server.h"
#include <sys/time.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile long sink;
static volatile char fate;

static APART int stumble(void) {
  sink = *(volatile long *)8;
  return 0;
}

/* Takes the place of each session's callback. */
static int guarded(struct session *session) {
  while (fate == 's') usleep(1000);
  while (fate == 'b') sink++;
  if (fate == 'm') return usleep(1000);
  if (fate == 'r') return recv(session->fd, session->held, sizeof session->held, 0) < 0 && errno != EAGAIN ? -1 : 0;
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  return converse(session);
}

static int die(struct session *session, char *word) {
  struct itimerval soon = {{0, 0}, {0, 20000}};
  fate = word[0];
  if (fate == 'e') setitimer(ITIMER_REAL, &soon, NULL);
  if (fate == 'l') pthread_mutex_lock(&mutex);
  return stumble();
}

const struct command commands[] = {{NULL, NULL}};
static void leave(int number) { _exit(3); }

static void prepare(void) {
  onReadableFirst = guarded;
  signal(SIGALRM, leave);
}
