// SPDX-License-Identifier: Apache-2.0
// A fault while an answer is half written: the first half is with the client already.
#include "server.h"

static volatile long sink;

static int die(struct session *session, char *word) {
  answer(session, "the first half ");
  transmit(session);
  sink = *(volatile long *)8;
  answer(session, "and the second\n");
  return 0;
}

const struct command commands[] = {{NULL, NULL}};
static void prepare(void) {}
