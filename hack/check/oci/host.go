// What the programs do on the host: mounts of their own, namespaces to join, cgroups to look at.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func mountTmpfs(path string) error { return unix.Mount("tmpfs", path, "tmpfs", 0, "size=64k") }
func share(path string) error      { return unix.Mount("", path, "", unix.MS_SHARED, "") }
func unmount(path string)          { unix.Unmount(path, unix.MNT_DETACH) }

// unmountBelow takes away what a container without a mount namespace of its own left in ours: what is removed next must not
// be the inside of a mount.
func unmountBelow(dir string) {
	for place, stack := range mountinfo() {
		for range stack {
			if strings.HasPrefix(place, dir+"/") {
				unmount(place)
			}
		}
	}
}

func mknodHost(path, kind string, major, minor uint32) error {
	mode := uint32(unix.S_IFCHR)
	if kind == "b" {
		mode = unix.S_IFBLK
	}
	return unix.Mknod(path, mode|0o600, int(unix.Mkdev(major, minor)))
}

// holder is a process in new namespaces that can be joined by path; it ends with the program.
func (t *T) holder(flags uintptr) (int, error) {
	command := exec.Command("/bin/sleep", "100")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if flags == unix.CLONE_NEWTIME {
		// clone(2) has no room for it; what is executed after unshare is in it.
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: flags, Pdeathsig: syscall.SIGKILL}
	}
	// The death signal comes when the thread ends that made the process.
	runtime.LockOSThread()
	if err := command.Start(); err != nil {
		return 0, err
	}
	t.later(func() {
		command.Process.Kill()
		command.Wait()
	})
	return command.Process.Pid, nil
}

// alive tells whether a process has a thread that runs.
func alive(pid int) bool {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return pid > 0 && len(tasks) > 1
}

// Group is a cgroup that the program made, as cgroupsPath says it and as a directory of one hierarchy.
type Group struct{ path, dir string }

// hierarchies are the directories where cgroups are mounted: name of the controller to mount point.
func hierarchies() map[string]string {
	found := map[string]string{}
	for _, line := range strings.Split(text("/proc/self/mountinfo"), "\n") {
		before, after, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) < 3 {
			continue
		}
		switch kind[0] {
		case "cgroup2":
			found["unified"] = fields[4]
		case "cgroup":
			for _, option := range strings.Split(kind[2], ",") {
				switch option {
				case "rw", "ro", "xattr", "clone_children", "noprefix":
				default:
					found[option] = fields[4]
				}
			}
		}
	}
	return found
}

// onlyV2 tells a machine that has no hierarchy of v1.
func onlyV2() bool {
	found := hierarchies()
	return len(found) == 1 && found["unified"] != ""
}

// cgroupsOf is where a process is, as directories.
func cgroupsOf(pid int) []string {
	mounted := hierarchies()
	var dirs []string
	for _, line := range strings.Split(text(fmt.Sprintf("/proc/%d/cgroup", pid)), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) < 3 {
			continue
		}
		names := strings.Split(fields[1], ",")
		if fields[0] == "0" {
			names = []string{"unified"}
		}
		for _, name := range names {
			if at := mounted[name]; at != "" {
				dirs = append(dirs, filepath.Join(at, fields[2]))
			}
		}
	}
	return dirs
}

// groupOf is the directory of a process in one hierarchy, or nothing.
func groupOf(pid int, controller string) string {
	mounted := hierarchies()
	for _, line := range strings.Split(text(fmt.Sprintf("/proc/%d/cgroup", pid)), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) < 3 {
			continue
		}
		if fields[0] == "0" && controller == "unified" && mounted["unified"] != "" {
			return filepath.Join(mounted["unified"], fields[2])
		}
		for _, name := range strings.Split(fields[1], ",") {
			if name == controller && mounted[name] != "" {
				return filepath.Join(mounted[name], fields[2])
			}
		}
	}
	return ""
}

// cgroupOfOurs makes a cgroup in one hierarchy.
func cgroupOfOurs(t *T, name string) *Group {
	mounted := hierarchies()
	for _, controller := range []string{"pids", "freezer", "unified"} {
		if mounted[controller] == "" {
			continue
		}
		_, mark := t.marks()
		path := "/" + mark + name
		dir := mounted[controller] + path
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		return &Group{path, dir}
	}
	return nil
}

// removeGroups ends and removes what a runtime left in cgroups whose name begins with one of the marks.
func removeGroups(marks ...string) {
	for _, at := range hierarchies() {
		var dirs []string
		filepath.WalkDir(at, func(dir string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				for _, element := range strings.Split(strings.TrimPrefix(dir, at), "/") {
					if begins(element, marks) {
						dirs = append(dirs, dir)
						break
					}
				}
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			for _, pid := range strings.Fields(text(filepath.Join(dirs[i], "cgroup.procs"))) {
				if number, err := strconv.Atoi(pid); err == nil && number > 1 {
					syscall.Kill(number, syscall.SIGKILL)
				}
			}
			eventually(func() bool { return os.Remove(dirs[i]) == nil || !exists(dirs[i]) })
		}
	}
}

func begins(name string, marks []string) bool {
	for _, mark := range marks {
		if strings.HasPrefix(name, mark) {
			return true
		}
	}
	return false
}
