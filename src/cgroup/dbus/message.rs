//! D-Bus messages (D-Bus specification, "Message Protocol"): written in this machine's byte order, read in either.
//!
//! Only what systemd's interface needs is here. A message that is read came from the bus, which is trusted, but no length
//! in it is: every read checks its bounds.

use crate::plan::cgroup::systemd::{Property, Value};

/// The kinds of message.
pub const CALL: u8 = 1;
/// The answer to a call.
pub const RETURN: u8 = 2;
/// The other answer to a call.
pub const ERROR: u8 = 3;
/// Sent to whom it may concern.
pub const SIGNAL: u8 = 4;

/// Longest message that is read; systemd's answers have some hundred bytes.
const LONGEST: usize = 1 << 20;

/// Bytes of the fixed part of a header.
pub const FIXED: usize = 16;

/// Writes values one after the other, each at a multiple of its own size.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// u
    pub fn u32(&mut self, value: u32) -> &mut Writer {
        self.align(4);
        self.bytes.extend(value.to_ne_bytes());
        self
    }

    /// b
    pub fn bool(&mut self, value: bool) -> &mut Writer {
        self.u32(value.into())
    }

    /// s, or o
    pub fn text(&mut self, text: &str) -> &mut Writer {
        self.u32(text.len() as u32);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        self
    }

    /// g
    fn signature(&mut self, signature: &str) -> &mut Writer {
        self.bytes.push(signature.len() as u8);
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
        self
    }

    /// a: the elements' alignment is not counted in the length, the padding between them is.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Writer)) -> &mut Writer {
        self.u32(0);
        let length = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        elements(self);
        let count = (self.bytes.len() - start) as u32;
        self.bytes[length..length + 4].copy_from_slice(&count.to_ne_bytes());
        self
    }

    /// a(sv)
    pub fn properties(&mut self, properties: &[Property]) -> &mut Writer {
        self.array(8, |writer| {
            for property in properties {
                writer.align(8);
                writer.text(&property.name).variant(&property.value);
            }
        })
    }

    /// v
    fn variant(&mut self, value: &Value) -> &mut Writer {
        match value {
            Value::Bool(value) => self.signature("b").bool(*value),
            Value::Int(value) => self.signature("i").u32(*value as u32),
            Value::Number(value) => {
                self.signature("t").align(8);
                self.bytes.extend(value.to_ne_bytes());
                self
            }
            Value::Text(text) => self.signature("s").text(text),
            Value::Texts(texts) => self.signature("as").array(4, |writer| {
                for text in texts {
                    writer.text(text);
                }
            }),
            Value::Bytes(bytes) => self.signature("ay").array(1, |writer| writer.bytes.extend(bytes)),
            Value::Numbers(numbers) => self.signature("au").array(4, |writer| {
                for number in numbers {
                    writer.u32(*number);
                }
            }),
            Value::Pairs(pairs) => self.signature("a(ss)").array(8, |writer| {
                for (first, second) in pairs {
                    writer.align(8);
                    writer.text(first).text(second);
                }
            }),
        }
    }
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'t> {
    /// The bus name.
    pub destination: &'static str,
    /// The object.
    pub path: &'t str,
    /// The interface of the method.
    pub interface: &'static str,
}

/// A method call as bytes.
pub fn call(serial: u32, target: Target<'_>, member: &str, signature: &str, body: &Writer) -> Vec<u8> {
    let fields = [
        (PATH, "o", target.path),
        (INTERFACE, "s", target.interface),
        (MEMBER, "s", member),
        (DESTINATION, "s", target.destination),
        (SIGNATURE, "g", signature),
    ];
    message(CALL, serial, &fields, &body.bytes)
}

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

fn message(kind: u8, serial: u32, fields: &[(u8, &str, &str)], body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    let order = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    writer.bytes.extend([order, kind, 0, 1]);
    writer.u32(body.len() as u32).u32(serial);
    writer.array(8, |writer| {
        for (code, kind, text) in fields.iter().filter(|(.., text)| !text.is_empty()) {
            writer.align(8);
            writer.bytes.push(*code);
            writer.signature(kind);
            if *kind == "g" {
                writer.signature(text)
            } else {
                writer.text(text)
            };
        }
    });
    writer.align(8);
    writer.bytes.extend(body);
    writer.bytes
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// [`CALL`], [`RETURN`], [`ERROR`] or [`SIGNAL`].
    pub kind: u8,
    /// Its own number.
    pub serial: u32,
    /// The call that it answers.
    pub reply_serial: u32,
    /// The object that a signal comes from, or a call goes to.
    pub path: String,
    /// The interface.
    pub interface: String,
    /// The signal's or method's name.
    pub member: String,
    /// The error's name.
    pub error: String,
    /// The types of the body.
    pub signature: String,
    body: Vec<u8>,
    big: bool,
}

impl Message {
    /// How long the message is that begins with these 16 bytes; None: it is no message.
    pub fn length(fixed: &[u8; FIXED]) -> Option<usize> {
        let mut reader = Reader { bytes: fixed, at: 4, big: order(fixed[0])? };
        let body = reader.u32()? as usize;
        reader.u32()?;
        let fields = reader.u32()? as usize;
        let length = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
        (length <= LONGEST).then_some(length)
    }

    /// Reads a whole message; None: it breaks the protocol.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let big = order(*bytes.first()?)?;
        let mut message = Message { kind: *bytes.get(1)?, big, ..Message::default() };
        let mut reader = Reader { bytes, at: 8, big };
        message.serial = reader.u32()?;
        let end = reader.u32()? as usize + reader.at;
        while reader.at < end {
            reader.align(8)?;
            let code = reader.byte()?;
            let signature = reader.signature()?.to_owned();
            match (code, signature.as_str()) {
                (PATH, "o") => message.path = reader.text()?.to_owned(),
                (INTERFACE, "s") => message.interface = reader.text()?.to_owned(),
                (MEMBER, "s") => message.member = reader.text()?.to_owned(),
                (ERROR_NAME, "s") => message.error = reader.text()?.to_owned(),
                (REPLY_SERIAL, "u") => message.reply_serial = reader.u32()?,
                (SIGNATURE, "g") => message.signature = reader.signature()?.to_owned(),
                // The specification asks to pass over fields that one does not know.
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u" | "i" | "b" | "h") => drop(reader.u32()?),
                (_, "y") => drop(reader.byte()?),
                (_, "n" | "q") => reader.skip(2, 2)?,
                (_, "x" | "t" | "d") => reader.skip(8, 8)?,
                _ => return None,
            }
        }
        if reader.at != end {
            return None;
        }
        reader.align(8)?;
        message.body = bytes.get(reader.at..)?.to_vec();
        Some(message)
    }

    /// Reads the body.
    pub fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, big: self.big }
    }
}

fn order(byte: u8) -> Option<bool> {
    match byte {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

/// Reads values one after the other; None: they are not there.
#[derive(Debug)]
pub struct Reader<'m> {
    bytes: &'m [u8],
    at: usize,
    big: bool,
}

impl<'m> Reader<'m> {
    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&'m [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn skip(&mut self, alignment: usize, count: usize) -> Option<()> {
        self.align(alignment)?;
        self.take(count).map(drop)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// u
    pub fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// s, or o
    pub fn text(&mut self) -> Option<&'m str> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    /// v, where it holds an s or o
    pub fn variant_text(&mut self) -> Option<&'m str> {
        matches!(self.signature()?, "s" | "o").then(|| self.text()).flatten()
    }

    fn signature(&mut self) -> Option<&'m str> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<&'m str> {
        let text = self.take(length)?;
        (self.byte()? == 0).then_some(std::str::from_utf8(text).ok()?)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What a bus sends: an answer, an error or a signal.
    pub fn from_bus(kind: u8, reply_serial: u32, fields: &[(u8, &str, &str)], body: &Writer) -> Vec<u8> {
        let mut bytes = message(kind, 7, fields, &body.bytes);
        if reply_serial != 0 {
            // The field of the number goes first: 8 bytes, so that all that follows keeps its place.
            let mut field = vec![REPLY_SERIAL, 1, b'u', 0];
            field.extend(reply_serial.to_ne_bytes());
            let length = u32::from_ne_bytes(bytes[12..16].try_into().unwrap()) + 8;
            bytes[12..16].copy_from_slice(&length.to_ne_bytes());
            bytes.splice(16..16, field);
        }
        bytes
    }

    /// A body of texts.
    pub fn texts(texts: &[&str]) -> Writer {
        let mut writer = Writer::default();
        for text in texts {
            writer.text(text);
        }
        writer
    }

    const MANAGER: Target =
        Target { destination: "org.freedesktop.systemd1", path: "/org/freedesktop/systemd1", interface: "a.B" };

    #[test]
    #[cfg(target_endian = "little")]
    fn the_bytes_of_a_call() {
        // By hand, after the specification's rules of alignment.
        let body = texts(&["ab"]);
        let target = Target { destination: "d.e", path: "/p", interface: "i.f" };
        let expected: &[&[u8]] = &[
            // The padding before the body is not counted: 4 fields of 16 bytes, one of 7.
            b"l\x01\x00\x01\x07\0\0\0\x02\0\0\0\x47\0\0\0",
            b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0",
            b"\x02\x01s\0\x03\0\0\0i.f\0\0\0\0\0",
            b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0",
            b"\x06\x01s\0\x03\0\0\0d.e\0\0\0\0\0",
            b"\x08\x01g\0\x01s\0\0",
            b"\x02\0\0\0ab\0",
        ];
        let bytes = call(2, target, "M", "s", &body);
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_bytes_of_properties() {
        let mut writer = Writer::default();
        writer.text("x").properties(&[
            Property::new("B", Value::Bool(true)),
            Property::new("T", Value::Number(258)),
            Property::new("P", Value::Pairs(vec![("a".into(), "b".into())])),
        ]);
        let expected: &[&[u8]] = &[
            b"\x01\0\0\0x\0\0\0",
            b"\x4e\0\0\0\0\0\0\0",
            b"\x01\0\0\0B\0\x01b\0\0\0\0\x01\0\0\0",
            b"\x01\0\0\0T\0\x01t\0\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0",
            b"\x01\0\0\0P\0\x05a(ss)\0\0\0\0\x0e\0\0\0\0\0\0\0",
            b"\x01\0\0\0a\0\0\0\x01\0\0\0b\0",
        ];
        assert_eq!(writer.bytes, expected.concat());
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = call(9, MANAGER, "StopUnit", "ss", &texts(&["a.scope", "replace"]));
        assert_eq!(Message::length(bytes[..FIXED].try_into().unwrap()), Some(bytes.len()));
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.serial, message.member.as_str()), (CALL, 9, "StopUnit"));
        assert_eq!((message.path.as_str(), message.signature.as_str()), (MANAGER.path, "ss"));
        let mut body = message.body();
        assert_eq!((body.text(), body.text(), body.text()), (Some("a.scope"), Some("replace"), None));
        let answer = from_bus(ERROR, 9, &[(ERROR_NAME, "s", "a.B.C"), (SIGNATURE, "g", "s")], &texts(&["why"]));
        let message = Message::parse(&answer).unwrap();
        assert_eq!((message.reply_serial, message.error.as_str()), (9, "a.B.C"));
        assert_eq!(message.body().text(), Some("why"));
    }

    #[test]
    fn the_other_byte_order() {
        let bytes =
            b"B\x02\x01\x01\0\0\0\x06\0\0\0\x05\0\0\0\x0f\x05\x01u\0\0\0\0\x02\x08\x01g\0\x01s\0\0\0\0\0\x01z\0";
        assert_eq!(Message::length(bytes[..FIXED].try_into().unwrap()), Some(bytes.len()));
        let message = Message::parse(bytes).unwrap();
        assert_eq!((message.serial, message.reply_serial, message.body().text()), (5, 2, Some("z")));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = call(9, MANAGER, "StopUnit", "ss", &texts(&["a.scope", "replace"]));
        for end in 0..whole.len() {
            let _ = Message::parse(&whole[..end]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Some(message) = Message::parse(&bytes) {
                    let mut body = message.body();
                    while body.text().is_some() {}
                }
                let _ = Message::length(bytes[..FIXED].try_into().unwrap());
            }
        }
    }
}
