// For crun before 1.9 on a machine without CAP_SYS_RESOURCE: it ends when it cannot lift RLIMIT_MEMLOCK, which kernels
// since 5.11 do not ask of a BPF program. Preloaded, this lets that one call succeed without doing anything.
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	if (resource == RLIMIT_MEMLOCK)
		return 0;
	return syscall(SYS_prlimit64, 0, resource, limit, 0);
}
