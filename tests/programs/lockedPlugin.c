// SPDX-License-Identifier: Apache-2.0
/*
 * A function for MariaDB that adds under a mutex: locked_add(N) gives the sum so far, and faults with the mutex taken where N
 * is negative. Built as a shared library; the structures are those of MariaDB's user-defined functions, as far as used.
 */
#include <pthread.h>
#include <stdint.h>

struct arguments {
  unsigned count;
  int *types;
  char **values;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile long long sum;

char locked_add_init(void *call, struct arguments *arguments, char *message) {
  (void)call;
  (void)message;
  return arguments->count != 1;
}

void locked_add_deinit(void *call) { (void)call; }

long long locked_add(void *call, struct arguments *arguments, char *is_null, char *error) {
  (void)call;
  (void)is_null;
  (void)error;
  long long by = *(long long *)arguments->values[0];
  pthread_mutex_lock(&mutex);
  if (by < 0) *(volatile int *)(uintptr_t)8 = 1;
  sum += by;
  pthread_mutex_unlock(&mutex);
  return sum;
}
