// SPDX-License-Identifier: Apache-2.0
// Everything that a call must give back as it found it: eight doubles and ten integers are kept in registers across a call
// that spoils them all and faults. die direct | deep: in the called function itself, or in one that it calls.
#include "server.h"

static volatile double doubles[8] = {1.5, 2.25, 3.125, 4.5, 5.75, 6.875, 7.0625, 8.5};
static volatile long integers[10] = {3, 5, 7, 11, 13, 17, 19, 23, 29, 31};
static volatile long nowhere;

static APART long fault(void) { return *(volatile long *)nowhere; }

/* Spoils what it has to save first. */
static APART long spoil(const char *word) {
  double a = doubles[7], b = doubles[6], c = doubles[5], d = doubles[4], e = doubles[3], f = doubles[2], g = doubles[1];
  long k = integers[9], l = integers[8], m = integers[7], n = integers[6], o = integers[5], p = integers[4];
  long got = word[1] == 'e' ? fault() : *(volatile long *)(nowhere + 8);
  return got + (long)(a * b + c * d + e * f + g) + k * l + m * n + o * p;
}

static long (*volatile victim)(const char *) = spoil;

static int die(struct session *session, char *word) {
  double a = doubles[0], b = doubles[1], c = doubles[2], d = doubles[3];
  double e = doubles[4], f = doubles[5], g = doubles[6], h = doubles[7];
  long i = integers[0], j = integers[1], k = integers[2], l = integers[3], m = integers[4], n = integers[5];
  long o = integers[6], p = integers[7], q = integers[8], r = integers[9];
  const char *how = victim(word) < 0 ? "error" : "done";
  int whole = a == doubles[0] && b == doubles[1] && c == doubles[2] && d == doubles[3] && e == doubles[4] &&
              f == doubles[5] && g == doubles[6] && h == doubles[7];
  whole = whole && i == integers[0] && j == integers[1] && k == integers[2] && l == integers[3] && m == integers[4];
  whole = whole && n == integers[5] && o == integers[6] && p == integers[7] && q == integers[8] && r == integers[9];
  answer(session, "%s %s\n", how, whole ? "whole" : "spoilt");
  return 0;
}

const struct command commands[] = {{NULL, NULL}};
static void prepare(void) {}
