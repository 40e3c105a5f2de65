/* SPDX-License-Identifier: Apache-2.0
 * Preloaded into Cloud Hypervisor on hosts whose own hypervisor answers KVM_GET_NESTED_STATE with EINVAL, for which it
 * refuses every snapshot: says that there is no nested state. All else passes through. A test aid, never shipped.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/ioctl.h>

int ioctl(int descriptor, unsigned long request, ...) {
  static int (*next)(int, unsigned long, ...);
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  if (next == NULL) next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
  int result = next(descriptor, request, argument);
  if (result >= 0 || errno != EINVAL || (unsigned)request != (unsigned)KVM_GET_NESTED_STATE) return result;
  ((struct kvm_nested_state *)argument)->size = sizeof(struct kvm_nested_state);
  return 0;
}
