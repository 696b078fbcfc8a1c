//! The dialogue with systemd, against a bus that the test serves on a socket. What systemd makes of it is tested in the
//! virtual machine.

use std::io::{Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use super::super::dbus::message::tests::{from_bus, texts};
use super::super::dbus::message::{ERROR, FIXED, Message, RETURN, SIGNAL, Writer};
use super::*;

/// The end of the bus.
struct Peer {
    stream: UnixStream,
    begun: bool,
}

impl Peer {
    /// The client's next call.
    fn next(&mut self) -> Message {
        if !self.begun {
            self.begun = true;
            let hello = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
            let mut line = vec![0; hello.len()];
            self.stream.read_exact(&mut line).unwrap();
            assert_eq!(line, hello);
            // In pieces, as a socket may give them.
            for part in ["DATA\r", "\nOK 0123", "456789\r\n"] {
                self.stream.write_all(part.as_bytes()).unwrap();
            }
            assert_eq!(self.next().member, "Hello");
            let owner = texts(&[":1.7"]);
            self.send(&from_bus(RETURN, 1, &[(8, "g", "s")], &owner));
        }
        let mut bytes = vec![0; FIXED];
        self.stream.read_exact(&mut bytes).unwrap();
        let length = Message::length(bytes[..].try_into().unwrap()).unwrap();
        bytes.resize(length, 0);
        self.stream.read_exact(&mut bytes[FIXED..]).unwrap();
        Message::parse(&bytes).unwrap()
    }

    /// Whether the client has ended the connection; otherwise it has said something.
    fn has_left(&self) -> bool {
        let peek = rustix::net::RecvFlags::PEEK;
        rustix::net::recv(&self.stream, &mut [0_u8; 1][..], peek).is_ok_and(|(_, length)| length == 0)
    }

    /// The next call, which must be this one; its match rules are answered.
    fn expect(&mut self, member: &str) -> Message {
        loop {
            let message = self.next();
            if message.member == "AddMatch" {
                assert!(message.body().text().unwrap().contains("member='JobRemoved'"));
                self.send(&from_bus(RETURN, message.serial, &[], &Writer::default()));
                continue;
            }
            assert_eq!(message.member, member);
            assert_eq!(message.interface, "org.freedesktop.systemd1.Manager");
            return message;
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn job(&mut self, call: &Message, job: &str) {
        self.send(&from_bus(RETURN, call.serial, &[(8, "g", "o")], &texts(&[job])));
    }

    fn nothing(&mut self, call: &Message) {
        self.send(&from_bus(RETURN, call.serial, &[], &Writer::default()));
    }

    fn error(&mut self, call: &Message, name: &str, text: &str) {
        self.send(&from_bus(ERROR, call.serial, &[(4, "s", name), (8, "g", "s")], &texts(&[text])));
    }

    fn removed(&mut self, job: &str, result: &str) {
        let mut body = Writer::default();
        body.u32(5).text(job).text("x.scope").text(result);
        let fields = [
            (1, "o", "/org/freedesktop/systemd1"),
            (2, "s", "org.freedesktop.systemd1.Manager"),
            (3, "s", "JobRemoved"),
            (8, "g", "uoss"),
        ];
        self.send(&from_bus(SIGNAL, 0, &fields, &body));
    }
}

struct FakeBus {
    path: PathBuf,
    saved: Saved,
    thread: JoinHandle<()>,
}

impl FakeBus {
    /// A bus with one client, and what it says to it.
    fn new(script: impl FnOnce(&mut Peer) + Send + 'static) -> FakeBus {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hull-bus-{}-{number},;%", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let mut peer = Peer { stream: listener.accept().unwrap().0, begun: false };
            script(&mut peer);
        });
        let address = format!("tcp:host=nowhere;unix:path={},guid=1", escape(path.as_os_str().as_bytes()));
        FakeBus { path, saved: Saved { name: "x.scope".into(), address }, thread }
    }

    fn end(self) {
        std::fs::remove_file(&self.path).unwrap();
        self.thread.join().unwrap();
    }
}

fn some() -> Vec<Property> {
    vec![Property::new("Delegate", Value::Bool(true)), Property::new("AllowedCPUs", Value::Bytes(vec![1]))]
}

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

#[test]
fn a_unit_is_started() {
    let bus = FakeBus::new(|peer| {
        let call = peer.expect("StartTransientUnit");
        assert_eq!(call.signature, "ssa(sv)a(sa(sv))");
        let mut body = call.body();
        assert_eq!((body.text(), body.text()), (Some("x.scope"), Some("replace")));
        // Another job's end, and this one's before its own answer.
        peer.removed("/job/1", "failed");
        peer.removed("/job/2", "done");
        peer.job(&call, "/job/2");
    });
    assert_eq!(start(&bus.saved, some(), false), Ok(()));
    bus.end();
}

#[test]
fn a_job_that_fails_is_an_error() {
    let bus = FakeBus::new(|peer| {
        let call = peer.expect("StartTransientUnit");
        peer.job(&call, "/job/2");
        peer.removed("/job/2", "timeout");
    });
    let error = start(&bus.saved, some(), false).unwrap_err().to_string();
    assert!(error.starts_with("start the unit x.scope: systemd's job ended with \"timeout\""), "{error}");
    bus.end();
}

#[test]
fn a_failed_unit_of_this_name_is_reset_once() {
    for again in [false, true] {
        let bus = FakeBus::new(move |peer| {
            let call = peer.expect("StartTransientUnit");
            peer.error(&call, UNIT_EXISTS, "Unit x.scope was already loaded");
            let reset = peer.expect("ResetFailedUnit");
            assert_eq!(reset.body().text(), Some("x.scope"));
            peer.nothing(&reset);
            let call = peer.expect("StartTransientUnit");
            peer.error(&call, UNIT_EXISTS, "Unit x.scope was already loaded");
            // It may be on its way out: asked again and again, for a while.
            let mut call = peer.expect("StartTransientUnit");
            if again {
                loop {
                    peer.error(&call, UNIT_EXISTS, "Unit x.scope was already loaded");
                    if peer.has_left() {
                        return;
                    }
                    call = peer.expect("StartTransientUnit");
                }
            }
            peer.job(&call, "/job/3");
            peer.removed("/job/3", "done");
        });
        let result = start(&bus.saved, some(), false);
        match (again, result) {
            (false, result) => assert_eq!(result, Ok(())),
            (true, result) => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("already loaded (org.freedesktop.systemd1.UnitExists)"), "{error}");
            }
        }
        bus.end();
    }
}

#[test]
fn a_slice_may_be_there() {
    let bus = FakeBus::new(|peer| {
        let call = peer.expect("StartTransientUnit");
        peer.error(&call, UNIT_EXISTS, "");
    });
    assert_eq!(start(&bus.saved, some(), true), Ok(()));
    bus.end();
}

#[test]
fn an_old_systemd_gets_no_young_property() {
    let bus = FakeBus::new(|peer| {
        let call = peer.expect("StartTransientUnit");
        let length = call.body().text().map(str::len);
        assert_eq!(length, Some(7));
        peer.error(
            &call,
            "org.freedesktop.DBus.Error.PropertyReadOnly",
            "Cannot set property AllowedCPUs, or unknown property.",
        );
        let call = peer.expect("StartTransientUnit");
        peer.error(
            &call,
            "org.freedesktop.DBus.Error.PropertyReadOnly",
            "Cannot set property Delegate, or unknown property.",
        );
    });
    let error = start(&bus.saved, some(), false).unwrap_err().to_string();
    assert!(error.contains("Delegate, or unknown"), "{error}");
    bus.end();
}

#[test]
fn limits_are_changed() {
    let bus = FakeBus::new(|peer| {
        let call = peer.expect("SetUnitProperties");
        assert_eq!(call.signature, "sba(sv)");
        let mut body = call.body();
        assert_eq!((body.text(), body.u32()), (Some("x.scope"), Some(1)));
        peer.nothing(&call);
    });
    let write = |file: &str, value: &str| Write {
        file: file.into(),
        value: value.into(),
        controller: "memory".into(),
        pointer: String::new(),
        tree: 0,
        not_below: None,
    };
    // What systemd has no property for does not even connect: there is one client only.
    assert_eq!(set(&bus.saved, &[write("memory.oom.group", "1")]), Ok(()));
    assert_eq!(set(&bus.saved, &[write("memory.max", "5")]), Ok(()));
    bus.end();
}

#[test]
fn a_unit_is_stopped_and_forgotten() {
    for gone in [false, true] {
        let bus = FakeBus::new(move |peer| {
            let call = peer.expect("StopUnit");
            if gone {
                peer.error(&call, "org.freedesktop.systemd1.NoSuchUnit", "Unit x.scope not loaded.");
            } else {
                peer.job(&call, "/job/9");
                peer.removed("/job/9", "done");
            }
            let call = peer.expect("ResetFailedUnit");
            peer.error(&call, "org.freedesktop.systemd1.NoSuchUnit", "Unit x.scope not loaded.");
        });
        assert_eq!(stop(&bus.saved), Ok(()));
        bus.end();
    }
}

#[test]
fn a_bus_that_says_no_or_nonsense_or_nothing() {
    for (say, expected) in [
        (&b"REJECTED EXTERNAL\r\n"[..], "does not accept this user: \"REJECTED EXTERNAL\""),
        (b"OK 1\r\nthis is no message at all", "breaks the protocol"),
        (b"DATA\r\n", "it closed the connection"),
        (&[b'x'; 5000], "breaks the protocol"),
    ] {
        let bus = FakeBus::new(move |peer| {
            let mut buffer = [0; 4096];
            // All that the client sends at once, so that closing the socket does not reset it.
            std::thread::sleep(Duration::from_millis(50));
            let _ = peer.stream.read(&mut buffer).unwrap();
            peer.stream.write_all(say).unwrap();
        });
        let error = start(&bus.saved, some(), false).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        bus.end();
    }
}

#[test]
fn every_wait_has_an_end() {
    let bus = FakeBus::new(|peer| {
        let _ = peer.stream.read_to_end(&mut Vec::new());
    });
    let begun = std::time::Instant::now();
    let mut client = Bus::connect(&bus.saved.address, Duration::from_millis(200)).unwrap();
    let error = client.call(MANAGER, "Anything", "", &Writer::default()).unwrap_err().to_string();
    assert!(error.contains("no answer within"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(client);
    bus.end();
}

#[test]
fn no_bus_at_all() {
    let saved = Saved { name: "x.scope".into(), address: "unix:path=/nowhere/bus".into() };
    let error = stop(&saved).unwrap_err().to_string();
    assert!(error.contains("unix:path=/nowhere/bus: systemd not running on this host"), "{error}");
    let saved = Saved { name: "x.scope".into(), address: "tcp:host=x".into() };
    assert!(stop(&saved).unwrap_err().to_string().contains("not an address"));
}

#[test]
fn the_place_of_a_process() {
    let table = b"5:memory,hugetlb:/a\n1:name=systemd:/s/x.scope\n0::/s/x.scope\n";
    let tree = |controllers: &[&str], v2| Tree {
        mount: "/m".into(),
        path: "s/x.scope".into(),
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        v2,
    };
    assert_eq!(own_path(table, &tree(&["hugetlb"], false)), Some(Path::new("/a")));
    assert_eq!(own_path(table, &tree(&["name=systemd"], false)), Some(Path::new("/s/x.scope")));
    assert_eq!(own_path(table, &tree(&[], true)), Some(Path::new("/s/x.scope")));
    assert_eq!(own_path(table, &tree(&["cpu"], false)), None);
}
