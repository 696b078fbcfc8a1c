// linux.cgroupsPath and linux.resources: by OCI's own reader of cgroup v1, and by the files of v2.
package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-tools/cgroups"
	"github.com/opencontainers/runtime-tools/specerror"
)

var (
	_ = program("cgroups_path", cgroupsPath)
	_ = program("cgroups_memory", cgroupsMemory)
	_ = program("cgroups_cpu", cgroupsCPU)
	_ = program("cgroups_pids", cgroupsPids)
	_ = program("cgroups_blkio", cgroupsBlkio)
	_ = program("cgroups_hugetlb", cgroupsHugetlb)
	_ = program("cgroups_network", cgroupsNetwork)
	_ = program("cgroups_devices", cgroupsDevices)
	_ = program("cgroups_v2", cgroupsV2)
)

// places are the two forms of cgroupsPath.
func (t *T) places() []struct{ name, path string } {
	_, mark := t.marks()
	return []struct{ name, path string }{{"absolute", "/" + mark + "absolute"}, {"relative", mark + "relative/container"}}
}

// in makes a container with these resources at both places and hands its process to the test.
func (t *T) in(controller string, resources Object, test func(place string, pid int, path string, v1 cgroups.Cgroup, err error)) {
	t.inPlaces(t.places(), controller, resources, test)
}

// inOne is for many combinations of values: at the absolute place only.
func (t *T) inOne(controller string, resources Object, test func(place string, pid int, path string, v1 cgroups.Cgroup, err error)) {
	t.inPlaces(t.places()[:1], controller, resources, test)
}

func (t *T) inPlaces(places []struct{ name, path string }, controller string, resources Object, test func(place string, pid int, path string, v1 cgroups.Cgroup, err error)) {
	if onlyV2() {
		t.skip("config-linux.md: resources", controller+" of cgroup v1", "this machine has no hierarchies of v1")
		return
	}
	if hierarchies()[controller] == "" {
		t.skip("config-linux.md: resources", controller+" of cgroup v1", "the controller is not mounted here")
		return
	}
	v1, err := cgroups.FindCgroup()
	if err != nil {
		t.skip("config-linux.md: resources", controller+" of cgroup v1", err.Error())
		return
	}
	for _, place := range places {
		c := t.container().set("linux.cgroupsPath", place.path).probe(Probe{Wait: true})
		for name, value := range resources {
			c.set("linux.resources."+name, value)
		}
		err := c.running()
		got, _ := c.state()
		test(place.name, got.Pid, place.path, v1, err)
		c.delete("--force")
	}
}

// is compares one value that may be absent.
func (t *T) is(err error, place, what string, got, want interface{}) {
	switch v := got.(type) {
	case *int64:
		if v != nil {
			got = *v
		}
	case *uint64:
		if v != nil {
			got = *v
		}
	case *uint16:
		if v != nil {
			got = *v
		}
	case *uint32:
		if v != nil {
			got = *v
		}
	}
	wrong := ""
	if err == nil {
		wrong = equal(got, want)
	}
	t.ok(err == nil && wrong == "", "config-linux.md: resources", what+" is applied ("+place+" cgroupsPath)", err, wrong)
}

func cgroupsPath(t *T) {
	for _, place := range t.places() {
		path := place.path
		c := t.container().set("linux.cgroupsPath", path).probe(Probe{Wait: true})
		err := c.running()
		got, _ := c.state()
		first := cgroupsOf(got.Pid)
		var outside []string
		for _, dir := range first {
			if !strings.HasSuffix(dir, strings.TrimPrefix(path, "/")) {
				outside = append(outside, dir)
			}
		}
		t.ok(err == nil && len(first) > 0 && len(outside) == 0, specerror.CgroupsPathAttach, "the process is in the cgroup of cgroupsPath in every hierarchy ("+place.name+")", err, outside)
		if place.name == "absolute" {
			var elsewhere []string
			for name, at := range hierarchies() {
				if dir := groupOf(got.Pid, name); dir != "" && dir != filepath.Join(at, path) {
					elsewhere = append(elsewhere, dir)
				}
			}
			t.ok(err == nil && len(elsewhere) == 0, specerror.CgroupsAbsPathRelToMount, "an absolute cgroupsPath is relative to the mount point", err, elsewhere)
		}
		c.delete("--force")
		d := t.container().set("linux.cgroupsPath", path).probe(Probe{Wait: true})
		err = d.running()
		got, _ = d.state()
		t.ok(err == nil && fmt.Sprint(cgroupsOf(got.Pid)) == fmt.Sprint(first), specerror.CgroupsPathAttach, "the same cgroupsPath leads to the same place ("+place.name+")", err, first, cgroupsOf(got.Pid))
		d.delete("--force")
		var left []string
		for _, dir := range first {
			if exists(dir) {
				left = append(left, dir)
			}
		}
		t.ok(len(left) == 0, specerror.DeleteResImplement, "delete removes the cgroup of cgroupsPath ("+place.name+")", left)
	}
	c := t.container().set("linux.cgroupsPath", nil).probe(Probe{Wait: true})
	err := c.running()
	got, _ := c.state()
	t.ok(err == nil && strings.Contains(fmt.Sprint(cgroupsOf(got.Pid)), c.id), "config-linux.md: cgroupsPath", "without cgroupsPath the container has a cgroup of its own", err, cgroupsOf(got.Pid))
	hidden := t.container().namespaces(without("", "cgroup")...)
	t.seen(hidden, point{"config-linux.md: namespaces", "in a cgroup namespace the program's cgroup is the root", func(r Report) string {
		for _, line := range strings.Split(r.Cgroup, "\n") {
			if !strings.HasSuffix(line, ":/") {
				return line
			}
		}
		return ""
	}})
	view := t.container().add("mounts", Object{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": List{"nosuid", "noexec", "nodev", "relatime", "ro"}}).probe(Probe{Read: []string{"/sys/fs/cgroup"}, Write: []string{"/sys/fs/cgroup"}})
	t.seen(view, point{"config-linux.md: cgroups", "a mount of type cgroup shows cgroups, read-only", func(r Report) string {
		if r.Write["/sys/fs/cgroup"] == "ok" {
			return "written"
		}
		return equal(r.Read["/sys/fs/cgroup"], "data")
	}})
}

func cgroupsMemory(t *T) {
	limit, reservation, swap := int64(50<<20), int64(20<<20), int64(60<<20)
	resources := Object{"memory": Object{"limit": limit, "reservation": reservation, "swap": swap, "swappiness": 10}}
	_, account := os.Stat(hierarchies()["memory"] + "/memory.memsw.limit_in_bytes")
	if account != nil {
		resources = Object{"memory": Object{"limit": limit, "reservation": reservation, "swappiness": 10}}
	}
	t.in("memory", resources, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		dir := groupOf(pid, "memory")
		number := func(name string) interface{} { return text(filepath.Join(dir, name)) }
		t.is(err, place, "memory.limit", number("memory.limit_in_bytes"), limit)
		t.is(err, place, "memory.reservation", number("memory.soft_limit_in_bytes"), reservation)
		if account == nil {
			t.is(err, place, "memory.swap", number("memory.memsw.limit_in_bytes"), swap)
		} else {
			t.skip("config-linux.md: resources", "memory.swap is applied ("+place+" cgroupsPath)", "the kernel does not account swap here")
		}
		t.is(err, place, "memory.swappiness", number("memory.swappiness"), 10)
	})
	for _, limit := range []int64{50593792, 151781376} {
		for _, swappiness := range []int{10, 50, 100} {
			memory := Object{"limit": limit, "reservation": limit, "swappiness": swappiness, "disableOOMKiller": true}
			want := fmt.Sprint(limit, " ", limit, " ", swappiness, " true")
			if account == nil {
				memory["swap"] = limit
				want += fmt.Sprint(" ", limit)
			}
			t.inOne("memory", Object{"memory": memory}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
				dir := groupOf(pid, "memory")
				got := fmt.Sprint(text(dir+"/memory.limit_in_bytes"), " ", text(dir+"/memory.soft_limit_in_bytes"), " ", text(dir+"/memory.swappiness"), " ",
					strings.Contains(text(dir+"/memory.oom_control"), "oom_kill_disable 1"))
				if account == nil {
					got += " " + text(dir+"/memory.memsw.limit_in_bytes")
				}
				t.is(err, place, fmt.Sprintf("memory: limit and reservation %d with swappiness %d and disableOOMKiller", limit, swappiness), got, want)
			})
		}
	}
	// The specification deprecates both; where the kernel has no such files there is nothing to apply.
	t.inOne("memory", Object{"memory": Object{"limit": limit, "kernel": limit, "kernelTCP": limit}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		dir := groupOf(pid, "memory")
		t.is(err, place, "memory.limit beside kernel and kernelTCP", text(dir+"/memory.limit_in_bytes"), limit)
		for _, file := range []struct{ property, name string }{{"kernel", "memory.kmem.limit_in_bytes"}, {"kernelTCP", "memory.kmem.tcp.limit_in_bytes"}} {
			what := "memory." + file.property
			path := filepath.Join(dir, file.name)
			got, another := text(path), fmt.Sprint(limit+8192)
			// Newer kernels take any value and forget it.
			if os.WriteFile(path, []byte(another), 0) != nil || text(path) != another {
				t.skip("config-linux.md: resources", what+" is applied ("+place+" cgroupsPath)", "the kernel has no "+file.name+" that keeps a value")
				continue
			}
			t.is(err, place, what, got, limit)
		}
	})
	t.in("memory", Object{"memory": Object{"limit": limit, "disableOOMKiller": true}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		control := text(filepath.Join(groupOf(pid, "memory"), "memory.oom_control"))
		t.is(err, place, "memory.disableOOMKiller", strings.Contains(control, "oom_kill_disable 1"), true)
	})
}

func cgroupsCPU(t *T) {
	t.in("cpu", Object{"cpu": Object{"shares": 512, "quota": 20000, "period": 50000}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		dir := groupOf(pid, "cpu")
		t.is(err, place, "cpu.shares", text(dir+"/cpu.shares"), 512)
		t.is(err, place, "cpu.quota", text(dir+"/cpu.cfs_quota_us"), 20000)
		t.is(err, place, "cpu.period", text(dir+"/cpu.cfs_period_us"), 50000)
	})
	t.in("cpu", Object{"cpu": Object{"period": 40000}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		t.is(err, place, "cpu.period without a quota", text(groupOf(pid, "cpu")+"/cpu.cfs_period_us"), 40000)
	})
	t.in("cpu", Object{"cpu": Object{"quota": -1}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		t.is(err, place, "cpu.quota of -1", text(groupOf(pid, "cpu")+"/cpu.cfs_quota_us"), -1)
	})
	t.in("cpuset", Object{"cpu": Object{"cpus": "0", "mems": "0"}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		dir := groupOf(pid, "cpuset")
		t.is(err, place, "cpu.cpus", text(dir+"/cpuset.cpus"), 0)
		t.is(err, place, "cpu.mems", text(dir+"/cpuset.mems"), 0)
	})
	every := text(hierarchies()["cpuset"] + "/cpuset.cpus")
	for _, shares := range []int{1024, 2048} {
		for _, period := range []int{100000, 500000} {
			for _, quota := range []int{50000, 200000} {
				for _, cpus := range []string{"0", every} {
					values := Object{"shares": shares, "period": period, "quota": quota, "cpus": cpus, "mems": "0"}
					t.inOne("cpu", Object{"cpu": values}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
						time, set := groupOf(pid, "cpu"), groupOf(pid, "cpuset")
						got := []string{text(time + "/cpu.shares"), text(time + "/cpu.cfs_period_us"), text(time + "/cpu.cfs_quota_us"), text(set + "/cpuset.cpus"), text(set + "/cpuset.mems")}
						t.is(err, place, fmt.Sprintf("cpu: shares %d, period %d, quota %d, cpus %s, mems 0", shares, period, quota, cpus), got, []interface{}{shares, period, quota, cpus, 0})
					})
				}
			}
		}
	}
	t.in("cpu", Object{"cpu": Object{}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		time, set := groupOf(pid, "cpu"), groupOf(pid, "cpuset")
		got := []string{text(time + "/cpu.shares"), text(time + "/cpu.cfs_period_us"), text(time + "/cpu.cfs_quota_us"), text(set + "/cpuset.cpus"), text(set + "/cpuset.mems")}
		// The kernel's own values.
		t.is(err, place, "cpu without properties", got, []interface{}{1024, 100000, -1, every, text(hierarchies()["cpuset"] + "/cpuset.mems")})
	})
	realtime := hierarchies()["cpu"] + "/cpu.rt_runtime_us"
	if exists(realtime) {
		t.inOne("cpu", Object{"cpu": Object{"realtimePeriod": 1000000, "realtimeRuntime": 1000}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
			t.is(err, place, "cpu.realtimeRuntime", text(groupOf(pid, "cpu")+"/cpu.rt_runtime_us"), 1000)
			t.is(err, place, "cpu.realtimePeriod", text(groupOf(pid, "cpu")+"/cpu.rt_period_us"), 1000000)
		})
	} else {
		t.skip("config-linux.md: resources", "cpu.realtimeRuntime and cpu.realtimePeriod are applied", "the kernel has no cpu.rt_runtime_us, or the hierarchy is not there")
	}
	if !onlyV2() {
		t.refused(t.container().set("linux.resources.cpu", Object{"cpus": "99999"}), specerror.PropApplyFailGenError, "cpu.cpus with a processor that there is not is an error")
		t.refused(t.container().set("linux.resources.cpu", Object{"quota": 10, "period": 50000}), specerror.PropApplyFailGenError, "cpu.quota that the kernel refuses is an error")
	}
}

func cgroupsPids(t *T) {
	t.in("pids", Object{"pids": Object{"limit": 50}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		data, readErr := v1.GetPidsData(pid, path)
		if err == nil {
			err = readErr
		}
		limit := int64(0)
		if data != nil {
			limit = data.Limit
		}
		t.is(err, place, "pids.limit", limit, 50)
	})
	t.in("pids", Object{"pids": Object{"limit": -1}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		t.is(err, place, "pids.limit of -1", text(groupOf(pid, "pids")+"/pids.max"), "max")
	})
}

func cgroupsBlkio(t *T) {
	device := func() (int64, int64) {
		// A device that the machine has: the first of /proc/partitions.
		for _, line := range strings.Split(text("/proc/partitions"), "\n") {
			fields := strings.Fields(line)
			if len(fields) == 4 && fields[0] != "major" {
				major, _ := strconv.ParseInt(fields[0], 10, 64)
				minor, _ := strconv.ParseInt(fields[1], 10, 64)
				return major, minor
			}
		}
		return 0, 0
	}
	major, minor := device()
	throttle := func(rate uint64) List { return List{Object{"major": major, "minor": minor, "rate": rate}} }
	resources := Object{"blockIO": Object{"throttleReadBpsDevice": throttle(1 << 20), "throttleWriteBpsDevice": throttle(2 << 20), "throttleReadIOPSDevice": throttle(300), "throttleWriteIOPSDevice": throttle(400)}}
	t.in("blkio", resources, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
		dir := groupOf(pid, "blkio")
		for _, f := range []struct {
			property, file string
			rate           int
		}{
			{"blockIO.throttleReadBpsDevice", "blkio.throttle.read_bps_device", 1 << 20}, {"blockIO.throttleWriteBpsDevice", "blkio.throttle.write_bps_device", 2 << 20},
			{"blockIO.throttleReadIOPSDevice", "blkio.throttle.read_iops_device", 300}, {"blockIO.throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", 400},
		} {
			t.is(err, place, f.property, text(filepath.Join(dir, f.file)), fmt.Sprintf("%d:%d %d", major, minor, f.rate))
		}
	})
	for _, rate := range []uint64{102400, 204800} {
		same := Object{"blockIO": Object{"throttleReadBpsDevice": throttle(rate), "throttleWriteBpsDevice": throttle(rate), "throttleReadIOPSDevice": throttle(rate), "throttleWriteIOPSDevice": throttle(rate)}}
		t.in("blkio", same, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
			var got, want []string
			for _, file := range []string{"read_bps", "write_bps", "read_iops", "write_iops"} {
				got = append(got, text(filepath.Join(groupOf(pid, "blkio"), "blkio.throttle."+file+"_device")))
				want = append(want, fmt.Sprintf("%d:%d %d", major, minor, rate))
			}
			t.is(err, place, fmt.Sprintf("blockIO: all four throttles of %d", rate), got, want)
		})
	}
	devices := []string{"blkio.weight_device", "blkio.bfq.weight_device"}
	if known := hierarchies()["blkio"]; !exists(filepath.Join(known, devices[0])) && !exists(filepath.Join(known, devices[1])) {
		t.skip("config-linux.md: resources", "blockIO.weightDevice is applied", "the kernel has no "+strings.Join(devices, " or "))
	} else {
		t.in("blkio", Object{"blockIO": Object{"weightDevice": List{Object{"major": major, "minor": minor, "weight": 500}}}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
			got := ""
			for _, file := range devices {
				if data, err := os.ReadFile(filepath.Join(groupOf(pid, "blkio"), file)); err == nil {
					got += string(data)
				}
			}
			t.is(err, place, "blockIO.weightDevice", strings.Contains(got, fmt.Sprintf("%d:%d 500", major, minor)), true)
		})
	}
	for _, weight := range []struct{ property, file string }{{"weight", "blkio.weight"}, {"leafWeight", "blkio.leaf_weight"}} {
		file := weight.file
		if !exists(filepath.Join(hierarchies()["blkio"], file)) && !exists(filepath.Join(hierarchies()["blkio"], "blkio.bfq."+strings.TrimPrefix(file, "blkio."))) {
			t.skip("config-linux.md: resources", "blockIO."+weight.property+" is applied", "the kernel has no "+file)
			continue
		}
		t.in("blkio", Object{"blockIO": Object{weight.property: 500}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
			dir := groupOf(pid, "blkio")
			got := text(filepath.Join(dir, file))
			if !exists(filepath.Join(dir, file)) {
				got = text(filepath.Join(dir, "blkio.bfq."+strings.TrimPrefix(file, "blkio.")))
			}
			t.is(err, place, "blockIO."+weight.property, got, 500)
		})
	}
	if !onlyV2() {
		t.refused(t.container().set("linux.resources.blockIO", Object{"throttleReadBpsDevice": List{Object{"major": 4000, "minor": 4000, "rate": 5}}}), specerror.PropApplyFailGenError, "a throttle of a device that there is not is an error")
	}
}

func cgroupsHugetlb(t *T) {
	sizes, err := cgroups.GetHugePageSize()
	check(err)
	for _, size := range sizes {
		t.in("hugetlb", Object{"hugepageLimits": List{Object{"pageSize": size, "limit": 2 << 30}}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
			data, readErr := v1.GetHugepageLimitData(pid, path)
			if err == nil {
				err = readErr
			}
			got := uint64(0)
			for _, limit := range data {
				if limit.Pagesize == size {
					got = limit.Limit
				}
			}
			t.is(err, place, "hugepageLimits for pages of "+size, got, 2<<30)
		})
		unified := hierarchies()["unified"]
		if !onlyV2() || !strings.Contains(text(unified+"/cgroup.controllers"), "hugetlb") {
			continue
		}
		for _, place := range t.places() {
			c := t.container().set("linux.cgroupsPath", place.path).set("linux.resources.hugepageLimits", List{Object{"pageSize": size, "limit": 2 << 30}}).probe(Probe{Wait: true})
			err := c.running()
			got, _ := c.state()
			t.is(err, place.name, "hugepageLimits of v2 for pages of "+size, text(filepath.Join(groupOf(got.Pid, "unified"), "hugetlb."+size+".max")), 2<<30)
			c.delete("--force")
		}
	}
	t.refused(t.container().set("linux.resources.hugepageLimits", List{Object{"pageSize": "3MB", "limit": 1}}), specerror.PropApplyFailGenError, "a limit of huge pages of a size that there is not is an error")
}

func cgroupsNetwork(t *T) {
	for _, class := range []int{255, 550, 0x100001} {
		t.in("net_cls", Object{"network": Object{"classID": class}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
			t.is(err, place, fmt.Sprintf("network.classID %d", class), text(groupOf(pid, "net_cls")+"/net_cls.classid"), class)
		})
	}
	interfaces, err := net.Interfaces()
	check(err)
	if len(interfaces) > 2 {
		interfaces = interfaces[:2]
	}
	for _, one := range interfaces {
		for _, priority := range []int{10, 30} {
			t.in("net_prio", Object{"network": Object{"priorities": List{Object{"name": one.Name, "priority": priority}}}}, func(place string, pid int, path string, v1 cgroups.Cgroup, err error) {
				line := fmt.Sprintf("%s %d", one.Name, priority)
				t.is(err, place, "network.priorities: "+line, strings.Contains(text(groupOf(pid, "net_prio")+"/net_prio.ifpriomap"), line), true)
			})
		}
	}
}

// By what the program can do: so it is the same for v1 and v2.
func cgroupsDevices(t *T) {
	allow := func(rules ...interface{}) *Container {
		return t.container().set("linux.resources.devices", append(List{Object{"allow": false, "access": "rwm"}}, rules...))
	}
	entry := func(allowed bool, kind string, major, minor int, access string) Object {
		return Object{"allow": allowed, "type": kind, "major": major, "minor": minor, "access": access}
	}
	denied := func(got string) string {
		if strings.HasSuffix(got, "operation not permitted") {
			return ""
		}
		return got
	}
	opened := func(got string) string {
		// The driver may be absent: what the cgroup allowed was then refused by no one.
		if strings.HasSuffix(got, "operation not permitted") {
			return got
		}
		return ""
	}
	const section = "config-linux.md: allowed device list"
	probe := Probe{Mknod: []string{"c:1:3", "c:240:1", "c:10:229", "b:7:0"}}
	t.seen(allow().probe(probe),
		point{section, "a device that no rule allows cannot be opened", func(r Report) string { return denied(r.Mknod["c:240:1"]) }},
		point{section, "a block device that no rule allows cannot be opened", func(r Report) string { return denied(r.Mknod["b:7:0"]) }},
		point{specerror.DefaultDevices, "/dev/null can be made and opened whatever the rules say", func(r Report) string { return equal(r.Mknod["c:1:3"], "ok") }})
	t.seen(allow(entry(true, "c", 240, 1, "rwm")).probe(probe),
		point{section, "a device that a rule allows can be opened", func(r Report) string { return opened(r.Mknod["c:240:1"]) }},
		point{section, "a device beside the one that a rule allows cannot be opened", func(r Report) string { return denied(r.Mknod["c:10:229"]) }})
	mixed := List{entry(true, "c", 10, 229, "rwm"), entry(true, "b", 8, 20, "rw"), entry(true, "b", 10, 200, "r")}
	for _, place := range t.places() {
		name := " (" + place.name + " cgroupsPath)"
		c := allow(mixed...).set("linux.cgroupsPath", place.path).probe(Probe{Mknod: []string{"c:10:229:w", "b:8:20", "b:8:20:w", "b:10:200", "b:10:200:w", "b:10:201"}})
		t.seen(c,
			point{section, "rwm lets write" + name, func(r Report) string { return opened(r.Mknod["c:10:229:w"]) }},
			point{section, "rw lets read and write" + name, func(r Report) string { return opened(r.Mknod["b:8:20"]) + opened(r.Mknod["b:8:20:w"]) }},
			point{section, "r lets read only" + name, func(r Report) string { return opened(r.Mknod["b:10:200"]) + denied(r.Mknod["b:10:200:w"]) }},
			point{section, "what lies beside cannot be read" + name, func(r Report) string { return denied(r.Mknod["b:10:201"]) }})
		if onlyV2() || hierarchies()["devices"] == "" {
			t.skip(section, "devices.list has what is allowed"+name, "there is no hierarchy of devices")
			continue
		}
		c = allow(mixed...).set("linux.cgroupsPath", place.path).probe(Probe{Wait: true})
		err := c.running()
		got, _ := c.state()
		list := text(groupOf(got.Pid, "devices") + "/devices.list")
		var absent []string
		for _, line := range []string{"c 10:229 rwm", "b 8:20 rw", "b 10:200 r"} {
			// With the right to make any node, which all runtimes give, the kernel adds m.
			if !strings.Contains(list, line) {
				absent = append(absent, line)
			}
		}
		t.ok(err == nil && len(absent) == 0, section, "devices.list has what is allowed"+name, err, absent, list)
		c.delete("--force")
	}
	t.seen(allow(Object{"allow": true, "type": "c", "major": 10, "access": "rwm"}).probe(probe), point{section, "a rule without minor is on all minors", func(r Report) string { return opened(r.Mknod["c:10:229"]) }})
	t.seen(allow(Object{"allow": true, "type": "b", "access": "m"}).probe(probe), point{section, "a rule for mknod only does not allow to open", func(r Report) string {
		return equal(r.Mknod["b:7:0"], "open: open /tmp/device-b:7:0: operation not permitted")
	}})
	t.seen(allow(entry(true, "c", 10, 229, "rwm"), entry(false, "c", 10, 229, "rwm")).probe(probe), point{specerror.DevicesApplyInOrder, "a rule that comes later has the last word (deny)", func(r Report) string { return denied(r.Mknod["c:10:229"]) }})
	t.seen(allow(entry(false, "c", 10, 229, "rwm"), entry(true, "c", 10, 229, "rwm")).probe(probe), point{specerror.DevicesApplyInOrder, "a rule that comes later has the last word (allow)", func(r Report) string { return opened(r.Mknod["c:10:229"]) }})
	t.seen(t.container().set("linux.resources.devices", List{Object{"allow": true, "access": "rwm"}, entry(false, "c", 10, 229, "rwm")}).probe(probe),
		point{specerror.DevicesApplyInOrder, "one device can be denied where all are allowed", func(r Report) string { return denied(r.Mknod["c:10:229"]) }},
		point{section, "the others are allowed", func(r Report) string { return opened(r.Mknod["c:240:1"]) }})
	t.refused(allow(Object{"allow": true, "type": "z", "access": "rwm"}), specerror.ValidValues, "a rule with an unknown type is an error")
	t.refused(allow(Object{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "xyz"}), specerror.ValidValues, "a rule with an unknown access is an error")
}

func cgroupsV2(t *T) {
	if !onlyV2() {
		t.skip("config-linux.md: unified", "cgroup v2", "the machine has hierarchies of v1")
		return
	}
	controllers := text(hierarchies()["unified"] + "/cgroup.controllers")
	for _, f := range []struct {
		controller, property string
		value                interface{}
		file, want           string
	}{
		{"memory", "memory", Object{"limit": 50 << 20}, "memory.max", fmt.Sprint(50 << 20)},
		{"memory", "memory", Object{"reservation": 20 << 20}, "memory.low", fmt.Sprint(20 << 20)},
		{"cpu", "cpu", Object{"quota": 20000, "period": 50000}, "cpu.max", "20000 50000"},
		{"cpuset", "cpu", Object{"cpus": "0"}, "cpuset.cpus", "0"},
		{"pids", "pids", Object{"limit": 50}, "pids.max", "50"},
		{"hugetlb", "hugepageLimits", List{Object{"pageSize": "2MB", "limit": 4 << 20}}, "hugetlb.2MB.max", fmt.Sprint(4 << 20)},
		{"hugetlb", "unified", Object{"hugetlb.2MB.max": "6291456"}, "hugetlb.2MB.max", "6291456"},
	} {
		what := fmt.Sprintf("%s sets %s to %s", f.property, f.file, f.want)
		if !strings.Contains(" "+controllers+" ", " "+f.controller+" ") {
			t.skip("config-linux.md: resources", what, "v2 has no controller "+f.controller+" here: a hierarchy of v1 holds it")
			continue
		}
		c := t.container().set("linux.resources."+f.property, f.value).probe(Probe{Wait: true})
		err := c.running()
		got, _ := c.state()
		value := text(filepath.Join(groupOf(got.Pid, "unified"), f.file))
		t.ok(err == nil && value == f.want, "config-linux.md: resources", what, err, value)
		c.delete("--force")
	}
	t.refused(t.container().set("linux.resources.unified", Object{"imaginary.max": "1"}), specerror.PropApplyFailGenError, "unified with a file that there is not is an error")
	t.refused(t.container().set("linux.resources.unified", Object{"cgroup.max.depth": "many"}), specerror.PropApplyFailGenError, "unified with a value that the kernel refuses is an error")
	t.refused(t.container().set("linux.resources.unified", Object{"../cgroup.procs": "0"}), specerror.ValidValues, "unified with a path is an error")
	c := t.container().set("linux.resources.unified", Object{"cgroup.max.depth": "7"}).probe(Probe{Wait: true})
	err := c.running()
	got, _ := c.state()
	value := text(filepath.Join(groupOf(got.Pid, "unified"), "cgroup.max.depth"))
	t.ok(err == nil && value == "7", "config-linux.md: unified", "unified sets a file of the core", err, value)
}
