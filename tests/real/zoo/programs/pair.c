// SPDX-License-Identifier: Apache-2.0
// As many threads as are told fault at the same moment: each `die N` waits for N of them. `die N abort` aborts.
#include "server.h"

static volatile int arrived;
static volatile long sink;

static int die(struct session *session, char *word) {
  int wanted = atoi(word);
  __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
  while (arrived < wanted) continue;
  if (strstr(word, "abort") != NULL) abort();
  sink = *(volatile long *)8;
  answer(session, "alive\n");
  return 0;
}

const struct command commands[] = {{NULL, NULL}};
static void prepare(void) {}
