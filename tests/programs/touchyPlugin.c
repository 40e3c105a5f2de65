// SPDX-License-Identifier: Apache-2.0
/*
 * A plugin for mosquitto 2 that faults on what is published to the topic "die", and looks at everything else. Built as a
 * shared library; the structures are those of mosquitto_plugin.h and mosquitto_broker.h, as far as used.
 */
#include <string.h>

enum { PLUGIN_VERSION = 5, EVENT_MESSAGE = 7, SUCCESS = 0 };

struct message {
  void *future;
  void *client;
  char *topic;
};

int mosquitto_callback_register(void *plugin, int event, int (*callback)(int, void *, void *), const void *of, void *own);

static volatile long seen;

static int look(int event, void *told, void *own) {
  (void)event;
  (void)own;
  const struct message *message = told;
  if (strcmp(message->topic, "die") == 0) *(volatile long *)sizeof(long) = seen;
  seen += 1;
  return SUCCESS;
}

int mosquitto_plugin_version(int count, const int *versions) {
  for (int index = 0; index < count; index += 1)
    if (versions[index] == PLUGIN_VERSION) return PLUGIN_VERSION;
  return -1;
}

int mosquitto_plugin_init(void *plugin, void **own, void *options, int count) {
  (void)own;
  (void)options;
  (void)count;
  return mosquitto_callback_register(plugin, EVENT_MESSAGE, look, 0, 0);
}

int mosquitto_plugin_cleanup(void *own, void *options, int count) {
  (void)own;
  (void)options;
  (void)count;
  return SUCCESS;
}
