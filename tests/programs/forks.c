// SPDX-License-Identifier: Apache-2.0
/* Forks as told on standard input: `s N` a storm of N that end at once, `k N` N that wait for work until they are told to
 * end by SIGTERM, `c` counts those that live, `q` ends. Answers each order with a line. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int living;

static void reap(int wait_for_all)
{
    while (living > 0 && waitpid(-1, NULL, wait_for_all ? 0 : WNOHANG) > 0)
        living--;
}

static void fork_one(int waits)
{
    pid_t pid = fork();
    if (pid < 0)
        exit(3);
    if (pid > 0) {
        living++;
        return;
    }
    while (waits)
        pause();
    _exit(0);
}

int main(void)
{
    char order[64];
    while (fgets(order, sizeof order, stdin)) {
        int count = atoi(order + 1);
        for (int i = 0; i < count; i++) {
            fork_one(order[0] == 'k');
            if (order[0] == 's')
                reap(i % 8 == 7);
        }
        if (order[0] == 'w')
            reap(1);
        reap(0);
        if (order[0] == 'q')
            return 0;
        printf("%d\n", living);
        fflush(stdout);
    }
    return 0;
}
