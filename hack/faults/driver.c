/* Runs hull under ptrace(2) and lets one system call of one of its processes fail, or kills the process there.
 *
 *   driver count -- COMMAND...               how many calls setup and init make: "setup N" and "init N"
 *   driver fail SIDE NTH ERRNO -- COMMAND... the NTH call of setup or init fails with this number
 *   driver kill SIDE NTH -- COMMAND...       the process is killed at its NTH call
 *
 * Calls are counted from main's first one (poll) in setup, and from its birth in init until it executes the program.
 * Prints "at CALL" (its number) and "status N" (128+n for a signal), or "status hang" when ten seconds are over. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SETUP, INIT, OTHER };
static struct { pid_t pid; int side, counting, failing; long calls; } tracees[64];
static int tracee_count;
static pid_t setup, init_pid;
static volatile sig_atomic_t timed_out;

static int find(pid_t pid) {
    for (int i = 0; i < tracee_count; i++)
        if (tracees[i].pid == pid)
            return i;
    if (tracee_count == 64)
        exit(3);
    tracees[tracee_count].pid = pid;
    tracees[tracee_count].side = OTHER;
    return tracee_count++;
}

/* Calls that the kernel never fails; and a process that cannot leave has no way to say so. */
static int cannot_fail(long call) {
    switch (call) {
    case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_umask: case SYS_getpid: case SYS_getppid:
    case SYS_gettid: case SYS_getuid: case SYS_getgid: case SYS_geteuid: case SYS_getegid: case SYS_sched_yield:
        return 1;
    }
    return 0;
}

static void alarmed(int signal) {
    (void)signal;
    timed_out = 1;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    int dash = 1;
    while (dash < argc && strcmp(argv[dash], "--"))
        dash++;
    if (dash + 1 >= argc)
        return 2;
    int side = dash > 2 && !strcmp(argv[2], "init") ? INIT : SETUP;
    long nth = dash > 3 ? atol(argv[3]) : 0;
    int error = dash > 4 ? atoi(argv[4]) : 0, killing = !strcmp(mode, "kill");

    setup = fork();
    if (setup == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execvp(argv[dash + 1], argv + dash + 1);
        _exit(127);
    }
    int status;
    waitpid(setup, &status, __WALL);
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    ptrace(PTRACE_SETOPTIONS, setup, 0, options);
    tracees[find(setup)].side = SETUP;
    ptrace(PTRACE_SYSCALL, setup, 0, 0);
    struct sigaction action = { .sa_handler = alarmed };
    sigaction(SIGALRM, &action, NULL);
    alarm(10);

    int result = -1;
    while (result < 0) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (timed_out) {
            for (int i = 0; i < tracee_count; i++)
                kill(tracees[i].pid, SIGKILL);
            printf("status hang\n");
            return 0;
        }
        if (pid < 0)
            break;
        int at = find(pid);
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == setup)
                result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            tracees[at].pid = -1;
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        long deliver = 0;
        if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
            unsigned long child;
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &child);
            int new = find(child);
            /* init is the first process that setup clones: helpers and hooks come later. */
            if (pid == setup && !init_pid) {
                init_pid = child;
                tracees[new].side = INIT;
                tracees[new].counting = 1;
            }
        } else if (event == PTRACE_EVENT_EXEC) {
            if (tracees[at].side != SETUP) {
                ptrace(PTRACE_DETACH, pid, 0, 0);
                continue;
            }
        } else if (signal == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info info;
            memset(&info, 0, sizeof info);
            ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info);
            struct user_regs_struct regs;
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                long call = info.entry.nr;
                if (tracees[at].side == SETUP && call == SYS_poll)
                    tracees[at].counting = 1;
                if (tracees[at].counting && !cannot_fail(call)) {
                    tracees[at].calls++;
                    if (nth && tracees[at].side == side && tracees[at].calls == nth) {
                        printf("at %ld\n", call);
                        fflush(stdout);
                        if (killing) {
                            kill(pid, SIGKILL);
                            continue;
                        }
                        ptrace(PTRACE_GETREGS, pid, 0, &regs);
                        regs.orig_rax = -1;
                        ptrace(PTRACE_SETREGS, pid, 0, &regs);
                        tracees[at].failing = 1;
                    }
                }
            } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && tracees[at].failing) {
                ptrace(PTRACE_GETREGS, pid, 0, &regs);
                regs.rax = -(long)error;
                ptrace(PTRACE_SETREGS, pid, 0, &regs);
                tracees[at].failing = 0;
            }
        } else if (signal != SIGSTOP && signal != SIGTRAP) {
            deliver = signal;
        }
        ptrace(PTRACE_SYSCALL, pid, 0, deliver);
    }
    long calls[2] = { 0, 0 };
    for (int i = 0; i < tracee_count; i++)
        if (tracees[i].side != OTHER)
            calls[tracees[i].side] += tracees[i].calls;
    /* What still runs goes on without a tracer. */
    for (int i = 0; i < tracee_count; i++)
        if (tracees[i].pid > 0) {
            kill(tracees[i].pid, SIGSTOP);
            if (waitpid(tracees[i].pid, &status, __WALL) == tracees[i].pid && WIFSTOPPED(status))
                ptrace(PTRACE_DETACH, tracees[i].pid, 0, 0);
            kill(tracees[i].pid, SIGCONT);
        }
    if (!strcmp(mode, "count"))
        printf("setup %ld\ninit %ld\n", calls[SETUP], calls[INIT]);
    printf("status %d\n", result);
    return 0;
}
