// SPDX-License-Identifier: Apache-2.0
// SIGSYS from a seccomp filter: die trap (SECCOMP_RET_TRAP) | kill (SECCOMP_RET_KILL_PROCESS: no debugger may stop that).
#include "server.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static APART long forbidden(const char *word) {
  return syscall(strcmp(word, "kill") == 0 ? SYS_personality : SYS_vhangup);
}

static int die(struct session *session, char *word) {
  answer(session, "alive %ld\n", forbidden(word));
  return 0;
}

const struct command commands[] = {{NULL, NULL}};

static void prepare(void) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_vhangup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_personality, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) abort();
}
