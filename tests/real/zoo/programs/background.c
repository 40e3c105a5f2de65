// SPDX-License-Identifier: Apache-2.0
// A thread that serves nobody faults, when a client makes it: die task (in a function that it calls) | loop (in its own
// loop, a load) | abort (in its own loop) | spin (it ends in an endless loop). `ticks` answers how often it went round.
#include "server.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wanted = PTHREAD_COND_INITIALIZER;
static char order;
static volatile long sink, ticks;

static APART int task(void) {
  sink = *(volatile long *)8;
  return 0;
}

static void *run(void *unused) {
  for (;;) {
    pthread_mutex_lock(&mutex);
    while (order == 0) pthread_cond_wait(&wanted, &mutex);
    char now = order;
    order = 0;
    pthread_mutex_unlock(&mutex);
    if (now == 't') task();
    if (now == 'l') sink = *(volatile long *)8;
    if (now == 'a') abort();
    while (now == 's') continue;
    ticks++;
  }
  return NULL;
}

static int die(struct session *session, char *word) {
  pthread_mutex_lock(&mutex);
  order = word[0];
  pthread_cond_signal(&wanted);
  pthread_mutex_unlock(&mutex);
  answer(session, "told\n");
  return 0;
}

static int count(struct session *session, char *word) {
  answer(session, "%ld\n", ticks);
  return 0;
}

const struct command commands[] = {{"ticks", count}, {NULL, NULL}};

static void prepare(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, NULL) != 0) abort();
}
