// SPDX-License-Identifier: Apache-2.0
// Heap damage that the allocator meets. glibc ends the program: die double | size | pointer | top. The allocator itself
// faults: die arena (free follows a wild arena pointer) | list (malloc follows a damaged free list).
// `use` allocates and frees many blocks and answers `whole`: shows whether the allocator still works.
#include "server.h"

static void *volatile kept;

static APART int damage(const char *word) {
  char *block = (char *)malloc(200);
  kept = block;
  if (strcmp(word, "double") == 0) {
    free(block);
    free(kept);
  } else if (strcmp(word, "size") == 0) {
    ((size_t *)block)[-1] = 0x4141414141414140;
    free(kept);
  } else if (strcmp(word, "pointer") == 0) {
    free((char *)kept + 24);
  } else if (strcmp(word, "top") == 0) {
    ((size_t *)block)[25] = 3;
    kept = malloc(100000);
    kept = malloc(100000);
  } else if (strcmp(word, "arena") == 0) {
    ((size_t *)block)[-1] = 0x5005;
    free(kept);
  } else if (strcmp(word, "list") == 0) {
    void *second = malloc(200);
    free(second);
    free(kept);
    *(size_t *)block = 0x123456789000 ^ ((size_t)block >> 12);
    kept = malloc(200);
    kept = malloc(200);
  } else {
    return -1;
  }
  return 0;
}

static int die(struct session *session, char *word) {
  answer(session, "alive %d\n", damage(word));
  return 0;
}

static int use(struct session *session, char *word) {
  void *blocks[64];
  for (size_t round = 1; round < 50; round++) {
    for (size_t index = 0; index < 64; index++) blocks[index] = malloc(round * 40 + index);
    for (size_t index = 0; index < 64; index++) free(blocks[index]);
  }
  answer(session, "whole\n");
  return 0;
}

const struct command commands[] = {{"use", use}, {NULL, NULL}};
static void prepare(void) {}
