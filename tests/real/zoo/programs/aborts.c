// SPDX-License-Identifier: Apache-2.0
// The program ends itself: die abort | assert | guard (a smashed stack: its own frame's end) | guards (with the frames of
// its callers) | overrun (to the end of the stack) | fortify | raise | kill | tgkill | own (a panic
// function of its own that reports and aborts). -DHANDLED: it has handlers that report and end it.
#include "server.h"
#include <assert.h>
#include <sys/syscall.h>

static volatile size_t length = 400;

static APART int smash(size_t beyond) {
  char room[16], *at = room;
  __asm__ volatile("" : "+r"(at)); /* hides from the compiler what is written */
  memset(at, 'A', sizeof room + beyond);
  return room[length & 15];
}

static APART int fortify(const char *word) {
  char room[16];
  strcpy(room, length > 5 ? "much longer than sixteen bytes, for certain" : word);
  return room[0];
}

static APART __attribute__((noreturn)) void panic(const char *why) {
  fprintf(stderr, "panic: %s\n", why);
  fflush(stderr);
  abort();
}

static APART int end(const char *word) {
  if (strcmp(word, "abort") == 0) abort();
  if (strcmp(word, "assert") == 0) assert(length == 3);
  if (strcmp(word, "guard") == 0) return smash(64);
  if (strcmp(word, "guards") == 0) return smash(400);
  if (strcmp(word, "overrun") == 0) return smash(64 << 20);
  if (strcmp(word, "fortify") == 0) return fortify(word);
  if (strcmp(word, "raise") == 0) raise(SIGABRT);
  if (strcmp(word, "kill") == 0) kill(getpid(), SIGSEGV);
  if (strcmp(word, "tgkill") == 0) syscall(SYS_tgkill, getpid(), gettid(), SIGBUS);
  if (strcmp(word, "own") == 0) panic("the request is not to my taste");
  return 0;
}

static int die(struct session *session, char *word) {
  answer(session, "alive %d\n", end(word));
  return 0;
}

const struct command commands[] = {{NULL, NULL}};

#ifdef HANDLED
static void report(int number) {
  fprintf(stderr, "caught signal %d\n", number);
  signal(number, SIG_DFL);
  raise(number);
}
#endif

static void prepare(void) {
#ifdef HANDLED
  signal(SIGABRT, report);
  signal(SIGSEGV, report);
  signal(SIGBUS, report);
#endif
}
