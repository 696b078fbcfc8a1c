/* Runs commands under ptrace(2) and lets one system call of a process fail, or kills the process there. A server: one
 * request a line on stdin, its fields separated by tabs, one answer a line on stdout.
 *
 *   MODE SIDE NTH ERRNO INIT OUT ERR COMMAND...
 *
 *   MODE   plain: without ptrace. count: only counts. fail: the NTH call of SIDE is answered with ERRNO and does nothing.
 *          kill: the process is killed at that call. both: setup and init are, whoever of them makes the call.
 *   SIDE   setup: the command itself. init: the first process that it clones, until it executes the program; or the
 *          process INIT, which waits for `start`; -1: the command has none. helper: the other children of these two,
 *          until they execute.
 *   OUT, ERR  files for the command's stdout and stderr.
 *
 *   at=CALL status=N setup=N init=N helper=N ms=N children=PID,PID setup-calls=N,N init-calls=N,N helper-calls=N,N
 *
 * `at` is the number of the call or -1; `status` is 128+n for a signal, -1 when the deadline (argv[1], in seconds) came
 * first; then the calls of each side. Calls are counted in setup from main's first one, a poll; with argv[2], the name
 * of a peer, from the program's entry point on, and children of its own that run it again count as init. `children`
 * are the processes that are left of it, and of earlier commands: all orphans come here. At the end `count` has the
 * number of each call that it counted. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SETUP, INIT, HELPER, UNKNOWN };
enum { PLAIN, COUNT, FAIL, KILL, BOTH };
enum { MOST = 1024, FIELDS = 64, LISTED = 16384 };
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE \
                 | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

struct tracee { pid_t pid; int side, failing, held; };
static struct tracee tracees[MOST];
static int tracee_count;
static long calls[UNKNOWN];
static short numbers[UNKNOWN][LISTED];
static const char *peer;
static volatile sig_atomic_t timed_out;
static long deadline;

static struct tracee *find(pid_t pid) {
    struct tracee *free_one = NULL;
    for (int i = 0; i < tracee_count; i++) {
        if (tracees[i].pid == pid)
            return &tracees[i];
        if (tracees[i].pid == 0)
            free_one = &tracees[i];
    }
    if (!free_one && tracee_count == MOST)
        exit(3);
    if (!free_one)
        free_one = &tracees[tracee_count++];
    *free_one = (struct tracee){ .pid = pid, .side = UNKNOWN };
    return free_one;
}

/* Calls that the kernel never fails; a process that cannot leave has no way to say so. */
static int cannot_fail(long call) {
    switch (call) {
    case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_restart_syscall: case SYS_umask: case SYS_getpid:
    case SYS_getppid: case SYS_gettid: case SYS_getuid: case SYS_getgid: case SYS_geteuid: case SYS_getegid:
    case SYS_sched_yield:
        return 1;
    /* What a peer's language runtime does for itself, and the kernel does not refuse either. */
    case SYS_futex: case SYS_rt_sigaction: case SYS_rt_sigprocmask: case SYS_sigaltstack: case SYS_set_robust_list:
    case SYS_rseq: case SYS_set_tid_address: case SYS_arch_prctl: case SYS_nanosleep: case SYS_madvise: case SYS_tgkill:
        return peer != NULL;
    }
    return 0;
}

static void alarmed(int signal) {
    (void)signal;
    timed_out = 1;
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The alarm goes off again and again: the first one may come just before waitpid. */
static void set_alarm(long ms) {
    struct itimerval timer = { { 0, ms ? 20000 : 0 }, { ms / 1000, ms % 1000 * 1000 } };
    timed_out = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
}

static int is_thread_of(pid_t child, pid_t process) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d", process, child);
    return access(path, F_OK) == 0;
}

/* Whether a child of a peer has executed the peer once more. */
static int runs_peer(pid_t pid) {
    char path[64], exe[4096] = "";
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    if (!peer || readlink(path, exe, sizeof exe - 1) < 0)
        return 0;
    return strstr(exe, peer) != NULL;
}

/* Where the program begins, behind the dynamic loader. */
static unsigned long entry_point(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/auxv", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    Elf64_auxv_t entry;
    unsigned long found = 0;
    while (fd >= 0 && read(fd, &entry, sizeof entry) == sizeof entry && entry.a_type != AT_NULL)
        if (entry.a_type == AT_ENTRY)
            found = entry.a_un.a_val;
    if (fd >= 0)
        close(fd);
    return found;
}

/* A process that is stopped goes on without a tracer; a signal that it was about to get stays its own. */
static void let_go(struct tracee *tracee, int status) {
    int signal = status >> 16 ? 0 : WSTOPSIG(status);
    ptrace(PTRACE_DETACH, tracee->pid, 0, signal == SIGTRAP || signal == (SIGTRAP | 0x80) ? 0 : signal);
    tracee->pid = 0;
}

/* The others are asked to stop, so that they can be let go as well: a process stops when it can, and one that waits for its
 * vfork child only when that one went on. */
static void interrupt_all(void) {
    for (int i = 0; i < tracee_count; i++) {
        if (tracees[i].pid && tracees[i].held)
            let_go(&tracees[i], SIGTRAP << 8);
        if (tracees[i].pid)
            ptrace(PTRACE_INTERRUPT, tracees[i].pid, 0, 0);
    }
}

static pid_t launch(char **command, const char *out, const char *err, int traced) {
    int go[2];
    if (pipe2(go, O_CLOEXEC) < 0)
        exit(3);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        int null = open("/dev/null", O_RDONLY), outs = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666);
        int errs = open(err, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666);
        dup2(null, 0);
        dup2(outs, 1);
        dup2(errs, 2);
        for (int fd = 3; fd < 32; fd++)
            if (fd != go[0])
                close(fd);
        if (read(go[0], &byte, 1) == 1)
            execv(command[0], command);
        _exit(127);
    }
    close(go[0]);
    if (traced && ptrace(PTRACE_SEIZE, pid, 0, OPTIONS) < 0)
        exit(3);
    if (write(go[1], "x", 1) != 1)
        exit(3);
    close(go[1]);
    return pid;
}

static int run_plain(pid_t pid) {
    int status;
    for (;;) {
        pid_t ended = waitpid(-1, &status, __WALL);
        if (ended == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (timed_out) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        if (ended < 0 && errno != EINTR)
            exit(3);
    }
}

struct request { int mode, side, error; long nth; pid_t init; };

static int run_traced(pid_t setup, struct request *ask, long *hit) {
    int status, result = -1, ended = 0, counting = 0, releasing = 0;
    long breakpoint_word = 0;
    unsigned long breakpoint = 0;
    pid_t init = ask->init;
    find(setup)->side = SETUP;
    if (init > 0 && ptrace(PTRACE_SEIZE, init, 0, OPTIONS) == 0) {
        find(init)->side = INIT;
        ptrace(PTRACE_INTERRUPT, init, 0, 0);
    }
    for (;;) {
        int others = 0;
        for (int i = 0; i < tracee_count; i++)
            others += tracees[i].pid != 0;
        if (ended && !others)
            break;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (timed_out) {
            /* init waits for start: nothing more comes. */
            if (ended && !releasing) {
                releasing = 1;
                set_alarm(deadline);
                interrupt_all();
                continue;
            }
            for (int i = 0; i < tracee_count; i++)
                if (tracees[i].pid)
                    kill(tracees[i].pid, SIGKILL);
            kill(setup, SIGKILL);
            tracee_count = 0;
            return -1;
        }
        if (pid < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == setup) {
                result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                ended = 1;
                /* A little time for what init still does. */
                if (!releasing)
                    set_alarm(5);
            }
            for (int i = 0; i < tracee_count; i++)
                if (tracees[i].pid == pid)
                    tracees[i].pid = 0;
            continue;
        }
        struct tracee *tracee = find(pid);
        int signal = WSTOPSIG(status), event = status >> 16;
        long deliver = 0;
        if (releasing) {
            unsigned long child = 0;
            if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK)
                if (ptrace(PTRACE_GETEVENTMSG, pid, 0, &child) == 0 && child)
                    find(child);
            let_go(find(pid), status);
            continue;
        }
        if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
            unsigned long child = 0;
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &child);
            struct tracee *new = find(child);
            int from = find(pid)->side;
            if (is_thread_of(child, pid))
                new->side = from;
            else if (from == SETUP && (!init || peer)) {
                /* init is the first process that setup clones: helpers and hooks come later. */
                new->side = INIT;
                init = child;
            } else
                new->side = peer && from == INIT ? INIT : HELPER;
            if (new->held) {
                new->held = 0;
                ptrace(PTRACE_SYSCALL, child, 0, 0);
            }
        } else if (tracee->side == UNKNOWN) {
            /* It was faster than its parent's event, which says who it is. */
            tracee->held = 1;
            continue;
        } else if (event == PTRACE_EVENT_EXEC) {
            if (tracee->side != SETUP && !runs_peer(pid)) {
                tracee->pid = 0;
                ptrace(PTRACE_DETACH, pid, 0, 0);
                continue;
            }
            if (pid == setup && peer && !counting && (breakpoint = entry_point(pid))) {
                breakpoint_word = ptrace(PTRACE_PEEKTEXT, pid, breakpoint, 0);
                ptrace(PTRACE_POKETEXT, pid, breakpoint, (breakpoint_word & ~0xffl) | 0xcc);
            }
        } else if (event) {
            /* The stop of a new tracee or of a stopped group. */
        } else if (signal == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info info;
            memset(&info, 0, sizeof info);
            ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info);
            struct user_regs_struct regs;
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                long call = info.entry.nr;
                if (tracee->side == SETUP && (call == SYS_poll || call == SYS_ppoll) && !peer)
                    counting = 1;
                if (counting && !cannot_fail(call)) {
                    if (calls[tracee->side] < LISTED)
                        numbers[tracee->side][calls[tracee->side]] = call;
                    calls[tracee->side]++;
                    if (ask->nth && tracee->side == ask->side && calls[tracee->side] == ask->nth) {
                        *hit = call;
                        if (ask->mode == BOTH)
                            for (int i = 0; i < tracee_count; i++)
                                if (tracees[i].pid && tracees[i].side <= INIT)
                                    kill(tracees[i].pid, SIGKILL);
                        if (ask->mode == KILL)
                            kill(pid, SIGKILL);
                        if (ask->mode >= KILL) {
                            releasing = 1;
                            set_alarm(deadline);
                            interrupt_all();
                            continue;
                        }
                        if (ask->mode == FAIL) {
                            tracee->failing = 1;
                            /* close(2) closes, whatever it answers. */
                            if (call != SYS_close) {
                                ptrace(PTRACE_GETREGS, pid, 0, &regs);
                                regs.orig_rax = -1;
                                ptrace(PTRACE_SETREGS, pid, 0, &regs);
                            }
                        }
                    }
                }
            } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && tracee->failing) {
                ptrace(PTRACE_GETREGS, pid, 0, &regs);
                regs.rax = -(long)ask->error;
                ptrace(PTRACE_SETREGS, pid, 0, &regs);
                /* Nothing more is to be done: they go on at full speed. */
                releasing = 1;
                set_alarm(deadline);
                let_go(tracee, SIGTRAP << 8);
                interrupt_all();
                continue;
            }
        } else if (signal == SIGTRAP && breakpoint && pid == setup) {
            struct user_regs_struct regs;
            ptrace(PTRACE_POKETEXT, pid, breakpoint, breakpoint_word);
            ptrace(PTRACE_GETREGS, pid, 0, &regs);
            regs.rip = breakpoint;
            ptrace(PTRACE_SETREGS, pid, 0, &regs);
            breakpoint = 0;
            counting = 1;
        } else {
            deliver = signal;
        }
        ptrace(PTRACE_SYSCALL, pid, 0, deliver);
    }
    return result;
}

static int number_of(const char *word, const char *const *words) {
    for (int i = 0; words[i]; i++)
        if (!strcmp(word, words[i]))
            return i;
    exit(2);
}

int main(int argc, char **argv) {
    static const char *const modes[] = { "plain", "count", "fail", "kill", "both", NULL };
    static const char *const sides[] = { "setup", "init", "helper", NULL };
    deadline = argc > 1 ? atol(argv[1]) * 1000 : 15000;
    peer = argc > 2 ? argv[2] : NULL;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    struct sigaction action = { .sa_handler = alarmed };
    sigaction(SIGALRM, &action, NULL);
    char *line = NULL, *fields[FIELDS];
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) > 0) {
        line[length - 1] = 0;
        int count = 0;
        for (char *rest = line, *field; count < FIELDS - 1 && (field = strsep(&rest, "\t"));)
            fields[count++] = field;
        fields[count] = NULL;
        if (count < 8)
            exit(2);
        struct request ask = { .mode = number_of(fields[0], modes), .side = number_of(fields[1], sides),
                               .nth = atol(fields[2]), .error = atoi(fields[3]), .init = atoi(fields[4]) };
        memset(calls, 0, sizeof calls);
        tracee_count = 0;
        long hit = -1, began = now_ms();
        pid_t pid = launch(fields + 7, fields[5], fields[6], ask.mode != PLAIN);
        set_alarm(deadline);
        int result = ask.mode == PLAIN ? run_plain(pid) : run_traced(pid, &ask, &hit);
        set_alarm(0);
        long took = now_ms() - began;
        while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
            ;
        char path[64], children[4096] = "";
        snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? 0 : read(fd, children, sizeof children - 1);
        close(fd);
        children[got > 0 ? got : 0] = 0;
        for (char *at = children; *at; at++)
            if (*at == ' ')
                *at = ',';
        printf("at=%ld status=%d setup=%ld init=%ld helper=%ld ms=%ld children=%s", hit, result, calls[SETUP], calls[INIT],
               calls[HELPER], took, children);
        for (int side = 0; side < UNKNOWN && ask.mode == COUNT; side++) {
            printf(" %s-calls=", sides[side]);
            for (long i = 0; i < calls[side] && i < LISTED; i++)
                printf("%d,", numbers[side][i]);
        }
        puts("");
        fflush(stdout);
    }
    return 0;
}
