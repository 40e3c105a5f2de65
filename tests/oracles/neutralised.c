/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that faults on purpose, asks at each fault what to write to its registers, goes on, and checks itself.
 *
 * At a fault it writes 352 bytes: 33 registers by DWARF number, flags, fault address, the signal (8 bytes each), 64 bytes
 * of code from the program counter on. It reads a count, then that many pairs of register and value; register 49 is the
 * flags, 16 or 32 the program counter. A count of -1 ends it. Each check that fails is a line on standard error, the exit
 * code is their number.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define REGISTERS 33
#define FLAGS 49
#define REFUSED (-1)

struct report {
  uint64_t registers[REGISTERS], flags, address, signal;
  unsigned char code[64];
};

static int failed;
static char *page, *end;

static void check(const char *name, int holds) {
  if (holds) return;
  failed += 1;
  fprintf(stderr, "%s\n", name);
}

static void transfer(int fd, void *bytes, size_t left, int writes) {
  for (char *at = bytes; left > 0;) {
    ssize_t done = writes ? write(fd, at, left) : read(fd, at, left);
    if (done <= 0) _exit(99);
    at += done;
    left -= (size_t)done;
  }
}

#if defined(__x86_64__)
static const int order[17] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
                              REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
static uint64_t *slot(ucontext_t *context, int number) {
  int at = number == FLAGS ? REG_EFL : number <= 16 ? order[number] : -1;
  return at < 0 ? 0 : (uint64_t *)&context->uc_mcontext.gregs[at];
}
#define PC 16
#else
static uint64_t *slot(ucontext_t *context, int number) {
  if (number < 31) return (uint64_t *)&context->uc_mcontext.regs[number];
  if (number == 31) return (uint64_t *)&context->uc_mcontext.sp;
  if (number == 32) return (uint64_t *)&context->uc_mcontext.pc;
  return number == FLAGS ? (uint64_t *)&context->uc_mcontext.pstate : 0;
}
#define PC 32
#endif

static void caught(int number, siginfo_t *cause, void *raw) {
  ucontext_t *context = raw;
  struct report report = {.signal = (uint64_t)number, .address = (uint64_t)cause->si_addr};
  for (int register_ = 0; register_ < REGISTERS; register_ += 1) {
    uint64_t *from = slot(context, register_);
    report.registers[register_] = from ? *from : 0;
  }
  report.flags = *slot(context, FLAGS);
  memcpy(report.code, (void *)*slot(context, PC), sizeof report.code);
  transfer(1, &report, sizeof report, 1);
  int64_t count;
  transfer(0, &count, sizeof count, 0);
  if (count == REFUSED) _exit(98);
  for (; count > 0; count -= 1) {
    uint64_t pair[2];
    transfer(0, pair, sizeof pair, 0);
    *slot(context, (int)pair[0]) = pair[1];
  }
}

#if defined(__x86_64__)
static void run(void) {
  char *null = (char *)16;
  uint64_t a = 5, b = 7;
  unsigned char truth = 0;
  __asm__ volatile("mov (%1), %0" : "+r"(a) : "r"(null));
  check("load 64", a == 0);
  a = 0x1122334455667788;
  __asm__ volatile("movb (%1), %b0" : "+q"(a) : "r"(null));
  check("load 8 keeps the rest", a == 0x1122334455667700);
  a = 0x1122334455667788;
  __asm__ volatile("movb (%%rdi), %%ah" : "+a"(a) : "D"(null));
  check("load ah keeps the rest", a == 0x1122334455660088);
  a = ~0ul;
  __asm__ volatile("movswl (%1), %k0" : "+r"(a) : "r"(null));
  check("extend", a == 0);
  a = 5;
  __asm__ volatile("mov %0, 8(%1)\nmovups %%xmm0, (%1)" : : "r"(a), "r"(null) : "memory");
  __asm__ volatile("cmpl $0, (%1)\nsete %0" : "+q"(truth) : "r"(null) : "cc");
  check("compare with 0 is equal", truth == 1);
  __asm__ volatile("cmpl $3, (%1)\nsetb %0" : "+q"(truth) : "r"(null) : "cc");
  check("compare with 3 is below", truth == 1);
  __asm__ volatile("lock decl (%1)\nsets %0" : "+q"(truth) : "r"(null) : "cc");
  check("decrement is negative", truth == 1);
  a = 5;
  __asm__ volatile("add (%1), %0" : "+r"(a) : "r"(null) : "cc");
  check("add nothing", a == 5);
  __asm__ volatile("xchg %0, (%1)" : "+r"(a) : "r"(null));
  check("exchange", a == 0);
  a = 5;
  __asm__ volatile("lock cmpxchg %2, (%3)\nsete %1" : "+a"(a), "+q"(truth) : "r"(b), "r"(null) : "cc");
  check("compare and exchange fails and loads", a == 0 && truth == 0);
  uint64_t count = 32;
  char *to = end - 16, *from = page;
  memset(page, 1, 64);
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(3) : "memory");
  check("fill over the end", to == end + 16 && count == 0 && end[-1] == 3);
  to = end - 16;
  count = 32;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  check("copy over the end", to == end + 16 && from == page + 32 && count == 0 && end[-1] == 1);
  uint32_t quotient = 10, remainder = 1;
  __asm__ volatile("divl %2" : "+a"(quotient), "+d"(remainder) : "r"(0) : "cc");
  check("divide by zero", quotient == 0 && remainder == 0);
  __asm__ volatile("movl $0x80000000, %%eax\ncltd\nidivl %2" : "=&a"(quotient), "=&d"(remainder) : "r"(-1) : "cc");
  check("divide the least number by -1", quotient == 0 && remainder == 0);
  to = null;
  __asm__ volatile("lodsb" : "+S"(to), "+a"(a));
  check("load string", to == null + 1 && (a & 0xff) == 0);
  count = 9;
  to = null;
  __asm__ volatile("repne scasb" : "+D"(to), "+c"(count) : "a"(0) : "cc");
  check("scan finds zero at once", to == null + 1 && count == 8);
}
#else
static void run(void) {
  uint64_t a = 5, b = 7, null = 16;
  __asm__ volatile("ldr %0, [%1]" : "+r"(a) : "r"(null));
  check("load 64", a == 0);
  a = ~0ul;
  __asm__ volatile("ldrsh %w0, [%1, #2]" : "+r"(a) : "r"(null));
  check("load 16", a == 0);
  a = 5;
  __asm__ volatile("ldp %0, %1, [%2], #16" : "+&r"(a), "+&r"(b), "+&r"(null));
  check("load pair, post-index", a == 0 && b == 0 && null == 32);
  a = 5;
  __asm__ volatile("str %1, [%0, #-16]!\nstr q0, [%0]\nstlr %1, [%0]" : "+&r"(null) : "r"(a) : "memory");
  check("store, pre-index", null == 16);
  __asm__ volatile(".arch_extension lse\nldadd %0, %1, [%2]" : "+r"(a), "+r"(b) : "r"(null) : "memory");
  check("atomic add", a == 5 && b == 0);
  __asm__ volatile("cas %w0, %w1, [%2]" : "+r"(a) : "r"(b), "r"(null) : "memory");
  check("compare and swap", a == 0);
  __asm__ volatile("dc zva, %0" : : "r"(null) : "memory");
  char *to = end - 8;
  __asm__ volatile("stp xzr, xzr, [%0], #16" : "+r"(to) : : "memory");
  check("store over the end", to == end + 8);
}
#endif

int main(void) {
  size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
  page = mmap(0, 2 * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return 97;
  end = page + bytes;
  mprotect(end, bytes, PROT_NONE);
  struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, 0);
  sigaction(SIGBUS, &action, 0);
  sigaction(SIGFPE, &action, 0);
  run();
  return failed;
}
