// SPDX-License-Identifier: Apache-2.0
// The thread's restartable-sequence area is overwritten: the kernel stumbles over it when it interrupts the thread, at an
// instruction that did nothing wrong. die garbage (no address at all) | data (an address that is no descriptor).
#include "server.h"
#include <sys/rseq.h>

static volatile long turns;
static char data[64];

static APART void burn(void) {
  for (turns = 0; turns < 400000000; turns++) continue;
}

static int die(struct session *session, char *word) {
  struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
  area->rseq_cs = strcmp(word, "data") == 0 ? (unsigned long)data : 0x4141414141414141;
  raise(SIGUSR1); /* a delivered signal makes the kernel look, at the latest */
  burn();
  answer(session, "alive\n");
  return 0;
}

static void ignore(int number) {}
const struct command commands[] = {{NULL, NULL}};
static void prepare(void) { signal(SIGUSR1, ignore); }
