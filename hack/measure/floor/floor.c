// The floor that hack/bench compares with: only the kernel work that bundles/default asks for, in one straight line.
// No state, no JSON, no checks of paths: it is no runtime and not safe as one. cgroup v2 only.
//
//     floor ROOTFS PROGRAM...             the whole life, as `run`
//     floor create FIFO ROOTFS PROGRAM... up to the execve, which waits; the number of init is written to FIFO.pid
//     floor start FIFO                    lets it go on, and returns once the program runs
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define MS_REC_SLAVE ((1 << 14) | (1 << 19))
#define DETACH 2

#define TRY(call)                                                          \
	({                                                                 \
		long result_ = (long)(call);                               \
		if (result_ < 0) {                                         \
			fprintf(stderr, "floor: %s: %m\n", #call);         \
			_exit(125);                                        \
		}                                                          \
		result_;                                                   \
	})

static void attach(int fd, const char *path)
{
	TRY(syscall(SYS_move_mount, fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH));
	close(fd);
}

// The options are pairs of key and value, ended by NULL.
static void mount_new(const char *type, const char *path, unsigned attributes, const char *const *options)
{
	int fs = TRY(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
	for (; options && *options; options += 2)
		TRY(syscall(SYS_fsconfig, fs, options[1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, options[0], options[1], 0));
	TRY(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	int fd = TRY(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes));
	close(fs);
	attach(fd, path);
}

static int clone_tree(const char *path, unsigned flags)
{
	return syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}

static void set_readonly(int fd)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	TRY(syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof attr));
}

static void mask_paths(void)
{
	static const char *const masked[] = { "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi" };
	static const char *const readonly[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" };
	const char *empty = NULL;
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
		struct stat st;
		if (stat(masked[i], &st) < 0)
			continue;
		if (!S_ISDIR(st.st_mode)) {
			attach(TRY(clone_tree("/dev/null", 0)), masked[i]);
		} else if (empty) {
			attach(TRY(clone_tree(empty, 0)), masked[i]);
		} else {
			mount_new("tmpfs", masked[i], MOUNT_ATTR_RDONLY, NULL);
			empty = masked[i];
		}
	}
	for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++) {
		int fd = clone_tree(readonly[i], AT_RECURSIVE);
		if (fd < 0 && errno == ENOENT)
			continue;
		TRY(fd);
		set_readonly(fd);
		attach(fd, readonly[i]);
	}
}

static void make_devices(void)
{
	static const struct { const char *name; int major, minor; } devices[] = { { "dev/null", 1, 3 }, { "dev/zero", 1, 5 },
		{ "dev/full", 1, 7 }, { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 } };
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		TRY(mknod(devices[i].name, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
	TRY(symlink("pts/ptmx", "dev/ptmx"));
	TRY(symlink("/proc/self/fd", "dev/fd"));
	TRY(symlink("/proc/self/fd/0", "dev/stdin"));
	TRY(symlink("/proc/self/fd/1", "dev/stdout"));
	TRY(symlink("/proc/self/fd/2", "dev/stderr"));
}

// CAP_KILL, CAP_NET_BIND_SERVICE and CAP_AUDIT_WRITE in every set.
static void keep_three_capabilities(void)
{
	const uint64_t keep = 1ull << CAP_KILL | 1ull << CAP_NET_BIND_SERVICE | 1ull << CAP_AUDIT_WRITE;
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap) < 0 && errno != EINVAL)
			TRY(-1);
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { keep, keep, 0 }, { 0, 0, 0 } };
	TRY(syscall(SYS_capset, &header, data));
	// Ambient capabilities need inheritable ones, which the bundle does not give: nothing to raise.
}

// fifo: what the execve waits for, and the end of a pipe that hears when it does; -1 where it does not wait.
static void container(const char *rootfs, char **program, int fifo, int ready)
{
	umask(0);
	TRY(unshare(CLONE_NEWCGROUP));
	TRY(setsid());
	TRY(mount(NULL, "/", NULL, MS_REC_SLAVE, NULL));
	attach(TRY(clone_tree(rootfs, AT_RECURSIVE)), rootfs);
	TRY(chdir(rootfs));

	const unsigned plain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV;
	mount_new("proc", "proc", 0, NULL);
	mount_new("tmpfs", "dev", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME,
		  (const char *[]){ "mode", "755", "size", "65536k", NULL });
	TRY(mkdir("dev/pts", 0755));
	TRY(mkdir("dev/shm", 0755));
	TRY(mkdir("dev/mqueue", 0755));
	mount_new("devpts", "dev/pts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
		  (const char *[]){ "newinstance", NULL, "ptmxmode", "0666", "mode", "0620", "gid", "5", NULL });
	mount_new("tmpfs", "dev/shm", plain, (const char *[]){ "mode", "1777", "size", "65536k", NULL });
	mount_new("mqueue", "dev/mqueue", plain, NULL);
	mount_new("sysfs", "sys", plain | MOUNT_ATTR_RDONLY, NULL);
	mount_new("cgroup2", "sys/fs/cgroup", plain | MOUNT_ATTR_RDONLY | MOUNT_ATTR_RELATIME, NULL);
	make_devices();

	TRY(syscall(SYS_pivot_root, ".", "."));
	TRY(umount2(".", DETACH));
	TRY(chdir("/"));
	mask_paths();
	struct mount_attr readonly = { .attr_set = MOUNT_ATTR_RDONLY };
	TRY(syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &readonly, sizeof readonly));

	int inet = TRY(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	TRY(ioctl(inet, SIOCSIFFLAGS, &lo));
	TRY(sethostname("runc", 4));
	struct rlimit files = { 1024, 1024 };
	TRY(setrlimit(RLIMIT_NOFILE, &files));
	TRY(setgroups(0, NULL));
	TRY(setresgid(0, 0, 0));
	TRY(setresuid(0, 0, 0));
	keep_three_capabilities();
	TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	umask(022);
	char *environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL };
	if (fifo >= 0) {
		// As runtimes wait for their `start`: this open returns when the other end is opened.
		char link[32], byte = 0;
		TRY(write(ready, &byte, 1));
		snprintf(link, sizeof link, "/proc/self/fd/%d", fifo);
		TRY(read(TRY(open(link, O_RDONLY | O_CLOEXEC)), &byte, 1));
	}
	TRY(execve(program[0], program, environment));
}

// The default devices of a container: the six above, ptmx and the pts; any node may be made.
static void limit_devices(int cgroup)
{
#define INSN(c, d, s, o, i) { .code = c, .dst_reg = d, .src_reg = s, .off = o, .imm = i }
#define ALLOW_IF(major, minor)                                   \
	INSN(BPF_JMP | BPF_JNE | BPF_K, 4, 0, 3, major),         \
	INSN(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 2, minor),         \
	INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),           \
	INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
	struct bpf_insn program[] = {
		INSN(BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0), // access << 16 | type
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0),
		INSN(BPF_ALU64 | BPF_RSH | BPF_K, 3, 0, 0, 16),
		INSN(BPF_ALU64 | BPF_AND | BPF_K, 2, 0, 0, 0xffff),
		INSN(BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0), // major
		INSN(BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0), // minor
		INSN(BPF_JMP | BPF_JNE | BPF_K, 3, 0, 2, BPF_DEVCG_ACC_MKNOD),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 31, BPF_DEVCG_DEV_CHAR),
		ALLOW_IF(1, 3), ALLOW_IF(1, 5), ALLOW_IF(1, 7), ALLOW_IF(1, 8), ALLOW_IF(1, 9), ALLOW_IF(5, 0), ALLOW_IF(5, 2),
		INSN(BPF_JMP | BPF_JNE | BPF_K, 4, 0, 2, 136),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (uint64_t)program,
		.insn_cnt = sizeof program / sizeof *program, .license = (uint64_t) "Apache" };
	int fd = TRY(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
	union bpf_attr attr = { .target_fd = cgroup, .attach_bpf_fd = fd, .attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI };
	TRY(syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr));
	close(fd);
}

// What `start` is at least: find init, wake it, wait until its execve has closed the other end.
static int start(const char *fifo)
{
	int fd = TRY(open(fifo, O_WRONLY | O_CLOEXEC));
	TRY(write(fd, "", 1));
	struct pollfd closed = { .fd = fd };
	TRY(poll(&closed, 1, -1));
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: floor ROOTFS PROGRAM... | floor create FIFO ROOTFS PROGRAM... | floor start FIFO\n");
	return 2;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "start"))
		return start(argv[2]);
	const char *name = NULL;
	int fifo = -1, ready[2] = { -1, -1 };
	if (argc > 1 && !strcmp(argv[1], "create")) {
		if (argc < 5)
			return usage();
		name = argv[2];
		TRY(mkfifo(name, 0600));
		fifo = TRY(open(name, O_PATH | O_CLOEXEC));
		TRY(pipe2(ready, O_CLOEXEC));
		argv += 2;
		argc -= 2;
	}
	if (argc < 3)
		return usage();
	char path[64];
	snprintf(path, sizeof path, "/sys/fs/cgroup/hull-floor-%d", getpid());
	TRY(mkdir(path, 0755));
	int cgroup = TRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	limit_devices(cgroup);
	struct clone_args args = { .flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD, .cgroup = cgroup };
	pid_t pid = TRY(syscall(SYS_clone3, &args, sizeof args));
	if (pid == 0)
		container(argv[1], argv + 2, fifo, ready[1]);
	if (name) {
		char file[4096], byte;
		close(ready[1]);
		if (TRY(read(ready[0], &byte, 1)) != 1)
			return 125;
		snprintf(file, sizeof file, "%s.pid", name);
		FILE *out = fopen(file, "w");
		if (!out || fprintf(out, "%d\n%s\n", pid, path) < 0 || fclose(out))
			TRY(-1);
		return 0;
	}
	int status;
	TRY(waitpid(pid, &status, 0));
	TRY(rmdir(path));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
