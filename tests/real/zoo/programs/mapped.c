// SPDX-License-Identifier: Apache-2.0
// SIGBUS: a mapped file becomes shorter than its mapping. die read | write | copy (inside memcpy, with vector moves).
#include "server.h"
#include <sys/mman.h>

static volatile long sink;

static APART int visit(const char *word) {
  FILE *file = tmpfile();
  if (file == NULL || ftruncate(fileno(file), 65536) != 0) return -1;
  char *mapping = (char *)mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
  char copied[8192];
  sink = mapping[40000];
  if (ftruncate(fileno(file), 100) != 0) return -1;
  if (strcmp(word, "read") == 0) sink = mapping[40000];
  if (strcmp(word, "write") == 0) mapping[40000] = 1;
  if (strcmp(word, "copy") == 0) memcpy(copied, mapping + 40000, sizeof copied), sink = copied[sink & 1023];
  return 0;
}

static int die(struct session *session, char *word) {
  answer(session, "alive %d\n", visit(word));
  return 0;
}

const struct command commands[] = {{NULL, NULL}};
static void prepare(void) {}
