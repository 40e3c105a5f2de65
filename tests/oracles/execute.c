/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Executes single instructions and says what they did to the registers: the processor itself as an oracle.
 *
 * In, on standard input, again and again: 16 bytes of code (padded with no-operations), then SLOTS registers of 8 bytes
 * by DWARF number, the flags in the last slot (x86-64 rflags, AArch64 NZCV). Out: a signal number or 0 as 8 bytes, then
 * the SLOTS registers. The stack pointer is not the record's: its slot goes in and comes back unused. Vector registers are
 * zero. The 4096 bytes at SCRATCH are zero before each instruction, and SCRATCH_BYTES around them can be touched.
 * Built static and not position-independent, so that the state has 32-bit absolute addresses.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS 34
#define FLAGS 33
#define SCRATCH 0x10008000ul
#define SCRATCH_MAP 0x10000000ul
#define SCRATCH_BYTES 0x10000ul
#define CODE_BYTES 16

struct state {
  uint64_t registers[SLOTS];
  uint64_t stack;
} state __attribute__((aligned(16)));

static sigjmp_buf out;
/* The stack pointer may be anything, the state above all, when a signal arrives. */
static char signal_stack[65536];

static void caught(int number) { siglongjmp(out, number); }

extern char code_slot[];
void execute(void);

#if defined(__x86_64__)
__asm__(
    ".text\n.globl execute\nexecute:\n"
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, state+272\n"
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nxorps %xmm\\n, %xmm\\n\n.endr\n"
    "pushq state+264; popfq\n"
    "mov state+0, %rax; mov state+8, %rdx; mov state+16, %rcx; mov state+24, %rbx\n"
    "mov state+32, %rsi; mov state+40, %rdi; mov state+48, %rbp\n"
    "mov state+64, %r8; mov state+72, %r9; mov state+80, %r10; mov state+88, %r11\n"
    "mov state+96, %r12; mov state+104, %r13; mov state+112, %r14; mov state+120, %r15\n"
    ".globl code_slot\ncode_slot: .fill 16, 1, 0x90\n"
    "mov %rax, state+0; mov %rdx, state+8; mov %rcx, state+16; mov %rbx, state+24\n"
    "mov %rsi, state+32; mov %rdi, state+40; mov %rbp, state+48\n"
    "mov %r8, state+64; mov %r9, state+72; mov %r10, state+80; mov %r11, state+88\n"
    "mov %r12, state+96; mov %r13, state+104; mov %r14, state+112; mov %r15, state+120\n"
    "mov state+272, %rsp\n"
    "pushfq; popq state+264\n"
    "cld\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "ret\n");
#elif defined(__aarch64__)
__asm__(
    ".text\n.globl execute\nexecute:\n"
    "stp x29, x30, [sp, #-96]!; stp x19, x20, [sp, #16]; stp x21, x22, [sp, #32]\n"
    "stp x23, x24, [sp, #48]; stp x25, x26, [sp, #64]; stp x27, x28, [sp, #80]\n"
    "stp d8, d9, [sp, #-64]!; stp d10, d11, [sp, #16]; stp d12, d13, [sp, #32]; stp d14, d15, [sp, #48]\n"
    "adrp x1, state; add x1, x1, :lo12:state\n"
    "mov x0, sp; str x0, [x1, #272]; mov sp, x1\n"
    "ldr x0, [sp, #264]; msr nzcv, x0\n"
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
    "movi v\\n\\().2d, #0\n.endr\n"
    "ldp x0, x1, [sp, #0]; ldp x2, x3, [sp, #16]; ldp x4, x5, [sp, #32]; ldp x6, x7, [sp, #48]\n"
    "ldp x8, x9, [sp, #64]; ldp x10, x11, [sp, #80]; ldp x12, x13, [sp, #96]; ldp x14, x15, [sp, #112]\n"
    "ldp x16, x17, [sp, #128]; ldp x18, x19, [sp, #144]; ldp x20, x21, [sp, #160]; ldp x22, x23, [sp, #176]\n"
    "ldp x24, x25, [sp, #192]; ldp x26, x27, [sp, #208]; ldp x28, x29, [sp, #224]; ldr x30, [sp, #240]\n"
    ".globl code_slot\ncode_slot: nop; nop; nop; nop\n"
    "stp x0, x1, [sp, #0]; stp x2, x3, [sp, #16]; stp x4, x5, [sp, #32]; stp x6, x7, [sp, #48]\n"
    "stp x8, x9, [sp, #64]; stp x10, x11, [sp, #80]; stp x12, x13, [sp, #96]; stp x14, x15, [sp, #112]\n"
    "stp x16, x17, [sp, #128]; stp x18, x19, [sp, #144]; stp x20, x21, [sp, #160]; stp x22, x23, [sp, #176]\n"
    "stp x24, x25, [sp, #192]; stp x26, x27, [sp, #208]; stp x28, x29, [sp, #224]; str x30, [sp, #240]\n"
    "mrs x0, nzcv; str x0, [sp, #264]\n"
    "ldr x0, [sp, #272]; mov sp, x0\n"
    "ldp d10, d11, [sp, #16]; ldp d12, d13, [sp, #32]; ldp d14, d15, [sp, #48]; ldp d8, d9, [sp], #64\n"
    "ldp x19, x20, [sp, #16]; ldp x21, x22, [sp, #32]; ldp x23, x24, [sp, #48]\n"
    "ldp x25, x26, [sp, #64]; ldp x27, x28, [sp, #80]; ldp x29, x30, [sp], #96\n"
    "ret\n");
#endif

static int readAll(void *into, size_t bytes) { return fread(into, 1, bytes, stdin) == bytes; }

int main(void) {
  long page = sysconf(_SC_PAGESIZE);
  uintptr_t from = (uintptr_t)code_slot & ~(uintptr_t)(page - 1);
  if (mprotect((void *)from, 2 * page, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return 2;
  if (mmap((void *)SCRATCH_MAP, SCRATCH_BYTES, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) return 3;
  stack_t elsewhere = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
  if (sigaltstack(&elsewhere, 0) != 0) return 4;
  struct sigaction action = {.sa_handler = caught, .sa_flags = SA_NODEFER | SA_ONSTACK};
  int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i += 1) sigaction(signals[i], &action, 0);
  unsigned char code[CODE_BYTES];
  while (readAll(code, sizeof code) && readAll(state.registers, sizeof state.registers)) {
    if (memcmp(code_slot, code, CODE_BYTES) != 0) {
      memcpy(code_slot, code, CODE_BYTES);
      __builtin___clear_cache(code_slot, code_slot + CODE_BYTES);
    }
    memset((void *)(SCRATCH - 2048), 0, 4096);
    volatile uint64_t status = 0;
    int number = sigsetjmp(out, 1);
    if (number == 0) execute();
    else status = (uint64_t)number;
    fwrite((const void *)&status, 8, 1, stdout);
    fwrite(state.registers, 8, SLOTS, stdout);
  }
  return 0;
}
