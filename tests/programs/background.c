// SPDX-License-Identifier: Apache-2.0
/*
 * A server whose first thread answers every connection's bytes and whose background thread faults in its own main loop
 * once the byte 'x' was seen, or, after 'l', in a piece of its work under a lock. Prints its port.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static int orders[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void (*volatile piece)(char);

__attribute__((noinline)) static void *background(void *unused) {
  char order;
  (void)unused;
  while (read(orders[0], &order, 1) == 1) {
    int *volatile place = (int *)(uintptr_t)(order == 'x' ? 16 : 0);
    if (order == 'x') *place = 1;
    if (order != 'l') continue;
    pthread_mutex_lock(&lock);
    piece(order);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

int main(void) {
  enum { MOST = 64 };
  struct pollfd all[MOST];
  int count = 1;
  pthread_t thread;
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof place;
  all[0].fd = socket(AF_INET, SOCK_STREAM, 0);
  all[0].events = POLLIN;
  if (bind(all[0].fd, (struct sockaddr *)&place, size) != 0 || listen(all[0].fd, MOST) != 0) return 1;
  getsockname(all[0].fd, (struct sockaddr *)&place, &size);
  if (pipe(orders) != 0 || pthread_create(&thread, NULL, background, NULL) != 0) return 1;
  fprintf(stderr, "port %d\n", ntohs(place.sin_port));
  for (;;) {
    poll(all, count, -1);
    for (int index = count - 1; index > 0; index -= 1) {
      char byte;
      if (!all[index].revents) continue;
      if (read(all[index].fd, &byte, 1) == 1) {
        if ((byte == 'x' || byte == 'l') && write(orders[1], &byte, 1) != 1) return 1;
        if (write(all[index].fd, &byte, 1) == 1) continue;
      }
      close(all[index].fd);
      all[index] = all[--count];
    }
    if (all[0].revents && count < MOST) {
      all[count].fd = accept(all[0].fd, NULL, NULL);
      all[count].events = POLLIN;
      all[count].revents = 0;
      count += 1;
    }
  }
}
