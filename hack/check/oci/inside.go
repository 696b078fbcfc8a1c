// What runs in the container: the probe, which says in JSON what it sees, and the hook, which notes that it ran.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Probe is what the program shall look at beside the usual.
type Probe struct {
	Stat  []string `json:"stat,omitempty"`
	Read  []string `json:"read,omitempty"`
	Write []string `json:"write,omitempty"`
	Mknod []string `json:"mknod,omitempty"`
	Calls []string `json:"calls,omitempty"`
	Text  []string `json:"text,omitempty"`
	// The program notes that it is ready, and each signal, until one of them is TERM or its time is over.
	Wait bool `json:"wait,omitempty"`
}

// File is what lstat says.
type File struct {
	Error  string
	Type   string
	Mode   uint32
	UID    uint32
	GID    uint32
	Major  uint32
	Minor  uint32
	Target string
}

// Report is what the program sees.
type Report struct {
	PID                int
	SID                int
	UID, GID           int
	Groups             []int
	Umask              int
	Cwd                string
	Args               []string
	Env                []string
	Status             map[string]string
	OomScoreAdj        string
	Rlimits            map[string][2]uint64
	Hostname, Domain   string
	Machine            string
	Mounts             map[string][]Mounted
	Namespaces         map[string]string
	UIDMap, GIDMap     string
	Stat               map[string]File
	Read, Write, Mknod map[string]string
	Calls, Text        map[string]string
	Scheduler          int
	Nice               int
	IOPriority         int
	Affinity           int
	Cgroup             string
	TimeOffsets        string
}

// Mounted is a line of mountinfo.
type Mounted struct {
	Order               int
	Root, Type, Source  string
	Options, Super      string
	Shared, Slave, Unbd bool
}

var limits = map[string]int{
	"RLIMIT_AS": 9, "RLIMIT_CORE": 4, "RLIMIT_CPU": 0, "RLIMIT_DATA": 2, "RLIMIT_FSIZE": 1, "RLIMIT_LOCKS": 10,
	"RLIMIT_MEMLOCK": 8, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_NOFILE": 7, "RLIMIT_NPROC": 6, "RLIMIT_RSS": 5,
	"RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15, "RLIMIT_SIGPENDING": 11, "RLIMIT_STACK": 3,
}

func inside(text string) {
	var probe Probe
	check(json.Unmarshal([]byte(text), &probe))
	if probe.Wait {
		wait()
		return
	}
	report := look(probe)
	line, err := json.Marshal(report)
	check(err)
	os.Stdout.Write(append(line, '\n'))
}

func wait() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	note("ready", "ready")
	end := time.After(60 * time.Second)
	for {
		select {
		case received := <-signals:
			number := received.(syscall.Signal)
			if number == syscall.SIGURG || number == syscall.SIGCHLD {
				continue
			}
			note("signals", fmt.Sprint(int(number)))
			if number == syscall.SIGTERM {
				return
			}
		case <-end:
			return
		}
	}
}

func note(name, line string) {
	file, err := os.OpenFile(filepath.Join("/out", name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	check(err)
	fmt.Fprintln(file, line)
	file.Close()
}

func text(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}

func said(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

func look(probe Probe) Report {
	r := Report{PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(), Args: os.Args, Env: os.Environ()}
	// What others check by writing changes nothing of this: it comes first.
	r.Umask = syscall.Umask(0)
	syscall.Umask(r.Umask)
	r.SID, _ = unix.Getsid(0)
	r.Groups, _ = os.Getgroups()
	r.Cwd, _ = syscall.Getwd()
	r.Status = map[string]string{}
	for _, line := range strings.Split(text("/proc/self/status"), "\n") {
		key, value, _ := strings.Cut(line, ":")
		r.Status[key] = strings.TrimSpace(value)
	}
	r.OomScoreAdj = text("/proc/self/oom_score_adj")
	r.Rlimits = map[string][2]uint64{}
	for name, number := range limits {
		var limit unix.Rlimit
		if unix.Prlimit(0, number, nil, &limit) == nil {
			r.Rlimits[name] = [2]uint64{limit.Cur, limit.Max}
		}
	}
	var names unix.Utsname
	if unix.Uname(&names) == nil {
		r.Hostname = unix.ByteSliceToString(names.Nodename[:])
		r.Domain = unix.ByteSliceToString(names.Domainname[:])
		r.Machine = unix.ByteSliceToString(names.Machine[:])
	}
	r.Mounts = mountinfo()
	r.Namespaces = namespacesOf("self")
	r.UIDMap, r.GIDMap = text("/proc/self/uid_map"), text("/proc/self/gid_map")
	r.Cgroup = text("/proc/self/cgroup")
	r.TimeOffsets = text("/proc/self/timens_offsets")
	policy, _, _ := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	r.Scheduler = int(policy)
	nice, _, _ := unix.Syscall(unix.SYS_GETPRIORITY, 0, 0, 0)
	r.Nice = 20 - int(nice)
	priority, _, _ := unix.Syscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
	r.IOPriority = int(priority)
	var cpus unix.CPUSet
	if unix.SchedGetaffinity(0, &cpus) == nil {
		r.Affinity = cpus.Count()
	}
	r.Stat = map[string]File{}
	for _, path := range probe.Stat {
		r.Stat[path] = stat(path)
	}
	r.Read, r.Write, r.Mknod, r.Calls = map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}
	for _, path := range probe.Read {
		r.Read[path] = read(path)
	}
	for _, path := range probe.Write {
		r.Write[path] = write(path)
	}
	for _, what := range probe.Mknod {
		r.Mknod[what] = mknod(what)
	}
	r.Text = map[string]string{}
	for _, path := range probe.Text {
		r.Text[path] = text(path)
	}
	for _, call := range probe.Calls {
		r.Calls[call] = try(call)
	}
	return r
}

func namespacesOf(pid string) map[string]string {
	found := map[string]string{}
	for _, kind := range []string{"pid", "net", "mnt", "ipc", "uts", "user", "cgroup", "time"} {
		if target, err := os.Readlink("/proc/" + pid + "/ns/" + kind); err == nil {
			found[kind] = target
		}
	}
	return found
}

func mountinfo() map[string][]Mounted {
	found := map[string][]Mounted{}
	for order, line := range strings.Split(text("/proc/self/mountinfo"), "\n") {
		fields := strings.Fields(line)
		for i := 6; i+3 < len(fields)+1 && len(fields) > 9; i++ {
			if fields[i] != "-" {
				continue
			}
			tags := strings.Join(fields[6:i], " ")
			m := Mounted{Order: order, Root: fields[3], Options: fields[5], Type: fields[i+1], Source: fields[i+2], Super: fields[i+3]}
			m.Shared, m.Slave = strings.Contains(tags, "shared:"), strings.Contains(tags, "master:")
			m.Unbd = strings.Contains(tags, "unbindable")
			found[fields[4]] = append(found[fields[4]], m)
			break
		}
	}
	return found
}

func stat(path string) File {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return File{Error: err.Error()}
	}
	f := File{Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		f.Type = "c"
	case unix.S_IFBLK:
		f.Type = "b"
	case unix.S_IFIFO:
		f.Type = "p"
	case unix.S_IFDIR:
		f.Type = "d"
	case unix.S_IFLNK:
		f.Type = "l"
		f.Target, _ = os.Readlink(path)
	case unix.S_IFREG:
		f.Type = "f"
	}
	return f
}

// read says "data" or "empty", or the error.
func read(path string) string {
	if entries, err := os.ReadDir(path); err == nil {
		if len(entries) == 0 {
			return "empty"
		}
		return "data"
	}
	file, err := os.Open(path)
	if err != nil {
		return said(err)
	}
	defer file.Close()
	switch _, err = file.Read(make([]byte, 1)); err {
	case nil:
		return "data"
	case io.EOF:
		return "empty"
	default:
		return said(err)
	}
}

// write makes a file in a directory, or opens a file for writing.
func write(path string) string {
	if f := stat(path); f.Type == "d" {
		path = filepath.Join(path, "conformance-write")
		defer os.Remove(path)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		file.Close()
	}
	return said(err)
}

// mknod makes a device "c:1:3" and opens it, "c:1:3:w" for writing.
func mknod(what string) string {
	var kind string
	var major, minor uint32
	fmt.Sscanf(strings.ReplaceAll(what, ":", " "), "%s %d %d", &kind, &major, &minor)
	access := os.O_RDONLY
	if strings.HasSuffix(what, ":w") {
		access = os.O_WRONLY
	}
	mode := uint32(unix.S_IFCHR)
	if kind == "b" {
		mode = unix.S_IFBLK
	}
	path := "/tmp/device-" + what
	if err := unix.Mknod(path, mode|0o600, int(unix.Mkdev(major, minor))); err != nil {
		return "mknod: " + err.Error()
	}
	defer os.Remove(path)
	file, err := os.OpenFile(path, access|unix.O_NONBLOCK, 0)
	if err != nil {
		return "open: " + err.Error()
	}
	file.Close()
	return "ok"
}

// try makes a system call that fails in a known way where no filter forbids it.
func try(call string) string {
	var err error
	switch call {
	case "getcwd":
		_, err = unix.Getcwd(make([]byte, 4096))
	case "mkdir":
		err = unix.Mkdir("/tmp/made", 0o700)
		os.Remove("/tmp/made")
	case "chmod":
		err = unix.Chmod("/out", 0o777)
	case "sysinfo":
		err = unix.Sysinfo(&unix.Sysinfo_t{})
	case "personality8":
		_, _, errno := unix.Syscall(unix.SYS_PERSONALITY, 8, 0, 0)
		if errno != 0 {
			err = errno
		}
	case "personality":
		_, _, errno := unix.Syscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
		if errno != 0 {
			err = errno
		}
	case "unshare_user":
		err = unix.Unshare(unix.CLONE_NEWUTS)
	case "getpriority":
		_, err = unix.Getpriority(0, 0)
	case "unknown":
		_, _, errno := unix.Syscall(2000, 0, 0, 0)
		if errno != 0 {
			err = errno
		}
	case "propagate":
		return propagate()
	default:
		return "no such call in the probe"
	}
	return said(err)
}

// propagate binds the whole root elsewhere, mounts something, and looks whether the other root shows that, too.
func propagate() string {
	for _, dir := range []string{"/tmp/whole", "/tmp/part", "/tmp/place"} {
		check(os.MkdirAll(dir, 0o755))
	}
	check(os.WriteFile("/tmp/part/file", nil, 0o644))
	if err := unix.Mount("/", "/tmp/whole", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "bind of the root: " + err.Error()
	}
	if err := unix.Mount("/tmp/part", "/tmp/place", "", unix.MS_BIND, ""); err != nil {
		return "bind: " + err.Error()
	}
	if stat("/tmp/whole/tmp/place/file").Type == "f" {
		return "seen"
	}
	return "not seen"
}

// hook FILE LABEL [STATUS [SECONDS]]: notes label, working directory, environment and the state that it was given.
func hook(args []string) int {
	state, _ := io.ReadAll(os.Stdin)
	var process State
	json.Unmarshal(state, &process)
	record, _ := json.Marshal(Hooked{Label: args[1], State: json.RawMessage(orNull(state)), Env: os.Environ(), Namespaces: namespacesOf("self"), Args: os.Args,
		Program: identity(fmt.Sprintf("/proc/%d/exe", process.Pid))})
	file, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 9
	}
	fmt.Fprintln(file, string(record))
	file.Close()
	status, seconds := 0, 0
	if len(args) > 2 {
		fmt.Sscan(args[2], &status)
	}
	if len(args) > 3 {
		fmt.Sscan(args[3], &seconds)
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	if status != 0 {
		fmt.Fprintln(os.Stderr, "the hook", args[1], "fails as asked")
	}
	return status
}

func orNull(state []byte) []byte {
	if !json.Valid(state) {
		return []byte("null")
	}
	return state
}

// Hooked is what a hook noted.
type Hooked struct {
	Label      string
	State      json.RawMessage
	Env        []string
	Namespaces map[string]string
	Args       []string
	// The file that the container's process executes, where its pid is one of the hook's own namespace.
	Program string
}

// identity names a file, whatever path leads to it.
func identity(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
