/* Runs a command instruction by instruction and writes the addresses of the program that it executes, each once, in the
   order of their first execution: `executed FILE COMMAND [ARGUMENT]...`. The processes that it forks are followed until
   they execute another program. Addresses are those of the ELF file. x86_64 only. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROOM = 64 << 20 };
static unsigned char seen[ROOM];

static unsigned long long entry_of(const char *path) {
    Elf64_Ehdr header;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &header, sizeof header) != sizeof header) {
        perror(path);
        exit(1);
    }
    close(fd);
    return header.e_entry;
}

int main(int argc, char **argv) {
    FILE *out = argc < 3 ? NULL : fopen(argv[1], "we");
    if (!out) {
        fprintf(stderr, "usage: executed FILE COMMAND [ARGUMENT]...\n");
        return 2;
    }
    unsigned long long entry = entry_of(argv[2]), base = 0;
    pid_t root = fork();
    if (root == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    int status = 0, result = 1;
    waitpid(root, &status, 0);
    long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    ptrace(PTRACE_SETOPTIONS, root, 0, options);
    ptrace(PTRACE_CONT, root, 0, 0);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == root)
                result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            continue;
        }
        struct user_regs_struct registers;
        ptrace(PTRACE_GETREGS, pid, 0, &registers);
        if (status >> 16 == PTRACE_EVENT_EXEC) {
            if (base != 0) {
                ptrace(PTRACE_DETACH, pid, 0, 0);
                continue;
            }
            base = registers.rip - entry;
        }
        unsigned long long at = registers.rip - base;
        if (at < ROOM && !seen[at]) {
            seen[at] = 1;
            fprintf(out, "%llx\n", at);
        }
        int signal = WSTOPSIG(status);
        ptrace(PTRACE_SINGLESTEP, pid, 0, signal == SIGTRAP || signal == SIGSTOP ? 0 : signal);
    }
    fclose(out);
    return result;
}
