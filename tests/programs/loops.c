// SPDX-License-Identifier: Apache-2.0
/*
 * A server whose handlers may go round for ever. Prints its port. loops MODE: epoll (one thread), threads (one for each
 * connection).
 *   p    answers "ok"                                      lN  loops for ever: 0 in the handler, 1 in a function it calls,
 *   wN   works for N tenths of a second, answers "ok"          2 calling a function, 3 calling one through a pointer
 *   f    faults
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef int handler(int argument);

static volatile long counter;

__attribute__((noinline)) static int step(int by) {
  for (int round = 0; round < 1000; round += 1) counter += by;
  return 1;
}
static handler *volatile steps[1] = {step};

__attribute__((noinline)) static int inner(int by) {
  while (counter != -1) counter += by & 1;
  return 1;
}

__attribute__((noinline)) static int loop(int kind) {
  counter = 0;
  if (kind == 0)
    while (counter != -1) counter += 2;
  if (kind == 1) return inner(2) + 1;
  if (kind == 2)
    while (step(1)) counter += 1;
  if (kind == 3)
    while (steps[0](1)) counter += 1;
  return 0;
}

__attribute__((noinline)) static int work(int tenths) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  int64_t end = now.tv_sec * 10 + now.tv_nsec / 100000000 + tenths;
  do {
    step(1);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  } while (now.tv_sec * 10 + now.tv_nsec / 100000000 < end);
  return 0;
}

__attribute__((noinline)) static int fault(int unused) {
  *(volatile int *)(uintptr_t)8 = unused;
  return 0;
}

static int nothing(int unused) { return unused & 0; }

static handler *volatile handlers[256];

__attribute__((noinline)) static int serve(int connection) {
  char order[2] = {0};
  if (read(connection, order, 2) <= 0) return -1;
  handler *chosen = handlers[(unsigned char)order[0]];
  int failed = chosen == NULL ? 1 : chosen(order[1] - '0');
  return write(connection, failed ? "no\n" : "ok\n", 3) == 3 ? 0 : -1;
}

static void *serve_one(void *argument) {
  int connection = (int)(intptr_t)argument;
  while (serve(connection) == 0) counter += 1;
  close(connection);
  return NULL;
}

static void accept_threads(int listener) {
  for (;;) {
    pthread_t thread;
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) return;
    pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)connection);
    pthread_detach(thread);
  }
}

static void serve_all(int listener) {
  int poller = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    if (epoll_wait(poller, &event, 1, -1) != 1) continue;
    if (event.data.fd == listener) {
      int connection = accept(listener, NULL, NULL);
      struct epoll_event added = {.events = EPOLLIN, .data.fd = connection};
      epoll_ctl(poller, EPOLL_CTL_ADD, connection, &added);
    } else if (serve(event.data.fd) != 0) {
      close(event.data.fd);
    }
  }
}

int main(int argc, char **argv) {
  handlers['p'] = nothing;
  handlers['l'] = loop;
  handlers['w'] = work;
  handlers['f'] = fault;
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof place;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&place, size) != 0 || listen(listener, 64) != 0) return 1;
  getsockname(listener, (struct sockaddr *)&place, &size);
  fprintf(stderr, "port %d\n", ntohs(place.sin_port));
  if (argc > 1 && strcmp(argv[1], "threads") == 0) accept_threads(listener);
  serve_all(listener);
}
