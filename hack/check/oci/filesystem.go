// The root file system: root, mounts, masked and read-only paths, devices, propagation.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/opencontainers/runtime-tools/specerror"
	"golang.org/x/sys/unix"
)

var (
	_ = program("root", root)
	_ = program("mounts", mounts)
	_ = program("mount_options", mountOptions)
	_ = program("linux_paths", linuxPaths)
	_ = program("linux_paths_deep", linuxPathsDeep)
	_ = program("linux_mount_label", linuxMountLabel)
	_ = program("linux_devices", linuxDevices)
	_ = program("linux_propagation", linuxPropagation)
)

func root(t *T) {
	t.seen(t.container().set("root.readonly", true).probe(Probe{Write: []string{"/", "/out", "/dev", "/dev/shm"}}),
		point{specerror.RootReadonlyImplement, "a read-only root cannot be written", func(r Report) string {
			if r.Write["/"] == "ok" || r.Write["/out"] == "ok" {
				return "written"
			}
			return ""
		}},
		point{specerror.RootReadonlyImplement, "mounts in a read-only root can be written", func(r Report) string {
			return equal(r.Write["/dev"]+r.Write["/dev/shm"], "okok")
		}})
	t.seen(t.container().set("root.readonly", false).probe(Probe{Write: []string{"/"}}),
		point{specerror.RootReadonlyImplement, "a root that is not read-only can be written", func(r Report) string { return equal(r.Write["/"], "ok") }})
	t.seen(t.container().probe(Probe{Stat: []string{"/probe", "/../probe"}}),
		point{specerror.EnvCreateImplement, "the root has no way out by ..", func(r Report) string { return equal(r.Stat["/../probe"], r.Stat["/probe"]) }},
		point{specerror.EnvCreateImplement, "no mount of the host is left", func(r Report) string {
			for path := range r.Mounts {
				if path != "/" && !strings.HasPrefix(path, "/proc") && !strings.HasPrefix(path, "/dev") && !strings.HasPrefix(path, "/sys") {
					return path
				}
			}
			return ""
		}})
}

func bind(source, destination string, options ...string) Object {
	list := List{"bind"}
	for _, option := range options {
		list = append(list, option)
	}
	return Object{"destination": destination, "type": "bind", "source": source, "options": list}
}

func tmpfs(destination string, options ...string) Object {
	list := List{}
	for _, option := range options {
		list = append(list, option)
	}
	return Object{"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list}
}

// source is a directory on the host with a file in it.
func (c *Container) source(name string) string {
	dir := filepath.Join(c.bundle, name)
	check(os.MkdirAll(dir, 0o755))
	check(os.WriteFile(filepath.Join(dir, "file"), []byte("data"), 0o644))
	return dir
}

func mounts(t *T) {
	c := t.container()
	host := c.source("host")
	// In order: the second hides the first, the third lies in the second.
	c.add("mounts", tmpfs("/order", "mode=755"), bind(host, "/order"), tmpfs("/order/inner"), bind(host+"/file", "/out/single"), bind("host", "/relative"))
	check(os.MkdirAll(filepath.Join(host, "inner"), 0o755))
	c.probe(Probe{Read: []string{"/order/file", "/order/inner", "/out/single", "/relative/file"}, Stat: []string{"/order/inner", "/out/single"}})
	t.seen(c,
		point{specerror.MountsInOrder, "mounts are made in the listed order", func(r Report) string {
			return equal(r.Read["/order/file"]+" "+r.Read["/order/inner"], "data empty")
		}},
		point{specerror.MountsInOrder, "of two mounts on one place the later one is on top", func(r Report) string { return equal(len(r.Mounts["/order"]), 2) }},
		point{"config.md: mounts", "a file can be bound, and its mount point is made", func(r Report) string {
			return equal(r.Read["/out/single"]+r.Stat["/out/single"].Type, "dataf")
		}},
		point{"config.md: mounts", "a relative source is taken from the bundle", func(r Report) string { return equal(r.Read["/relative/file"], "data") }})
	c = t.container()
	t.seen(c.add("mounts", tmpfs("deep/er/place")), point{"config.md: mounts", "a relative destination is taken from the root, and made", func(r Report) string {
		return equal(len(r.Mounts["/deep/er/place"]), 1)
	}})
	t.refused(t.container().add("mounts", Object{"destination": "/x", "type": "imaginary", "source": "none"}), specerror.ValidValues, "an unknown type of file system is an error")
	t.refused(t.container().add("mounts", tmpfs("/x", "size=banana")), specerror.ValidValues, "an option that the file system does not know is an error")
	t.refused(t.container().add("mounts", bind("/no/such/source", "/x")), specerror.EnvCreateError, "a bind source that does not exist is an error")
	c = t.container()
	t.refused(c.add("mounts", bind(c.source("dir"), "/probe")), specerror.EnvCreateError, "a directory bound on a file is an error")
	c = t.container()
	check(os.Symlink("/out", c.path("link")))
	t.seen(c.add("mounts", tmpfs("/link/below")), point{specerror.EnvCreateImplement, "a symbolic link in the destination stays in the root", func(r Report) string {
		return equal(len(r.Mounts["/out/below"]), 1)
	}})
	c = t.container()
	check(os.Symlink(filepath.Join(t.dir, "outside"), c.path("escape")))
	c.add("mounts", tmpfs("/escape"))
	report, err := c.run()
	t.ok(!exists(filepath.Join(t.dir, "outside")), specerror.EnvCreateImplement, "a symbolic link to the host as the destination makes nothing on the host", report.Mounts, err)
	t.seen(t.container().add("mounts", tmpfs("/sized", "size=64k", "mode=1700", "uid=7", "gid=8")).probe(Probe{Stat: []string{"/sized"}}),
		point{"config.md: mounts", "options of a tmpfs reach it", func(r Report) string {
			f := r.Stat["/sized"]
			if !strings.Contains(fmt.Sprint(r.Mounts["/sized"]), "size=64k") {
				return fmt.Sprint(r.Mounts["/sized"])
			}
			return equal([]uint32{f.Mode, f.UID, f.GID}, []uint32{0o1700, 7, 8})
		}})
	t.seen(t.container().add("mounts", tmpfs("/tmp", "nosuid", "strictatime", "mode=755", "size=1k")).probe(Probe{Stat: []string{"/tmp"}}),
		point{"config.md: mounts", "flags and options of a tmpfs reach it together", func(r Report) string {
			if len(r.Mounts["/tmp"]) != 1 {
				return fmt.Sprint(r.Mounts["/tmp"])
			}
			m := r.Mounts["/tmp"][0]
			all := "," + m.Options + "," + m.Super + ","
			// The kernel gives whole pages.
			if !strings.Contains(all, ",nosuid,") || strings.Contains(all, "atime") || !strings.Contains(all, ",size=4k,") {
				return all
			}
			return equal([]interface{}{m.Type, m.Source, r.Stat["/tmp"].Mode}, []interface{}{"tmpfs", "tmpfs", 0o755})
		}})
	c = t.container()
	below := c.source("below")
	check(os.MkdirAll(filepath.Join(below, "sub"), 0o755))
	check(mountTmpfs(filepath.Join(below, "sub")))
	t.later(func() { unmount(filepath.Join(below, "sub")) })
	c.add("mounts", Object{"destination": "/flat", "type": "bind", "source": below, "options": List{"bind"}}, Object{"destination": "/deep", "type": "bind", "source": below, "options": List{"rbind"}})
	t.seen(c,
		point{"config.md: mounts", "bind takes one mount", func(r Report) string { return equal(len(r.Mounts["/flat/sub"]), 0) }},
		point{"config.md: mounts", "rbind takes the mounts below", func(r Report) string { return equal(len(r.Mounts["/deep/sub"]), 1) }})
	c = t.container()
	c.add("mounts", Object{"destination": "/idmapped", "type": "bind", "source": c.source("owned"), "options": List{"bind"},
		"uidMappings": List{Object{"containerID": 0, "hostID": 5000, "size": 10}}, "gidMappings": List{Object{"containerID": 0, "hostID": 6000, "size": 10}}})
	c.probe(Probe{Stat: []string{"/idmapped/file"}})
	t.seen(c, point{"config.md: mounts (1.1: uidMappings)", "id mappings of a bind mount are applied", func(r Report) string {
		f := r.Stat["/idmapped/file"]
		return equal([]uint32{f.UID, f.GID}, []uint32{5000, 6000})
	}})
}

// The options that the specification's table names, what mountinfo shows of them, and what it must not show.
var shown = []struct{ option, has, lacks string }{
	{"ro", "ro", "rw"}, {"rw", "rw", "ro"}, {"nosuid", "nosuid", ""}, {"nodev", "nodev", ""}, {"noexec", "noexec", ""},
	{"noatime", "noatime", "relatime"}, {"nodiratime", "nodiratime", ""}, {"relatime", "relatime", "noatime"},
	{"strictatime", "", "relatime"}, {"nosymfollow", "nosymfollow", ""}, {"suid", "", "nosuid"}, {"dev", "", "nodev"}, {"exec", "", "noexec"},
	{"defaults", "rw", "ro"}, {"async", "rw", "sync"}, {"norelatime", "", ""}, {"nostrictatime", "", ""}, {"diratime", "", "nodiratime"},
	{"atime", "", "noatime"}, {"loud", "", ""}, {"nomand", "", ""}, {"noiversion", "", ""}, {"symfollow", "", "nosymfollow"},
	{"nolazytime", "", "lazytime"}, {"lazytime", "lazytime", ""}, {"iversion", "", ""}, {"silent", "", ""}, {"sync", "sync", ""}, {"dirsync", "dirsync", ""},
}

func mountOptions(t *T) {
	const section = "config.md: mount options"
	for _, o := range shown {
		o := o
		c := t.container().add("mounts", tmpfs("/at", o.option))
		t.seen(c, point{section, "tmpfs with " + o.option, func(r Report) string {
			if len(r.Mounts["/at"]) != 1 {
				return "not mounted"
			}
			m := r.Mounts["/at"][0]
			all := "," + m.Options + "," + m.Super + ","
			if o.has != "" && !strings.Contains(all, ","+o.has+",") {
				return fmt.Sprintf("%s is missing in %s", o.has, all)
			}
			if o.lacks != "" && strings.Contains(","+m.Options+",", ","+o.lacks+",") {
				return fmt.Sprintf("%s is there: %s", o.lacks, m.Options)
			}
			return ""
		}})
	}
	for _, o := range shown[:13] {
		o := o
		c := t.container()
		c.add("mounts", bind(c.source("bound"), "/at", o.option))
		t.seen(c, point{section, "bind mount with " + o.option, func(r Report) string {
			if len(r.Mounts["/at"]) != 1 {
				return "not mounted"
			}
			options := "," + r.Mounts["/at"][0].Options + ","
			if o.has != "" && !strings.Contains(options, ","+o.has+",") {
				return fmt.Sprintf("%s is missing in %s", o.has, options)
			}
			if o.lacks != "" && strings.Contains(options, ","+o.lacks+",") {
				return fmt.Sprintf("%s is there: %s", o.lacks, options)
			}
			return ""
		}})
	}
	for _, propagation := range []string{"shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"} {
		propagation := propagation
		c := t.container()
		// A source that is shared on the host: what is a slave of it shows that.
		source := c.source("bound")
		check(mountTmpfs(source))
		check(share(source))
		t.later(func() { unmount(source) })
		c.add("mounts", bind(source, "/at", propagation))
		t.seen(c, point{section, "bind mount with " + propagation, func(r Report) string {
			if len(r.Mounts["/at"]) != 1 {
				return "not mounted"
			}
			return equal(propagationOf(r.Mounts["/at"][0]), strings.TrimPrefix(propagation, "r"))
		}})
	}
	// The recursive forms change what lies below, too.
	for _, o := range []struct{ option, has, lacks string }{
		{"rro", "ro", "rw"}, {"rnosuid", "nosuid", ""}, {"rnodev", "nodev", ""}, {"rnoexec", "noexec", ""}, {"rnoatime", "noatime", ""},
		{"rnodiratime", "nodiratime", ""}, {"rrelatime", "relatime", ""}, {"rstrictatime", "", "relatime"}, {"rnosymfollow", "nosymfollow", ""},
		{"rsuid", "", "nosuid"}, {"rdev", "", "nodev"}, {"rexec", "", "noexec"}, {"rrw", "rw", "ro"},
	} {
		o := o
		c := t.container()
		below := c.source("below")
		sub := filepath.Join(below, "sub")
		check(os.MkdirAll(sub, 0o755))
		check(mountTmpfs(sub))
		t.later(func() { unmount(sub) })
		c.add("mounts", Object{"destination": "/at", "type": "bind", "source": below, "options": List{"rbind", o.option}})
		t.seen(c, point{section, "recursive bind mount with " + o.option, func(r Report) string {
			for _, place := range []string{"/at", "/at/sub"} {
				if len(r.Mounts[place]) != 1 {
					return place + " is not mounted"
				}
				options := "," + r.Mounts[place][0].Options + ","
				if o.has != "" && !strings.Contains(options, ","+o.has+",") {
					return fmt.Sprintf("%s: %s is missing in %s", place, o.has, options)
				}
				if o.lacks != "" && strings.Contains(options, ","+o.lacks+",") {
					return fmt.Sprintf("%s: %s is there: %s", place, o.lacks, options)
				}
			}
			return ""
		}})
	}
	c := t.container()
	check(os.WriteFile(c.path("tmp", "copied"), []byte("data"), 0o640))
	t.seen(c.add("mounts", tmpfs("/tmp", "tmpcopyup")).probe(Probe{Read: []string{"/tmp/copied"}, Stat: []string{"/tmp/copied"}}),
		point{section, "tmpcopyup copies what the mount hides", func(r Report) string {
			return equal(fmt.Sprint(r.Read["/tmp/copied"], r.Stat["/tmp/copied"].Mode), fmt.Sprint("data", uint32(0o640)))
		}})
}

func propagationOf(m Mounted) string {
	switch {
	case m.Shared:
		return "shared"
	case m.Slave:
		return "slave"
	case m.Unbd:
		return "unbindable"
	default:
		// So is a slave of nothing shown.
		return "private"
	}
}

func linuxPaths(t *T) {
	c := t.container()
	for _, dir := range []string{"masked/dir", "ro/dir"} {
		check(os.MkdirAll(c.path(dir), 0o777))
		check(os.WriteFile(c.path(dir, "file"), []byte("data"), 0o666))
	}
	check(os.WriteFile(c.path("masked", "file"), []byte("data"), 0o666))
	check(os.WriteFile(c.path("ro", "file"), []byte("data"), 0o666))
	check(os.Symlink("/masked/dir/file", c.path("masked", "link")))
	c.set("linux.maskedPaths", List{"/masked/dir", "/masked/file", "/masked/missing", "/proc/timer_list"}).set("linux.readonlyPaths", List{"/ro/dir", "/ro/file", "/ro/missing", "/proc/sys"})
	c.probe(Probe{Read: []string{"/masked/dir", "/masked/file", "/masked/dir/file", "/ro/dir/file", "/ro/file", "/proc/timer_list"},
		Write: []string{"/masked/dir", "/ro/dir", "/ro/file", "/ro/dir/file", "/proc/sys/kernel/domainname", "/ro"}, Stat: []string{"/masked/missing", "/ro/missing"}})
	t.seen(c,
		point{specerror.MaskedPathsAbs, "a masked directory is empty", func(r Report) string { return equal(r.Read["/masked/dir"], "empty") }},
		point{specerror.MaskedPathsAbs, "a file below a masked directory is gone", func(r Report) string {
			return equal(r.Read["/masked/dir/file"], "open /masked/dir/file: no such file or directory")
		}},
		point{specerror.MaskedPathsAbs, "a masked file gives nothing", func(r Report) string { return equal(r.Read["/masked/file"], "empty") }},
		point{specerror.MaskedPathsAbs, "a masked file of /proc gives nothing", func(r Report) string {
			if r.Read["/proc/timer_list"] == "data" {
				return "data"
			}
			return ""
		}},
		point{specerror.MaskedPathsAbs, "a masked directory cannot be written", func(r Report) string { return unequal(r.Write["/masked/dir"], "ok") }},
		point{specerror.MaskedPathsAbs, "a masked path that does not exist is not made", func(r Report) string { return unequal(r.Stat["/masked/missing"].Error, "") }},
		point{specerror.ReadonlyPathsAbs, "a read-only directory cannot be written", func(r Report) string { return unequal(r.Write["/ro/dir"], "ok") }},
		point{specerror.ReadonlyPathsAbs, "a file below a read-only directory cannot be written", func(r Report) string { return unequal(r.Write["/ro/dir/file"], "ok") }},
		point{specerror.ReadonlyPathsAbs, "a read-only file cannot be written", func(r Report) string { return unequal(r.Write["/ro/file"], "ok") }},
		point{specerror.ReadonlyPathsAbs, "a read-only path can be read", func(r Report) string { return equal(r.Read["/ro/file"]+r.Read["/ro/dir/file"], "datadata") }},
		point{specerror.ReadonlyPathsAbs, "a read-only path of /proc cannot be written", func(r Report) string { return unequal(r.Write["/proc/sys/kernel/domainname"], "ok") }},
		point{specerror.ReadonlyPathsAbs, "a read-only path that does not exist is not made", func(r Report) string { return unequal(r.Stat["/ro/missing"].Error, "") }},
		point{specerror.ReadonlyPathsAbs, "what lies beside a read-only path can be written", func(r Report) string { return equal(r.Write["/ro"], "ok") }})
	c = t.container()
	check(os.WriteFile(c.path("out", "secret"), []byte("data"), 0o644))
	t.refused(c.set("linux.maskedPaths", List{"out/secret"}), specerror.MaskedPathsAbs, "a relative masked path is an error")
	t.refused(t.container().set("linux.readonlyPaths", List{"out"}), specerror.ReadonlyPathsAbs, "a relative read-only path is an error")
}

// What is listed lies below what is listed, and is no file or directory.
func linuxPathsDeep(t *T) {
	for _, property := range []string{"maskedPaths", "readonlyPaths"} {
		masked := property == "maskedPaths"
		code := specerror.ReadonlyPathsAbs
		if masked {
			code = specerror.MaskedPathsAbs
		}
		c := t.container()
		check(os.MkdirAll(c.path("top", "sub"), 0o777))
		files := []string{"/file", "/top/file", "/top/sub/file"}
		for _, file := range files {
			check(os.WriteFile(c.path(file), []byte("data"), 0o666))
		}
		c.set("linux."+property, List{"/top", "/file", "/top/sub", "/top/file", "/top/sub/file"})
		dirs := []string{"/top", "/top/sub"}
		t.seen(c.probe(Probe{Read: append(files, dirs...), Write: append(files, dirs...)}), point{code, property + ": paths below other paths are listed", func(r Report) string {
			for _, path := range append(files, dirs...) {
				if masked && r.Read[path] == "data" {
					return path + " can be read"
				}
				if !masked && (r.Write[path] == "ok" || r.Read[path] != "data") {
					return fmt.Sprint(path, ": read: ", r.Read[path], ", write: ", r.Write[path])
				}
			}
			return ""
		}})
		for _, kind := range []string{"a block device", "a character device", "a fifo"} {
			kind := kind
			c := t.container()
			switch kind {
			case "a block device":
				check(mknodHost(c.path("node"), "b", 7, 0))
			case "a character device":
				check(mknodHost(c.path("node"), "c", 1, 5))
			default:
				check(unix.Mkfifo(c.path("node"), 0o666))
			}
			c.set("linux."+property, List{"/node"})
			probe := Probe{Stat: []string{"/node"}}
			if masked {
				// Where it is not masked, /dev/zero gives data, and a fifo blocks the probe.
				probe.Read = []string{"/node"}
			}
			t.seen(c.probe(probe), point{code, property + ": " + kind + " is listed", func(r Report) string {
				if masked {
					return unequal(r.Read["/node"], "data")
				}
				if len(r.Mounts["/node"]) == 0 || !strings.Contains(","+r.Mounts["/node"][0].Options+",", ",ro,") {
					return fmt.Sprint(r.Mounts["/node"])
				}
				return ""
			}})
		}
		c = t.container()
		check(os.WriteFile(c.path("target"), []byte("data"), 0o666))
		check(os.Symlink("/target", c.path("link")))
		t.seen(c.set("linux."+property, List{"/link"}).probe(Probe{Read: []string{"/link"}, Write: []string{"/link"}}), point{code, property + ": a symbolic link to a file is listed", func(r Report) string {
			if masked {
				return unequal(r.Read["/link"], "data")
			}
			return unequal(r.Write["/link"], "ok")
		}})
		// A link that leads out of the root must not reach the host's file.
		c = t.container()
		outside := filepath.Join(c.bundle, "outside")
		check(os.WriteFile(outside, []byte("data"), 0o666))
		check(os.Symlink("../outside", c.path("escape")))
		c.set("linux."+property, List{"/escape"})
		_, err := c.run()
		content, _ := os.ReadFile(outside)
		t.ok(string(content) == "data", code, property+": a symbolic link out of the root leaves the host's file alone", err)
		c = t.container()
		check(os.Symlink("../loop", c.path("loop")))
		t.refused(c.set("linux."+property, List{"/loop"}), code, property+": a symbolic link to itself is an error")
	}
}

func unequal(got, not interface{}) string {
	if fmt.Sprint(got) != fmt.Sprint(not) {
		return ""
	}
	return fmt.Sprintf("it is %v", got)
}

func linuxDevices(t *T) {
	allow := List{Object{"allow": true, "access": "rwm"}}
	c := t.container().set("linux.resources.devices", allow)
	want := map[string]File{
		"/dev/conf-char":  {Type: "c", Major: 10, Minor: 229, Mode: 0o640, UID: 3, GID: 4},
		"/dev/conf-block": {Type: "b", Major: 7, Minor: 5, Mode: 0o600, UID: 0, GID: 6},
		"/dev/conf-fifo":  {Type: "p", Mode: 0o666},
		"/dev/conf-dir/x": {Type: "c", Major: 1, Minor: 3, Mode: 0o606},
		"/conf-outside":   {Type: "c", Major: 1, Minor: 5, Mode: 0o666},
		"/dev/conf-big-c": {Type: "c", Major: 10, Minor: 666, Mode: 0o660},
		"/dev/conf-big-b": {Type: "b", Major: 8, Minor: 666, Mode: 0o660},
	}
	var paths []string
	for path := range want {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	var points []point
	for _, path := range paths {
		path, f := path, want[path]
		device := Object{"path": path, "type": f.Type, "fileMode": f.Mode, "uid": f.UID, "gid": f.GID}
		if f.Type != "p" {
			device["major"], device["minor"] = f.Major, f.Minor
		}
		c.add("linux.devices", device)
		points = append(points, point{specerror.DevicesAvailable, "device " + path + " has type, numbers, mode and owner as asked", func(r Report) string { return equal(r.Stat[path], f) }})
	}
	c.add("linux.devices", Object{"path": "/dev/conf-numbered", "type": "p", "major": 8, "minor": 666, "fileMode": 0o660})
	paths = append(paths, "/dev/conf-numbered")
	points = append(points, point{specerror.DevicesAvailable, "the numbers of a fifo are without effect", func(r Report) string {
		return equal(r.Stat["/dev/conf-numbered"], File{Type: "p", Mode: 0o660})
	}})
	t.seen(c.probe(Probe{Stat: paths}), points...)
	c = t.container().set("linux.resources.devices", allow).set("linux.devices", List{Object{"path": "/dev/unbuffered", "type": "u", "major": 10, "minor": 229}})
	t.seen(c.probe(Probe{Stat: []string{"/dev/unbuffered"}}), point{specerror.DevicesAvailable, "a device of type u is a character device", func(r Report) string {
		f := r.Stat["/dev/unbuffered"]
		return equal(fmt.Sprint(f.Type, f.Major, f.Minor), fmt.Sprint("c", 10, 229))
	}})
	for _, d := range []struct {
		what   string
		device Object
		code   specerror.Code
	}{
		{"an unknown type of device is an error", Object{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}, specerror.ValidValues},
		{"a device without a type is an error", Object{"path": "/dev/x", "major": 1, "minor": 3}, specerror.ValidValues},
		{"a device without a path is an error", Object{"type": "c", "major": 1, "minor": 3}, specerror.ValidValues},
		{"a character device without numbers is an error", Object{"path": "/dev/x", "type": "c"}, specerror.DevicesMajMinRequired},
		{"a block device without numbers is an error", Object{"path": "/dev/x", "type": "b"}, specerror.DevicesMajMinRequired},
	} {
		t.refused(t.container().set("linux.resources.devices", allow).set("linux.devices", List{d.device}), d.code, d.what)
	}
	c = t.container().set("linux.resources.devices", allow)
	check(os.WriteFile(c.path("taken"), nil, 0o644))
	t.refused(c.set("linux.devices", List{Object{"path": "/taken", "type": "c", "major": 1, "minor": 3}}), specerror.DevicesFileNotMatch, "a file at the path of a device is an error")
	c = t.container().set("linux.resources.devices", allow)
	check(os.MkdirAll(c.path("taken"), 0o755))
	t.refused(c.set("linux.devices", List{Object{"path": "/taken", "type": "c", "major": 1, "minor": 3}}), specerror.DevicesFileNotMatch, "a directory at the path of a device is an error")
	c = t.container().set("linux.resources.devices", allow)
	check(mknodHost(c.path("taken"), "c", 1, 7))
	t.refused(c.set("linux.devices", List{Object{"path": "/taken", "type": "c", "major": 1, "minor": 3}}), specerror.DevicesFileNotMatch, "another device at the path of a device is an error")
	c = t.container().set("linux.resources.devices", allow)
	check(mknodHost(c.path("taken"), "c", 1, 3))
	t.taken(c.set("linux.devices", List{Object{"path": "/taken", "type": "c", "major": 1, "minor": 3}}), specerror.DevicesFileNotMatch, "the same device at the path of a device is no error")
}

func linuxPropagation(t *T) {
	for _, propagation := range []string{"shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"} {
		propagation := propagation
		t.seen(t.container().set("linux.rootfsPropagation", propagation), point{"config-linux.md: rootfsPropagation", "rootfsPropagation " + propagation, func(r Report) string {
			root := r.Mounts["/"]
			if len(root) == 0 {
				return "no root in mountinfo"
			}
			want := strings.TrimPrefix(propagation, "r")
			got := propagationOf(root[len(root)-1])
			if want == "slave" {
				// The mounts of the run are private, and a slave of those is shown as private.
				if got == "shared" || got == "unbindable" {
					return got
				}
				return ""
			}
			return equal(got, want)
		}})
	}
	for propagation, want := range map[string]string{"shared": "seen", "slave": "not seen", "private": "not seen", "unbindable": "bind of the root: invalid argument"} {
		want := want
		c := t.container().set("linux.rootfsPropagation", propagation).set("linux.seccomp", nil).probe(Probe{Calls: []string{"propagate"}})
		for _, set := range sets {
			c.add("process.capabilities."+set.property, "CAP_SYS_ADMIN")
		}
		t.seen(c, point{"config-linux.md: rootfsPropagation", "rootfsPropagation " + propagation + " does in the container what it says", func(r Report) string {
			return equal(r.Calls["propagate"], want)
		}})
	}
}

func linuxMountLabel(t *T) {
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	c := t.container().set("linux.mountLabel", label)
	if !exists("/sys/fs/selinux/enforce") {
		t.refused(c, specerror.PropApplyFailGenError, "a mountLabel that the kernel cannot apply is an error")
		return
	}
	t.seen(c, point{"config-linux.md: mountLabel", "mountLabel is the context of the mounts", func(r Report) string {
		for _, place := range []string{"/dev", "/dev/shm", "/dev/mqueue"} {
			if m := r.Mounts[place]; len(m) == 0 || !strings.Contains(m[0].Super, label) {
				return fmt.Sprint(place, m)
			}
		}
		return ""
	}})
}
