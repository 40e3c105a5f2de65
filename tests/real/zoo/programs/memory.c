// SPDX-License-Identifier: Apache-2.0
// Accesses to memory that is not there: die load | store | wild | noncanonical | kernel | readonly | copy | length.
#include "server.h"

static const long constant = 7;
static volatile long sink;

static APART long touch(const char *word) {
  if (strcmp(word, "load") == 0) return *(volatile long *)8;
  if (strcmp(word, "store") == 0) return *(volatile long *)16 = 1;
  if (strcmp(word, "wild") == 0) return *(volatile long *)0x123456789000;
  if (strcmp(word, "noncanonical") == 0) return *(volatile long *)0x4141414141414141;
  if (strcmp(word, "kernel") == 0) return *(volatile long *)0xffffffff81000000;
  if (strcmp(word, "readonly") == 0) return *(volatile long *)&constant = 1;
  if (strcmp(word, "copy") == 0) return memcpy((char *)sink, word, strlen(word) + 100) != NULL;
  if (strcmp(word, "length") == 0) return (long)strlen((char *)(sink + 1));
  return -1;
}

static int die(struct session *session, char *word) {
  sink = touch(word);
  answer(session, "alive %ld\n", sink);
  return 0;
}

const struct command commands[] = {{NULL, NULL}};
static void prepare(void) {}
