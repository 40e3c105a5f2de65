// SPDX-License-Identifier: Apache-2.0
// The same server over TLS: `die load` faults in the program, `die inside` in a callback that the TLS library calls.
// Key and certificate are read from the program's own path with `.pem` behind it.
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>
static ssize_t tlsReceive(int fd, void *to, size_t room, int flags);
static ssize_t tlsTransmit(int fd, const void *from, size_t length, int flags);
static int tlsClose(int fd);
#define recv tlsReceive
#define send tlsTransmit
#define close tlsClose
#include "server.h"

static SSL_CTX *context;
static SSL *streams[4096];
static volatile int armed;
static volatile long sink;

static ssize_t outcome(SSL *stream, int result) {
  if (result > 0) return result;
  int error = SSL_get_error(stream, result);
  if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return 0;
  errno = EAGAIN;
  return -1;
}

static ssize_t tlsReceive(int fd, void *to, size_t room, int flags) {
  if (streams[fd] == NULL) {
    streams[fd] = SSL_new(context);
    SSL_set_fd(streams[fd], fd);
    SSL_set_accept_state(streams[fd]);
  }
  return outcome(streams[fd], SSL_read(streams[fd], to, (int)room));
}

static ssize_t tlsTransmit(int fd, const void *from, size_t length, int flags) {
  ssize_t sent = outcome(streams[fd], SSL_write(streams[fd], from, (int)length));
  return sent > 0 ? sent : -1;
}

#undef close
static int tlsClose(int fd) {
  SSL_free(streams[fd]);
  streams[fd] = NULL;
  return close(fd);
}

static void onState(const SSL *stream, int where, int result) {
  if (armed && --armed == 0) sink = *(volatile long *)8;
}

static APART long touch(void) { return *(volatile long *)8; }

static int die(struct session *session, char *word) {
  if (strcmp(word, "inside") == 0) {
    armed = 1;
    SSL_set_info_callback(streams[session->fd], onState);
    SSL_renegotiate_pending(streams[session->fd]);
    SSL_key_update(streams[session->fd], SSL_KEY_UPDATE_NOT_REQUESTED);
    SSL_shutdown(streams[session->fd]);
  } else {
    sink = touch();
  }
  answer(session, "alive\n");
  return 0;
}

const struct command commands[] = {{NULL, NULL}};

static void prepare(void) {
  char path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 8);
  strcpy(path + (length > 0 ? length : 0), ".pem");
  context = SSL_CTX_new(TLS_server_method());
  if (SSL_CTX_use_certificate_chain_file(context, path) != 1 ||
      SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM) != 1)
    abort();
}
