// SPDX-License-Identifier: Apache-2.0
/*
 * A server with a thread for each connection and one mutex of each kind. Prints its port.
 *   lK  takes mutex K, releases it, answers "ok"      xK  takes mutex K and faults      p  answers "ok"
 * Kinds: 0 normal, 1 recursive (taken twice), 2 error-checking, 3 adaptive, 4 robust, 5 priority-inheriting.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KINDS = 6 };
static pthread_mutex_t mutexes[KINDS];

static void make_mutexes(void) {
  static const int types[KINDS] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                                   PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_NORMAL};
  for (int kind = 0; kind < KINDS; kind += 1) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, types[kind]);
    if (kind == 4) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (kind == 5) pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&mutexes[kind], &attributes);
  }
}

typedef int handler(int kind, int fault);

__attribute__((noinline)) static int work(int kind, int fault) {
  pthread_mutex_lock(&mutexes[kind]);
  if (kind == 1) pthread_mutex_lock(&mutexes[kind]);
  if (fault) *(volatile int *)(uintptr_t)8 = 1;
  if (kind == 1) pthread_mutex_unlock(&mutexes[kind]);
  pthread_mutex_unlock(&mutexes[kind]);
  return 0;
}

static handler *volatile handlers[1] = {work};

static void *serve(void *argument) {
  int connection = (int)(intptr_t)argument;
  char order[2];
  while (read(connection, order, 2) == 2) {
    int kind = order[1] - '0';
    int failed = order[0] == 'p' ? 0 : handlers[0](kind >= 0 && kind < KINDS ? kind : 0, order[0] == 'x');
    if (write(connection, failed ? "no\n" : "ok\n", 3) != 3) break;
  }
  close(connection);
  return NULL;
}

int main(void) {
  make_mutexes();
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof place;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&place, size) != 0 || listen(listener, 64) != 0) return 1;
  getsockname(listener, (struct sockaddr *)&place, &size);
  fprintf(stderr, "port %d\n", ntohs(place.sin_port));
  for (;;) {
    pthread_t thread;
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) return 1;
    pthread_create(&thread, NULL, serve, (void *)(intptr_t)connection);
    pthread_detach(thread);
  }
}
