// SPDX-License-Identifier: Apache-2.0
// Faults inside the C library on behalf of a request, with the library's own state half changed: die print (a bad string
// for a log that is shared: its lock is held) | sort (in the comparator) | once (in an initialiser that runs once) | length
// (strlen) | format (a bad string for a buffer of the request's own).
// Built with -DLOGGED, every request writes to that log first; with -DONCE, every request needs the initialiser.
#include "server.h"

static FILE *record;
static pthread_once_t started = PTHREAD_ONCE_INIT;
static volatile long sink;
static volatile int armed;

static int compare(const void *left, const void *right) {
  if (armed) sink = *(volatile long *)8;
  return *(const int *)left - *(const int *)right;
}

static void start(void) {
  if (armed) sink = *(volatile long *)8;
}

static APART int use(const char *word) {
  int numbers[16] = {9, 3, 7, 5, 8, 1};
  char text[64];
  armed = 1;
  if (strcmp(word, "print") == 0) fprintf(record, "%s and on\n", (char *)(sink + 16));
  if (strcmp(word, "format") == 0) snprintf(text, sizeof text, "%s and on\n", (char *)(sink + 16));
  if (strcmp(word, "length") == 0) sink = (long)strlen((char *)(sink + 16));
  if (strcmp(word, "sort") == 0) qsort(numbers, 16, sizeof *numbers, compare);
  if (strcmp(word, "once") == 0) pthread_once(&started, start);
  return numbers[0] + text[0];
}

static int die(struct session *session, char *word) {
  answer(session, "alive %d\n", use(word));
  return 0;
}

static int logged(struct session *session) {
#ifdef LOGGED
  fprintf(record, "a request\n");
#endif
#ifdef ONCE
  if (armed) pthread_once(&started, start);
#endif
  return converse(session);
}

const struct command commands[] = {{NULL, NULL}};

static void prepare(void) {
  record = fopen("/dev/null", "w");
  onReadableFirst = logged;
}
