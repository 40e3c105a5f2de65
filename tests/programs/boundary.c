// SPDX-License-Identifier: Apache-2.0
/*
 * A redis module whose obvious rescue is the wrong one, loaded into a stock redis-server.
 *
 * boundary.crash runs a step through a pointer, as plugins do, and the step faults. A step that gives -1 is taken for one
 * that was half done: the module then refuses all service until boundary.heal. A step that gives 0 had nothing to do.
 * boundary.health says which of the two it is. The few functions of redis's module interface that are needed are declared
 * here; source: redis 7.0, src/redismodule.h.
 */
#include <stdint.h>

typedef int (*command)(void *context, void **words, int count);
typedef int (*get_function)(const char *name, void *into);
typedef long (*step_function)(long);

static int (*create_command)(void *, const char *, command, const char *, int, int, int);
static void (*set_attributes)(void *, const char *, int, int);
static int (*reply_simple)(void *, const char *);
static int (*reply_error)(void *, const char *);

static int *volatile nowhere = 0;
static volatile int half_done = 0;

__attribute__((noinline)) static long take_step(long count) { return *nowhere + count; }
static step_function volatile step = take_step;

__attribute__((noinline)) static int crash(void *context, void **words, int count) {
  (void)words;
  long result = step(count);
  if (result == -1) {
    half_done = 1;
    return reply_error(context, "ERR half done");
  }
  return reply_simple(context, "OK");
}

static int health(void *context, void **words, int count) {
  (void)words, (void)count;
  return half_done ? reply_error(context, "ERR half done") : reply_simple(context, "WELL");
}

static int heal(void *context, void **words, int count) {
  (void)words, (void)count;
  half_done = 0;
  return reply_simple(context, "OK");
}

int RedisModule_OnLoad(void *context, void **words, int count) {
  (void)words, (void)count;
  get_function get = ((get_function *)context)[0];
  get("RedisModule_CreateCommand", &create_command);
  get("RedisModule_SetModuleAttribs", &set_attributes);
  get("RedisModule_ReplyWithSimpleString", &reply_simple);
  get("RedisModule_ReplyWithError", &reply_error);
  set_attributes(context, "boundary", 1, 1);
  if (create_command(context, "boundary.crash", crash, "fast", 0, 0, 0) != 0) return 1;
  if (create_command(context, "boundary.health", health, "fast", 0, 0, 0) != 0) return 1;
  return create_command(context, "boundary.heal", heal, "fast", 0, 0, 0);
}
