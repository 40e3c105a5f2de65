// SPDX-License-Identifier: Apache-2.0
// Instructions that fault by themselves: die illegal | trap | divide | overflow | breakpoint | privileged | align | float |
// backwards (with string instructions turned round). `order` answers `forwards` if they run as they should.
#include "server.h"
#include <fenv.h>

static volatile int zero, least = -2147483647 - 1;
static volatile double noughtPointNought;

static APART int run(const char *word) {
  if (strcmp(word, "trap") == 0) __builtin_trap();
  if (strcmp(word, "divide") == 0) return 7 / zero;
  if (strcmp(word, "overflow") == 0) return least / (zero - 1);
#if defined(__x86_64__)
  if (strcmp(word, "illegal") == 0) __asm__ volatile(".byte 0x06");
  if (strcmp(word, "breakpoint") == 0) __asm__ volatile("int3");
  if (strcmp(word, "privileged") == 0) __asm__ volatile("hlt");
  if (strcmp(word, "backwards") == 0) __asm__ volatile("std; mov 8, %%rax" : : : "rax", "cc");
  if (strcmp(word, "align") == 0) __asm__ volatile("movaps 1(%%rsp), %%xmm0" : : : "xmm0");
#elif defined(__aarch64__)
  if (strcmp(word, "illegal") == 0) __asm__ volatile(".inst 0");
  if (strcmp(word, "breakpoint") == 0) __asm__ volatile("brk #7");
  if (strcmp(word, "privileged") == 0) __asm__ volatile("msr vbar_el1, xzr");
#endif
  if (strcmp(word, "float") == 0) {
    feenableexcept(FE_DIVBYZERO);
    noughtPointNought = 1 / noughtPointNought;
    fedisableexcept(FE_DIVBYZERO);
  }
  return 0;
}

static int order(struct session *session, char *word) {
  char text[] = "sdrawrof", *from = text, *to = text + 4;
#if defined(__x86_64__)
  __asm__ volatile("movsb" : "+S"(from), "+D"(to) : : "memory");
#endif
  answer(session, from <= text ? "backwards\n" : "forwards\n");
  return 0;
}

static int die(struct session *session, char *word) {
  answer(session, "alive %d\n", run(word));
  return 0;
}

const struct command commands[] = {{"order", order}, {NULL, NULL}};
static void prepare(void) {}
