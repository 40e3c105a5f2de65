# SPDX-License-Identifier: Apache-2.0
# A guest small enough for any KVM: 32-bit, no paging, entered by PVH. It fills every page from 16 to 80 MiB with the
# page's own address, then for ever reads them back and prints a dot a round, or X where a page is wrong. Between rounds
# it reads one key from the serial port: p prints a kernel panic and halts, v panics through pvpanic, o powers off,
# r resets, t faults three times, h halts, s spins in silence, m prints an out-of-memory line, anything else is echoed.
  .section .note.pvh,"a",@note
  .long 4
  .long 4
  .long 18
  .asciz "Xen"
  .long _start
  .text
  .code32
  .globl _start
_start:
  mov $0x200000,%esp
  mov $boot,%esi
  call print
  mov $0x1000000,%edi
1: mov %edi,(%edi)
  add $4096,%edi
  cmp $0x5000000,%edi
  jb 1b
  mov $filled,%esi
  call print
round:
  mov $0x1000000,%edi
2: cmp %edi,(%edi)
  jne bad
  add $4096,%edi
  cmp $0x5000000,%edi
  jb 2b
  mov $dot,%esi
  call print
  mov $0x3fd,%dx
  in %dx,%al
  test $1,%al
  jz round
  mov $0x3f8,%dx
  in %dx,%al
  cmp $'p',%al
  je panic
  cmp $'v',%al
  je pvpanic
  cmp $'o',%al
  je off
  cmp $'r',%al
  je reset
  cmp $'t',%al
  je triple
  cmp $'h',%al
  je halt
  cmp $'s',%al
  je spin
  cmp $'m',%al
  je memory
  mov %al,echoed
  mov $echo,%esi
  call print
  jmp round
bad:
  mov $wrong,%esi
  call print
halt:
  cli
  hlt
  jmp halt
spin:
  jmp spin
panic:
  mov $panicked,%esi
  call print
  jmp halt
memory:
  mov $killed,%esi
  call print
  jmp round
off:
  mov $0x600,%dx
  mov $0x34,%al
  out %al,%dx
  jmp halt
reset:
  mov $0x64,%dx
  mov $0xfe,%al
  out %al,%dx
  jmp halt
triple:
  lidt nothing
  int3
pvpanic:
  # Bus 0, every device: the one that says 1b36:0011 has its register at BAR 0.
  mov $0x80000000,%ebx
3: mov $0xcf8,%dx
  mov %ebx,%eax
  out %eax,%dx
  mov $0xcfc,%dx
  in %dx,%eax
  cmp $0x00111b36,%eax
  je 4f
  add $0x800,%ebx
  cmp $0x80010000,%ebx
  jb 3b
  jmp bad
4: mov $0xcf8,%dx
  lea 0x10(%ebx),%eax
  out %eax,%dx
  mov $0xcfc,%dx
  in %dx,%eax
  and $0xfffffff0,%eax
  movb $1,(%eax)
  jmp halt
print:
  mov $0x3f8,%dx
5: lodsb
  test %al,%al
  jz 6f
  out %al,%dx
  jmp 5b
6: ret
boot: .asciz "tiny guest\n"
filled: .asciz "filled\n"
dot: .asciz ".\n"
wrong: .asciz "X\n"
panicked: .asciz "Kernel panic - not syncing: asked for by a key\n"
killed: .asciz "Out of memory: Killed process 7 (asked) total-vm:1kB\n"
echo: .ascii "key "
echoed: .asciz " \n"
nothing: .word 0
  .long 0
