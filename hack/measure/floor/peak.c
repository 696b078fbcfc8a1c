// Prints the peak memory (KiB) of a command and of all that it waited for. A small static program starts it, since the
// kernel counts the memory of whoever calls execve, too: what python or GNU time needs would be the least figure.
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv, char **environment)
{
	int status;
	struct rusage usage;
	if (argc < 3)
		return 2;
	pid_t pid = vfork();
	if (pid == 0) {
		execve(argv[2], argv + 2, environment);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &usage) < 0 || status != 0)
		return 1;
	FILE *file = fopen(argv[1], "w");
	return !file || fprintf(file, "%ld\n", usage.ru_maxrss) < 0 || fclose(file) != 0;
}
