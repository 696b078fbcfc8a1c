//! Protocol buffers, as far as CRIU's RPC needs them (<https://protobuf.dev/programming-guides/encoding>): numbers, texts
//! and messages in messages.

/// A message that is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A number, a switch or a value of an enumeration.
    pub fn number(&mut self, field: u32, value: impl Into<i64>) -> &mut Writer {
        self.varint(u64::from(field) << 3);
        self.varint(value.into() as u64);
        self
    }

    /// A text.
    pub fn text(&mut self, field: u32, text: impl AsRef<[u8]>) -> &mut Writer {
        self.bytes(field, text.as_ref())
    }

    /// A message in this one.
    pub fn message(&mut self, field: u32, message: &Writer) -> &mut Writer {
        self.bytes(field, &message.0)
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) -> &mut Writer {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// The message's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The value of a field that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'m> {
    /// A number.
    Number(i64),
    /// A text or a message.
    Bytes(&'m [u8]),
}

/// The fields of a message, by number; None: the bytes are no message.
pub fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)? as i64),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            // Fixed numbers, of which CRIU's messages have none.
            1 => Value::Bytes(take(&mut bytes, 8)?),
            5 => Value::Bytes(take(&mut bytes, 4)?),
            _ => return None,
        };
        fields.push((u32::try_from(tag >> 3).ok()?, value));
    }
    Some(fields)
}

fn take<'m>(bytes: &mut &'m [u8], count: usize) -> Option<&'m [u8]> {
    let (first, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(first)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_documentation() {
        let mut inner = Writer::default();
        inner.number(1, 150);
        assert_eq!(inner.as_bytes(), [0x08, 0x96, 0x01]);
        let mut outer = Writer::default();
        outer.message(3, &inner).text(2, "testing");
        assert_eq!(outer.as_bytes(), b"\x1a\x03\x08\x96\x01\x12\x07testing");
        let mut negative = Writer::default();
        negative.number(1, -2);
        assert_eq!(negative.as_bytes(), b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.number(38, 0x4000_0000).number(2, -1).text(37, "net[1]:x");
        let fields = fields(writer.as_bytes()).unwrap();
        let wanted = [(38, Value::Number(0x4000_0000)), (2, Value::Number(-1)), (37, Value::Bytes(b"net[1]:x"))];
        assert_eq!(fields, wanted);
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        for bytes in [&b"\x08"[..], b"\x12\x07test", b"\x08\x80", b"\x0b", &[0xff; 12]] {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
    }
}
