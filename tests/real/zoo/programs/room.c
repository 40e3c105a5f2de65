// SPDX-License-Identifier: Apache-2.0
// A chat room: `join` makes the session a member, and is answered; `listen` does so without any answer. `die` tells every
// member something, and faults while it works for one of them: all that it holds then names a bystander.
#include "server.h"

static struct session *members[64];
static int memberCount;
static volatile long sink;

static int join(struct session *session, char *word) {
  members[memberCount++ & 63] = session;
  answer(session, "joined\n");
  return 0;
}

static int hear(struct session *session, char *word) {
  members[memberCount++ & 63] = session;
  return 0;
}

static APART int tell(struct session *member, int fd, const char *text) {
  struct session *volatile copies[4] = {member, member, member, member};
  volatile int fds[4] = {fd, fd, fd, fd};
  sink = *(volatile long *)8;
  return copies[sink & 3]->fd + fds[sink & 3] + (int)strlen(text);
}

static int die(struct session *session, char *word) {
  for (int index = 0; index < memberCount; index++)
    if (members[index] != session) sink += tell(members[index], members[index]->fd, word);
  answer(session, "told\n");
  return 0;
}

const struct command commands[] = {{"join", join}, {"listen", hear}, {NULL, NULL}};
static void prepare(void) {}
