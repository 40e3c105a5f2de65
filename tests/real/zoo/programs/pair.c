// SPDX-License-Identifier: Apache-2.0
// As many threads as are told act at the same moment: each `die N WHAT` waits for N of them, then faults. WHAT: load |
// abort | exit (the program ends with code 5) | exec (it becomes another) | fork (it makes a child that ends at once).
#include "server.h"

static volatile int arrived;
static volatile long sink;

static int die(struct session *session, char *word) {
  int wanted = atoi(word);
  __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
  while (arrived < wanted) continue;
  if (strstr(word, "abort") != NULL) abort();
  if (strstr(word, "exit") != NULL) exit(5);
  if (strstr(word, "exec") != NULL) execl("/bin/sh", "sh", "-c", "exit 6", (char *)NULL);
  if (strstr(word, "fork") != NULL) {
    if (fork() == 0) _exit(0);
    answer(session, "alive\n");
    return 0;
  }
  sink = *(volatile long *)8;
  answer(session, "alive\n");
  return 0;
}

const struct command commands[] = {{NULL, NULL}};
static void prepare(void) {}
