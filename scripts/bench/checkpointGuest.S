# SPDX-License-Identifier: Apache-2.0
# A guest for measuring checkpoints: 32-bit, no paging, entered by PVH. FILL_PAGES pages from 16 MiB on are loaded with it,
# each beginning with its own address. Prints "ready", then obeys keys from the serial port:
#   q  reads WORK_PAGES pages spread over them, compares each with its own address, and prints A (X where one is wrong)
#   d  writes into DIRTY_PAGES pages once and prints D        w  writes into them for ever, until the next key; prints W
# With TELLS it obeys nobody and does what q asks for, for ever.
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
  mov $ready,%esi
  call print
  .if TELLS
  jmp tell
  .endif
wait:
  mov $200,%ecx
3: pause
  loop 3b
  call key
obey:
  cmp $'q',%al
  je ask
  cmp $'d',%al
  je once
  cmp $'w',%al
  jne wait
  mov $writing,%esi
  call print
4: call dirty
  call key
  test %al,%al
  jz 4b
  jmp obey
once:
  call dirty
  mov $dirtied,%esi
  call print
  jmp wait
ask:
  call look
  jmp wait
tell:
  call look
  mov $20000,%ecx
5: pause
  loop 5b
  jmp tell
look:
  mov $0x1000000,%edi
  mov $WORK_PAGES,%ebp
5: cmp %edi,(%edi)
  jne bad
  add $(FILL_PAGES / WORK_PAGES * 4096),%edi
  dec %ebp
  jnz 5b
  mov $answer,%esi
  jmp print
bad:
  mov $wrong,%esi
  jmp print
dirty:
  mov $0x1000000,%edi
  mov $DIRTY_PAGES,%ecx
6: incl 3000(%edi)
  add $4096,%edi
  loop 6b
  ret
key:
  xor %eax,%eax
  mov $0x3fd,%dx
  in %dx,%al
  and $1,%al
  jz 7f
  mov $0x3f8,%dx
  in %dx,%al
7: ret
print:
  mov $0x3f8,%dx
8: lodsb
  test %al,%al
  jz 9f
  out %al,%dx
  jmp 8b
9: ret
ready: .asciz "ready\n"
answer: .asciz "A\n"
wrong: .asciz "X\n"
dirtied: .asciz "D\n"
writing: .asciz "W\n"
  .section .fill,"aw",@progbits
  .incbin "fill.bin"
