// SPDX-License-Identifier: Apache-2.0
// Control that goes where no code is: die null | data | heap | stack | unmapped | noncanonical | kernel | smash | jump.
// `smash` overwrites its own return address and returns; `jump` leaves by a jump instead of a call.
#include "server.h"

static char data[64];
static void *volatile target;

static APART void leap(void) { ((void (*)(void))target)(); }

static APART int smash(void) {
  void *volatile *frame = (void *volatile *)__builtin_frame_address(0);
  frame[1] = (void *)0x4141414141414141;
  return 1;
}

static APART int aim(const char *word) {
  char stack[64];
  if (strcmp(word, "null") == 0) target = NULL;
  else if (strcmp(word, "data") == 0) target = data;
  else if (strcmp(word, "heap") == 0) target = malloc(64);
  else if (strcmp(word, "stack") == 0) target = stack;
  else if (strcmp(word, "unmapped") == 0) target = (void *)0x123456789000;
  else if (strcmp(word, "noncanonical") == 0) target = (void *)0x4141414141414141;
  else if (strcmp(word, "kernel") == 0) target = (void *)0xffffffff81000000;
  else if (strcmp(word, "smash") == 0) return smash();
  else if (strcmp(word, "jump") == 0) {
    target = (void *)0x123456789000;
    leap();
    return 0;
  } else return -1;
  ((void (*)(void))target)();
  return 1;
}

static int die(struct session *session, char *word) {
  answer(session, "alive %d\n", aim(word));
  return 0;
}

const struct command commands[] = {{NULL, NULL}};
static void prepare(void) {}
