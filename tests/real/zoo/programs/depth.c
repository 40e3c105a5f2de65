// SPDX-License-Identifier: Apache-2.0
// The stack runs out: die small (frames of some ten bytes) | large (4 KiB frames) | alloca (one leap beyond the guard
// page) | mutual (two functions in turn, one through a pointer).
#include "server.h"
#include <alloca.h>

static volatile long depth;

static APART long small(long number) {
  depth = number;
  return small(number + 1) + depth;
}

static APART long large(long number) {
  volatile char room[4096];
  room[number & 4095] = 1;
  return large(number + 1) + room[0];
}

static long mutual(long number);
static long (*volatile again)(long) = mutual;

static APART long between(long number) { return again(number + 1) + depth; }
static APART long mutual(long number) { return between(number) + depth; }

static APART long leap(size_t size) {
  volatile char *room = (volatile char *)alloca(size);
  room[0] = 1;
  return room[0];
}

static int die(struct session *session, char *word) {
  long result = -1;
  if (strcmp(word, "small") == 0) result = small(1);
  if (strcmp(word, "large") == 0) result = large(1);
  if (strcmp(word, "mutual") == 0) result = mutual(1);
  if (strcmp(word, "alloca") == 0) result = leap(64 << 20);
  answer(session, "alive %ld\n", result);
  return 0;
}

const struct command commands[] = {{NULL, NULL}};
static void prepare(void) {}
