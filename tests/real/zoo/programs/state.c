// SPDX-License-Identifier: Apache-2.0
// Damaged state: `break` spoils a global pointer; from then on `use` faults for everybody, whoever asks. `use` works in
// three parts, of which the second fails. `die` breaks and uses at once.
#include "server.h"

struct table {
  long rows;
};
static struct table whole = {42};
static struct table *volatile table = &whole;
static volatile long used;

static APART int lookUp(void) {
  used = table->rows;
  return 0;
}

static int use(struct session *session, char *word) {
  if (lookUp() < 0) used = 7;
  answer(session, "used %ld\n", used);
  return 0;
}

static int spoil(struct session *session, char *word) {
  table = (struct table *)16;
  answer(session, "broken\n");
  return 0;
}

static int die(struct session *session, char *word) {
  table = (struct table *)16;
  return use(session, word);
}

const struct command commands[] = {{"use", use}, {"break", spoil}, {NULL, NULL}};
static void prepare(void) {}
