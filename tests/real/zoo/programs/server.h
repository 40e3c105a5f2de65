// SPDX-License-Identifier: Apache-2.0
// The serving half of every program of the zoo: many sessions, one request a line, one answer a line.
//
//   echo TEXT   answers TEXT
//   add N       answers the sum of all N of this session, which shows whether its state is whole
//   die WORD    the program's own fault; further requests of a program stand in `commands`
//
// Usage: PROGRAM LOOP PLACE [WORKERS]. LOOP: epoll, poll, select, threads (one for each session), workers (epoll threads)
// or fork (a process for each session). PLACE: tcp:FILE or tcp6:FILE (the port is written to FILE), or unix:PATH.
// Built with -DDIRECT, `die` is called directly; else, like all requests, through a table.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define APART __attribute__((noinline))
enum { lineBytes = 4096, answerBytes = 16384, sessionsMax = 512, workersMax = 16 };

struct session {
  int fd;
  long sum;
  int (*onReadable)(struct session *);
  size_t heldBytes, unsentBytes;
  char held[lineBytes], unsent[answerBytes];
};

struct command {
  const char *name;
  int (*run)(struct session *, char *);
};

/* What a program brings along. A result below zero is an error, and its client is told so. */
static int die(struct session *session, char *word);
extern const struct command commands[];
static void prepare(void);

static void answer(struct session *session, const char *format, ...) {
  va_list words;
  va_start(words, format);
  size_t left = sizeof session->unsent - session->unsentBytes;
  int length = vsnprintf(session->unsent + session->unsentBytes, left, format, words);
  if (length > 0 && (size_t)length < left) session->unsentBytes += (size_t)length;
  va_end(words);
}

static int transmit(struct session *session) {
  size_t sent = 0;
  while (sent < session->unsentBytes) {
    ssize_t now = send(session->fd, session->unsent + sent, session->unsentBytes - sent, MSG_NOSIGNAL);
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) return -1;
    sent += (size_t)now;
  }
  session->unsentBytes = 0;
  return 0;
}

static int echo(struct session *session, char *text) {
  answer(session, "%s\n", text);
  return 0;
}

static int add(struct session *session, char *number) {
  session->sum += atol(number);
  answer(session, "%ld\n", session->sum);
  return 0;
}

static const struct command own[] = {{"echo", echo}, {"add", add}, {"die", die}, {NULL, NULL}};

static const struct command *find(const struct command *command, const char *name) {
  while (command->name != NULL && strcmp(command->name, name) != 0) command++;
  return command->name == NULL ? NULL : command;
}

static APART void request(struct session *session, char *line) {
  char *word = strchr(line, ' ');
  if (word != NULL) *word++ = '\0';
#ifdef DIRECT
  if (strcmp(line, "die") == 0) {
    if (die(session, word == NULL ? line + strlen(line) : word) < 0) answer(session, "error\n");
    return;
  }
#endif
  const struct command *command = find(own, line);
  if (command == NULL) command = find(commands, line);
  if (command == NULL) answer(session, "unknown\n");
  else if (command->run(session, word == NULL ? line + strlen(line) : word) < 0) answer(session, "error\n");
}

/* Reads once; answers all whole lines that are there. Below zero: the session is over. */
static APART int converse(struct session *session) {
  ssize_t got = recv(session->fd, session->held + session->heldBytes, sizeof session->held - session->heldBytes, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (got <= 0) return -1;
  session->heldBytes += (size_t)got;
  for (;;) {
    char *end = (char *)memchr(session->held, '\n', session->heldBytes);
    if (end == NULL) break;
    *end = '\0';
    request(session, session->held);
    size_t used = (size_t)(end + 1 - session->held);
    session->heldBytes -= used;
    memmove(session->held, end + 1, session->heldBytes);
  }
  return transmit(session);
}

/* A program may put its own in front. */
static int (*onReadableFirst)(struct session *) = converse;

static struct session *openSession(int fd) {
  struct session *session = (struct session *)calloc(1, sizeof *session);
  if (session == NULL) abort();
  session->fd = fd;
  session->onReadable = onReadableFirst;
  return session;
}

static void closeSession(struct session *session) {
  close(session->fd);
  free(session);
}

static void watch(int loop, int fd, struct session *session) {
  struct epoll_event event;
  memset(&event, 0, sizeof event);
  event.events = EPOLLIN;
  event.data.ptr = session;
  if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) abort();
}

static int loops[workersMax], workerCount;

/* The listener's session is NULL. With workers, new sessions go to them in turn. */
static void serveEpoll(int loop, int listener) {
  struct epoll_event events[64];
  for (unsigned turn = 0;;) {
    int count = epoll_wait(loop, events, 64, -1);
    for (int index = 0; index < count; index++) {
      struct session *session = (struct session *)events[index].data.ptr;
      if (session == NULL) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) watch(workerCount > 0 ? loops[turn++ % (unsigned)workerCount] : loop, fd, openSession(fd));
      } else if (session->onReadable(session) < 0) {
        closeSession(session);
      }
    }
  }
}

static void *work(void *loop) {
  serveEpoll(*(int *)loop, -1);
  return NULL;
}

static void serveWorkers(int listener, int count) {
  for (; workerCount < count && workerCount < workersMax; workerCount++) {
    pthread_t thread;
    loops[workerCount] = epoll_create1(EPOLL_CLOEXEC);
    if (pthread_create(&thread, NULL, work, &loops[workerCount]) != 0) abort();
  }
  int loop = epoll_create1(EPOLL_CLOEXEC);
  watch(loop, listener, NULL);
  serveEpoll(loop, listener);
}

static struct session *sessions[sessionsMax];

static void welcome(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  for (int index = 0; fd >= 0 && index < sessionsMax; index++) {
    if (sessions[index] != NULL) continue;
    sessions[index] = openSession(fd);
    return;
  }
}

static void servePoll(int listener) {
  for (;;) {
    struct pollfd wanted[sessionsMax + 1] = {{listener, POLLIN, 0}};
    int slots[sessionsMax + 1], count = 1;
    for (int index = 0; index < sessionsMax; index++) {
      if (sessions[index] == NULL) continue;
      slots[count] = index;
      wanted[count].fd = sessions[index]->fd;
      wanted[count++].events = POLLIN;
    }
    if (poll(wanted, (nfds_t)count, -1) < 0) continue;
    for (int at = 1; at < count; at++) {
      struct session **slot = &sessions[slots[at]];
      if (wanted[at].revents == 0 || (*slot)->onReadable(*slot) >= 0) continue;
      closeSession(*slot);
      *slot = NULL;
    }
    if (wanted[0].revents != 0) welcome(listener);
  }
}

static void serveSelect(int listener) {
  for (;;) {
    fd_set wanted;
    int highest = listener;
    FD_ZERO(&wanted);
    FD_SET(listener, &wanted);
    for (int index = 0; index < sessionsMax; index++) {
      if (sessions[index] == NULL) continue;
      FD_SET(sessions[index]->fd, &wanted);
      if (sessions[index]->fd > highest) highest = sessions[index]->fd;
    }
    if (select(highest + 1, &wanted, NULL, NULL, NULL) < 0) continue;
    for (int index = 0; index < sessionsMax; index++) {
      struct session *session = sessions[index];
      if (session == NULL || !FD_ISSET(session->fd, &wanted) || session->onReadable(session) >= 0) continue;
      closeSession(session);
      sessions[index] = NULL;
    }
    if (FD_ISSET(listener, &wanted)) welcome(listener);
  }
}

static void *attend(void *session) {
  while (converse((struct session *)session) >= 0) continue;
  closeSession((struct session *)session);
  return NULL;
}

static void serveThreads(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    pthread_t thread;
    if (fd >= 0 && pthread_create(&thread, NULL, attend, openSession(fd)) == 0) pthread_detach(thread);
  }
}

static void serveFork(int listener) {
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) continue;
    if (fork() == 0) {
      close(listener);
      attend(openSession(fd));
      _exit(0);
    }
    close(fd);
  }
}

static int listenAt(const char *place) {
  union {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct sockaddr_un path;
  } at;
  socklen_t length = sizeof at;
  const char *file = strchr(place, ':') + 1;
  memset(&at, 0, sizeof at);
  at.any.sa_family = place[0] == 'u' ? AF_UNIX : place[3] == '6' ? AF_INET6 : AF_INET;
  if (at.any.sa_family == AF_UNIX) strncpy(at.path.sun_path, file, sizeof at.path.sun_path - 1);
  else if (at.any.sa_family == AF_INET6) at.six.sin6_addr = in6addr_loopback;
  else at.four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int listener = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  socklen_t bound = at.any.sa_family == AF_UNIX ? sizeof at.path : at.any.sa_family == AF_INET ? sizeof at.four : sizeof at.six;
  if (bind(listener, &at.any, bound) != 0 || listen(listener, 128) != 0) return -1;
  if (at.any.sa_family == AF_UNIX) return listener;
  getsockname(listener, &at.any, &length);
  char draft[4096];
  snprintf(draft, sizeof draft, "%s.new", file);
  FILE *out = fopen(draft, "w");
  if (out == NULL) return -1;
  fprintf(out, "%d", ntohs(at.four.sin_port)); /* the port is at the same place in both families */
  fclose(out);
  return rename(draft, file) == 0 ? listener : -1;
}

int main(int count, char **words) {
  if (count < 3) return 2;
  prepare();
  int listener = listenAt(words[2]);
  if (listener < 0) return 3;
  if (strcmp(words[1], "poll") == 0) servePoll(listener);
  if (strcmp(words[1], "select") == 0) serveSelect(listener);
  if (strcmp(words[1], "threads") == 0) serveThreads(listener);
  if (strcmp(words[1], "fork") == 0) serveFork(listener);
  serveWorkers(listener, count > 3 ? atoi(words[3]) : 0);
}
