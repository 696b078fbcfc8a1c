/* The program of the containers of hack/test-faults: it prints what it is and what it may, as the kernel says it, so that
 * the script can hold it against the same of a run without a fault. Static, since the root has nothing else.
 *
 *   probe              prints, says "end", and sleeps until a signal comes
 *   probe once         prints, says "end", and ends
 *   probe hook NAME F  a hook: appends NAME to F */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static char text[1 << 16];

static void print_file(const char *path) {
    int fd = open(path, O_RDONLY);
    long got = fd < 0 ? -1 : read(fd, text, sizeof text - 1), had = 0;
    while (fd >= 0 && got > 0) {
        had += got;
        got = read(fd, text + had, sizeof text - 1 - had);
    }
    if (fd >= 0)
        close(fd);
    text[had] = 0;
    if (fd < 0)
        printf("%s: errno %d\n", path, errno);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        printf("%s: %s\n", path, line);
}

static void print_links(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char target[4096];
        ssize_t length = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        if (length < 0 || atoi(entry->d_name) == dirfd(dir))
            continue;
        target[length] = 0;
        printf("%s/%s: %s\n", path, entry->d_name, target);
    }
    if (dir)
        closedir(dir);
}

static void print_nodes(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct stat stat;
        if (fstatat(dirfd(dir), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0 && strcmp(entry->d_name, ".."))
            printf("%s/%s: %o %u:%u %d:%d\n", path, entry->d_name, stat.st_mode, major(stat.st_rdev), minor(stat.st_rdev),
                   stat.st_uid, stat.st_gid);
    }
    if (dir)
        closedir(dir);
}

static void print_result(const char *what, long result) {
    printf("%s: %d errno %d\n", what, result < 0 ? -1 : 0, result < 0 ? errno : 0);
}

int main(int argc, char **argv) {
    if (argc > 3 && !strcmp(argv[1], "hook")) {
        /* To its end: crun dies of a hook that does not read its state (SIGPIPE). */
        while (read(0, text, sizeof text) > 0)
            ;
        int fd = open(argv[3], O_WRONLY | O_CREAT | O_APPEND, 0666);
        dprintf(fd, "%s\n", argv[2]);
        return fd < 0;
    }
    print_file("/proc/self/status");
    const char *files[] = { "uid_map", "gid_map", "setgroups", "mountinfo", "limits", "oom_score_adj", "cgroup",
                            "timens_offsets", "personality", "loginuid", "cmdline" };
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/%s", files[i]);
        print_file(path);
    }
    print_links("/proc/self/fd");
    print_links("/proc/self/ns");
    print_nodes("/dev");
    print_file("/proc/sys/kernel/hostname");
    print_file("/proc/sys/kernel/domainname");
    print_file("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    print_file("/proc/net/dev");
    getcwd(text, sizeof text);
    printf("cwd: %s\n", text);
    for (char **variable = environ; *variable; variable++)
        printf("env: %s\n", *variable);
    printf("session: %d group: %d\n", getsid(0) == getpid(), getpgid(0) == getpid());
    int value = -1;
    prctl(PR_GET_PDEATHSIG, &value);
    printf("death signal: %d\n", value);
    printf("dumpable: %d\n", prctl(PR_GET_DUMPABLE));
    printf("securebits: %d\n", prctl(PR_GET_SECUREBITS));
    printf("keep capabilities: %d\n", prctl(PR_GET_KEEPCAPS));
    prctl(PR_GET_CHILD_SUBREAPER, &value);
    printf("subreaper: %d\n", value);
    printf("io priority: %ld\n", syscall(SYS_ioprio_get, 1, 0));
    printf("scheduler: %ld\n", syscall(SYS_sched_getscheduler, 0));
    /* KEYCTL_DESCRIBE of the session keyring. */
    long length = syscall(SYS_keyctl, 6, -3, text, sizeof text);
    printf("keyring: %s\n", length > 0 ? text : "none");
    print_result("make a file in the root", open("/made", O_CREAT | O_WRONLY, 0600));
    print_result("write a kernel parameter", open("/proc/sys/kernel/core_pattern", O_WRONLY));
    print_result("read kcore", open("/proc/kcore", O_RDONLY));
    /* Another of these programs may be at it in the same container. */
    char node[64];
    snprintf(node, sizeof node, "/tmp/kmsg-%d", getpid());
    print_result("make the device 1:11", mknod(node, S_IFCHR | 0600, makedev(1, 11)));
    print_result("open the device 1:11", open(node, O_RDONLY));
    unlink(node);
    print_result("open the bound device 1:11", open("/log/kmsg", O_RDONLY | O_NONBLOCK));
    print_result("swapon", syscall(SYS_swapon, "/none", 0));
    printf("end\n");
    fflush(stdout);
    if (argc > 1 && !strcmp(argv[1], "once"))
        return 0;
    /* Process 1 has no default actions: without this the TERM of an engine is lost. */
    signal(SIGTERM, _exit);
    for (;;)
        pause();
}
